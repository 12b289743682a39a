"""A loaded evaluator that is called on images and prompts, for scripts and as a reward.

Writes no files and leaves torch's state as the caller had it: grad mode, autocast, default dtype
and device, and the random number generators. Imports no torch until an evaluator is loaded.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from evaluators import registry
from evaluators.types import (
    PARTS,
    Evaluator,
    EvaluatorError,
    Metric,
    Sample,
    Score,
    SetEvaluator,
)
from soar_bench.core.devices import AUTO, choose
from soar_bench.core.images import rgb_array
from soar_bench.core.memory import out_of_memory
from soar_bench.core.precision import full_name
from soar_bench.core.torch_state import preserved_torch_state

if TYPE_CHECKING:
    import torch

#: Samples that the evaluator gets at once unless the caller says otherwise.
BATCH_SIZE = 64


class Scorer:
    """An evaluator in memory, called on images and prompts; ``evaluators.load`` is its other name.

    Args:
        evaluator: a name of ``evaluators.list()``, ``file.py``, ``file.py:Class``,
            ``module:Class``, or an :class:`Evaluator`, which is loaded itself.
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``; ``auto`` takes the best that is here.
        dtype: of weights and activations; the first of the evaluator's ``dtypes`` unless named.
        batch_size: samples that the evaluator gets at once.

    Raises:
        EvaluatorError: no such evaluator, weights to fetch, a package to install, a precision it
            does not have. Nothing is loaded then.
        SoarBenchError: the device is not here.
    """

    def __init__(
        self,
        evaluator: str | Evaluator,
        device: str | torch.device = AUTO,
        dtype: str | torch.dtype | None = None,
        *,
        batch_size: int = BATCH_SIZE,
    ) -> None:
        if batch_size < 1:
            raise EvaluatorError(f"batch_size must be at least 1, not {batch_size}")
        self.evaluator = registry.resolve(evaluator)
        self.batch_size = batch_size
        self.dtype = _precision(self.evaluator, dtype)
        self.evaluator.check()
        self.device = _pinned(choose(str(device)))
        with preserved_torch_state(self.device, gradients=True):
            self.evaluator.load(self.device, self.dtype)

    def __repr__(self) -> str:
        return f"Scorer({self.name!r}, device={self.device!r}, dtype={self.dtype!r})"

    @property
    def name(self) -> str:
        """The evaluator's name."""
        return self.evaluator.name

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Unit, range, direction, version and source of each metric."""
        return self.evaluator.metrics

    def __call__(
        self,
        images: Any,
        prompts: str | Sequence[str],
        metadata: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    ) -> np.ndarray | dict[str, np.ndarray]:
        """Return the values of B images, in order; see :func:`to_samples` for what is accepted.

        One metric: float64 [B]. Several: a dict of float64 [B] by metric name. NaN where a sample
        is unscored; :meth:`score` has the reasons.
        """
        scores = self.score(to_samples(images, prompts, metadata))
        values = {  # None becomes NaN
            metric.name: np.array([s[metric.name].value for s in scores], np.float64)
            for metric in self.metrics
        }
        return values if len(values) > 1 else values[self.metrics[0].name]

    def score(self, samples: Sequence[Sample]) -> list[dict[str, Score]]:
        """Return, for each sample in order, the score of each metric by its name.

        What the evaluator raises is raised. Where memory does not suffice, the batch is not made
        smaller behind the caller's back: the error says to set ``batch_size``.
        """
        import torch

        fresh = [_guarded(sample) for sample in samples]
        results: list[dict[str, Score]] = []
        # a SetEvaluator sees all images at once, and embeds them in batches of its own
        whole = isinstance(self.evaluator, SetEvaluator)
        step = max(len(fresh), 1) if whole else self.batch_size
        for start in range(0, len(fresh), step):
            batch = fresh[start : start + step]
            try:
                with preserved_torch_state(self.device), torch.inference_mode():
                    results += score_batch(self.evaluator, batch)
            except Exception as error:
                if out_of_memory(error):
                    error.add_note(
                        f"{self.name} had {len(batch)} images at once: load it with a smaller "
                        f"batch_size than {self.batch_size}"
                    )
                raise
        return results


def _guarded(sample: Sample) -> Sample:
    """Return a sample whose pixels and metadata an evaluator cannot change for others.

    The array is a new one over the same pixels: evaluators may remember an array that they have
    seen, and the caller may have written other pixels into it.
    """
    image = sample.image.view()
    image.setflags(write=False)
    return replace(sample, image=image, metadata=copy.deepcopy(dict(sample.metadata)))


class BrokenContract(EvaluatorError):
    """An evaluator returned something else than it declares."""


def score_batch(evaluator: Evaluator, samples: Sequence[Sample]) -> list[dict[str, Score]]:
    """Return the scores of a batch in plain types; takes generators, numbers and NumPy scalars too.

    BrokenContract for what is not one score of each metric for each sample, within the metric's
    range. Errors of the evaluator itself pass through.
    """
    return plain_scores(evaluator, evaluator.score(samples), len(samples))


def plain_scores(evaluator: Evaluator, results: Any, count: int) -> list[dict[str, Score]]:
    """Return what an evaluator returned for ``count`` samples, as :func:`score_batch` does."""
    if isinstance(results, Iterable) and not isinstance(results, str | Mapping):
        results = list(results)
    names = {metric.name for metric in evaluator.metrics}
    if (
        not isinstance(results, list)
        or len(results) != count
        or any(not isinstance(scores, Mapping) or set(scores) != names for scores in results)
    ):
        raise BrokenContract(
            f"the evaluator {evaluator.name} did not return one score of each of its metrics "
            f"({', '.join(sorted(names))}) for each sample: report this to its author"
        )
    metrics = evaluator.metrics
    return [{m.name: _plain(evaluator, m, scores[m.name]) for m in metrics} for scores in results]


def _plain(evaluator: Evaluator, metric: Metric, score: Any) -> Score:
    """Return one score in plain types, within its range."""
    try:
        if isinstance(score, int | float | np.integer | np.floating):
            score = Score(float(score))
        details = json.dumps(dict(score.details), default=lambda value: value.tolist())
        value = None if score.value is None else float(score.value)
        plain = Score(value, score.unscored + "", json.loads(details))
    except (AttributeError, TypeError, ValueError) as error:
        raise BrokenContract(
            f"the evaluator {evaluator.name} gave {metric.name} = {score!r:.80}, which is no score "
            f"({error}): report this to its author"
        ) from None
    if value is not None and not metric.range[0] <= value <= metric.range[1]:
        raise BrokenContract(
            f"the evaluator {evaluator.name} gave {metric.name} = {value}, outside its "
            f"range {metric.range}: report this to its author"
        )
    parts = plain.details.get(PARTS)
    counted = type(parts) is int and parts > 0
    if metric.aggregate == "pooled" and value is not None and not counted:
        raise BrokenContract(
            f"the evaluator {evaluator.name} gave {metric.name} = {value}, but no details of "
            f"{PARTS!r} that say how many it is the mean of: report this to its author"
        )
    return plain


def to_samples(
    images: Any,
    prompts: str | Sequence[str],
    metadata: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
) -> list[Sample]:
    """Return images of many kinds, with their prompts, as samples.

    Args:
        images: a PIL image, a uint8 array [H, W, 3], a list of those, or a batch: an array or
            tensor [B, 3, H, W], uint8 or float in [0, 1]. Floats become ``round(255 x)``, as a
            pipeline's images do when they are saved. PIL images follow the rules of image files:
            grey and palette become RGB; transparency in use, more than 8 bits and CMYK are refused.
        prompts: one text for all images, or one for each.
        metadata: of the prompts, for evaluators that read it: one for all images, or one for each.

    Raises:
        EvaluatorError: images of another kind or outside [0, 1], or counts that differ.
    """
    arrays = _arrays(images)
    texts, records = for_each(prompts, metadata, len(arrays))
    return [Sample(*parts) for parts in zip(arrays, texts, records, strict=True)]


def for_each(
    prompts: str | Sequence[str],
    metadata: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None,
    count: int,
) -> tuple[list[str], list[Mapping[str, Any]]]:
    """Return ``count`` prompts and their metadata. EvaluatorError if there are more or fewer."""
    texts = _for_each(prompts, str, "prompts", count)
    return texts, _for_each({} if metadata is None else metadata, Mapping, "metadata", count)


def _for_each(values: Any, kind: type, name: str, count: int) -> list[Any]:
    """Return ``values``, or the single value repeated, as ``count`` of a kind."""
    each = [values] * count if isinstance(values, kind) else list(values)
    if len(each) != count:
        raise EvaluatorError(f"there are {count} images and {len(each)} {name}: give one for each")
    wrong = next((value for value in each if not isinstance(value, kind)), None)
    if wrong is not None:
        raise EvaluatorError(f"{name} must each be a {kind.__name__}, not {wrong!r}")
    return each


def _arrays(images: Any) -> list[np.ndarray]:
    """Return uint8 RGB [H, W, 3] of each image."""
    if isinstance(images, Image.Image) or (isinstance(images, np.ndarray) and images.ndim == 3):
        return [_array(images, "the image")]
    if hasattr(images, "shape"):
        return _unbatched(images)
    if isinstance(images, Sequence) and not isinstance(images, str | bytes):
        return [_array(image, f"image {i}") for i, image in enumerate(images)]
    raise EvaluatorError(
        "images must be PIL images, uint8 arrays [H, W, 3], a list of them, or one array or tensor "
        f"[B, 3, H, W], not {type(images).__name__}"
    )


def _array(image: Any, where: str) -> np.ndarray:
    if isinstance(image, Image.Image):
        return rgb_array(image, where)
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.shape[2:] == (3,):
        return image
    raise EvaluatorError(
        f"{where} must be a PIL image or a uint8 array [H, W, 3], not {_describe(image)}; give "
        "tensors, and arrays of floats, as one batch [B, 3, H, W]"
    )


def _unbatched(batch: Any) -> list[np.ndarray]:
    """Return the images of an array or tensor [B, 3, H, W]."""
    import torch

    if isinstance(batch, np.ndarray) and batch.dtype.kind in "fu":
        batch = torch.tensor(batch, device="cpu")
    if not isinstance(batch, torch.Tensor) or batch.ndim != 4 or batch.shape[1] != 3:
        last = len(getattr(batch, "shape", ())) == 4 and batch.shape[-1] == 3
        raise EvaluatorError(
            f"a batch of images must be an array or tensor [B, 3, H, W], not {_describe(batch)}"
            + (": move the channels from the end, permute(0, 3, 1, 2)" if last else "")
        )
    if batch.dtype != torch.uint8:
        batch = _rounded(batch.detach())
    return list(batch.permute(0, 2, 3, 1).contiguous().cpu().numpy())


def _rounded(batch: torch.Tensor) -> torch.Tensor:
    """Return floats in [0, 1] as uint8, ``round(255 x)`` with halves to even, on its device."""
    import torch

    if not batch.is_floating_point():
        raise EvaluatorError(
            f"a batch of images must be uint8, or float in [0, 1], not {_describe(batch)}"
        )
    if batch.dtype != torch.float64:
        batch = batch.float()
    if batch.numel():
        low, high = (float(bound) for bound in batch.aminmax())
        if not (low >= 0 and high <= 1):  # NaN too
            raise EvaluatorError(
                "a float batch of images must lie in [0, 1] and hold no NaN, but runs from "
                f"{low:.4g} to {high:.4g}; from [-1, 1] it is made by (x / 2 + 0.5).clamp(0, 1)"
            )
    return (batch * 255).round().to(torch.uint8)


def _describe(value: Any) -> str:
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{value.dtype} {list(value.shape)}"
    return type(value).__name__


def _precision(evaluator: Evaluator, dtype: str | torch.dtype | None) -> str:
    if dtype is None:
        return evaluator.dtypes[0]
    name = full_name(str(dtype).removeprefix("torch."))
    if name not in evaluator.dtypes:
        raise EvaluatorError(
            f"the evaluator {evaluator.name} computes in {' or '.join(evaluator.dtypes)}, not "
            f"{name}: choose one of them"
        )
    return name


def _pinned(device: str) -> str:
    """Return the current GPU by its number, so that the evaluator stays on it."""
    if device != "cuda":
        return device
    import torch

    return f"cuda:{torch.cuda.current_device()}"
