"""Fixtures: a tiny random pipeline in SD3's format, and a trainer for it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

#: The files that take longest, longest first. With ``--no-loadscope-reorder`` they are started in
#: this order, so that no worker ends alone with one of them.
LONGEST = (
    "test_processes.py",
    "test_on_policy_processes.py",
    "test_embedded_base.py",
    "test_report_page.py",
    "test_golden.py",
    "test_kill.py",
    "test_train_kill.py",
    "test_faults.py",
    "test_quickstart.py",
    "test_golden_curves.py",
    "test_evaluate.py",
    "test_report_folder.py",
    "test_report_screens.py",
    "test_rerun.py",
    "test_scoring.py",
    "test_eval_command.py",
    "test_cli.py",
    "test_loop.py",
    "test_wrong_types.py",
    "test_optimizers.py",
    "test_sampler.py",
    "test_data.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ranks = {name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path.name, len(ranks)))  # stable: a file stays whole


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_interrupts() -> Iterator[None]:
    """Undo what a shell does to a job in the background: it lets it and its children ignore SIGINT.

    A command that a test starts and interrupts would never hear of it.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


# The embedded world's pretraining makes the tiny pipeline; it is not part of the package.
sys.path.insert(0, str(Path(__file__).parents[1]))


@pytest.fixture(scope="session", autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is remembered between commands is kept apart from the user's."""
    with pytest.MonkeyPatch.context() as patch:
        if "SOAR_BENCH_HOME" not in os.environ:
            patch.setenv("SOAR_BENCH_HOME", str(tmp_path_factory.mktemp("home")))
        yield


def make_tiny_pipeline(folder: Path) -> Path:
    """Write a genuine SD3-format pipeline of the embedded base's shape with random weights."""
    import torch

    from benchmarks.pretrain import vae
    from benchmarks.pretrain.base import assemble
    from benchmarks.pretrain.recipe import Architecture
    from benchmarks.pretrain.text import TextEncoders

    torch.manual_seed(0)
    pipeline = assemble(
        Architecture(layers=2, heads=2, head_width=16), vae.build(0), TextEncoders()
    )
    # The blocks start as the identity and the output at zero; a pipeline whose output does not
    # depend on its input would let too many mistakes pass.
    for parameter in pipeline.transformer.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


@pytest.fixture(scope="session")
def tiny_pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A genuine SD3-format pipeline of the embedded base's shape with random weights."""
    return make_tiny_pipeline(tmp_path_factory.mktemp("tiny") / "pipeline")


@pytest.fixture()
def tiny_config(tiny_pipeline: Path, tmp_path: Path):
    """Settings of a training of a few steps from the tiny pipeline; keywords override them."""
    from soar_bench.trainer.config import load_config

    def make(**changes: object):
        settings = {
            "method": "soar",
            "base": str(tiny_pipeline),
            "data": "shapes-clean:24",
            "output": tmp_path / "run",
            "seed": 3,
            "steps": 6,
            "batch_size": 4,
            "resolution": 64,
            "max_sequence_length": 14,
            "precision": "fp32",
            "cache": None,
            "save_every": 3,
            "log_every": 1,
            "soar": {"points": 2, "rollout_steps": 10, "guidance": 2.0},
            "optimizer": {"lr": 1e-3},
        }
        return load_config(None, {**settings, **changes})

    return make


@pytest.fixture()
def tiny_train():
    """Trains with the given settings and callbacks alone; returns the last checkpoint."""
    from functools import partial

    from soar_bench.trainer.run import train

    return partial(train, watch=False)
