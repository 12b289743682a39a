"""Every suite by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import replace

from soar_bench import prompts
from soar_bench.shapes import suites as shapes_suites
from soar_bench.shapes.captions import MAX_TOKENS
from soar_bench.types import Protocol, SoarBenchError, Suite

#: Suites that are part of the project.
SUITES: dict[str, Callable[[], Suite]] = {
    "shapes": shapes_suites.shapes,
    "shapes-dev": shapes_suites.shapes_dev,
    "shapes-signs": shapes_suites.shapes_signs,
}

_PREFERENCE = ("pickscore", "clipscore", "hpsv21", "aesthetic", "image-reward")

#: Suites whose prompts are fetched (soar_bench.prompts has a set of each name); here without them.
FETCHED: dict[str, Suite] = {
    s.name: s
    for s in (
        Suite(
            name="geneval",
            description="GenEval: are the objects, counts, colours and positions right?",
            prompts=(),
            evaluators=("geneval",),
            images_per_prompt=4,
        ),
        Suite(
            name="ocr",
            description="Flow-GRPO's test set: is the quoted text on the image?",
            prompts=(),
            evaluators=("ocr-paddle",),  # whose reading the published numbers are of
            images_per_prompt=1,
        ),
        Suite(
            name="drawbench",
            description="DrawBench's 200 prompts under the preference scorers",
            prompts=(),
            evaluators=_PREFERENCE,
            images_per_prompt=5,  # as often as the published file repeats each prompt
        ),
        Suite(
            name="pickscore",
            description="Pick-a-Pic's test prompts under the preference scorers",
            prompts=(),
            evaluators=_PREFERENCE,
            images_per_prompt=1,
        ),
    )
}

#: The embedded world's protocol; 20 steps are enough for its base to have converged.
SHAPES_PROTOCOL = Protocol(
    name="shapes", steps=20, guidance=3.0, resolution=64, max_sequence_length=MAX_TOKENS
)

#: Of the published table (arXiv 2604.12617). The paper does not say how many tokens; DiffusionNFT's
#: evaluation, from which its own descends, uses the pipeline's default of 256. (Flow-GRPO's
#: evaluation during training uses 128, and is another protocol.)
SOAR_PAPER_PROTOCOL = Protocol(
    name="soar-paper",
    steps=40,
    guidance=4.5,
    resolution=512,
    max_sequence_length=256,
    dtype="bfloat16",
)

PROTOCOLS: dict[str, Protocol] = {p.name: p for p in (SHAPES_PROTOCOL, SOAR_PAPER_PROTOCOL)}

#: The protocol a suite is evaluated under unless another is named.
DEFAULT_PROTOCOL: dict[str, str] = {
    **dict.fromkeys(SUITES, SHAPES_PROTOCOL.name),
    **dict.fromkeys(FETCHED, SOAR_PAPER_PROTOCOL.name),
}


def unknown(kind: str, name: str, known: list[str]) -> SoarBenchError:
    """The error for a name that is not in a list, with the nearest that is."""
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return SoarBenchError(f"no {kind} is named {name!r}{hint} (known: {', '.join(known)})")


def names() -> list[str]:
    """Every suite, fetched or not."""
    return [*SUITES, *FETCHED]


def declared(name: str) -> Suite:
    """The suite without a look at fetched files: a suite that has not been fetched has no prompts.

    SoarBenchError if there is none of that name.
    """
    if name in FETCHED:
        return FETCHED[name]
    if name not in SUITES:
        raise unknown("suite", name, names())
    return SUITES[name]()


def get_suite(name: str) -> Suite:
    """The suite with its prompts. SoarBenchError if there is none, or its prompts are not here."""
    suite = declared(name)
    return replace(suite, prompts=prompts.read(name)) if name in FETCHED else suite


def get_protocol(name: str) -> Protocol:
    if name not in PROTOCOLS:
        raise unknown("protocol", name, list(PROTOCOLS))
    return PROTOCOLS[name]
