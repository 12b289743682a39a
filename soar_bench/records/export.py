"""Runs for other programs: a Hugging Face model card's results, and one table of all samples.

Imports no torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from soar_bench.core.errors import SoarBenchError
from soar_bench.core.text import csv_text
from soar_bench.records.run import COLUMNS, Run, metrics_of, rows_of
from soar_bench.stats import estimate

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

#: The hub's name of what is evaluated here.
_TASK, _TASK_NAME = "text-to-image", "Text-to-Image"
_INDEX = "model-index"
#: Columns that stand before those of :data:`soar_bench.records.COLUMNS` in a table of samples: the
#: run's folder, its checkpoint and training, the training seed (missing for what was not trained),
#: and the suite and protocol.
RUN_COLUMNS = ("run", "checkpoint", "training", "seed", "suite", "protocol")


def samples(runs: Sequence[Run]) -> pd.DataFrame:
    """Return one row per sample and metric of all runs, with the columns :data:`RUN_COLUMNS` and
    :data:`~soar_bench.records.COLUMNS`.
    """
    frames = []
    for run in runs:
        scores = run.scores()
        record, seed = run.record, pd.array([run.seed] * len(scores), dtype="Int64")
        values: list[Any] = [run.folder.name, run.label, run.name, seed, record.suite.name]
        of_run = dict(zip(RUN_COLUMNS, [*values, record.protocol.name], strict=True))
        frames.append(scores.assign(**of_run)[[*RUN_COLUMNS, *COLUMNS]])
    return pd.concat(frames, ignore_index=True)


def results(runs: Sequence[Run], source: str = "") -> list[EvalResult]:
    """Return the runs' values as the hub's evaluation results.

    ``source`` is an address at which the records can be read. SoarBenchError unless the runs are of
    one checkpoint. Metrics without a value are left out: the hub has no way to say that.
    """
    from huggingface_hub import EvalResult

    digests = {run.record.checkpoint.digest: run.label for run in runs}
    if len(digests) > 1:
        raise SoarBenchError(
            f"a model card is of one checkpoint, these runs are of {len(digests)} "
            f"({', '.join(digests.values())}): export one at a time"
        )
    entries = []
    for run in runs:
        suite, protocol, scores = run.record.suite, run.record.protocol, run.scores()
        evaluators = {m: name for name, e in run.record.evaluators.items() for m in e.metrics}
        settings = {
            "prompts": suite.prompts, "images_per_prompt": suite.images_per_prompt,
            "seed": suite.seed, "protocol": protocol.name, "settings": dict(protocol.settings),
        }  # fmt: skip
        for metric, declared in metrics_of(run):
            rows = rows_of(scores[scores["metric"] == metric], declared)
            value = estimate(rows, declared.mean, declared.shares, declared.skewed)
            if not value.scored:
                continue
            evaluator = evaluators[metric]
            low, high = value.interval()
            arguments = {
                "unit": declared.unit, "higher_is_better": declared.higher_is_better,
                "aggregate": declared.aggregate, "version": declared.version,
                "evaluator": evaluator,
                "evaluator_identity": run.record.evaluators[evaluator].identity,
                "standard_error": value.standard_error,
                "interval_95": None if math.isnan(low) else [low, high],
                "scored": value.scored, "unscored": value.unscored, "prompts": value.prompts,
                "record": run.folder.name, "scores_sha256": run.record.scores.sha256,
            }  # fmt: skip
            entry = EvalResult(
                task_type=_TASK, task_name=_TASK_NAME,
                dataset_type=suite.name, dataset_name=suite.name, dataset_config=_config(run),
                dataset_revision=suite.digest, dataset_args=deepcopy(settings),
                metric_type=metric, metric_name=f"{metric} ({declared.unit})",
                metric_value=value.value, metric_args=_with_value(arguments),
                source_name="soar-bench records" if source else None, source_url=source or None,
            )  # fmt: skip
            entries.append(entry)
    if not entries:
        raise SoarBenchError("nothing to export: none of the runs has a scored sample")
    _check_distinct(entries)
    return entries


def _check_distinct(entries: Sequence[EvalResult]) -> None:
    """Raise SoarBenchError where the hub would take two results for one."""
    settings: dict[tuple[Any, ...], Any] = {}
    metrics: set[tuple[Any, ...]] = set()
    for entry in entries:
        key = entry.unique_identifier
        metric = (*key, entry.metric_type)
        same = settings.setdefault(key, entry.dataset_args) == entry.dataset_args
        if not same or metric in metrics:
            raise SoarBenchError(
                f"two of the runs have {entry.metric_type} on {entry.dataset_type} under one name "
                "of settings: export one of them"
            )
        metrics.add(metric)


def _config(run: Run) -> str:
    """Name the settings so that the hub keeps results under different ones apart."""
    images = run.record.suite.images_per_prompt
    imported = ", images from elsewhere" if run.imported else ""
    return f"{run.record.protocol.name}, {images} images a prompt{imported}"


def _with_value(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that have a value; the hub's YAML has no NaN.

    They are copies, since YAML writes one object that stands in two places as a reference.
    """
    return {
        key: deepcopy(value)
        for key, value in arguments.items()
        if value is not None and not (isinstance(value, float) and math.isnan(value))
    }


def card(runs: Sequence[Run], text: str = "", name: str = "", source: str = "") -> str:
    """Return a model card with the runs' values in its metadata's ``model-index``.

    ``text`` is the older card, empty for a new one: its results of the same dataset, setting and
    metric are replaced, everything else stays to the letter. ``name`` is the model's in the index:
    by default the older one, or the checkpoint's label. SoarBenchError if the card's metadata
    cannot be read or merged.
    """
    from huggingface_hub.repocard import REGEX_YAML_BLOCK
    from huggingface_hub.repocard_data import eval_results_to_model_index
    from yaml import safe_dump

    front = REGEX_YAML_BLOCK.search(text)
    metadata = _mapping(front.group(2) if front else "")
    models = _models(metadata.get(_INDEX))
    name = name or (models[0]["name"] if len(models) == 1 else runs[0].label)
    index = _merged(models, eval_results_to_model_index(name, results(runs, source))[0])
    block = safe_dump({_INDEX: index}, sort_keys=False, allow_unicode=True).rstrip("\n")
    if front:
        end = front.group(1).rpartition("---")[2]
        kept = _without_index(front.group(2))
        lines = ([kept] if kept.strip() else []) + [block.replace("\n", end)]
        made = front.group(1) + end.join(lines) + front.group(3) + text[front.end() :]
    elif text.strip():
        made = f"---\n{block}\n---\n\n{text}"
    else:
        metadata = {"pipeline_tag": _TASK}
        made = f"---\npipeline_tag: {_TASK}\n{block}\n---\n\n# {name}\n"
    _check(made, {**metadata, _INDEX: index})
    return made


def _mapping(yaml_text: str) -> dict[str, Any]:
    import yaml

    try:
        data = yaml.safe_load(yaml_text) if yaml_text.strip() else {}
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise SoarBenchError(f"its metadata is not YAML ({reason}): mend it first") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise SoarBenchError("its metadata is no list of keys and values: mend it first")
    return data


def _models(index: Any) -> list[dict[str, Any]]:
    """Return the models of a card's index. SoarBenchError if the hub could not read it either."""
    from huggingface_hub.repocard_data import model_index_to_eval_results

    if not index:
        return []
    try:
        model_index_to_eval_results(index)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SoarBenchError(
            f"its {_INDEX} cannot be read ({type(error).__name__}: {error}): mend it first"
        ) from None
    return list(index)


def _merged(older: Sequence[Mapping[str, Any]], new: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the index with the new model's results in place of its older values."""
    models = [dict(model) for model in older]
    mine = next((model for model in models if model["name"] == new["name"]), None)
    if mine is None:
        return [*models, dict(new)]
    replaced = {_key(r, metric) for r in new["results"] for metric in r["metrics"]}
    kept = [
        {**result, "metrics": metrics}
        for result in mine["results"]
        if (metrics := [m for m in result["metrics"] if _key(result, m) not in replaced])
    ]
    mine["results"] = [*kept, *new["results"]]
    return models


def _key(result: Mapping[str, Any], metric: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the hub's own key of a result, and the metric."""
    dataset = result["dataset"]
    parts = (dataset.get(key) for key in ("type", "config", "split", "revision"))
    return (result["task"]["type"], *parts, metric["type"])


def _without_index(yaml_text: str) -> str:
    """Return the metadata without the block of ``model-index``, other lines as they stand."""
    lines = yaml_text.splitlines(keepends=True)
    kept, inside = [], False
    for line in lines:
        if re.match(rf"""["']?{_INDEX}["']?\s*:""", line):
            inside = True
        elif inside and re.match(r"[^\s#\-]", line):  # the next key; a list may stand at the margin
            inside = False
        if not inside:
            kept.append(line)
    return "".join(kept).rstrip("\r\n")


def _check(text: str, metadata: Mapping[str, Any]) -> None:
    """Raise SoarBenchError unless the hub's library reads exactly this metadata in the card."""
    import yaml
    from huggingface_hub import ModelCard
    from huggingface_hub.repocard import REGEX_YAML_BLOCK

    front = REGEX_YAML_BLOCK.search(text)
    try:
        same = front is not None and yaml.safe_load(front.group(2)) == metadata
    except yaml.YAMLError:  # the new lines do not fit between those that were there
        same = False
    if not same:
        raise SoarBenchError(
            f"its {_INDEX} stands in a form that cannot be replaced line by line: remove it first"
        )
    try:
        ModelCard(text)
    except ValueError as error:
        raise SoarBenchError(f"its metadata is not valid ({error}): mend it first") from None


def write_samples(runs: Sequence[Run], form: str, output: Path, force: bool = False) -> int:
    """Write the table of samples as ``csv`` or ``parquet``; return the number of rows.

    SoarBenchError if the file is there and may not be replaced.
    """
    from soar_bench.core.files import replace_atomically

    if output.exists() and not force:
        raise SoarBenchError(f"{output} is there already: name another file, or say --force")
    table = samples(runs)
    with replace_atomically(output) as aside:
        if form == "parquet":
            table.to_parquet(aside, index=False, compression="zstd")
        else:
            texts = table.select_dtypes(include=["object", "string"])
            table[texts.columns] = texts.map(csv_text, na_action="ignore")
            table.to_csv(aside, index=False, lineterminator="\n")
    return len(table)
