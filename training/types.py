"""The trainer's small vocabulary: its error and its configuration. Imports no torch.

Every option of a training run stands here, once, with its default. The defaults of
:class:`Config` are SOAR's published recipe for SD3.5-Medium (arXiv 2604.12617).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class TrainingError(Exception):
    """Something a user can mend, in one sentence that says what is wrong and what to do."""


class Diverged(TrainingError):
    """The loss is no longer a number."""


class Stopped(Exception):
    """A signal asked the run to end; its state is saved at ``step``."""

    def __init__(self, step: int) -> None:
        super().__init__(step)
        self.step = step


Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Soar(_Section):
    """The auxiliary part of the objective. Symbols are those of docs/method.md."""

    #: lambda, the weight of auxiliary points; 0 is SFT
    weight: NotNegative = 1.0
    #: K, re-noised points per sample
    points: int = Field(default=6, ge=1)
    #: N, the number of sampler steps of which the rollout takes one
    rollout_steps: int = Field(default=40, ge=1)
    #: w, the guidance scale of the rollout step
    guidance: NotNegative = 4.5
    #: smallest noise level at which a point is supervised; its target divides by that level. 0 is
    #: the published rule
    sigma_floor: BelowOne = 0.0


class NoiseLevels(_Section):
    """sigma_0 = shift(sigmoid(mean + std * normal)), with the scheduler's own shift."""

    logit_mean: float = 0.0
    logit_std: Positive = 1.0


class Optimizer(_Section):
    """AdamW."""

    lr: Positive = 2e-5
    beta1: BelowOne = 0.9
    beta2: BelowOne = 0.999
    epsilon: Positive = 1e-8
    weight_decay: NotNegative = 1e-2
    clip_norm: Positive = 1.0
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: int = Field(default=0, ge=0)


class Config(_Section):
    """One training run."""

    #: ``sft`` or ``soar``; ``sft`` is ``soar`` with lambda = 0
    method: Literal["sft", "soar"] = "soar"
    #: what tables call it; runs that differ by seed alone share one. Empty: the method's name
    name: str = ""
    #: the pipeline to start from: a folder, or ``shapes`` for the embedded one
    base: str
    #: an image folder with ``metadata.jsonl``, or ``shapes-clean[:COUNT]`` and the like
    data: str
    #: where checkpoints, metrics and the state to resume from are written
    output: Path
    seed: int = Field(default=42, ge=0)
    steps: int = Field(default=5_000, ge=1)
    #: samples a step and process
    batch_size: int = Field(default=4, ge=1)
    #: side of the square training images, in pixels; others are resized and cropped to it
    resolution: int = Field(default=512, ge=8)
    #: tokens of a prompt that the T5 encoder sees
    max_sequence_length: int = Field(default=256, ge=1)
    #: share of samples trained without their caption, so that guidance keeps its second half
    caption_dropout: Share = 0.0
    precision: Literal["fp32", "bf16"] = "bf16"
    #: compile the transformer: minutes at the start, then faster steps; needs a C++ compiler
    compile: bool = False
    #: decay of the moving average of the weights, which is then what a checkpoint holds; 0, the
    #: published recipe, keeps no average
    ema_decay: BelowOne = 0.0
    #: steps between checkpoints; the last step always writes one
    save_every: int = Field(default=1_000, ge=1)
    log_every: int = Field(default=10, ge=1)
    soar: Soar = Soar()
    noise: NoiseLevels = NoiseLevels()
    optimizer: Optimizer = Optimizer()
