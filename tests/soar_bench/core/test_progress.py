"""Progress, where there is no terminal."""

from __future__ import annotations

import io

from rich.console import Console

from soar_bench.core.progress import stages


def test_a_stage_that_begins_once_more_is_told_from_its_beginning():
    console = Console(file=io.StringIO(), width=80)
    with stages(console) as show:
        for _ in range(2):
            for done in (1, 2, 3):
                show("look", done, 3)
    lines = console.file.getvalue().splitlines()
    assert [line.split()[1] for line in lines] == ["1/3", "3/3", "1/3", "3/3"]
