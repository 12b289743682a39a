"""How a board was made: what a reader needs to check it or to make it again."""

from __future__ import annotations

from dataclasses import dataclass
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
    """Suite, protocol and evaluators, which all runs of a board share."""
    record = board.record
    suite = record.suite
    facts = [
        Facts(
            "Suite",
            _facts(
                name=suite.name,
                source=suite.source,
                prompts=suite.prompts,
                images_per_prompt=suite.images_per_prompt,
                seed=suite.seed,
                digest=suite.digest,
            ),
        ),
        Facts("Protocol", _facts(name=record.protocol.name, **record.protocol.settings)),
    ]
    for name, evaluator in sorted(record.evaluators.items()):
        metrics = {
            metric: f"{declared.unit}; version {declared.version}; {declared.source}".rstrip("; ")
            for metric, declared in sorted(evaluator.metrics.items())
        }
        identity = {f"identity: {k}": v for k, v in sorted(evaluator.identity.items())}
        facts.append(
            Facts(
                f"Evaluator {name}",
                (*_facts(package_version=evaluator.version), *metrics.items(),
                 *((k, str(v)) for k, v in identity.items())),
            )
        )  # fmt: skip
    return facts


def of_run(run: Run, cache: Any) -> Facts:
    """What one run says of its checkpoint and of how it was made."""
    checkpoint, made = run.record.checkpoint, run.record.made
    base, story = checkpoint.base, run.training
    facts = _facts(
        checkpoint=checkpoint.name,
        form=checkpoint.form,
        digest=checkpoint.digest,
        revision=checkpoint.revision,
        base=base and base.name,
        base_digest=base and base.digest,
    )
    if story:
        facts += _facts(
            method=story["method"],
            training_step=story["step"],
            training_seed=story["seed"],
            training_data=story["data"].get("name"),
            training_data_digest=story["data"]["digest"],
        )
    facts += _facts(
        finished=made.finished,
        device=made.device,
        machine=made.machine,
        batch_size=made.batch_size,
        processes=made.processes,
        commit=made.commit,
        versions=", ".join(f"{name} {version}" for name, version in sorted(made.versions.items())),
        command=pictures.command(run, cache),
        record=run.folder.as_posix(),
    )
    return Facts(f"{run.label}, step {story['step']}" if story else run.label, facts)


def _facts(**facts: Any) -> tuple[tuple[str, str], ...]:
    """Names and values as text, without those that say nothing."""
    return tuple(
        (name.replace("_", " "), str(value))
        for name, value in facts.items()
        if value not in (None, "", {})
    )
