"""Suites by name, and a user's own from a file of prompts. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from soar_bench.core.errors import SoarBenchError, did_you_mean, nearest
from soar_bench.suites import prompts
from soar_bench.suites import shapes as shapes_suites
from soar_bench.suites.files import PREFERENCE, SUFFIXES, read_suite
from soar_bench.suites.types import Suite

#: Marks the name of a part of a suite, before the number of its prompts.
LIMIT = "+limit="

#: Suites that are part of the project.
SUITES: dict[str, Callable[[], Suite]] = {
    "shapes": shapes_suites.shapes,
    "shapes-dev": shapes_suites.shapes_dev,
    "shapes-signs": shapes_suites.shapes_signs,
}

#: Evaluators, images per prompt and description. Published numbers of ``ocr`` are of PaddleOCR's
#: reading; the published file of ``drawbench`` repeats each prompt five times.
_FETCHED: dict[str, tuple[tuple[str, ...], int, str]] = {
    "geneval": (("geneval",), 4, "GenEval: are the objects, counts, colours and positions right?"),
    "ocr": (("ocr-paddle",), 1, "Flow-GRPO's test set: is the quoted text on the image?"),
    "drawbench": (PREFERENCE, 5, "DrawBench's 200 prompts under the preference scorers"),
    "pickscore": (PREFERENCE, 1, "Pick-a-Pic's test prompts under the preference scorers"),
    "geneval2": (
        ("geneval2", "vqascore"),
        1,
        "GenEval 2: is each atom of the prompt there, asked of a VLM?",
    ),
    "parti": (PREFERENCE, 1, "PartiPrompts by category under the preference scorers"),
    "dpg": (("dpg",), 4, "DPG-Bench: does the picture show each fact of a dense prompt?"),
    "t2i-compbench": (
        ("blip-vqa", "vqascore"),
        1,
        "T2I-CompBench++'s eight categories under BLIP-VQA and VQAScore",
    ),
}
#: Suites whose prompts are fetched (see :mod:`soar_bench.suites.prompts`), without them.
FETCHED: dict[str, Suite] = {
    name: Suite(name, description, (), evaluators, images_per_prompt=images)
    for name, (evaluators, images, description) in _FETCHED.items()
}


def names() -> list[str]:
    """Return the name of every named suite, fetched or not."""
    return [*SUITES, *FETCHED]


def get_suite(name_or_file: str, seed: int | None = None) -> Suite:
    """Return a suite with its prompts, by its name or from a file of prompts.

    ``seed`` replaces the suite's own; a name that ends in ``+limit=N`` is that of a part of the
    suite. SoarBenchError if prompts are absent, damaged or not fetched.
    """
    name, limit = whole_name(name_or_file)
    suite = declared(name)
    if name in FETCHED:
        suite = replace(suite, prompts=prompts.read(name))
    if limit is not None:
        suite = limited(suite, limit)
    return suite if seed is None else replace(suite, seed=seed)


def whole_name(name: str) -> tuple[str, int | None]:
    """Return a suite's name or file, and how many of its prompts the name says (None: all)."""
    whole, mark, number = name.rpartition(LIMIT)
    if not whole or not mark or not number.isdecimal() or not int(number):
        return name, None
    return whole, int(number)


def limited(suite: Suite, limit: int) -> Suite:
    """Return a part of a suite: ``limit`` prompts, spread evenly over it, from their own noise.

    Its name says so, and it is never on a board with the whole. All of it if it has no more.
    """
    count = len(suite.prompts)
    if limit >= count:
        return suite
    part = tuple(suite.prompts[i * count // limit] for i in range(limit))
    mark = f"{LIMIT}{limit}"
    source = suite.source and suite.source + mark
    return replace(suite, name=suite.name + mark, prompts=part, source=source)


def declared(name: str) -> Suite:
    """Return a suite by name or file, a fetched one without prompts. SoarBenchError if none."""
    name, _ = whole_name(name)
    if name in FETCHED:
        return FETCHED[name]
    if name in SUITES:
        return SUITES[name]()
    if Path(name).suffix.lower() in SUFFIXES and Path(name).is_file():
        return read_suite(name)
    raise _no_suite(name)


def evaluators_of(names: Iterable[str]) -> tuple[str, ...]:
    """Return the evaluators of the suites by name, as far as there are such suites."""
    evaluators: dict[str, None] = {}
    for name in names:
        with suppress(SoarBenchError):
            evaluators |= dict.fromkeys(declared(name).evaluators)
    return tuple(evaluators)


def _no_suite(name: str) -> SoarBenchError:
    """Return the error for a name that is neither a suite's nor a file of prompts."""
    path, endings = Path(name), f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"
    if path.is_dir():
        return SoarBenchError(f"{name} is a folder, not a suite: name a file of prompts in it")
    if path.suffix.lower() in SUFFIXES:
        if path.exists():
            return SoarBenchError(f"{name} is not a regular file")
        beside = path.parent.iterdir() if path.parent.is_dir() else ()
        files = sorted(file.name for file in beside if file.suffix.lower() in SUFFIXES)
        file = nearest(path.name, files)
        hint = f"; did you mean {path.with_name(file)}?" if file else ""
        return SoarBenchError(
            f"there is no file of prompts at {name}{hint} (known: {', '.join(names())})"
        )
    if path.is_file():
        return SoarBenchError(f"{name} is no file of prompts: its name must end in {endings}")
    files = [name + suffix for suffix in SUFFIXES if Path(name + suffix).is_file()]
    hint = f"; did you mean {files[0]}?" if files else did_you_mean(name, names())
    return SoarBenchError(
        f"no suite is named {name!r}{hint} (known: {', '.join(names())}; or a file of prompts that "
        f"ends in {endings})"
    )
