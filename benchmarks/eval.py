"""Where the time of ``soar-bench eval`` goes, and what the same command costs a second time.

    python benchmarks/eval.py                          # the embedded world, on this machine
    python benchmarks/eval.py --sd35m --device cuda    # SD3.5-Medium's shape with random weights
    python benchmarks/eval.py --plain --images 32      # its generation against plain diffusers
    python benchmarks/eval.py --plain --sd35m --tiny --steps 2 --images 8        # at 512 pixels

Runs the real command in processes of its own and reads the record it writes. With ``--sd35m`` a
pipeline of SD3.5-Medium's shape (2.2B transformer, two CLIPs, T5-XXL; 16 GB in bfloat16) is written
first; its pictures are noise, its speed and memory are the real ones.

With ``--plain`` one process makes the same images in turn by plain diffusers and by ``eval``'s
generation, with PNG files and without, with one pipeline that is loaded already and one thread to
compute with. On a machine that others use, the seconds of the clock hold what they take.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def evaluate(arguments: list[str], place: Path) -> tuple[float, Path, dict[str, Any]]:
    """Run ``soar-bench eval``; return seconds of wall clock, the record's file and the record."""
    command = [sys.executable, "-m", "soar_bench", "eval", *arguments]
    command += ["--results", str(place / "results"), "--cache", str(place / "cache")]
    clock = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall = time.monotonic() - clock
    (file,) = (place / "results").rglob("run.json")
    return wall, file, json.loads(file.read_text("utf-8"))


def report(arguments: list[str], place: Path) -> None:
    wall, file, record = evaluate(arguments, place)
    made = record["made"]
    stages = {"start, plan, record": wall - sum(made["seconds"].values()), **made["seconds"]}
    print(f"\n{made['generated']} images, batches of {made['batch_size']}, {made['device']}")
    print(f"{'stage':<22}{'seconds':>9}{'share':>8}{'per image':>12}")
    for stage, seconds in stages.items():
        each = f"{1000 * seconds / made['generated']:.1f} ms"
        print(f"{stage:<22}{seconds:>9.1f}{seconds / wall:>8.0%}{each:>12}")
    print(f"{'all':<22}{wall:>9.1f}   {made['generated'] / wall:.3g} images/s")
    if "memory" in made:
        print(f"peak memory of the device: {made['memory'] / 2**30:.1f} GiB")
    before = file.stat().st_mtime_ns
    again, _, _ = evaluate(arguments, place)
    state = "left as it was" if file.stat().st_mtime_ns == before else "written anew"
    print(f"the same command again: {again:.1f} s, record {state} ({wall / again:.0f} times less)")


def write_sd35m(folder: Path, device: str, tiny: bool) -> None:
    """Write a pipeline of SD3.5-Medium's shape with random bfloat16 weights.

    ``tiny`` is a thin one, for trying this program.
    """
    import torch

    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from benchmarks.sd35m import sd35m

    pipeline = sd35m(device, tiny, torch.bfloat16)
    pipeline.to("cpu").save_pretrained(folder, safe_serialization=True)


def against_plain(chosen: argparse.Namespace) -> None:
    """Print seconds and processor seconds of each way: medians of turns, and of their ratios."""
    import torch

    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from benchmarks.generation import OURS, PLAIN, WITHOUT_FILES, Setting

    torch.set_num_threads(1)
    device = "cpu" if chosen.device == "auto" else chosen.device
    batch = chosen.images if chosen.batch_size == "auto" else int(chosen.batch_size)
    if chosen.sd35m:
        from benchmarks.sd35m import sd35m, thin_vae

        pipeline = sd35m(device, chosen.tiny).to(torch.float32)
        if chosen.tiny:  # whose decoder, and not its files, would be most of the time
            pipeline.register_modules(vae=thin_vae())
        side, guidance, tokens = 512, chosen.guidance, 256
    else:
        from soar_bench.checkpoints import pipeline_folder
        from soar_bench.pipelines.loading import load_pipeline

        pipeline = load_pipeline(pipeline_folder("shapes"))
        side, guidance, tokens = 64, chosen.guidance, 14
    steps = int(chosen.steps or 20)
    ways = Setting(
        pipeline, chosen.images, batch, steps, side, guidance, tokens, device=device
    ).ways()
    clocks = (time.perf_counter, time.process_time)
    seconds: dict[str, list[list[float]]] = {way: [] for way in ways}
    for turn in range(chosen.turns + 1):
        for name, way in ways.items():
            with tempfile.TemporaryDirectory() as folder:
                before = [clock() for clock in clocks]
                way(Path(folder))
                took = [clock() - start for clock, start in zip(clocks, before, strict=True)]
            if turn:  # the first warms up
                seconds[name].append(took)
    print(f"{chosen.images} images of {side} pixels in batches of {batch}, {steps} steps, {device}")
    for number, clock in enumerate(("clock", "processor")):
        times = {name: [turn[number] for turn in turns] for name, turns in seconds.items()}
        for name in times:
            print(f"{clock:<10}{name:<27}{statistics.median(times[name]):>8.3f} s")

        def ratio(name: str, other: str, times: dict[str, list[float]] = times) -> float:
            return statistics.median(a / b for a, b in zip(times[name], times[other], strict=True))

        plain, ours = WITHOUT_FILES.format(PLAIN), WITHOUT_FILES.format(OURS)
        print(f"{clock:<10}PNG files are {1 - ratio(plain, PLAIN):.0%} of plain diffusers' time")
        print(f"{clock:<10}eval is {ratio(PLAIN, OURS):.2f} times as fast", end="")
        print(f", {ratio(plain, ours):.2f} without files")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=1, help="images per prompt; of all, --plain")
    parser.add_argument("--plain", action="store_true", help="generation against plain diffusers")
    parser.add_argument("--guidance", type=float, default=4.5, help="with --plain")
    parser.add_argument("--turns", type=int, default=5, help="of each way, with --plain")
    parser.add_argument("--sd35m", action="store_true", help="SD3.5-Medium's shape, random weights")
    parser.add_argument("--prompts", type=int, default=64, help="how many, with --sd35m")
    parser.add_argument("--steps", default="", help="sampler steps, other than the protocol's")
    parser.add_argument("--tiny", action="store_true", help="a thin --sd35m, to try this program")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch-size", default="auto")
    parser.add_argument("--place", type=Path, help="where to work  [default: a temporary folder]")
    chosen = parser.parse_args()
    if chosen.plain:
        against_plain(chosen)
        return
    with tempfile.TemporaryDirectory() as temporary:
        place = chosen.place or Path(temporary)
        place.mkdir(parents=True, exist_ok=True)
        options = ["--device", chosen.device, "--batch-size", chosen.batch_size]
        options += ["--images", str(chosen.images)]
        if chosen.steps:
            options += ["--steps", chosen.steps]
        if not chosen.sd35m:
            report(["shapes", *options], place)
            return
        pipeline = place / "sd35m-random"
        if not (pipeline / "model_index.json").exists():
            import torch

            best = "cuda" if torch.cuda.is_available() else "cpu"
            write_sd35m(pipeline, best if chosen.device == "auto" else chosen.device, chosen.tiny)
        prompts = place / "prompts.txt"
        prompts.write_text("".join(f"a photo of {n} things\n" for n in range(chosen.prompts)))
        options += ["--suite", str(prompts), "--protocol", "soar-paper"]
        report([str(pipeline), *options, "--evaluators", "shapes-clipscore"], place)


if __name__ == "__main__":
    main()
