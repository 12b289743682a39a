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
    Column("OCR", "ocr", "ocr_accuracy_paddle_flow_grpo", 2),
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


class FurtherRow(NamedTuple):
    """A number of another source, with the settings that it holds for."""

    model: str
    #: as the source writes it
    name: str
    suite: str
    #: the metric here that counts the same; empty if none does
    metric: str
    value: str
    #: a protocol here, with what it changes
    protocol: str
    source: str


def _ablation(model: str, *values: str) -> tuple[FurtherRow, ...]:
    """Return a row of the SOAR paper's ablation, 512 pixels and 10k steps."""
    return tuple(
        FurtherRow(model, c.name, c.suite, c.metric, value, PROTOCOL, f"{PAPER}, ablation")
        for c, value in zip(COLUMNS, values, strict=True)
    )


_GENEVAL2 = ("GenEval 2, soft-TIFA GM", "geneval2", "geneval2_gm")
_MEASURED = "measured with the released judge by others"

#: Numbers under other protocols: only those of one protocol compare.
FURTHER = (
    FurtherRow("SD3.5-M", *_GENEVAL2, "12.4", "geneval2-512", "arXiv 2512.16853"),
    FurtherRow("SD3.5-M", *_GENEVAL2, "20.42", "geneval2-1024", _MEASURED),
    FurtherRow("SD3.5-M", *_GENEVAL2, "18.96", "geneval2-512+guidance=4+steps=10", _MEASURED),
    FurtherRow("SD3.5-M", *_GENEVAL2, "7.94", "geneval2-512+steps=10", _MEASURED),
    *_ablation("SD3.5-M + SOAR, ODE, one z1",
               "0.78", "0.67", "22.86", "0.295", "0.289", "5.46", "1.09"),
    *_ablation("SD3.5-M + SOAR, with an SDE branch",
               "0.78", "0.65", "22.87", "0.296", "0.287", "5.47", "1.07"),
    *_ablation("SD3.5-M + SOAR, a new z1 per path",
               "0.76", "0.64", "22.89", "0.292", "0.287", "5.45", "1.08"),
)  # fmt: skip


def columns_beside(suite: str, protocol: str) -> tuple[Column, ...]:
    """Return the columns that belong beside a board of that suite and protocol; often none."""
    return tuple(c for c in COLUMNS if protocol == PROTOCOL and c.suite == suite)
