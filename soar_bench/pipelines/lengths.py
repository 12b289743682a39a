"""Texts that are longer than a pipeline's text encoders read, by its own tokenizers.

The libraries cut such a text at the encoder's limit: its end is not in the image. Importing this
imports no torch.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from inspect import signature

from soar_bench.core.digests import digest_of, remember, versions
from soar_bench.pipelines.folder import Pipeline
from soar_bench.pipelines.models import load_errors, model_class, pipeline_class

#: Tokens that CLIP reads, with those of a text's begin and end.
_CLIP = 77


@dataclass(frozen=True)
class Cut:
    """A text encoder, and how many of some texts it reads in part."""

    #: component of the pipeline, such as ``text_encoder_2``
    encoder: str
    #: number of tokens that it reads, with those that begin and end a text
    tokens: int
    #: number of texts that have more
    texts: int

    def record(self) -> dict[str, int]:
        """Return what stands in a plan or a record beside the encoder's name."""
        return {"tokens": self.tokens, "prompts": self.texts}


def cut_texts(pipeline: Pipeline, texts: Sequence[str], tokens: int) -> list[Cut]:
    """Return the text encoders that read fewer tokens than some texts have; see :func:`count_cut`.

    Texts of a pipeline are counted once, and again only where its tokenizers changed.
    """
    files = [
        file
        for part in _tokenizers(pipeline)
        for file in sorted((pipeline.folder / part).iterdir())
        if file.is_file()
    ]

    def find_out() -> str:
        return json.dumps([asdict(cut) for cut in count_cut(pipeline, texts, tokens)])

    subject = f"texts {digest_of(list(texts))} cut at {tokens} by {pipeline.folder.resolve()}"
    return [Cut(**cut) for cut in json.loads(remember(subject, files, find_out, versions()))]


def count_cut(pipeline: Pipeline, texts: Sequence[str], tokens: int) -> list[Cut]:
    """Return the text encoders that read fewer tokens than some texts have.

    A CLIP reads what its tokenizer names (77), a T5 ``tokens``, where the pipeline's call takes
    such a number. Encoders of other kinds, whose templates add tokens of their own, are not
    counted.
    """
    cuts, parameters = [], signature(pipeline_class(pipeline).__call__).parameters
    for part, kind in _tokenizers(pipeline).items():
        t5 = kind.startswith("T5")
        if t5 and "max_sequence_length" not in parameters:
            continue
        place = pipeline.folder / part
        with load_errors(str(place)):
            tokenizer = model_class(pipeline, part).from_pretrained(place, local_files_only=True)
            rows = (
                tokenizer(list(texts), truncation=False, padding=False).input_ids if texts else []
            )
        limit = tokens if t5 else tokenizer.model_max_length
        if longer := sum(len(row) > limit for row in rows):
            cuts.append(Cut(_encoder(part), limit, longer))
    return cuts


def cut_at_least(texts: Sequence[str], tokens: int) -> list[Cut]:
    """Return what is cut for certain where no tokenizer is here: a word is one token or more."""
    lengths = [len(text.split()) for text in texts]
    # CLIP adds a token before and one after a text, T5 one after it.
    limits = {"CLIP": (_CLIP, _CLIP - 2), "T5": (tokens, tokens - 1)}
    longer = {name: sum(length > most for length in lengths) for name, (_, most) in limits.items()}
    return [Cut(name, limits[name][0], number) for name, number in longer.items() if number]


def words(cuts: Sequence[Cut], number: int, noun: str, least: str = "") -> str:
    """Return a sentence that says by which encoders and how many of ``number`` texts are cut.

    ``least`` stands before each count, where it is a bound.
    """
    each = (f"{cut.encoder} ({cut.tokens} tokens) cuts {least}{cut.texts:,}" for cut in cuts)
    return f"{noun}s longer than the text encoders read are cut, of {number:,}: {', '.join(each)}"


def _tokenizers(pipeline: Pipeline) -> dict[str, str]:
    """Return the kinds of the tokenizers of CLIP and T5 encoders, by component."""
    components = pipeline.components
    return {
        name: kind
        for name, (_library, kind) in components.items()
        if kind.startswith(("CLIPTokenizer", "T5Tokenizer")) and _encoder(name) in components
    }


def _encoder(part: str) -> str:
    return part.replace("tokenizer", "text_encoder")
