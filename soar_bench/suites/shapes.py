"""Suites of the embedded world.

In ``shapes`` half of the prompts about positions and pairs of colours, and a third of the other
forms', are held out (see :mod:`soar_bench.shapes.captions`); single objects cannot be.
``shapes-dev`` is for choosing settings: nothing in it is held out, and it has a lead-in of its own,
so that it shares neither a prompt nor noise with ``shapes``.
"""

from __future__ import annotations

import random
from collections import Counter
from functools import cache

from soar_bench.shapes import captions
from soar_bench.shapes.captions import LEAD_INS, TASKS, WORDS, Metadata
from soar_bench.suites.types import Prompt, Suite

_TEST_LEAD_INS, _DEVELOPMENT_LEAD_INS = LEAD_INS[:3], LEAD_INS[3:]


def _choose(
    rng: random.Random, tag: str, count: int, held_out_share: float, lead_ins: tuple[str, ...]
) -> list[Metadata]:
    """Return up to ``count`` captions of a form, of which a share is held out."""
    choices = [m for lead_in in lead_ins for m in captions.every_caption(tag, lead_in)]
    held_out = [m for m in choices if captions.is_held_out(m)]
    seen = [m for m in choices if not captions.is_held_out(m)]
    new = min(round(count * held_out_share), len(held_out))
    return rng.sample(held_out, new) + rng.sample(seen, min(count - new, len(seen)))


def _prompts(chosen: list[Metadata]) -> tuple[Prompt, ...]:
    numbers: Counter[str] = Counter()
    prompts = []
    for metadata in chosen:
        tag = metadata["tag"]
        record = {k: v for k, v in metadata.items() if k != "prompt"}
        record["held_out"] = captions.is_held_out(metadata)
        prompts.append(Prompt(f"{tag}-{numbers[tag]:03d}", metadata["prompt"], record))
        numbers[tag] += 1
    return tuple(prompts)


def _suite(
    name: str, description: str, chosen: list[Metadata], seed: int, judge: str = "shapes-geneval"
) -> Suite:
    return Suite(name, description, _prompts(chosen), (judge, "shapes-clipscore"), seed)


@cache
def shapes() -> Suite:
    """Return the test suite: GenEval's six tasks."""
    rng = random.Random("soar-bench suite shapes, version 1")
    chosen = []
    for tag in TASKS:
        share = 0.5 if tag in ("position", "color_attr") else 0.3
        chosen += _choose(rng, tag, 40, share, _TEST_LEAD_INS)
    description = "GenEval's six tasks in the embedded world, with held-out combinations"
    return _suite("shapes", description, chosen, seed=2026)


@cache
def shapes_dev() -> Suite:
    """Return the suite that settings are chosen on."""
    rng = random.Random("soar-bench suite shapes-dev, version 1")
    chosen = [m for tag in TASKS for m in _choose(rng, tag, 30, 0.0, _DEVELOPMENT_LEAD_INS)]
    description = "for choosing settings: other prompts and noise than shapes, nothing held out"
    return _suite("shapes-dev", description, chosen, seed=1)


@cache
def shapes_signs() -> Suite:
    """Return the suite of signs, which an OCR evaluator judges."""
    rng = random.Random("soar-bench suite shapes-signs, version 1")
    seen = [word for word in WORDS if word not in captions.HELD_OUT_WORDS]
    words = [*sorted(captions.HELD_OUT_WORDS), *rng.sample(seen, 20)]
    description = "signs with words of three letters, a third of them never seen in training"
    return _suite("shapes-signs", description, [captions.sign(w) for w in words], 2027, judge="ocr")
