"""Training data by name: the embedded world's, or a user's own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache as cached
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from evaluators.shapes.geometry import IMAGE_SIZE
from soar_bench.core.errors import SoarBenchError
from soar_bench.pipelines import Pipeline
from soar_bench.pipelines.lengths import Cut, cut_at_least, cut_texts
from soar_bench.shapes.captions import LEAD_INS, SIGN, TASKS, Metadata, every_caption
from soar_bench.shapes.render import render
from soar_bench.shapes.world import DISTRIBUTIONS, Distribution, example
from soar_bench.suites import get_suite, names
from soar_bench.suites.files import SUFFIXES
from training.data import Source, open_listing
from training.data.prompts import Prompts
from training.data.records import caption_of
from training.types import DEFAULT_IMAGES, Images

#: Number of examples without a number in the name: ``shapes-clean`` is ``shapes-clean:2000``.
DEFAULT_COUNT = 2_000
#: Seed of the embedded world's training data.
SEED = 0


class ShapesSource:
    """Examples 0 to ``count`` of one of the embedded world's distributions, rendered on demand."""

    def __init__(self, distribution: Distribution, count: int) -> None:
        self.distribution, self.count = distribution, count
        # The renderer is deterministic, so a few rendered examples stand for all of them.
        digest = hashlib.sha256(f"{distribution!r} {SEED} {count}".encode())
        key = hashlib.sha256(f"{distribution!r} {SEED}".encode())
        for index in range(16):
            image, caption = self[index]
            if index < count:
                digest.update(image.tobytes() + caption.encode())
            key.update(image.tobytes())
        self.digest = digest.hexdigest()
        self._key = key.hexdigest()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[np.ndarray, str]:
        drawn = example(self.distribution, SEED, index)
        return render(drawn.scene), drawn.caption

    def key(self, index: int) -> str:
        """Return a name of the picture's content, which follows from the seed and the number."""
        return f"{self._key} {index}"

    def caption(self, index: int) -> str:
        return example(self.distribution, SEED, index).caption

    def size(self, index: int) -> tuple[int, int]:
        return IMAGE_SIZE, IMAGE_SIZE


def open_prompts(name: str, images: Images = DEFAULT_IMAGES, cache: Path | None = None) -> Prompts:
    """Open prompts to make images of: a suite by name, a file of prompts, or the captions of data.

    Metadata are those of the suite or file, as rewards by rules read them; of ``shapes-clean`` and
    ``shapes-broad`` what their captions say. SoarBenchError if nothing is there.
    """
    if is_embedded(name):
        captions = captions_of(open_data(name))
        return _distinct(captions, metadata_of(name, captions))
    if name in names() or Path(name).suffix.lower() in SUFFIXES:
        try:
            prompts = get_suite(name).prompts
            return _distinct([p.text for p in prompts], [p.metadata for p in prompts])
        except SoarBenchError as error:
            no_suite = error
        try:  # a .jsonl or .csv may name images with captions
            source = open_data(name, images, cache)
        except SoarBenchError:
            raise no_suite from None
    else:
        source = open_data(name, images, cache)
    captions = captions_of(source)
    return _distinct(captions, [{}] * len(captions))


def agreeing_contexts(prompts: Prompts, words: int, data: str) -> str:
    """Return a note on prompts of which d-opsd's student sees every word; "" if there are none.

    SoarBenchError if it sees every word of all of them: the teacher then knows nothing more.
    """
    agreeing = sum(len(text.split()) <= words for text in prompts.texts)
    if agreeing == len(prompts):
        raise SoarBenchError(
            f"no prompt of {data} has more than {words} words, so that d-opsd's student sees all "
            "that its teacher does and learns nothing: make d_opsd.student_words smaller"
        )
    if not agreeing:
        return ""
    return (
        f"nothing is learnt from {agreeing:,} of {len(prompts):,} prompts, which have no more than "
        f"{words} words: d_opsd.student_words shows the student all of them"
    )


def is_embedded(name: str) -> bool:
    """Return whether data of that name is the embedded world's."""
    return name.partition(":")[0] in DISTRIBUTIONS


def metadata_of(name: str, captions: Sequence[str]) -> list[Mapping[str, Any]]:
    """Return what evaluators by rules read of each caption of the data of that name.

    Of the embedded world's what they say; captions of other data carry nothing.
    """
    return [_records()[caption] if is_embedded(name) else {} for caption in captions]


@cached
def _records() -> dict[str, Metadata]:
    """Metadata of every caption of the embedded world, by caption."""
    return {
        record["prompt"]: record
        for tag, lead_in in product((*TASKS, SIGN), LEAD_INS)
        for record in every_caption(tag, lead_in)
    }


def _distinct(texts: Sequence[str], metadata: Sequence[Mapping[str, Any]]) -> Prompts:
    """Every prompt with its metadata once, in the order of their first places."""
    pairs = {
        json.dumps([text, record], sort_keys=True): (text, record)
        for text, record in zip(texts, metadata, strict=True)
    }
    return Prompts([text for text, _ in pairs.values()], [record for _, record in pairs.values()])


def open_data(name: str, images: Images = DEFAULT_IMAGES, cache: Path | None = None) -> Source:
    """Open the captioned images of that name; ``cache`` is the folder of a run's encodings.

    ``shapes-clean[:COUNT]``, ``shapes-broad[:COUNT]``, or data of a user's own in one of the forms
    of docs/data.md. SoarBenchError or TrainingError, with file and line, if it is not there or is
    broken.
    """
    kind, colon, number = name.partition(":")
    if kind in DISTRIBUTIONS:
        if colon and not (number.isdecimal() and len(number) < 10 and int(number) > 0):
            raise SoarBenchError(
                f"{name!r:.60} needs a positive number of less than ten digits after the colon"
            )
        return ShapesSource(DISTRIBUTIONS[kind], int(number) if colon else DEFAULT_COUNT)
    if not Path(name).exists() and not name.endswith(".tar"):
        raise SoarBenchError(
            f"there is no training data {name!r}: give a folder, a .jsonl, .csv or .tar file, or "
            f"one of {', '.join(DISTRIBUTIONS)}"
        )
    return open_listing(name, images, cache)


def captions_of(source: Source) -> list[str]:
    """Return every caption, in order."""
    return [caption_of(source, index) for index in range(len(source))]


def cut_captions(pipeline: Pipeline | None, source: Source, tokens: int) -> list[Cut]:
    """Return the text encoders that read only the beginning of some captions.

    ``tokens`` are those that a T5 reads. Without a pipeline, what is cut for certain.
    """
    captions = captions_of(source)
    if pipeline is None:
        return cut_at_least(captions, tokens)
    return cut_texts(pipeline, captions, tokens)
