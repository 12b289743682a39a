"""The settings of every stage of pretraining, read from ``configs/shapes_pretrain.yaml``."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from benchmarks.pretrain.fit import FitConfig


class Architecture(BaseModel):
    """The transformer's size. SD3's own: width 1536, 24 layers, heads of 64."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    layers: int = 6
    heads: int = 4
    head_width: int = 32
    #: the scheduler's shift
    shift: float = 3.0
    seed: int = 0


class Lesson(BaseModel):
    """One stage of the curriculum: its pictures, and what of the training differs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    #: share of each form of caption; ``coloured_position`` is one beside the world's own
    shares: dict[str, float]
    pictures: int
    #: of the pictures
    seed: int = 0
    wrong_caption: float = 0.0
    overlap: float = 0.0
    jitter: float = 0.0
    extra: float = 0.0
    #: settings of ``soar-bench train sft`` in place of those of ``transformer``
    train: dict[str, Any]


class PretrainConfig(BaseModel):
    """One section a stage."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    vae: FitConfig
    text: FitConfig
    architecture: Architecture
    #: settings of ``soar-bench train sft``; base and output are set by the command
    transformer: dict[str, Any]
    lessons: tuple[Lesson, ...]
    scorer: FitConfig
