"""Check a record against its own scores, the suite, the noise rule and the images in the cache.

Imports no torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from evaluators import registry
from soar_bench.checkpoints import hub, is_here, resolve
from soar_bench.core.differences import differences
from soar_bench.core.errors import EvaluatorError, SoarBenchError
from soar_bench.core.images import digest_image
from soar_bench.core.text import first_few
from soar_bench.core.threads import in_threads
from soar_bench.records.assembly import summaries
from soar_bench.records.delete import samples_of, store_of
from soar_bench.records.folders import Entry
from soar_bench.records.run import Run, metrics_of
from soar_bench.sampling.noise import noise_key
from soar_bench.scoring.judges import Judge
from soar_bench.suites import get_suite
from soar_bench.suites.types import PlannedSample, plan

State = Literal["ok", "wrong", "not checked"]

#: Recomputed means may differ by so much, relative to their size.
_ROUNDING = 1e-9
_READERS = 8


@dataclass(frozen=True)
class Finding:
    """Outcome of one check of one record."""

    #: the record's id
    run: str
    check: str
    state: State
    #: faults, or why it was not checked
    text: str = ""


class _NotChecked(Exception):
    """Why a check cannot be made here."""


def verify(entry: Entry, cache: Path, deep: bool = False) -> list[Finding]:
    """Return the outcome of every check. Never fails because of what the record says.

    ``deep`` also compares the checkpoint and the evaluators' weights with the recorded digests.
    """
    if entry.run is None:
        return [Finding(entry.id, "record", "wrong", entry.fault)]
    try:
        scores = entry.run.scores()
    except SoarBenchError as error:
        return [Finding(entry.id, "record", "ok"),
                Finding(entry.id, "scores", "wrong", str(error))]  # fmt: skip
    findings = [Finding(entry.id, "record", "ok")]
    for name, check in (_CHECKS | _DEEP if deep else _CHECKS).items():
        wrong: list[str] = []
        state: State = "ok"
        try:
            for fault in check(entry.run, scores, cache):
                state = "wrong"
                wrong.append(fault)
        except _NotChecked as reason:
            state = "wrong" if wrong else "not checked"
            wrong.append(str(reason))
        except (TypeError, ValueError, KeyError) as error:  # the record is not what it should be
            state = "wrong"
            wrong.append(f"it cannot be read: {error}")
        findings.append(Finding(entry.id, name, state, "; ".join(wrong)))
    return findings


def _scores(run: Run, scores: pd.DataFrame, cache: Path) -> Iterator[str]:
    """Reading has compared the digest already."""
    rows = run.record.scores.rows
    if rows != len(scores):
        yield f"{len(scores)} rows, not the {rows} that the record names"


def _samples(run: Run, scores: pd.DataFrame, cache: Path) -> Iterator[str]:
    """Every planned sample stands exactly once per metric, with one text, noise and image."""
    suite = run.record.suite
    declared = [name for name, _ in metrics_of(run)]
    undeclared = sorted(set(scores["metric"]) - set(declared))
    if undeclared:
        yield f"scores of {', '.join(undeclared)}, which no evaluator of the record gives"
    prompts = scores["prompt_id"].nunique()
    if prompts != suite.prompts:
        yield f"{prompts} prompts, not {suite.prompts}"
    samples = set(scores[["prompt_id", "index"]].itertuples(index=False, name=None))
    count = suite.images_per_prompt
    if isinstance(count, int):
        planned = {(p, i) for p in scores["prompt_id"].unique() for i in range(count)}
        yield from _differences("samples", planned, scores)
    for metric in declared:
        rows = scores.loc[scores["metric"] == metric, ["prompt_id", "index"]]
        repeated = int(rows.duplicated().sum())
        missing = len(samples - set(rows.itertuples(index=False, name=None)))
        if repeated or missing:
            yield f"{metric}: {missing} samples are missing, {repeated} stand there again"
    columns = ["prompt", "task", "noise", "image"]
    values = scores.groupby(["prompt_id", "index"])[columns].nunique()
    for column in values.columns[(values != 1).any()]:
        yield f"samples have more than one {column}"
    # Another tool's results name no pixels.
    fits = re.compile("([0-9a-f]{64})?" if run.record.checkpoint.tool else "[0-9a-f]{64}")
    damaged = [d for d in scores["image"].unique() if not fits.fullmatch(str(d))]
    if damaged:
        yield f"{len(damaged)} images have no digest ({_some(damaged)})"


def _values(run: Run, scores: pd.DataFrame, cache: Path) -> Iterator[str]:
    """A value or a reason for having none, never both; values in their range."""
    has, why = scores["value"].notna(), scores["unscored"] != ""
    neither, both = int((~has & ~why).sum()), int((has & why).sum())
    if neither:
        yield f"{neither} rows have neither a value nor a reason for having none"
    if both:
        yield f"{both} rows have both a value and a reason for having none"
    for metric, declared in metrics_of(run):
        values = scores.loc[(scores["metric"] == metric) & has, "value"]
        low, high = declared.range
        outside = values[(values < low) | (values > high) | ~values.abs().lt(math.inf)]
        if len(outside):
            yield f"{metric}: {len(outside)} values outside {low} to {high} ({_some(outside)})"


def _metrics(run: Run, scores: pd.DataFrame, cache: Path) -> Iterator[str]:
    """The values of run.json are those of the scores."""
    recorded, computed = run.record.metrics, summaries(scores, run.record.evaluators)
    if set(recorded) != set(computed):
        yield f"run.json has values of {_some(sorted(recorded))}, not {_some(sorted(computed))}"
    for metric in recorded.keys() & computed.keys():
        summary, here = recorded[metric], computed[metric]
        for name in ("value", "standard_error", "scored", "unscored"):
            stated, value = getattr(summary, name), getattr(here, name)
            if not _equal(stated, value):
                number = "nan" if value is None else f"{value:.6g}"
                yield f"{metric}: {name} is {number} by the scores, {stated} in run.json"
        for task in sorted({*summary.tasks, *filter(None, here.tasks)}):
            if not _equal(summary.tasks.get(task), here.tasks.get(task)):
                yield f"{metric}: the mean of {task} is not that of the scores"


def _noise(run: Run, scores: pd.DataFrame, cache: Path) -> Iterator[str]:
    """Every sample's noise is what seed, prompt id and index give."""
    rows = scores[["prompt_id", "index", "noise"]].drop_duplicates()
    if run.imported:
        wrong = [str(noise) for noise in rows["noise"] if noise]
        if wrong:
            yield f"{len(wrong)} images from elsewhere have noise"
        return
    version = run.record.protocol.settings.get("noise")
    if version != "philox-1":
        raise _NotChecked(f"this soar-bench does not know the noise {version!r}")
    seed = run.record.suite.seed or 0  # a record of images made here has one
    wrong = [
        f"{identity} {index}"
        for identity, index, noise in rows.itertuples(index=False)
        if f"{noise_key(seed, identity, int(index)):032x}" != noise
    ]
    if wrong:
        yield f"{len(wrong)} samples have other noise than seed, id and index give ({_some(wrong)})"


def _suite(run: Run, scores: pd.DataFrame, cache: Path) -> Iterator[str]:
    """The suite as it is now has the recorded digest, and the samples are its."""
    recorded = run.record.suite
    if run.imported:
        raise _NotChecked("the prompts came with images from elsewhere")
    try:
        suite = get_suite(recorded.source or recorded.name, seed=recorded.seed)
    except SoarBenchError as error:
        raise _NotChecked(str(error)) from None
    if suite.digest() != recorded.digest:
        yield (
            f"{recorded.source or recorded.name} is another suite now "
            f"({suite.digest()[:12]}, recorded {recorded.digest[:12]})"
        )
        return
    samples = plan(suite, int(recorded.images_per_prompt))
    planned = {(s.prompt.id, s.index, s.prompt.text, s.prompt.task) for s in samples}
    yield from _differences("samples of the suite", planned, scores, ["prompt", "task"])


def _images(run: Run, scores: pd.DataFrame, cache: Path) -> Iterator[str]:
    """Images that are in the cache have the recorded digests."""
    store = store_of(run, cache)
    if store is None:
        raise _NotChecked("images from elsewhere are not in the cache")
    rows = scores[["prompt_id", "index", "image"]].drop_duplicates()
    recorded = {(p, int(i)): digest for p, i, digest in rows.itertuples(index=False)}
    samples = samples_of(scores)
    here = [sample for sample in samples if store.file(sample).exists()]
    if not here:
        raise _NotChecked(f"none of the {len(samples)} images is in {cache}")

    def read(sample: PlannedSample) -> str | None:
        image = store.read(sample)
        return None if image is None else digest_image(image)

    digests = zip(here, in_threads(read, here, _READERS), strict=True)
    named = [(f"{s.prompt.id} {s.index}", d, recorded[s.prompt.id, s.index]) for s, d in digests]
    damaged = [name for name, digest, _ in named if digest is None]
    other = [name for name, digest, scored in named if digest not in (None, scored)]
    if damaged:
        yield f"{len(damaged)} images in {store.folder} are damaged ({_some(damaged)})"
    if other:
        yield f"{len(other)} images in {store.folder} are others than those scored ({_some(other)})"
    if len(here) < len(samples) and not damaged and not other:
        raise _NotChecked(
            f"{len(samples) - len(here)} of {len(samples)} images are not in {cache}; "
            f"the other {len(here)} are those that were scored"
        )


def _checkpoint(run: Run, scores: pd.DataFrame, cache: Path) -> Iterator[str]:
    """The checkpoint, with its base, has the recorded digest."""
    recorded = run.record.checkpoint
    name, base = hub.at_commit(recorded.name, recorded.revision), recorded.base
    if run.imported:
        raise _NotChecked("images from elsewhere have no checkpoint")
    absent = [n for n in (name, base.name if base else name) if not is_here(n)]
    if absent:
        raise _NotChecked(f"{absent[0]} is not here")
    try:
        digest = resolve(name, base.name if base else None).digest
    except SoarBenchError as error:  # damaged, so that it cannot be judged any more
        yield str(error)
        return
    if digest != recorded.digest:
        yield f"{name} is another one now ({digest[:12]}, recorded {recorded.digest[:12]})"


def _evaluators(run: Run, scores: pd.DataFrame, cache: Path) -> Iterator[str]:
    """The evaluators have the recorded weights. Code that a record names is not run."""
    unknown = []
    for name, recorded in run.record.evaluators.items():
        if not _is_installed(recorded.given):
            unknown.append(f"{recorded.given} is no installed evaluator")
            continue
        try:
            judge = Judge.of(recorded.given, recorded.identity.get("dtype"))
        except EvaluatorError as error:  # such as a reference set that is not here
            unknown.append(str(error))
            continue
        if any(weights.missing() for weights in judge.evaluator.weights):
            unknown.append(f"the weights of {name} are not here")
        elif judge.problem:
            yield judge.problem
        else:
            for key, before, here in differences(dict(recorded.identity), judge.identity):
                yield f"{name} is another one now: {key} was {before}, is {here}"
    if unknown:
        raise _NotChecked("; ".join(unknown))


def _is_installed(evaluator: str) -> bool:
    try:
        return not registry.is_local(evaluator)
    except EvaluatorError:
        return False


_CHECKS: dict[str, Callable[[Run, pd.DataFrame, Path], Iterator[str]]] = {
    "scores": _scores,
    "samples": _samples,
    "values": _values,
    "metrics": _metrics,
    "noise": _noise,
    "suite": _suite,
    "images": _images,
}

_DEEP: dict[str, Callable[[Run, pd.DataFrame, Path], Iterator[str]]] = {
    "checkpoint": _checkpoint,
    "evaluators": _evaluators,
}


def _equal(stated: float | None, computed: float | None) -> bool:
    if stated is None or computed is None:
        return stated is computed
    return math.isclose(stated, computed, rel_tol=_ROUNDING, abs_tol=1e-12)


def _differences(
    noun: str, planned: set[Any], scores: pd.DataFrame, columns: Sequence[str] = ()
) -> Iterator[str]:
    columns = ["prompt_id", "index", *columns]
    samples = set(scores[columns].itertuples(index=False, name=None))
    missing, unplanned = len(planned - samples), len(samples - planned)
    if missing or unplanned:
        yield f"{missing} {noun} are missing, {unplanned} are there that should not be"


def _some(values: Sequence[Any] | pd.Series[Any]) -> str:
    return first_few(
        [f"{value:.6g}" if isinstance(value, float) else str(value)[:40] for value in values]
    )
