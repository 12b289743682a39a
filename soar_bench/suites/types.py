"""Prompts, suites, protocols and samples: the words of the harness. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from soar_bench.core.digests import digest_of, file_digest


def named_texts(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield the texts in metadata with their names; ``masks.0`` is in a list, ``a.b`` in an object.

    The value must not contain itself, as no JSON does.
    """
    if isinstance(value, str):
        yield name, value
        return
    items: Iterable[tuple[Any, Any]] = value.items() if isinstance(value, Mapping) else ()
    for key, item in enumerate(value) if isinstance(value, list | tuple) else items:
        yield from named_texts(item, f"{name}.{key}" if name else str(key))


@dataclass(frozen=True)
class Prompt:
    """One prompt of a suite."""

    #: unique in its suite and never reused for another text
    id: str
    text: str
    #: the data that evaluators need, in their own format (for example GenEval's record)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    #: where files that the metadata name are looked for; empty where there is no such folder
    folder: str = field(default="", compare=False)

    def file(self, name: str) -> Path | None:
        """Return the file inside the folder that metadata name; None if they name none."""
        value = self.metadata.get(name)
        return self._inside(value) if isinstance(value, str) else None

    def files(self) -> dict[str, Path]:
        """Return :meth:`file` of all metadata by name, also of texts in lists and objects."""
        texts = named_texts(self.metadata)
        return {name: path for name, text in texts if (path := self._inside(text)) is not None}

    def _inside(self, text: str) -> Path | None:
        if not self.folder or "." not in text:
            return None
        try:
            root = Path(self.folder).resolve()
            path = (root / text).resolve()
            return path if path.is_relative_to(root) and path.is_file() else None
        except (OSError, ValueError):  # a text too long for a path, or with a NUL
            return None

    @property
    def task(self) -> str:
        """Return the group in whose mean the prompt counts; empty if the suite has no groups."""
        return str(self.metadata.get("tag", ""))


@dataclass(frozen=True)
class Suite:
    """Prompts, the number of images per prompt, and the evaluators that judge them."""

    name: str
    description: str
    prompts: tuple[Prompt, ...]
    evaluators: tuple[str, ...]
    #: seed of the noise; a sample's noise comes from it, the prompt id and the index alone
    seed: int = 0
    images_per_prompt: int = 4
    #: the file of prompts that it was read from; empty for a named suite
    source: str = ""

    def digest(self) -> str:
        """Return the SHA-256 of prompts, metadata, the files that they name and the seed; not of
        the number of images.
        """
        prompts = [[p.id, p.text, dict(p.metadata)] for p in self.prompts]
        named = [(p.id, *file) for p in self.prompts for file in p.files().items()]
        files = [[id, name, file_digest(path)] for id, name, path in named]
        return digest_of(
            {"seed": self.seed, "prompts": prompts} | ({"files": files} if files else {})
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
    #: number of prompt tokens that the T5 encoder sees, in pipelines that have one
    max_sequence_length: int
    #: precision of the denoiser, the text encoders and the sampler
    dtype: str = "float32"
    #: precision of decoding latents
    vae_dtype: str = "float32"
    #: generator of the noise; see soar_bench.sampling.noise
    noise: str = "philox-1"

    def settings(self) -> dict[str, Any]:
        """Return every setting but the name."""
        return {key: value for key, value in asdict(self).items() if key != "name"}

    def override(self, **changes: Any) -> Protocol:
        """Return this protocol with other settings, which its name then lists."""
        changes = {k: v for k, v in changes.items() if v is not None and v != getattr(self, k)}
        suffix = "".join(f"+{key}={_plain(value)}" for key, value in sorted(changes.items()))
        return replace(self, name=self.name + suffix, **changes)


def _plain(value: Any) -> str:
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value) if whole else value)


@dataclass(frozen=True)
class PlannedSample:
    """One image of one prompt, to be generated and scored."""

    prompt: Prompt
    index: int


def plan(suite: Suite, images_per_prompt: int) -> list[PlannedSample]:
    """Return every sample, all first images before all second ones: a run that is stopped then has
    one image of every prompt rather than four of a few.
    """
    return [PlannedSample(p, i) for i in range(images_per_prompt) for p in suite.prompts]
