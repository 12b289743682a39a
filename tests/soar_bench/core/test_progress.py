"""Progress as it is seen: the rendered screen of a terminal, and the lines of a log."""

from __future__ import annotations

import io
import re
from types import SimpleNamespace

import pytest
from rich.console import Console

from soar_bench.core import progress
from soar_bench.core.progress import stages

#: As `train` reports them.
FIGURES = {
    "loss": 0.12345, "loss_base": 0.2, "loss_auxiliary": 0.3, "grad_norm": 1.5, "lr": 4e-5,
    "samples_per_second": 12.3, "memory_gib": 45.6,
}  # fmt: skip


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: now.seconds)
    return now


def log_lines(clock, reports, every: float, title: str = "") -> list[str]:
    console = Console(file=io.StringIO(), width=80)
    with stages(console, title=title) as show:
        for report in reports:
            show(*report)
            clock.seconds += every
    return console.file.getvalue().splitlines()


def screen(clock, width: int, reports, every: float, title: str = "") -> list[str]:
    """The last picture of a terminal of that width."""
    file = io.StringIO()
    console = Console(
        file=file, width=width, height=20, force_terminal=True, color_system=None,
        get_time=lambda: clock.seconds, legacy_windows=False, _environ={},
    )  # fmt: skip
    with stages(console, title=title) as show:
        for report in reports:
            show(*report)
            clock.seconds += every
    return terminal(file.getvalue())


def terminal(text: str) -> list[str]:
    """What a terminal shows after these characters: it knows the three codes that rich moves by."""
    lines, row = [""], 0
    for part in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\n|\r|[^\x1b\n\r]+", text):
        if part == "\n":
            row += 1
            lines += [""] * (row == len(lines))
        elif part.startswith("\x1b["):
            row -= part.endswith("A") and int(part[2:-1] or 1)
            lines[row] = "" if part.endswith("K") else lines[row]
        elif part != "\r":
            lines[row] += part
    return [line.rstrip() for line in lines if line.strip()]


@pytest.mark.parametrize("width", [60, 80, 100, 120])
def test_a_bar_shows_step_and_time_left_and_then_figures_as_far_as_they_fit(clock, width):
    reports = [("train", step, 5000, FIGURES) for step in (3000, 3010, 3020)]
    (row,) = screen(clock, width, reports, every=50.0)
    assert len(row) <= width
    # 10 steps in 50 seconds; 1980 are left.
    bar = re.match(r"train +[━╸╺ ]{10,} +3020/5000 +2:45:00 left +0.2/s", row)
    assert bar, row
    told = [f"{name} {value:.4g}" for name, value in FIGURES.items()]
    fitting = re.split(r"  +", row[bar.end() :].strip()) if row[bar.end() :].strip() else []
    assert fitting == told[: len(fitting)]  # whole ones, in order
    assert len(fitting) >= {60: 1, 80: 1, 100: 2, 120: 3}[width]


def test_long_names_leave_room_for_step_and_time(clock):
    name = "openclip:ViT-H-14/laion2b_s32b_b79k"
    row = screen(clock, 60, [(name, n, 64) for n in (16, 32)], every=8.0)[0]
    assert re.search(r"openclip:ViT-H… [━╸╺ ]+ 32/64 0:00:16 left", row), row


def test_a_terminal_has_one_row_per_stage_under_the_title(clock):
    reports = [("generate", 1, 2), ("generate", 2, 2), ("geneval", 1, 2), ("geneval", 2, 2)]
    lines = screen(clock, 80, reports, every=3.0, title="my-lora on geneval")
    assert lines[0] == "my-lora on geneval"
    assert [line.split()[0] for line in lines[1:]] == ["generate", "geneval"]
    assert all("2/2" in line and "0:00:03" in line for line in lines[1:])


@pytest.mark.parametrize("seconds_per_step", [0.5, 60.0])
def test_a_log_has_about_a_dozen_lines_per_stage_each_on_one_line(clock, seconds_per_step):
    reports = [("train", step, 5000, FIGURES) for step in range(10, 5001, 10)]
    lines = log_lines(clock, reports, every=10 * seconds_per_step)
    assert 12 <= len(lines) <= 15
    assert all(line.startswith("train: ") and line.endswith("memory_gib 45.6") for line in lines)
    assert lines[0].startswith("train: 10/5000  loss 0.1235")
    # the second says already how long it will take, of a run of hours as well
    speed = 1 / seconds_per_step
    second = int(re.match(r"train: (\d+)/5000", lines[1])[1])
    assert f"{speed:.3g}/s" in lines[1] and " left" in lines[1] and second <= 420
    assert lines[-1].startswith("train: 5000/5000") and "left" not in lines[-1]


def test_a_short_stage_is_two_lines(clock):
    lines = log_lines(clock, [("ocr", n, 40) for n in range(1, 41)], every=0.1, title="a on b")
    assert lines == ["a on b, ocr: 1/40", "a on b, ocr: 40/40  10/s"]


def test_slow_work_says_its_time_left_at_every_report_it_needs(clock):
    lines = log_lines(clock, [("generate", n, 4) for n in range(1, 5)], every=3600.0)
    assert [line.split("  ")[:2] for line in lines[1:-1]] == [
        ["generate: 2/4", "2:00:00 left"],
        ["generate: 3/4", "1:00:00 left"],
    ]


def test_a_stage_that_begins_once_more_is_told_from_its_beginning(clock):
    reports = [("look", done, 3) for _ in range(2) for done in (1, 2, 3)]
    lines = log_lines(clock, reports, every=1.0)
    assert [line.split()[1] for line in lines] == ["1/3", "3/3", "1/3", "3/3"]
    (row,) = screen(clock, 80, [("look", 3, 3), ("look", 1, 3)], every=1.0)
    assert "1/3" in row


def test_notes_in_a_log_are_one_line():
    console = Console(file=io.StringIO(), width=80)
    with stages(console) as show:
        show.note("word " * 40)
    assert console.file.getvalue().count("\n") == 1
