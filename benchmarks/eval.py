"""Where the time of ``soar-bench eval`` goes, and what the same command costs a second time.

    python benchmarks/eval.py                          # the embedded world, on this machine
    python benchmarks/eval.py --sd35m --device cuda    # SD3.5-Medium's shape with random weights

Runs the real command in processes of its own and reads the record it writes. With ``--sd35m`` a
pipeline of SD3.5-Medium's shape (2.2B transformer, two CLIPs, T5-XXL; 16 GB in bfloat16) is written
first; its pictures are noise, its speed and memory are the real ones.
"""

from __future__ import annotations

import argparse
import json
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=1, help="images per prompt")
    parser.add_argument("--sd35m", action="store_true", help="SD3.5-Medium's shape, random weights")
    parser.add_argument("--prompts", type=int, default=64, help="how many, with --sd35m")
    parser.add_argument("--steps", default="", help="sampler steps, other than the protocol's")
    parser.add_argument("--tiny", action="store_true", help="a thin --sd35m, to try this program")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch-size", default="auto")
    parser.add_argument("--place", type=Path, help="where to work  [default: a temporary folder]")
    chosen = parser.parse_args()
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
