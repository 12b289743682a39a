"""Fixtures: a home per file, copies of the tiny pipeline and its transformer to change."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from checkpoint_files import WEIGHTS, change


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory):
    """Digests and checks that one file's tests keep are not another's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOAR_BENCH_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture()
def pipeline(tiny_pipeline: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(tiny_pipeline, tmp_path / "pipeline"))


@pytest.fixture()
def transformer(tiny_pipeline: Path, tmp_path: Path) -> Path:
    """A transformer's folder with other weights than the base's."""
    folder = Path(shutil.copytree(tiny_pipeline / "transformer", tmp_path / "run" / "transformer"))
    change(folder / WEIGHTS, lambda tensors: tensors["proj_out.bias"].add_(1))
    return folder
