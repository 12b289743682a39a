"""Prompts of suites among training captions, which a checkpoint may know by heart.

A caption has a prompt if, after folding, it is the prompt or holds all its words in order and
together. Folding takes away case, accents' spelling, spaces and punctuation.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from soar_bench.core.errors import SoarBenchError
from soar_bench.suites import get_suite, names, whole_name
from soar_bench.suites.types import Prompt

#: Prompts of fewer words ("a cat") stand in captions of every kind: only equal captions count.
LEAST_HELD = 3
#: Key of a checkpoint's story, with the counts by suite.
LEAKS = "leaks"


def fold(text: str) -> str:
    """Return the words of a text, folded, with single spaces between them."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(re.findall(r"[^\W_]+", folded))


@dataclass(frozen=True)
class Leak:
    """A caption that has a prompt."""

    #: position of the caption
    caption: int
    prompt: Prompt
    #: whether it is the prompt, and not a longer text
    equal: bool


def find(captions: Iterable[str], prompts: Iterable[Prompt]) -> Iterator[Leak]:
    """Yield the captions that have a prompt, in order, each prompt of a caption once."""
    by_words: dict[str, list[Prompt]] = {}
    #: by first word: numbers of words of the prompts that begin with it
    lengths: dict[str, set[int]] = {}
    for prompt in prompts:
        folded = fold(prompt.text)
        by_words.setdefault(folded, []).append(prompt)
        words = folded.split()
        if len(words) >= LEAST_HELD:
            lengths.setdefault(words[0], set()).add(len(words))
    for position, caption in enumerate(captions):
        whole = fold(caption)
        words = whole.split()
        texts = {whole: None} if whole else {}
        for start, word in enumerate(words):
            for length in lengths.get(word, ()):
                if start + length <= len(words):
                    texts[" ".join(words[start : start + length])] = None
        for text in texts:
            for prompt in by_words.get(text, ()):
                yield Leak(position, prompt, text == whole)


def counts(leaks: Iterable[Leak]) -> dict[str, int]:
    """Return how many captions have a prompt, how many are one, and how many prompts that are."""
    all_leaks = list(leaks)
    return {
        "captions": len({leak.caption for leak in all_leaks}),
        "equal": len({leak.caption for leak in all_leaks if leak.equal}),
        "prompts": len({leak.prompt.id for leak in all_leaks}),
    }


def of_named_suites(captions: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return :func:`counts` by suite, of the named suites whose prompts are here."""
    by_suite = {}
    for name in names():
        try:
            suite = get_suite(name)
        except SoarBenchError:  # its prompts are not here
            continue
        by_suite[name] = counts(find(captions, suite.prompts))
    return by_suite


def sentence(labels: Sequence[str], suite: str, story: Mapping[str, Any]) -> str:
    """Say that checkpoints of one story, or one that their training went on from, were trained on
    prompts of the suite; empty if the story does not say so.
    """
    leaks = story.get(LEAKS)
    suite, _ = whole_name(suite)
    count = leaks.get(suite) if isinstance(leaks, Mapping) else None
    if not isinstance(count, Mapping) or not count.get("captions"):
        before = story.get("base", {}).get("story")
        return sentence(labels, suite, before) if before else ""
    were, whose = ("was", "its") if len(labels) == 1 else ("were", "their")
    return (
        f"{'; '.join(labels)} {were} trained on {count['captions']} captions that are or hold "
        f"{count['prompts']} of the prompts of {suite}: {whose} values there may be memory"
    )
