"""Digests: of values and files, and remembered only as long as the files stay what they were."""

from __future__ import annotations

import hashlib
import os
import shutil
import time

import pytest

from soar_bench.core import digests
from soar_bench.core.digests import (
    StampCache,
    digest_file,
    digest_of,
    file_digest,
    known_digest,
    remember,
    remember_digest,
    stamp,
)


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("SOAR_BENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(digests, "_unsaved", {})


@pytest.fixture()
def reads(monkeypatch):
    """The files whose bytes were read for a digest."""
    files = []
    real = digest_file
    monkeypatch.setattr(digests, "digest_file", lambda file: files.append(file.name) or real(file))
    return files


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def test_a_value_has_one_digest_whatever_the_order_of_its_keys():
    assert digest_of({"b": [1, "ü"], "a": None}) == sha256('{"a":null,"b":[1,"ü"]}'.encode())
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1}) != digest_of({"a": 1})
    assert digest_of("\ud800")  # half of a pair, as a file's name or a caption may hold it


def test_a_file_is_read_once_and_again_when_it_changed(tmp_path, reads):
    file = tmp_path / "weights"
    file.write_bytes(b"first")
    assert known_digest(file) is None
    assert file_digest(file) == file_digest(file) == known_digest(file) == sha256(b"first")
    assert reads == ["weights"]
    file.write_bytes(b"longer than that")
    assert known_digest(file) is None
    assert file_digest(file) == sha256(b"longer than that")


@pytest.mark.parametrize("in_place", [False, True])
def test_files_unpacked_one_after_the_other_with_equal_times_and_sizes_are_told_apart(
    tmp_path, in_place
):
    """As checkpoints are whose archives were made with times that say nothing."""
    folder = tmp_path / "checkpoint"

    def unpack(content):
        if not in_place:
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(exist_ok=True)
        (folder / "weights").write_bytes(content)
        os.utime(folder / "weights", (0, 0))
        return folder / "weights"

    file = unpack(b"first one")
    before = stamp(file)
    assert file_digest(file) == sha256(b"first one")
    assert remember("subject", [file], lambda: "first") == "first"
    time.sleep(0.05)  # longer than a tick of the file system's clock
    file = unpack(b"other one")
    assert stamp(file)[:2] == before[:2] and stamp(file) != before
    assert file_digest(file) == sha256(b"other one")
    assert remember("subject", [file], lambda: "second") == "second"


def test_an_answer_holds_for_what_it_depends_on(tmp_path):
    files = [tmp_path / name for name in "ab"]
    for file in files:
        file.write_bytes(b"x")
    answers = iter("12345")

    def ask(*more):
        return remember("question", files, lambda: next(answers), *more)

    assert [ask({"v": 1}), ask({"v": 1}), ask({"v": 2}), ask({"v": 2})] == ["1", "1", "2", "2"]
    assert remember("other question", files, lambda: next(answers)) == "3"
    files[1].write_bytes(b"yy")
    assert ask({"v": 2}) == "4"


def test_a_file_that_changes_while_it_is_read_is_not_remembered(tmp_path):
    file = tmp_path / "weights"
    file.write_bytes(b"first")

    def change():
        file.write_bytes(b"changed meanwhile")
        return "first"

    assert remember("question", [file], change) == "first"
    assert remember("question", [file], lambda: "second") == "second"


def test_the_digest_of_a_file_that_was_just_written_need_not_be_read(tmp_path, reads):
    file = tmp_path / "weights"
    file.write_bytes(b"content")
    remember_digest(file, sha256(b"content"))
    assert file_digest(file) == sha256(b"content") and reads == []


def test_where_nothing_can_be_written_a_process_reads_once(tmp_path, monkeypatch, reads):
    (tmp_path / "closed").write_text("")
    monkeypatch.setenv("SOAR_BENCH_HOME", str(tmp_path / "closed"))
    file = tmp_path / "weights"
    file.write_bytes(b"content")
    assert file_digest(file) == file_digest(file) == sha256(b"content")
    assert reads == ["weights"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", '{"key": 3}', '{"key": [1, 3]}', '{"key": [2, "lies"]}', "\ud800"]
)
def test_a_damaged_cache_is_empty_and_written_anew(tmp_path, text):
    file = tmp_path / "cache.json"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    findings = StampCache(file)
    assert findings.get("key", 1) is None
    findings.put("key", 1, "text")
    findings.save()
    assert StampCache(file).get("key", 1) == "text"


@pytest.mark.parametrize(("before", "after"), [("first text", ""), ("first text", "second text")])
def test_a_changed_entry_is_none_and_the_others_stay(tmp_path, before, after):
    file = tmp_path / "cache.json"
    cache = StampCache(file)
    cache.put("a", [1], "first text")
    cache.put("b", [1], "second text")
    cache.save()
    file.write_text(file.read_text().replace(f'"{before}"', f'"{after}"'))
    cache = StampCache(file)
    assert cache.get("a", [1]) is None and cache.get("b", [1]) == "second text"


def test_a_cache_keeps_what_was_asked_for_and_nothing_else(tmp_path):
    file = tmp_path / "cache.json"
    findings = StampCache(file)
    for key in "ab":
        findings.put(key, [1], key * 2)
    findings.save()
    again = StampCache(file)
    assert again.get("a", [1]) == "aa" and again.get("b", [2]) is None
    again.save()
    last = StampCache(file)
    assert last.get("a", [1]) == "aa" and last.get("b", [1]) is None


def test_weights_have_one_digest_however_they_are_divided(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    tensors = {"b": torch.arange(6.0).view(2, 3), "a": torch.ones(2, dtype=torch.bfloat16)}
    save_file(tensors, tmp_path / "whole.safetensors", {"made": "by hand"})
    whole = digests.digest_weights([tmp_path / "whole.safetensors"])
    for name in tensors:
        save_file({name: tensors[name]}, tmp_path / f"{name}.safetensors")
    assert whole == digests.digest_weights([tmp_path / f"{n}.safetensors" for n in "ba"])
    assert whole == digests.digest_tensors(tensors)
    plain = b"a torch.bfloat16 (2,)\n\x80\x3f\x80\x3f" + b"b torch.float32 (2, 3)\n"
    assert whole == sha256(plain + tensors["b"].numpy().tobytes())
    (tmp_path / "a.safetensors").write_bytes(b"cut")
    with pytest.raises(digests.SoarBenchError, match=r"a\.safetensors is damaged"):
        digests.digest_weights([tmp_path / "a.safetensors"])
    with pytest.raises(digests.SoarBenchError, match=r"holds no \.safetensors weights"):
        digests.safetensors_in(tmp_path / "none")
