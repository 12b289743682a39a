"""What only a GPU can show, as one JSON and one table: see benchmarks/README.md.

Each part runs in a process of its own with a time of its own, so that one that fails or takes too
long costs the others nothing. Both files are written after every part.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

#: Parts, each with the seconds it may take. What matters most comes first: where time runs out, the
#: last ones are left out.
PARTS = {
    "steps": 90,
    "bits": 60,
    "agreement": 40,
    "resume": 70,
    "encoding": 40,
    "generation": 100,
    "tests": 60,
    "compiled": 170,
    "evaluators": 120,
    "working_copy": 50,
}
#: figure of what there was no time for
LEFT_OUT = "left out: no time was left"
PACKAGES = ("torch", "diffusers", "transformers", "accelerate")


def run(name: str, options: argparse.Namespace, seconds: float) -> dict[str, Any]:
    """Return the figures of a part, by label; if it failed, those before, and why it did."""
    command = [sys.executable, __file__, "--part", name, "--device", options.device]
    command += ["--small"] if options.small else []
    clock = time.monotonic()
    command += ["--end", str(clock + seconds)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    if options.device == "cpu":
        environment["ACCELERATE_USE_CPU"] = "true"
    failed = ""
    # Files, since a pipe would stay open as long as anything that the part started. A part that is
    # ended by force deletes nothing, and one writes gigabytes.
    with (
        TemporaryFile("w+") as output,
        TemporaryFile("w+") as errors,
        TemporaryDirectory(ignore_cleanup_errors=True) as scratch,
    ):
        environment["TMPDIR"] = scratch
        process = subprocess.Popen(
            command, stdout=output, stderr=errors, env=environment, start_new_session=True
        )
        try:
            process.wait(max(seconds, 1))
        except subprocess.TimeoutExpired:
            failed = f"took more than {seconds:.0f} s"
        finally:  # with all that it started: the next part has the device to itself
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        printed, last = _text(output), _text(errors).strip().splitlines()[-1:]
    if process.returncode and not failed:
        failed = last[0] if last else f"exit code {process.returncode}"
    result = _last_figures(printed)
    if failed or not result:
        result["failed"] = failed[:300] or "it printed no figures"
    return {**result, "seconds": round(time.monotonic() - clock, 1)}


def _text(file: IO[str]) -> str:
    file.seek(0)
    return file.read()


def _last_figures(printed: str) -> dict[str, Any]:
    """Return the last JSON object on a line of its own; the last line of all may be cut off."""
    for line in reversed(printed.splitlines()):
        with suppress(ValueError):
            figures = json.loads(line)
            if isinstance(figures, dict):
                return figures
    return {}


def machine(device: str) -> dict[str, Any]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "absent"
    code = "import torch; p = torch.cuda.get_device_properties(0); print(p.name, p.total_memory)"
    name = "CPU"
    if device == "cuda":
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        if done.returncode:
            raise SystemExit("no CUDA device is here: give --device cpu --small to try the program")
        card, _, memory = done.stdout.strip().rpartition(" ")
        name = f"{card}, {int(memory) / 2**30:.0f} GiB"
    return {"device": name, "versions": versions}


def table(result: dict[str, Any]) -> str:
    """Return the figures as a page in Markdown."""
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    lines = [f"{result['device']}; {versions}", "", "| part | what | figure |", "|---|---|---|"]
    for part, figures in result["parts"].items():
        for label, value in figures.items():
            if label != "seconds":
                text = f"{value:.4g}" if isinstance(value, float) else str(value)
                lines.append(f"| {part} | {label} | {text} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the parts, or one of them in this process; return 1 if something is missing."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="thin models, to try this program")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=[*PARTS])
    parser.add_argument("--budget", type=float, default=470, help="seconds for all parts")
    parser.add_argument("--output", type=Path, default=ROOT / "outputs" / "gpu")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--end", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        from benchmarks import gpu_parts

        gpu_parts.END = options.end
        getattr(gpu_parts, options.part)(options.device, options.small)
        return 0
    end = time.monotonic() + options.budget
    result = {**machine(options.device), "parts": {}}
    options.output.mkdir(parents=True, exist_ok=True)
    for name in options.parts:
        left = end - time.monotonic()
        if left < 5:
            result["parts"][name] = {"all": LEFT_OUT}
        else:
            patience = PARTS[name] * (10 if options.device == "cpu" else 1)
            result["parts"][name] = run(name, options, min(patience, left))
        (options.output / "gpu.json").write_text(json.dumps(result, indent=1) + "\n")
        (options.output / "gpu.md").write_text(table(result))
        print(f"{name}: {json.dumps(result['parts'][name])}", flush=True)
    print(table(result))
    parts = result["parts"].values()
    return int(any("failed" in part or LEFT_OUT in part.values() for part in parts))


if __name__ == "__main__":
    sys.exit(main())
