"""Digests and checks of checkpoints are kept, and made again after a change."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from checkpoint_files import WEIGHTS, change, peft, refused

from soar_bench.checkpoints import (
    digest_pipeline,
    resolve,
)

WARM = """
import json, sys, time
start = time.perf_counter()
from soar_bench.checkpoints import resolve
found = resolve(*sys.argv[1:])
seconds = time.perf_counter() - start
heavy = sorted({"torch", "diffusers", "transformers", "peft"} & set(sys.modules))
print(json.dumps({"digest": found.digest, "heavy": heavy, "seconds": seconds}))
"""


def in_a_new_process(*arguments: str, home: Path) -> dict:
    done = subprocess.run(
        [sys.executable, "-c", WARM, *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "SOAR_BENCH_HOME": str(home)},
    )
    return json.loads(done.stdout)


def test_what_was_checked_is_not_read_again(tiny_pipeline, transformer, tmp_path, monkeypatch):
    home = tmp_path / "home"
    monkeypatch.setenv("SOAR_BENCH_HOME", str(home))
    adapter = peft(tmp_path / "style")
    base = str(tiny_pipeline)
    for name in (transformer, transformer / WEIGHTS, adapter):
        cold = resolve(str(name), base)
        warm = in_a_new_process(str(name), base, home=home)
        assert warm["digest"] == cold.digest
        assert warm["heavy"] == []


def test_a_change_is_seen(tiny_pipeline, pipeline):
    before = resolve(str(pipeline))
    change(pipeline / "vae" / WEIGHTS, lambda t: t["decoder.conv_out.bias"].add_(1))
    assert resolve(str(pipeline)).digest != before.digest
    (pipeline / "vae" / WEIGHTS).unlink()
    refused("vae holds no diffusion_pytorch_model.safetensors", pipeline)


def test_a_new_version_of_a_library_checks_again(tiny_pipeline, monkeypatch):
    from soar_bench.pipelines import folder, models

    resolve(str(tiny_pipeline))
    asked = []
    monkeypatch.setattr(models, "check_component", lambda _, component: asked.append(component))
    resolve(str(tiny_pipeline))
    assert asked == []
    monkeypatch.setattr(models, "versions", lambda: {"diffusers": "99"})
    monkeypatch.setattr(folder, "digest_weights", lambda _: pytest.fail("read again"))
    resolve(str(tiny_pipeline))
    assert "transformer" in asked


def test_a_damaged_memory_is_written_anew(tiny_pipeline, tmp_path, monkeypatch):
    monkeypatch.setenv("SOAR_BENCH_HOME", str(tmp_path / "home"))
    digest = resolve(str(tiny_pipeline)).digest
    files = list((tmp_path / "home" / "checkpoints").glob("*.json"))
    assert files
    whole = {file: file.read_text() for file in files}
    for text in ("", "{", "[]", '{"state": null, "finding": "lies"}', '{"finding": 3}'):
        for file in files:
            file.write_text(text)
        assert resolve(str(tiny_pipeline)).digest == digest
        assert {file: file.read_text() for file in files} == whole


def test_where_nothing_can_be_remembered_everything_still_works(
    tiny_pipeline, tmp_path, monkeypatch
):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SOAR_BENCH_HOME", str(tmp_path / "file"))
    assert resolve(str(tiny_pipeline)).digest == digest_pipeline(tiny_pipeline)
