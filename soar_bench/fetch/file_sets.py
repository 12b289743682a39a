"""Sets of files that can be fetched by name, and whether each file is here and right.

A set is the weights of an evaluator (pinned in :mod:`evaluators.catalogue`) or a published file of
prompts (pinned here). The project contains neither. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from evaluators import catalogue, registry
from evaluators.types import EvaluatorError
from evaluators.weights import RIGHT, WeightFile, Weights, recorded, what_is_wrong
from soar_bench.core.digests import file_digest, known_digest
from soar_bench.core.errors import SoarBenchError, unknown_name
from soar_bench.core.files import home
from soar_bench.fetch.download import largest

_GITHUB = "https://raw.githubusercontent.com"
_GENEVAL = f"{_GITHUB}/djghosh13/geneval/af4902f24d3ca90ebbb446dd9891a59e0f82725f"
_GENEVAL2 = f"{_GITHUB}/facebookresearch/GenEval2/a6e82d2289e8d418f27f0adee77908b07060eea3"
_PARTI = f"{_GITHUB}/google-research/parti/5a657978134374ce28973948331b319adef164bd"
_T2I = f"{_GITHUB}/Karine-Huang/T2I-CompBench/1b7094991a57f3c22abdd4f6e8ba6c1a15517073"
_ELLA = f"{_GITHUB}/TencentQQGYLab/ELLA/3c228f1dc6c4d3cad0a47493816151a419f14db3"
_NFT = f"{_GITHUB}/NVlabs/DiffusionNFT/24af5554898d85e93efa492f42b5e9cdf4156e9b"


@dataclass(frozen=True)
class FileSet:
    """Files that are fetched together."""

    name: str
    #: ``weights`` or ``prompts``
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
        """The bytes that have come so far, beside the target."""
        return self.target.with_name(f"{self.target.name}.part")

    @property
    def largest(self) -> int:
        """Bytes after which it is stopped where nobody says its size."""
        return largest(self.file.path, self.file.about)

    @property
    def pinned(self) -> str:
        """The SHA-256, or its first digits, that the file must have; empty if nobody knows it."""
        first_seen = str(recorded(self.set.folder).get(self.file.path, {}).get("pinned") or "")
        return self.file.sha256 or self.file.sha256_prefix or first_seen

    def fault(self, *, read: bool = True) -> str:
        """Return why the file in its place is not right; empty if it is.

        ``read`` is whether a file that is not in the record may be read for its digest.
        """
        if not self.target.is_file():
            return "absent"
        size = self.target.stat().st_size
        if self.file.size is not None and size != self.file.size:
            return f"damaged: {size:,} bytes, expected {self.file.size:,}"
        if not read and not self.is_recorded():
            return "not verified"
        wrong = self.wrong_content()
        return f"damaged: {wrong}" if wrong else ""

    def wrong_content(self) -> str:
        """Return why the bytes in its place are not the file's; empty if they are."""
        entry = recorded(self.set.folder).get(self.file.path, {})
        wrong = what_is_wrong(self.file, file_digest(self.target), entry)
        return wrong or self.file.wrong_structure(self.target, entry)

    @property
    def structure_is_known(self) -> bool:
        """Whether the record says that the file's structure is right, where one is known."""
        entry = recorded(self.set.folder).get(self.file.path, {})
        return not self.file.has_structure or entry.get("structure") == RIGHT

    def is_recorded(self) -> bool:
        """Return whether the file was verified and has not changed since; it is not read."""
        entry = recorded(self.set.folder).get(self.file.path, {})
        return entry.get("sha256") is not None and entry["sha256"] == known_digest(self.target)


def _prompts(
    name: str, suffix: str, url: str, sha256: str, size: int, licence: str, source: str
) -> FileSet:
    file = WeightFile(f"{name}{suffix}", url, sha256, size)
    return FileSet(name, "prompts", "prompts", (file,), licence, source)


def _flow_grpo(name: str, sha256: str, size: int, origin: str) -> FileSet:
    """Return a test set of the Flow-GRPO family, in the copy that HY-SOAR evaluates on."""
    url, source = f"{_NFT}/dataset/{name}/test.txt", f"{origin}; NVlabs/DiffusionNFT"
    return _prompts(name, ".txt", url, sha256, size, "see NVlabs/DiffusionNFT", source)


def _dpg() -> FileSet:
    """Return DPG-Bench's table, whose SHA-256 nobody states; git's id of it is the commit's."""
    file = WeightFile(
        "dpg_bench.csv", f"{_ELLA}/dpg_bench/dpg_bench.csv",
        git_blob="98457fc9901943f51ff9a30367250fc292533bed",
    )  # fmt: skip
    source = "TencentQQGYLab/ELLA; arXiv 2403.05135"
    return FileSet("dpg", "prompts", "prompts/dpg", (file,), "Apache-2.0", source)


#: SHA-256 and bytes of T2I-CompBench++'s prompts for evaluation, by category.
_T2I_CATEGORIES = {
    "color": ("1634259756dbc77d13093d907d414480080ec9790a8c97ad09efaea7b2534f2d", 11871),
    "shape": ("37e1a276906c7ea9516cbd7ac8501be896006c0c17ca7344f260562834455bae", 15935),
    "texture": ("fbb5363515b4a28009e360afaaaf389d2dd2289e50dbb0c6ef4ea0c7fe4f3d4f", 14211),
    "spatial": ("8707a1d7e42ce3002d95363cf55f74bd043c843ae27108f5125aaaa7840ca988", 9213),
    "3d_spatial": ("c9953597315f36a5fcb41291bb19bdc6ab5f64a0fa760d691b4854a73f5d1fe9", 7851),
    "numeracy": ("dad8df141604b70ba7554bec724e3db0a80023680769b5c514854ea2d2527bbe", 10863),
    "non_spatial": ("04c56cc9ac441dc9ea6c5157652058bd1635b5308526dd31bb29a1caab9a758d", 17750),
    "complex": ("1b808018b8d9916db3d47d5aa2ef18377a3549a56901a474156f799824cdf3b4", 22724),
}


def _t2i_compbench() -> FileSet:
    """Return the file of each category."""
    files = tuple(
        WeightFile(f"{name}_val.txt", f"{_T2I}/examples/dataset/{name}_val.txt", sha256, size)
        for name, (sha256, size) in _T2I_CATEGORIES.items()
    )
    source = "Karine-Huang/T2I-CompBench; arXiv 2307.06350"
    return FileSet("t2i-compbench", "prompts", "prompts/t2i-compbench", files, "MIT", source)


#: The published prompt sets, by the name of the suite that reads them.
PROMPT_SETS: dict[str, FileSet] = {
    prompts.name: prompts
    for prompts in (
        _prompts(
            "geneval", ".jsonl", f"{_GENEVAL}/prompts/evaluation_metadata.jsonl",
            "5c48e0813e812e3c373fa5c8ed07a8f0a483be30272b4427b0559c8048e67c13", 85_209,
            "MIT", "djghosh13/geneval; arXiv 2310.11513",
        ),
        _flow_grpo(
            "ocr", "4dd8caf3ab6ade73bd376c7d14c6ca49b6eacfb1bd321e22c40714ae4a98d4dc", 217_565,
            "Flow-GRPO, arXiv 2505.05470",
        ),
        _flow_grpo(
            "drawbench", "9006b98feabb94b28a2bc0c88de42fd4f31a9ec3c2a19e308a02c5385b7172f0", 65_164,
            "DrawBench, arXiv 2205.11487",
        ),
        _flow_grpo(
            "pickscore", "d75c025fa451866e70f7e36243f7cdd93095523cb51f5f9651f2ce3236d20262",
            239_891, "Pick-a-Pic, arXiv 2305.01569",
        ),
        _prompts(
            "geneval2", ".jsonl", f"{_GENEVAL2}/geneval2_data.jsonl",
            "09233adbc9f877fba205f1a20efa4a8640e7e62a91dfd55893562bed8a928e43", 423_220,
            "CC BY-NC 4.0", "facebookresearch/GenEval2; arXiv 2512.16853",
        ),
        _prompts(
            "parti", ".tsv", f"{_PARTI}/PartiPrompts.tsv",
            "fab29e41bb512a169b56acab4cf2a41dcb675e285df2efcde6640c7dd3c440eb", 123_107,
            "Apache-2.0", "google-research/parti; arXiv 2206.10789",
        ),
        _t2i_compbench(),
        _dpg(),
    )
}  # fmt: skip


def _weights(weights: Weights) -> FileSet:
    place = f"weights/{weights.name}"
    return FileSet(weights.name, "weights", place, weights.files, weights.licence, weights.source)


def _of_evaluator(name: str) -> list[FileSet]:
    """Return the weights of an evaluator, without those that a user brought themselves."""
    return [_weights(w) for w in registry.create(name).weights if w.folder_override is None]


def _of_the_project() -> list[FileSet]:
    return [*map(_weights, catalogue.ALL), *PROMPT_SETS.values()]


def everything() -> list[FileSet]:
    """Return every weight set of the catalogue, every prompt set, and the weights of plug-ins."""
    sets = _of_the_project()
    for name in registry.names():
        with suppress(EvaluatorError):  # `soar-bench evaluators` says which are broken and why
            sets += _of_evaluator(name)
    return distinct(sets)


def named(name: str, suites: Collection[str] = ()) -> list[FileSet]:
    """Return all that goes by a name: a weight set, an evaluator's weights, a prompt set.

    ``weights/NAME`` and ``prompts/NAME`` are those of one kind alone.

    ``suites`` names the suites that are part of the project and need no files. SoarBenchError if
    nothing goes by the name.
    """
    kind, slash, rest = name.partition("/")
    if slash and kind in ("weights", "prompts"):
        if sets := [s for s in named(rest, suites) if s.kind == kind]:
            return sets
        raise SoarBenchError(f"no {kind} go by the name {rest!r}: leave {kind}/ out")
    sets = [s for s in _of_the_project() if s.name == name]
    evaluators = registry.names()
    if is_local(name) or name in evaluators:
        return distinct([*sets, *_of_evaluator(name)])
    sets = sets or [s for s in everything() if s.name == name]
    if not sets and name not in suites:
        names = dict.fromkeys([*(s.name for s in everything()), *evaluators])
        raise unknown_name("set of weights, evaluator or prompt set", name, list(names))
    return sets


def is_local(name: str) -> bool:
    """Return whether a name is that of an evaluator in a file or module of the user's own."""
    return ":" in name or name.endswith(".py")


def beside(name: str, sets: Sequence[FileSet]) -> list[FileSet]:
    """Return those of a name's sets that only share it: prompts, where it is of weights too."""
    if not any(s.kind == "weights" for s in sets):
        return []
    return [s for s in sets if s.kind == "prompts" and s.name == name]


def of_suite(name: str, evaluators: Sequence[str]) -> list[FileSet]:
    """Return the prompts of a suite and the weights of its evaluators."""
    prompts = [PROMPT_SETS[name]] if name in PROMPT_SETS else []
    return distinct([*prompts, *chain.from_iterable(map(_of_evaluator, evaluators))])


def distinct(sets: Sequence[FileSet]) -> list[FileSet]:
    """Return each set once, in the order of their first places."""
    unique: dict[tuple[str, str], FileSet] = {}
    for files in sets:
        unique.setdefault((files.kind, files.name), files)
    return list(unique.values())
