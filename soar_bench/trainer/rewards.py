"""Rewards: evaluators as training sees them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, cast

import numpy as np

from evaluators import registry
from evaluators.scorer import Scorer, to_samples
from evaluators.types import Evaluator, Metric, SetEvaluator
from soar_bench.core.devices import AUTO
from soar_bench.core.errors import SoarBenchError, unknown_name
from soar_bench.scoring.judges import Judge
from soar_bench.scoring.turns import try_batch
from soar_bench.suites.types import Prompt
from training.data.prompts import Prompts


class EvaluatorRewards:
    """Evaluators as rewards, a metric of each: larger is better, whatever the metric's direction.

    Names are checked, and weights looked for, when it is made; evaluators are loaded when the first
    images come.

    Args:
        names: an evaluator's name (or ``file.py``, as elsewhere), followed by ``/METRIC`` where it
            has several metrics.
        device: as of ``evaluators.load``.

    Raises:
        SoarBenchError: no such evaluator or metric, missing weights or packages.
    """

    def __init__(self, names: Iterable[str], device: str = AUTO) -> None:
        self._device = device
        resolved: dict[str, Judge] = {}
        self._chosen = {name: _choose(name, resolved) for name in names}
        first: dict[tuple[str, str, str], str] = {}
        for name, (judge, metric) in self._chosen.items():
            kind = type(judge.evaluator).__module__, judge.name, metric.name
            other = first.setdefault(kind, name)
            if other != name:
                raise SoarBenchError(
                    f"rewards: {other} and {name} are the same metric, which would count twice: "
                    "leave one out"
                )
        for judge, _ in self._chosen.values():
            judge.evaluator.check()
        self._reasons: dict[str, str] = {}

    @property
    def names(self) -> list[str]:
        return list(self._chosen)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """By reward: the metric's version, and what else decides the evaluator's values."""
        return {
            name: {"metric": metric.name, "version": metric.version, **judge.identity}
            for name, (judge, metric) in self._chosen.items()
        }

    @cached_property
    def _scorers(self) -> dict[int, Scorer]:
        """By the judge's ``id``: several rewards may be metrics of one."""
        judges = {id(judge): judge for judge, _ in self._chosen.values()}
        return {key: self._load(judge.evaluator) for key, judge in judges.items()}

    def _load(self, evaluator: Evaluator) -> Scorer:
        try:
            return Scorer(evaluator, self._device)
        except SoarBenchError:
            raise
        except (Exception, SystemExit) as error:
            raise SoarBenchError(
                f"the reward's evaluator {evaluator.name} cannot be loaded: "
                f"{registry.describe_error(error)}"
            ) from error

    def __call__(
        self, images: np.ndarray, prompts: Sequence[str], metadata: Sequence[Mapping[str, Any]]
    ) -> dict[str, np.ndarray]:
        """Return float64 [B] by name for images uint8 [B, H, W, 3]; NaN where unscored."""
        samples = to_samples(list(images), list(prompts), list(metadata))
        # An image on which an evaluator fails is unscored, as in an evaluation.
        judged = {
            key: try_batch(cast("Evaluator", scorer), samples)[0]
            for key, scorer in self._scorers.items()
        }
        rewards = {}
        for name, (judge, metric) in self._chosen.items():
            scores = [each[metric.name] for each in judged[id(judge)]]
            for score in scores:
                if score.value is None:
                    self._reasons[name] = score.unscored
            sign = 1 if metric.higher_is_better else -1
            values = np.array([score.value for score in scores], np.float64)  # None becomes NaN
            rewards[name] = sign * values
        return rewards

    def unable(self, prompt: str, metadata: Mapping[str, Any]) -> list[str]:
        """Return the names of the rewards that can judge no image of a prompt."""
        asked = Prompt("", prompt, dict(metadata))
        return [name for name, (judge, _) in self._chosen.items() if not judge.can_judge(asked)]

    def reason(self, name: str) -> str:
        """Return why the last unscored sample of that reward has no score."""
        return self._reasons.get(name, "")


def judgeable(prompts: Prompts, rewards: EvaluatorRewards, data: str) -> tuple[Prompts, str]:
    """Return the prompts that all rewards can judge, and a note on the others; "" if there are
    none. Images of those would be made for nothing. SoarBenchError if a reward can judge none.
    """
    pairs = list(zip(prompts.texts, prompts.metadata, strict=True))
    unable = [rewards.unable(*pair) for pair in pairs]
    left_out = Counter(name for names in unable for name in names)
    for name, number in left_out.items():
        if number == len(pairs):
            raise SoarBenchError(
                f"rewards.{name} can judge none of the {number:,} prompts of {data}: take prompts "
                "with the metadata that it reads (docs/suites.md), or another reward"
            )
    if not left_out:
        return prompts, ""
    kept = [pair for pair, names in zip(pairs, unable, strict=True) if not names]
    if not kept:
        raise SoarBenchError(f"no prompt of {data} can be judged by {' and '.join(left_out)}")
    note = (
        f"{len(pairs) - len(kept):,} of {len(pairs):,} prompts are left out: no image of them can "
        f"be judged by {' or '.join(left_out)}"
    )
    return Prompts([text for text, _ in kept], [record for _, record in kept]), note


def _choose(name: str, resolved: dict[str, Judge]) -> tuple[Judge, Metric]:
    """Return the judge and the metric that a reward's name means; ``resolved`` are the judges of
    earlier names, to which this one's is added.
    """
    head, _, chosen = name.rpartition("/")
    if not head or ".py" in chosen:  # no metric, or a file's path
        head, chosen = name, ""
    if head not in resolved:
        resolved[head] = Judge.of(head)
    evaluator = resolved[head].evaluator
    if isinstance(evaluator, SetEvaluator):
        raise SoarBenchError(
            f"rewards: {evaluator.name} judges images together, not each alone, so it is no "
            "reward: leave it out, or let it watch in an evaluation"
        )
    metrics = {metric.name: metric for metric in evaluator.metrics}
    if not chosen:
        main = evaluator.name.replace("-", "_")
        chosen = main if len(metrics) > 1 else next(iter(metrics))
        if chosen not in metrics:
            choices = " or ".join(f"{name}/{metric}" for metric in metrics)
            raise SoarBenchError(f"rewards: {name} has several metrics: choose {choices}")
    if chosen not in metrics:
        raise unknown_name(f"metric of {evaluator.name}", chosen, list(metrics))
    return resolved[head], metrics[chosen]
