"""``soar-bench fetch`` against a server of the test's own: never the network."""

from __future__ import annotations

import errno
import fcntl
import gzip
import hashlib
import io
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub
import pytest
from rich.console import Console

from evaluators import catalogue, registry, weights
from evaluators.types import Evaluator, EvaluatorError, Metric
from evaluators.weights import WeightFile, Weights
from soar_bench import cli, fetch, suites
from soar_bench.core import digests
from soar_bench.fetch import download, file_sets
from soar_bench.output.fetch import listing, table


def some_bytes(size, seed=0):
    return random.Random(seed).randbytes(size)


def sha256(content):
    return hashlib.sha256(content).hexdigest()


class Server:
    """Serves ``files`` by path, as well or as badly as a test asks."""

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.status: dict[str, int] = {}
        self.redirect: dict[str, tuple[str, dict[str, str]]] = {}
        self.headers: dict[str, str] = {}
        self.ranges = True
        #: bodies to break off, by how many bytes are sent
        self.cuts: list[int] = []
        #: seconds before a body, and between pieces of 64 kB
        self.silence = 0.0
        self.pause = 0.0
        #: paths whose body comes in chunks and never ends, and the bytes of it that were sent
        self.endless: set[str] = set()
        self.sent = 0
        #: (method, path, headers) of every request
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_HEAD(self):
                self.do_GET()

            def do_GET(self):
                outer.answer(self)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.port = self.http.server_address[1]
        self.address = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def answer(self, handler):
        path = handler.path
        self.requests.append((handler.command, path, dict(handler.headers)))
        if path in self.redirect:
            where, headers = self.redirect[path]
            handler.send_response(302)
            handler.send_header("Location", where)
            for name, value in headers.items():
                handler.send_header(name, value)
            handler.end_headers()
            return
        status = self.status.get(path, 200 if path in self.files else 404)
        if status != 200:
            handler.send_response(status)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        if path in self.endless and handler.command == "GET":
            self.send_without_end(handler)
            return
        content, start = self.files[path], 0
        asked = handler.headers.get("Range")
        if asked and self.ranges:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                handler.send_response(416)
                handler.send_header("Content-Range", f"bytes */{len(content)}")
                handler.end_headers()
                return
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            handler.send_response(200)
        body = content[start:]
        handler.send_header("Content-Length", str(len(body)))
        for name, value in self.headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        if handler.command == "HEAD":
            return
        if self.cuts:
            body = body[: self.cuts.pop(0)]
        time.sleep(self.silence)
        try:
            for at in range(0, len(body), 1 << 16):
                handler.wfile.write(body[at : at + (1 << 16)])
                time.sleep(self.pause)
        except OSError:
            pass

    def send_without_end(self, handler):
        handler.protocol_version = "HTTP/1.1"
        handler.close_connection = True
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        piece = b"10000\r\n" + b"x" * (1 << 16) + b"\r\n"
        with suppress(OSError):
            while self.sent < 200_000_000:
                handler.wfile.write(piece)
                self.sent += 1 << 16

    def gets(self, path):
        return [headers for method, p, headers in self.requests if (method, p) == ("GET", path)]


@pytest.fixture()
def server():
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


@pytest.fixture()
def home(tmp_path, monkeypatch):
    for name in ("HF_ENDPOINT", "HF_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("SOAR_BENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(download, "WAIT", 0.01)
    monkeypatch.setattr(registry, "BUILT_IN", {})
    return tmp_path / "home"


@pytest.fixture()
def catalogued(server, home, monkeypatch):
    """catalogued(name, {path: content}, **pins) -> the set, served and alone in the catalogue."""
    made: list[Weights] = []

    def add(name="set", files=None, *, known=True, sized=True, address=None, **pins):
        files = {"a.bin": some_bytes(300_000)} if files is None else files
        listed = []
        for path, content in files.items():
            server.files[f"/{name}/{path}"] = content
            pin = {"sha256": sha256(content)} if known else {}
            size = len(content) if sized else None
            url = f"{address or server.address}/{name}/{path}"
            listed.append(WeightFile(path, url, **{**pin, "size": size, **pins}))
        made.append(Weights(name, tuple(listed), licence="MIT", source="here"))
        monkeypatch.setattr(catalogue, "ALL", tuple(made))
        return made[-1]

    return add


@pytest.fixture()
def run(home, monkeypatch, capsys):
    """run(*arguments) -> (exit code, what was said on either stream)."""

    def go(*arguments):
        monkeypatch.setattr(sys, "argv", ["soar-bench", "fetch", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return ended.value.code or 0, said.out + said.err

    return go


def leftovers(folder):
    """Files in a set's folder that are neither published files nor the record."""
    return sorted(f.name for f in folder.iterdir() if f.suffix == ".part" or ".json." in f.name)


# What is fetched, and what is said


def test_a_fetched_set_is_whole_and_is_not_read_again(catalogued, run, server, monkeypatch):
    one = catalogued(files={"a.bin": some_bytes(300_000), "deep/b.txt": b"words"})
    code, said = run("set")
    assert code == 0, said
    assert (one.folder / "a.bin").read_bytes() == some_bytes(300_000)
    assert (one.folder / "deep" / "b.txt").read_bytes() == b"words"
    assert said.index("a.bin  300.0 kB") < said.index("2 files to fetch: 300.0 kB")
    assert said.index("2 files to fetch") < said.index("set/a.bin: fetched")
    assert leftovers(one.folder) == []

    monkeypatch.setattr(digests, "digest_file", lambda _: pytest.fail("a file was read again"))
    assert one.digests() == {"a.bin": sha256(some_bytes(300_000)), "deep/b.txt": sha256(b"words")}
    asked = len(server.requests)
    code, said = run("set")
    assert code == 0 and "Nothing to fetch." in said and len(server.requests) == asked


def test_without_names_everything_is_listed_and_nothing_is_fetched(catalogued, run, server):
    here = catalogued("here")
    run("here")
    catalogued("gone", known=False, sized=False)
    server.requests.clear()
    code, said = run()
    assert code == 0 and server.requests == []
    lines = {line.split("\t")[0]: line.split("\t") for line in said.splitlines()}
    assert lines["here"] == ["here", "weights", "300.0 kB", "yes", "MIT", ""]
    assert lines["gone"] == ["gone", "weights", "?", "no", "MIT", ""]
    assert {"geneval", "ocr", "drawbench", "pickscore"} <= set(lines)
    (here.folder / "a.bin").write_bytes(b"cut")
    code, said = run("here", "--json")
    row = {"name": "here", "what": "weights", "bytes": 300_000, "here": "damaged"}
    assert json.loads(said) == [{**row, "licence": "MIT", "evaluators": []}]
    assert len(json.loads(run("--json")[1])) > 5 and server.requests == []


def test_the_list_in_80_columns_has_a_line_per_set_with_its_whole_name(catalogued):
    catalogued("a-name-of-twenty-four-ch")
    lines = []
    for width in (80, 140):
        rows = listing(file_sets.everything(), pytest.fail)
        console = Console(width=width, file=io.StringIO())
        console.print(table(rows, width))
        lines = console.file.getvalue().splitlines()
        assert len(lines) == 2 + len(rows)
        assert all(line.startswith(row.name) for line, row in zip(lines[2:], rows, strict=True))
        assert [row.what for row in rows] == sorted((r.what for r in rows), reverse=True)
    assert "for the evaluators" in lines[0]


def test_models_that_a_package_keeps_are_named_where_they_are_lacking(home, run, monkeypatch):
    """As PaddleOCR's: no file of them is pinned, so a plan of files alone would say "nothing"."""

    class Judge(Evaluator):
        name, here = "judge", False
        metrics = (Metric("judgement", "share", (0.0, 1.0), True, "1", "here", "A test's."),)

        def score(self, samples):
            return []

        def check(self):
            if not self.here:
                raise EvaluatorError("the models of the package are not here")

        def bring(self):
            self.check()
            return ""

    module = types.ModuleType("judge_of_a_package")
    module.Judge = Judge
    monkeypatch.setitem(sys.modules, "judge_of_a_package", module)
    monkeypatch.setitem(registry.BUILT_IN, "judge", "judge_of_a_package:Judge")
    for words, code in (("judge", 1), ("judge --offline", 1), ("judge --dry-run", 0)):
        assert run(*words.split()) == (
            code,
            "No files to fetch.\nnote: judge: the models of the package are not here\n",
        )
    Judge.here = True
    assert run("judge") == (0, "Nothing to fetch.\n")


def test_the_list_of_what_there_is_reads_no_large_file(catalogued, run, monkeypatch):
    one = catalogued()
    one.folder.mkdir(parents=True)
    (one.folder / "a.bin").write_bytes(some_bytes(300_000))
    monkeypatch.setattr(digests, "digest_file", lambda _: pytest.fail("a file was read"))
    assert "not verified" in run()[1]


@pytest.fixture()
def judge(monkeypatch):
    """judge(weights) makes ``judge`` an evaluator that needs them."""

    def make(*needed):
        class Judge(Evaluator):
            name, weights = "judge", needed
            metrics = (Metric("judgement", "share", (0.0, 1.0), True, "1", "here", "A test's."),)

            def score(self, samples):
                return []

        module = types.ModuleType("judge_of_a_test")
        module.Judge = Judge
        monkeypatch.setitem(sys.modules, "judge_of_a_test", module)
        monkeypatch.setitem(registry.BUILT_IN, "judge", "judge_of_a_test:Judge")

    return make


def test_an_evaluator_names_the_weights_that_it_needs(catalogued, run, judge):
    one, other = catalogued("one"), catalogued("other", {"o.bin": b"other"})
    judge(one, other)
    line = next(line for line in run()[1].splitlines() if line.startswith("one\t"))
    assert line.endswith("\tjudge")
    assert run("judge")[0] == 0
    assert one.digests() and other.digests()


def test_weights_of_a_plug_in_are_fetched_by_their_own_name(catalogued, run, judge, monkeypatch):
    one = catalogued("brought-along")
    judge(one)
    monkeypatch.setattr(catalogue, "ALL", ())
    assert run("brought-along")[0] == 0
    assert one.digests()


def test_an_evaluator_in_a_file_names_its_weights(catalogued, run, judge):
    one = catalogued()
    judge(one)
    assert run("judge_of_a_test:Judge")[0] == 0
    assert one.digests()


def test_a_suite_names_its_prompts_and_its_evaluators_weights(
    catalogued, run, judge, monkeypatch, server
):
    one = catalogued("one")
    judge(one)
    server.files["/p.txt"] = text = b"a cat\n"
    file = WeightFile("cats.txt", f"{server.address}/p.txt", sha256(text), 6)
    published = file_sets.FileSet("cats", "prompts", "prompts", (file,), "MIT", "here")
    monkeypatch.setitem(file_sets.PROMPT_SETS, "cats", published)
    monkeypatch.setitem(suites.FETCHED, "cats", suites.Suite("cats", "", (), ("judge",)))
    code, said = run("--suite", "cats")
    assert code == 0, said
    assert suites.get_suite("cats").prompts[0].text == "a cat"
    assert one.digests()
    code, said = run("--suite", "cat")
    assert code == 2 and "did you mean cats?" in said


def test_weights_that_a_user_brought_are_not_fetched(catalogued, judge, tmp_path):
    judge(catalogued().at(tmp_path / "mine"))
    assert file_sets.named("judge") == []


def test_all_is_every_weight_set_and_every_prompt_set(catalogued, home):
    catalogued("one")
    names = [(s.kind, s.name) for s in file_sets.everything()]
    assert names[0] == ("weights", "one")
    assert {("prompts", name) for name in file_sets.PROMPT_SETS} <= set(names)


def test_an_unknown_name_is_named_with_the_nearest(catalogued, run):
    catalogued("clip-vit-l-14")
    code, said = run("clip-vit-14")
    assert code == 2 and "did you mean clip-vit-l-14?" in said


def test_a_name_of_several_things_fetches_them_all(catalogued):
    catalogued("pickscore")
    assert [s.kind for s in file_sets.named("pickscore")] == ["weights", "prompts"]


# Digests


def test_another_file_than_the_pinned_one_is_refused_and_the_rest_is_kept(catalogued, run, server):
    one = catalogued(files={"a.bin": b"right", "b.bin": b"also right"})
    server.files["/set/a.bin"] = b"wrong"
    code, said = run("set")
    assert code == 1
    assert "not the published file" in said and sha256(b"right")[:12] in said
    assert [f.path for f in one.missing()] == ["a.bin"]
    assert leftovers(one.folder) == []


def test_the_first_digits_of_a_digest_are_enforced_where_only_they_are_known(catalogued, run):
    one = catalogued(known=False, sha256_prefix=sha256(some_bytes(300_000))[:8])
    assert run("set")[0] == 0
    assert one.digests()
    other = catalogued("other", known=False, sha256_prefix="00000000")
    assert run("other")[0] == 1 and other.missing()


def test_an_unknown_digest_is_recorded_at_the_first_fetch_and_enforced_then(
    catalogued, run, server
):
    one = catalogued(known=False, sized=False)
    assert run("set")[0] == 0
    digest = sha256(some_bytes(300_000))
    entry = json.loads((one.folder / "digests.json").read_text())["a.bin"]
    assert entry["sha256"] == entry["pinned"] == digest and entry["size"] == 300_000

    (one.folder / "a.bin").write_bytes(b"damaged")
    with pytest.raises(EvaluatorError, match="damaged or another file"):
        one.digests()
    server.files["/set/a.bin"] = b"another version"
    code, said = run("set")
    assert code == 1 and "not what came at the first fetch" in said and "digests.json" in said
    assert (one.folder / "a.bin").read_bytes() == b"damaged"

    server.files["/set/a.bin"] = some_bytes(300_000)
    code, said = run("set")
    assert code == 0 and "damaged: SHA-256" in said
    assert one.digests() == {"a.bin": digest}


def test_the_first_fetch_is_compared_with_what_the_hub_declares(
    catalogued, run, server, monkeypatch
):
    """The hub says the digest on its way to where the bytes are."""
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    one = catalogued(known=False, sized=False, address=download.HUB)
    server.files["/elsewhere"] = some_bytes(300_000)
    for declared, expected in ((sha256(b"else"), 1), (sha256(some_bytes(300_000)), 0)):
        linked = {"X-Linked-Etag": f'"{declared}"', "X-Linked-Size": "300000"}
        server.redirect["/set/a.bin"] = (f"{server.address}/elsewhere", linked)
        code, said = run("set")
        assert code == expected, said
        assert bool(one.missing()) == bool(expected)
    assert "300.0 kB" in said, "the size was asked for before the start"


def is_right(file):
    return "" if file.read_bytes().startswith(b"right") else "it has no right header"


def test_an_unknown_digest_needs_a_right_structure(catalogued, run, server):
    """A file put there by hand, one recorded before, one that a server or a mirror sends."""
    one = catalogued(
        files={"a.bin": b"right weights"}, known=False, sized=False, structure=is_right, about=13
    )
    one.folder.mkdir(parents=True)
    (one.folder / "a.bin").write_bytes(some_bytes(2000))
    digest = sha256(some_bytes(2000))
    entry = {"a.bin": {"sha256": digest, "size": 2000, "pinned": digest}}
    (one.folder / "digests.json").write_text(json.dumps(entry))
    with pytest.raises(EvaluatorError, match="no right header; 2,000 bytes"):
        one.digests()
    assert "not the published" in fetch_wrong(server, run)
    code, said = run("set")
    assert code == 0 and "damaged: it has no right header; 2,000 bytes" in said
    assert one.digests() == {"a.bin": sha256(b"right weights")}
    recorded = json.loads((one.folder / "digests.json").read_text())["a.bin"]
    assert recorded["pinned"] == sha256(b"right weights") and recorded["structure"] == "right"


def fetch_wrong(server, run):
    whole = server.files["/set/a.bin"]
    server.files["/set/a.bin"] = b"wrong weights"
    code, said = run("set")
    assert code == 1 and "it has no right header; 13 bytes" in said
    server.files["/set/a.bin"] = whole
    return said


#: ``printf 'what is up, doc?' | git hash-object --stdin``, as the Git book has it
DOC, DOC_BLOB = b"what is up, doc?", "bd9dbf5aae1a3862dd1526723246b20206e5fc37"


def test_a_git_blob_id_is_a_pin(catalogued, run, server, tmp_path):
    """Nobody need vouch for such a file: a server, a pile of files and a bare address may have it.

    What it is not is refused, and its SHA-256 is enforced from the first fetch on.
    """
    one = catalogued(files={"a.bin": b"something else"}, known=False, sized=False,
                     git_blob=DOC_BLOB)  # fmt: skip
    code, said = run("set")
    assert code == 1 and "not the published file (git blob 339f0be6c0f5…" in said and one.missing()
    assert "expected bd9dbf5aae1a…" in said

    server.files["/set/a.bin"] = server.files["/m/weights/set/a.bin"] = DOC
    pile = tmp_path / "pile" / "deep"
    pile.mkdir(parents=True)
    for number, content in enumerate((b"other", DOC)):
        (pile / str(number)).mkdir()
        (pile / str(number) / "a.bin").write_bytes(content)
    for source in ([], ["--mirror", f"{server.address}/m"], ["--mirror", tmp_path / "pile"]):
        code, said = run("set", *source)
        assert code == 0 and one.digests() == {"a.bin": sha256(DOC)}, said
        recorded = json.loads((one.folder / "digests.json").read_text())["a.bin"]
        assert recorded["pinned"] == sha256(DOC) and recorded["structure"] == "right"
        shutil.rmtree(one.folder)
    (pile / "1" / "a.bin").unlink()
    code, said = run("set", "--mirror", tmp_path / "pile")
    assert code == 1 and f"has no set/a.bin (git blob {DOC_BLOB})" in said


def test_a_mirror_hands_no_wrong_structure_on(catalogued, run, tmp_path):
    one = catalogued(files={"a.bin": b"right"}, known=False, sized=False, structure=is_right)
    place = tmp_path / "mirror" / "weights" / "set"
    place.mkdir(parents=True)
    (place / "a.bin").write_bytes(b"wrong")
    entry = {"sha256": sha256(b"wrong"), "pinned": sha256(b"wrong"), "structure": "right"}
    (place / "digests.json").write_text(json.dumps({"a.bin": entry}))
    code, said = run("set", "--mirror", tmp_path / "mirror")
    assert code == 1 and "no right header" in said and one.missing()


def test_sizes_are_told_for_files_of_unknown_size_too(catalogued, run):
    catalogued(known=False, sized=False, structure=is_right, about=3_944_500_000)
    assert "about 3.9 GB" in run()[1]
    assert "?" not in run("set", "--offline")[1]


def test_a_file_that_a_user_put_there_is_verified_and_recorded(catalogued, run, server, home):
    known, unknown = catalogued("known"), catalogued("unknown", {"u.bin": b"mine"}, known=False)
    for one, path, content in ((known, "a.bin", some_bytes(300_000)), (unknown, "u.bin", b"mine")):
        one.folder.mkdir(parents=True)
        (one.folder / path).write_bytes(content)
    code, said = run("known", "unknown")
    assert code == 0 and "Nothing to fetch." in said and server.requests == []
    assert weights.recorded(known.folder)["a.bin"]["sha256"] == sha256(some_bytes(300_000))
    assert weights.recorded(unknown.folder)["u.bin"]["pinned"] == sha256(b"mine")


def test_a_whole_home_that_cannot_be_written_to_is_good_enough(catalogued, run, monkeypatch):
    one = catalogued()
    one.folder.mkdir(parents=True)
    (one.folder / "a.bin").write_bytes(some_bytes(300_000))

    def read_only(file, text):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(file))

    monkeypatch.setattr(fetch, "write_text", read_only)
    assert run("set")[0] == 0


def test_a_damaged_file_stays_until_its_replacement_is_whole(catalogued, run, server):
    one = catalogued()
    assert run("set")[0] == 0
    (one.folder / "a.bin").write_bytes(some_bytes(300_000, seed=1))
    server.status["/set/a.bin"] = 404
    assert run("set")[0] == 1
    assert (one.folder / "a.bin").read_bytes() == some_bytes(300_000, seed=1)
    del server.status["/set/a.bin"]
    assert run("set")[0] == 0
    assert (one.folder / "a.bin").read_bytes() == some_bytes(300_000)


# Resuming


def test_a_body_that_ends_early_is_resumed_where_it_stopped(catalogued, run, server):
    one = catalogued()
    server.cuts = [100_000, 50_000]
    code, said = run("set")
    assert code == 0, said
    assert [h.get("Range") for h in server.gets("/set/a.bin")] == [
        None, "bytes=100000-", "bytes=150000-"
    ]  # fmt: skip
    assert one.digests()


def test_a_body_that_always_ends_early_is_given_up_and_what_came_is_kept(catalogued, run, server):
    one = catalogued()
    server.cuts = [100_000, *[0] * 20]
    code, said = run("set")
    assert code == 1 and "run the same command again" in said
    assert one.missing() and (one.folder / "a.bin.part").stat().st_size == 100_000
    server.cuts = []
    assert run("set")[0] == 0
    assert server.gets("/set/a.bin")[-1]["Range"] == "bytes=100000-"


def test_a_server_that_knows_no_ranges_sends_it_all_again(catalogued, run, server):
    one = catalogued()
    server.ranges = False
    server.cuts = [100_000]
    assert run("set")[0] == 0
    assert one.digests()
    server.cuts = [100_000, 90_000] * 20  # and one that never comes to the end is left
    (one.folder / "a.bin").unlink()
    assert run("set")[0] == 1


@pytest.mark.parametrize(
    "part", [b"not its beginning", some_bytes(300_000, seed=1), b"x" * 400_000]
)
def test_a_part_of_another_file_is_thrown_away(catalogued, run, server, part):
    one = catalogued()
    one.folder.mkdir(parents=True)
    (one.folder / "a.bin.part").write_bytes(part)
    code, said = run("set")
    assert code == 0, said
    assert one.digests() and leftovers(one.folder) == []


@pytest.mark.parametrize("part", [some_bytes(300_000), b"x" * 400_000])
def test_a_part_as_long_as_a_file_of_unknown_size_is_settled_by_the_server(
    catalogued, run, server, part
):
    one = catalogued(sized=False)
    one.folder.mkdir(parents=True)
    (one.folder / "a.bin.part").write_bytes(part)
    code, said = run("set")
    assert code == 0, said
    assert one.digests()


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
    said, _ = second.communicate(timeout=240)
    assert second.returncode == 0, said
    assert "are here already" in said
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
    one = catalogued()

    def unsupported(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", unsupported)
    assert run("set")[0] == 0
    assert one.digests() and leftovers(one.folder) == []


# What servers and networks do


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (404, ["is not there (404)", "--mirror"]),
        (410, ["is not there (410)"]),
        (403, ["may not be downloaded (403 Forbidden)", "proxy"]),
        (451, ["cannot be downloaded (451"]),
        (503, ["does not send", "503 Service Unavailable", "again later"]),
    ],
)
def test_a_refusal_is_one_sentence_and_stops_only_its_file(catalogued, run, server, status, words):
    one = catalogued(files={"a.bin": b"a", "b.bin": b"b"})
    server.status["/set/a.bin"] = status
    code, said = run("set")
    assert code == 1 and "Traceback" not in said
    assert all(word in said for word in words), said
    assert [f.path for f in one.missing()] == ["a.bin"]


def test_a_busy_server_is_asked_again(catalogued, run, server):
    catalogued()
    server.status["/set/a.bin"] = 429
    threading.Timer(0.02, server.status.clear).start()
    assert run("set")[0] == 0


def test_a_gated_repository_says_whose_terms_to_accept(catalogued, run, server, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    one = Weights("gated", (weights.hub("who/what", "0" * 40, "m.bin"),), "", "")
    monkeypatch.setattr(catalogue, "ALL", (one,))
    server.status[f"/who/what/resolve/{'0' * 40}/m.bin"] = 401
    code, said = run("gated")
    assert code == 1
    assert f"accept the terms on {server.address}/who/what with" in said and "HF_TOKEN" in said


def test_the_token_goes_to_the_hub_and_nowhere_else(catalogued, run, server, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    catalogued("other")
    assert run("other")[0] == 0
    assert all("Authorization" not in headers for _, _, headers in server.requests)

    monkeypatch.setenv("HF_ENDPOINT", f"{server.address}/")
    server.requests.clear()
    catalogued("hub", address=download.HUB)
    there = f"http://localhost:{server.port}/elsewhere"  # another name, so another host
    server.redirect["/hub/a.bin"] = ("/moved", {})
    server.redirect["/moved"] = (there, {})
    server.files["/elsewhere"] = some_bytes(300_000)
    code, said = run("hub")
    assert code == 0, said
    sent = {path: headers.get("Authorization") for _, path, headers in server.requests}
    assert sent == {"/hub/a.bin": "Bearer secret", "/moved": "Bearer secret", "/elsewhere": None}


def test_a_token_that_was_stored_by_logging_in_is_the_hubs_as_well(
    catalogued, run, server, monkeypatch, tmp_path
):
    (tmp_path / "token").write_text("stored\n")
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    catalogued("hub", address=download.HUB)
    assert run("hub")[0] == 0
    assert [h.get("Authorization") for h in server.gets("/hub/a.bin")] == ["Bearer stored"]


def test_without_a_network_one_sentence_says_so_and_the_rest_is_not_tried(
    catalogued, run, monkeypatch
):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{unused.getsockname()[1]}"
    catalogued(files={"a.bin": b"a", "b.bin": b"b"}, address=nobody, sized=False)
    code, said = run("set")
    assert code == 1
    assert "cannot be reached (connection refused)" in said and "--mirror" in said
    assert "files that were not tried then: 1" in said and said.count("cannot be reached") == 1


def test_a_host_that_cannot_be_reached_stops_no_other(catalogued, run):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{unused.getsockname()[1]}"
    for sized in (True, False):
        catalogued("far", files={"a.bin": b"a", "b.bin": b"b"}, address=nobody, sized=sized)
        near = catalogued("near", files={"c.bin": b"c"}, sized=sized)
        code, said = run("far", "near")
        assert code == 1 and not near.missing()
        assert said.count("cannot be reached") == 1 and "not tried then: 1" in said
        shutil.rmtree(near.folder)


def test_prompts_of_the_same_name_do_not_make_a_fetch_of_weights_fail(
    catalogued, run, server, monkeypatch, tmp_path
):
    wanted = catalogued("pickscore", files={"a.bin": b"a"})
    prompts = file_sets.FileSet(
        "pickscore", "prompts", "prompts",
        (WeightFile("pickscore.txt", f"{server.address}/prompts.txt", sha256(b"p"), 1),), "", "",
    )  # fmt: skip
    monkeypatch.setitem(file_sets.PROMPT_SETS, "pickscore", prompts)
    code, said = run("pickscore")
    assert code == 0 and not wanted.missing()
    assert "soar-bench fetch --suite pickscore" in said
    assert run("pickscore", "--offline")[0] == 0
    assert run("prompts/pickscore")[0] == 1
    assert run("weights/pickscore") == (0, "pickscore/a.bin: here and whole\nNothing to fetch.\n")
    assert run("prompts/nothing")[0] == 2
    server.files["/prompts.txt"] = b"p"
    assert run("pickscore")[0] == 0 and "pickscore.txt: here and whole" in run("pickscore")[1]


def test_a_name_that_cannot_be_resolved_is_said(catalogued, run, monkeypatch):
    def nobody(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    catalogued()
    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    assert "its name cannot be resolved" in run("set")[1]


def test_a_server_that_falls_silent_is_left(catalogued, run, server, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", 0.1)
    catalogued()
    server.silence = 0.5
    code, said = run("set")
    assert code == 1 and "no answer for 0.1 seconds" in said


def test_a_file_of_another_size_is_not_even_fetched(catalogued, run, server):
    one = catalogued()
    server.files["/set/a.bin"] = b"<html>log in</html>"
    code, said = run("set")
    assert code == 1 and "19 bytes where 300,000 are expected" in said
    assert not (one.folder / "a.bin.part").exists()


@pytest.mark.parametrize("bound", ["pinned", "announced", "stated"])
def test_an_answer_without_an_end_is_stopped_at_the_size_that_is_known(
    catalogued, run, server, monkeypatch, bound
):
    """A chunked answer announces no length: only the client can end it."""
    one = catalogued(known=False, sized=bound == "pinned")
    expected = 300_000
    if bound == "stated":
        monkeypatch.setattr(download, "remote_size", lambda url: None)
        monkeypatch.setattr(download, "LARGEST", expected := 5_000_000)
    server.endless.add("/set/a.bin")
    code, said = run("set")
    assert code == 1 and f"sends more than the {expected:,} bytes that are" in said
    assert "Traceback" not in said
    assert one.missing() and leftovers(one.folder) == []
    assert server.sent < expected + 20_000_000, "beside what was on its way"


@pytest.mark.parametrize(
    ("path", "about", "bound"),
    [("a.bin", 1_500_000, 3_000_000), ("a.jsonl", None, 2_000_000), ("a.bin", None, 5_000_000)],
)
def test_an_answer_of_unsaid_size_is_stopped_by_what_the_file_is(
    catalogued, run, server, monkeypatch, path, about, bound
):
    one = catalogued(files={path: b"x"}, known=False, sized=False, about=about)
    monkeypatch.setattr(download, "remote_size", lambda url: None)
    monkeypatch.setattr(download, "LARGEST_TEXT", 2_000_000)
    monkeypatch.setattr(download, "LARGEST", 5_000_000)
    server.endless.add(f"/set/{path}")
    code, said = run("set")
    assert code == 1 and f"sends more than the {bound:,} bytes that are taken" in said
    assert "needs its size" in said and len(said.strip().splitlines()) == 3
    assert one.missing() and leftovers(one.folder) == []


def test_a_size_that_only_the_answer_announces_is_believed(catalogued, run, monkeypatch):
    one = catalogued(known=False, sized=False)
    monkeypatch.setattr(download, "remote_size", lambda url: None)
    monkeypatch.setattr(download, "LARGEST", 1000)
    assert run("set")[0] == 0 and not one.missing()


def test_an_answer_that_is_compressed_unasked_is_the_file_all_the_same(catalogued, run, server):
    one = catalogued(files={"a.txt": b"words " * 1000})
    server.files["/set/a.txt"] = gzip.compress(b"words " * 1000)
    server.headers = {"Content-Encoding": "gzip"}
    code, said = run("set")
    assert code == 0, said
    assert server.gets("/set/a.txt")[0]["Accept-Encoding"] == "identity"
    assert (one.folder / "a.txt").read_bytes() == b"words " * 1000


def test_an_answer_that_unpacks_to_more_than_the_file_is_stopped(catalogued, run, server):
    one = catalogued(files={"a.txt": b"words " * 1000})
    server.files["/set/a.txt"] = gzip.compress(b"words " * 10_000_000)
    server.headers = {"Content-Encoding": "gzip"}
    code, said = run("set")
    assert code == 1 and "sends more than the 6,000 bytes that are expected" in said
    assert one.missing() and leftovers(one.folder) == []


def test_an_index_without_an_end_is_stopped(catalogued, run, server):
    catalogued(known=False)
    server.files["/m/weights/set/digests.json"] = b"{}"
    server.endless.add("/m/weights/set/digests.json")
    code, said = run("set", "--mirror", f"{server.address}/m")
    assert code == 1 and "sends more than the 4,194,304 bytes that are" in said
    assert server.sent < 30_000_000


def test_redirects_without_an_end_stop_only_their_file(catalogued, run, server):
    one = catalogued(files={"a.bin": b"a", "b.bin": b"b"})
    server.redirect["/set/a.bin"] = ("/set/a.bin", {})
    code, said = run("set")
    assert code == 1 and "redirects" in said and "Traceback" not in said
    assert [f.path for f in one.missing()] == ["a.bin"]


@pytest.mark.parametrize("proxy", ["nonsense://host:1", "socks5://127.0.0.1:1"])
def test_a_proxy_that_cannot_be_used_is_one_sentence(catalogued, run, monkeypatch, proxy):
    huggingface_hub.close_session()
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("HTTP_PROXY", proxy)
    catalogued(address="http://example.invalid")
    code, said = run("set")
    huggingface_hub.close_session()
    assert code == 1 and "HTTP_PROXY" in said and "Traceback" not in said


def test_a_proxy_that_is_not_there_is_named(catalogued, run, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        proxy = f"http://127.0.0.1:{unused.getsockname()[1]}"
    huggingface_hub.close_session()
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("HTTP_PROXY", proxy)
    catalogued(address="http://example.invalid")
    code, said = run("set")
    huggingface_hub.close_session()
    assert code == 1 and "example.invalid cannot be reached (connection refused)" in said
    assert "HTTPS_PROXY" in said


# Offline


@pytest.mark.parametrize("how", ["option", "variable"])
def test_offline_touches_no_network_and_says_what_is_missing(
    catalogued, run, server, monkeypatch, how
):
    arguments = ["--offline"] if how == "option" else []
    if how == "variable":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    one = catalogued(files={"a.bin": b"a", "b.bin": b"b"}, known=False, sized=False)
    one.folder.mkdir(parents=True)
    (one.folder / "a.bin").write_bytes(b"a")
    code, said = run("set", *arguments)
    assert code == 1 and server.requests == []
    assert "set/a.bin: here and whole" in said and "set/b.bin" in said
    assert "run `soar-bench fetch set` where there is internet" in said
    (one.folder / "b.bin").write_bytes(b"b")
    assert run("set", *arguments)[0] == 0 and server.requests == []


# Disks


def test_too_little_room_is_said_before_anything_is_fetched(catalogued, run, server, monkeypatch):
    catalogued()
    usage = types.SimpleNamespace(free=200_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage)
    code, said = run("set")
    assert code == 2 and server.requests == []
    assert "300.0 kB are needed and 200.0 kB are free" in said and "SOAR_BENCH_HOME" in said


def test_what_has_come_already_needs_no_room(catalogued, run, monkeypatch):
    one = catalogued()
    one.folder.mkdir(parents=True)
    (one.folder / "a.bin.part").write_bytes(some_bytes(300_000)[:150_000])
    usage = types.SimpleNamespace(free=200_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage)
    assert run("set")[0] == 0


def test_room_for_a_file_of_unknown_size_is_looked_for_when_it_is_known(
    catalogued, run, server, monkeypatch
):
    one = catalogued(sized=False)
    monkeypatch.setattr(download, "remote_size", lambda url: None)
    usage = types.SimpleNamespace(free=200_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage)
    code, said = run("set")
    assert code == 1 and "300.0 kB are needed" in said
    assert not (one.folder / "a.bin.part").exists()


def test_a_disk_that_fills_up_is_named_and_the_same_command_goes_on(
    catalogued, run, server, monkeypatch
):
    one = catalogued()

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

    real = type(one.folder).open

    def open_full(path, *arguments, **keywords):
        stream = real(path, *arguments, **keywords)
        return Full(stream) if path.suffix == ".part" and arguments == ("wb",) else stream

    with monkeypatch.context() as patch:
        patch.setattr(type(one.folder), "open", open_full)
        code, said = run("set")
    assert code == 1 and "no space left on the disk" in said and "same command" in said
    assert len(server.gets("/set/a.bin")) == 1, "a full disk is no reason to try again"
    came = (one.folder / "a.bin.part").stat().st_size
    assert 0 < came <= 100_000
    assert run("set")[0] == 0
    assert server.gets("/set/a.bin")[-1]["Range"] == f"bytes={came}-"


def test_a_home_that_cannot_be_written_to_is_named(catalogued, run, home):
    home.write_text("a file where the folder should be")
    code, said = run("set") if catalogued() else None
    assert code != 0 and str(home) in said and "Traceback" not in said


# Mirrors


@pytest.fixture()
def mirrored(catalogued, run, home, tmp_path, monkeypatch, server):
    """A home with two sets was copied to ``mirror``; the home is empty and the server is gone."""
    known = catalogued("known", {"deep/k.bin": some_bytes(5_000)})
    unknown = catalogued("unknown", {"u.bin": some_bytes(6_000, seed=1)}, known=False, sized=False)
    assert run("known", "unknown")[0] == 0
    mirror = tmp_path / "mirror"
    home.rename(mirror)
    server.files.clear()
    server.requests.clear()
    return types.SimpleNamespace(known=known, unknown=unknown, place=mirror)


def test_a_copy_of_a_home_is_a_mirror(mirrored, run, server):
    code, said = run("known", "unknown", "--mirror", mirrored.place, "--offline")
    assert code == 0, said
    assert server.requests == []
    assert mirrored.known.digests() and mirrored.unknown.digests()
    entry = weights.recorded(mirrored.unknown.folder)["u.bin"]
    assert entry["pinned"] == sha256(some_bytes(6_000, seed=1))


def test_a_mirrors_weights_folder_alone_is_a_mirror(mirrored, run):
    code, said = run("known", "unknown", "--mirror", mirrored.place / "weights")
    assert code == 0, said


@pytest.mark.parametrize("layout", ["flat", "hub cache", "symlink"])
def test_files_of_known_digest_are_found_in_any_layout(mirrored, run, tmp_path, layout):
    file = mirrored.place / "weights" / "known" / "deep" / "k.bin"
    pile = tmp_path / "pile" / "some" / "where"
    pile.mkdir(parents=True)
    (pile / "other.bin").write_bytes(some_bytes(5_000, seed=9))  # of the same size
    if layout == "symlink":
        (pile / "link").symlink_to(file)
    else:
        name = "model.weights" if layout == "flat" else sha256(some_bytes(5_000))
        shutil.copy(file, pile / name)
    code, said = run("known", "--mirror", tmp_path / "pile")
    assert code == 0, said
    assert mirrored.known.digests()


def test_a_file_of_known_digest_and_unknown_size_is_found_by_index_or_name(
    catalogued, run, tmp_path
):
    catalogued(files={"a.bin": b"content"}, sized=False)
    pile = tmp_path / "pile" / "x"
    pile.mkdir(parents=True)
    (pile / "renamed").write_bytes(b"content")
    code, said = run("set", "--mirror", tmp_path / "pile")
    assert code == 1 and "has no set/a.bin" in said
    (pile / "digests.json").write_text(json.dumps({"renamed": {"sha256": sha256(b"content")}}))
    assert run("set", "--mirror", tmp_path / "pile")[0] == 0


def test_an_index_that_lies_is_not_believed(catalogued, run, tmp_path):
    one = catalogued(files={"a.bin": b"content"})
    pile = tmp_path / "pile"
    pile.mkdir()
    (pile / "x").write_bytes(b"another")
    (pile / "digests.json").write_text(json.dumps({"x": {"sha256": sha256(b"content"), "size": 7}}))
    assert run("set", "--mirror", pile)[0] == 1
    (pile / "y").write_bytes(b"content")
    assert run("set", "--mirror", pile)[0] == 0
    assert one.digests()


def test_a_file_that_nobody_vouches_for_is_refused(mirrored, run, tmp_path):
    (mirrored.place / "weights" / "unknown" / "digests.json").unlink()
    code, said = run("unknown", "--mirror", mirrored.place)
    assert code == 1 and "nobody but the mirror can say" in said and "digests.json" in said
    assert mirrored.unknown.missing()


def test_a_second_copy_in_the_mirror_that_is_vouched_for_is_taken(mirrored, run):
    """The copy at the first place has no entry in an index; the one at the second has."""
    first = mirrored.place / "weights" / "unknown"
    shutil.copytree(first, mirrored.place / "unknown")
    (first / "digests.json").unlink()
    assert run("unknown", "--mirror", mirrored.place)[0] == 0
    assert mirrored.unknown.digests()


def test_a_mirrors_damaged_file_of_unknown_digest_is_refused(mirrored, run):
    (mirrored.place / "weights" / "unknown" / "u.bin").write_bytes(b"damaged")
    code, said = run("unknown", "--mirror", mirrored.place)
    assert code == 1 and "was not kept" in said
    assert mirrored.unknown.missing()


def test_what_a_mirror_lacks_is_said_and_not_fetched_elsewhere(mirrored, run, server):
    shutil.rmtree(mirrored.place / "weights" / "unknown")
    code, said = run("known", "unknown", "--mirror", mirrored.place)
    assert code == 1 and "has no weights/unknown/u.bin" in said and server.requests == []
    assert mirrored.known.digests()


@pytest.mark.parametrize("path", ["../outside.bin", "/etc/passwd", "a/../../outside.bin", "..\\x"])
@pytest.mark.parametrize("served", [False, True])
def test_an_index_that_leads_out_of_the_mirror_is_refused(
    catalogued, run, tmp_path, server, path, served
):
    one = catalogued(files={"a.bin": b"content"})
    folder = tmp_path / "mirror" / "weights" / "set"
    folder.mkdir(parents=True)
    index = json.dumps({path: {"sha256": sha256(b"content"), "size": 7, "mtime_ns": 0}})
    (folder / "digests.json").write_text(index)
    (tmp_path / "mirror" / "weights" / "outside.bin").write_bytes(b"content")
    server.files["/m/weights/set/digests.json"] = index.encode()
    mirror = f"{server.address}/m" if served else tmp_path / "mirror"
    code, said = run("set", "--mirror", mirror)
    assert code == 2 and "outside of the mirror" in said
    assert one.missing()


def test_a_served_home_is_a_mirror(mirrored, run, server, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    for file in mirrored.place.rglob("*"):
        if file.is_file():
            path = f"/m/{file.relative_to(mirrored.place)}"
            server.files[path] = file.read_bytes()
    server.cuts = [10**6, 2_000]  # the index whole, then a file in two pieces
    code, said = run("known", "unknown", "--mirror", f"{server.address}/m/")
    assert code == 0, said
    assert mirrored.known.digests() and mirrored.unknown.digests()
    assert all("Authorization" not in headers for _, _, headers in server.requests)
    assert server.gets("/m/weights/known/deep/k.bin")[-1]["Range"] == "bytes=2000-"


def test_a_served_file_lies_where_the_mirrors_index_says(catalogued, run, server):
    one = catalogued(files={"a.bin": b"content"})
    index = {"re named.bin": {"sha256": sha256(b"content")}}
    server.files["/m/weights/set/digests.json"] = json.dumps(index).encode()
    server.files["/m/weights/set/re%20named.bin"] = b"content"
    assert run("set", "--mirror", f"{server.address}/m")[0] == 0
    assert one.digests()


def test_a_served_mirror_without_index_serves_files_of_known_digest(catalogued, run, server):
    catalogued("known"), catalogued("unknown", known=False)
    server.files = {f"/m/weights/{n}/a.bin": some_bytes(300_000) for n in ("known", "unknown")}
    code, said = run("known", "unknown", "--mirror", f"{server.address}/m")
    assert code == 1 and "known/a.bin: fetched" in said
    assert "nobody but the mirror can say what unknown/a.bin must be" in said
    server.files.clear()
    code, said = run("unknown", "--mirror", f"{server.address}/m")
    assert code == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["set", "--mirror", "nowhere"], "there is no mirror in nowhere"),
        (["set", "--mirror", "ftp://host/m"], "a folder or an http address"),
        (["set", "--mirror", "http:///m"], "names no host"),
        (["set", "--mirror", "http://host/m", "--offline"], "needs the network"),
        (["--mirror", "."], "say what to take from the mirror"),
    ],
)
def test_a_mirror_that_is_none_is_refused(catalogued, run, arguments, words):
    catalogued()
    code, said = run(*arguments)
    assert code == 2 and words in said
