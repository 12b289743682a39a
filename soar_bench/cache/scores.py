"""Scores on disk, kept as they are made.

One folder for an evaluator (its versions and weights) and a set of images, in it one file for each
process that wrote, so that processes never write into each other's lines. A line is one sample and
ends with a digest of itself. A line that is not whole or was changed, or whose scores are not of
the evaluator's metrics and within their ranges, is passed over: its sample is scored again.
"""

from __future__ import annotations

import json
import os
import socket
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from evaluators.types import Score
from soar_bench.core.digests import digest_of
from soar_bench.core.files import write_text
from soar_bench.core.text import parse_json

Scores = dict[str, Score]
#: smallest and largest value of each metric of an evaluator
Ranges = Mapping[str, tuple[float, float]]


class Journal:
    """The scores of one evaluator for one set of images, by sample key."""

    def __init__(self, folder: Path, ranges: Ranges) -> None:
        self.folder = folder
        self._scores: dict[str, Scores] = {}
        self._file = folder / f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}.jsonl"
        for file in self._files():
            for line in file.read_text("utf-8", errors="replace").split("\n"):
                with suppress(ValueError, KeyError, TypeError, AttributeError):
                    entry = parse_json(line)
                    digest = entry.pop("digest")
                    scores = {name: Score(**score) for name, score in entry["scores"].items()}
                    if digest == _digest(entry) and _within(scores, ranges):
                        self._scores[entry["key"]] = scores

    @classmethod
    def of(
        cls, cache: Path, evaluator: str, identity: Mapping[str, Any], name: str, ranges: Ranges
    ) -> Journal:
        """The journal in a cache of an evaluator whose values ``identity`` decides, for the images
        of that name.
        """
        digest = digest_of([evaluator, dict(identity)])
        return cls(cache / "scores" / f"{evaluator}-{digest[:16]}" / name, ranges)

    def get(self, key: str) -> Scores | None:
        return self._scores.get(key)

    def add(self, entries: Sequence[tuple[str, Scores]]) -> None:
        if not entries:
            return
        self._scores.update(entries)
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._file.open("a", encoding="utf-8") as stream:
            # After a torn line, on a line of its own.
            stream.write("\n" + "".join(_line(key, scores) for key, scores in entries))

    def forget(self, keys: Iterable[str]) -> None:
        """Remove scores from disk too, and leave one file of the others."""
        gone = set(keys)
        self._scores = {key: scores for key, scores in self._scores.items() if key not in gone}
        old = self._files()
        if self._scores:
            write_text(self._file, "".join(_line(*entry) for entry in self._scores.items()))
        for file in old:
            if file != self._file:
                file.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("[!.]*.jsonl"))


def _line(key: str, scores: Scores) -> str:
    plain = {
        name: {"value": s.value, "unscored": s.unscored, "details": dict(s.details)}
        for name, s in scores.items()
    }
    entry = {"key": key, "scores": plain}
    return json.dumps({**entry, "digest": _digest(entry)}) + "\n"


def _digest(entry: Mapping[str, Any]) -> str:
    return digest_of(entry)[:16]


def _within(scores: Scores, ranges: Ranges) -> bool:
    """Whether these are scores of these metrics, within their ranges."""
    return scores.keys() == ranges.keys() and all(
        score.value is None or ranges[name][0] <= score.value <= ranges[name][1]
        for name, score in scores.items()
    )
