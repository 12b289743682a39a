"""``soar-bench fetch --mirror``: folders, piles of files and servers."""

from __future__ import annotations

import json
import shutil
import types

import pytest
from file_server import sha256, some_bytes

from evaluators import weights


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
    code, output = run("known", "unknown", "--mirror", mirrored.place, "--offline")
    assert code == 0, output
    assert server.requests == []
    assert mirrored.known.digests() and mirrored.unknown.digests()
    entry = weights.recorded(mirrored.unknown.folder)["u.bin"]
    assert entry["pinned"] == sha256(some_bytes(6_000, seed=1))


def test_a_mirrors_weights_folder_alone_is_a_mirror(mirrored, run):
    code, output = run("known", "unknown", "--mirror", mirrored.place / "weights")
    assert code == 0, output


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
    code, output = run("known", "--mirror", tmp_path / "pile")
    assert code == 0, output
    assert mirrored.known.digests()


def test_a_file_of_known_digest_and_unknown_size_is_found_by_index_or_name(
    catalogued, run, tmp_path
):
    catalogued(files={"a.bin": b"content"}, sized=False)
    pile = tmp_path / "pile" / "x"
    pile.mkdir(parents=True)
    (pile / "renamed").write_bytes(b"content")
    code, output = run("set", "--mirror", tmp_path / "pile")
    assert code == 1 and "has no set/a.bin" in output
    (pile / "digests.json").write_text(json.dumps({"renamed": {"sha256": sha256(b"content")}}))
    assert run("set", "--mirror", tmp_path / "pile")[0] == 0


def test_an_index_that_lies_is_not_believed(catalogued, run, tmp_path):
    file_set = catalogued(files={"a.bin": b"content"})
    pile = tmp_path / "pile"
    pile.mkdir()
    (pile / "x").write_bytes(b"another")
    (pile / "digests.json").write_text(json.dumps({"x": {"sha256": sha256(b"content"), "size": 7}}))
    assert run("set", "--mirror", pile)[0] == 1
    (pile / "y").write_bytes(b"content")
    assert run("set", "--mirror", pile)[0] == 0
    assert file_set.digests()


def test_a_file_that_nobody_vouches_for_is_refused(mirrored, run, tmp_path):
    (mirrored.place / "weights" / "unknown" / "digests.json").unlink()
    code, output = run("unknown", "--mirror", mirrored.place)
    assert code == 1 and "nobody but the mirror can say" in output and "digests.json" in output
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
    code, output = run("unknown", "--mirror", mirrored.place)
    assert code == 1 and "was not kept" in output
    assert mirrored.unknown.missing()


def test_what_a_mirror_lacks_is_said_and_not_fetched_elsewhere(mirrored, run, server):
    shutil.rmtree(mirrored.place / "weights" / "unknown")
    code, output = run("known", "unknown", "--mirror", mirrored.place)
    assert code == 1 and "has no weights/unknown/u.bin" in output and server.requests == []
    assert mirrored.known.digests()


@pytest.mark.parametrize("path", ["../outside.bin", "/etc/passwd", "a/../../outside.bin", "..\\x"])
@pytest.mark.parametrize("served", [False, True])
def test_an_index_that_leads_out_of_the_mirror_is_refused(
    catalogued, run, tmp_path, server, path, served
):
    file_set = catalogued(files={"a.bin": b"content"})
    folder = tmp_path / "mirror" / "weights" / "set"
    folder.mkdir(parents=True)
    index = json.dumps({path: {"sha256": sha256(b"content"), "size": 7, "mtime_ns": 0}})
    (folder / "digests.json").write_text(index)
    (tmp_path / "mirror" / "weights" / "outside.bin").write_bytes(b"content")
    server.files["/m/weights/set/digests.json"] = index.encode()
    mirror = f"{server.address}/m" if served else tmp_path / "mirror"
    code, output = run("set", "--mirror", mirror)
    assert code == 2 and "outside of the mirror" in output
    assert file_set.missing()


def test_a_served_home_is_a_mirror(mirrored, run, server, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    for file in mirrored.place.rglob("*"):
        if file.is_file():
            path = f"/m/{file.relative_to(mirrored.place)}"
            server.files[path] = file.read_bytes()
    server.cuts = [10**6, 2_000]  # the index whole, then a file in two pieces
    code, output = run("known", "unknown", "--mirror", f"{server.address}/m/")
    assert code == 0, output
    assert mirrored.known.digests() and mirrored.unknown.digests()
    assert all("Authorization" not in headers for _, _, headers in server.requests)
    assert server.gets("/m/weights/known/deep/k.bin")[-1]["Range"] == "bytes=2000-"


def test_a_served_file_lies_where_the_mirrors_index_says(catalogued, run, server):
    file_set = catalogued(files={"a.bin": b"content"})
    index = {"re named.bin": {"sha256": sha256(b"content")}}
    server.files["/m/weights/set/digests.json"] = json.dumps(index).encode()
    server.files["/m/weights/set/re%20named.bin"] = b"content"
    assert run("set", "--mirror", f"{server.address}/m")[0] == 0
    assert file_set.digests()


def test_a_served_mirror_without_index_serves_files_of_known_digest(catalogued, run, server):
    catalogued("known"), catalogued("unknown", known=False)
    server.files = {f"/m/weights/{n}/a.bin": some_bytes(300_000) for n in ("known", "unknown")}
    code, output = run("known", "unknown", "--mirror", f"{server.address}/m")
    assert code == 1 and "known/a.bin: fetched" in output
    assert "nobody but the mirror can say what unknown/a.bin must be" in output
    server.files.clear()
    code, output = run("unknown", "--mirror", f"{server.address}/m")
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
    code, output = run(*arguments)
    assert code == 2 and words in output
