"""Make a run again from nothing but its record, and compare: ``soar-bench rerun``.

Images and scores are made in a folder of their own, so that nothing kept from before helps; the
record and its cache are only read. A stopped rerun goes on; a finished one is made anew.
"""

from __future__ import annotations

import math
import shlex
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from evaluators import registry
from soar_bench.checkpoints import hub
from soar_bench.checkpoints.types import IN_MEMORY
from soar_bench.core.differences import differences
from soar_bench.core.errors import SoarBenchError
from soar_bench.core.packages import installed
from soar_bench.records import RUN_FILE, Run, metrics_of
from soar_bench.records.model import RunRecord
from soar_bench.suites import get_suite
from soar_bench.suites.protocols import from_settings
from soar_bench.suites.types import Protocol, Suite

if TYPE_CHECKING:
    from soar_bench.checkpoints import Checkpoint
    from soar_bench.evaluation import Options

#: Scores are equal if they differ by no more than this part of their metric's scale.
TOLERANCE = 1e-5

_SAMPLE = ["prompt_id", "index"]


@dataclass(frozen=True)
class Again:
    """A run to be made again, resolved and compared with what is here now."""

    original: Run
    checkpoint: Checkpoint
    suite: Suite
    protocol: Protocol
    options: Options
    #: sentences about another checkpoint or suite of the same name
    others: tuple[str, ...]
    #: sentences about everything else that differs already
    changes: tuple[str, ...]


def plan_again(
    run: Run,
    output: Path,
    *,
    results: Path | None = None,
    device: str | None = None,
    batch_size: int | None = None,
    evaluators: Sequence[str] = (),
) -> Again:
    """Resolve the names in a record, and compare them with what is here.

    A record is data: a file or module that it names as an evaluator is run only where
    ``evaluators`` repeats it.

    ``results`` is where records are, so that the rerun does not stand among them; device and batch
    size are the recorded ones by default. SoarBenchError if the record is of images from elsewhere
    or anything that it names is not here.
    """
    if run.imported:
        raise SoarBenchError(_score_command(run))
    if results is not None and results.resolve() in (output.resolve(), *output.resolve().parents):
        raise SoarBenchError(
            f"{output} is inside {results}, where a rerun would pass for a run: choose another "
            "--output"
        )
    from soar_bench.checkpoints import resolve
    from soar_bench.core.devices import choose
    from soar_bench.evaluation import Options

    record = run.record
    for evaluator in record.evaluators.values():
        if registry.is_local(evaluator.given) and evaluator.given not in evaluators:
            raise SoarBenchError(
                f"the record names code of its own as an evaluator ({evaluator.given}): look at "
                f"it, and run the same command with --evaluators {shlex.quote(evaluator.given)}"
            )
    recorded, suite, made = record.checkpoint, record.suite, record.made
    base = recorded.base.name if recorded.base else None
    checkpoint = resolve(hub.at_commit(recorded.name, recorded.revision), base)
    prompts = get_suite(suite.source or suite.name, seed=suite.seed)
    place = output / run.folder.resolve().name
    precisions = (evaluator.identity.get("dtype") for evaluator in record.evaluators.values())
    chosen = choose(device or made.device.partition(" ")[0] or "cpu")
    options = Options(
        results=place / "results",
        cache=place / "cache",
        images_per_prompt=int(suite.images_per_prompt),
        evaluators=tuple(evaluator.given for evaluator in record.evaluators.values()),
        batch_size=batch_size or made.batch_size,
        device=chosen,
        # Where a precision was chosen it is part of an identity.
        evaluator_dtype=next(filter(None, precisions), None),
    )
    others = tuple(
        f"the {kind} {name} is another one now (digest {now[:12]}, recorded {digest[:12]})"
        for kind, name, digest, now in (
            ("checkpoint", recorded.name, recorded.digest, checkpoint.digest),
            ("suite", suite.source or suite.name, suite.digest, prompts.digest()),
        )
        if digest != now
    )
    protocol = from_settings(record.protocol.name, record.protocol.settings)
    changes = tuple(_changes(record, options))
    return Again(run, checkpoint, prompts, protocol, options, others, changes)


def _changes(record: RunRecord, options: Options) -> Iterator[str]:
    from soar_bench.core.devices import describe
    from soar_bench.records.assembly import evaluator_record
    from soar_bench.scoring.judges import Judge

    for name, recorded in record.evaluators.items():
        judge = Judge.of(recorded.given, options.evaluator_dtype)
        for key, before, here in differences(recorded.decides, evaluator_record(judge).decides):
            yield f"the evaluator {name} is another one: {key} was {before}, is {here}"
        here = judge.version or "absent"
        if recorded.version and recorded.version != here:
            yield f"the evaluator {name} was of version {recorded.version}, is of {here}"
    made = record.made
    for package, before in made.versions.items():
        here = installed(package) or "absent"
        if here != before:
            yield f"{package} was {before}, is {here}"
    before, here = made.device or None, describe(options.device)
    if before != here:
        yield f"the device was {before}, is {here}"
    if made.batch_size != options.batch_size:
        yield f"the batch size was {made.batch_size}, is {options.batch_size}"
    if made.processes != 1:
        yield f"it was made by {made.processes} processes, now by one"


def _score_command(run: Run) -> str:
    record = run.record
    if record.checkpoint.name.endswith(IN_MEMORY):
        return f"the images of {run.label} were in memory and are not kept: score them again"
    evaluators = ",".join(evaluator.given for evaluator in record.evaluators.values())
    return (
        f"the images of {run.label} were made elsewhere, so only their scores can be made again: "
        f"soar-bench score {record.checkpoint.name!r} --evaluators {evaluators} "
        f"--label {run.label!r} --suite {record.suite.name!r} --results outputs/reruns"
    )


def start(again: Again) -> None:
    """Remove the folder of a finished rerun; a stopped one's stays."""
    if any(again.options.results.rglob(RUN_FILE)):
        shutil.rmtree(again.options.results.parent)


@dataclass(frozen=True)
class MetricDifference:
    """One metric in the record and made again."""

    metric: str
    #: scores within the tolerance, of all samples that both have
    equal: int
    samples: int
    #: of two scores, and its bound
    greatest_difference: float
    allowed_difference: float
    #: samples scored in one and unscored in the other
    unscored_differs: int
    #: the metric's value in the record and made again; None where there is none
    recorded: float | None
    again: float | None

    @property
    def same(self) -> bool:
        return self.equal == self.samples


@dataclass(frozen=True)
class RerunComparison:
    """A record beside the same run made again."""

    original: Run
    made: Run
    #: images with equal pixels, of all that both have
    images: int
    samples: int
    #: samples that only one of them has
    unmatched: int
    metrics: tuple[MetricDifference, ...]
    #: what differed before it was made
    changes: tuple[str, ...] = ()

    @property
    def same(self) -> bool:
        """Whether all scores are equal within the tolerance."""
        return not self.unmatched and all(metric.same for metric in self.metrics)

    def as_json(self) -> dict[str, Any]:
        return {
            "same": self.same,
            "record": str(self.original.folder),
            "rerun": str(self.made.folder),
            "changes": list(self.changes),
            "images": {"equal": self.images, "samples": self.samples, "unmatched": self.unmatched},
            "tolerance": TOLERANCE,
            "metrics": {figures.pop("metric"): figures for figures in map(asdict, self.metrics)},
        }


def compare_runs(original: Run, made: Run, changes: Sequence[str] = ()) -> RerunComparison:
    """Compare samples: images by their digests, scores within :data:`TOLERANCE`."""
    scores = original.scores(), made.scores()
    left, right = (frame[[*_SAMPLE, "image"]].drop_duplicates(_SAMPLE) for frame in scores)
    both = left.merge(right, on=_SAMPLE, suffixes=("_a", "_b"))
    equal = int((both["image_a"] == both["image_b"]).sum())
    unmatched = len(left) + len(right) - 2 * len(both)
    metrics = tuple(
        _difference(original, made, metric, declared.range, scores)
        for metric, declared in metrics_of(original)
    )
    return RerunComparison(
        original, made, equal, len(both), unmatched, metrics, changes=tuple(changes)
    )


def _difference(
    original: Run, made: Run, metric: str, bounds: Sequence[float], scores: Sequence[pd.DataFrame]
) -> MetricDifference:
    columns = [*_SAMPLE, "value"]
    a, b = (frame.loc[frame["metric"] == metric, columns] for frame in scores)
    both = a.merge(b, on=_SAMPLE, suffixes=("_a", "_b"), validate="one_to_one")
    allowed = TOLERANCE * _scale(bounds, a["value"])
    apart = (both["value_a"] - both["value_b"]).abs()
    scored_a, scored_b = both["value_a"].notna(), both["value_b"].notna()
    same = (apart <= allowed) | (~scored_a & ~scored_b)
    recorded, again = (
        summary.value if (summary := run.record.metrics.get(metric)) else None
        for run in (original, made)
    )
    return MetricDifference(
        metric,
        equal=int(same.sum()),
        samples=len(both),
        greatest_difference=_largest(apart),
        allowed_difference=allowed,
        unscored_differs=int((scored_a != scored_b).sum()),
        recorded=recorded,
        again=again,
    )


def _largest(values: pd.Series[float]) -> float:
    return float(values.max()) if values.notna().any() else 0.0


def _scale(bounds: Sequence[float], values: pd.Series[float]) -> float:
    """Return the width of a metric's range or, where that is infinite, its largest value."""
    width = bounds[1] - bounds[0]
    return width if math.isfinite(width) else _largest(values.abs()) or 1.0


def lines(compared: RerunComparison) -> Iterator[str]:
    """Yield the comparison for a reader."""
    yield f"images: {compared.images} of {compared.samples} have equal pixels"
    if compared.unmatched:
        yield f"samples: {compared.unmatched} are in only one of the two"
    for metric in compared.metrics:
        unscored = metric.unscored_differs
        recorded, again = (
            "no value" if value is None else f"{value:.6f}"
            for value in (metric.recorded, metric.again)
        )
        yield (
            f"{metric.metric}: {recorded} recorded, {again} made again; {metric.equal} of "
            f"{metric.samples} scores are equal; greatest difference "
            f"{metric.greatest_difference:.3g} ({metric.allowed_difference:.3g} is allowed)"
            + (f"; {unscored} are unscored in one of the two" if unscored else "")
        )
    yield "the record was made again" if compared.same else "the record was NOT made again"


def make(
    again: Again,
    observe: Callable[[str, int, int], None] = lambda stage, done, total: None,
    note: Callable[[str], None] = lambda words: None,
) -> RerunComparison:
    """Make images and scores, as far as a stopped rerun has not, and compare."""
    from soar_bench.evaluation import prepare, run

    plan = prepare(again.checkpoint, again.suite, again.protocol, again.options)
    made = run(plan, again.options, observe, note)
    return compare_runs(again.original, made, (*again.others, *again.changes))
