"""A fetched file is the published one, the one of the first fetch, or refused."""

from __future__ import annotations

import errno
import json
import os
import shutil

import pytest
from file_server import is_right, leftovers, sha256, some_bytes

from evaluators import weights
from evaluators.types import EvaluatorError
from soar_bench import fetch
from soar_bench.fetch import connection


def test_another_file_than_the_pinned_one_is_refused_and_the_rest_is_kept(catalogued, run, server):
    file_set = catalogued(files={"a.bin": b"right", "b.bin": b"also right"})
    server.files["/set/a.bin"] = b"wrong"
    code, output = run("set")
    assert code == 1
    assert "not the published file" in output and sha256(b"right")[:12] in output
    assert [f.path for f in file_set.missing()] == ["a.bin"]
    assert leftovers(file_set.folder) == []


def test_the_first_digits_of_a_digest_are_enforced_where_only_they_are_known(catalogued, run):
    file_set = catalogued(known=False, sha256_prefix=sha256(some_bytes(300_000))[:8])
    assert run("set")[0] == 0
    assert file_set.digests()
    other = catalogued("other", known=False, sha256_prefix="00000000")
    assert run("other")[0] == 1 and other.missing()


def test_an_unknown_digest_is_recorded_at_the_first_fetch_and_enforced_then(
    catalogued, run, server
):
    file_set = catalogued(known=False, sized=False)
    assert run("set")[0] == 0
    digest = sha256(some_bytes(300_000))
    entry = json.loads((file_set.folder / "digests.json").read_text())["a.bin"]
    assert entry["sha256"] == entry["pinned"] == digest and entry["size"] == 300_000

    (file_set.folder / "a.bin").write_bytes(b"damaged")
    with pytest.raises(EvaluatorError, match="damaged or another file"):
        file_set.digests()
    server.files["/set/a.bin"] = b"another version"
    code, output = run("set")
    assert code == 1 and "not what came at the first fetch" in output and "digests.json" in output
    assert (file_set.folder / "a.bin").read_bytes() == b"damaged"

    server.files["/set/a.bin"] = some_bytes(300_000)
    code, output = run("set")
    assert code == 0 and "damaged: SHA-256" in output
    assert file_set.digests() == {"a.bin": digest}


def test_the_first_fetch_is_compared_with_what_the_hub_declares(
    catalogued, run, server, monkeypatch
):
    """The hub says the digest on its way to where the bytes are."""
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    file_set = catalogued(known=False, sized=False, address=connection.HUB)
    server.files["/elsewhere"] = some_bytes(300_000)
    for declared, expected in ((sha256(b"else"), 1), (sha256(some_bytes(300_000)), 0)):
        linked = {"X-Linked-Etag": f'"{declared}"', "X-Linked-Size": "300000"}
        server.redirect["/set/a.bin"] = (f"{server.address}/elsewhere", linked)
        code, output = run("set")
        assert code == expected, output
        assert bool(file_set.missing()) == bool(expected)
    assert "300.0 kB" in output, "the size was asked for before the start"


def test_an_unknown_digest_needs_a_right_structure(catalogued, run, server):
    """A file put there by hand, one recorded before, one that a server or a mirror sends."""
    file_set = catalogued(
        files={"a.bin": b"right weights"}, known=False, sized=False, structure=is_right, about=13
    )
    file_set.folder.mkdir(parents=True)
    (file_set.folder / "a.bin").write_bytes(some_bytes(2000))
    digest = sha256(some_bytes(2000))
    entry = {"a.bin": {"sha256": digest, "size": 2000, "pinned": digest}}
    (file_set.folder / "digests.json").write_text(json.dumps(entry))
    with pytest.raises(EvaluatorError, match="no right header; 2,000 bytes"):
        file_set.digests()
    assert "not the published" in fetch_wrong(server, run)
    code, output = run("set")
    assert code == 0 and "damaged: it has no right header; 2,000 bytes" in output
    assert file_set.digests() == {"a.bin": sha256(b"right weights")}
    recorded = json.loads((file_set.folder / "digests.json").read_text())["a.bin"]
    assert recorded["pinned"] == sha256(b"right weights") and recorded["structure"] == "right"


def fetch_wrong(server, run):
    whole = server.files["/set/a.bin"]
    server.files["/set/a.bin"] = b"wrong weights"
    code, output = run("set")
    assert code == 1 and "it has no right header; 13 bytes" in output
    server.files["/set/a.bin"] = whole
    return output


#: ``printf 'what is up, doc?' | git hash-object --stdin``, as the Git book has it
DOC, DOC_BLOB = b"what is up, doc?", "bd9dbf5aae1a3862dd1526723246b20206e5fc37"


def test_a_git_blob_id_is_a_pin(catalogued, run, server, tmp_path):
    """Nobody need vouch for such a file: a server, a pile of files and a bare address may have it.

    What it is not is refused, and its SHA-256 is enforced from the first fetch on.
    """
    file_set = catalogued(files={"a.bin": b"something else"}, known=False, sized=False,
                     git_blob=DOC_BLOB)  # fmt: skip
    code, output = run("set")
    assert (
        code == 1
        and "not the published file (git blob 339f0be6c0f5…" in output
        and file_set.missing()
    )
    assert "expected bd9dbf5aae1a…" in output

    server.files["/set/a.bin"] = server.files["/m/weights/set/a.bin"] = DOC
    pile = tmp_path / "pile" / "deep"
    pile.mkdir(parents=True)
    for number, content in enumerate((b"other", DOC)):
        (pile / str(number)).mkdir()
        (pile / str(number) / "a.bin").write_bytes(content)
    for source in ([], ["--mirror", f"{server.address}/m"], ["--mirror", tmp_path / "pile"]):
        code, output = run("set", *source)
        assert code == 0 and file_set.digests() == {"a.bin": sha256(DOC)}, output
        recorded = json.loads((file_set.folder / "digests.json").read_text())["a.bin"]
        assert recorded["pinned"] == sha256(DOC) and recorded["structure"] == "right"
        shutil.rmtree(file_set.folder)
    (pile / "1" / "a.bin").unlink()
    code, output = run("set", "--mirror", tmp_path / "pile")
    assert code == 1 and f"has no set/a.bin (git blob {DOC_BLOB})" in output


def test_a_mirror_hands_no_wrong_structure_on(catalogued, run, tmp_path):
    file_set = catalogued(files={"a.bin": b"right"}, known=False, sized=False, structure=is_right)
    place = tmp_path / "mirror" / "weights" / "set"
    place.mkdir(parents=True)
    (place / "a.bin").write_bytes(b"wrong")
    entry = {"sha256": sha256(b"wrong"), "pinned": sha256(b"wrong"), "structure": "right"}
    (place / "digests.json").write_text(json.dumps({"a.bin": entry}))
    code, output = run("set", "--mirror", tmp_path / "mirror")
    assert code == 1 and "no right header" in output and file_set.missing()


def test_a_file_that_a_user_put_there_is_verified_and_recorded(catalogued, run, server, home):
    known, unknown = catalogued("known"), catalogued("unknown", {"u.bin": b"mine"}, known=False)
    for files, path, content in (
        (known, "a.bin", some_bytes(300_000)),
        (unknown, "u.bin", b"mine"),
    ):
        files.folder.mkdir(parents=True)
        (files.folder / path).write_bytes(content)
    code, output = run("known", "unknown")
    assert code == 0 and "Nothing to fetch." in output and server.requests == []
    assert weights.recorded(known.folder)["a.bin"]["sha256"] == sha256(some_bytes(300_000))
    assert weights.recorded(unknown.folder)["u.bin"]["pinned"] == sha256(b"mine")


def test_a_whole_home_that_cannot_be_written_to_is_good_enough(catalogued, run, monkeypatch):
    file_set = catalogued()
    file_set.folder.mkdir(parents=True)
    (file_set.folder / "a.bin").write_bytes(some_bytes(300_000))

    def read_only(file, text):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(file))

    monkeypatch.setattr(fetch, "write_text", read_only)
    assert run("set")[0] == 0


def test_a_damaged_file_stays_until_its_replacement_is_whole(catalogued, run, server):
    file_set = catalogued()
    assert run("set")[0] == 0
    (file_set.folder / "a.bin").write_bytes(some_bytes(300_000, seed=1))
    server.status["/set/a.bin"] = 404
    assert run("set")[0] == 1
    assert (file_set.folder / "a.bin").read_bytes() == some_bytes(300_000, seed=1)
    del server.status["/set/a.bin"]
    assert run("set")[0] == 0
    assert (file_set.folder / "a.bin").read_bytes() == some_bytes(300_000)
