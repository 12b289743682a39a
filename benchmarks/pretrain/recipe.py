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


class PretrainConfig(BaseModel):
    """One section a stage."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    vae: FitConfig
    text: FitConfig
    architecture: Architecture
    #: settings of ``soar-bench train sft``; base and output are set by the command
    transformer: dict[str, Any]
    scorer: FitConfig
