"""Scores of several runs in one metric, aligned sample by sample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from soar_bench.stats.layout import Layout

#: The columns that name a sample, and the task in whose mean it counts.
SAMPLE = ("task", "prompt_id", "index")


@dataclass(frozen=True)
class Scores:
    """One run's scores in one metric. Every array is [samples]."""

    task: pd.Index[Any]
    prompt_id: pd.Index[Any]
    index: np.ndarray
    #: NaN where unscored
    value: np.ndarray

    @classmethod
    def of(cls, frame: pd.DataFrame) -> Scores:
        """Return the scores of a frame of one metric with the columns task, prompt_id, value and,
        if samples are to be paired, index. A value that is not finite counts as unscored.
        """
        values = frame["value"].to_numpy(float)
        return cls(
            pd.Index(frame["task"]),
            pd.Index(frame["prompt_id"]),
            frame["index"].to_numpy() if "index" in frame else np.zeros(len(frame), dtype=int),
            np.where(np.isfinite(values), values, np.nan),
        )

    def only(self, mask: np.ndarray) -> Scores:
        """Return the scores of the samples for which the mask is True: [samples]."""
        return Scores(self.task[mask], self.prompt_id[mask], self.index[mask], self.value[mask])

    def same_samples(self, other: Scores) -> bool:
        """Return whether both have the same samples in the same order."""
        return len(self.value) == len(other.value) and bool(
            np.array_equal(self.index, other.index)
            and self.prompt_id.equals(other.prompt_id)
            and self.task.equals(other.task)
        )


@dataclass(frozen=True)
class Aligned:
    """Samples that any of several runs has, sorted for their layout."""

    layout: Layout
    #: number of each sample's task in ``task_names``, [samples]
    tasks: np.ndarray
    #: sorted by name
    task_names: tuple[str, ...]
    #: the same names in the order in which the runs have them
    task_order: tuple[str, ...]
    #: prompt id of each prompt of the layout, [prompts]
    prompt_ids: np.ndarray
    #: NaN where a run has no score, [runs, samples]
    values: np.ndarray

    @classmethod
    def of(cls, runs: Sequence[Scores | None], aggregate: str) -> Aligned:
        """Align runs by task, prompt id and index; None is a run without the metric.

        ``aggregate`` is ``mean``, ``task_mean``, the unweighted mean of the tasks' means,
        ``stratified_mean``, the mean where tasks and their numbers of prompts are fixed, or
        ``pooled``, the mean of samples that are parts of images. Prompts come in the order in
        which the runs have them.
        """
        present = [run for run in runs if run is not None]
        first = present[0]
        if len(present) == len(runs) and all(first.same_samples(run) for run in runs[1:]):  # type: ignore[arg-type]
            task, prompt_id, index = first.task, first.prompt_id, first.index
            values = np.array([run.value for run in present])
        else:
            task, prompt_id, index, values = _union(runs, present)
        tasks, task_names = pd.factorize(task, sort=True)
        prompts, prompt_names = pd.factorize(prompt_id)
        equal = aggregate == "task_mean"
        stratified = equal or aggregate == "stratified_mean"
        order = np.lexsort((index, prompts, tasks) if stratified else (index, tasks, prompts))
        layout = Layout.of(tasks[order], prompts[order], stratified, equal)
        layout = replace(layout, parts=aggregate == "pooled")
        return cls(
            layout,
            tasks[order],
            tuple(map(str, task_names)),
            tuple(map(str, dict.fromkeys(task))),
            np.asarray(prompt_names)[prompts[order][layout.prompts]],
            values[:, order],
        )


def _union(
    runs: Sequence[Scores | None], present: Sequence[Scores]
) -> tuple[Any, Any, np.ndarray, np.ndarray]:
    """Return task, prompt id and index of the samples that any run has, and the runs' values,
    [runs, samples]; the mean where a run has a sample twice.
    """
    columns = [np.concatenate([np.asarray(getattr(run, c)) for run in present]) for c in SAMPLE]
    codes = np.zeros(len(columns[0]), dtype=np.int64)
    for column in columns:
        inner, names = pd.factorize(column)
        codes, _ = pd.factorize(codes * max(len(names), 1) + inner)
    _, first = np.unique(codes, return_index=True)
    lengths = [0 if run is None else len(run.value) for run in runs]
    cells = np.repeat(np.arange(len(runs)), lengths) * len(first) + codes
    values = np.concatenate([run.value for run in present])
    scored = ~np.isnan(values)
    size = len(runs) * len(first)
    sums = np.bincount(cells[scored], weights=values[scored], minlength=size)
    counts = np.bincount(cells[scored], minlength=size)
    means = np.divide(sums, counts, out=np.full(size, math.nan), where=counts > 0)
    task, prompt_id, index = (column[first] for column in columns)
    return task, prompt_id, index, means.reshape(len(runs), len(first))
