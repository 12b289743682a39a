"""The run record: one folder a run, ``run.json`` and ``scores.parquet``.

``pandas.read_parquet("results/.../scores.parquet")`` gives one row a sample and metric; the columns
are those of :data:`COLUMNS`. docs/records.md describes both files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from soar_bench.types import SoarBenchError, digest_of
from training.files import replace_atomically, write_text

SCHEMA = 1
RUN_FILE = "run.json"
SCORES_FILE = "scores.parquet"
#: The key of a checkpoint's story that marks images from elsewhere.
IMPORTED = "imported"

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


def deciding(evaluator: dict[str, Any]) -> dict[str, Any]:
    """The part of an evaluator's record that decides its values; the rest explains them."""
    return {
        "identity": evaluator["identity"],
        "metrics": {
            name: {key: metric[key] for key in ("version", "aggregate")}
            for name, metric in evaluator["metrics"].items()
        },
    }


@dataclass(frozen=True)
class Run:
    """A finished run as it stands on disk."""

    folder: Path
    record: dict[str, Any]

    def scores(self) -> pd.DataFrame:
        """The samples' scores, one row a sample and metric."""
        file = self.folder / SCORES_FILE
        try:
            frame = pd.read_parquet(file)
        except (OSError, ValueError) as error:
            raise SoarBenchError(f"{file} cannot be read ({error}): run that eval again") from None
        lacking = set(COLUMNS) - set(frame.columns)
        if lacking:
            raise SoarBenchError(f"{file} lacks the columns {', '.join(sorted(lacking))}")
        return frame

    @property
    def label(self) -> str:
        return str(self.record["checkpoint"]["label"])

    @property
    def decides(self) -> dict[str, Any]:
        """Everything but the checkpoint that decides the run's numbers."""
        suite = self.record["suite"]
        return {
            "suite": {key: suite[key] for key in ("name", "digest", "images_per_prompt")},
            "protocol": self.record["protocol"]["settings"],
            "evaluators": {
                name: deciding(evaluator) for name, evaluator in self.record["evaluators"].items()
            },
        }

    @property
    def board(self) -> str:
        """Runs of one board answer the same question under the same settings."""
        return digest_of(self.decides)

    @property
    def imported(self) -> bool:
        """Whether the images came from elsewhere and were only scored here."""
        return IMPORTED in self.record["checkpoint"]["story"]

    @property
    def training(self) -> dict[str, Any]:
        """The trainer's story; empty for a base and for images from elsewhere."""
        return {} if self.imported else self.record["checkpoint"]["story"]

    @property
    def group(self) -> str:
        """Runs of one group are seeds of one training: equal but for the seed."""
        story = self.training
        if not story:
            return str(self.record["checkpoint"]["digest"])
        config = {k: v for k, v in story["config"].items() if k != "seed"}
        return digest_of([story["name"], story["method"], story["step"], story["base"]["digest"],
                          story["data"]["digest"], config])  # fmt: skip

    @property
    def seed(self) -> int | None:
        """The training seed; None for a checkpoint that was not trained here."""
        seed = self.training.get("seed")
        return None if seed is None else int(seed)

    @property
    def name(self) -> str:
        """What a table calls the group."""
        if self.imported:
            return f"{self.label} (images)"
        return str(self.training["name"]) if self.training else self.label


def folder_of(results: Path, record: dict[str, Any]) -> Path:
    """results/SUITE/PROTOCOL/LABEL-DIGEST; the digest tells apart what the names do not."""
    evaluators = {name: deciding(one) for name, one in record["evaluators"].items()}
    key = digest_of(
        [record["checkpoint"]["digest"], record["suite"], record["protocol"], evaluators]
    )
    parts = [record["suite"]["name"], record["protocol"]["name"]]
    parts.append(f"{record['checkpoint']['label']}-{key[:8]}")
    return results.joinpath(*(re.sub(r"[^A-Za-z0-9._+=-]+", "_", p).lstrip(".") for p in parts))


def write_run(results: Path, record: dict[str, Any], scores: pd.DataFrame) -> Run:
    """Writes the record whole or not at all, in the place of an older one of the same run."""
    folder = folder_of(results, record)
    # An older record of the same run has the same scores, so file by file is safe, and there is
    # no moment without one. A folder counts as a run once it has its run.json.
    with replace_atomically(folder / SCORES_FILE) as aside:
        scores[list(COLUMNS)].to_parquet(aside, index=False, compression="zstd")
    text = json.dumps({"schema": SCHEMA, **record}, indent=2, sort_keys=True, ensure_ascii=False)
    write_text(folder / RUN_FILE, text + "\n")
    return read_run(folder)


def read_run(folder: Path) -> Run:
    file = folder / RUN_FILE
    try:
        record = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        raise SoarBenchError(f"{folder} is not a run's record: it has no {RUN_FILE}") from None
    except (OSError, ValueError) as error:
        raise SoarBenchError(f"{file} cannot be read ({error}): run that eval again") from None
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        raise SoarBenchError(
            f"{file} has schema {record.get('schema') if isinstance(record, dict) else '?'}, "
            f"this soar-bench reads {SCHEMA}: run that eval again"
        )
    lacking = {"checkpoint", "suite", "protocol", "evaluators", "metrics"} - set(record)
    if lacking:
        raise SoarBenchError(
            f"{file} lacks {', '.join(sorted(lacking))}: it is damaged, run that eval again"
        )
    return Run(folder, record)


def read_runs(results: Path) -> list[Run]:
    """Every run under ``results``, by folder name."""
    return list(_find(results))


def _find(results: Path) -> Iterator[Run]:
    if not results.is_dir():
        raise SoarBenchError(f"there are no results in {results}: run soar-bench eval first")
    for file in sorted(results.rglob(RUN_FILE)):
        if not any(part.startswith(".") for part in file.relative_to(results).parts):
            yield read_run(file.parent)
