"""``soar-bench eval``: a plan of samples, what is missing of it, and the run's record."""

from __future__ import annotations

import platform
import subprocess
import time
from collections.abc import Callable, Sequence
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
from soar_bench.scoring import Scores, evaluator_identity, score
from soar_bench.stats import estimate
from soar_bench.types import PlannedSample, Protocol, SoarBenchError, Suite, plan

#: Called with a stage ("generate" or an evaluator's name), samples done and samples in all.
Observer = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Options:
    """How to run; none of this changes a number beyond floating-point rounding."""

    results: Path
    #: where images and scores are kept between runs
    cache: Path
    images_per_prompt: int | None = None
    evaluators: tuple[str, ...] | None = None
    batch_size: int = 32
    device: str = "cpu"


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
    evaluators = tuple(dict.fromkeys(options.evaluators or suite.evaluators))
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
    _check_device(options.device)
    folder = image_folder(options.cache, checkpoint, suite, protocol)
    for place in (options.results, folder):
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SoarBenchError(f"nothing can be written to {place}: {error.strerror}") from None
    samples = plan(suite, count)
    return Work(checkpoint, suite, protocol, samples, evaluators, folder, missing(folder, samples))


def _check_device(name: str) -> None:
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
    digests: list[str] = []
    results: dict[str, list[Scores]] = {}
    declared: dict[str, dict[str, Any]] = {}
    for name in work.evaluators:
        clock = time.monotonic()
        evaluator = registry.create(name)  # let go at the end of its turn: one in memory at a time
        declared[name] = evaluator_identity(evaluator)
        digests, results[name] = score(
            evaluator,
            work.samples,
            work.folder,
            options.cache,
            device=options.device,
            observe=partial(observe, name),
        )
        seconds[name] = round(time.monotonic() - clock, 3)
    scores = _table(work, digests, results)
    record = _record(work, declared, scores)
    record["made"] = {
        "started": started.isoformat(timespec="seconds"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": seconds,
        "generated": len(work.to_generate),
        "batch_size": options.batch_size,
        "device": options.device,
        "machine": f"{platform.system()} {platform.machine()}",
        "versions": _versions(),
        "commit": _commit(),
    }
    return write_run(options.results, record, scores)


def _table(work: Work, digests: Sequence[str], results: dict[str, list[Scores]]) -> pd.DataFrame:
    """One row a sample and metric, in the order of the plan."""
    import json

    rows: list[dict[str, Any]] = []
    for evaluator in work.evaluators:
        for metric in results[evaluator][0] if results[evaluator] else ():
            for sample, digest, scores in zip(
                work.samples, digests, results[evaluator], strict=True
            ):
                got = scores[metric]
                noise = noise_key(work.suite.seed, sample.prompt.id, sample.index)
                rows.append(
                    {
                        "prompt_id": sample.prompt.id,
                        "index": sample.index,
                        "task": sample.prompt.task,
                        "prompt": sample.prompt.text,
                        "noise": f"{noise:032x}",
                        "image": digest,
                        "metric": metric,
                        "value": got.value,
                        "unscored": got.unscored,
                        "details": json.dumps(dict(got.details), ensure_ascii=False),
                    }
                )
    frame = pd.DataFrame(rows)
    return frame.astype({"value": "float64", "index": "int64"})


def _record(
    work: Work, declared: dict[str, dict[str, Any]], scores: pd.DataFrame
) -> dict[str, Any]:
    """What identifies the run and what it found: the same for the same run, whenever made."""
    checkpoint = work.checkpoint
    metrics: dict[str, Any] = {}
    for evaluator in declared.values():
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
        "evaluators": declared,
        "metrics": metrics,
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
