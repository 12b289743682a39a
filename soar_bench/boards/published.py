"""Numbers that were published and not measured here, shown beside a board.

Source: the SOAR paper, arXiv 2604.12617: 512 x 512 pixels, guidance 4.5, 40 steps unless the model
says otherwise; GenEval and OCR on their own prompts, the other metrics on DrawBench's. The paper
gives no standard errors, seeds or versions of the scorers, so its numbers are never ranked or
tested against measured ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

PAPER = "arXiv 2604.12617"
ADDRESS = "https://arxiv.org/abs/2604.12617"
#: The protocol whose settings are the paper's.
PROTOCOL = "soar-paper"


class Column(NamedTuple):
    """A column of the paper's table."""

    #: as the paper writes it
    name: str
    #: the suite it was measured on
    suite: str
    #: the metric here that counts the same
    metric: str
    #: digits after the point
    digits: int


class PublishedRow(NamedTuple):
    """A model with its numbers, by the name of the column."""

    model: str
    #: training iterations, as printed; empty for a model that the paper did not train
    iterations: str
    values: Mapping[str, float]


COLUMNS = (
    Column("GenEval", "geneval", "geneval", 2),
    Column("OCR", "ocr", "ocr_accuracy", 2),
    Column("PickScore", "drawbench", "pickscore", 2),
    Column("CLIPScore", "drawbench", "clipscore", 3),
    Column("HPSv2.1", "drawbench", "hpsv21", 3),
    Column("Aesthetic", "drawbench", "aesthetic", 2),
    Column("ImageReward", "drawbench", "image_reward", 2),
)


def _row(model: str, iterations: str, *values: float) -> PublishedRow:
    by_column = {column.name: v for column, v in zip(COLUMNS, values, strict=True)}
    return PublishedRow(model, iterations, by_column)


TABLE = (
    _row("SD-XL (1024 pixels)", "", 0.55, 0.14, 22.42, 0.287, 0.280, 5.60, 0.76),
    _row("SD3.5-L (1024 pixels)", "", 0.71, 0.68, 22.91, 0.289, 0.288, 5.50, 0.96),
    _row("FLUX.1-Dev", "", 0.66, 0.59, 22.84, 0.295, 0.274, 5.71, 0.96),
    _row("SD3.5-M", "", 0.63, 0.59, 22.34, 0.285, 0.279, 5.36, 0.85),
    _row("SD3.5-M + SFT", "10k", 0.70, 0.64, 22.71, 0.295, 0.284, 5.35, 1.04),
    _row("SD3.5-M + SOAR", "10k", 0.78, 0.67, 22.86, 0.295, 0.289, 5.46, 1.09),
)

#: The paper's runs that train for one reward alone, with that reward.
FOR_ONE_REWARD = (
    PublishedRow("SFT, aesthetic run", "", {"Aesthetic": 5.74}),
    PublishedRow("Flow-GRPO, aesthetic run", "", {"Aesthetic": 5.87}),
    PublishedRow("SOAR, aesthetic run", "", {"Aesthetic": 5.94}),
    PublishedRow("SFT, CLIPScore run", "", {"CLIPScore": 0.297}),
    PublishedRow("Flow-GRPO, CLIPScore run", "", {"CLIPScore": 0.296}),
    PublishedRow("SOAR, CLIPScore run", "", {"CLIPScore": 0.300}),
)


def columns_beside(suite: str, protocol: str) -> tuple[Column, ...]:
    """Return the columns that belong beside a board of that suite and protocol; often none."""
    return tuple(c for c in COLUMNS if protocol == PROTOCOL and c.suite == suite)
