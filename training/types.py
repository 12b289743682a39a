"""Settings and errors of training. Imports no torch.

Every setting stands here, once, with its default and its help text (``soar-bench train
--help-settings``). The defaults of :class:`Config` are SOAR's published recipe for SD3.5-Medium
(arXiv 2604.12617).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from soar_bench.core.errors import TrainingError as TrainingError
from soar_bench.core.precision import full_name
from training.sections import (
    BelowOne,
    Defar,
    DOpsd,
    Evaluation,
    FlowGrpo,
    Nft,
    NotNegative,
    OnPolicy,
    Positive,
    Scaling,
    Section,
    Share,
    Soar,
    Validation,
)


class Diverged(TrainingError):
    """The loss is no longer a number, or above ``loss_limit``."""


class Stopped(Exception):
    """A signal asked the run to end; its state is saved at ``step``."""

    def __init__(self, step: int) -> None:
        super().__init__(step)
        self.step = step


#: Objectives, by the names that commands take.
Method = Literal["sft", "soar", "defar", "nft", "flow-grpo", "d-opsd"]
#: The section of settings that an objective alone reads.
SECTION_OF = {"defar": "defar", "nft": "nft", "flow-grpo": "flow_grpo", "d-opsd": "d_opsd"}
#: Objectives that train on images of their own making, and those that maximise rewards of them.
ON_PROMPTS = ("nft", "flow-grpo", "d-opsd")
REWARDED = ("nft", "flow-grpo")
#: Copies of the trained weights that an objective holds, and those that a resume state has.
COPIES = {"nft": (2, 1), "flow-grpo": (1, 0), "d-opsd": (1, 1)}


class NoiseLevels(Section):
    """Noise levels: shift(sigmoid(mean + std * normal)), with the scheduler's own shift."""

    logit_mean: float = 0.0
    """Mean of the normal distribution."""
    logit_std: Positive = 1.0
    """Standard deviation of the normal distribution."""


#: The attention's projections of an SD3 block, the usual places of its adapters.
ATTENTION = (
    *("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0"),
    *("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out"),
)


class Lora(Section):
    """Low-rank adapters in place of the whole transformer: W + (alpha / rank) B A, with B = 0 at
    first.
    """

    rank: int = Field(default=0, ge=0)
    """Rank of the adapters. 0 trains the whole transformer, as the published recipe does."""
    alpha: NotNegative = 0.0
    """Scale of the adapters. 0: the rank, so that the product is added as it is."""
    targets: tuple[str, ...] = Field(default=ATTENTION, min_length=1)
    """Linear layers that get an adapter, by the ends of their names."""
    dropout: BelowOne = 0.0
    """Dropout of an adapter's input, in training alone."""

    @field_validator("alpha", "targets", "dropout")
    @classmethod
    def _has_an_effect(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse a setting that would change nothing."""
        if value != cls.model_fields[str(info.field_name)].default and not info.data.get("rank"):
            raise ValueError("only adapters use it: set lora.rank to 1 or more")
        return value

    @property
    def scale(self) -> float:
        """Factor of B A."""
        return (self.alpha or self.rank) / self.rank


class Optimizer(Section):
    """AdamW and its learning rate."""

    kind: Literal["adamw", "adamw8bit"] = "adamw"
    """AdamW, or AdamW with both moments in 8 bits (torchao, an extra): 2 bytes per parameter, not
    8."""
    lr: Positive = 2e-5
    """Learning rate."""
    beta1: BelowOne = 0.9
    """Decay of the mean of gradients."""
    beta2: BelowOne = 0.999
    """Decay of the mean of squared gradients."""
    epsilon: Positive = 1e-8
    """Added to the root of the mean of squared gradients."""
    weight_decay: NotNegative = 1e-2
    """Decoupled weight decay."""
    clip_norm: Positive = 1.0
    """Norm that the gradient of all parameters is clipped to."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Learning rate after the warm-up: constant, or a cosine to 0 at the last step."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps in which the learning rate rises linearly from 0."""


class Images(Section):
    """Captioned images: where they are, how they are checked, cut and flipped. See docs/data.md."""

    folder: str = ""
    """Folder of the images that a .jsonl or .csv file names. Empty: the folder of that file."""
    image: str = ""
    """Column, key or tar member of the image. Empty: the format's own name."""
    caption: str = ""
    """Column, key or tar member of the caption. Empty: the format's own name."""
    split: str = "train"
    """Split of a saved dataset that has several."""
    on_broken: Literal["error", "drop"] = "error"
    """Broken or missing images are an error, or are dropped and counted."""
    buckets: bool = False
    """Train on several aspect ratios, each about resolution^2 in area, not on squares."""
    bucket_step: int = Field(default=64, ge=8)
    """Sides of buckets are multiples of this, in pixels."""
    record_sizes: bool = False
    """Cut an image to the `bw` x `bh` of its record, as the release does, where it has them, and
    others to squares."""
    crop: Literal["centre", "random"] = "centre"
    """Which part stays of an image that is cut to size."""
    flip: bool = False
    """Mirror every other crop of an image. Never for captions that say left or right."""
    crops: int = Field(default=1, ge=1)
    """Variants (crop and flip) of an image that are encoded. Each epoch sees another one."""

    @model_validator(mode="after")
    def _variants_differ(self) -> Self:
        if self.record_sizes and self.buckets:
            raise ValueError("a record's size or a bucket's: set record_sizes or buckets, not both")
        most = 2 if self.flip else 1
        if self.flip and self.crops % 2:
            raise ValueError("flip mirrors every other crop: set images.crops to an even number")
        if self.crop == "centre" and self.crops > most:
            raise ValueError("more crops than these are all alike: set images.crop to random")
        return self


DEFAULT_IMAGES = Images()


class Encoding(Section):
    """Precision in which images and captions are encoded, once, before the first step."""

    images: Literal["fp32", "bf16"] = "fp32"
    """Precision of the autoencoder; bf16 takes half of its memory and rounds latents."""
    captions: Literal["fp32", "bf16"] = "fp32"
    """Precision of the text encoders; the release's is bf16, half of their memory."""


DEFAULT_ENCODING = Encoding()


Tracker = Literal["tensorboard", "wandb"]


def with_seed(name: str, seed: object) -> str:
    """Return a name in which ``{seed}`` stands for the seed."""
    return name.replace("{seed}", str(seed))


class Config(Section):
    """Settings of one training run. The defaults are SOAR's published recipe for SD3.5-Medium."""

    method: Method = "soar"
    """Objective. `sft` is `soar` with lambda = 0."""
    name: str = ""
    """Name of the run in tables; runs that differ by seed alone share one. Empty: the method's."""
    base: str
    """Pipeline to start from: a folder, a hub id that was fetched, or `shapes` for the embedded
    one. Or a checkpoint of `soar-bench train`, or the folder of a run, which stands for its last
    one. {seed} stands for the seed: each seed then goes on from that seed of another training."""
    data: str
    """Captioned images: a folder, .jsonl, .csv, .tar or shapes-clean[:COUNT]. See docs/data.md."""
    images: Images = Images()
    encoding: Encoding = Encoding()
    cache: Path | None = Path("outputs/cache/encodings")
    """Folder of latents and embeddings, which every run of the same data shares. null: each run
    makes them again and keeps them in memory."""
    output: Path
    """Folder of the run: checkpoints, metrics, and the state to resume from."""
    seed: int = Field(default=42, ge=0)
    """Seed of everything random in the run."""
    steps: int = Field(default=5_000, ge=1)
    """Optimizer steps."""
    batch_size: int = Field(default=4, ge=1)
    """Samples per micro-batch and process."""
    accumulate: int = Field(default=1, ge=1)
    """Micro-batches per optimizer step, whose gradient is that of one batch of all of them."""
    resolution: int = Field(default=512, ge=8)
    """Side of the square training images in pixels; others are resized and cropped to it."""
    max_sequence_length: int = Field(default=77, ge=1)
    """Tokens of a prompt that the T5 encoder sees: 77 as the release trains; it evaluates with
    256."""
    caption_dropout: Share = 0.0
    """Share of samples trained without their caption, so that guidance keeps its second half."""
    precision: Literal["fp32", "bf16"] = "bf16"
    """Precision of passes through the model; trained weights are float32 in either."""
    working_copy: bool = False
    """With precision bf16: passes read a bfloat16 copy of the weights that is made once a step,
    where autocast casts them in every pass and leaves normalisation in float32. A quarter less
    activations; trained weights and their gradients stay float32. For sft, soar and defar; not
    with DeepSpeed."""
    compile: bool = False
    """Compile the transformer's blocks: minutes at the start, then faster steps. Needs a C++
    compiler. With deterministic, every size of image and of pass is compiled by itself. Not for
    flow-grpo."""
    deterministic: bool = False
    """Use deterministic algorithms alone, so that a GPU gives the same bits again; slower. On a CPU
    they are the same in either case."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass: less memory, about a third more time."""
    ema_decay: BelowOne = 0.0
    """Decay of the moving average of the weights, which is then what a checkpoint holds. 0, the
    published recipe, keeps no average."""
    save_every: int = Field(default=1_000, ge=1)
    """Steps between checkpoints. The last step always writes one."""
    keep_last: int = Field(default=0, ge=0)
    """Number of the latest checkpoints that stay. 0: all."""
    keep_best: str = ""
    """Metric of the evaluation whose best checkpoint stays as well. Empty: none."""
    log_every: int = Field(default=10, ge=1)
    """Steps between lines of metrics.jsonl."""
    trackers: tuple[Tracker, ...] = ("tensorboard",)
    """Where figures and images go besides metrics.jsonl: tensorboard, wandb (an extra)."""
    loss_limit: Positive = 100.0
    """Stop as diverged where the base loss is above this; predicting zero scores about 2."""
    rewards: dict[str, float] = Field(default={})
    """Rewards of nft and flow-grpo with their weights, as `pickscore: 1.0`: an evaluator's name, or
    EVALUATOR/METRIC where it has several metrics. A metric of which less is better counts
    negatively."""
    reward_scaling: dict[str, Scaling] = Field(default={})
    """How a reward enters the sum: `raw` (the default), `standard` (its mean and deviation in the
    rollout taken out), `pickscore/26` (as published beside rewards in [0, 1])."""
    soar: Soar = Soar()
    defar: Defar = Defar()
    nft: Nft = Nft()
    flow_grpo: FlowGrpo = FlowGrpo()
    d_opsd: DOpsd = DOpsd()
    noise: NoiseLevels = NoiseLevels()
    optimizer: Optimizer = Optimizer()
    lora: Lora = Lora()
    validation: Validation = Validation()
    evaluation: Evaluation = Evaluation()

    @field_validator("trackers", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        """Take names separated by commas too."""
        names = value.split(",") if isinstance(value, str) else value
        return [name.strip() for name in names] if names is not value else value

    @field_validator("precision", mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        """Take torch's names too."""
        names = {full_name(name): name for name in ("fp32", "bf16")}
        return names.get(value, value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _objective_reads_it(self) -> Self:
        """Refuse settings of another objective than the run's."""
        for method, section in SECTION_OF.items():
            default = type(self).model_fields[section].default
            if method != self.method and getattr(self, section) != default:
                raise ValueError(
                    f"the section {section} is read by {method} alone, not by {self.method}: leave "
                    "it out, or train that"
                )
        if self.noise != NoiseLevels() and (
            self.method in ON_PROMPTS or (self.method == "defar" and self.defar.uniform_levels)
        ):
            hint = " with defar.uniform_levels: true" if self.method == "defar" else ""
            raise ValueError(f"{self.method}{hint} does not read the section noise: leave it out")
        if self.method in ON_PROMPTS and self.caption_dropout:
            raise ValueError(f"{self.method} drops no captions: leave caption_dropout out")
        if self.method in ON_PROMPTS and self.images != DEFAULT_IMAGES:
            raise ValueError(f"{self.method} reads prompts and no images: leave images out")
        return self

    @model_validator(mode="after")
    def _rewards_fit(self) -> Self:
        if self.method not in REWARDED:
            if self.rewards or self.reward_scaling:
                raise ValueError(f"{self.method} maximises no rewards: leave them out")
            return self
        if not self.rewards:
            raise ValueError(f"{self.method} needs rewards, such as `rewards: {{pickscore: 1.0}}`")
        for name, weight in self.rewards.items():
            if not weight:
                raise ValueError(f"rewards.{name} has weight 0: leave it out")
        for name in self.reward_scaling:
            if name not in self.rewards:
                raise ValueError(f"reward_scaling.{name}: no reward has that name")
        if self.method == "nft" and not self.nft.lags_within(self.steps):
            raise ValueError(
                "with nft.updates 1 and this decay the old policy is the current one at each of "
                f"{self.steps} steps, so positive and negative velocities never differ: set "
                "nft.decay_rate, nft.decay_max and a smaller nft.decay_flat, or more updates"
            )
        self.rollouts.check_groups(SECTION_OF[self.method], self.batch_size * self.accumulate)
        if self.lora.dropout:
            raise ValueError(
                f"{self.method} repeats passes of its rollout, which dropout makes others: set "
                "lora.dropout to 0"
            )
        if self.compile and self.method == "flow-grpo":
            raise ValueError(
                "flow-grpo repeats passes of its rollout with gradients, which compiled code "
                "rounds in another way, so that ratios would not begin at 1: set compile to false"
            )
        return self

    @property
    def start(self) -> str:
        """Name of the pipeline or checkpoint to start from."""
        return with_seed(self.base, self.seed)

    @property
    def rollouts(self) -> OnPolicy:
        """The settings of rollouts of ``nft`` or ``flow-grpo``."""
        return self.nft if self.method == "nft" else self.flow_grpo

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.working_copy and self.precision != "bf16":
            raise ValueError("working_copy is a bfloat16 copy: set precision to bf16")
        if self.working_copy and self.method not in ("sft", "soar", "defar"):
            raise ValueError(
                f"working_copy is made once a step, in which {self.method} has passes of other "
                "weights: set it to false"
            )
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
