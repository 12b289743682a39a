"""The comparison of objectives as Markdown, from the records of `benchmarks/objectives_world.py`.

    python benchmarks/objectives_table.py outputs/objectives/48-steps/results
    python benchmarks/objectives_table.py RESULTS --metric shapes_clipscore

A row per objective, a column per guidance: mean ± standard deviation over training seeds. Then
every objective less the base, and what the paper claims of two, paired by prompt and image with the
interval and p-value of `soar-bench compare`; p is also corrected over the rows by Holm's method.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.seeds_table import spread
from soar_bench.boards import Board, group_seeds
from soar_bench.boards.words import format_difference, format_p
from soar_bench.core import markdown
from soar_bench.core.errors import SoarBenchError
from soar_bench.records import Run, read_runs
from soar_bench.stats import holm

BASE = "shapes"
#: objective, and the one whose value is taken from its, where both have the same reward and size
CLAIMS = (("soar", "nft"), ("soar", "flow-grpo"), ("soar", "defar"), ("soar", "sft"),
          ("nft-after-soar", "nft-after-sft"), ("nft-after-soar", "nft"))  # fmt: skip

#: guidance -> board
Boards = dict[float, Board]


def boards(results: Path) -> Boards:
    """Return the boards by guidance. SoarBenchError if two have the same, or there is none."""
    by_board: dict[str, list[Run]] = {}
    for run in read_runs(results):
        by_board.setdefault(run.board, []).append(run)
    boards: Boards = {}
    for runs in by_board.values():
        guidance = float(runs[0].record.protocol.settings["guidance"])
        if guidance in boards:
            raise SoarBenchError(f"{results} has two boards at guidance {guidance:g}: name one's")
        boards[guidance] = Board.of(group_seeds(runs))
    if not boards:
        raise SoarBenchError(f"{results} has no records: benchmarks/objectives_world.py makes them")
    return dict(sorted(boards.items()))


def names_of(board: Board) -> list[str]:
    return [entrant.name for entrant in board.entrants]


def pairs(names: list[str]) -> Iterator[tuple[str, str]]:
    """Yield every objective and the base, then the two of every claim."""
    trained = [name for name in names if name != BASE]
    yield from ((name, BASE) for name in trained)
    for better, worse in CLAIMS:
        for name in trained:
            for rule in ("-geneval-", "-clipscore-"):
                objective, _, size = name.partition(rule)
                if size and objective == better:
                    # NFT's steps are the compute of all: at equal compute its run is that one.
                    others = (worse + rule + size, worse + rule + "equal-steps")
                    if other := next((name for name in others if name in trained), None):
                        yield name, other


def page(results: Path, metric: str) -> str:
    """Return both tables."""
    by_guidance = boards(results)
    places = {
        guidance: {name: place for place, name in enumerate(names_of(board))}
        for guidance, board in by_guidance.items()
    }
    names = list(dict.fromkeys(name for of_board in places.values() for name in of_board))
    header = ["checkpoint", *(f"guidance {guidance:g}" for guidance in by_guidance)]
    values = [
        [name, *(spread(board.value(places[guidance][name], metric))
                 if name in places[guidance] else ""
                 for guidance, board in by_guidance.items())]
        for name in names
    ]  # fmt: skip
    rows = [
        (f"{name} - {other}", f"{guidance:g}",
         board.pair(places[guidance][name], places[guidance][other], metric))
        for name, other in pairs(names)
        for guidance, board in by_guidance.items()
        if {name, other} <= places[guidance].keys()
    ]  # fmt: skip
    corrected = holm([pair.p_value for *_, pair in rows])
    differences = [
        [title, guidance, format_difference(pair.difference), format_p(pair.p_value), format_p(p)]
        for (title, guidance, pair), p in zip(rows, corrected, strict=True)
    ]
    titles = ["difference", "guidance", "value [95%]", "p", "p (Holm)"]
    return (
        f"`{metric}`\n\n{markdown.table(header, values, range(1, len(header)))}\n"
        f"{markdown.table(titles, differences, range(1, 5))}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--metric", default="shapes_geneval")
    options = parser.parse_args()
    try:
        sys.stdout.write(page(options.results, options.metric))
    except SoarBenchError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
