"""Checkpoints side by side: values with standard errors, paired differences, tests and verdicts.

docs/statistics.md says what each number means and why it is chosen; compare_view.py shows them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from soar_bench.core.differences import differences
from soar_bench.core.digests import digest_of
from soar_bench.core.errors import SoarBenchError
from soar_bench.records import Run
from soar_bench.records import metrics_of as metrics_of
from soar_bench.records import primary_metric as primary_metric
from soar_bench.records.folders import find as find
from soar_bench.records.model import MetricRecord
from soar_bench.stats import (
    CONFIDENCE,
    Estimate,
    Pair,
    bootstrap_interval,
    effect_size,
    holm,
    images_needed,
    interval_of,
    over_seeds,
    pair_of,
    prompts_needed,
    sign_flip,
)

#: The two kinds of intervals.
ANALYTIC, BOOTSTRAP = "analytic", "bootstrap"
BETTER, WORSE = "better", "worse"
#: Ends the verdict where the two sides were not measured alike.
NOT_ALIKE = " (not measured alike)"
#: What the names of tests mean.
TESTS = {
    "t": "paired t-test on prompt means",
    "McNemar": "McNemar's exact test",
    "sign-flip": "exact sign-flip test by prompt",
    "sign-flip, drawn": "sign-flip test by prompt, from random flips",
}
#: What the t-test holds besides where there are several training seeds.
SEEDS = " and, where there are several, training seeds"
_UNKNOWN = (math.nan, math.nan)


@dataclass(frozen=True)
class Entrant:
    """One row of a board: a checkpoint, or the seeds of one training."""

    name: str
    runs: tuple[Run, ...]
    #: the runs' scores, in the same order
    scores: tuple[pd.DataFrame, ...]

    def of(self, metric: str) -> list[pd.DataFrame]:
        return [scores[scores["metric"] == metric] for scores in self.scores]

    def value(self, metric: str, aggregate: str) -> Estimate:
        return over_seeds(self.of(metric), aggregate)


def entrants(runs: Sequence[Run]) -> list[Entrant]:
    """Groups runs that differ by training seed alone; checkpoints that were not trained come first.

    The same checkpoint twice counts once; two checkpoints of one training and seed are refused,
    because they would pass for two seeds. Runs that were not measured alike are never one entrant.
    Entrants of one name are told apart by how they were measured, by their step or, if that does
    not, by a part of their digest.
    """
    several = len({run.board for run in runs}) > 1
    groups: dict[str, dict[str, Run]] = {}
    for run in sorted(runs, key=lambda run: run.seed is not None):
        key = digest_of([run.group, run.board]) if several else run.group
        group = groups.setdefault(key, {})
        digest = run.record.checkpoint.digest
        twin = next((r for d, r in group.items() if d != digest and r.seed == run.seed), None)
        if twin is not None:
            raise SoarBenchError(
                f"{twin.folder} and {run.folder} are two checkpoints of one training and seed: "
                "remove one of them"
            )
        group.setdefault(digest, run)
    members = {
        key: sorted(group.values(), key=lambda r: r.seed or 0) for key, group in groups.items()
    }
    names = _tell_apart({key: group[0] for key, group in members.items()}, several)
    return [
        Entrant(names[key], tuple(group), tuple(run.scores() for run in group))
        for key, group in members.items()
    ]


def _tell_apart(first: Mapping[str, Run], several: bool) -> dict[str, str]:
    """A name for each group: its own, with what tells it apart where another has the same.
    ``several``: whether they stand on several boards.
    """
    names = {key: run.name for key, run in first.items()}
    boards = {
        key: f", {run.record.suite.name} under {run.record.protocol.name}"
        for key, run in first.items()
    }
    steps = {
        key: "" if run.imported else f", step {run.training.get('step', 0)}"
        for key, run in first.items()
    }
    parts = {key: f" ({key[:6]})" for key in first}
    for suffix in ([boards] if several else []) + [steps, parts]:
        times = Counter(names.values())
        names = {k: name + suffix[k] if times[name] > 1 else name for k, name in names.items()}
    return names


def mismatches(runs: Sequence[Run]) -> list[str]:
    """How runs were not measured like the first of them, a sentence a board; empty if all were."""
    first = runs[0]
    sentences: dict[str, str] = {}
    for run in runs[1:]:
        if run.board == first.board or run.board in sentences:
            continue
        different = "; ".join(
            f"{name}: {left} and {right}"
            for name, left, right in differences(first.decides, run.decides)
        )
        named = [one.label for one in (first, run)]
        if named[0] == named[1]:
            named = [f"{one.label} under {one.record.protocol.name}" for one in (first, run)]
        sentences[run.board] = f"{' and '.join(named)} were not measured alike ({different})"
    return list(sentences.values())


def check_same_board(runs: Sequence[Run]) -> None:
    """Raises SoarBenchError naming the settings in which runs differ that must not."""
    for sentence in mismatches(runs):
        raise SoarBenchError(
            f"{sentence} and cannot be compared; --anyway compares what they have in common"
        )


def board_of(given: Sequence[Sequence[Run]], anyway: bool = False) -> list[Entrant]:
    """The entrants of what a user named, in that order; within a folder, what was not trained comes
    first. SoarBenchError if they are less than two or, unless ``anyway``, not measured alike.
    """
    runs = [run for part in given for run in part]
    if not anyway:
        check_same_board(runs)
    place = {
        run.folder.resolve(): i for i, part in reversed(list(enumerate(given))) for run in part
    }
    board = sorted(
        entrants(runs), key=lambda one: min(place[run.folder.resolve()] for run in one.runs)
    )
    if len(board) < 2:
        raise SoarBenchError(f"comparing needs two checkpoints: there is one, {board[0].name}")
    return board


def only(rows: Sequence[Row], metrics: Sequence[str]) -> list[Row]:
    """The rows of these metrics, of all if none is named. SoarBenchError for unknown names."""
    known = list(dict.fromkeys(row.metric for row in rows))
    for metric in metrics:
        if metric not in known:
            raise SoarBenchError(
                f"there is no metric {metric!r} here: there are {', '.join(known)}"
            )
    return [row for row in rows if not metrics or row.metric in metrics]


@dataclass(frozen=True)
class Row:
    """One metric of one entrant, and how it differs from the first entrant.

    Numbers are NaN where they cannot be known, and for the first entrant. Differences have the
    metric's sign; wins, losses and odds are in its direction: a win is better.
    """

    metric: str
    entrant: str
    value: Estimate
    #: paired difference to the first entrant; None for the first itself
    difference: Estimate | None
    verdict: str
    #: whether more of the metric is better
    higher_is_better: bool = True
    unit: str = ""
    #: of the intervals, and 1 - level is the error rate of the verdict
    level: float = CONFIDENCE
    value_interval: tuple[float, float] = _UNKNOWN
    #: the difference's
    interval: tuple[float, float] = _UNKNOWN
    #: which intervals are shown: :data:`ANALYTIC` or :data:`BOOTSTRAP`
    value_interval_by: str = ""
    interval_by: str = ""
    p_value: float = math.nan
    #: by Holm's method over the metrics of this entrant
    p_corrected: float = math.nan
    #: how many tests were corrected for
    tests: int = 0
    #: which test the p-value is from: see :data:`TESTS`; empty where there is none
    test: str = ""
    #: Cohen's d_z
    effect: float = math.nan
    #: for right and wrong: images that only this one has right for each that only the first has
    odds: float = math.nan
    #: prompts
    wins: int = 0
    ties: int = 0
    losses: int = 0
    #: prompts, and images of each prompt, to see the difference that was observed
    needed: float = math.nan
    needed_images: float = math.nan
    #: the same for a difference of ``detect``
    detect: float = math.nan
    detect_prompts: float = math.nan
    detect_images: float = math.nan
    #: False if the two sides were not measured alike
    alike: bool = True

    @property
    def disagrees(self) -> bool:
        """Whether the verdict says another thing than the interval, which is not corrected."""
        low, high = self.interval
        if math.isnan(low):
            return False
        return (low > 0 or high < 0) != self.verdict.startswith((BETTER, WORSE))


def compare(
    board: Sequence[Entrant],
    level: float = CONFIDENCE,
    detect: float | None = None,
    interval: str = ANALYTIC,
    anyway: bool = False,
) -> list[Row]:
    """Every metric of every entrant against the first entrant.

    ``detect`` is a difference, in the metrics' own units, for which the number of prompts is
    wanted. SoarBenchError unless all were measured alike; with ``anyway``, metrics and prompts that
    all have are compared, and every row says that they were not.
    """
    runs = [run for entrant in board for run in entrant.runs]
    declared = dict(metrics_of(runs[0]))
    if not anyway:
        check_same_board(runs)
    if mismatches(runs):
        declared = _common_metrics(board)
        board = _common_samples(board)
    rows = []
    for entrant in board:
        beside = runs if entrant is board[0] else [runs[0], *entrant.runs]
        alike = not mismatches(beside)
        of_entrant = [
            _row(entrant, board[0], metric, one, level, detect, interval)
            for metric, one in declared.items()
        ]
        corrected = holm([row.p_value for row in of_entrant])
        tests = sum(not math.isnan(p) for p in corrected)
        for row, p in zip(of_entrant, corrected, strict=True):
            words = verdict(row.difference, row.higher_is_better, p, level)
            if words and not alike:
                words += NOT_ALIKE
            rows.append(replace(row, p_corrected=p, tests=tests, verdict=words, alike=alike))
    order = list(declared)
    return sorted(rows, key=lambda row: order.index(row.metric))


def _row(
    entrant: Entrant,
    first: Entrant,
    metric: str,
    declared: MetricRecord,
    level: float,
    detect: float | None,
    interval: str,
) -> Row:
    """One row without what depends on the other metrics."""
    aggregate, higher = declared.aggregate, declared.higher_is_better
    scores = entrant.of(metric)
    value = over_seeds(scores, aggregate)
    by = interval if value.seeds == 1 else ANALYTIC
    boot = by == BOOTSTRAP
    row = Row(
        metric=metric,
        entrant=entrant.name,
        value=value,
        difference=None,
        verdict="",
        higher_is_better=higher,
        unit=declared.unit,
        level=level,
        value_interval=_boot(scores, aggregate, level) if boot else value.interval(level),
        value_interval_by=by,
    )
    if entrant is first:
        return row
    pair = pair_of(scores, first.of(metric), aggregate)
    difference = pair.difference
    p_value, test = _test(pair)
    wins, ties, losses = pair.wins
    ratio = pair.odds
    if not higher:
        wins, losses, ratio = losses, wins, 1 / ratio if ratio else math.nan
    by = ANALYTIC if pair.over_seeds else interval
    wanted = math.nan if detect is None else detect
    return replace(
        row,
        difference=difference,
        interval=interval_of(pair.clusters, difference, level)
        if by == BOOTSTRAP
        else difference.interval(level),
        interval_by=by,
        p_value=p_value,
        test=test,
        effect=effect_size(difference),
        odds=ratio,
        wins=wins,
        ties=ties,
        losses=losses,
        needed=prompts_needed(difference, difference.value, level=level),
        needed_images=images_needed(difference, difference.value, level=level),
        detect=wanted,
        detect_prompts=prompts_needed(difference, wanted, level=level),
        detect_images=images_needed(difference, wanted, level=level),
    )


def _boot(scores: Sequence[pd.DataFrame], aggregate: str, level: float) -> tuple[float, float]:
    """The bootstrap interval of the one run that has scores."""
    scored = [run for run in scores if run["value"].notna().any()]
    return bootstrap_interval(scored[0], aggregate, level) if scored else _UNKNOWN


def _test(pair: Pair) -> tuple[float, str]:
    """The p-value and which test it is from.

    Exact for right and wrong, by t otherwise. Several training seeds have a part in the error that
    no flip of prompts knows of, so that they are tested by t whatever the scores. Where the
    differences do not vary there is no t; that all of them have one sign is still a test.
    """
    difference = pair.difference
    if difference.prompts < 2:
        return math.nan, ""
    constant = difference.standard_error == 0
    if pair.over_seeds or not (pair.binary or constant):
        p_value = difference.p_value()
        return p_value, "" if math.isnan(p_value) else "t"
    p_value, exact = sign_flip(pair.clusters)
    if pair.binary and pair.single_image and pair.one_stratum:
        return p_value, "McNemar"
    return p_value, "sign-flip" if exact else "sign-flip, drawn"


def _common_metrics(board: Sequence[Entrant]) -> dict[str, MetricRecord]:
    """The metrics that all entrants have by one name and direction, as the first declares them."""
    first, *others = [dict(metrics_of(run)) for entrant in board for run in entrant.runs]
    common = {
        name: declared
        for name, declared in first.items()
        if all(
            name in other and other[name].higher_is_better == declared.higher_is_better
            for other in others
        )
    }
    if not common:
        raise SoarBenchError(
            "the runs have no metric in common: " + " and ".join(map(", ".join, (first, *others)))
        )
    return common


def _common_samples(board: Sequence[Entrant]) -> list[Entrant]:
    """The entrants' scores of the samples, the same by prompt id, text and index, that all have;
    tasks are the first's.
    """
    every = [scores for entrant in board for scores in entrant.scores]
    tasks = dict(zip(_samples(every[0]), every[0]["task"], strict=True))
    common = set(tasks).intersection(*map(_samples, every[1:]))
    if not common:
        raise SoarBenchError(
            "the runs have no prompt in common: none has the same id and text in all of them"
        )

    def restricted(scores: pd.DataFrame) -> pd.DataFrame:
        keys = _samples(scores)
        inside = scores[[key in common for key in keys]]
        return inside.assign(task=[tasks[key] for key in keys if key in common])

    return [replace(one, scores=tuple(map(restricted, one.scores))) for one in board]


def _samples(scores: pd.DataFrame) -> list[tuple[str, str, int]]:
    """Prompt id, text and index of each row."""
    return list(zip(scores["prompt_id"], scores["prompt"], scores["index"], strict=True))


def verdict(
    difference: Estimate | None,
    higher_is_better: bool,
    p_value: float | None = None,
    level: float = CONFIDENCE,
) -> str:
    """The difference in plain words; "better" and "worse" only for a p-value up to 1 - level.

    ``p_value`` is the corrected one; without it, that of the t-test: it agrees with the interval.
    """
    if difference is None:
        return ""
    if not difference.scored:
        return "nothing in common to compare"
    if difference.prompts > 1 and difference.value == 0 and difference.standard_error == 0:
        return "equal on every prompt"
    p_value = difference.p_value() if p_value is None else p_value
    if math.isnan(p_value):
        return "too few prompts or seeds to tell"
    if p_value > 1 - level:
        return "no evidence of a difference at this size"
    return BETTER if (difference.value > 0) == higher_is_better else WORSE


def format_value(found: Estimate) -> str:
    """Value ± standard error; without it where it is not known."""
    if not found.scored:
        return "-"
    if not found.standard_error > 0:
        return f"{found.value:.3f}"
    return f"{found.value:.3f} ± {found.standard_error:.3f}"


def format_difference(
    found: Estimate | None, interval: tuple[float, float] | None = None, level: float = CONFIDENCE
) -> str:
    """Difference [interval]; without it where it is not known."""
    if found is None or not found.scored:
        return "-"
    low, high = found.interval(level) if interval is None else interval
    if math.isnan(low):
        return f"{found.value:+.3f}"
    return f"{found.value:+.3f} [{low:+.3f}, {high:+.3f}]"
