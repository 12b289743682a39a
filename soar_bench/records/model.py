"""Typed contents of ``run.json``. docs/records.md describes the file; the fields here are its keys.

Imports no torch and no pandas.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

#: Layout of run.json that is written and read.
SCHEMA = 2


class _Part(BaseModel):
    """Part of a record: types are checked strictly, keys that are not known are kept."""

    model_config = ConfigDict(
        extra="allow", strict=True, use_attribute_docstrings=True, populate_by_name=True
    )


class BaseRecord(_Part):
    """Pipeline that a checkpoint stands on."""

    name: str
    """Folder, hub id or embedded name."""
    digest: str
    """Digest of its weights, settings and vocabularies."""


class CheckpointRecord(_Part):
    """Weights that were judged, or images from elsewhere."""

    label: str
    """Name for tables."""
    name: str
    """Name or path as the user typed it."""
    digest: str
    """Digest of the weights, or of all images."""
    form: str
    """``pipeline``, ``transformer``, ``lora`` or ``images``."""
    base: BaseRecord | None
    """Pipeline it stands on; None for a pipeline and for images."""
    revision: str
    """Commit of a hub repository; empty for others."""
    story: dict[str, Any]
    """What the trainer wrote into ``checkpoint.json``; empty for what was not trained here."""


class SuiteRecord(_Part):
    """Prompts that the images were made from."""

    name: str
    """Name of the suite."""
    digest: str
    """Digest of prompts, metadata and seed."""
    seed: int | None
    """Seed of the initial noise; None for images from elsewhere."""
    prompts: int
    """Number of prompts."""
    images_per_prompt: int | float
    """Images per prompt; the mean where prompts have different numbers of images."""
    source: str
    """The user's own file; empty for a named suite."""


class ProtocolRecord(_Part):
    """Settings of generation."""

    name: str
    """Name of the protocol."""
    settings: dict[str, Any]
    """Every setting that changes a number."""


class MetricRecord(_Part):
    """Declaration of a metric."""

    unit: str
    """What one value counts."""
    range: tuple[float | None, float | None] = Field(strict=False)
    """Smallest and largest possible value; None where there is no bound."""
    higher_is_better: bool
    """Direction of the metric."""
    version: str
    """Changes whenever the same image could get another value."""
    source: str
    """Paper and official implementation."""
    aggregate: Literal["mean", "task_mean"]
    """How samples become one number."""


class EvaluatorRecord(_Part):
    """Evaluator that judged the samples."""

    given: str
    """Name as the user typed it: a path or module for plug-ins."""
    version: str
    """Version of the package it comes from; empty for a file."""
    identity: dict[str, str]
    """What decides its values besides the metrics' versions: digests of weights, engine versions."""
    metrics: dict[str, MetricRecord]
    """Its metrics by name."""


class MetricSummary(_Part):
    """Value of a metric over all samples."""

    value: float | None
    """The aggregate; None where nothing was scored."""
    standard_error: float | None
    """Standard error over prompts; None where it cannot be known."""
    scored: int
    """Number of samples with a value."""
    unscored: int
    """Number of samples without one."""
    tasks: dict[str, float]
    """Mean of each task."""


class MadeRecord(_Part):
    """When, where and with what the run was made; no part of its identity."""

    started: str = ""
    """Time in UTC, ISO 8601."""
    finished: str = ""
    """Time in UTC, ISO 8601."""
    seconds: dict[str, float] = {}
    """Seconds by stage."""
    generated: int = 0
    """Images made in this run."""
    scored: dict[str, int] = {}
    """Samples scored in this run, by evaluator."""
    failed: dict[str, int] = {}
    """Samples that an evaluator failed on, by evaluator."""
    processes: int = 1
    """Number of processes."""
    batch_size: int | None = None
    """Images made at once, or scored at once for images from elsewhere."""
    device: str = ""
    """Device, with the model of a GPU."""
    machine: str = ""
    """Operating system and architecture."""
    memory: int | None = None
    """Most bytes that the GPU held; None on other devices."""
    versions: dict[str, str] = {}
    """Versions of the libraries."""
    commit: str | None = None
    """Git commit of the project, with ``+`` where it had local changes."""


class ScoresRecord(_Part):
    """The file of scores beside the record."""

    file: str
    """Its name."""
    sha256: str
    """Its SHA-256."""
    rows: int
    """Number of its rows."""


class RunRecord(_Part):
    """Contents of ``run.json``."""

    checkpoint: CheckpointRecord
    suite: SuiteRecord
    protocol: ProtocolRecord
    evaluators: dict[str, EvaluatorRecord]
    """Evaluators by name."""
    metrics: dict[str, MetricSummary]
    """Value of each metric over all samples, for reading by eye."""
    made: MadeRecord
    scores: ScoresRecord
    schema_: Literal[2] = Field(default=SCHEMA, alias="schema")
    """Layout of the file."""
