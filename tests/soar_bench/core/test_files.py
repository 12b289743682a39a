"""Locks between processes, and what happens where there are none."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from soar_bench.core.files import locked

HOLD = """
import sys
from pathlib import Path
from soar_bench.core.files import locked
with locked(Path(sys.argv[1])) as held:
    print(held, flush=True)
    sys.stdin.read()
"""


@pytest.fixture()
def holder(tmp_path):
    """A process that holds the lock until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "True\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.parametrize("end", ["done", "killed"])
def test_a_second_process_says_that_it_waits_and_then_goes_on(tmp_path, holder, end):
    said = []

    def waiting():
        said.append("waiting")
        holder.stdin.close() if end == "done" else holder.kill()

    with locked(tmp_path / "lock", waiting) as held:
        assert held and said == ["waiting"]


def test_a_lock_that_nobody_holds_is_had_at_once(tmp_path):
    for _ in range(2):
        with locked(tmp_path / "new" / "lock", lambda: pytest.fail("waited")) as held:
            assert held


def test_a_failure_inside_lets_the_lock_go(tmp_path):
    with pytest.raises(KeyError), locked(tmp_path / "lock"):
        raise KeyError
    with locked(tmp_path / "lock", lambda: pytest.fail("waited")) as held:
        assert held


def test_an_error_inside_is_not_taken_for_a_file_system_without_locks(tmp_path):
    with pytest.raises(OSError, match="full"), locked(tmp_path / "lock"):
        raise OSError(errno.ENOSPC, "full")


def test_a_file_system_without_locks_works_as_well(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def unsupported(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with locked(tmp_path / "lock") as held:
        assert not held


def test_a_folder_that_cannot_be_made_has_no_lock(tmp_path):
    (tmp_path / "file").write_text("")
    with locked(tmp_path / "file" / "lock") as held:
        assert not held
