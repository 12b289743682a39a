"""Pictures of one stage of the curriculum: the world's forms in shares of the stage's own.

Besides the forms of the world there is one that says two things of each object
(:func:`benchmarks.pretrain.text.coloured_position`). No caption names what is held out.
"""

from __future__ import annotations

import hashlib
import random
from functools import lru_cache

import numpy as np

from benchmarks.pretrain import text
from benchmarks.pretrain.recipe import Lesson
from evaluators.shapes.geometry import IMAGE_SIZE, RADII
from soar_bench.shapes import captions
from soar_bench.shapes.render import Scene, render
from soar_bench.shapes.world import Distribution, scene_of


@lru_cache(maxsize=64)
def _allowed(tag: str, lead_in: str) -> tuple[captions.Metadata, ...]:
    return tuple(m for m in captions.every_caption(tag, lead_in) if not captions.is_held_out(m))


class Lessons:
    """Examples 0 to ``count`` of a distribution, rendered on demand: a ``training.data.Source``."""

    def __init__(self, distribution: Distribution, count: int, seed: int) -> None:
        self.distribution, self.count, self.seed = distribution, count, seed
        digest = hashlib.sha256(f"{distribution!r} {seed} {count}".encode())
        for index in range(min(count, 16)):
            image, caption = self[index]
            digest.update(image.tobytes() + caption.encode())
        self.digest = digest.hexdigest()

    def _example(self, index: int) -> tuple[str, Scene]:
        world = self.distribution
        rng = random.Random(f"{world.name}/{self.seed}/{index}")
        lead_in = rng.choice(captions.LEAD_INS)
        tag = rng.choices(list(world.tags), weights=list(world.tags.values()))[0]
        if tag == text.COLOURED_POSITION:
            truth = text.coloured_position(rng, lead_in)
            while text.names_held_out(truth):
                truth = text.coloured_position(rng, lead_in)
        else:
            truth = rng.choice(_allowed(tag, lead_in))
        scene = scene_of(truth, rng, world)
        caption = truth
        if tag != text.COLOURED_POSITION and rng.random() < world.wrong_caption:
            while caption is truth or captions.is_held_out(caption):
                caption = captions.altered(truth, rng)
        return caption["prompt"], scene

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[np.ndarray, str]:
        caption, scene = self._example(index)
        return render(scene), caption

    def key(self, index: int) -> str:
        return f"{self.digest} {index}"

    def caption(self, index: int) -> str:
        return self._example(index)[0]

    def size(self, index: int) -> tuple[int, int]:
        return IMAGE_SIZE, IMAGE_SIZE


def pictures_of(lesson: Lesson) -> Lessons:
    """Return the pictures of one lesson of the recipe."""
    noise = lesson.model_dump(include={"wrong_caption", "overlap", "jitter", "extra"})
    distribution = Distribution(lesson.name, lesson.shares, RADII, **noise)
    return Lessons(distribution, lesson.pictures, lesson.seed)
