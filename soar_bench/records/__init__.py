"""The run record: one folder a run, ``run.json`` and ``scores.parquet``.

``pandas.read_parquet("results/.../scores.parquet")`` gives one row a sample and metric; the columns
are those of :data:`COLUMNS`. docs/records.md describes both files.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import ValidationError

from soar_bench.core.digests import digest_of
from soar_bench.core.errors import SoarBenchError
from soar_bench.core.files import replace_atomically
from soar_bench.records.model import (
    IMAGES,
    IMPORTED,
    SCHEMA,
    RunDraft,
    RunRecord,
    ScoresRecord,
    Story,
    fault,
)

__all__ = [
    "COLUMNS",
    "IMAGES",
    "IMPORTED",
    "RUN_FILE",
    "SCORES_FILE",
    "Run",
    "RunDraft",
    "RunRecord",
    "folder_of",
    "json_text",
    "read_run",
    "read_runs",
    "run_folders",
    "score_frame",
    "write_run",
]

RUN_FILE = "run.json"
SCORES_FILE = "scores.parquet"

#: prompt_id, index: the sample; task: the group in whose mean it counts; prompt: its text;
#: noise: key of its starting noise (hexadecimal), empty for images from elsewhere; image: digest
#: of its pixels; metric; value, or missing with the reason in unscored; details: JSON.
COLUMNS = (
    "prompt_id",
    "index",
    "task",
    "prompt",
    "noise",
    "image",
    "metric",
    "value",
    "unscored",
    "details",
)

#: Longest name of a folder, in characters; file systems allow 255 bytes.
_LONGEST = 120


@dataclass(frozen=True)
class Run:
    """A finished run as it stands on disk."""

    folder: Path
    record: RunRecord

    def scores(self) -> pd.DataFrame:
        """The samples' scores, one row a sample and metric.

        SoarBenchError unless the file is the one that the record was written with.
        """
        file = self.folder / SCORES_FILE
        content = self._score_bytes()
        try:
            frame = pd.read_parquet(io.BytesIO(content))
        except (OSError, ValueError) as error:
            raise SoarBenchError(f"{file} cannot be read ({error}): run that eval again") from None
        lacking = set(COLUMNS) - set(frame.columns)
        if lacking:
            raise SoarBenchError(f"{file} lacks the columns {', '.join(sorted(lacking))}")
        return frame

    def check(self) -> None:
        """SoarBenchError if scores.parquet is missing or another than the record names."""
        self._score_bytes()

    def _score_bytes(self) -> bytes:
        file = self.folder / SCORES_FILE
        content = _read(file)
        if self.record.scores.sha256 != hashlib.sha256(content).hexdigest():
            raise SoarBenchError(
                f"{file} cannot be read: it is cut off, damaged or not the one that {RUN_FILE} "
                "names; run that eval again"
            )
        return content

    @property
    def label(self) -> str:
        return self.record.checkpoint.label

    @property
    def decides(self) -> dict[str, Any]:
        """Everything but the checkpoint that decides the run's numbers."""
        return self.record.decides

    @property
    def board(self) -> str:
        """Runs of one board answer the same question under the same settings."""
        return digest_of(self.decides)

    @property
    def imported(self) -> bool:
        """Whether the images came from elsewhere and were only scored here."""
        return self.record.checkpoint.form == IMAGES

    @property
    def training(self) -> Story:
        """The trainer's story; empty for what was not trained here."""
        return {} if self.imported else self.record.checkpoint.story

    @property
    def base(self) -> str:
        """The digest of the pipeline that the checkpoint stands on; empty for a pipeline."""
        base = self.record.checkpoint.base
        return base.digest if base else ""

    @property
    def group(self) -> str:
        """Runs of one group are seeds of one training: equal but for the seed."""
        story = self.training
        if not story:
            return self.record.checkpoint.digest
        config = {k: v for k, v in story["config"].items() if k != "seed"}
        return digest_of([story["name"], story["method"], story["step"], story["base"]["digest"],
                          story["data"]["digest"], config])  # fmt: skip

    @property
    def seed(self) -> int | None:
        """The training seed; None for a checkpoint that was not trained here."""
        return self.training.get("seed")

    @property
    def name(self) -> str:
        """What a table calls the group."""
        if self.imported:
            return f"{self.label} (images)"
        return self.training["name"] if self.training else self.label


def folder_of(results: Path, record: RunDraft) -> Path:
    """results/SUITE/PROTOCOL/LABEL-DIGEST; the digest tells apart what the names do not.

    Only what decides the numbers goes into it, so that a run that is made again stands in the place
    of its older record.
    """
    name = f"{_plain(record.checkpoint.label)}-{record.key()[:8]}"
    return results / _plain(record.suite.name) / _plain(record.protocol.name) / name


def _plain(name: str) -> str:
    """A name as a folder's: letters, digits and a few signs, never empty, hidden or a path."""
    return re.sub(r"[^A-Za-z0-9._+=-]+", "_", name).lstrip(".")[:_LONGEST] or "_"


def write_run(results: Path, record: RunDraft, scores: pd.DataFrame) -> Run:
    """Writes the record whole or not at all, in the place of an older one of the same run.

    The same scores give the same bytes, and a file that has them already is left alone.
    A bound that is infinite is null in the file, since JSON has no such number. Characters that
    UTF-8 does not have (halves of surrogate pairs) are written as their JSON escape.
    """
    folder = folder_of(results, record)
    content = _parquet(scores)
    described = ScoresRecord(
        file=SCORES_FILE, sha256=hashlib.sha256(content).hexdigest(), rows=len(scores)
    )
    whole = RunRecord.model_validate({**dict(record), "scores": described, "schema_": SCHEMA})
    text = json_text(whole.as_json()).encode("utf-8")
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        # The two files change names one after the other, with nothing in between. Who is killed
        # right there leaves scores that are not those that run.json names, which readers refuse.
        with replace_atomically(folder / RUN_FILE) as aside:
            aside.write_bytes(text)
            if not _holds(folder / SCORES_FILE, content):
                with replace_atomically(folder / SCORES_FILE) as other:
                    other.write_bytes(content)
        return read_run(folder)


def _parquet(scores: pd.DataFrame) -> bytes:
    target = io.BytesIO()
    score_frame(scores).to_parquet(target, index=False, compression="zstd")
    return target.getvalue()


def score_frame(rows: pd.DataFrame | Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows with the keys :data:`COLUMNS` as a table with the columns' types.

    Unlike pandas' own way to a table it takes any text: halves of surrogate pairs, which UTF-8 does
    not have, become their JSON escape.
    """
    frame = pd.DataFrame(rows, columns=list(COLUMNS), dtype=object)
    for column in frame.columns.difference(["index", "value"]):
        texts = [_encodable(text) for text in frame[column]]
        frame[column] = pd.Series(texts, index=frame.index, dtype="str")
    return frame.astype({"index": "int64", "value": "float64"})


def _encodable(text: str) -> str:
    """The text with halves of surrogate pairs as their JSON escape."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def json_text(value: Any) -> str:
    """A JSON value as a file of this project: indented, sorted, in UTF-8, with a last newline."""
    text = json.dumps(_finite(value), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return _encodable(text) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return value


def _holds(file: Path, content: bytes) -> bool:
    try:
        return file.read_bytes() == content
    except OSError:
        return False


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One writer of a folder at a time; and what a killed one left aside is removed."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks: the files are still whole each
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            for name in (RUN_FILE, SCORES_FILE):
                for left in folder.glob(f".{name}.*"):
                    left.unlink(missing_ok=True)
        yield
    finally:
        os.close(descriptor)


def _beside(file: Path) -> Path:
    """The other file of a record."""
    return file.with_name(SCORES_FILE if file.name == RUN_FILE else RUN_FILE)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        if _beside(file).exists():
            raise SoarBenchError(f"{file} is missing: run that eval again") from None
        raise SoarBenchError(
            f"{file.parent} is not a run's record: it has no {file.name}"
        ) from None
    except PermissionError:
        raise SoarBenchError(f"{file} may not be read: change its permissions") from None
    except OSError as error:
        raise SoarBenchError(
            f"{file} cannot be read ({error.strerror}): run that eval again"
        ) from None


def read_run(folder: Path) -> Run:
    """The run in a folder; its scores are read and checked by :meth:`Run.scores`.

    SoarBenchError if the folder holds no record, a damaged one, or one of another schema.
    """
    file = folder / RUN_FILE
    try:
        contents = json.loads(_read(file))
    except (ValueError, RecursionError) as error:
        raise SoarBenchError(f"{file} cannot be read ({error}): run that eval again") from None
    schema = contents.get("schema") if isinstance(contents, dict) else "?"
    if schema != SCHEMA or isinstance(schema, float):
        newer = isinstance(schema, int) and schema > SCHEMA
        raise SoarBenchError(
            f"{file} has schema {schema}, this soar-bench reads {SCHEMA}: "
            + ("install a newer soar-bench" if newer else "run that eval again")
        )
    try:
        return Run(folder, RunRecord.model_validate(contents))
    except ValidationError as error:
        raise SoarBenchError(f"{file} {fault(error)}") from None


def read_runs(results: Path) -> list[Run]:
    """Every run under ``results``, by folder name. SoarBenchError if one cannot be read."""
    return [read_run(folder) for folder in run_folders(results)]


def run_folders(results: Path) -> list[Path]:
    """Every folder under ``results`` that holds a record or a part of one, by name; not hidden
    ones, but also folders that cannot be looked into. SoarBenchError if there are no results.
    """
    if not results.is_dir():
        raise SoarBenchError(f"there are no results in {results}: run soar-bench eval first")
    found = set()
    closed: list[OSError] = []
    for place, folders, files in os.walk(results, onerror=closed.append):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if RUN_FILE in files or SCORES_FILE in files:
            found.add(Path(place))
    return sorted(found | {Path(error.filename) for error in closed})
