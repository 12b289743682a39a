"""The published prompt sets: where they are, and how their files are read.

The project contains none of their prompts: ``soar-bench fetch`` brings the files at pinned
addresses, and a file with another digest is not read. Imports no torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from evaluators.weights import WeightFile
from soar_bench.core.errors import SoarBenchError
from soar_bench.core.files import home
from soar_bench.suites.types import Prompt

_GENEVAL = (
    "https://raw.githubusercontent.com/djghosh13/geneval/af4902f24d3ca90ebbb446dd9891a59e0f82725f"
)
_NFT = (
    "https://raw.githubusercontent.com/NVlabs/DiffusionNFT/24af5554898d85e93efa492f42b5e9cdf4156e9b"
)


def numbered(name: str, texts: list[str]) -> tuple[Prompt, ...]:
    """Prompts with ids ``NAME-00000``, ``NAME-00001`` and so on, in the order given."""
    return tuple(Prompt(f"{name}-{i:05d}", text) for i, text in enumerate(texts))


def read_lines(name: str, text: str) -> tuple[Prompt, ...]:
    """One prompt a line. A prompt that the file repeats is one prompt, at its first place.

    DrawBench's file has each of its 200 prompts five times, which only asks for five images of it.
    """
    lines = [line.strip() for line in text.split("\n")]
    return numbered(name, list(dict.fromkeys(line for line in lines if line)))


def read_geneval(name: str, text: str) -> tuple[Prompt, ...]:
    """One JSON record a line, whose ``prompt`` is the prompt; the record becomes the metadata.

    The number in an id is that of GenEval's own folder (``00000`` to ``00552``).
    """
    records = [json.loads(line) for line in text.split("\n") if line.strip()]
    prompts = numbered(name, [record["prompt"] for record in records])
    return tuple(Prompt(p.id, p.text, r) for p, r in zip(prompts, records, strict=True))


@dataclass(frozen=True)
class PromptSet:
    """A published file of prompts."""

    name: str
    #: where it lies inside the prompts' folder, and where it is published
    file: WeightFile
    #: from the set's name and the file's text to prompts
    reader: Callable[[str, str], tuple[Prompt, ...]]
    licence: str
    source: str


def folder() -> Path:
    """Where fetched prompt sets are kept: ``prompts`` in the weights' home."""
    return home() / "prompts"


def _of_flow_grpo(name: str, sha256: str, size: int, origin: str) -> PromptSet:
    """A test set of the Flow-GRPO family, in the copy that HY-SOAR's evaluation comes from."""
    return PromptSet(
        name=name,
        file=WeightFile(f"{name}.txt", f"{_NFT}/dataset/{name}/test.txt", sha256, size),
        reader=read_lines,
        licence="see NVlabs/DiffusionNFT",
        source=f"{origin}; NVlabs/DiffusionNFT",
    )


PROMPT_SETS: dict[str, PromptSet] = {
    s.name: s
    for s in (
        PromptSet(
            name="geneval",
            file=WeightFile(
                "geneval.jsonl",
                f"{_GENEVAL}/prompts/evaluation_metadata.jsonl",
                "5c48e0813e812e3c373fa5c8ed07a8f0a483be30272b4427b0559c8048e67c13",
                85_209,
            ),
            reader=read_geneval,
            licence="MIT",
            source="djghosh13/geneval; arXiv 2310.11513",
        ),
        _of_flow_grpo(
            "ocr",
            "4dd8caf3ab6ade73bd376c7d14c6ca49b6eacfb1bd321e22c40714ae4a98d4dc",
            217_565,
            "Flow-GRPO, arXiv 2505.05470",
        ),
        _of_flow_grpo(
            "drawbench",
            "9006b98feabb94b28a2bc0c88de42fd4f31a9ec3c2a19e308a02c5385b7172f0",
            65_164,
            "DrawBench, arXiv 2205.11487",
        ),
        _of_flow_grpo(
            "pickscore",
            "d75c025fa451866e70f7e36243f7cdd93095523cb51f5f9651f2ce3236d20262",
            239_891,
            "Pick-a-Pic, arXiv 2305.01569",
        ),
    )
}


def is_fetched(name: str) -> bool:
    """Whether the file is there; whether it is whole is seen when it is read."""
    return (folder() / PROMPT_SETS[name].file.path).is_file()


def read(name: str) -> tuple[Prompt, ...]:
    """The prompts of a set. SoarBenchError if its file is not there or is not the published one."""
    prompts = PROMPT_SETS[name]
    file = folder() / prompts.file.path
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        raise SoarBenchError(
            f"the prompts of {name} are not here ({file}): run `soar-bench fetch --suite {name}`"
        ) from None
    if hashlib.sha256(content).hexdigest() != prompts.file.sha256:
        raise SoarBenchError(
            f"{file} is damaged or another file: run `soar-bench fetch --suite {name}`, "
            "which replaces it"
        )
    return prompts.reader(name, content.decode("utf-8"))
