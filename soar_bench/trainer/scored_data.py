"""Training data by reward: its pictures scored, and the best of them as a data set of their own."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from evaluators import registry
from soar_bench.core.devices import AUTO, choose
from soar_bench.core.digests import digest_of
from soar_bench.core.errors import SoarBenchError, unknown_name
from soar_bench.core.files import check_writable, replace_folder_atomically, write_text
from soar_bench.core.text import json_text
from soar_bench.scoring.judges import Judge, resolve_judges
from soar_bench.scoring.plan import check_judges
from soar_bench.scoring.scores import BATCH, Observer, score_samples
from soar_bench.suites.types import PlannedSample, Prompt
from soar_bench.trainer.data import metadata_of, open_data
from training.data import METADATA_FILE, Source
from training.data.records import FileSlice, caption_of, key_of
from training.run import SELECTION_FILE
from training.types import Images


@dataclass(frozen=True)
class _Pictures:
    """A data set as a source of images to score."""

    source: Source

    @property
    def name(self) -> str:
        return f"data-{self.source.digest[:16]}"

    def digest(self, sample: PlannedSample) -> str:
        """The content's name, of bytes rather than pixels: no picture is decoded for it."""
        return key_of(self.source, int(sample.prompt.id))

    def pixels(self, sample: PlannedSample) -> np.ndarray:
        return self.source[int(sample.prompt.id)][0]


@dataclass(frozen=True)
class Scored:
    """A data set with the values of each metric: float64 [N], NaN where unscored."""

    name: str
    source: Source
    values: Mapping[str, np.ndarray]
    #: by metric: what decides its values, for the provenance of a selection
    versions: Mapping[str, Any]
    #: metrics of which lower values are better
    lower_is_better: Collection[str] = ()
    #: by metric: why its first unscored record has no score
    reasons: Mapping[str, str] = field(default_factory=dict)

    def summary(self) -> list[dict[str, Any]]:
        """Return number, unscored ones and why the first is one, mean, deviation and quantiles of
        each metric.
        """
        rows = []
        for name, values in self.values.items():
            scored = values[~np.isnan(values)]
            row = {"metric": name, "images": len(values), "unscored": len(values) - len(scored)}
            if len(scored) < len(values):
                row["reason"] = self.reasons.get(name, "")
            if len(scored):
                low, middle, high, most = np.quantile(scored, (0.1, 0.5, 0.9, 0.99)).tolist()
                row |= {"mean": float(scored.mean()), "std": float(scored.std())}
                row |= {"10%": low, "50%": middle, "90%": high, "99%": most}
            rows.append(row)
        return rows


def score_data(
    name: str,
    images: Images,
    evaluators: Sequence[str],
    cache: Path,
    device: str = AUTO,
    batch_size: int = BATCH,
    observe: Observer = lambda stage, done, total: None,
) -> Scored:
    """Score the pictures of a data set with their captions; what the cache has is not made again.

    SoarBenchError if an evaluator is unknown or cannot run here, or the data is not there.
    """
    judges = resolve_judges(evaluators)
    for judge in judges:
        if judge.together == "prompt":
            raise SoarBenchError(
                f"{judge.given} judges the images of a prompt together, and a record has one "
                "picture: leave it out"
            )
    check_judges(judges)
    source = open_data(name, images)
    captions = [caption_of(source, i) for i in range(len(source))]
    records = zip(captions, metadata_of(name, captions), strict=True)
    samples = [PlannedSample(Prompt(str(i), *record), 0) for i, record in enumerate(records)]
    judged = score_samples(
        judges, samples, _Pictures(source), cache, batch_size, choose(device), observe=observe
    )
    metrics = [(judge, metric) for judge in judges for metric in judge.evaluator.metrics]
    scores = {m.name: [s[m.name] for s in judged.results[judge.name]] for judge, m in metrics}
    values = {name: np.array([s.value for s in each], float) for name, each in scores.items()}
    reasons = {n: next((s.unscored for s in each if s.unscored), "") for n, each in scores.items()}
    versions = {metric.name: _version(judge, metric) for judge, metric in metrics}
    lower = [metric.name for _, metric in metrics if not metric.higher_is_better]
    return Scored(name, source, values, versions, lower, reasons)


def _version(judge: Judge, metric: Any) -> dict[str, Any]:
    return {"evaluator": judge.given, "version": metric.version, **judge.identity}


def evaluator_of(metric: str) -> str:
    """Return the evaluator of a metric: that of its name, or the first one that has it."""
    own = metric.replace("_", "-")
    names = registry.names()
    if own in names:
        return own
    metrics: dict[str, str] = {}
    for name in names:
        with suppress(SoarBenchError):  # of a plug-in that is broken
            for each in registry.create(name).metrics:
                metrics.setdefault(each.name, name)
    if metric not in metrics:
        raise unknown_name("metric", metric, list(metrics))
    return metrics[metric]


def check_output(folder: Path, rule: Mapping[str, float | None]) -> None:
    """Raise SoarBenchError unless there is one rule, and no such folder, which can be made."""
    values = [value for value in rule.values() if value is not None]
    if len(values) != 1 or not np.isfinite(values[0]):
        raise SoarBenchError("give one rule and a number: --at-least, --top-share or --top")
    if folder.exists():
        raise SoarBenchError(f"{folder} exists already: name another --output, or delete it")
    check_writable(folder)


def chosen(
    scored: Scored,
    metric: str,
    at_least: float | None = None,
    top_share: float | None = None,
    top: int | None = None,
) -> np.ndarray:
    """Return the records that a rule keeps, in the order of the data: int64 [K].

    One of a threshold, a share of the scored records or their number; the best are the lowest
    where the metric says so, and a threshold then is refused. Records without a score are never
    kept; of equal scores the earlier record is.
    """
    if metric not in scored.values:
        raise unknown_name("metric", metric, list(scored.values))
    values, lower = scored.values[metric], metric in scored.lower_is_better
    if lower and at_least is not None:
        raise SoarBenchError(
            f"{metric} is better the lower it is, so --at-least would keep the worst: give --top "
            "or --top-share"
        )
    ranked = np.argsort(values if lower else -values, kind="stable")  # NaN last
    ranked = ranked[: int((~np.isnan(values)).sum())]
    if not len(ranked):
        reason = scored.reasons.get(metric, "")
        raise SoarBenchError(
            f"{metric} scored none of the {len(values)} records{f' ({reason})' if reason else ''}, "
            "so none is kept"
        )
    if at_least is not None:
        ranked = ranked[values[ranked] >= at_least]
    else:
        count = top if top is not None else round((top_share or 0) * len(ranked))
        if count > len(ranked):
            raise SoarBenchError(
                f"--top {count} is more than the {len(ranked)} records that {metric} scored"
            )
        if not count:
            raise SoarBenchError(
                f"none of the {len(ranked)} records that {metric} scored is kept: make --top-share "
                "larger"
            )
        ranked = ranked[:count]
    if not len(ranked):
        raise SoarBenchError(
            f"no record is kept: the best {metric} is {np.nanmax(values):.4g} of {len(values)} "
            "records"
        )
    return np.sort(ranked)


def write_selection(
    scored: Scored, metric: str, kept: np.ndarray, rule: Mapping[str, float], folder: Path
) -> dict[str, Any]:
    """Write records as a data set that `train` reads, with its provenance; return the latter.

    Pictures are links to the files where that is possible, otherwise copies of their bytes.
    """
    values = scored.values[metric]
    provenance = {
        "data": scored.name,
        "digest": scored.source.digest,
        "metric": metric,
        **scored.versions[metric],
        "rule": dict(rule),
        "kept": len(kept),
        "of": len(values),
        "unscored": int(np.isnan(values).sum()),
        "scores": digest_of([None if np.isnan(v) else v for v in values.tolist()]),
    }
    with replace_folder_atomically(folder) as aside:
        lines = []
        for index in kept.tolist():
            name = _picture(scored.source, index, aside)
            record = {"file_name": name, "text": caption_of(scored.source, index)}
            lines.append(json.dumps({**record, metric: float(values[index])}, ensure_ascii=False))
        write_text(aside / METADATA_FILE, "\n".join(lines) + "\n")
        write_text(aside / SELECTION_FILE, json_text(provenance))
    return provenance


def _picture(source: Source, index: int, folder: Path) -> str:
    """Put a record's picture into the folder; return its name there."""
    records = getattr(source, "records", None)
    if records is None:
        name = f"{index:08d}.png"
        Image.fromarray(source[index][0]).save(folder / name)
        return name
    record = records[index]
    name = f"{index:08d}{Path(record.name).suffix.lower() or '.png'}"
    place = record.place
    if isinstance(place, FileSlice) and place.size is None and not place.offset:
        try:
            os.link(place.path.resolve(), folder / name)
            return name
        except OSError:  # another file system, or one without links
            pass
    (folder / name).write_bytes(place.read())
    return name
