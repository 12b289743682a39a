"""A run on disk: ``run.json`` and ``scores.parquet`` in one folder, read and written whole.

docs/records.md describes both files. Imports no torch.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import ValidationError

from evaluators.types import PARTS
from soar_bench.core.digests import digest_of
from soar_bench.core.errors import SoarBenchError
from soar_bench.core.files import locked_folder, replace_atomically
from soar_bench.core.text import encodable, json_text
from soar_bench.records.fields import fault
from soar_bench.records.model import (
    IMAGES,
    SCHEMA,
    MetricRecord,
    RunDraft,
    RunRecord,
    ScoresRecord,
    Story,
)
from soar_bench.suites import LIMIT, declared, names

RUN_FILE = "run.json"
SCORES_FILE = "scores.parquet"

#: A file of more rows is no run's, but may fill the memory.
_MAX_ROWS = 10_000_000
#: Columns of scores.parquet; :meth:`Run.scores` describes them.
COLUMNS = (
    "prompt_id", "index", "task", "prompt", "noise",
    "image", "metric", "value", "unscored", "details",
)  # fmt: skip

#: Images of a prompt that :func:`rows_of` tells apart.
_MOST_IMAGES = 2**32
#: Longest name of a folder, in characters; file systems allow 255 bytes.
_LONGEST = 120


def training_key(story: Mapping[str, Any], with_step: bool = True) -> str:
    """Return the key that checkpoints of one training have in common whatever their seed and, if
    not ``with_step``, whatever their step. ``story`` is the trainer's part of ``checkpoint.json``.
    """
    config = {name: value for name, value in story["config"].items() if name != "seed"}
    names = ("name", "method", "step") if with_step else ("name", "method")
    parts, base = [story[name] for name in names], story["base"]
    # Each seed went on from the same seed of another training.
    seed_by_seed = "story" in base and "{seed}" in str(config.get("base"))
    start = training_key(base["story"]) if seed_by_seed else base["digest"]
    return digest_of([*parts, start, story["data"]["digest"], config])


@dataclass(frozen=True)
class Run:
    """A finished run as it stands on disk."""

    folder: Path
    record: RunRecord = field(repr=False)

    def scores(self) -> pd.DataFrame:
        """Return the scores, one row per sample and metric.

        - ``prompt_id`` (text), ``index`` (int64, from 0): the sample
        - ``task`` (text): group in whose mean the sample counts; empty where there are no groups
        - ``prompt`` (text): text of the prompt
        - ``noise`` (text): key of the starting noise, hexadecimal; empty for images from elsewhere
        - ``image`` (text): SHA-256 of the image's shape and pixels, hexadecimal
        - ``metric`` (text): name of the metric; ``record`` has its unit and range
        - ``value`` (float64): the score, in the metric's unit; NaN where unscored
        - ``unscored`` (text): why there is no value; empty where there is one
        - ``details`` (text): JSON object that explains the value

        SoarBenchError unless the file is the one that the record was written with.
        """
        from pyarrow.parquet import ParquetFile

        file = self.folder / SCORES_FILE
        content = self._score_bytes()
        try:
            # A small file may hold very many rows.
            rows = ParquetFile(io.BytesIO(content)).metadata.num_rows
            if rows > _MAX_ROWS:
                raise ValueError(f"it has {rows:,} rows, more than {_MAX_ROWS:,}")
            frame = pd.read_parquet(io.BytesIO(content))
        except (OSError, ValueError) as error:
            raise SoarBenchError(f"{file} cannot be read ({error}): run that eval again") from None
        lacking = set(COLUMNS) - set(frame.columns)
        if lacking:
            raise SoarBenchError(f"{file} lacks the columns {', '.join(sorted(lacking))}")
        return frame

    def check(self) -> None:
        """Raise SoarBenchError if scores.parquet is missing or not the one of the record."""
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
    def metrics(self) -> pd.DataFrame:
        """Values of the metrics over all samples, as the record has them; indexed by metric name.

        - ``value`` (float64): the aggregate, in the metric's unit; NaN where nothing is scored
        - ``standard_error`` (float64): over prompts; NaN where it cannot be known
        - ``n``, ``unscored`` (int64): samples with and without a value
        """
        types = {"value": "float64", "standard_error": "float64", "n": "int64", "unscored": "int64"}
        summaries = self.record.metrics.values()
        rows = [(s.value, s.standard_error, s.scored, s.unscored) for s in summaries]
        index = pd.Index(list(self.record.metrics), name="metric", dtype="str")
        return pd.DataFrame(rows, index, list(types), dtype=object).astype(types)

    @property
    def label(self) -> str:
        """Name of the checkpoint for tables."""
        return self.record.checkpoint.label

    @property
    def board(self) -> str:
        """Key that runs have in common which may be compared."""
        return digest_of(self.record.decides)

    @property
    def imported(self) -> bool:
        """Whether the images came from elsewhere and were only scored here."""
        return self.record.checkpoint.form == IMAGES

    @property
    def training(self) -> Story:
        """The trainer's part of ``checkpoint.json``; empty for what was not trained here."""
        return {} if self.imported else self.record.checkpoint.story

    @property
    def base(self) -> str:
        """Digest of the pipeline that the checkpoint stands on; empty for a pipeline."""
        base = self.record.checkpoint.base
        return base.digest if base else ""

    @property
    def start(self) -> str:
        """Digest of the pipeline or checkpoint that its training started from; else empty."""
        return self.training["base"]["digest"] if self.training else ""

    @property
    def group(self) -> str:
        """Key that the seeds of one training have in common."""
        return training_key(self.training) if self.training else self.record.checkpoint.digest

    @property
    def seed(self) -> int | None:
        """Training seed; None for a checkpoint that was not trained here."""
        return self.training.get("seed")

    @property
    def name(self) -> str:
        """Name of the group for tables."""
        if self.imported:
            return f"{self.label} (images)"
        if self.record.checkpoint.labelled:
            return self.label
        return self.training["name"] if self.training else self.label


def folder_of(results: Path, record: RunDraft) -> Path:
    """Return results/SUITE/PROTOCOL/LABEL-DIGEST.

    The digest is :meth:`RunDraft.key`, so that a run that is made again replaces its older record.
    """
    name = f"{_plain(record.checkpoint.label)}-{record.key()[:8]}"
    return results / _plain(record.suite.name) / _plain(record.protocol.name) / name


def _plain(name: str) -> str:
    """Return a name that a folder can have: never empty, hidden or a path."""
    return re.sub(r"[^A-Za-z0-9._+=-]+", "_", name).lstrip(".")[:_LONGEST] or "_"


def write_run(results: Path, record: RunDraft, scores: pd.DataFrame) -> Run:
    """Write the record whole or not at all, in place of an older one of the same run.

    The same scores give the same bytes, and a file that has them already is left alone.
    A bound that is infinite is null in the file, since JSON has no such number. Characters that
    UTF-8 does not have (halves of surrogate pairs) are written as their JSON escape.
    """
    folder = folder_of(results, record)
    target = io.BytesIO()
    score_frame(scores).to_parquet(target, index=False, compression="zstd")
    content = target.getvalue()
    sha256 = hashlib.sha256(content).hexdigest()
    described = ScoresRecord(file=SCORES_FILE, sha256=sha256, rows=len(scores))
    whole = RunRecord.model_validate({**dict(record), "scores": described, "schema_": SCHEMA})
    text = json_text(whole.as_json()).encode("utf-8")
    folder.mkdir(parents=True, exist_ok=True)
    with locked_folder(folder):  # one process at a time
        # The two files change names one after the other, with nothing in between. Who is killed
        # right there leaves scores that are not those that run.json names, which readers refuse.
        with replace_atomically(folder / RUN_FILE) as aside:
            aside.write_bytes(text)
            if not _holds(folder / SCORES_FILE, content):
                with replace_atomically(folder / SCORES_FILE) as other:
                    other.write_bytes(content)
        return read_run(folder)


def score_frame(rows: pd.DataFrame | Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return rows with the keys :data:`COLUMNS` as a table with the columns' types; halves of
    surrogate pairs, which UTF-8 does not have, become their escape.
    """
    frame = pd.DataFrame(rows, columns=list(COLUMNS), dtype=object)
    for column in frame.columns.difference(["index", "value"]):
        texts = [encodable(text) for text in frame[column]]
        frame[column] = pd.Series(texts, index=frame.index, dtype="str")
    return frame.astype({"index": "int64", "value": "float64"})


def _holds(file: Path, content: bytes) -> bool:
    try:
        return file.read_bytes() == content
    except OSError:
        return False


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        if file.with_name(SCORES_FILE if file.name == RUN_FILE else RUN_FILE).exists():
            raise SoarBenchError(f"{file} is missing: run that eval again") from None
        refusal = f"{file.parent} is not a run's record: it has no {file.name}"
    except PermissionError:
        refusal = f"{file} may not be read: change its permissions"
    except OSError as error:
        refusal = f"{file} cannot be read ({error.strerror}): run that eval again"
    raise SoarBenchError(refusal)


def read_run(folder: Path) -> Run:
    """Return the run in a folder; :meth:`Run.scores` reads and checks its scores.

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


def read_runs(results: str | Path) -> list[Run]:
    """Return every run under a folder, by folder name. SoarBenchError if one cannot be read."""
    return [read_run(folder) for folder in run_folders(Path(results))]


def run_folders(results: Path) -> list[Path]:
    """Return the folders under ``results`` with a record or a part of one, by name, not hidden.

    Folders that cannot be looked into are among them. SoarBenchError if there are no results.
    """
    if not results.is_dir():
        raise SoarBenchError(f"there are no results in {results}: run soar-bench eval first")
    records = set()
    closed: list[OSError] = []
    for place, folders, files in os.walk(results, onerror=closed.append):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if RUN_FILE in files or SCORES_FILE in files:
            records.add(Path(place))
    return sorted(records | {Path(error.filename) for error in closed})


def rows_of(frame: pd.DataFrame, metric: MetricRecord) -> pd.DataFrame:
    """Return the rows of a metric as they count in its mean: those of a pooled one as many times as
    their details say, each with an ``index`` of its own, so that a prompt stays one cluster.
    """
    if metric.aggregate != "pooled":
        return frame
    parts = np.array([json.loads(text).get(PARTS, 1) for text in frame["details"]], dtype=int)
    rows = frame.loc[frame.index.repeat(parts)]
    part = np.arange(len(rows)) - np.repeat(np.cumsum(parts) - parts, parts)
    return rows.assign(index=rows["index"] + part * _MOST_IMAGES)


def metrics_of(run: Run) -> Iterator[tuple[str, MetricRecord]]:
    """Yield the metrics of a run with their declarations: the one to rank by, then by evaluator."""
    evaluators = sorted(run.record.evaluators.values(), key=lambda e: min(e.metrics))
    metrics = {name: m for judge in evaluators for name, m in sorted(judge.metrics.items())}
    first = ranked_by(run.record)
    yield first, metrics.pop(first)
    yield from metrics.items()


def primary_metric(run: Run) -> tuple[str, MetricRecord]:
    """Return the metric to rank by: see :func:`ranked_by`."""
    return next(metrics_of(run))


def ranked_by(record: RunDraft) -> str:
    """Return the name of the metric to rank by: what the record says; the first of the suite's
    first evaluator that judged; the one that is a mean of tasks; or else the first by name.
    """
    evaluators = record.evaluators
    metrics = {name: m for judge in evaluators.values() for name, m in judge.metrics.items()}
    if record.suite.primary in metrics:
        return record.suite.primary
    for evaluator in suite_evaluators(record.suite.name):
        if evaluator in evaluators:
            return min(evaluators[evaluator].metrics)
    by_task = sorted(name for name, metric in metrics.items() if metric.aggregate == "task_mean")
    return by_task[0] if by_task else min(metrics)


@cache
def suite_evaluators(suite: str) -> tuple[str, ...]:
    """Return the evaluators of a named suite, its primary one first; of any other name none."""
    whole = suite.partition(LIMIT)[0]
    return declared(whole).evaluators if whole in names() else ()
