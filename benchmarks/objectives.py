"""Cost of a step of each objective, as ratios to SFT in one run.

    python benchmarks/objectives.py                     # the embedded world, on this machine
    python benchmarks/objectives.py --steps 8 --json

Each objective trains in a process of its own from the same base, with the same samples per step. A
forward pass of one sample is the unit; a backward pass counts as two. Seconds are of the whole
step, rollouts and rewards included: on a CPU the process's own (one thread: OMP_NUM_THREADS=1), so
that other work on the machine does not count, on a GPU the clock's. Where the ratio of seconds is
that of units, a step costs its passes and nothing else. Memory is the process's peak, libraries
and all.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SAMPLES = 16
REWARDED = {"rewards": {"shapes-geneval": 1.0}, "data": "shapes-dev"}
ROLLOUT = {"group": 8, "updates": 1, "steps": 10}
METHODS: dict[str, dict[str, Any]] = {
    "sft": {"method": "sft"},
    "soar": {"method": "soar", "soar": {"points": 4}},
    "defar": {"method": "defar"},
    "reflexflow": {"method": "defar", "defar": {"form": "reflexflow", "direction_weight": 10.0}},
    "nft": {"method": "nft", "nft": ROLLOUT, **REWARDED},
    "flow-grpo": {"method": "flow-grpo", "flow_grpo": {**ROLLOUT, "guidance": 3.0}, **REWARDED},
    "flow-grpo-fast": {
        "method": "flow-grpo",
        "flow_grpo": {
            **ROLLOUT, "guidance": 1.0, "step": "cps", "noise_scale": 0.8, "window": 3,
            "kl_weight": 0.0,
        },
        **REWARDED,
    },
    "d-opsd": {"method": "d-opsd", "data": "shapes-dev"},
}  # fmt: skip


def measure(name: str, steps: int) -> dict[str, float]:
    """Train some steps; return passes per sample, seconds and memory (GiB) of one."""
    from soar_bench.core.torchvision import mend_torchvision

    mend_torchvision()
    import torch
    from diffusers import SD3Transformer2DModel

    from soar_bench.trainer.config import load_config
    from soar_bench.trainer.run import train

    passes = {"forward": 0, "backward": 0}
    forward = SD3Transformer2DModel.forward

    def counted(self: Any, *arguments: Any, **inputs: Any) -> Any:
        count = len(inputs["hidden_states"])
        passes["forward"] += count
        passes["backward"] += count * torch.is_grad_enabled()
        return forward(self, *arguments, **inputs)

    SD3Transformer2DModel.forward = counted  # type: ignore[method-assign]
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    times: list[tuple[float, dict[str, int]]] = []

    def progress(stage: str, done: int, total: int, figures: dict[str, float]) -> None:
        if stage == "train":
            times.append((clock(), dict(passes)))

    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "base": "shapes", "data": "shapes-clean:64", "output": f"{folder}/run", "seed": 0,
            "steps": steps + 1, "batch_size": SAMPLES, "log_every": 1, "save_every": 1000,
            "cache": None, "trackers": [], "ema_decay": 0.0, **METHODS[name],
        }  # fmt: skip
        train(load_config(None, settings), progress=progress, watch=False)
    (begun, before), (ended, after) = times[0], times[-1]  # the first step warms up
    units = sum((after[kind] - before[kind]) * w for kind, w in (("forward", 1), ("backward", 2)))
    return {
        "units": units / steps / SAMPLES,
        "seconds": (ended - begun) / steps,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=4, help="steps that are measured")
    parser.add_argument("--methods", default=",".join(METHODS), help="objectives, with commas")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        sys.stdout.write(json.dumps(measure(chosen.one, chosen.steps)) + "\n")
        return
    results = {}
    for name in dict.fromkeys(["sft", *chosen.methods.split(",")]):
        command = [sys.executable, __file__, "--one", name, "--steps", str(chosen.steps)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{name}: {done.stderr.strip().splitlines()[-1]}")
        results[name] = json.loads(done.stdout.splitlines()[-1])
    if chosen.json:
        sys.stdout.write(json.dumps(results, indent=2) + "\n")
        return
    base = results["sft"]
    sys.stdout.write(
        "| objective | units per sample | units | seconds | memory |\n|---|---|---|---|---|\n"
    )
    for name, row in results.items():
        ratios = " | ".join(f"{row[key] / base[key]:.2f}" for key in ("units", "seconds", "memory"))
        sys.stdout.write(f"| {name} | {row['units']:.1f} | {ratios} |\n")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main()
