"""Every objective on the embedded world: the comparison, one command that resumes.

    python benchmarks/objectives_world.py            # the commands, in order, and what they cost
    python benchmarks/objectives_world.py --run      # runs them; run again, it goes on
    python benchmarks/objectives_world.py --run --steps 200 --equal steps,units,seconds \\
        --prompts 0 --looks 4 --pictures 8000        # the whole of it

Two rewards, the rules (shapes-geneval) and the learned scorer (shapes-clipscore), each judged by
both. SFT, SOAR and DEFAR train on the pictures that the reward chose, NFT and Flow-GRPO on the
reward itself. After them, RL on the rules from the checkpoints of SOAR and of SFT. Runs are equal
in steps; or in compute, that of NFT's steps, the dearest: in forward units (a backward pass counts
as two), or in seconds, at the pace of the first seed's run of the same number of steps. --looks
evaluates while training goes on, for curves.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

#: reward -> rule by which it chooses pictures of the broad data, whose captions are partly wrong
CHOICE = {"shapes-geneval": ("--at-least", "1"), "shapes-clipscore": ("--top-share", "0.5")}
#: objective -> forward units per image of a step, images of a step (configs/shapes_*.yaml)
COST = {"sft": (3, 16), "soar": (16, 16), "defar": (7, 16), "nft": (23, 32), "flow-grpo": (20, 32)}
#: the objective whose steps are the compute of all, and the one that goes on after others
RL = "nft"
EQUAL = ("steps", "units", "seconds")
#: how checkpoints are judged: images of a prompt, guidances, and evaluators
IMAGES = 2
GUIDANCE = "1,3"
JUDGES = "shapes-geneval,shapes-clipscore,picture-statistics,near-duplicates"
#: forward units of a picture that is judged: 20 steps at guidance 1, and with two passes at 3
JUDGED = 60
#: suite of the looks, under guidance 3 alone, and forward units of its pictures
LOOK, LOOKED = "shapes-dev", 40
#: a forward unit on a core
SECONDS = 0.007


@dataclass(frozen=True)
class Comparison:
    """The size of the comparison."""

    seeds: Sequence[int] = (0, 1, 2)
    #: of NFT, and of every run that is equal in steps
    steps: int = 24
    equal: Sequence[str] = ("steps",)
    #: of the suite, spread over it; 0: all
    prompts: int = 36
    #: evaluations of each run while it trains
    looks: int = 0
    #: of which the rewards choose
    pictures: int = 2000
    methods: Sequence[str] = tuple(COST)
    rewards: Sequence[str] = tuple(CHOICE)

    @property
    def place(self) -> Path:
        return Path("outputs/objectives") / f"{self.steps}-steps"

    def chosen(self, reward: str) -> Path:
        """Return the folder of the pictures that a reward chose."""
        return self.place / "data" / reward

    def trainings(self) -> Iterator[Training]:
        """Yield every training in the order of its commands. Those of equal steps come first."""
        equals = [e for e in EQUAL if e in self.equal or (e == "steps" and "seconds" in self.equal)]
        for equal in equals:
            for seed in self.seeds:
                for reward in self.rewards:
                    for method in self.methods:
                        # At equal steps NFT has all of the compute, so its runs would be one.
                        if equal == "steps" or method != RL:
                            yield Training(self, method, reward, seed, equal)
        for seed in self.seeds:
            for after in ("sft", "soar"):
                if {after, RL} <= {*self.methods} and equals:
                    first = Training(self, after, self.rewards[0], seed, equals[0])
                    yield replace(first, method=RL, equal="steps", after=first)

    def commands(self) -> Iterator[tuple[list[str], Path | None]]:
        """Yield every command, and the folder that is there once it is done, of one that does not
        resume by itself.
        """
        for reward in self.rewards:
            folder, metric = self.chosen(reward), reward.replace("-", "_")
            command = ["data", "select", f"shapes-broad:{self.pictures}", "--metric", metric]
            yield [*command, *CHOICE[reward], "--output", str(folder)], folder
        runs = list(self.trainings())
        for run in runs:
            yield run.command(), None
        board = str(self.place / "results")
        judged = ["shapes", *(str(run.folder) for run in runs)]
        options = ["--suite", "shapes", "--images", str(IMAGES), "--guidance", GUIDANCE]
        options += ["--limit", str(self.prompts)] if self.prompts else []
        yield ["eval", *judged, *options, "--evaluators", JUDGES, "--results", board], None
        yield ["compare", board], None
        yield ["report", board, "--output", str(self.place / "report")], None

    @property
    def units(self) -> float:
        """Forward units of all trainings, of the looks at them and of the last judgement."""
        from soar_bench.suites import get_suite

        runs = list(self.trainings())
        images = IMAGES * (self.prompts or len(get_suite("shapes").prompts)) * (len(runs) + 1)
        looks = (self.looks + 1) * len(get_suite(LOOK).prompts) * len(runs) if self.looks else 0
        return sum(run.units for run in runs) + looks * LOOKED + images * JUDGED


@dataclass(frozen=True)
class Training:
    """One run of an objective."""

    comparison: Comparison
    method: str
    reward: str
    seed: int
    equal: str
    #: training from whose checkpoint it goes on; None: the embedded base
    after: Training | None = None

    @property
    def name(self) -> str:
        """The entrant's name: that of all its seeds."""
        after = f"-after-{self.after.method}" if self.after else ""
        return f"{self.method}{after}-{self.reward.removeprefix('shapes-')}-equal-{self.equal}"

    @property
    def folder(self) -> Path:
        return Path(self._folder.format(seed=self.seed))

    @property
    def _folder(self) -> str:
        return str(self.comparison.place / "train" / self.name) + "-seed{seed}"

    @property
    def _cost(self) -> int:
        """Forward units of a step."""
        units, images = COST[self.method]
        return units * images

    @property
    def _seconds(self) -> float | None:
        """Seconds of a step on this machine; None before its run has ended."""
        if not list(self.folder.glob("checkpoint-*/checkpoint.json")):
            return None
        last = (self.folder / "metrics.jsonl").read_text("utf-8").splitlines()[-1]
        return COST[self.method][1] / float(json.loads(last)["samples_per_second"])

    @property
    def steps(self) -> int:
        steps = self.comparison.steps
        dearest = replace(self, method=RL, equal="steps", seed=self.comparison.seeds[0], after=None)
        if self.equal == "steps":
            return steps
        ratio = dearest._cost / self._cost
        if self.equal == "seconds":
            # All seeds have the steps of the first, or they would be other trainings.
            own = replace(dearest, method=self.method)._seconds
            if own and (whole := dearest._seconds):
                ratio = whole / own
        return max(1, round(steps * ratio))

    @property
    def units(self) -> int:
        """Forward units of the run."""
        return self.steps * self._cost

    def command(self) -> list[str]:
        on_reward = self.method in ("nft", "flow-grpo")
        data = f"data={self.comparison.chosen(self.reward)}"
        looks = self.comparison.looks
        every = max(1, self.steps // looks) if looks else self.steps
        settings = {
            "base": self.after._folder if self.after else "shapes",
            "name": self.name,
            "seed": str(self.seed),
            "steps": str(self.steps),
            "output": str(self.folder),
            "save_every": str(every),
            "keep_last": "1",
        }
        if looks:
            settings |= {"evaluation.every": str(every), "evaluation.suite": LOOK}
            settings |= {"evaluation.images": "1"}
        command = ["train", self.method]
        if self.method != "defar":  # the embedded world's defaults are its recipe
            command += ["--config", f"configs/shapes_{self.method.replace('-', '_')}.yaml"]
        for setting, value in settings.items():
            command += ["--set", f"{setting}={value}"]
        return [*command, "--set", f"rewards={{{self.reward}: 1.0}}" if on_reward else data]


def main() -> None:
    default = Comparison()
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--run", action="store_true", help="run them; otherwise they are shown")
    for name, about in (
        ("seeds", "training seeds"),
        ("equal", f"what runs have in common: {', '.join(EQUAL)}"),
        ("methods", "objectives"),
        ("rewards", "rewards"),
    ):
        words = ",".join(map(str, getattr(default, name)))
        parser.add_argument(f"--{name}", default=words, help=f"{about}, with commas [{words}]")
    for name, about in (
        ("steps", "steps of NFT, and of all at equal steps"),
        ("prompts", "prompts that checkpoints are judged on; 0: all"),
        ("looks", "evaluations of a run while it trains"),
        ("pictures", "pictures that the rewards choose from"),
    ):
        number = getattr(default, name)
        parser.add_argument(f"--{name}", type=int, default=number, help=f"{about} [{number}]")
    options = vars(parser.parse_args())
    run = options.pop("run")
    for name in ("seeds", "equal", "methods", "rewards"):
        options[name] = tuple(options[name].split(","))
        known = {"equal": EQUAL, "methods": tuple(COST), "rewards": tuple(CHOICE)}.get(name)
        if known and (unknown := [word for word in options[name] if word not in known]):
            parser.error(f"--{name}: no {unknown[0]!r} (known: {', '.join(known)})")
    comparison = Comparison(**options | {"seeds": tuple(map(int, options["seeds"]))})
    program = os.environ.get("SOAR_BENCH", f"{sys.executable} -m soar_bench").split()
    for command, done in comparison.commands():
        sys.stdout.write(f"soar-bench {shlex.join(command)}\n")
        sys.stdout.flush()
        if run and not (done and done.exists()):
            code = subprocess.run([*program, *command], check=False).returncode
            if code:
                sys.exit(code)
    if not run:
        hours = comparison.units * SECONDS / 3600
        sys.stdout.write(
            f"# {comparison.units:,.0f} forward units of training and judging: about {hours:.1f} "
            f"hours of a core at {1000 * SECONDS:g} ms each\n"
        )


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main()
