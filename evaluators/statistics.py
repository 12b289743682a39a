"""Statistics of a picture without a model: they catch what rewards and judges pass over.

Users of post-training report pictures that blur, empty out or brighten while the reward rises. Each
metric's direction is away from the fault that is reported, so that "worse" means "more of it".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from evaluators.types import Evaluator, Metric, Sample, Score

#: Length of the Sobel gradient of luma in [0, 1] above which a pixel lies on an edge.
EDGE = 0.4
#: Grey levels that the values of one channel may lie apart in a blank picture.
BLANK = 4
#: Weights of red, green and blue in luma (ITU-R BT.601).
LUMA = (0.299, 0.587, 0.114)


def luma(image: np.ndarray) -> np.ndarray:
    """Return the luma in [0, 1], float64 [H, W], of uint8 RGB [H, W, 3]."""
    red, green, blue = (image[..., c] * (weight / 255) for c, weight in enumerate(LUMA))
    return red + green + blue


def sharpness(image: np.ndarray) -> float:
    """Return the variance of the Laplacian (4 neighbours) of luma, over the inner pixels."""
    y = luma(image)
    around = y[:-2, 1:-1] + y[2:, 1:-1] + y[1:-1, :-2] + y[1:-1, 2:]
    return float((around - 4 * y[1:-1, 1:-1]).var())


def edge_density(image: np.ndarray) -> float:
    """Return the share of the inner pixels whose Sobel gradient of luma is longer than EDGE."""
    y = luma(image)
    down = y[:, :-2] + 2 * y[:, 1:-1] + y[:, 2:]
    right = y[:-2] + 2 * y[1:-1] + y[2:]
    gradient = np.hypot(down[2:] - down[:-2], right[:, 2:] - right[:, :-2])
    return float((gradient > EDGE).mean())


def saturation(image: np.ndarray) -> float:
    """Return the mean over pixels of HSV's saturation, (max - min) / max; 0 for black."""
    most, least = image.max(-1).astype(np.float64), image.min(-1)
    return float(((most - least) / np.maximum(most, 1)).mean())


def brightness(image: np.ndarray) -> float:
    """Return the mean luma."""
    return float(luma(image).mean())


def contrast(image: np.ndarray) -> float:
    """Return the standard deviation of luma."""
    return float(luma(image).std())


def is_blank(image: np.ndarray) -> float:
    """Return 1 for a picture of one colour, black for example, and 0 for any other."""
    return float((image.max((0, 1)).astype(int) - image.min((0, 1)) <= BLANK).all())


def _metric(
    name: str, unit: str, largest: float, higher: bool, description: str, source: str
) -> Metric:
    return Metric(name, unit, (0.0, largest), higher, "1", source, description)


_OWN = "soar-bench, docs/metrics/picture-statistics.md"
_LAPLACIAN = "Pech-Pacheco et al., Diatom autofocusing in brightfield microscopy, ICPR 2000"
#: Function and declaration of each metric.
STATISTICS: tuple[tuple[Callable[[np.ndarray], float], Metric], ...] = (
    (sharpness, _metric(
        "sharpness", "variance of the Laplacian; of luma in [0, 1]", 16.0, True,
        "Falls as pictures blur; compares at one size only.", _LAPLACIAN)),
    (edge_density, _metric(
        "edge_density", "share of pixels", 1.0, True,
        f"Pixels whose Sobel gradient of luma exceeds {EDGE:g}: falls as scenes empty.", _OWN)),
    (contrast, _metric(
        "contrast", "standard deviation of luma", 0.5, True,
        "Root-mean-square contrast: falls as pictures wash out.",
        "Peli, Contrast in complex images, JOSA A 7:2032, 1990")),
    (saturation, _metric(
        "saturation", "HSV saturation", 1.0, False,
        "Mean over pixels: rises as colours are driven up.", _OWN)),
    (brightness, _metric(
        "brightness", "luma", 1.0, False,
        "Mean over pixels of ITU-R BT.601's luma: rises as pictures brighten.", _OWN)),
    (is_blank, _metric(
        "blank", "share of images", 1.0, False,
        f"Pictures of one colour, up to {BLANK} grey levels in each channel: what a pipeline that "
        "overflows or a safety checker leaves.", _OWN)),
)  # fmt: skip


class PictureStatistics(Evaluator):
    """Sharpness, edges, contrast, saturation, brightness and blank pictures; ignores the prompt."""

    name = "picture-statistics"
    metrics = tuple(metric for _, metric in STATISTICS)

    def score(self, samples: Sequence[Sample]) -> list[dict[str, Score]]:
        return [self._score(sample.image) for sample in samples]

    def _score(self, image: np.ndarray) -> dict[str, Score]:
        if min(image.shape[:2]) < 3:
            size = f"{image.shape[1]}x{image.shape[0]}"
            reason = f"the image has {size} pixels, and its gradients need 3x3"
            return {metric.name: Score(None, reason) for metric in self.metrics}
        return {metric.name: Score(statistic(image)) for statistic, metric in STATISTICS}
