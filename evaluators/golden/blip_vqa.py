"""A tiny BLIP for questions in its authors' layout."""

from __future__ import annotations

from pathlib import Path

from evaluators import catalogue
from evaluators.blip_vqa.evaluator import BlipVqa
from evaluators.blip_vqa.model import INSIDE, Architecture, state_dict
from evaluators.golden import imagereward
from evaluators.golden.fill import fill

VOCABULARY = (*imagereward.VOCABULARY, "yes", "no", "?")
ARCHITECTURE = Architecture(
    image_size=32, patch_size=8, width=32, layers=2, heads=2, text_positions=40,
    vocabulary=len(VOCABULARY) + 2,
)  # fmt: skip


def write_blip_vqa(folder: Path) -> BlipVqa:
    """Write the published file and ``vocab.txt``; return the evaluator over them, not loaded."""
    import torch

    weights, words = catalogue.BLIP_VQA.at(folder), catalogue.BERT_TOKENIZER.at(folder)
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({INSIDE: state_dict(ARCHITECTURE, fill)}, folder / weights.files[0].path)
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", "utf-8")
    return BlipVqa(weights, words, ARCHITECTURE, canary=False)
