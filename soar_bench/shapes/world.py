"""The two distributions of the embedded world: a broad noisy one and a curated clean one.

Example number i of a distribution depends on (seed, i) alone, so that data sets are reproducible,
random access, and of any length. As in life, pretraining sees plenty of pictures whose captions are
partly wrong, whose objects overlap or which show more than they say; post-training sees fewer,
chosen ones.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache

from evaluators.shapes.geometry import RADII, SHAPES
from soar_bench.shapes import captions
from soar_bench.shapes.captions import COLORS, LEAD_INS, Metadata
from soar_bench.shapes.render import BACKGROUNDS, Scene, Sign, Thing

#: Object centres stand on this grid; with the separation below, up to four objects fit.
GRID: tuple[int, ...] = (12, 20, 28, 36, 44, 52)
SEPARATION = 24


@dataclass(frozen=True)
class Distribution:
    """How examples are drawn. Probabilities are per example."""

    name: str
    #: share of each caption form
    tags: dict[str, float]
    radii: tuple[int, ...]
    #: the caption says one thing the picture does not show
    wrong_caption: float = 0.0
    #: objects may overlap
    overlap: float = 0.0
    #: objects stand off the grid
    jitter: float = 0.0
    #: one more object than the caption names (never the counted shape)
    extra: float = 0.0


_SHARES = (0.10, 0.13, 0.18, 0.13, 0.18, 0.18, 0.10)
TAG_SHARES = dict(zip((*captions.TASKS, captions.SIGN), _SHARES, strict=True))

BROAD = Distribution(
    "shapes-broad", TAG_SHARES, RADII, wrong_caption=0.10, overlap=0.25, jitter=0.10, extra=0.08
)
CLEAN = Distribution("shapes-clean", TAG_SHARES, radii=(9,))

DISTRIBUTIONS: dict[str, Distribution] = {d.name: d for d in (BROAD, CLEAN)}


@dataclass(frozen=True)
class Example:
    """A picture's scene with the caption a model is trained on and what it truly shows."""

    scene: Scene
    caption: str
    #: GenEval metadata of the scene itself; its prompt differs from ``caption`` if that is wrong
    truth: Metadata


@cache
def _allowed(tag: str, lead_in: str) -> tuple[Metadata, ...]:
    return tuple(m for m in captions.every_caption(tag, lead_in) if not captions.is_held_out(m))


def _wrong(rng: random.Random, truth: Metadata) -> Metadata:
    """A caption in which one fact of the true one is altered, and which may be trained on."""
    while True:
        caption = captions.altered(truth, rng)
        if not captions.is_held_out(caption):
            return caption


def holds(relation: str, subject: Thing, reference: Thing) -> bool:
    """Return whether the relation is plain: a separation along the axis, at most half across."""
    dx, dy = subject.x - reference.x, subject.y - reference.y
    along = {"left of": -dx, "right of": dx, "above": -dy, "below": dy}[relation]
    across = abs(dy) if relation in ("left of", "right of") else abs(dx)
    return along >= SEPARATION and across * 2 <= along


def _place(rng: random.Random, count: int, separation: int) -> list[tuple[int, int]]:
    """``count`` grid points at least ``separation`` apart on one axis, uniform by rejection."""
    cells = [(x, y) for x in GRID for y in GRID]
    while True:
        points = rng.sample(cells, count)
        if all(
            max(abs(ax - bx), abs(ay - by)) >= separation
            for i, (ax, ay) in enumerate(points)
            for bx, by in points[:i]
        ):
            return points


def scene_of(metadata: Metadata, rng: random.Random, distribution: Distribution = CLEAN) -> Scene:
    """Return a scene for which ``metadata`` is true, drawn from ``distribution``."""
    background = rng.choice(list(BACKGROUNDS))
    if metadata["tag"] == captions.SIGN:
        top = rng.choice((8, 16, 24)) if distribution.jitter else 16
        return Scene(background, sign=Sign(metadata["prompt"].split('"')[1], top))
    objects = [(c["class"], c.get("color")) for c in metadata["include"] for _ in range(c["count"])]
    named = {shape for shape, _ in objects}
    if len(objects) < 4 and rng.random() < distribution.extra:
        objects.append((rng.choice([s for s in SHAPES if s not in named]), None))
    separation = 12 if rng.random() < distribution.overlap else SEPARATION
    jitter = 3 if rng.random() < distribution.jitter else 0
    relation = next((c["position"][0] for c in metadata["include"] if "position" in c), None)
    alike = metadata["tag"] == "counting" and rng.random() < 0.5
    shared_color = rng.choice(COLORS) if alike else None
    while True:
        things = tuple(
            Thing(
                shape,
                color or shared_color or rng.choice(COLORS),
                x + rng.randint(-jitter, jitter),
                y + rng.randint(-jitter, jitter),
                rng.choice(distribution.radii),
            )
            for (shape, color), (x, y) in zip(
                objects, _place(rng, len(objects), separation), strict=True
            )
        )
        if relation is None or holds(relation, things[1], things[0]):
            return Scene(background, things)


def example(distribution: Distribution, seed: int, index: int) -> Example:
    """Return example ``index`` of the distribution under ``seed``."""
    rng = random.Random(f"{distribution.name}/{seed}/{index}")
    lead_in = rng.choice(LEAD_INS)
    tag = rng.choices(list(distribution.tags), weights=list(distribution.tags.values()))[0]
    truth = rng.choice(_allowed(tag, lead_in))
    scene = scene_of(truth, rng, distribution)
    caption = _wrong(rng, truth) if rng.random() < distribution.wrong_caption else truth
    return Example(scene, caption["prompt"], truth)
