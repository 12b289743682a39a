"""Kill eval, train, report and score at random moments, and compare what they end with.

    python benchmarks/kills.py                        300 kills on the embedded world: minutes
    python benchmarks/kills.py --kills 1000 --seed 1

Each command is started in a fork and killed up to three times, then run to its end. What it leaves
must be what an undisturbed run leaves, byte for byte apart from times, and nothing else: no hidden
file and no empty folder of a killed run. Exit code 1, with the names of what differs, if it is not.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

#: Commands by name, run one after the other: all but the last prepare it and are not killed.
COMMANDS = {
    "eval": [
        "eval shapes --suite prompts.jsonl --protocol shapes --steps 4 --images 3 --batch-size 4 "
        "--evaluators shapes-geneval,shapes-clipscore --device cpu",
    ],
    "train": [
        "train sft --base shapes --data shapes-clean:16 --steps 8 --batch-size 2 --seed 0 "
        "--output run --set save_every=2 --set keep_last=2 --set log_every=1 --set cache=cache "
        "--set ema_decay=0.9 --set trackers=[]",
    ],
    "report": [
        "eval shapes --suite prompts.jsonl --protocol shapes --steps 1 --images 2 "
        "--evaluators shapes-clipscore --device cpu",
        "report --output report",
        "eval shapes --suite prompts.jsonl --protocol shapes --steps 2 --images 2 "
        "--evaluators shapes-clipscore --device cpu",
        "report --output report",
    ],
    "score": ["score images --prompts images.jsonl --evaluators shapes-clipscore --label x"],
}  # fmt: skip
SHAPES = ("cross", "circle", "star", "square")
#: Values that differ from run to run, by the file they are in.
TIMES = {"run.json": ("made",), "metrics.jsonl": ("samples_per_second", "memory_gib")}
#: Folders whose files are named by process and time, or hold the states of files; what matters of
#: them is in the record.
NOT_COMPARED = ("home/", "outputs/cache/scores/")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=300, help="kills in all")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random moments")
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    options = parser.parse_args()
    _imports()
    wrong = 0
    for number, name in enumerate(options.commands):
        kills = (options.kills + number) // len(options.commands)
        with tempfile.TemporaryDirectory(prefix="kills-") as folder:
            started = time.monotonic()
            trial = Trial(name, Path(folder))
            faults = trial.kill_often(kills, random.Random(f"{options.seed} {name}"))
            print("\r", end="", file=sys.stderr)
            print(
                f"{name}: {trial.kills} kills, run to the end {trial.ends} times, "
                f"{len(faults)} with a difference ({time.monotonic() - started:.0f} s)",
                flush=True,
            )
            for fault in faults:
                print(f"  {fault}", flush=True)
            wrong += len(faults)
    return 1 if wrong else 0


@dataclass
class Trial:
    """One command, killed in a copy of a prepared folder."""

    name: str
    folder: Path
    kills: int = 0
    ends: int = 0

    def kill_often(self, kills: int, chance: random.Random) -> list[str]:
        """Kill it so often, each run up to three times; return what was wrong, a line per run."""
        *before, command = COMMANDS[self.name]
        self._prepare(before)
        self._fresh()
        whole = time.monotonic()
        self._to_its_end(command)
        whole = time.monotonic() - whole
        expected, faults = self._result(), []
        while self.kills < kills:
            self._fresh()
            for _ in range(min(3, kills - self.kills)):
                if self._run(command, kill_after=chance.uniform(0, whole)) != -signal.SIGKILL:
                    whole *= 0.95  # it was through: the machine is faster than it was
                    break
                self.kills += 1
            self._to_its_end(command)
            print(f"\r{self.name}: {self.kills} kills", end="", file=sys.stderr, flush=True)
            result = self._result()
            different = sorted(n for n, digest in result.items() if expected.get(n) != digest)
            missing = sorted(expected.keys() - result.keys())
            if different or missing:
                faults.append(f"after {self.kills} kills: {different} differ, {missing} missing")
        return faults

    def _prepare(self, commands: list[str]) -> None:
        place = self._place
        place.mkdir()
        lines = [
            {
                "id": shape,
                "prompt": f"a drawing of a {shape}",
                "tag": "single_object",
                "include": [{"class": shape, "count": 1}],
                "held_out": False,
            }
            for shape in SHAPES
        ]
        (place / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        if self.name == "score":
            self._to_its_end("shapes render images --count 12")
            rows = [
                {"file": file.name, "prompt": f"a drawing of a {SHAPES[n % len(SHAPES)]}"}
                for n, file in enumerate(sorted((place / "images").glob("*.png")))
            ]
            (place / "images.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        for command in commands:
            self._to_its_end(command)
        place.rename(self.folder / "prepared")

    @property
    def _place(self) -> Path:
        """Where the command runs: always there, since records may name paths."""
        return self.folder / "work"

    def _fresh(self) -> None:
        shutil.rmtree(self._place, ignore_errors=True)
        shutil.copytree(self.folder / "prepared", self._place)

    def _to_its_end(self, command: str) -> None:
        code = self._run(command)
        if code:
            raise SystemExit(
                f"{command} ended with {code}:\n{(self.folder / 'printed.txt').read_text()[-3000:]}"
            )
        self.ends += 1

    def _run(self, command: str, kill_after: float | None = None) -> int:
        """Run a command in a fork; return its exit code, negative for a signal."""
        child = os.fork()
        if child == 0:
            _as_the_command(command, self._place, self.folder / "printed.txt")
        if kill_after is not None:
            time.sleep(kill_after)
            os.kill(child, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def _result(self) -> dict[str, str]:
        """Return digests of the files, without times; hidden files and empty folders stand out."""
        digests = {}
        for path in sorted(self._place.rglob("*")):
            name = path.relative_to(self._place).as_posix()
            hidden = any(part.startswith(".") for part in name.split("/"))
            if hidden:
                digests[name] = "hidden"
            elif path.is_file() and not name.startswith(NOT_COMPARED):
                digests[name] = hashlib.sha256(_without_times(path)).hexdigest()
            elif path.is_dir() and not any(path.iterdir()):
                digests[name] = "empty"
        return digests


def _without_times(file: Path) -> bytes:
    content = file.read_bytes()
    if file.name not in TIMES:
        return content
    lines = content.splitlines() if file.suffix == ".jsonl" else [content]
    values = [json.loads(line) for line in lines]
    kept = [{k: v for k, v in value.items() if k not in TIMES[file.name]} for value in values]
    return json.dumps(kept, sort_keys=True).encode()


def _imports() -> None:
    """Import here what the commands compute with, so that a fork starts at once."""
    os.environ["OMP_NUM_THREADS"] = "1"
    import diffusers.pipelines.onnx_utils
    import pandas
    import peft
    import torch
    from diffusers import StableDiffusion3Pipeline
    from transformers import CLIPModel, CLIPTextModelWithProjection, T5EncoderModel

    import soar_bench.cli.commands
    import soar_bench.evaluation
    import soar_bench.report.page
    import soar_bench.sampling.sampler
    import soar_bench.stats
    import soar_bench.trainer.watch
    import training.encoders
    import training.loop

    del pandas, peft, diffusers, soar_bench, training, StableDiffusion3Pipeline
    del CLIPModel, CLIPTextModelWithProjection, T5EncoderModel
    torch.set_num_threads(1)


def _as_the_command(command: str, place: Path, printed: Path) -> None:
    """Become the command, as a shell in that folder would start it, and end."""
    code = 1
    try:
        os.chdir(place)
        os.environ["SOAR_BENCH_HOME"] = "home"
        os.environ["TMPDIR"], tempfile.tempdir = str(place), None
        out = os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        sys.argv = ["soar-bench", *command.split()]
        from soar_bench.cli import main as soar_bench

        soar_bench()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
