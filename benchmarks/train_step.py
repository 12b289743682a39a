"""Time and memory of a SOAR step, against the straightforward implementation and the release's.

    python benchmarks/train_step.py                          # the embedded world, on this machine
    python benchmarks/train_step.py --sd35m --device cuda    # SD3.5-Medium's shape, random weights
    python benchmarks/train_step.py --together --processor-time    # on a machine that others use

The straightforward step encodes its images and captions, keeps the rollout's graph, asks for both
halves of the guided velocity, takes the auxiliary points one at a time and runs one backward pass
at the end. The released one is written after the published loop, by its facts
(benchmarks/step_sides.py): it also samples its latents and looks levels up in a table, so its
loss is a little another. Each runs in processes of its own, in turn, on the same images and
noise; the loss and the gradient's norm of the first step are compared. One that does not fit into
memory is reported as such. With --together, times are those of one process that holds all of them
and takes a step of each in turn, so that what disturbs one disturbs the others.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.step_sides import OTHERS, SIDES, Work

#: dense bf16 operations a second, by a part of the device's name (the makers' data sheets)
PEAK = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "4090": 165e12}


def prepare(options: argparse.Namespace) -> Work:
    import numpy as np
    import torch

    from benchmarks.sd35m import sd35m
    from soar_bench.core.torchvision import mend_torchvision

    mend_torchvision()
    from soar_bench.checkpoints import pipeline_folder
    from soar_bench.pipelines.loading import load_pipeline
    from soar_bench.pipelines.models import quieten
    from soar_bench.trainer.data import open_data
    from training.loop import compile_blocks
    from training.parallel import Parallel
    from training.sections import Soar

    quieten()
    torch.manual_seed(0)
    if options.sd35m:
        pipeline = sd35m(options.device, options.tiny)
        rng = np.random.default_rng(0)
        side = (options.batch_size, options.resolution, options.resolution, 3)
        images = rng.integers(0, 256, side, dtype=np.uint8)
        captions, length = ["a photo of a thing"] * options.batch_size, 256
    else:
        pipeline = load_pipeline(pipeline_folder("shapes"))
        examples = [open_data("shapes-clean:64")[i] for i in range(options.batch_size)]
        images = np.stack([image for image, _ in examples])
        captions, length = [caption for _, caption in examples], 14
    if options.device == "cpu":
        os.environ["ACCELERATE_USE_CPU"] = "true"
    parallel = Parallel("bf16" if options.bf16 else "fp32")
    transformer = pipeline.transformer.float().requires_grad_(True).train()
    optimizer = torch.optim.AdamW(
        transformer.parameters(), lr=1e-5, fused=options.device == "cuda" or None
    )
    if options.compile and options.worker == "ours":
        compile_blocks(transformer)
    model, optimizer = parallel.prepare(transformer, optimizer, clip_norm=1.0)
    settings = Soar(
        points=options.points,
        guidance=options.guidance,
        rollout_steps=options.rollout_steps,
        aux_chunk=options.chunk,
    )
    return Work(pipeline, images, captions, length, settings, parallel, model, optimizer)


class Memory:
    """Peak memory from now on, in bytes: of the device, or of the process on a CPU."""

    def __init__(self, device: str) -> None:
        self._cuda = device == "cuda"
        self.start()

    def start(self) -> None:
        import torch

        if self._cuda:
            torch.cuda.reset_peak_memory_stats()
        else:
            Path("/proc/self/clear_refs").write_text("5")  # the process's peak starts anew
        self.before = self._read("VmRSS")

    def peak(self) -> int:
        return self._read("VmHWM")

    def _read(self, field: str) -> int:
        import torch

        if self._cuda:
            torch.cuda.synchronize()
            peak = field == "VmHWM"
            return torch.cuda.max_memory_allocated() if peak else torch.cuda.memory_allocated()
        status = Path("/proc/self/status").read_text()
        return 1024 * int(status.split(f"{field}:")[1].split()[0])


def flops(work: Work) -> float:
    """Return the operations of the model in one step: a forward pass once, a backward pass twice.

    Each sample has its base loss, its auxiliary points, and the rollout's pass without a caption.
    """
    side = work.images.shape[1] // work.pipeline.vae_scale_factor
    tokens = work.length + work.pipeline.tokenizer_max_length
    passes = 3 * (1 + work.settings.points) + 1
    return pass_flops(work.pipeline.transformer, side, tokens) * passes * len(work.images)


def pass_flops(model: Any, side: int, tokens: int) -> float:
    """Return the operations of a forward pass of one sample with latents of that side."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    config, device = model.config, model.device
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(
            hidden_states=torch.zeros(1, config.in_channels, side, side, device=device),
            timestep=torch.ones(1, device=device),
            encoder_hidden_states=torch.zeros(1, tokens, config.joint_attention_dim, device=device),
            pooled_projections=torch.zeros(1, config.pooled_projection_dim, device=device),
        )
    return float(counter.get_total_flops())


def work(options: argparse.Namespace) -> None:
    """Run one implementation in this process; print its figures as a line of JSON."""
    from soar_bench.core.memory import out_of_memory

    memory = Memory(options.device)
    try:
        figures = run(options, prepare(options), memory)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        figures = {"fits": False, "peak": memory.peak(), "before": memory.before}
    print(json.dumps(figures))


def run(options: argparse.Namespace, prepared: Work, memory: Memory) -> dict[str, Any]:
    step = SIDES[options.worker](prepared)
    memory.start()
    first = step(0)
    for number in range(1, options.warmup):
        step(number)
    now = time.process_time if options.processor_time else time.perf_counter
    seconds = []
    for number in range(options.steps):
        clock = now()
        step(options.warmup + number)  # its loss is read: the device has finished
        seconds.append(now() - clock)
    return {
        "fits": True,
        "loss": first[0],
        "norm": first[1],
        "seconds": statistics.median(seconds),
        "peak": memory.peak(),
        "before": memory.before,
        "flops": 0.0 if options.compile else flops(prepared),
    }


def together(options: argparse.Namespace) -> None:
    """Take a step of each implementation in turn; print seconds by name as a line of JSON."""
    steps = {}
    for name, (side, chunk) in sides_of(options).items():
        own = argparse.Namespace(**{**vars(options), "worker": side, "chunk": chunk})
        steps[name] = SIDES[side](prepare(own))
    now = time.process_time if options.processor_time else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(options.warmup + options.steps):
        for name, step in steps.items():
            clock = now()
            step(number)
            seconds[name].append(now() - clock)
    medians = {name: statistics.median(s[options.warmup :]) for name, s in seconds.items()}
    print(json.dumps(medians))


def measure(side: str, chunk: int, arguments: list[str]) -> dict[str, Any]:
    """Return the figures of one implementation, from a process of its own."""
    command = [sys.executable, __file__, *arguments, "--worker", side, "--chunk", str(chunk)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode == -signal.SIGKILL:  # as the system does where its memory is full
        return {"fits": False}
    if done.returncode:
        raise SystemExit(f"{' '.join(command[1:])} failed")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def sides_of(options: argparse.Namespace) -> dict[str, tuple[str, int]]:
    """Return each implementation's key in SIDES and its aux_chunk, by the name that is printed."""
    own = "compiled" if options.compile else "ours"
    sides = {side: (side, 0) for side in options.sides}
    for chunk in options.chunks or (0, options.batch_size):
        sides[f"{own}, aux_chunk {chunk}"] = ("ours", chunk)
    return sides


def rows_of(options: argparse.Namespace, arguments: list[str]) -> dict[str, dict[str, Any]]:
    """Return the figures of every side; sides take turns, and times are medians of all rounds."""
    sides = sides_of(options)
    rounds = [
        {name: measure(side, chunk, arguments) for name, (side, chunk) in sides.items()}
        for _ in range(options.rounds)
    ]
    rows = rounds[0]
    shared = measure("together", 0, arguments) if options.together else {}
    for name, row in rows.items():
        if row["fits"]:
            own = statistics.median(r[name].get("seconds", 0.0) for r in rounds)
            row["seconds"] = shared.get(name, own)
    return rows


def report(options: argparse.Namespace, arguments: list[str]) -> None:
    rows = rows_of(options, arguments)
    print(f"{options.batch_size} samples, K = {options.points}, {options.device}")
    print(f"{'':<20}{'s/step':>8}{'samples/s':>11}{'peak GiB':>10}{'above start':>13}")
    fitting = {name: row for name, row in rows.items() if row["fits"]}
    for name, row in rows.items():
        if name not in fitting:
            print(f"{name:<20} does not fit into the memory of this device")
            continue
        above = (row["peak"] - row["before"]) / 2**30
        print(
            f"{name:<20}{row['seconds']:>8.3g}{options.batch_size / row['seconds']:>11.3g}"
            f"{row['peak'] / 2**30:>10.3g}{above:>13.3g}"
        )
    for other in options.sides:
        for name, row in fitting.items():
            if other in fitting and name not in options.sides:
                against(name, row, other, fitting[other])
    if options.device == "cuda" and fitting:
        import torch

        device = torch.cuda.get_device_name()
        peak = next((value for key, value in PEAK.items() if key in device), None)
        flops = max(row["flops"] for row in fitting.values())
        for name, row in fitting.items():
            if peak and flops:
                share = flops / row["seconds"] / peak
                print(f"{name}: model FLOPs utilisation {share:.1%} of {device}'s bf16 peak")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


def against(name: str, row: dict[str, Any], other: str, theirs: dict[str, Any]) -> None:
    above = (row["peak"] - row["before"]) / (theirs["peak"] - theirs["before"])
    print(
        f"{name} against {other}: {theirs['seconds'] / row['seconds']:.2f} x as fast, "
        f"{row['peak'] / theirs['peak']:.2f} of its peak, {above:.2f} above the start; first "
        f"step's loss differs by {abs(row['loss'] / theirs['loss'] - 1):.1e}, its gradient's "
        f"norm by {abs(row['norm'] / theirs['norm'] - 1):.1e}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sd35m", action="store_true", help="SD3.5-Medium's shape, random weights")
    parser.add_argument("--tiny", action="store_true", help="a thin --sd35m, to try this program")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--points", type=int, help="K")
    parser.add_argument("--resolution", type=int, default=512, help="with --sd35m")
    parser.add_argument("--chunks", type=int, nargs="*", help="aux_chunk  [default: 0 and batch]")
    parser.add_argument("--compile", action="store_true", help="ours, compiled")
    parser.add_argument(
        "--processor-time", action="store_true", help="on a CPU that others use: not wall clock"
    )
    parser.add_argument("--steps", type=int, default=5, help="timed steps")
    parser.add_argument("--warmup", type=int, default=2, help="steps before them")
    parser.add_argument("--sides", nargs="*", choices=OTHERS, default=OTHERS)
    parser.add_argument("--rounds", type=int, default=1, help="times that each side is run")
    parser.add_argument(
        "--together", action="store_true", help="times of one process, a step of each in turn"
    )
    parser.add_argument("--json", type=Path, help="file that the figures are written to")
    parser.add_argument("--worker", choices=(*SIDES, "together"), help=argparse.SUPPRESS)
    parser.add_argument("--chunk", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    # The published recipe, or the embedded world's.
    recipe = (4, 6, 4.5, 40) if options.sd35m else (16, 4, 3.0, 20)
    options.batch_size = options.batch_size or recipe[0]
    options.points = options.points or recipe[1]
    options.guidance, options.rollout_steps = recipe[2:]
    options.bf16 = options.sd35m
    if options.worker == "together":
        together(options)
    elif options.worker:
        work(options)
    else:
        report(options, sys.argv[1:])


if __name__ == "__main__":
    main()
