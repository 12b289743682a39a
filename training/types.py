"""The trainer's small vocabulary: its error and its configuration. Imports no torch.

Every option of a training run stands here, once, with its default. The defaults of
:class:`Config` are SOAR's published recipe for SD3.5-Medium (arXiv 2604.12617).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from soar_bench.core.errors import TrainingError as TrainingError


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


#: one-step updates of stochastic rollout paths
Update = Literal["flow_sde", "cps", "sde", "simple"]


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
    #: M, rollout paths per sample: one of the ODE and M - 1 stochastic ones
    paths: int = Field(default=1, ge=1)
    #: the one-step update of the stochastic paths
    update: Update = "flow_sde"
    #: eta, the noise scale of the stochastic paths
    noise_scale: NotNegative = 0.5
    #: auxiliary points in one forward and backward pass; 0: all of a micro-batch. Peak memory is
    #: that of the larger of such a chunk and the base pass; gradients are the same to rounding
    aux_chunk: int = Field(default=0, ge=0)
    #: smallest noise level at which a point is supervised; its target divides by that level. 0 is
    #: the published rule
    sigma_floor: BelowOne = 0.0

    @field_validator("update", "noise_scale")
    @classmethod
    def _has_an_effect(cls, value: Any, info: ValidationInfo) -> Any:
        """No setting is accepted that would change nothing."""
        if value == cls.model_fields[str(info.field_name)].default:
            return value
        if info.data.get("paths") == 1:
            raise ValueError("only stochastic paths use it: set soar.paths to 2 or more")
        update = info.data.get("update")
        if info.field_name == "noise_scale" and update == "sde":
            raise ValueError("the update sde has no noise scale: all its noise is new")
        if info.field_name == "noise_scale" and update == "cps" and value > 1:
            raise ValueError("it is a share of a right angle for the update cps: at most 1")
        return value


class NoiseLevels(_Section):
    """sigma_0 = shift(sigmoid(mean + std * normal)), with the scheduler's own shift."""

    logit_mean: float = 0.0
    logit_std: Positive = 1.0


#: the attention's projections of an SD3 block, the usual places of its adapters
ATTENTION = (
    "attn.to_q",
    "attn.to_k",
    "attn.to_v",
    "attn.to_out.0",
    "attn.add_q_proj",
    "attn.add_k_proj",
    "attn.add_v_proj",
    "attn.to_add_out",
)


class Lora(_Section):
    """Low-rank adapters in place of the whole transformer: W + (alpha / rank) B A, with B = 0 at
    first.
    """

    #: 0 trains the whole transformer, as the published recipe does
    rank: int = Field(default=0, ge=0)
    #: 0: the rank, so that the product is added as it is
    alpha: NotNegative = 0.0
    #: the linear layers that get one, by the ends of their names
    targets: tuple[str, ...] = Field(default=ATTENTION, min_length=1)
    #: of what goes into A, in training alone
    dropout: BelowOne = 0.0

    @field_validator("alpha", "targets", "dropout")
    @classmethod
    def _has_an_effect(cls, value: Any, info: ValidationInfo) -> Any:
        """No setting is accepted that would change nothing."""
        if value != cls.model_fields[str(info.field_name)].default and not info.data.get("rank"):
            raise ValueError("only adapters use it: set lora.rank to 1 or more")
        return value

    @property
    def scale(self) -> float:
        """By which B A is multiplied."""
        return (self.alpha or self.rank) / self.rank


class Optimizer(_Section):
    """AdamW."""

    #: ``adamw8bit`` keeps its two moments in 8 bits (torchao, an extra): 2 bytes a parameter for 8
    kind: Literal["adamw", "adamw8bit"] = "adamw"
    lr: Positive = 2e-5
    beta1: BelowOne = 0.9
    beta2: BelowOne = 0.999
    epsilon: Positive = 1e-8
    weight_decay: NotNegative = 1e-2
    clip_norm: Positive = 1.0
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: int = Field(default=0, ge=0)


class Images(_Section):
    """How captioned images are found, checked, cut and flipped. See docs/data.md."""

    #: where the images are that a .jsonl or .csv file names; empty: the folder the file is in
    folder: str = ""
    #: column, key or tar member of the image; empty: the form's own name for it
    image: str = ""
    #: the same of the caption
    caption: str = ""
    #: which split of a saved dataset that has several
    split: str = "train"
    #: what a broken or missing image is: an error, or a record less, which is counted
    on_broken: Literal["error", "drop"] = "error"
    #: train on several aspect ratios, each about resolution^2 in area, instead of squares
    buckets: bool = False
    #: sides of buckets are multiples of this, in pixels
    bucket_step: int = Field(default=64, ge=8)
    #: which part stays of an image that is cut to size
    crop: Literal["centre", "random"] = "centre"
    #: every other crop of an image is mirrored; never for captions that say left or right
    flip: bool = False
    #: variants (crop and flip) of an image that are encoded; each epoch sees another one
    crops: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _variants_differ(self) -> Self:
        most = 2 if self.flip else 1
        if self.flip and self.crops % 2:
            raise ValueError("flip mirrors every other crop: set images.crops to an even number")
        if self.crop == "centre" and self.crops > most:
            raise ValueError("more crops than these are all alike: set images.crop to random")
        return self


DEFAULT_IMAGES = Images()


class Validation(_Section):
    """Images of the same prompts from the same noise while training goes on."""

    #: steps between them, a multiple of save_every; 0: none
    every: int = Field(default=0, ge=0)
    prompts: tuple[str, ...] = ()
    #: named settings of generation, as of ``eval --protocol``; empty: ``shapes`` for the embedded
    #: base, otherwise ``soar-paper`` at the resolution and tokens that are trained
    protocol: str = ""

    @model_validator(mode="after")
    def _has_an_effect(self) -> Self:
        if bool(self.every) != bool(self.prompts):
            raise ValueError("validation images need both validation.every and validation.prompts")
        return self


class Evaluation(_Section):
    """Metrics while training goes on, by the code of ``eval``."""

    #: steps between evaluations, a multiple of save_every; 0: none
    every: int = Field(default=0, ge=0)
    #: as ``eval --suite``: a suite's name or a file of prompts
    suite: str = ""
    #: as ``eval --protocol``; empty: the suite's own
    protocol: str = ""
    #: images a prompt; 0: the suite's own number
    images: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _has_an_effect(self) -> Self:
        if bool(self.every) != bool(self.suite):
            raise ValueError("evaluation needs both evaluation.every and evaluation.suite")
        return self


Tracker = Literal["tensorboard", "wandb"]


class Config(_Section):
    """One training run."""

    #: ``sft`` or ``soar``; ``sft`` is ``soar`` with lambda = 0
    method: Literal["sft", "soar"] = "soar"
    #: what tables call it; runs that differ by seed alone share one. Empty: the method's name
    name: str = ""
    #: the pipeline to start from: a folder, or ``shapes`` for the embedded one
    base: str
    #: a folder of captioned images, a ``.jsonl`` or ``.tar``, or ``shapes-clean[:COUNT]`` and the
    #: like: see docs/data.md
    data: str
    images: Images = Images()
    #: folder of latents and embeddings, which every run of the same data shares; none: they are
    #: made again by every run, and kept in memory
    cache: Path | None = Path("outputs/cache/encodings")
    #: where checkpoints, metrics and the state to resume from are written
    output: Path
    seed: int = Field(default=42, ge=0)
    steps: int = Field(default=5_000, ge=1)
    #: samples a micro-batch and process
    batch_size: int = Field(default=4, ge=1)
    #: micro-batches of one optimizer step, whose gradient is that of one batch of all of them
    accumulate: int = Field(default=1, ge=1)
    #: side of the square training images, in pixels; others are resized and cropped to it
    resolution: int = Field(default=512, ge=8)
    #: tokens of a prompt that the T5 encoder sees
    max_sequence_length: int = Field(default=256, ge=1)
    #: share of samples trained without their caption, so that guidance keeps its second half
    caption_dropout: Share = 0.0
    precision: Literal["fp32", "bf16"] = "bf16"
    #: compile the transformer's blocks: minutes at the start, then faster steps; needs a compiler
    compile: bool = False
    #: recompute activations in the backward pass: less memory, about a third more time
    gradient_checkpointing: bool = False
    #: decay of the moving average of the weights, which is then what a checkpoint holds; 0, the
    #: published recipe, keeps no average
    ema_decay: BelowOne = 0.0
    #: steps between checkpoints; the last step always writes one
    save_every: int = Field(default=1_000, ge=1)
    #: how many of the latest checkpoints stay; 0: all
    keep_last: int = Field(default=0, ge=0)
    #: a metric of the evaluation, whose best checkpoint stays as well; empty: none
    keep_best: str = ""
    log_every: int = Field(default=10, ge=1)
    #: where figures and images go besides metrics.jsonl; wandb is an extra
    trackers: tuple[Tracker, ...] = ("tensorboard",)
    #: the run stops as diverged where the base loss is above this; to answer 0 costs about 2
    loss_limit: Positive = 100.0
    soar: Soar = Soar()
    noise: NoiseLevels = NoiseLevels()
    optimizer: Optimizer = Optimizer()
    lora: Lora = Lora()
    validation: Validation = Validation()
    evaluation: Evaluation = Evaluation()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for section in ("validation", "evaluation"):
            every = getattr(self, section).every
            if every % self.save_every:
                raise ValueError(
                    f"{section}.every is {every}, but what is looked at are checkpoints: make it a "
                    f"multiple of save_every ({self.save_every})"
                )
        if self.keep_best and not self.evaluation.every:
            raise ValueError("keep_best needs an evaluation: set evaluation.every and .suite")
        if self.keep_best and not self.keep_last:
            raise ValueError("without keep_last all checkpoints stay: set it to use keep_best")
        return self
