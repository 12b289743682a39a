"""Locks between processes, and what happens where there are none."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from soar_bench.core.files import locked, locked_folder, replace_atomically

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
    heard = []

    def waiting():
        heard.append("waiting")
        holder.stdin.close() if end == "done" else holder.kill()

    with locked(tmp_path / "lock", waiting) as held:
        assert held and heard == ["waiting"]


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


HOLD_FOLDER = HOLD.replace("locked", "locked_folder")


@pytest.mark.parametrize("end", ["done", "killed"])
@pytest.mark.parametrize("supported", [True, False])
def test_a_folder_is_held_by_one_process_and_gets_no_file(tmp_path, monkeypatch, end, supported):
    """Also where the system locks files alone, as NFS does, by a lock file in the home."""
    monkeypatch.setenv("SOAR_BENCH_HOME", str(tmp_path / "home"))
    folder, code = tmp_path / "new", HOLD_FOLDER
    if not supported:
        only_files = """
import errno, fcntl, os, stat
lock = fcntl.flock
def flock(file, how):
    if stat.S_ISDIR(os.fstat(file).st_mode):
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    return lock(file, how)
fcntl.flock = flock
"""
        fcntl = pytest.importorskip("fcntl")
        monkeypatch.setattr(fcntl, "flock", fcntl.flock)  # put back at the end
        exec(only_files, {})
        code = only_files + code
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    heard = []

    def waiting():
        heard.append("waiting")
        process.stdin.close() if end == "done" else process.kill()

    try:
        assert process.stdout.readline() == "True\n"
        with locked_folder(folder, waiting) as held:
            assert held and heard == ["waiting"]
            assert not list(folder.iterdir())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_folder_that_was_put_in_place_of_the_one_waited_for_is_held(tmp_path):
    folder, old = tmp_path / "run", tmp_path / "old"
    folder.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD_FOLDER, str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip

    def waiting():
        folder.rename(old)
        folder.mkdir()
        process.kill()

    assert process.stdout.readline() == "True\n"
    with locked_folder(folder, waiting) as held:
        assert held
        probe = f"import fcntl, os; fcntl.flock(os.open({str(folder)!r}, os.O_RDONLY), 6)"
        done = subprocess.run([sys.executable, "-c", probe], capture_output=True, check=False)
        assert b"BlockingIOError" in done.stderr
    process.wait()
    process.stdout.close()


def test_a_full_disk_is_told_with_the_file(tmp_path):
    """The system does not know it of an open file."""
    target = tmp_path / "a.png"
    with (
        pytest.raises(OSError, match="No space left") as full,
        replace_atomically(target),
        Path("/dev/full").open("wb", buffering=0) as device,
    ):
        device.write(b"x")
    assert full.value.filename == str(target)
    assert not [*tmp_path.iterdir()]
