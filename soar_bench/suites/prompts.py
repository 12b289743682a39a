"""Readers of the published prompt sets.

The project contains none of their prompts: ``soar-bench fetch`` brings the files (pinned in
:mod:`soar_bench.fetch.file_sets`), and a file with another digest is not read. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from soar_bench.core.digests import digest_file
from soar_bench.core.errors import SoarBenchError
from soar_bench.core.rows import read_rows
from soar_bench.fetch.file_sets import PROMPT_SETS
from soar_bench.suites.types import Prompt


def numbered(name: str, texts: Iterable[str]) -> tuple[Prompt, ...]:
    """Return prompts with ids ``NAME-00000``, ``NAME-00001`` and so on, in the texts' order."""
    return tuple(Prompt(f"{name}-{i:05d}", text) for i, text in enumerate(texts))


def is_fetched(name: str) -> bool:
    """Return whether the file of a set is here; :func:`read` sees whether it is whole."""
    (item,) = PROMPT_SETS[name].items
    return item.target.is_file()


def read(name: str) -> tuple[Prompt, ...]:
    """Return the prompts of a set. SoarBenchError if its file is absent or not the published one.

    A line is a prompt; a repeated line is one prompt at its first place. GenEval's file has JSON
    records, which become the metadata; the number in an id is that of GenEval's own folder.
    """
    (item,) = PROMPT_SETS[name].items
    if not item.target.is_file():
        raise SoarBenchError(
            f"the prompts of {name} are not here ({item.target}): "
            f"run `soar-bench fetch --suite {name}`"
        )
    if digest_file(item.target) != item.file.sha256:
        raise SoarBenchError(
            f"{item.target} is damaged or another file: run `soar-bench fetch --suite {name}`, "
            "which replaces it"
        )
    records = [row.values for row in read_rows(item.target)]
    texts = [record["prompt"] for record in records]
    if item.target.suffix == ".txt":
        return numbered(name, dict.fromkeys(texts))
    prompts = numbered(name, texts)
    return tuple(replace(p, metadata=r) for p, r in zip(prompts, records, strict=True))
