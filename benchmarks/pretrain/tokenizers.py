"""Tokenizers for the embedded base, in the formats of SD3's own.

Every word of the world is one token; the word on a sign is spelled letter by letter, so that a
model can compose words it never saw. The vocabularies are computed from the world's captions by a
fixed rule: nothing is trained, and the ids are the same everywhere.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from transformers import CLIPTextConfig, CLIPTokenizer, T5TokenizerFast

from evaluators.shapes.geometry import SHAPES
from soar_bench.shapes.captions import (
    COLORS,
    LEAD_INS,
    MAX_TOKENS,
    NUMBERS,
    PLURALS,
    RELATIONS,
    WORDS,
)

_END = "</w>"
_ALPHABET = [chr(c) for c in range(ord("!"), ord("~") + 1)]


def caption_words() -> list[str]:
    """The words of the world's captions but for those on signs, in a fixed order."""
    phrases = [*LEAD_INS, "and", *NUMBERS.values(), *RELATIONS, "sign saying"]
    words = [w for phrase in phrases for w in phrase.split()]
    words += [*SHAPES, *PLURALS.values(), *COLORS]
    return list(dict.fromkeys(words))


def _spell(word: str) -> list[str]:
    return [*word[:-1], word[-1] + _END]


def _apply(pieces: list[str], ranks: dict[tuple[str, str], int]) -> list[str]:
    """Byte-pair encoding: joins the pair of lowest rank until none is left."""
    while True:
        pairs = [(ranks[p], i) for i, p in enumerate(pairwise(pieces)) if p in ranks]
        if not pairs:
            return pieces
        _, i = min(pairs)
        pieces = [*pieces[:i], pieces[i] + pieces[i + 1], *pieces[i + 2 :]]


def bpe_merges() -> list[tuple[str, str]]:
    """Merges under which each caption word becomes one token and no word on a sign is touched.

    Words are taken in order, each gets what it still lacks. Later merges have higher ranks, so they
    cannot change how an earlier word is joined; pairs of letters that occur on signs are avoided.
    """
    spelled = [_spell(w.lower()) for w in WORDS]
    taboo = {pair for word in spelled for pair in pairwise(word)}
    merges: list[tuple[str, str]] = []
    ranks: dict[tuple[str, str], int] = {}
    for word in caption_words():
        pieces = _apply(_spell(word), ranks)
        while len(pieces) > 1:
            pairs = list(pairwise(pieces))
            pair = next(p for p in pairs if p not in taboo)
            ranks[pair] = len(merges)
            merges.append(pair)
            pieces = _apply(pieces, ranks)
    return merges


def clip_tokenizer(pad: str = "<|endoftext|>") -> CLIPTokenizer:
    """A CLIP byte-pair tokenizer; SD3 pads its second encoder with ``!``."""
    merges = bpe_merges()
    tokens = [*_ALPHABET, *(c + _END for c in _ALPHABET), *dict.fromkeys(a + b for a, b in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={token: i for i, token in enumerate(tokens)},
        merges=merges,
        pad_token=pad,
        model_max_length=MAX_TOKENS,
    )


def t5_tokenizer() -> T5TokenizerFast:
    """A T5 unigram tokenizer: whole words are likelier than letters."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces += [("▁" + word, -1.0) for word in caption_words()]
    pieces += [("▁", -4.0)] + [(c, -4.0) for c in _ALPHABET]
    return T5TokenizerFast(vocab=pieces, extra_ids=0, model_max_length=MAX_TOKENS)


def clip_text_config(
    tokenizer: CLIPTokenizer, projection: int, hidden: int, layers: int
) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=MAX_TOKENS,
        projection_dim=projection,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def ids_of(tokenizer: Any, texts: list[str]) -> torch.Tensor:
    """Return a tokenizer's ids of captions, int64 [N, MAX_TOKENS]."""
    return tokenizer(
        texts,
        padding="max_length",
        truncation=True,
        max_length=MAX_TOKENS,
        return_tensors="pt",
    ).input_ids
