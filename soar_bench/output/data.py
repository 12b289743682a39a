"""Checks and statistics of training data, for ``soar-bench data``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from soar_bench.core.text import count, encodable
from soar_bench.pipelines import Pipeline, check_pipeline, pipeline_folder
from soar_bench.pipelines.lengths import Cut, words
from soar_bench.suites import leaks
from soar_bench.suites.types import Suite
from soar_bench.trainer.data import captions_of, cut_captions, open_data
from training.cache import Cache
from training.data.checking import Progress, inspect
from training.data.order import BucketOrder
from training.data.records import Fault, Listing, Source, caption_of, key_of, size_of
from training.data.views import bucket_of, bucket_sizes
from training.types import Images

#: Leaks of a suite that are named on a screen.
_SHOWN = 20


def check(
    name: str,
    images: Images,
    base: str | None,
    tokens: int,
    progress: Progress | None = None,
    against: Sequence[Suite] = (),
) -> dict[str, Any]:
    """Read every record: their number, ``broken``, each with ``where`` and ``what``, and ``cut``.

    ``cut`` are the captions longer than the text encoders of the pipeline ``base`` read, a T5 of
    them ``tokens``. Without a base they are those of as many words. ``leaks`` has, by suite of
    ``against``, the captions that are or hold one of its prompts.
    """
    pipeline = None
    if base is not None:
        pipeline = Pipeline(pipeline_folder(base))
        check_pipeline(pipeline.folder)
    source, _ = _read(name, images, progress)
    broken = [{"where": encodable(f.where), "what": encodable(f.what)} for f in _faults(source)]
    whole = len(source)
    records = whole + len(broken)
    report = {"data": encodable(name), "records": records, "whole": whole, "digest": source.digest}
    if against:
        captions = captions_of(source)
        report["leaks"] = {suite.name: _leaks(captions, suite) for suite in against}
    cut = [asdict(cut) for cut in cut_captions(pipeline, source, tokens)]
    return report | {"broken": broken, "cut": cut, "base": base}


def _leaks(captions: Sequence[str], suite: Suite) -> dict[str, Any]:
    of_suite = list(leaks.find(captions, suite.prompts))
    rows = [
        {
            "record": leak.caption + 1,
            "caption": encodable(captions[leak.caption]),
            "prompt_id": leak.prompt.id,
            "prompt": leak.prompt.text,
            "equal": leak.equal,
        }
        for leak in of_suite
    ]
    return {**leaks.counts(of_suite), "of": len(suite.prompts), "found": rows}


def stats(
    name: str, images: Images, resolution: int, batch_size: int, progress: Progress | None = None
) -> dict[str, Any]:
    """Return counts, sizes in pixels, aspect ratios (width / height), the buckets of training at
    ``resolution``, lengths of captions and duplicates. Broken records are counted only.
    """
    source, sizes = _read(name, images, progress)
    count = len(source)
    captions = [caption_of(source, i) for i in range(count)]
    buckets = bucket_sizes(resolution, images.bucket_step)
    numbers = np.array([bucket_of(int(w), int(h), buckets) for w, h in sizes])
    order = BucketOrder(numbers)
    counts = Counter(numbers.tolist())
    return {
        "data": encodable(name),
        "records": count,
        "broken": len(_faults(source)),
        "width": _range(sizes[:, 0]),
        "height": _range(sizes[:, 1]),
        "aspect": _range(sizes[:, 0] / sizes[:, 1]),
        "enlarged": int((sizes.min(axis=1) < resolution).sum()),
        "caption_characters": _range([len(text) for text in captions]),
        "caption_words": _range([len(text.split()) for text in captions]),
        "captions_empty": sum(not text.strip() for text in captions),
        "captions_distinct": len(set(captions)),
        "images_distinct": len({key_of(source, i) for i in range(count)}),
        "resolution": resolution,
        "batch": batch_size,
        "buckets": [
            {"width": w, "height": h, "images": counts[i]} for i, (w, h) in enumerate(buckets)
        ],
        "bucket_batches": order.steps(batch_size),
        "bucket_repeats": order.repeated(batch_size),
    }


def _read(name: str, images: Images, progress: Progress | None) -> tuple[Source, np.ndarray]:
    """Return the records that can be read, with the sizes of their images: int [N, 2]."""
    source = open_data(name, images.model_copy(update={"on_broken": "drop"}))
    if not isinstance(source, Listing):
        return source, np.array([size_of(source, i) for i in range(len(source))])
    findings = inspect(source, progress=progress)
    if not findings.faults:
        return source, findings.sizes
    readable = source.without(findings.faults, findings.faults.values())
    return readable, np.delete(findings.sizes, list(findings.faults), axis=0)


def _faults(source: Source) -> Sequence[Fault]:
    return source.faults if isinstance(source, Listing) else []


def _range(values: Sequence[float] | np.ndarray) -> dict[str, float]:
    points = np.percentile(values, [0, 50, 100]).tolist()
    return dict(zip(("min", "median", "max"), points, strict=True))


def check_lines(report: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of a check for a person."""
    for fault in report["broken"]:
        yield f"{fault['where']} {fault['what']}"
    broken = len(report["broken"])
    verdict = f"{broken} broken" if broken else "every one can be read"
    if cuts := [Cut(**cut) for cut in report["cut"]]:
        least = "" if report["base"] else "at least "
        yield words(cuts, report["whole"], "caption", least) + (
            " (by their words: --base PIPELINE counts tokens)" if least else ""
        )
    for suite, seen in report.get("leaks", {}).items():
        for row in seen["found"][:_SHOWN]:
            verb = "is" if row["equal"] else "holds"
            yield f"record {row['record']}, {row['caption']!r}, {verb} {row['prompt']!r} of {suite}"
        if (more := len(seen["found"]) - _SHOWN) > 0:
            yield f"and {more} more (--json has all)"
        yield (
            f"{suite}: {count(seen['captions'], 'caption')} are or hold {seen['prompts']} of its "
            f"{seen['of']} prompts ({seen['equal']} are one)"
        )
    yield f"{report['data']}: {report['records']} records, {verdict}"


_RANGES = {
    "width": "width", "height": "height", "width / height": "aspect",
    "caption characters": "caption_characters", "caption words": "caption_words",
}  # fmt: skip


def stats_lines(report: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of statistics for a person."""
    broken = f", and {report['broken']} broken" if report["broken"] else ""
    yield f"records            {report['records']}{broken}"
    yield f"distinct images    {report['images_distinct']}"
    yield f"distinct captions  {report['captions_distinct']}, {report['captions_empty']} empty"
    for label, name in _RANGES.items():
        r = report[name]
        yield f"{label:<18} {r['min']:g} to {r['max']:.4g}, median {r['median']:.4g}"
    side = report["resolution"]
    yield f"enlarged           {report['enlarged']} have a side below {side} pixels"
    yield f"buckets at {side}:"
    for bucket in report["buckets"]:
        yield f"  {bucket['width']:>5} x {bucket['height']:<5} {bucket['images']:>8}"
    yield (
        f"  {report['bucket_batches']} batches of {report['batch']} per epoch, in which "
        f"{report['bucket_repeats']} samples are seen once more"
    )


def cached(folder: Path) -> dict[str, Any]:
    """Return count and bytes of a cache of encodings, by kind."""
    kinds: dict[str, dict[str, int]] = {}
    for kind, file in Cache(folder).shards():
        counts = kinds.setdefault(kind, {"files": 0, "bytes": 0})
        counts["files"] += 1
        counts["bytes"] += file.stat().st_size
    return {"folder": str(folder), "kinds": kinds}


def cache_lines(report: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of :func:`cached` for a person: one per kind."""
    kinds = report["kinds"]
    for kind, counts in kinds.items():
        yield f"{kind:<8} {counts['files']:>8} files {counts['bytes'] / 1e6:>12.1f} MB"
    files, size = (sum(counts[of] for counts in kinds.values()) for of in ("files", "bytes"))
    yield f"{report['folder']}: {files} files, {size / 1e6:.1f} MB"


def score_lines(report: dict[str, Any]) -> Iterator[str]:
    """Yield a line per metric, for a person."""
    for row in report["metrics"]:
        line = f"{row['metric']}: {row['images']:,} images"
        if "mean" in row:
            line += f", mean {row['mean']:.4g}, deviation {row['std']:.3g}, quantiles " + ", ".join(
                f"{name} {row[name]:.4g}" for name in ("10%", "50%", "90%", "99%")
            )
        if row["unscored"]:
            reason = f" ({row['reason']})" if row["reason"] else ""
            line += f"; {row['unscored']:,} unscored{reason}"
        yield line


def select_lines(report: dict[str, Any]) -> Iterator[str]:
    """Yield what was kept, for a person."""
    ((rule, value),) = report["rule"].items()
    yield (
        f"{report['kept']:,} of {report['of']:,} records kept by {report['metric']}, "
        f"{rule.replace('_', ' ')} {value:g}"
        + (f" ({report['unscored']:,} unscored are not)" if report["unscored"] else "")
    )
