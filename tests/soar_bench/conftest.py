"""Fixtures: a small suite under quick settings, and evaluation in a folder of the test's own."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def small_suite():
    """Two prompts of each of three tasks."""
    from soar_bench.suites.shapes import shapes

    whole = shapes()
    prompts = tuple(
        p
        for task in ("single_object", "colors", "position")
        for p in [p for p in whole.prompts if p.task == task][:2]
    )
    return dataclasses.replace(
        whole, name="small", prompts=prompts, evaluators=("shapes-geneval",), images_per_prompt=2
    )


@pytest.fixture(scope="session")
def quick():
    """Four steps: enough for a number, not for a picture."""
    from soar_bench.suites.types import Protocol

    return Protocol("quick", steps=4, guidance=2.0, resolution=64, max_sequence_length=14)


@pytest.fixture()
def evaluate(tmp_path: Path, small_suite, quick):
    """evaluate(checkpoint name, **options) -> the finished run; same folders every time.

    ``evaluate.generated`` is how many images the last one had to make.
    """
    from soar_bench.checkpoints import resolve
    from soar_bench.evaluation import Options, prepare, run

    def go(name, suite=small_suite, protocol=quick, observe=None, **options):
        places = {"results": tmp_path / "results", "cache": tmp_path / "cache"}
        settings = Options(**(places | options))
        work = prepare(resolve(str(name)), suite, protocol, settings)
        go.generated = len(work.to_generate)
        return run(work, settings, observe) if observe else run(work, settings)

    return go


@pytest.fixture()
def small_disk(tmp_path):
    """A real file system of two megabytes, where the machine lets us mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    if (
        not shutil.which("mount")
        or subprocess.run(mount, capture_output=True, check=False).returncode
    ):
        pytest.skip("mounting a small file system needs root")
    yield place
    subprocess.run(["umount", str(place)], check=True)
