"""The script that kills eval, train, report and score, with a few kills of each."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_killed_at_random_moments_every_command_ends_alike_and_leaves_nothing():
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "kills.py"), "--kills", "12"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    lines = re.findall(
        r"(\w+): 3 kills, run to the end \d+ times, 0 with a difference", done.stdout
    )
    assert lines == ["eval", "train", "report", "score"]
