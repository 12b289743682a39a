"""What can be fetched: sets of files by name, and whether each file is here and right."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from evaluators import catalogue, registry
from evaluators.types import EvaluatorError
from evaluators.weights import WeightFile, Weights, recorded, what_is_wrong
from soar_bench import suites
from soar_bench.core.digests import file_digest, known_digest
from soar_bench.core.errors import unknown_name
from soar_bench.core.files import home
from soar_bench.suites.prompts import PROMPT_SETS, PromptSet


@dataclass(frozen=True)
class FileSet:
    """Files that are fetched together: an evaluator's weights or a prompt set."""

    name: str
    kind: str
    #: its folder inside the home, and inside a mirror
    place: str
    files: tuple[WeightFile, ...]
    licence: str
    source: str

    @property
    def folder(self) -> Path:
        return home() / self.place

    @property
    def items(self) -> list[Item]:
        return [Item(self, file) for file in self.files]


@dataclass(frozen=True)
class Item:
    """One file of a set."""

    set: FileSet
    file: WeightFile

    @property
    def label(self) -> str:
        return f"{self.set.name}/{self.file.path}"

    @property
    def target(self) -> Path:
        return self.set.folder / self.file.path

    @property
    def part(self) -> Path:
        """What has come so far, beside the target."""
        return self.target.with_name(f"{self.target.name}.part")

    @property
    def pinned(self) -> str:
        """The SHA-256, or its first digits, that the file must have; empty if nobody knows it."""
        seen = str(recorded(self.set.folder).get(self.file.path, {}).get("pinned") or "")
        return self.file.sha256 or self.file.sha256_prefix or seen

    def fault(self, *, read: bool = True) -> str:
        """Why the file in its place is not right; empty if it is.

        ``read`` is whether a file that is not in the record may be read for its digest.
        """
        if not self.target.is_file():
            return "absent"
        size = self.target.stat().st_size
        if self.file.size is not None and size != self.file.size:
            return f"damaged: {size:,} bytes, expected {self.file.size:,}"
        entry = recorded(self.set.folder).get(self.file.path)
        if not read and not self.is_recorded():
            return "not verified"
        digest = file_digest(self.target)
        wrong = what_is_wrong(self.file, digest, entry)
        return f"damaged: {wrong}" if wrong else ""

    def is_recorded(self) -> bool:
        """Return whether the file was verified and has not changed since; it is not read."""
        entry = recorded(self.set.folder).get(self.file.path, {})
        return entry.get("sha256") is not None and entry["sha256"] == known_digest(self.target)


def _of_weights(weights: Weights) -> FileSet:
    return FileSet(
        weights.name,
        "weights",
        f"weights/{weights.name}",
        weights.files,
        weights.licence,
        weights.source,
    )


def _of_prompts(prompts: PromptSet) -> FileSet:
    return FileSet(
        prompts.name, "prompts", "prompts", (prompts.file,), prompts.licence, prompts.source
    )


def _of_evaluator(name: str) -> list[FileSet]:
    """What an evaluator needs; weights that a user brought themselves are not ours to fetch."""
    weights = registry.create(name).weights
    return [_of_weights(w) for w in weights if w.folder_override is None]


def _of_the_project() -> list[FileSet]:
    prompts = [_of_prompts(p) for p in PROMPT_SETS.values()]
    return [*(_of_weights(w) for w in catalogue.ALL), *prompts]


def everything() -> list[FileSet]:
    """Every weight set of the catalogue, every prompt set, and the weights of plug-ins."""
    found = _of_the_project()
    for name in registry.names():
        with suppress(EvaluatorError):  # `soar-bench evaluators` says which are broken and why
            found += _of_evaluator(name)
    return distinct(found)


def named(name: str) -> list[FileSet]:
    """All that goes by a name: a weight set, an evaluator's weights, a prompt set.

    SoarBenchError if nothing does.
    """
    found = [s for s in _of_the_project() if s.name == name]
    evaluators = registry.names()
    local = ":" in name or name.endswith(".py")  # an evaluator in a file of the user's own
    if local or name in evaluators:
        return distinct([*found, *_of_evaluator(name)])
    found = found or [s for s in everything() if s.name == name]
    if not found and name not in suites.SUITES:
        known = dict.fromkeys([*(s.name for s in everything()), *evaluators])
        raise unknown_name("set of weights, evaluator or prompt set", name, list(known))
    return found


def of_suite(name: str) -> list[FileSet]:
    """The prompts of a suite and the weights of its default evaluators."""
    suite = suites.declared(name)
    found = [_of_prompts(PROMPT_SETS[name])] if name in PROMPT_SETS else []
    for evaluator in suite.evaluators:
        found += _of_evaluator(evaluator)
    return distinct(found)


def distinct(sets: Sequence[FileSet]) -> list[FileSet]:
    """Each set once, in the order in which they come first."""
    found: dict[str, FileSet] = {}
    for one in sets:
        found.setdefault(f"{one.kind} {one.name}", one)
    return list(found.values())
