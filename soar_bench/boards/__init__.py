"""Boards: runs that may be compared, with every number that any page shows of them.

:class:`~soar_bench.boards.board.Board` aligns the samples; :func:`compare` holds every entrant
against the first, :func:`~soar_bench.boards.standings.standings` ranks them all.
"""

from soar_bench.boards.board import Board
from soar_bench.boards.comparing import compare
from soar_bench.boards.comparison import Comparison
from soar_bench.boards.entrants import Entrant, group_seeds

__all__ = ["Board", "Comparison", "Entrant", "compare", "group_seeds"]
