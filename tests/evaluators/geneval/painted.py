"""A detector that finds what the test painted, and records to paint."""

from __future__ import annotations

import numpy as np

from evaluators.geneval.detectors.types import Instance
from evaluators.types import Sample

#: The painted value of a class's objects in the red channel: no two objects share one.
LABELS = {"dog": range(10, 30), "cat": range(30, 50), "cow": range(50, 70)}


class Painted:
    """Finds each value of the red channel as one object; its score is in the blue channel."""

    name = "painted"
    comparable = True
    weights = ()

    def __init__(self, **changes):
        self.asked = []
        for name, value in changes.items():
            setattr(self, name, value)

    def check(self):
        return

    def identity(self):
        return {"painted": "1"}

    def load(self, device, dtype):
        return

    def detect(self, images):
        self.asked.append(len(images))
        return [self._objects(image) for image in images]

    def _objects(self, image):
        detections = []
        for label, values in LABELS.items():
            for value in values:
                mask = image[..., 0] == value
                if not mask.any():
                    continue
                rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
                box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
                score = float(np.float32(image[mask][0, 2]) / np.float32(255))
                detections.append(Instance(label, score, tuple(map(float, box)), mask=mask))
        return sorted(detections, key=lambda o: -o.score)


def picture(*things, size=(64, 96), seed=0):
    """``things`` are (label, x, y, green value, score): squares of 12 pixels on noise."""
    image = np.random.default_rng(seed).integers(100, 255, (*size, 3), dtype=np.uint8)
    left = {label: list(values) for label, values in LABELS.items()}
    for label, x, y, green, score in things:
        image[y : y + 12, x : x + 12] = (left[label].pop(0), green, round(score * 255))
    return image


def thing(label, x=10, y=10, green=120, score=0.98):
    return (label, x, y, green, score)


def record(tag, *include, **more):
    return {"tag": tag, "include": list(include), "prompt": "as its own", **more}


def sample(image, metadata):
    return Sample(image, "a photo of it", metadata)


ONE_DOG = record("single_object", {"class": "dog", "count": 1})
RIGHT_OF = record(
    "position",
    {"class": "cat", "count": 1},
    {"class": "dog", "count": 1, "position": ["right of", 0]},
)


def red(label="dog", color="red", count=1):
    return {"class": label, "count": count, "color": color}


def values(evaluator, *samples):
    return [
        tuple(result[m.name].value for m in evaluator.metrics)
        for result in evaluator.score(samples)
    ]
