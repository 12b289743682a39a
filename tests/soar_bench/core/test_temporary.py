"""Killed anywhere, what is written is old or new and whole, and the next writer clears up."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from soar_bench.core import files, temporary
from soar_bench.core.files import replace_atomically, replace_folder_atomically, write_text
from soar_bench.core.temporary import delete_folder, sweep

fcntl = pytest.importorskip("fcntl")
ROOT = Path(__file__).parents[3]


def hidden(place):
    return sorted(path.name for path in place.rglob(".*"))


def write_file(place, text):
    write_text(place / "page.md", text)


def write_folder(place, text):
    with replace_folder_atomically(place / "report") as aside:
        for name in ("a.txt", "sub/b.txt"):
            (aside / name).parent.mkdir(exist_ok=True)
            (aside / name).write_text(text)


def delete(place, text):
    if (place / "report").exists():
        delete_folder(place / "report")


def content(place):
    return {
        str(f.relative_to(place)): f.read_text()
        for f in place.rglob("*")
        if f.is_file() and not any(part[0] == "." for part in f.relative_to(place).parts)
    }


OLD = {"page.md": "old", "report/a.txt": "old", "report/sub/b.txt": "old"}

#: Where the process can be killed: before and after each of these calls.
CALLS = [
    (os, "open"), (os, "close"), (os, "mkdir"), (os, "fsync"), (os, "rename"), (os, "replace"),
    (os, "chmod"), (os, "unlink"), (os, "rmdir"), (files, "_exchange"), (temporary, "_make"),
]  # fmt: skip


def killed(number, work):
    """Do the work in a fork that is killed at that point; return whether it came so far."""
    child = os.fork()
    if child == 0:
        left = iter(range(number))

        def watched(call):
            def counted(*arguments, **named):
                if next(left, None) is None:
                    os.kill(os.getpid(), signal.SIGKILL)
                result = call(*arguments, **named)
                if next(left, None) is None:
                    os.kill(os.getpid(), signal.SIGKILL)
                return result

            return counted

        for module, name in CALLS:
            setattr(module, name, watched(getattr(module, name)))
        try:
            work()
        finally:
            os._exit(0)
    return os.waitpid(child, 0)[1] != 0


CASES = [
    (write_file, {}, {"page.md": "new"}),
    (write_file, OLD, {**OLD, "page.md": "new"}),
    (write_folder, {}, {"report/a.txt": "new", "report/sub/b.txt": "new"}),
    (write_folder, OLD, {**OLD, "report/a.txt": "new", "report/sub/b.txt": "new"}),
    (delete, OLD, {"page.md": "old"}),
]


@pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "two-renames"])
@pytest.mark.parametrize("case", range(len(CASES)))
def test_killed_at_every_point_the_next_to_write_leaves_nothing(case, exchange, tmp_path):
    """In a process of its own: to fork one as large as a test's takes a tenth of a second."""
    arguments = [sys.executable, __file__, str(case), str(int(exchange)), str(tmp_path)]
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20


def kill_everywhere(work, before, changed, exchange, folder):
    """Kill the work at each of its points, look, and do it again; return the number of points."""
    if not exchange:
        files._exchange = lambda a, b: False
    for number in range(1000):
        place = folder / str(number)
        place.mkdir()
        if before:
            write_file(place, "old")
            write_folder(place, "old")
        assert content(place) == before
        temporary._swept.clear()
        if not killed(number, lambda place=place: work(place, "new")):
            return number
        after = content(place)
        if after == {"page.md": "old"} and work is write_folder and not exchange:
            sweep(place)  # killed between the two renames: the older one comes back
            assert content(place) == before
        else:
            assert after in (before, changed)
        work(place, "new")
        assert content(place) == changed
        write_text(place / "page.md", changed.get("page.md", ""))
        assert hidden(place) == [], number
    raise AssertionError("the work does not end")


def test_folders_change_places_at_once_where_the_system_can(tmp_path):
    """On Linux with a common disk, a report is there at every moment."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "x").touch()
    if sys.platform != "linux" or not files._exchange(tmp_path / "a", tmp_path / "b"):
        pytest.skip("no exchange here")
    assert (tmp_path / "b" / "x").exists() and not (tmp_path / "a" / "x").exists()
    assert not files._exchange(tmp_path / "a", tmp_path / "none")


WRITER = """
import sys
from pathlib import Path
from soar_bench.core.files import replace_atomically, replace_folder_atomically
place = Path(sys.argv[1])
with replace_atomically(place / "file.txt") as file, replace_folder_atomically(place / "d") as d:
    file.write_text("new")
    (d / "x").write_text("new")
    print("writing", flush=True)
    sys.stdin.read()
"""


@pytest.fixture()
def writer(tmp_path):
    """A process in the middle of writing a file and a folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "writing\n"
    yield process
    process.kill()
    process.communicate()


def test_what_a_living_process_writes_is_left_alone_however_old(writer, tmp_path):
    for name in hidden(tmp_path):
        os.utime(tmp_path / name, (0, 0))
    sweep(tmp_path)
    assert len(hidden(tmp_path)) == 2
    writer.communicate()
    assert writer.returncode == 0
    assert content(tmp_path) == {"file.txt": "new", "d/x": "new"}
    assert hidden(tmp_path) == []


def test_what_a_killed_process_wrote_is_swept_at_once(writer, tmp_path):
    writer.kill()
    writer.wait()
    assert len(hidden(tmp_path)) == 2
    sweep(tmp_path)
    assert hidden(tmp_path) == []


def left(place, name, host=temporary._HOST, age=0.0):
    file = place / f".{name}.soar-bench-{host}-0123456789ab.json"
    file.write_text("half")
    os.utime(file, (time.time() - age,) * 2)
    return file


def test_what_another_machine_left_goes_when_it_is_a_day_old(tmp_path):
    young = left(tmp_path, "young", host="0" * 8, age=23 * 3600)
    old = left(tmp_path, "old", host="0" * 8, age=25 * 3600)
    sweep(tmp_path)
    assert young.exists() and not old.exists()


def test_without_locks_only_age_tells(tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", unsupported)
    young, old = left(tmp_path, "young"), left(tmp_path, "old", age=25 * 3600)
    sweep(tmp_path)
    assert young.exists() and not old.exists()
    write_file(tmp_path, "text")
    assert content(tmp_path) == {"page.md": "text"}


def test_nothing_of_anybody_elses_is_swept(tmp_path):
    others = [
        ".config.settings.json", ".soar-bench-notes", ".a.soar-bench-x.json", ".git",
        ".soar-bench-12345678-0123456789ab", "a.soar-bench-12345678-0123456789ab.json",
    ]  # fmt: skip
    for name in others:
        (tmp_path / name).write_text("mine")
        os.utime(tmp_path / name, (0, 0))
    (tmp_path / "outside").write_text("mine")
    link = tmp_path / f".link.soar-bench-{temporary._HOST}-0123456789ab"
    link.symlink_to(tmp_path / "outside")
    sweep(tmp_path)
    sweep(tmp_path / "none")
    assert {*others, "outside"} <= {f.name for f in tmp_path.iterdir()}


def test_long_names_are_written_as_well(tmp_path):
    for name in ("n" * 255, "é" * 127, "a." + "b" * 250, "." + "c" * 200):
        with replace_atomically(tmp_path / name) as aside:
            aside.write_text("text")
        assert (tmp_path / name).read_text() == "text"


def test_one_that_is_swept_before_it_is_held_is_made_anew(tmp_path, monkeypatch):
    """Between its creation and its lock another process may take it for abandoned."""
    lock, made = fcntl.flock, []

    def sweeping(descriptor, how):
        if not made:
            made.extend(tmp_path.glob(".*"))
            for path in made:
                shutil.rmtree(path)
        return lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", sweeping)
    for folder in (False, True):
        made.clear()
        with temporary.temporary(tmp_path / "x", folder=folder) as path:
            place = path if folder else path.parent
            assert made and place.exists() and place not in made
    assert hidden(tmp_path) == []


def test_a_temporary_file_has_the_name_that_libraries_go_by(tmp_path):
    with replace_atomically(tmp_path / "sheet.png") as aside:
        assert aside.name == "sheet.png"
        aside.touch()


def test_a_file_that_a_library_puts_in_anothers_place_is_held_as_well(tmp_path):
    """safetensors does that; two trainings that begin together sweep each other's cache."""
    with replace_atomically(tmp_path / "a.safetensors") as aside:
        aside.touch()
        save_file({"a": torch.arange(3)}, aside)
        sweep(tmp_path)
    assert load_file(tmp_path / "a.safetensors")["a"].tolist() == [0, 1, 2]
    assert hidden(tmp_path) == []


if __name__ == "__main__":
    print(kill_everywhere(*CASES[int(sys.argv[1])], sys.argv[2] == "1", Path(sys.argv[3])))
