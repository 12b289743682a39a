"""Sections of settings of the objectives and of looks at checkpoints, and what every section is
built from.

A default is the published value where there is one; the docstring says where it comes from.
Imports no torch.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
#: Ways in which a reward enters a sum of several; see training/advantages.py.
Scaling = Literal["raw", "standard", "pickscore/26"]


class Section(BaseModel):
    """A group of settings; the docstring under each field is its help text."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


#: One-step updates of stochastic rollout paths.
Update = Literal["flow_sde", "cps", "sde", "simple"]


class Soar(Section):
    """The auxiliary part of the objective. Symbols are those of docs/method.md."""

    weight: NotNegative = 1.0
    """Weight of auxiliary points (lambda). 0 is SFT."""
    points: int = Field(default=6, ge=1)
    """Re-noised points per sample and path (K)."""
    rollout_steps: int = Field(default=40, ge=1)
    """Steps of the sampler of which the rollout takes one (N)."""
    guidance: NotNegative = 4.5
    """Guidance scale of the rollout step (w)."""
    paths: int = Field(default=1, ge=1)
    """Rollout paths per sample (M): one of the ODE and M - 1 stochastic ones."""
    update: Update = "flow_sde"
    """One-step update of the stochastic paths."""
    noise_scale: NotNegative = 0.5
    """Noise scale of the stochastic paths (eta)."""
    aux_chunk: Literal["auto"] | Annotated[int, Field(ge=0)] = "auto"
    """Auxiliary points per forward and backward pass. 0: all of a micro-batch. auto: the most that
    the GPU's memory holds; on a CPU all. Peak memory is that of the larger of such a chunk and the
    base pass; gradients are the same to rounding."""
    sigma_floor: BelowOne = 0.0
    """Smallest noise level at which a point is supervised; its target divides by that level. 0 is
    the published rule."""
    upper_ratio: Annotated[float, Field(ge=1)] | None = None
    """Highest level of a point, as a multiple of its sample's own level and at most 1. null: always
    1, as in the paper and the release, which accepts such a ratio and ignores it."""
    shared_noise: bool = True
    """Re-noise toward the sample's own noise, as published. false: toward new noise on each path,
    the paper's ablation."""

    @property
    def chunk(self) -> int:
        """Auxiliary points per pass; 0, as long as ``auto`` is not chosen: all."""
        return 0 if self.aux_chunk == "auto" else self.aux_chunk

    @field_validator("update", "noise_scale")
    @classmethod
    def _has_an_effect(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse a setting that would change nothing."""
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


class Defar(Section):
    """DEFAR (arXiv 2606.28226), and ReflexFlow, its withdrawn form (arXiv 2512.04904)."""

    form: Literal["defar", "reflexflow"] = "defar"
    """`defar`: one step whose gradient is kept. `reflexflow`: several steps without gradient."""
    direction_weight: NotNegative = 1.0
    """Weight of the direction term (beta). 1 was not read in the paper; ReflexFlow's is 10."""
    compensation: NotNegative = 1.0
    """How strongly the bias weights flow matching (alpha). 0: not at all."""
    uniform_levels: bool = True
    """Draw noise levels uniformly, as published. false: as the section `noise` says."""
    rollout_steps: int = Field(default=40, ge=1)
    """Steps of the sampler of which ReflexFlow's rollout takes some."""
    max_offset: int = Field(default=10, ge=1)
    """Largest number of steps of ReflexFlow's rollout, drawn from 1 to this for each step."""

    @field_validator("rollout_steps", "max_offset")
    @classmethod
    def _has_an_effect(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse a setting that would change nothing."""
        default = cls.model_fields[str(info.field_name)].default
        if value != default and info.data.get("form") == "defar":
            raise ValueError("only ReflexFlow's rollout uses it: set defar.form to reflexflow")
        return value


class OnPolicy(Section):
    """Rollouts: images that the model makes itself, in groups of one prompt."""

    group: int = Field(default=24, ge=2)
    """Images per prompt of a rollout. Prompts per rollout follow: batch_size * accumulate *
    processes * updates / group."""
    updates: int = Field(default=1, ge=1)
    """Optimizer steps per rollout, of which each takes an equal share of every group."""
    steps: int = Field(default=10, ge=2)
    """Steps of the sampler in a rollout."""
    guidance: NotNegative = 1.0
    """Guidance scale of a rollout, and of every pass that repeats it. 1: none."""
    advantage_clip: Positive = 5.0
    """Largest size of an advantage."""
    deviation: Literal["batch", "group"] = "batch"
    """Which rewards' standard deviation divides advantages: all of the rollout, or the group's."""

    def check_groups(self, section: str, images: int) -> None:
        """Raise ValueError unless each of a process's steps, of so many images, has a share of
        whole groups.
        """
        if self.group % self.updates:
            raise ValueError(
                f"{section}.group is {self.group}, of which {self.updates} steps cannot take equal "
                f"shares: make it a multiple of {section}.updates"
            )
        if images * self.updates % self.group:
            raise ValueError(
                f"{section}.group is {self.group}, but a process makes {images} * {self.updates} "
                "images a rollout (batch_size * accumulate * updates), which is no whole number of "
                "groups: make it a multiple"
            )


class FlowGrpo(OnPolicy):
    """Flow-GRPO (arXiv 2505.05470). Defaults are its SD3.5-Medium recipe for GenEval."""

    updates: int = Field(default=2, ge=1)
    """Optimizer steps per rollout, of which each takes an equal share of every group."""
    guidance: NotNegative = 4.5
    """Guidance scale of a rollout, and of every pass that repeats it. 1: none."""
    step: Literal["sde", "cps"] = "sde"
    """Stochastic step of a rollout: Flow-GRPO's SDE, or Flow-CPS, which keeps noise's share."""
    noise_scale: Positive = 0.7
    """Noise scale of that step (a): 0.7, or 0.8 for cps, where 1 is a right angle."""
    window: int = Field(default=0, ge=0)
    """Number of steps in a row that are stochastic, at a place drawn for each rollout; the others
    are the plain sampler's (Flow-GRPO-Fast, MixGRPO). 0: all are."""
    window_range: Share = 0.5
    """First share of a rollout's steps in which the window lies."""
    trained_share: Share = 0.99
    """Share of a rollout's steps that are trained on, rounded down, where all are stochastic."""
    clip: Positive = 1e-4
    """Range that the ratio of probabilities is clipped to, about 1 (epsilon)."""
    kl_weight: NotNegative = 0.04
    """Weight of the divergence from the reference (beta): GenEval and OCR 0.04, PickScore 0.01."""
    kl: Literal["code", "paper"] = "code"
    """Divergence of a step: the paper divides by twice the step's variance, g^2 (sigma - sigma');
    the released code, to whose size the published weights belong, by 2 g^2. For cps, whose variance
    is g^2, `code` is the squared distance alone, as in Flow-CPS's own code."""

    @property
    def noisy_steps(self) -> int:
        """Steps that add noise, the first ones. The last of cps adds none: it has no probability
        to train on.
        """
        return self.steps - 1 if self.step == "cps" else self.steps

    @property
    def trained_steps(self) -> int:
        """Number of steps that are trained on, the first ones, where there is no window."""
        return min(int(self.trained_share * self.steps), self.noisy_steps)

    @property
    def window_steps(self) -> int:
        """Number of steps, the first ones, in which the window lies."""
        return min(int(self.window_range * self.steps), self.noisy_steps)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        unread = "trained_share" if self.window else "window_range"
        if getattr(self, unread) != type(self).model_fields[unread].default:
            hint = "leave it out" if self.window else "set flow_grpo.window to 1 or more"
            raise ValueError(
                f"flow_grpo.{unread} has no effect {'with' if self.window else 'without'} a "
                f"window: {hint}"
            )
        if self.step == "cps" and self.noise_scale > 1:
            raise ValueError("flow_grpo.noise_scale is a share of a right angle for cps: at most 1")
        if self.window > self.window_steps:
            raise ValueError(
                f"flow_grpo.window is {self.window}, but only {self.window_steps} steps with noise "
                f"lie in the first {self.window_range:g} of {self.steps}: make it smaller, or "
                "window_range larger"
            )
        if not self.window and not self.trained_steps:
            raise ValueError("flow_grpo.trained_share leaves no step to train on: make it larger")
        return self


class Nft(OnPolicy):
    """DiffusionNFT (arXiv 2509.16117). Defaults are those of its released SD3.5-Medium recipe."""

    beta: Positive = 1.0
    """Length of the contrast (b): how far the positive and negative velocities lie from the old
    policy's. 1; for OCR and several rewards 0.1."""
    kl_weight: NotNegative = 1e-4
    """Weight of the squared distance to the reference's velocity."""
    trained_share: Share = 0.99
    """Share of the rollout's levels that are trained on, rounded down, drawn for each rollout."""
    decay_flat: int = Field(default=0, ge=0)
    """Steps in which the old policy is the current one after each rollout (75 in one recipe)."""
    decay_rate: NotNegative = 0.001
    """Growth per step of the old policy's decay after them (0.0075 in that recipe)."""
    decay_max: BelowOne = 0.5
    """Largest decay of the old policy (0.999 in that recipe)."""

    @property
    def trained_levels(self) -> int:
        """Levels of a rollout that are trained on."""
        return int(self.trained_share * self.steps)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if not self.trained_levels:
            raise ValueError("nft.trained_share leaves no level to train on: make it larger")
        return self

    def lags_within(self, steps: int) -> bool:
        """Whether the old policy is another than the current one at any of so many steps."""
        flat = 0 < self.decay_flat >= steps - 1
        return self.updates > 1 or bool(self.decay_rate and self.decay_max and not flat)


class DOpsd(Section):
    """D-OPSD (arXiv 2605.05204): self-distillation of few-step models from a richer context."""

    steps: int = Field(default=4, ge=1)
    """Steps of the student's rollout."""
    student_words: int = Field(default=4, ge=0)
    """Words of the caption that the student sees; the teacher sees all of it. 0: none of them."""
    teacher_decay: Share = 0.9999
    """Decay of the teacher, a moving average of the student. 1: the teacher stays as it began."""


class Validation(Section):
    """Images of the same prompts from the same noise while training goes on."""

    every: int = Field(default=0, ge=0)
    """Steps between them, a multiple of save_every. 0: none."""
    prompts: tuple[str, ...] = ()
    """Prompts, an image of each."""
    protocol: str = ""
    """Protocol, as of `eval --protocol`. Empty: `shapes` for the embedded base, otherwise
    `soar-paper` at the resolution and number of tokens that are trained."""

    @model_validator(mode="after")
    def _has_an_effect(self) -> Self:
        if bool(self.every) != bool(self.prompts):
            raise ValueError("validation images need both validation.every and validation.prompts")
        return self


class Evaluation(Section):
    """Metrics of checkpoints while training goes on, by the code of `eval`."""

    every: int = Field(default=0, ge=0)
    """Steps between evaluations, a multiple of save_every. 0: none."""
    suite: str = ""
    """Suite, as of `eval --suite`: a name or a file of prompts."""
    protocol: str = ""
    """Protocol, as of `eval --protocol`. Empty: the suite's own."""
    images: int = Field(default=0, ge=0)
    """Images per prompt. 0: the suite's own number."""

    @model_validator(mode="after")
    def _has_an_effect(self) -> Self:
        if bool(self.every) != bool(self.suite):
            raise ValueError("evaluation needs both evaluation.every and evaluation.suite")
        return self
