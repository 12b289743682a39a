"""Layouts of run.json: older ones are upgraded as they are read, others are refused.

Schema 2 says of the checkpoint what form its weights have, its base and revision; of the suite, the
file it was read from; of the protocol, the precision of decoding; of each evaluator, how it was
named and its package's version; and it holds the digest of scores.parquet.
"""

from __future__ import annotations

import copy
from typing import Any

#: The layout that is written.
SCHEMA = 2

#: The parts of a record that are objects, and what each must say.
_PARTS: dict[str, tuple[str, ...]] = {
    "checkpoint": ("label", "name", "digest", "form", "base", "revision", "story"),
    "suite": ("name", "digest", "seed", "prompts", "images_per_prompt", "source"),
    "protocol": ("name", "settings"),
    "evaluators": (),
    "metrics": (),
    "made": (),
    "scores": (),
}
_EVALUATOR = ("given", "version", "identity", "metrics")
_METRIC = ("unit", "range", "higher_is_better", "version", "source", "aggregate")


def upgraded(record: dict[str, Any]) -> dict[str, Any]:
    """A record of schema 1 as one of schema 2; ``record`` itself is not changed.

    What schema 1 did not say and cannot be told from it is empty: the packages' versions, and the
    digest of the scores.
    """
    record = copy.deepcopy(record)
    checkpoint = record["checkpoint"]
    story = checkpoint["story"]
    form = "images" if "imported" in story else "transformer" if story else "pipeline"
    checkpoint["form"] = form
    checkpoint["base"] = (
        {key: story["base"].get(key, "") for key in ("name", "digest")}
        if form == "transformer"
        else None
    )
    checkpoint["revision"] = ""
    record["suite"]["source"] = ""
    settings = record["protocol"]["settings"]
    if "dtype" in settings:
        settings["vae_dtype"] = settings["dtype"]
    for name, evaluator in record["evaluators"].items():
        evaluator |= {"given": name, "version": ""}
    record["made"] = {"processes": 1, **record.get("made", {})}
    record["scores"] = {}
    record["schema"] = 2
    return record


def fault(record: dict[str, Any]) -> str:
    """What a record of schema 2 lacks, in words; empty if nothing."""
    lacking = [name for name in _PARTS if not isinstance(record.get(name), dict)]
    if lacking:
        return ", ".join(lacking)
    lacking = [f"{name}.{key}" for name, keys in _PARTS.items() for key in keys
               if key not in record[name]]  # fmt: skip
    for name, evaluator in record["evaluators"].items():
        lacking += [f"evaluators.{name}.{key}" for key in _absent(evaluator, _EVALUATOR)]
        if not lacking:
            for metric, declared in evaluator["metrics"].items():
                lacking += [f"evaluators.{name}.{metric}.{key}"
                            for key in _absent(declared, _METRIC)]  # fmt: skip
    return ", ".join(lacking)


def _absent(value: Any, keys: tuple[str, ...]) -> list[str]:
    return [key for key in keys if not isinstance(value, dict) or key not in value]
