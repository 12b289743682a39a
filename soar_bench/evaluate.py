"""``soar-bench eval``: a plan of samples, what is missing of it, and the run's record."""

from __future__ import annotations

import json
import platform
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd

from evaluators import registry
from soar_bench.checkpoints import Checkpoint
from soar_bench.generate import generate, image_folder, missing
from soar_bench.noise import noise_key
from soar_bench.records import Run, write_run
from soar_bench.scoring import Judge, Pictures, Scores, generated, score
from soar_bench.stats import estimate
from soar_bench.types import PlannedSample, Protocol, SoarBenchError, Suite, plan

#: Called with a stage ("generate" or an evaluator's name), samples done and samples in all.
Observer = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Options:
    """How to run. The evaluators' precision is recorded; nothing else here changes a number beyond
    floating-point rounding.
    """

    results: Path
    #: where images and scores are kept between runs
    cache: Path
    images_per_prompt: int | None = None
    evaluators: tuple[str, ...] | None = None
    batch_size: int = 32
    device: str = "cpu"
    #: precision of the evaluators that have a choice; None is their own, float32
    evaluator_dtype: str | None = None


@dataclass(frozen=True)
class Work:
    """One run, checked and ready to start."""

    checkpoint: Checkpoint
    suite: Suite
    protocol: Protocol
    samples: list[PlannedSample]
    evaluators: tuple[str, ...]
    folder: Path
    to_generate: list[PlannedSample]


def prepare(checkpoint: Checkpoint, suite: Suite, protocol: Protocol, options: Options) -> Work:
    """Checks everything that can be checked before the expensive work begins."""
    count = options.images_per_prompt or suite.images_per_prompt
    evaluators = check_evaluators(options.evaluators or suite.evaluators)
    check_device(options.device)
    folder = image_folder(options.cache, checkpoint, suite, protocol)
    make_folders(options.results, folder)
    samples = plan(suite, count)
    return Work(checkpoint, suite, protocol, samples, evaluators, folder, missing(folder, samples))


def check_evaluators(names: Iterable[str]) -> tuple[str, ...]:
    """The evaluators' names without repetition, once each of them can run here."""
    evaluators = tuple(dict.fromkeys(names))
    declared: dict[str, str] = {}
    for name in evaluators:
        evaluator = registry.create(name)
        evaluator.check()
        for metric in evaluator.metrics:
            if declared.setdefault(metric.name, name) != name:
                raise SoarBenchError(
                    f"{declared[metric.name]} and {name} both give the metric {metric.name}: "
                    "choose one of them"
                )
    return evaluators


def make_folders(*places: Path) -> None:
    for place in places:
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SoarBenchError(f"nothing can be written to {place}: {error.strerror}") from None


def check_device(name: str) -> None:
    import torch

    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise SoarBenchError(f"the device {name!r} cannot be used here: {reason}") from None


def run(work: Work, options: Options, observe: Observer = lambda stage, done, total: None) -> Run:
    """Generates and scores what is missing, and writes the record."""
    started = datetime.now(UTC)
    seconds: dict[str, float] = {}
    clock = time.monotonic()
    generate(
        work.checkpoint,
        work.suite,
        work.protocol,
        work.to_generate,
        work.folder,
        batch_size=options.batch_size,
        device=options.device,
        observe=partial(observe, "generate"),
    )
    seconds["generate"] = round(time.monotonic() - clock, 3)
    judged = judge(
        work.evaluators,
        work.samples,
        generated(work.folder),
        options.cache,
        work.folder.name,
        device=options.device,
        dtype=options.evaluator_dtype,
        observe=observe,
    )
    scores = table(
        work.samples,
        judged,
        lambda sample: f"{noise_key(work.suite.seed, sample.prompt.id, sample.index):032x}",
    )
    record = _record(work, judged, scores)
    record["made"] = {
        **made(started, seconds | judged.seconds, options.device),
        "generated": len(work.to_generate),
        "batch_size": options.batch_size,
    }
    return write_run(options.results, record, scores)


@dataclass(frozen=True)
class Judged:
    """What evaluators said of samples."""

    #: of the pixels of each sample, in order
    digests: list[str]
    #: by evaluator: the scores of each sample, in order
    results: dict[str, list[Scores]]
    #: by evaluator: what goes into the record about it
    declared: dict[str, dict[str, Any]]
    #: by evaluator
    seconds: dict[str, float]


def judge(
    evaluators: Sequence[str],
    samples: Sequence[PlannedSample],
    pictures: Pictures,
    cache: Path,
    journal: str,
    *,
    batch_size: int = 64,
    device: str = "cpu",
    dtype: str | None = None,
    observe: Observer = lambda stage, done, total: None,
) -> Judged:
    """Scores what is missing; ``journal`` names the images' journals in the cache."""
    judged = Judged([], {}, {}, {})
    for group in _groups(
        evaluators
    ):  # let go at the end of its turn: one group in memory at a time
        judges = [Judge.of(registry.create(given), dtype, cache, journal) for given in group]
        judged.digests[:], columns = score(
            judges, samples, pictures, batch_size=batch_size, device=device, observe=observe
        )
        for one, column in zip(judges, columns, strict=True):
            name = one.evaluator.name  # what was given may be a file's path
            judged.declared[name] = one.declared
            judged.results[name] = column
            judged.seconds[name] = round(one.seconds, 3)
    names = [registry.create(given).name for given in evaluators]  # in the order they were named
    return Judged(
        judged.digests,
        {name: judged.results[name] for name in names},
        {name: judged.declared[name] for name in names},
        judged.seconds,
    )


def _groups(evaluators: Sequence[str]) -> list[list[str]]:
    """The evaluators that share a model together, the others each alone."""
    groups: dict[str, list[str]] = {}
    for given in evaluators:
        groups.setdefault(registry.create(given).shares or f"alone: {given}", []).append(given)
    return list(groups.values())


def made(started: datetime, seconds: dict[str, float], device: str) -> dict[str, Any]:
    """When, where and with what a record was made, now that it is finished."""
    return {
        "started": started.isoformat(timespec="seconds"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": seconds,
        "device": device,
        "machine": f"{platform.system()} {platform.machine()}",
        "versions": _versions(),
        "commit": _commit(),
    }


def table(
    samples: Sequence[PlannedSample], judged: Judged, noise: Callable[[PlannedSample], str]
) -> pd.DataFrame:
    """One row a sample and metric, in the order of the samples; ``noise`` fills its column."""
    rows: list[dict[str, Any]] = []
    for results in judged.results.values():
        for metric in results[0] if results else ():
            for sample, digest, scores in zip(samples, judged.digests, results, strict=True):
                got = scores[metric]
                rows.append(
                    {
                        "prompt_id": sample.prompt.id,
                        "index": sample.index,
                        "task": sample.prompt.task,
                        "prompt": sample.prompt.text,
                        "noise": noise(sample),
                        "image": digest,
                        "metric": metric,
                        "value": got.value,
                        "unscored": got.unscored,
                        "details": json.dumps(dict(got.details), ensure_ascii=False),
                    }
                )
    frame = pd.DataFrame(rows)
    return frame.astype({"value": "float64", "index": "int64"})


def summary(judged: Judged, scores: pd.DataFrame) -> dict[str, Any]:
    """Each metric's value over the samples, for the record."""
    metrics: dict[str, Any] = {}
    for evaluator in judged.declared.values():
        for metric, declaration in evaluator["metrics"].items():
            rows = scores[scores["metric"] == metric]
            found = estimate(rows, declaration["aggregate"])
            tasks = {
                task: float(group["value"].mean())
                for task, group in rows.groupby("task")
                if group["value"].notna().any()
            }
            metrics[metric] = {
                "value": _plain(found.value),
                "standard_error": _plain(found.standard_error),
                "scored": found.scored,
                "unscored": found.unscored,
                "tasks": tasks,
            }
    return metrics


def _record(work: Work, judged: Judged, scores: pd.DataFrame) -> dict[str, Any]:
    """What identifies the run and what it found: the same for the same run, whenever made."""
    checkpoint = work.checkpoint
    return {
        "checkpoint": {
            "label": checkpoint.label,
            "name": checkpoint.name,
            "digest": checkpoint.digest,
            "story": checkpoint.story,
        },
        "suite": {
            "name": work.suite.name,
            "digest": work.suite.digest(),
            "seed": work.suite.seed,
            "prompts": len(work.suite.prompts),
            "images_per_prompt": len(work.samples) // max(len(work.suite.prompts), 1),
        },
        "protocol": {"name": work.protocol.name, "settings": work.protocol.settings()},
        "evaluators": judged.declared,
        "metrics": summary(judged, scores),
    }


def _plain(value: float) -> float | None:
    """NaN has no place in JSON."""
    return None if value != value else value


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("soar-bench", "torch", "diffusers", "transformers", "numpy", "pillow"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found


def _commit() -> str | None:
    """The git commit of this project's own checkout, with + where it has local changes.

    None where the package is installed elsewhere, also inside another project's checkout.
    """
    root = Path(__file__).resolve().parents[1]

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root:
            return None
        changes = git("status", "--porcelain", "--", "soar_bench", "evaluators", "training")
        return git("rev-parse", "HEAD") + ("+" if changes else "")
    except (OSError, subprocess.CalledProcessError):
        return None
