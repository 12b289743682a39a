"""Is a training of SOAR as calm as one of SFT? The base loss and the gradient of their logs.

    python benchmarks/training_curves.py [outputs/train/sft-seed* outputs/train/soar-seed*]

Of the second half of every training; seeds of one method are a row, mean ± standard deviation over
seeds. Differences of the base loss are paired by seed: both see the same samples, noise and levels.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from scipy import stats

from soar_bench.core import markdown

#: title -> figure of the log, and how its steps become one number
FIGURES = {
    "base loss": ("loss_base", np.mean),
    "gradient norm": ("grad_norm", np.mean),
    "its deviation": ("grad_norm", lambda values: np.std(values, ddof=1)),
    "its largest": ("grad_norm", np.max),
}


def second_half(folder: Path) -> dict[str, np.ndarray]:
    """Return the figures of the second half of a training's log, [lines] each."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    last = lines[-1]["step"]
    late = [line for line in lines if line["step"] > last / 2]
    return {name: np.array([line[name] for line in late]) for name, _ in FIGURES.values()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("trainings", nargs="*", type=Path)
    folders = parser.parse_args().trainings or sorted(Path("outputs/train").glob("*-seed*"))
    methods: dict[str, list[Path]] = {}
    for folder in folders:
        methods.setdefault(folder.name.rpartition("-seed")[0], []).append(folder)
    figures = {
        method: {
            title: np.array([summary(second_half(folder)[name]) for folder in of_method])
            for title, (name, summary) in FIGURES.items()
        }
        for method, of_method in methods.items()
    }
    rows = [
        [method, str(len(methods[method]))]
        + [f"{values.mean():.4f} ± {values.std(ddof=1):.4f}" for values in of_method.values()]
        for method, of_method in figures.items()
    ]
    print(markdown.table(["method", "seeds", *FIGURES], rows, range(1, 6)))
    if {"sft", "soar"} <= set(figures):
        pairs = figures["soar"]["base loss"] - figures["sft"]["base loss"]
        error = pairs.std(ddof=1) / len(pairs) ** 0.5
        half = stats.t(len(pairs) - 1).ppf(0.975) * error
        print(
            f"base loss, SOAR less SFT: {pairs.mean():+.5f} "
            f"[{pairs.mean() - half:+.5f}, {pairs.mean() + half:+.5f}], paired by seed"
        )


if __name__ == "__main__":
    main()
