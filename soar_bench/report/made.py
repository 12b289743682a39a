"""Facts of a board and its runs that a reader needs to check it or to make it again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soar_bench.records import Run
from soar_bench.report import pictures
from soar_bench.report.sections import Section


@dataclass(frozen=True)
class Facts:
    """A heading with names and values under it."""

    title: str
    facts: tuple[tuple[str, str], ...]


def of_board(board: Section) -> list[Facts]:
    """Return suite, protocol and evaluators, which all runs of a board share."""
    record = board.record
    suite = ("name", "source", "prompts", "images_per_prompt", "seed", "digest")
    facts = [
        Facts("Suite", _facts(record.suite, *suite)),
        Facts("Protocol", _facts(name=record.protocol.name, **record.protocol.settings)),
    ]
    for name, evaluator in sorted(record.evaluators.items()):
        metrics = {
            metric: f"{declared.unit}; version {declared.version}; {declared.source}".rstrip("; ")
            for metric, declared in sorted(evaluator.metrics.items())
        }
        identity = {f"identity: {k}": v for k, v in sorted(evaluator.identity.items())}
        version = _facts(package_version=evaluator.version)
        facts.append(Facts(f"Evaluator {name}", (*version, *metrics.items(), *identity.items())))
    return facts


def of_run(run: Run, cache: Path) -> Facts:
    """Return what one run says of its checkpoint and of how it was made."""
    checkpoint, made = run.record.checkpoint, run.record.made
    base, story = checkpoint.base, run.training
    facts = _facts(checkpoint=checkpoint.name)
    facts += _facts(checkpoint, "form", "digest", "revision")
    if base:
        facts += _facts(base=base.name, base_digest=base.digest)
    if story:
        data = story["data"]
        facts += _facts(method=story["method"], training_step=story["step"])
        facts += _facts(training_seed=story["seed"], training_data=data.get("name"))
        facts += _facts(training_data_digest=data["digest"])
        if "story" in story["base"]:  # a checkpoint
            start = story["base"]
            facts += _facts(trained_from=start.get("name"), trained_from_digest=start["digest"])
    facts += _facts(made, "finished", "device", "machine", "batch_size", "processes", "commit")
    versions = ", ".join(f"{name} {version}" for name, version in sorted(made.versions.items()))
    command, folder = pictures.command(run, cache), run.folder.as_posix()
    facts += _facts(versions=versions, command=command, record=folder)
    return Facts(f"{run.label}, step {story['step']}" if story else run.label, facts)


def _facts(part: Any = None, /, *fields: str, **facts: Any) -> tuple[tuple[str, str], ...]:
    """Return fields of a record's part and other facts as text, without those that are empty."""
    values = {field: getattr(part, field) for field in fields} | facts
    return tuple(
        (name.replace("_", " "), str(value))
        for name, value in values.items()
        if value not in (None, "", {})
    )
