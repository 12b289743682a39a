"""Every objective on the embedded world: the whole comparison, one command that resumes.

    python benchmarks/objectives_world.py            # the commands, in order, and what they cost
    python benchmarks/objectives_world.py --run      # runs them; run again, it goes on

Two rewards, the rules (shapes-geneval) and the learned scorer (shapes-clipscore), each judged by
both. SFT, SOAR and DEFAR train on the pictures that the reward chose, NFT and Flow-GRPO on the
reward itself: at equal steps, and at equal compute in forward units (a backward pass counts as
two). After them, RL on the rules from SOAR's and from SFT's checkpoint. Curves of the reward and of
what watched it are in the runs' own evaluations.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PLACE = Path("outputs/objectives")
BOARD = PLACE / "results"
#: reward -> rule by which it chooses pictures of the broad data, whose captions are partly wrong
CHOICE = {"shapes-geneval": ("--at-least", "1"), "shapes-clipscore": ("--top-share", "0.5")}
#: objective -> forward units per image of a step, images of a step (configs/shapes_*.yaml)
COST = {"sft": (3, 16), "soar": (16, 16), "defar": (7, 16), "nft": (23, 32), "flow-grpo": (20, 32)}
#: steps of every run at equal steps; their dearest, NFT's, set the compute of the others
STEPS = 200
UNITS = STEPS * COST["nft"][0] * COST["nft"][1]


def steps_of(method: str, equal: str) -> int:
    """Return the steps of a run that is equal to the others in ``steps`` or in ``compute``."""
    units, images = COST[method]
    return STEPS if equal == "steps" else round(UNITS / units / images)


@dataclass(frozen=True)
class Training:
    """One run of an objective."""

    method: str
    reward: str
    seed: int
    equal: str = "steps"
    #: objective of whose checkpoint, of equal steps, it goes on; empty: the embedded base
    after: str = ""

    @property
    def name(self) -> str:
        """The entrant's name: that of all its seeds."""
        after = f"-after-{self.after}" if self.after else ""
        return f"{self.method}{after}-{self.reward.removeprefix('shapes-')}-equal-{self.equal}"

    @property
    def folder(self) -> Path:
        return PLACE / "train" / f"{self.name}-seed{self.seed}"

    @property
    def first(self) -> Training:
        """The training that it goes on from."""
        return Training(self.after, self.reward, self.seed)

    @property
    def base(self) -> str:
        return str(PLACE / "bases" / self.first.folder.name) if self.after else "shapes"

    @property
    def steps(self) -> int:
        return steps_of(self.method, self.equal)

    def command(self) -> list[str]:
        rewarded = self.method in ("nft", "flow-grpo")
        data = f"rewards={{{self.reward}: 1.0}}" if rewarded else f"data={chosen(self.reward)}"
        settings = {
            "base": self.base,
            "name": self.name,
            "seed": str(self.seed),
            "steps": str(self.steps),
            "output": str(self.folder),
            "save_every": str(self.steps // 4),
            "keep_last": "1",
            "evaluation.every": str(self.steps // 4),
            "evaluation.suite": "shapes-dev",
            "evaluation.images": "1",
        }
        command = ["train", self.method]
        if self.method != "defar":  # the embedded world's defaults are its recipe
            command += ["--config", f"configs/shapes_{self.method.replace('-', '_')}.yaml"]
        for setting, value in settings.items():
            command += ["--set", f"{setting}={value}"]
        return [*command, "--set", data]


@dataclass(frozen=True)
class Step:
    """A command of soar-bench."""

    command: list[str]
    #: folder that is there once it is done, where the command itself does not resume
    done: Path | None = None
    #: training whose base has to be put together before it
    base_of: Training | None = None


def chosen(reward: str) -> Path:
    """Folder of the pictures that a reward chose."""
    return PLACE / "data" / reward


def trainings(seeds: list[int]) -> Iterator[Training]:
    """Every training, in the order of its commands: seed after seed."""
    for seed in seeds:
        for reward in CHOICE:
            for equal in ("steps", "compute"):
                for method in COST:
                    # At equal steps NFT has all of the compute, so its two runs would be one.
                    if (method, equal) != ("nft", "compute"):
                        yield Training(method, reward, seed, equal)
        for after in ("sft", "soar"):
            yield Training("nft", "shapes-geneval", seed, after=after)


def steps(seeds: list[int]) -> Iterator[Step]:
    """Every command: data, trainings, judgement, comparison."""
    for reward, rule in CHOICE.items():
        metric = reward.replace("-", "_")
        folder = str(chosen(reward))
        command = ["data", "select", "shapes-broad:8000", "--metric", metric, *rule]
        yield Step([*command, "--output", folder], done=chosen(reward))
    runs = list(trainings(seeds))
    for run in runs:
        yield Step(run.command(), base_of=run if run.after else None)
    judges = "shapes-geneval,shapes-clipscore,picture-statistics,near-duplicates"
    judged = ["shapes", *(str(run.folder) for run in runs)]
    options = ["--suite", "shapes", "--images", "2", "--guidance", "1,3", "--evaluators", judges]
    yield Step(["eval", *judged, *options, "--results", str(BOARD)])
    yield Step(["compare", "--results", str(BOARD)])
    yield Step(["report", "--results", str(BOARD), "--output", str(PLACE / "report.html")])


def make_base(run: Training) -> None:
    """Put the checkpoint that a training goes on from into a pipeline of its own."""
    from soar_bench.pipelines import EMBEDDED
    from training.checkpoint import latest_checkpoint

    folder, checkpoint = Path(run.base), latest_checkpoint(run.first.folder)
    if folder.exists() or checkpoint is None:
        return
    aside = folder.with_name(f".{folder.name}")
    shutil.rmtree(aside, ignore_errors=True)
    shutil.copytree(EMBEDDED["shapes"], aside, ignore=shutil.ignore_patterns("transformer"))
    shutil.copytree(checkpoint / "transformer", aside / "transformer")
    aside.rename(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--run", action="store_true", help="run them; otherwise they are shown")
    parser.add_argument("--seeds", default="0,1,2", help="training seeds, with commas")
    options = parser.parse_args()
    seeds = [int(seed) for seed in options.seeds.split(",")]
    program = os.environ.get("SOAR_BENCH", f"{sys.executable} -m soar_bench").split()
    for step in steps(seeds):
        sys.stdout.write(f"soar-bench {' '.join(step.command)}\n")
        sys.stdout.flush()
        if not options.run or (step.done and step.done.exists()):
            continue
        if step.base_of:
            make_base(step.base_of)
        done = subprocess.run([*program, *step.command], check=False)
        if done.returncode:
            sys.exit(done.returncode)
    if not options.run:
        units = sum(r.steps * COST[r.method][0] * COST[r.method][1] for r in trainings(seeds))
        sys.stdout.write(
            f"# {units:,} forward units of training: {units * 0.007 / 3600:.0f} hours of a core at "
            "7 ms each\n"
        )


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main()
