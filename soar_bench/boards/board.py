"""One board: entrants on the same samples, with every number that any page shows of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property

import numpy as np
import pandas as pd

from soar_bench.boards.entrants import Entrant
from soar_bench.core.errors import SoarBenchError
from soar_bench.records import Run, metrics_of
from soar_bench.records.model import MetricRecord
from soar_bench.records.run import rows_of
from soar_bench.stats import CONFIDENCE, Estimate, Pair, Scores, ScoreTable, interval_of

_NOTHING = Scores(pd.Index([], dtype=str), pd.Index([], dtype=str), np.zeros(0, int), np.zeros(0))


class ScoredRun(Run):
    """A run whose scores are read once, without the text and details that no board needs."""

    @cached_property
    def by_metric(self) -> dict[str, Scores]:
        """The scores by metric. SoarBenchError as for :meth:`scores`."""
        return _by_metric(self, self.scores())


def _by_metric(run: Run, frame: pd.DataFrame) -> dict[str, Scores]:
    """Return the scores of a run by metric; ``frame`` has rows of its ``scores.parquet``."""
    metrics = dict(metrics_of(run))
    codes, names = pd.factorize(frame["metric"].array)
    frame = frame[["task", "prompt_id", "index", "value", "details"]]
    return {
        name: Scores.of(rows_of(frame[codes == code], metrics[name]))
        for code, name in enumerate(map(str, names))
        if name in metrics
    }


class Board:
    """Entrants whose samples are aligned, metric by metric."""

    def __init__(
        self,
        entrants: Sequence[Entrant],
        metrics: Mapping[str, MetricRecord],
        scores: Sequence[Sequence[Mapping[str, Scores]]],
    ) -> None:
        """``scores`` are those of each run of each entrant, by metric."""
        self.entrants = tuple(entrants)
        self.metrics = dict(metrics)
        self._scores = scores
        self._tables: dict[str, ScoreTable] = {}

    @classmethod
    def of(cls, entrants: Sequence[Entrant]) -> Board:
        """Return the board of entrants that were measured alike.

        SoarBenchError if scores cannot be read.
        """
        metrics, *others = [dict(metrics_of(run)) for entrant in entrants for run in entrant.runs]
        for other in others:  # records from before a metric was declared so are among them
            special = {name: m for name, m in other.items() if m.stratified or m.skewed}
            metrics |= {name: m for name, m in special.items() if name in metrics}
        scores = [
            [r.by_metric if isinstance(r, ScoredRun) else _by_metric(r, r.scores()) for r in e.runs]
            for e in entrants
        ]
        return cls(entrants, metrics, scores)

    @classmethod
    def in_common(cls, entrants: Sequence[Entrant]) -> Board:
        """Return the board of what entrants that were not measured alike have in common: metrics of
        one name and direction, and samples of one prompt id, text and index. Tasks and units are
        the first entrant's. SoarBenchError if there is no such metric or sample.
        """
        metrics = _common_metrics(entrants)
        frames = [[run.scores() for run in entrant.runs] for entrant in entrants]
        first = frames[0][0]
        tasks = dict(zip(_samples(first), first["task"], strict=True))
        common = set(tasks).intersection(*(_samples(f) for seeds in frames for f in seeds))
        if not common:
            raise SoarBenchError(
                "the runs have no prompt in common: none has the same id and text in all of them"
            )

        def restricted(frame: pd.DataFrame) -> pd.DataFrame:
            samples = _samples(frame)
            inside = frame[[sample in common for sample in samples]]
            return inside.assign(task=[tasks[sample] for sample in samples if sample in common])

        scores = [
            [_by_metric(run, restricted(f)) for run, f in zip(entrant.runs, seeds, strict=True)]
            for entrant, seeds in zip(entrants, frames, strict=True)
        ]
        return cls(entrants, metrics, scores)

    def only(self, keep: Callable[[Scores], np.ndarray]) -> Board:
        """Return the board of the samples for which ``keep`` gives True, [samples]."""
        scores = [
            [{metric: s.only(keep(s)) for metric, s in run.items()} for run in seeds]
            for seeds in self._scores
        ]
        return Board(self.entrants, self.metrics, scores)

    def part(self, prompts: Collection[str]) -> Board:
        """Return the board of the prompts with these ids, each metric as a plain mean. Its numbers
        are there, but not its single scores.
        """
        part = Board(self.entrants, self.metrics, ())
        part._tables = {name: self.table(name).of_prompts(prompts) for name in self.metrics}
        return part

    @property
    def runs(self) -> tuple[Run, ...]:
        """Every run, seed by seed, in the order of the entrants."""
        return tuple(run for entrant in self.entrants for run in entrant.runs)

    def scores_of(self, entrant: int, seed: int) -> Mapping[str, Scores]:
        """Return the scores of one run of an entrant by metric."""
        return self._scores[entrant][seed]

    def table(self, metric: str) -> ScoreTable:
        """Return all scores of a metric, one row per run."""
        if metric not in self._tables:
            scores = [[run.get(metric) for run in seeds] for seeds in self._scores]
            if not any(run is not None for seeds in scores for run in seeds):
                scores = [[_NOTHING for _ in seeds] for seeds in scores]
            declared = self.metrics[metric]
            self._tables[metric] = ScoreTable.of(
                scores, declared.mean, declared.shares, declared.skewed, declared.of_run
            )
        return self._tables[metric]

    def value(self, entrant: int, metric: str) -> Estimate:
        """Return an entrant's value over its seeds."""
        return self.table(metric).value(entrant)

    def interval(
        self, entrant: int, metric: str, level: float = CONFIDENCE, resampled: bool = False
    ) -> tuple[float, float]:
        """Return the interval of :meth:`value`, cut off at the ends of the metric's range: by t or
        the bootstrap (``resampled``), for right and wrong by Wilson's method, for skewed scores by
        Hall's.
        """
        table = self.table(metric)
        value = table.value(entrant)
        ends = value.interval(level)
        if resampled and not value.binary:
            ends = interval_of(table.clusters(entrant), value, level)
        return within(ends, self.metrics[metric])

    def pair(self, entrant: int, base: int, metric: str) -> Pair:
        """Return how an entrant differs from another on the samples that both have."""
        return self.table(metric).pair(entrant, base)


def within(ends: tuple[float, float], metric: MetricRecord) -> tuple[float, float]:
    """Return an interval without what lies outside the metric's range; NaN stays NaN."""
    low, high = np.clip(ends, *metric.range)
    return float(low), float(high)


def _common_metrics(entrants: Sequence[Entrant]) -> dict[str, MetricRecord]:
    """Return the metrics that all runs have by one name and direction, as the first declares."""
    first, *others = [dict(metrics_of(run)) for entrant in entrants for run in entrant.runs]

    def alike(name: str, other: dict[str, MetricRecord]) -> bool:
        return name in other and other[name].higher_is_better == first[name].higher_is_better

    common = {n: metric for n, metric in first.items() if all(alike(n, o) for o in others)}
    if not common:
        raise SoarBenchError(
            "the runs have no metric in common: " + " and ".join(map(", ".join, (first, *others)))
        )
    return common


def _samples(frame: pd.DataFrame) -> list[tuple[str, str, int]]:
    """Return prompt id, text and index of each row."""
    return list(zip(frame["prompt_id"], frame["prompt"], frame["index"], strict=True))
