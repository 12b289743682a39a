"""Typed contents of ``run.json``. docs/records.md describes the file; the fields here are its keys.

Imports no torch and no pandas.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from soar_bench.core.digests import digest_of
from soar_bench.records.fields import EXTRA, Bounds, Number, Text, Whole
from soar_bench.records.labels import Named

if TYPE_CHECKING:
    from evaluators.types import Metric

#: Layout of run.json that is written and read.
SCHEMA = 2
#: Form of a checkpoint that is images from elsewhere.
IMAGES = "images"
#: Key of a checkpoint's story with the origin of images from elsewhere.
IMPORTED = "imported"


class _Part(BaseModel):
    """Part of a record. Unknown keys are kept, so that a record is written as it was read."""

    model_config = ConfigDict(
        **EXTRA, frozen=True, use_attribute_docstrings=True, populate_by_name=True
    )


class _Settings(TypedDict, total=False):
    """Settings of a protocol; images from elsewhere have other keys."""

    __pydantic_config__ = EXTRA  # type: ignore[misc]

    dtype: Text
    guidance: Number
    max_sequence_length: Whole
    noise: Text
    resolution: Whole | None
    steps: Whole
    vae_dtype: Text


class _Named(TypedDict, total=False):
    """Data or, for images from elsewhere, the tool whose results were imported."""

    __pydantic_config__ = EXTRA  # type: ignore[misc]

    digest: Text
    name: Text
    tool: Text


class _Base(_Named, total=False):
    """Pipeline or checkpoint that a training started from."""

    story: Story


class Story(TypedDict, total=False):
    """The trainer's part of ``checkpoint.json``, or the origin of images from elsewhere."""

    __pydantic_config__ = EXTRA  # type: ignore[misc]

    base: _Base
    config: dict[Text, Any]
    data: _Named
    imported: _Named
    method: Text
    name: Text
    seed: Whole
    step: Whole


#: Parts by which a training is recognised, so none of them may be missing from its story.
_TRAINING = ("name", "method", "step", "seed", "config", "base", "data")


class BaseRecord(_Part):
    """Pipeline that a checkpoint stands on."""

    name: Text
    """Folder, hub id or embedded name."""
    digest: Text
    """Digest of its weights, settings and vocabularies."""


class CheckpointRecord(_Part):
    """Weights that were judged, or images from elsewhere."""

    label: Text
    """Name for tables."""
    name: Text
    """Name or path as the user typed it."""
    digest: Text
    """Digest of the weights, or of all images."""
    form: Text
    """``pipeline``, ``transformer``, ``lora`` or ``images``."""
    base: BaseRecord | None
    """Pipeline it stands on; None for a pipeline and for images."""
    revision: Text
    """Commit of a hub repository; empty for others."""
    story: Story
    """The trainer's part of ``checkpoint.json``; empty for what was not trained here. Of images
    from elsewhere the one key ``imported``: their origin."""
    labelled: bool = False
    """Whether the user chose the label, so that every page shows it."""

    @property
    def named(self) -> Named:
        """Fields that tell it from other checkpoints of its label."""
        return Named(self.label, self.digest, self.story.get("step"))

    @property
    def tool(self) -> str:
        """Return the tool whose results were imported; empty for what was scored here."""
        return self.story.get("imported", {}).get("tool", "")

    @model_validator(mode="after")
    def _whole_story(self) -> CheckpointRecord:
        if self.form != IMAGES and self.story:
            lacking = _lacking(self.story, "checkpoint.story")
            if lacking:
                raise PydanticCustomError("lacking", "{paths}", {"paths": ", ".join(lacking)})
        return self


def _lacking(story: Story, place: str) -> list[str]:
    """Return the paths of the parts that a story lacks, or those of what it goes on from."""
    base, data = story.get("base"), story.get("data")
    lacking = [f"{place}.{key}" for key in _TRAINING if key not in story]
    for key, part in (("base", base), ("data", data)):
        if part is not None and "digest" not in part:
            lacking.append(f"{place}.{key}.digest")
    if base and "story" in base:
        lacking += _lacking(base["story"], f"{place}.base.story")
    return lacking


class SuiteRecord(_Part):
    """Prompts that the images were made from."""

    name: Text
    """Name of the suite."""
    digest: Text
    """Digest of prompts, metadata and seed."""
    seed: Whole | None
    """Seed of the initial noise; None for images from elsewhere."""
    prompts: Whole
    """Number of prompts."""
    images_per_prompt: Number
    """Images per prompt; the mean where prompts have different numbers of images."""
    source: Text
    """The user's own file; empty for a named suite."""
    primary: Text = ""
    """Metric to rank by, of the evaluator that was named first; empty where the suite or the
    metrics themselves say it."""


class ProtocolRecord(_Part):
    """Settings of generation."""

    name: Text
    """Name of the protocol."""
    settings: _Settings
    """Every setting that changes a number."""


class MetricRecord(_Part):
    """Declaration of a metric."""

    unit: Text
    """Unit of a value."""
    range: Bounds
    """Smallest and largest possible value; infinite where there is no bound (null in the file)."""
    higher_is_better: bool
    """Direction of the metric."""
    version: Text
    """Changes whenever the same image could get another value."""
    source: Text
    """Paper and official implementation."""
    aggregate: Literal["mean", "task_mean", "pooled"]
    """Mean of all samples, unweighted mean of the tasks' means, or mean of all samples' parts."""
    stratified: bool = False
    """Whether the standard error of a mean of all samples is within tasks, which are fixed."""
    skewed: bool = False
    """Whether values lie to one side, so that the interval of a mean is corrected for it."""
    of_run: bool = False
    """Whether scores are of the run as a whole, so that equal ones are not evidence by prompt."""

    @property
    def mean(self) -> str:
        """The aggregate by its name in :mod:`soar_bench.stats`."""
        return "stratified_mean" if self.stratified and self.aggregate == "mean" else self.aggregate

    @property
    def shares(self) -> bool:
        """Whether scores that are all 0 or 1 are right or wrong."""
        return tuple(self.range) == (0, 1)

    @classmethod
    def of(cls, metric: Metric, *, of_run: bool = False) -> MetricRecord:
        """Return the record of a metric as its evaluator declares it."""
        flags = {"stratified": metric.stratified, "skewed": metric.skewed, "of_run": of_run}
        fields = {name: getattr(metric, name) for name in cls.model_fields.keys() - flags.keys()}
        return cls.model_validate(fields | {name: True for name, is_so in flags.items() if is_so})


class EvaluatorRecord(_Part):
    """Evaluator that judged the samples."""

    given: Text
    """Name as the user typed it: a path or module for plug-ins."""
    version: Text
    """Version of the package it comes from; empty for a file."""
    identity: dict[Text, Text]
    """Everything besides the metrics' versions that decides its values: weights, engines."""
    metrics: dict[Text, MetricRecord] = Field(min_length=1)
    """Its metrics by name."""

    @property
    def decides(self) -> dict[str, Any]:
        """Return the part that decides its values; the rest explains them."""
        return {
            "identity": self.identity,
            "metrics": {
                name: {"version": metric.version, "aggregate": metric.aggregate}
                for name, metric in self.metrics.items()
            },
        }


class MetricSummary(_Part):
    """Value of a metric over all samples."""

    value: Number | None
    """The aggregate; None where nothing was scored."""
    standard_error: Number | None
    """Standard error over prompts; None where it cannot be known."""
    scored: Whole
    """Number of samples with a value."""
    unscored: Whole
    """Number of samples without one."""
    tasks: dict[Text, Number]
    """Mean of each task."""


class CutRecord(_Part):
    """Prompts that a text encoder read in part."""

    tokens: Whole
    """Tokens that it reads."""
    prompts: Whole
    """Number of prompts that have more."""


class MadeRecord(_Part):
    """When, where and with what the run was made; no part of its identity."""

    started: Text = ""
    """Time in UTC, ISO 8601."""
    finished: Text = ""
    """Time in UTC, ISO 8601."""
    seconds: dict[Text, Number] = {}
    """Seconds by stage."""
    generated: Whole = 0
    """Images made in this run."""
    scored: dict[Text, Whole] = {}
    """Samples scored in this run, by evaluator."""
    failed: dict[Text, Whole] = {}
    """Samples that an evaluator failed on, by evaluator."""
    processes: Whole = 1
    """Number of processes."""
    batch_size: Whole | None = None
    """Images made at once, or scored at once for images from elsewhere."""
    device: Text = ""
    """Device, with the model of a GPU."""
    machine: Text = ""
    """Operating system and architecture."""
    memory: Whole | None = None
    """Most bytes that the GPU held; None on other devices."""
    peaks: dict[Text, dict[Text, Whole]] = {}
    """Most bytes that were held, by stage: of the ``gpu``, and of the ``process`` on Linux."""
    cut_prompts: dict[Text, CutRecord] = {}
    """Prompts that were cut, by text encoder; absent where none was."""
    versions: dict[Text, Text] = {}
    """Versions of the libraries."""
    commit: Text | None = None
    """Git commit of the project, with ``+`` where it had local changes."""


class ScoresRecord(_Part):
    """The file of scores beside the record."""

    file: Text
    """Its name."""
    sha256: Text
    """Its SHA-256."""
    rows: Whole
    """Number of its rows."""


class RunDraft(_Part):
    """Record before its scores are written: all but ``scores`` and ``schema``."""

    checkpoint: CheckpointRecord
    suite: SuiteRecord
    protocol: ProtocolRecord
    evaluators: dict[Text, EvaluatorRecord] = Field(min_length=1)
    """Evaluators by name."""
    metrics: dict[Text, MetricSummary]
    """Value of each metric over all samples, for reading by eye."""
    made: MadeRecord = MadeRecord()

    @property
    def title(self) -> str:
        """Name of the board that it stands on, in headings."""
        return f"{self.suite.name} under {self.protocol.name}"

    @model_validator(mode="after")
    def _made_here(self) -> RunDraft:
        """Images that were made here have a seed and a whole number per prompt."""
        for name in ("seed", "images_per_prompt") if self.checkpoint.form != IMAGES else ():
            value = getattr(self.suite, name)
            if not isinstance(value, int):
                context = {"path": f"suite.{name}", "value": value, "kind": "a whole number"}
                raise PydanticCustomError("wrong_part", "{kind}", context)
        return self

    @property
    def decides(self) -> dict[str, Any]:
        """Return everything but the checkpoint that decides the run's numbers."""
        return {
            "suite": self.suite.model_dump(include={"name", "digest", "images_per_prompt"}),
            "protocol": self.protocol.settings,
            "evaluators": {name: judge.decides for name, judge in self.evaluators.items()},
        }

    def key(self) -> str:
        """Return a digest of what decides the numbers, the checkpoint included.

        The precision of decoding counts only where it differs from the precision of the rest: the
        committed folders are named so.
        """
        settings: dict[str, Any] = dict(self.protocol.settings)
        if settings.get("vae_dtype") == settings.get("dtype"):
            settings.pop("vae_dtype", None)
        return digest_of(
            [
                self.checkpoint.digest,
                self.suite.model_dump(
                    include={"name", "digest", "seed", "prompts", "images_per_prompt"}
                ),
                {"name": self.protocol.name, "settings": settings},
                self.decides["evaluators"],
            ]
        )


class RunRecord(RunDraft):
    """Contents of ``run.json``."""

    scores: ScoresRecord
    schema_: Literal[2] = Field(default=2, alias="schema")
    """Layout of the file."""

    def as_json(self) -> dict[str, Any]:
        """Return the contents of ``run.json``: what was set or read, and nothing more."""
        return self.model_dump(by_alias=True, exclude_unset=True)
