"""Time and peak memory of the evaluators against the straightforward way, as ratios in one run.

    python benchmarks/evaluator_speed.py                 # minutes on a laptop
    python benchmarks/evaluator_speed.py --scale official --device cuda

The straightforward way is what the published scripts do: one picture at a time, one loaded model
an evaluator, ImageReward over all N x N pairs for the diagonal's sake, a data loader an object for
GenEval's colours. Both ways compute the same scores, which is checked. Each runs in a process of
its own, loading included, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import evaluator_ways as ways
from benchmarks.evaluator_weights import SCALES, SIZE, Bench

SCORERS = ("pickscore", "hpsv21", "clipscore", "clipscore-processor", "aesthetic")
PAIRS = ("image-reward",)
#: of each comparison its title, the plain way and ours with their names, and how far values differ
ROWS = {
    "single": [
        (name, ways.one_at_a_time, (name,), ways.together, (name,), 1e-3)
        for name in ("pickscore", "hpsv21", "clipscore", "aesthetic", "image-reward")
    ],
    "clip": [("CLIP scorers", ways.one_at_a_time, SCORERS, ways.together, SCORERS, 1e-3)],
    "family": [
        ("CLIP scorers and colours", ways.plain_family, SCORERS, ways.our_family, SCORERS, 1e-3)
    ],
    "pairs": [
        ("ImageReward, N x N", ways.all_pairs, PAIRS, ways.together, PAIRS, 1e-3),
        ("ImageReward, its inference_rank", ways.inference_rank, PAIRS, ways.together, PAIRS, 1e-3),
    ],
    "ocr": [("ocr", ways.read_in_one_process, (), ways.read_in_several, (), 0)],
    "colours": [
        (f"colours, a loader an object, {workers} workers", ways.a_loader_an_object, (workers,),
         ways.crops_together, (), 0)
        for workers in ("4", "0")
    ],
}  # fmt: skip


def _run(way: ways.Way, bench: Bench, count: int, names: Sequence[str], pipe: Any) -> None:
    import torch  # noqa: F401  # its import is not what is measured
    from transformers import CLIPModel  # noqa: F401

    samples = bench.samples(count)
    before = _now()
    clock = time.perf_counter()
    scores = way(bench, samples, names)
    seconds = time.perf_counter() - clock
    pipe.send((seconds, _peak() - before, scores))


def _peak() -> float:
    """The most memory that this process and those it has started have held, in MB."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    others = 0.0
    for process in multiprocessing.active_children():
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                others += int(line.split()[1]) / 1024
    return (own + others) * 1.048576


def _now() -> float:
    """The memory this process holds, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def measure(
    way: ways.Way, bench: Bench, count: int, names: Sequence[str]
) -> tuple[float, float, list[float]]:
    """Seconds, MB and values of one way in a fresh process."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(way, bench, count, names, theirs))
    process.start()
    theirs.close()
    result = ours.recv()
    process.join()
    return result


def compare(
    bench: Bench, count: int, title: str, plain: ways.Way, plain_names: Sequence[str],
    ours: ways.Way, names: Sequence[str], tolerance: float,
) -> None:  # fmt: skip
    slow, slow_memory, expected = measure(plain, bench, count, plain_names)
    fast, fast_memory, scores = measure(ours, bench, count, names)
    worst = max(abs(a - b) for a, b in zip(expected, scores, strict=True))
    if worst > tolerance:
        raise SystemExit(f"{title}: the two ways differ by {worst:g}")
    print(
        f"| {title} | {count} | {slow:.2f} | {fast:.2f} | **{slow / fast:.1f}** | "
        f"{slow_memory:.0f} | {fast_memory:.0f} | {fast_memory / max(slow_memory, 1):.2f} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--scale", choices=SCALES, default="small")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    options = parser.parse_args()
    count = options.images
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), SCALES[options.scale], options.device)
        bench.write()
        print(f"{options.scale} models on {options.device}, {count} pictures of {SIZE}x{SIZE}\n")
        print("| what | N | plain, s | ours, s | times faster | plain, MB | ours, MB | memory |")
        print("|---|---|---|---|---|---|---|---|")
        for row in ROWS:
            for comparison in ROWS[row] if row in options.rows else ():
                compare(bench, count, *comparison)


if __name__ == "__main__":
    main()
