"""Readers of the published prompt sets.

The project contains none of their prompts: ``soar-bench fetch`` brings the files (pinned in
:mod:`soar_bench.fetch.file_sets`), and a file with another digest is not read. Imports no torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

from soar_bench.core.errors import SoarBenchError
from soar_bench.fetch.file_sets import PROMPT_SETS
from soar_bench.suites.types import Prompt


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


#: From a prompt set's name and its file's text to prompts; a set without one has a prompt a line.
READERS: dict[str, Callable[[str, str], tuple[Prompt, ...]]] = {"geneval": read_geneval}


def is_fetched(name: str) -> bool:
    """Whether the file is there; whether it is whole is seen when it is read."""
    (item,) = PROMPT_SETS[name].items
    return item.target.is_file()


def read(name: str) -> tuple[Prompt, ...]:
    """The prompts of a set. SoarBenchError if its file is not there or is not the published one."""
    (item,) = PROMPT_SETS[name].items
    try:
        content = item.target.read_bytes()
    except FileNotFoundError:
        raise SoarBenchError(
            f"the prompts of {name} are not here ({item.target}): "
            f"run `soar-bench fetch --suite {name}`"
        ) from None
    if hashlib.sha256(content).hexdigest() != item.file.sha256:
        raise SoarBenchError(
            f"{item.target} is damaged or another file: run `soar-bench fetch --suite {name}`, "
            "which replaces it"
        )
    return READERS.get(name, read_lines)(name, content.decode("utf-8"))
