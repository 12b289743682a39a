"""A fetch that was cut off or killed goes on; two at once do not disturb each other."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time

import pytest
from file_server import leftovers, sha256, some_bytes


def test_a_body_that_ends_early_is_resumed_where_it_stopped(catalogued, run, server):
    file_set = catalogued()
    server.cuts = [100_000, 50_000]
    code, output = run("set")
    assert code == 0, output
    assert [h.get("Range") for h in server.gets("/set/a.bin")] == [
        None, "bytes=100000-", "bytes=150000-"
    ]  # fmt: skip
    assert file_set.digests()


def test_a_body_that_always_ends_early_is_given_up_and_what_came_is_kept(catalogued, run, server):
    file_set = catalogued()
    server.cuts = [100_000, *[0] * 20]
    code, output = run("set")
    assert code == 1 and "run the same command again" in output
    assert file_set.missing() and (file_set.folder / "a.bin.part").stat().st_size == 100_000
    server.cuts = []
    assert run("set")[0] == 0
    assert server.gets("/set/a.bin")[-1]["Range"] == "bytes=100000-"


def test_a_server_that_knows_no_ranges_sends_it_all_again(catalogued, run, server):
    file_set = catalogued()
    server.ranges = False
    server.cuts = [100_000]
    assert run("set")[0] == 0
    assert file_set.digests()
    server.cuts = [100_000, 90_000] * 20  # and one that never comes to the end is left
    (file_set.folder / "a.bin").unlink()
    assert run("set")[0] == 1


@pytest.mark.parametrize(
    "part", [b"not its beginning", some_bytes(300_000, seed=1), b"x" * 400_000]
)
def test_a_part_of_another_file_is_thrown_away(catalogued, run, server, part):
    file_set = catalogued()
    file_set.folder.mkdir(parents=True)
    (file_set.folder / "a.bin.part").write_bytes(part)
    code, output = run("set")
    assert code == 0, output
    assert file_set.digests() and leftovers(file_set.folder) == []


@pytest.mark.parametrize("part", [some_bytes(300_000), b"x" * 400_000])
def test_a_part_as_long_as_a_file_of_unknown_size_is_settled_by_the_server(
    catalogued, run, server, part
):
    file_set = catalogued(sized=False)
    file_set.folder.mkdir(parents=True)
    (file_set.folder / "a.bin.part").write_bytes(part)
    code, output = run("set")
    assert code == 0, output
    assert file_set.digests()


_PROGRAM = """
import sys
from evaluators import catalogue, registry
from evaluators.weights import WeightFile, Weights
url, digest, size = sys.argv[1:4]
registry.BUILT_IN.clear()
catalogue.ALL = (Weights("set", (WeightFile("a.bin", url, digest, int(size)),), "MIT", "here"),)
sys.argv = ["soar-bench", "fetch", "set"]
from soar_bench.cli import main
main()
"""


def start_fetch(server, content):
    server.files["/a.bin"] = content
    arguments = [f"{server.address}/a.bin", sha256(content), str(len(content))]
    return subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def test_a_killed_fetch_goes_on(server, home):
    content = some_bytes(4 << 20)
    server.pause = 0.02
    first = start_fetch(server, content)
    part = home / "weights" / "set" / "a.bin.part"
    deadline = time.monotonic() + 240
    while not (part.exists() and part.stat().st_size > 1 << 20):
        assert time.monotonic() < deadline and first.poll() is None
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    first.wait()
    came = part.stat().st_size
    assert came < len(content) and not part.with_name("a.bin").exists()
    server.pause = 0.0
    second = start_fetch(server, content)
    output, _ = second.communicate(timeout=240)
    assert second.returncode == 0, output
    assert "are here already" in output
    assert server.gets("/a.bin")[-1]["Range"] == f"bytes={came}-"
    assert part.with_name("a.bin").read_bytes() == content and not part.exists()


def test_two_fetches_at_once_bring_a_file_once(server, home):
    content = some_bytes(2 << 20)
    server.pause = 0.03
    both = [start_fetch(server, content) for _ in range(2)]
    printed = [process.communicate(timeout=240)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], printed
    assert (home / "weights" / "set" / "a.bin").read_bytes() == content
    assert len(server.gets("/a.bin")) == 1, printed
    assert any("another fetch is working" in text for text in printed)


def test_a_file_system_without_locks_is_fetched_to_under_a_name_of_its_own(
    catalogued, run, monkeypatch
):
    file_set = catalogued()

    def unsupported(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", unsupported)
    assert run("set")[0] == 0
    assert file_set.digests() and leftovers(file_set.folder) == []
