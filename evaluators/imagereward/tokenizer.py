"""BLIP's tokenizer: BERT's, with two tokens more."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from evaluators.types import EvaluatorError
from soar_bench.core.torchvision import mend_torchvision

if TYPE_CHECKING:
    import torch

#: Tokens of a prompt that the model sees, with the start and end token.
TEXT_LENGTH = 35
#: BERT's special tokens.
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
#: BLIP's own tokens, numbered after BERT's. ImageReward leaves [CLS] at the front of a prompt;
#: BLIP's own matching has [ENC] there.
ADDED = ("[DEC]", "[ENC]")


class Tokens(NamedTuple):
    """Prompts as tokens."""

    #: int64 [B, 35]
    ids: torch.Tensor
    #: int64 [B, 35]: 1 for a token, 0 for padding
    mask: torch.Tensor
    #: number of tokens cut off each prompt
    cut: list[int]


class Tokenizer:
    """Word pieces in lower case, from ``vocab.txt`` with one token per line."""

    def __init__(self, file: Path, vocabulary_size: int) -> None:
        """Read the file. EvaluatorError unless it has BERT's tokens, in the model's number."""
        mend_torchvision()
        from transformers import BertTokenizer

        try:
            lines = file.read_bytes().decode("utf-8").removesuffix("\n").split("\n")
            vocabulary = {line.removesuffix("\r"): index for index, line in enumerate(lines)}
            self._tokenizer = BertTokenizer(vocab=vocabulary, do_lower_case=True)
        except Exception as error:  # a damaged file raises whatever its reader stumbles over
            raise EvaluatorError(
                f"the tokenizer {file} is damaged ({error!r}): fetch it again"
            ) from None
        # transformers does not say when it makes a useless tokenizer, and adds special tokens
        expected = vocabulary_size - len(ADDED)
        count = len(lines) if lines != [""] else 0
        problems = [f"lacks {token}" for token in SPECIAL if token not in vocabulary]
        problems += [f"holds {token} itself" for token in ADDED if token in vocabulary]
        if count != expected:
            problems = [f"has {count} tokens"]
        elif len(vocabulary) != expected:
            problems = [f"repeats {expected - len(vocabulary)} tokens"]
        if problems:
            raise EvaluatorError(
                f"the tokenizer {file} {problems[0]} where the model needs BERT's {expected} "
                "different ones: fetch it again"
            )
        self._tokenizer.add_tokens(list(ADDED), special_tokens=True)
        assert self._tokenizer.convert_tokens_to_ids(list(ADDED)) == [expected, expected + 1]

    def numbers(self, words: Sequence[str]) -> list[int]:
        """Return the number of each word that is one token; that of [UNK] for any other."""
        return self._tokenizer.convert_tokens_to_ids(list(words))

    def __call__(self, prompts: Sequence[str]) -> Tokens:
        """Return prompts cut and padded to 35 tokens each, so that none depends on the others."""
        texts = list(prompts)
        padded = {"padding": "max_length", "truncation": True, "return_tensors": "pt"}
        encoded = self._tokenizer(texts, max_length=TEXT_LENGTH, **padded)
        cut = [max(0, len(ids) - TEXT_LENGTH) for ids in self._tokenizer(texts).input_ids]
        return Tokens(encoded.input_ids, encoded.attention_mask, cut)
