"""The harness's small vocabulary. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from soar_bench.core.digests import digest_of


@dataclass(frozen=True)
class Prompt:
    """One prompt of a suite."""

    #: unique in its suite and never reused for another text
    id: str
    text: str
    #: what evaluators need, in their field's own format (for example GenEval's record)
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def task(self) -> str:
        """The group in whose mean the prompt counts; empty if the suite has no groups."""
        return str(self.metadata.get("tag", ""))


@dataclass(frozen=True)
class Suite:
    """Prompts, how many images each gets, and which evaluators judge them."""

    name: str
    description: str
    prompts: tuple[Prompt, ...]
    evaluators: tuple[str, ...]
    #: from which, with prompt id and index, the noise of every sample comes
    seed: int = 0
    images_per_prompt: int = 4
    #: the user's own file that it was read from; empty for a named suite
    source: str = ""

    def digest(self) -> str:
        """Identifies prompts, metadata and seed; not how many images are made of each."""
        return digest_of(
            {
                "seed": self.seed,
                "prompts": [[p.id, p.text, dict(p.metadata)] for p in self.prompts],
            }
        )


@dataclass(frozen=True)
class Protocol:
    """Every setting of generation that changes a number."""

    name: str
    #: sampler steps
    steps: int
    #: classifier-free guidance scale; 1 is none
    guidance: float
    #: side of the square images, in pixels; None is the pipeline's own default
    resolution: int | None
    #: tokens of a prompt that the T5 encoder sees, in pipelines that have one
    max_sequence_length: int
    #: precision of the denoiser, the text encoders and the sampler
    dtype: str = "float32"
    #: precision in which latents are decoded
    vae_dtype: str = "float32"
    #: how a sample's noise is drawn; see soar_bench.sampling.noise
    noise: str = "philox-1"

    def settings(self) -> dict[str, Any]:
        """All settings but the name."""
        settings = asdict(self)
        del settings["name"]
        return settings

    def override(self, **changes: Any) -> Protocol:
        """This protocol with other settings, and a name that says which."""
        changes = {k: v for k, v in changes.items() if v is not None and v != getattr(self, k)}
        suffix = "".join(f"+{key}={_plain(value)}" for key, value in sorted(changes.items()))
        return replace(self, name=self.name + suffix, **changes)


def _plain(value: Any) -> str:
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value) if whole else value)


@dataclass(frozen=True)
class PlannedSample:
    """One image of one prompt: what is generated and scored."""

    prompt: Prompt
    index: int


def plan(suite: Suite, images_per_prompt: int) -> list[PlannedSample]:
    """Every sample of the suite, all first images before all second ones.

    So that a run that was stopped has seen all prompts rather than a few of them four times.
    """
    return [PlannedSample(p, i) for i in range(images_per_prompt) for p in suite.prompts]
