"""Answers longer or shorter than their file, and disks too small for it."""

from __future__ import annotations

import errno
import gzip
import os
import shutil
import types

import pytest
from file_server import leftovers, some_bytes

from soar_bench.fetch import download


def test_a_file_of_another_size_is_not_even_fetched(catalogued, run, server):
    file_set = catalogued()
    server.files["/set/a.bin"] = b"<html>log in</html>"
    code, output = run("set")
    assert code == 1 and "19 bytes where 300,000 are expected" in output
    assert not (file_set.folder / "a.bin.part").exists()


@pytest.mark.parametrize("bound", ["pinned", "announced", "stated"])
def test_an_answer_without_an_end_is_stopped_at_the_size_that_is_known(
    catalogued, run, server, monkeypatch, bound
):
    """A chunked answer announces no length: only the client can end it."""
    file_set = catalogued(known=False, sized=bound == "pinned")
    expected = 300_000
    if bound == "stated":
        monkeypatch.setattr(download, "remote_size", lambda url: None)
        monkeypatch.setattr(download, "LARGEST", expected := 5_000_000)
    server.endless.add("/set/a.bin")
    code, output = run("set")
    assert code == 1 and f"sends more than the {expected:,} bytes that are" in output
    assert "Traceback" not in output
    assert file_set.missing() and leftovers(file_set.folder) == []
    assert server.sent < expected + 20_000_000, "beside what was on its way"


@pytest.mark.parametrize(
    ("path", "about", "bound"),
    [("a.bin", 1_500_000, 3_000_000), ("a.jsonl", None, 2_000_000), ("a.bin", None, 5_000_000)],
)
def test_an_answer_of_unsaid_size_is_stopped_by_what_the_file_is(
    catalogued, run, server, monkeypatch, path, about, bound
):
    file_set = catalogued(files={path: b"x"}, known=False, sized=False, about=about)
    monkeypatch.setattr(download, "remote_size", lambda url: None)
    monkeypatch.setattr(download, "LARGEST_TEXT", 2_000_000)
    monkeypatch.setattr(download, "LARGEST", 5_000_000)
    server.endless.add(f"/set/{path}")
    code, output = run("set")
    assert code == 1 and f"sends more than the {bound:,} bytes that are taken" in output
    assert "needs its size" in output and len(output.strip().splitlines()) == 3
    assert file_set.missing() and leftovers(file_set.folder) == []


def test_a_size_that_only_the_answer_announces_is_believed(catalogued, run, monkeypatch):
    file_set = catalogued(known=False, sized=False)
    monkeypatch.setattr(download, "remote_size", lambda url: None)
    monkeypatch.setattr(download, "LARGEST", 1000)
    assert run("set")[0] == 0 and not file_set.missing()


def test_an_answer_that_is_compressed_unasked_is_the_file_all_the_same(catalogued, run, server):
    file_set = catalogued(files={"a.txt": b"words " * 1000})
    server.files["/set/a.txt"] = gzip.compress(b"words " * 1000)
    server.headers = {"Content-Encoding": "gzip"}
    code, output = run("set")
    assert code == 0, output
    assert server.gets("/set/a.txt")[0]["Accept-Encoding"] == "identity"
    assert (file_set.folder / "a.txt").read_bytes() == b"words " * 1000


def test_an_answer_that_unpacks_to_more_than_the_file_is_stopped(catalogued, run, server):
    file_set = catalogued(files={"a.txt": b"words " * 1000})
    server.files["/set/a.txt"] = gzip.compress(b"words " * 10_000_000)
    server.headers = {"Content-Encoding": "gzip"}
    code, output = run("set")
    assert code == 1 and "sends more than the 6,000 bytes that are expected" in output
    assert file_set.missing() and leftovers(file_set.folder) == []


def test_an_index_without_an_end_is_stopped(catalogued, run, server):
    catalogued(known=False)
    server.files["/m/weights/set/digests.json"] = b"{}"
    server.endless.add("/m/weights/set/digests.json")
    code, output = run("set", "--mirror", f"{server.address}/m")
    assert code == 1 and "sends more than the 4,194,304 bytes that are" in output
    assert server.sent < 30_000_000


# Disks


def test_too_little_room_is_said_before_anything_is_fetched(catalogued, run, server, monkeypatch):
    catalogued()
    usage = types.SimpleNamespace(free=200_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage)
    code, output = run("set")
    assert code == 2 and server.requests == []
    assert "300.0 kB are needed and 200.0 kB are free" in output and "SOAR_BENCH_HOME" in output


def test_what_has_come_already_needs_no_room(catalogued, run, monkeypatch):
    file_set = catalogued()
    file_set.folder.mkdir(parents=True)
    (file_set.folder / "a.bin.part").write_bytes(some_bytes(300_000)[:150_000])
    usage = types.SimpleNamespace(free=200_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage)
    assert run("set")[0] == 0


def test_room_for_a_file_of_unknown_size_is_looked_for_when_it_is_known(
    catalogued, run, server, monkeypatch
):
    file_set = catalogued(sized=False)
    monkeypatch.setattr(download, "remote_size", lambda url: None)
    usage = types.SimpleNamespace(free=200_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage)
    code, output = run("set")
    assert code == 1 and "300.0 kB are needed" in output
    assert not (file_set.folder / "a.bin.part").exists()


def test_a_disk_that_fills_up_is_named_and_the_same_command_goes_on(
    catalogued, run, server, monkeypatch
):
    file_set = catalogued()

    class Full:
        """A file whose disk is full after 100 000 bytes."""

        def __init__(self, stream):
            self.stream = stream

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.stream.close()

        def __getattr__(self, name):
            return getattr(self.stream, name)

        def write(self, chunk):
            self.stream.write(chunk[:100_000])
            self.stream.flush()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    real = type(file_set.folder).open

    def open_full(path, *arguments, **keywords):
        stream = real(path, *arguments, **keywords)
        return Full(stream) if path.suffix == ".part" and arguments == ("wb",) else stream

    with monkeypatch.context() as patch:
        patch.setattr(type(file_set.folder), "open", open_full)
        code, output = run("set")
    assert code == 1 and "no space left on the disk" in output and "same command" in output
    assert len(server.gets("/set/a.bin")) == 1, "a full disk is no reason to try again"
    came = (file_set.folder / "a.bin.part").stat().st_size
    assert 0 < came <= 100_000
    assert run("set")[0] == 0
    assert server.gets("/set/a.bin")[-1]["Range"] == f"bytes={came}-"


def test_a_home_that_cannot_be_written_to_is_named(catalogued, run, home):
    home.write_text("a file where the folder should be")
    code, output = run("set") if catalogued() else None
    assert code != 0 and str(home) in output and "Traceback" not in output
