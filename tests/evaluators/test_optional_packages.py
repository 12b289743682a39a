"""Packages that are not there, or lie there broken, stop nothing but what is theirs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from evaluators import catalogue
from evaluators.golden import clip as tiny
from evaluators.hpsv2_package import HpsV21Package
from evaluators.types import EvaluatorError, Sample

#: What torchvision's wheel for CUDA does beside a CPU build of torch.
MISMATCHED = """
import torch

@torch.library.register_fake("torchvision::nms")
def _nms(dets, scores, iou_threshold):
    return dets

__version__ = "0.0"
"""


def run(program: str, path: Path) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(path), *sys.path])
    environment = {**os.environ, "PYTHONPATH": paths}
    return subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )


def test_a_torchvision_built_for_another_torch_does_not_stop_clip(tmp_path):
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(MISMATCHED, "utf-8")
    assert "nms does not exist" in run("import torchvision", tmp_path).stderr
    mended = (
        "from soar_bench.core.torchvision import mend_torchvision\n"
        "mend_torchvision(); mend_torchvision()\n"
        "import torchvision; print(torchvision.__version__)"
    )
    done = run(mended, tmp_path)
    assert done.stdout.strip() == "0.0", done.stderr


def test_a_torchvision_that_is_broken_otherwise_is_named(tmp_path):
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text("raise ImportError('no libjpeg')")
    program = (
        "from soar_bench.core.torchvision import mend_torchvision\n"
        "from soar_bench.core.errors import SoarBenchError\n"
        "try:\n    mend_torchvision()\nexcept SoarBenchError as error:\n    print(error)"
    )
    output = run(program, tmp_path).stdout
    assert "torchvision does not import (no libjpeg): uninstall it" in output


def test_the_hpsv2_package_is_named_where_it_is_absent(monkeypatch):
    monkeypatch.setattr("evaluators.hpsv2_package.find_spec", lambda name: None)
    with pytest.raises(EvaluatorError, match="hpsv21 gives the same number without"):
        HpsV21Package().check()


def test_the_hpsv2_package_gives_the_same_number(tmp_path):
    pytest.importorskip("hpsv2", reason="the original package is an extra")
    import numpy as np

    from evaluators.clip import Tokenizer
    from evaluators.hpsv2 import HpsV21

    tiny.write_hps(tmp_path)
    tiny.write_tokenizer(tmp_path)
    words = Tokenizer(tmp_path, tiny.ARCHITECTURE.vocabulary)
    weights = catalogue.HPS_V2_1.at(tmp_path)
    package = HpsV21Package(
        weights, architecture=tiny.ARCHITECTURE, tokenize=lambda texts: words(texts, 77)
    )
    ours = HpsV21(
        weights=weights,
        tokenizer=catalogue.CLIP_TOKENIZER.at(tmp_path),
        architecture=tiny.ARCHITECTURE,
    )
    random = np.random.default_rng(0)
    samples = [
        Sample(random.integers(0, 256, (height, 64, 3), dtype=np.uint8), "a red bird")
        for height in (64, 40, 100)
    ]
    package.load()
    ours.load()
    official = [s["hpsv21_package"].value for s in package.score(samples)]
    assert [s["hpsv21"].value for s in ours.score(samples)] == pytest.approx(official, abs=1e-6)
