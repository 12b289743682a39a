"""Facts of a scene or a caption, as numbers: the first lesson of the scorer.

With the contrastive loss alone the scorer stayed exactly undecided between "a star left of a ring"
and "a star right of a ring", and between two objects with their colours exchanged, for 5,000 steps:
which of the two is meant is the parity of two orders of words, of which neither alone says anything
about the picture, so neither tower had a gradient to follow before the other one did. Facts are
that gradient: from either embedding the same linear map must tell each shape's number, colours and
place, and a sign's letters.
"""

from __future__ import annotations

import torch

from evaluators.shapes.geometry import IMAGE_SIZE, SHAPES
from soar_bench.shapes.captions import COLORS, SIGN, WORDS, Metadata
from soar_bench.shapes.render import Scene

#: of each shape: its number / 4, its share of each colour, and where it is, x and y
_PER_SHAPE = 1 + len(COLORS) + 2
_LETTERS = sorted(set("".join(WORDS)))
SPELLED = 3 * len(_LETTERS)
COUNT = len(SHAPES) * _PER_SHAPE + SPELLED
#: where a caption about positions is taken to put its objects: the clean scenes' average distance
ASIDE = 0.7
DIRECTIONS = {"left of": (0, -1), "right of": (0, 1), "above": (1, -1), "below": (1, 1)}

#: values and a mask of those that are stated, each float32 [COUNT]
Facts = tuple[torch.Tensor, torch.Tensor]


def _facts(shapes: torch.Tensor, stated: torch.Tensor, word: str | None) -> Facts:
    letters = torch.zeros(3, len(_LETTERS))
    for place, letter in enumerate(word or ""):
        letters[place, _LETTERS.index(letter)] = 1
    spelled = torch.full((SPELLED,), float(word is not None))
    return (
        torch.cat([shapes.flatten(), letters.flatten()]),
        torch.cat([stated.flatten(), spelled]),
    )


def _no_shapes() -> tuple[torch.Tensor, torch.Tensor]:
    """Return facts in which every number is stated to be zero, and nothing else is stated."""
    stated = torch.zeros(len(SHAPES), _PER_SHAPE)
    stated[:, 0] = 1
    return torch.zeros(len(SHAPES), _PER_SHAPE), stated


def of_scene(scene: Scene) -> Facts:
    values, stated = _no_shapes()
    for thing in scene.things:
        row = SHAPES.index(thing.shape)
        same = [t for t in scene.things if t.shape == thing.shape]
        values[row, 0] = len(same) / 4
        values[row, 1 + COLORS.index(thing.color)] += 1 / len(same)
        stated[row, 1 : 1 + len(COLORS)] = 1
        if len(same) == 1:
            values[row, -2] = (thing.x - IMAGE_SIZE / 2) / 20
            values[row, -1] = (thing.y - IMAGE_SIZE / 2) / 20
            stated[row, -2:] = 1
    return _facts(values, stated, scene.sign.word if scene.sign else None)


def of_caption(metadata: Metadata) -> Facts:
    """Return the facts that the caption states of clean scenes of it."""
    values, stated = _no_shapes()
    if metadata["tag"] == SIGN:
        return _facts(values, stated, metadata["prompt"].split('"')[1])
    rows = [SHAPES.index(clause["class"]) for clause in metadata["include"]]
    for row, clause in zip(rows, metadata["include"], strict=True):
        values[row, 0] = clause["count"] / 4
        if "color" in clause:
            values[row, 1 + COLORS.index(clause["color"])] = 1
            stated[row, 1 : 1 + len(COLORS)] = 1
        if "position" in clause:
            relation, reference = clause["position"]
            axis, side = DIRECTIONS[relation]
            for who, where in ((row, side), (rows[reference], -side)):
                values[who, axis - 2] = where * ASIDE
                stated[who, axis - 2] = 1
    return _facts(values, stated, None)


def stack(facts: list[Facts]) -> Facts:
    """Return the values and masks of many facts, each [N, COUNT]."""
    return torch.stack([f[0] for f in facts]), torch.stack([f[1] for f in facts])


def loss(prediction: torch.Tensor, facts: Facts) -> torch.Tensor:
    """Return the mean squared error over stated facts; ``prediction`` is [N, COUNT]."""
    values, stated = facts
    return ((prediction - values).square() * stated).sum() / stated.sum()
