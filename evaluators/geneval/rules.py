"""GenEval's rules as pure functions over detections.

Source: Ghosh et al., "GenEval: An Object-Focused Framework for Evaluating Text-to-Image Alignment"
(arXiv 2310.11513) and the official script, djghosh13/geneval ``evaluation/evaluate_images.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

#: The six tasks; the overall score is the unweighted mean of their six means.
TASKS: tuple[str, ...] = tuple(
    "single_object two_object counting colors position color_attr".split()
)

#: Relations that a clause may ask for between its objects and another clause's.
RELATIONS: tuple[str, ...] = ("left of", "right of", "above", "below")

SCORE_THRESHOLD = 0.3
COUNTING_SCORE_THRESHOLD = 0.9
MAX_OBJECTS_PER_CLASS = 16
#: Share of the two objects' summed size by which an offset shrinks before it counts.
POSITION_SHRINK = 0.1
#: A direction holds if the shrunken offset's component exceeds this share of the full offset.
POSITION_SHARE = 0.5
_NO_OFFSET = 1e-3


@dataclass(frozen=True)
class Detection:
    """One detected object."""

    label: str
    #: the detector's confidence in [0, 1]
    score: float
    #: left, top, right, bottom in pixels, y pointing down
    box: tuple[float, float, float, float]
    #: its colour name where the detector knows it; otherwise a classifier is asked
    color: str | None = None


@dataclass(frozen=True)
class Verdict:
    """Whether an image is right, and why not."""

    correct: bool
    #: one sentence for each rule that was broken; empty if correct
    reasons: tuple[str, ...]


#: A detection, or a detector's own kind of one.
D = TypeVar("D", bound=Detection)

#: Function that returns the colours of objects of one class, in their order.
ColorsOf = Callable[[Sequence[Detection], str], Sequence[str | None]]


def detected_colors(objects: Sequence[Detection], _label: str) -> list[str | None]:
    """Return the colours that the detector itself reported."""
    return [o.color for o in objects]


def threshold(tag: str) -> float:
    """Return the score that an object must exceed to count in a task."""
    return COUNTING_SCORE_THRESHOLD if tag == "counting" else SCORE_THRESHOLD


def keep(detections: Sequence[D], tag: str) -> dict[str, list[D]]:
    """Return the objects that count, by class, best first: above the task's threshold, at most 16.

    Equal scores keep their order.
    """
    ordered = sorted(detections, key=lambda d: -d.score)
    return _above(threshold(tag), [(d.score, d) for d in ordered])


def keep_as_official(detections: Sequence[D], tag: str) -> dict[str, list[D]]:
    """Return the same as :func:`keep`, to the last bit of the official script.

    It compares in float32, so a score of float32(0.3), which is a little more than 0.3, does not
    exceed the threshold, and orders by ``argsort()[::-1]``, which reverses equal scores.
    """
    ordered = sorted(detections, key=lambda d: np.float32(d.score))[::-1]
    return _above(np.float32(threshold(tag)), [(np.float32(d.score), d) for d in ordered])


def _above(limit: float | np.float32, scored: Sequence[tuple[Any, D]]) -> dict[str, list[D]]:
    kept: dict[str, list[D]] = {}
    for score, detection in scored:
        objects = kept.setdefault(detection.label, [])
        if score > limit and len(objects) < MAX_OBJECTS_PER_CLASS:
            objects.append(detection)
    return kept


def relations(subject: Detection, reference: Detection) -> set[str]:
    """Return the relations in which ``subject`` stands to ``reference``: up to two of the four."""
    shrunken, offset = [], []
    for low, high in ((0, 2), (1, 3)):
        centres = [(d.box[low] + d.box[high]) / 2 for d in (subject, reference)]
        sizes = sum(abs(d.box[high] - d.box[low]) for d in (subject, reference))
        distance = centres[0] - centres[1]
        offset.append(distance)
        shrunken.append(math.copysign(max(abs(distance) - POSITION_SHRINK * sizes, 0.0), distance))
    if all(abs(component) < _NO_OFFSET for component in shrunken):
        return set()
    dx, dy = (component / math.hypot(*offset) for component in shrunken)
    directions = {
        "left of": dx < -POSITION_SHARE,
        "right of": dx > POSITION_SHARE,
        "above": dy < -POSITION_SHARE,
        "below": dy > POSITION_SHARE,
    }
    return {name for name, holds in directions.items() if holds}


def all_hold(relation: str, subjects: Sequence[Detection], references: Sequence[Detection]) -> bool:
    """Return whether every subject stands in the relation to every reference."""
    return all(relation in relations(s, r) for s in subjects for r in references)


def judge(
    metadata: Mapping[str, Any],
    detections: Sequence[Detection],
    colors_of: ColorsOf = detected_colors,
) -> Verdict:
    """Judge whether an image with these detections shows what a GenEval prompt asks for.

    ``metadata`` is GenEval's record of the prompt (``tag``, ``include``, ``exclude``).
    """
    return judge_kept(metadata, keep(detections, metadata["tag"]), colors_of)


def judge_kept(
    metadata: Mapping[str, Any],
    objects: Mapping[str, Sequence[Detection]],
    colors_of: ColorsOf = detected_colors,
) -> Verdict:
    """Judge objects that :func:`keep` or :func:`keep_as_official` returned.

    ``colors_of`` is called only where a clause asks for a colour and there are enough objects, and
    then with the ``count`` best of them.
    """
    reasons: list[str] = []
    matched: list[Sequence[Detection] | None] = []  # by clause; None where the clause failed
    for clause in metadata.get("include", ()):
        best = objects.get(clause["class"], [])[: clause["count"]]
        broken = _broken_rule(clause, best, matched, colors_of)
        if broken is not None:
            reasons.append(broken)
        matched.append(best if broken is None else None)
    for clause in metadata.get("exclude", ()):
        label, limit = clause["class"], clause["count"]
        count = len(objects.get(label, []))
        if count >= limit:
            reasons.append(f"expected fewer than {limit} {label}, found {count}")
    return Verdict(not reasons, tuple(reasons))


def _broken_rule(
    clause: Mapping[str, Any],
    best: Sequence[Detection],
    matched: Sequence[Sequence[Detection] | None],
    colors_of: ColorsOf,
) -> str | None:
    """Return the first rule of an include clause that its best objects break, in words."""
    label, count = clause["class"], clause["count"]
    if len(best) < count:
        return f"expected {count} {label}, found {len(best)}"
    if "color" in clause:
        colors = list(colors_of(best, label))
        if colors.count(clause["color"]) < count:
            seen = ", ".join(str(c) for c in colors)
            return f"expected {count} {clause['color']} {label}, found {seen}"
    if "position" in clause:
        relation, target = clause["position"]
        references = matched[target]
        if references is None:
            return f"nothing for {label} to be {relation}"
        if not all_hold(relation, best, references):
            return f"expected {label} {relation} {references[0].label}"
    return None
