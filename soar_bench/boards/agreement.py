"""Agreement of two judges of right and wrong on the same images, for example GenEval's two."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from soar_bench.boards.board import Board
from soar_bench.records import Run
from soar_bench.stats import Scores, over_seeds

#: Images on which judges part that a sentence names.
_SHOWN = 3
#: Title of the table of agreements.
JUDGES = "Images that two judges have right"
_SAMPLE = ["task", "prompt_id", "index"]


@dataclass(frozen=True)
class Agreement:
    """Counts of the images of one entrant that two judges have scored."""

    entrant: str
    first: str
    second: str
    #: right for both, for the first alone, for the second alone, for neither
    both: int
    only_first: int
    only_second: int
    neither: int
    #: prompt id and index of the images on which they part, in the record's order
    parted: tuple[tuple[str, int], ...]
    #: 95% interval of the share on which they agree, prompts as clusters; NaN if unknowable
    interval: tuple[float, float]

    @property
    def images(self) -> int:
        """Images that both have scored."""
        return self.both + self.only_first + self.only_second + self.neither

    @property
    def share(self) -> float:
        """Share of the images on which they agree."""
        return (self.both + self.neither) / self.images

    @property
    def kappa(self) -> float:
        """Cohen's kappa: 0 where they agree as often as chance makes them; NaN where both always
        say the same.
        """
        n, first, second = self.images, self.both + self.only_first, self.both + self.only_second
        chance = (first * second + (n - first) * (n - second)) / n**2
        return (self.share - chance) / (1 - chance) if chance < 1 else float("nan")

    def cells(self) -> dict[str, str]:
        """Return the row of a table by its titles: images that both, one or neither has right."""
        low, high = self.interval
        ends = "" if np.isnan(low) else f" [{low:.1%}, {high:.1%}]"
        return {
            "judges": f"{self.first}, {self.second}", "checkpoint": self.entrant,
            "both": f"{self.both:,}", "first": f"{self.only_first:,}",
            "second": f"{self.only_second:,}", "neither": f"{self.neither:,}",
            "agree [95%]": f"{self.share:.1%}{ends}",
            "kappa": "" if np.isnan(self.kappa) else f"{self.kappa:.2f}",
        }  # fmt: skip

    def record(self) -> dict[str, Any]:
        """Return the counts, the shares and every image on which they part; NaN if unknown."""
        return {
            "checkpoint": self.entrant, "first": self.first, "second": self.second,
            "both_right": self.both, "first_alone": self.only_first,
            "second_alone": self.only_second, "both_wrong": self.neither, "agree": self.share,
            "agree_low": self.interval[0], "agree_high": self.interval[1], "kappa": self.kappa,
            "parted": [{"prompt_id": name, "index": index} for name, index in self.parted],
        }  # fmt: skip

    def __str__(self) -> str:
        kappa = "" if np.isnan(self.kappa) else f", kappa {self.kappa:.2f}"
        text = (
            f"{self.first} and {self.second} agree on {self.share:.0%} of the {self.images:,} "
            f"images of {self.entrant}{kappa}: {self.both:,} are right for both, "
            f"{self.only_first:,} for {self.first} alone, {self.only_second:,} for {self.second} "
            f"alone, {self.neither:,} for neither"
        )
        places = ", ".join(f"{name} image {index}" for name, index in self.parted[:_SHOWN])
        return text + (f"; they part on {places}" if places else "") + "."


def agreements(board: Board) -> Iterator[Agreement]:
    """Yield the agreement of every two judges of right and wrong, entrant by entrant.

    Judges are two evaluators whose first metrics by the record's order are on the board, are means
    of tasks, and have one unit and the values 0 and 1 alone. Training seeds are taken together.
    """
    for number, entrant in enumerate(board.entrants):
        runs = [board.scores_of(number, seed) for seed in range(len(entrant.runs))]
        judges = [name for name in _judges(entrant.first) if name in board.metrics]
        for first, second in combinations(judges, 2):
            same_unit = board.metrics[first].unit == board.metrics[second].unit
            parts = [_paired(run.get(first), run.get(second)) for run in runs]
            pairs = pd.concat(parts, ignore_index=True)
            if not same_unit or pairs.empty or not np.isin(pairs[["a", "b"]], (0, 1)).all():
                continue
            a, b = (pairs[side].to_numpy(bool) for side in ("a", "b"))
            both, only_a, only_b = (int(mask.sum()) for mask in (a & b, a & ~b, ~a & b))
            neither = len(pairs) - both - only_a - only_b
            parted = pairs[a != b]
            places = zip(map(str, parted["prompt_id"]), map(int, parted["index"]), strict=True)
            counts = both, only_a, only_b, neither
            agree = [p.assign(value=(p["a"] == p["b"]).astype(float)) for p in parts if len(p)]
            ends = over_seeds(agree).interval()
            yield Agreement(entrant.name, first, second, *counts, tuple(places), ends)


def _judges(run: Run) -> list[str]:
    """Return the first metric of each evaluator where that is a mean of tasks."""
    firsts = [next(iter(e.metrics.items())) for e in run.record.evaluators.values()]
    return [name for name, metric in firsts if metric.aggregate == "task_mean"]


def _paired(first: Scores | None, second: Scores | None) -> pd.DataFrame:
    """Return the values of the samples that both have, in the columns a and b."""
    if first is None or second is None:
        return pd.DataFrame(columns=[*_SAMPLE, "a", "b"])
    frames = [
        pd.DataFrame(
            {"task": s.task, "prompt_id": s.prompt_id, "index": s.index, side: s.value}
        ).dropna()
        for s, side in ((first, "a"), (second, "b"))
    ]
    return frames[0].merge(frames[1], on=_SAMPLE)
