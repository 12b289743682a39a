"""Damage that leaves size, times and inode alone is seen where every byte is read again."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest

from evaluators import catalogue
from evaluators.weights import WeightFile, Weights
from soar_bench.core import digests
from soar_bench.core.digests import file_digest, reading_through
from soar_bench.records.folders import select
from soar_bench.records.verify import verify


@pytest.fixture(autouse=True)
def blind(monkeypatch, tmp_path):
    """No stamp tells a change, as where a disk changes bytes by itself."""
    monkeypatch.setenv("SOAR_BENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(digests, "stamp", lambda file: [0])


def damage(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_a_digest_is_read_again_once_and_kept(tmp_path, monkeypatch):
    file = tmp_path / "weights.bin"
    file.write_bytes(b"before")
    before = file_digest(file)
    file.write_bytes(b"after.")
    assert file_digest(file) == before
    reads = []
    monkeypatch.setattr(digests, "digest_file", lambda f: reads.append(f) or "read")
    with reading_through():
        assert file_digest(file) == file_digest(file) == "read"
    assert file_digest(file) == "read"
    assert len(reads) == 1


def test_verify_deep_sees_other_weights_of_checkpoint_and_evaluator(
    evaluate, tiny_pipeline, tmp_path, monkeypatch
):
    folder = shutil.copytree(tiny_pipeline, tmp_path / "pipeline")
    run = evaluate(folder, images_per_prompt=1)
    entry = select(tmp_path / "results", str(run.folder))

    def states(deep):
        with reading_through():
            findings = verify(entry, tmp_path / "cache", deep)
        return {finding.check: (finding.state, finding.text) for finding in findings}

    assert states(True)["checkpoint"] == states(True)["evaluators"] == ("ok", "")
    damage(folder / "transformer" / "diffusion_pytorch_model.safetensors")
    assert evaluate(folder, images_per_prompt=1).record == run.record  # nobody has looked
    assert "checkpoint" not in states(False)
    state, text = states(True)["checkpoint"]
    assert state == "wrong"
    assert "is another one now" in text
    shutil.rmtree(folder)
    assert states(True)["checkpoint"] == ("not checked", f"{folder} is not here")


def test_verify_deep_runs_no_code_that_a_record_names(evaluate, tiny_pipeline, tmp_path):
    run = evaluate(tiny_pipeline, images_per_prompt=1)
    evil = tmp_path / "evil.py"
    evil.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    file = run.folder / "run.json"
    file.write_text(file.read_text().replace('"given": "shapes-geneval"', f'"given": "{evil}"'))
    findings = verify(select(tmp_path / "results", str(run.folder)), tmp_path / "cache", deep=True)
    (finding,) = [finding for finding in findings if finding.check == "evaluators"]
    assert (finding.state, finding.text) == ("not checked", f"{evil} is no installed evaluator")
    assert not (tmp_path / "ran").exists()


def test_what_cannot_be_checked_hides_nothing_that_is_wrong(evaluate, tiny_pipeline, tmp_path):
    """One evaluator has another version now, and another is not installed here."""
    run = evaluate(tiny_pipeline, images_per_prompt=1)
    contents = json.loads((run.folder / "run.json").read_text())
    judge = contents["evaluators"]["shapes-geneval"]
    judge["identity"]["weights"] = "others"
    contents["evaluators"]["z"] = {**judge, "given": "nobody-has-it"}
    (run.folder / "run.json").write_text(json.dumps(contents))
    findings = verify(select(tmp_path / "results", str(run.folder)), tmp_path / "cache", deep=True)
    (finding,) = [finding for finding in findings if finding.check == "evaluators"]
    assert finding.state == "wrong"
    assert "shapes-geneval is another one now: " in finding.text
    assert finding.text.endswith("nobody-has-it is no installed evaluator")


def test_fetch_and_doctor_read_weights_again(tmp_path, monkeypatch, capsys):
    from soar_bench import doctor
    from soar_bench.cli import main

    content = b"weights" * 1000
    known = WeightFile("a.bin", "http://127.0.0.1:9/a", hashlib.sha256(content).hexdigest())
    files = (known, WeightFile("b.bin", "http://127.0.0.1:9/b"))
    weights = Weights("set", files, licence="MIT", source="here")
    monkeypatch.setattr(catalogue, "ALL", (weights,))
    monkeypatch.setattr(doctor.registry, "names", list)
    monkeypatch.setattr("soar_bench.fetch.file_sets.registry.names", list)
    weights.folder.mkdir(parents=True)
    for file in files:
        (weights.folder / file.path).write_bytes(content)

    def call(*words):
        monkeypatch.setattr("sys.argv", ["soar-bench", *words])
        with pytest.raises(SystemExit) as end:
            main()
        printed = capsys.readouterr()
        return end.value.code or 0, printed.out + printed.err

    assert call("fetch", "set", "--offline")[0] == 0  # records what came
    assert call("fetch", "set", "--verify")[0] == 0
    for file, others in ((known, "b.bin: here"), (files[1], "a.bin: here")):
        damage(weights.folder / file.path)
        assert call("fetch", "set", "--offline")[0] == 0
        assert call("doctor", "--no-golden")[0] == 0
        code, output = call("doctor", "--no-golden", "--verify")
        assert code == 1
        assert "broken here: weights set" in output
        (weights.folder / file.path).write_bytes(content)
        with reading_through():
            file_digest(weights.folder / file.path)
        damage(weights.folder / file.path)
        for names in (["set"], []):
            code, output = call("fetch", *names, "--verify")
            assert code == 1
            assert f"soar-bench: set/{file.path} is damaged: SHA-256" in output
            assert f"set/{others}" in output
        assert call("fetch", "set", "--offline")[0] == 1  # what was read is known from then on
        (weights.folder / file.path).write_bytes(content)
        with reading_through():
            file_digest(weights.folder / file.path)
