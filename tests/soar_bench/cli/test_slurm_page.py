"""The script for several nodes in docs/slurm.md, in the environment that ``srun`` gives."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_several_nodes_write_the_record_of_one_process(tiny_pipeline, tmp_path):
    page = (ROOT / "docs" / "slurm.md").read_text("utf-8")
    script = tmp_path / "eval.sh"
    script.write_text(next(b for b in re.findall(r"```bash\n(.*?)```", page, re.S) if "srun " in b))
    tools = tmp_path / "bin"
    tools.mkdir()
    scripts = {
        "scontrol": "printf 'localhost\\nlocalhost\\n'",
        "torchrun": f'exec {sys.executable} -m torch.distributed.run "$@"',
        "srun": "status=0; export SLURM_NTASKS=2 SLURM_LOCALID=0; for node in 0 1; do "
        'SLURM_NODEID=$node SLURM_PROCID=$node "$@" & pids="$pids $!"; done; '
        "for pid in $pids; do wait $pid || status=1; done; exit $status",
    }
    for name, text in scripts.items():
        (tools / name).write_text(f"#!/bin/bash\n{text}\n")
        (tools / name).chmod(0o755)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    slurm = {"SLURM_JOB_NODELIST": "n[1-2]", "SLURM_NNODES": "2", "SLURM_JOB_ID": "7"}
    environment = {
        **os.environ, **slurm, "PATH": f"{tools}:{os.environ['PATH']}", "PORT": str(port),
        "PROCESSES": "2", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT),
        "SOAR_BENCH_HOME": str(tmp_path / "home"),
    }  # fmt: skip
    arguments = [
        str(tiny_pipeline), "--suite", "shapes-signs+limit=10", "--steps", "1", "--images", "1",
        "--evaluators", "shapes-clipscore,picture-statistics", "--device", "cpu",
        "--batch-size", "2",
    ]  # fmt: skip
    for command, place in (
        (["bash", str(script)], "several"),
        ([sys.executable, "-m", "soar_bench", "eval"], "alone"),
    ):
        folders = ["--results", tmp_path / place / "results", "--cache", tmp_path / place / "cache"]
        done = subprocess.run(
            [*command, *arguments, *map(str, folders)], env=environment, capture_output=True,
            text=True, timeout=300, check=False, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    scores = [f.read_bytes() for f in sorted(tmp_path.glob("*/results/**/scores.parquet"))]
    assert len(scores) == 2 and scores[0] == scores[1]
    (record,) = (tmp_path / "several").rglob("run.json")
    assert json.loads(record.read_text())["made"]["processes"] == 4
