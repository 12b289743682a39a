"""Weight files are what they claim to be, and are read no more often than needed."""

import hashlib
import json
import os

import pytest

from evaluators import catalogue
from evaluators.types import EvaluatorError
from evaluators.weights import DIGESTS_FILE, WeightFile, Weights, hub, what_is_wrong
from soar_bench.core import digests
from soar_bench.core.files import home

CONTENT = b"weights"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("SOAR_BENCH_HOME", str(tmp_path))
    folder = tmp_path / "weights" / "set"
    folder.mkdir(parents=True)
    return folder


def weights(**file) -> Weights:
    return Weights("set", (WeightFile("a.bin", "https://example.org/a.bin", **file),), "MIT", "us")


def test_the_home_is_named_by_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("SOAR_BENCH_HOME", str(tmp_path))
    assert home() == tmp_path
    monkeypatch.delenv("SOAR_BENCH_HOME")
    assert home().parts[-2:] == (".cache", "soar-bench")


def test_missing_weights_are_an_error_that_says_how_to_get_them(place):
    with pytest.raises(EvaluatorError, match=r"lacks a\.bin\): run `soar-bench fetch set`"):
        weights().digests()


def test_the_published_file_is_accepted(place):
    (place / "a.bin").write_bytes(CONTENT)
    assert weights(sha256=DIGEST).digests() == {"a.bin": DIGEST}
    assert weights(sha256_prefix=DIGEST[:8]).digests() == {"a.bin": DIGEST}


@pytest.mark.parametrize("pin", [{"sha256": "0" * 64}, {"sha256_prefix": "00000000"}])
def test_another_file_is_refused(place, pin):
    (place / "a.bin").write_bytes(CONTENT)
    with pytest.raises(EvaluatorError, match="damaged or another file"):
        weights(**pin).digests()


def test_a_file_keeps_the_digest_it_was_first_seen_with(place):
    (place / "a.bin").write_bytes(b"changed since")
    (place / DIGESTS_FILE).write_text(json.dumps({"a.bin": {"pinned": DIGEST}}), "utf-8")
    with pytest.raises(EvaluatorError, match="damaged or another file"):
        weights().digests()


def test_a_file_is_read_once_as_long_as_it_stands(place, monkeypatch):
    reads = []
    digest_file = digests.digest_file
    monkeypatch.setattr(
        digests, "digest_file", lambda file: reads.append(file.name) or digest_file(file)
    )
    file = place / "a.bin"
    file.write_bytes(CONTENT)
    assert weights().digests() == weights().digests() == {"a.bin": DIGEST}
    assert reads == ["a.bin"]
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
    assert weights().digests() == {"a.bin": DIGEST}
    assert reads == ["a.bin", "a.bin"]


def test_a_damaged_record_of_digests_is_passed_over(place):
    (place / "a.bin").write_bytes(CONTENT)
    (place / DIGESTS_FILE).write_text("{", "utf-8")
    assert weights().digests() == {"a.bin": DIGEST}


def test_a_users_own_files_are_not_held_to_the_published_digest(place, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    with pytest.raises(EvaluatorError, match=r"own lacks a\.bin of the weights set"):
        weights(sha256="0" * 64).at(own).digests()
    (own / "a.bin").write_bytes(CONTENT)
    assert weights(sha256="0" * 64).at(own).digests() == {"a.bin": DIGEST}


def test_the_digest_of_a_set_follows_every_file(place):
    (place / "a.bin").write_bytes(CONTENT)
    before = weights().digest()
    (place / "a.bin").write_bytes(b"other weights")
    assert weights().digest() != before


def test_what_is_wrong_is_said_only_of_what_is_known():
    file = hub("a/b", "c" * 40, "d")
    assert file.url == f"https://huggingface.co/a/b/resolve/{'c' * 40}/d"
    assert what_is_wrong(file, DIGEST, None) == ""
    assert "expected" in what_is_wrong(file, DIGEST, {"pinned": "0" * 64})


def test_every_catalogued_file_is_pinned():
    names = [weights.name for weights in catalogue.ALL]
    assert len(set(names)) == len(names)
    for weights in catalogue.ALL:
        assert weights.licence and weights.source
        for file in weights.files:
            revision = file.url.partition("/resolve/")[2].partition("/")[0]
            pinned = len(revision) == 40 or file.sha256 or file.sha256_prefix
            assert pinned, f"{weights.name}: {file.path}"
            assert file.url.startswith("https://")
