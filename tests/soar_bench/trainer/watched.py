"""Watchers of a training's checkpoints, and what they are asked for."""

from __future__ import annotations

from soar_bench.trainer.watch import callbacks_of

PROTOCOL = "shapes+steps=2"
PROMPTS = ["a photo of a red circle", "a photo of two green stars"]


def by_name(config, cache, **more):
    return {watcher.name: watcher for watcher in callbacks_of(config, cache, **more)}
