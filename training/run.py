"""The folder of a run: its identity, its figures, its checkpoints and which of them stay."""

from __future__ import annotations

import json
import math
import platform
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from soar_bench.core.differences import differences
from soar_bench.core.digests import digest_of
from soar_bench.core.errors import SoarBenchError
from soar_bench.core.files import check_writable, free_space, read_json, same_disk, write_text
from soar_bench.core.temporary import delete_folder, sweep
from soar_bench.core.text import human
from training.cache import Cache
from training.checkpoint import checkpoint_folder, checkpoints, write_checkpoint
from training.data import Source
from training.encoders import TrainingPipeline, latent_shape
from training.memory import with_chunk
from training.space import Sizes, peak, rollout_bytes
from training.state import states
from training.types import REWARDED, Config, TrainingError

CONFIG_FILE = "config.json"
METRICS_FILE = "metrics.jsonl"
EVALUATIONS_FILE = "evaluations.jsonl"
#: In a folder of data: which records of what it holds, and by which scores they were chosen.
SELECTION_FILE = "selection.json"
#: How random numbers are drawn (training/draws.py): runs drawn otherwise do not go on.
DRAWS = "by sample"
#: Key of what ``auto`` settings came to, beside the identity.
_CHOSEN = "chosen"

#: The names under which the files of a run are written before they appear.
_HALF_WRITTEN = re.compile(
    r"\.((checkpoint|state)-[0-9]{6,}|config\.json|metrics\.jsonl|evaluations\.jsonl)(\..*)?"
)

#: Settings of places, logs and callbacks, which change no weight.
_ELSEWHERE = set(
    "output cache save_every keep_last keep_best log_every trackers loss_limit validation "
    "evaluation".split()
)
#: Settings that the committed records lack, as dotted names. At its default each trains what was
#: trained before it existed, and is left out of a run's identity: old and new runs of one training
#: stay seeds of one another.
_LATER = set(
    "soar.paths soar.update soar.noise_scale soar.aux_chunk optimizer.kind accumulate defar "
    "deterministic gradient_checkpointing images images.record_sizes lora soar.upper_ratio "
    "soar.shared_noise nft flow_grpo d_opsd rewards reward_scaling working_copy encoding".split()
)


@dataclass(frozen=True)
class Base:
    """The pipeline or checkpoint that the run starts from."""

    #: as the user named it, kept in checkpoint.json so that ``eval`` finds it again
    name: str
    pipeline: TrainingPipeline
    #: digest of its weights; of a checkpoint, with the pipeline that it stands on
    digest: str
    #: of a checkpoint, its ``checkpoint.json``; empty for a pipeline
    story: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """One training and its folder."""

    config: Config
    base: Base
    source: Source
    processes: int
    #: what a checkpoint's story says besides, of whoever handed the data
    remarks: Mapping[str, Any] = field(default_factory=dict)
    _: KW_ONLY
    #: what decides the values of its rewards; nothing where it has none
    rewards: Mapping[str, Any] = field(default_factory=dict)

    @property
    def output(self) -> Path:
        return self.config.output

    @property
    def last(self) -> Path:
        """Folder of the checkpoint of the last step."""
        return checkpoint_folder(self.output, self.config.steps)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that decides the weights: two runs of one identity are the same run."""
        settings = self.config.model_dump(mode="json", exclude=_ELSEWHERE)
        _leave_out(settings, self.config, _LATER)
        settings["name"] = self.config.name or self.config.method
        settings["processes"] = self.processes
        if self.config.method != "soar":
            del settings["soar"]
        identity = {"settings": settings, "base": self.base.digest, "data": self.source.digest}
        if self.config.method not in REWARDED:
            identity["draws"] = DRAWS
        return {**identity, "rewards": dict(self.rewards)} if self.rewards else identity

    @property
    def digest(self) -> str:
        """Digest of the settings that the output folder holds, once it is claimed."""
        return digest_of(read_json(self.output / CONFIG_FILE))

    def check(self) -> None:
        """Raise an error if the output folder is another run's, or nothing can be written to it."""
        file = self.output / CONFIG_FILE
        if not file.exists():
            check_writable(self.output)
            return
        try:
            recorded = read_json(file)
            recorded.pop(_CHOSEN, None)
        except SoarBenchError as error:
            raise TrainingError(f"{error}: name another output") from None
        different = [
            f"{name}: {other} there, {own} here"
            for name, other, own in differences(recorded, self.identity)
        ]
        if different:
            raise TrainingError(
                f"{self.output} holds a run with other settings ({'; '.join(different)}): "
                "name another output, or delete that folder"
            )

    def chunk(self, chosen: int) -> int:
        """Return the auxiliary points per pass that the folder's run began with, ``chosen`` where
        there is none or the settings say a number.

        Another number rounds in another way, and a run goes on as it began on whatever device.
        """
        file = self.output / CONFIG_FILE
        if self.config.soar.aux_chunk != "auto" or not file.exists():
            return chosen
        return int(read_json(file).get(_CHOSEN, {}).get("aux_chunk", 0))

    def as_begun(self) -> Config:
        """Return the settings with the auxiliary points per pass that the folder's run began with;
        as they are where it holds none. To be called after :meth:`check`.
        """
        begun = self.chunk(-1)
        return self.config if begun < 0 else with_chunk(self.config, begun)

    @property
    def begun(self) -> bool:
        """Whether the output folder holds this run. To be asked after :meth:`check`."""
        return (self.output / CONFIG_FILE).exists()

    def claim(self, chunk: int = 0) -> None:
        """Mark the output folder as this run's; delete half-written files of a killed one.

        ``chunk`` are the auxiliary points per pass, which are recorded where they were chosen.
        """
        self.check()
        sweep(self.output)
        for path in self.output.glob(".*"):
            if _HALF_WRITTEN.fullmatch(path.name):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        if not (self.output / CONFIG_FILE).exists():
            text = json.dumps(self.identity | self._chosen(chunk), indent=2, sort_keys=True)
            write_text(self.output / CONFIG_FILE, text + "\n")

    def _chosen(self, chunk: int) -> dict[str, Any]:
        """The number that ``auto`` came to; nothing where that is all points, as on CPUs."""
        auto = self.config.soar.aux_chunk == "auto"
        return {_CHOSEN: {"aux_chunk": chunk}} if chunk and auto else {}

    def save(self, step: int, transformer: Any, tensors: Mapping[str, Any]) -> None:
        """Write the checkpoint of that step."""
        adapter = bool(self.config.lora.rank)
        folder = checkpoint_folder(self.output, step)
        write_checkpoint(folder, transformer, tensors, self._story(step), adapter)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Append a line to the metrics."""
        with (self.output / METRICS_FILE).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"step": step, **figures}) + "\n")

    def cut_log(self, step: int) -> None:
        """Drop the lines of later steps, which come again; keep one of each step."""
        file = self.output / METRICS_FILE
        if file.exists():
            lines = {line["step"]: line for line in _lines(file) if line["step"] <= step}
            write_text(file, "".join(json.dumps(line) + "\n" for line in lines.values()))

    def evaluations(self) -> list[dict[str, Any]]:
        """Figures of checkpoints: ``step``, ``watcher`` (the callback's name), ``subject`` and
        ``figures`` of each call.
        """
        file = self.output / EVALUATIONS_FILE
        return _lines(file, watcher=str, subject=str, figures=dict) if file.exists() else []

    def add_evaluation(
        self, step: int, callback: str, subject: str, figures: Mapping[str, float]
    ) -> None:
        line = {"step": step, "watcher": callback, "subject": subject, "figures": dict(figures)}
        text = "".join(json.dumps(line) + "\n" for line in [*self.evaluations(), line])
        write_text(self.output / EVALUATIONS_FILE, text)

    def _best(self, higher_is_better: bool, subject: str) -> int | None:
        """The step of the checkpoint with the best ``keep_best``, the first of equals."""
        metric = self.config.keep_best
        values = [
            (line["figures"][metric], line["step"])
            for line in self.evaluations()
            if line["step"] and line["subject"] == subject and metric in line["figures"]
        ]
        sign = -1 if higher_is_better else 1
        return min(values, key=lambda pair: (sign * pair[0], pair[1]))[1] if values else None

    def prune(self, higher_is_better: bool, subject: str) -> None:
        """Delete the checkpoints that need not stay; the best is that of ``keep_best``, by the
        figures with that subject.
        """
        if not self.config.keep_last:
            return
        folders = checkpoints(self.output)
        stay = set(sorted(folders)[-self.config.keep_last :])
        if self.config.keep_best:
            stay.add(self._best(higher_is_better, subject) or 0)
        for step in set(folders) - stay:
            delete_folder(folders[step])

    def check_space(self, sizes: Sizes, encodings: int = 0) -> None:
        """Raise TrainingError unless everything still to be written fits on the disk.

        ``encodings`` are the bytes that go to ``config.cache`` before the first step.
        """
        config, folder = self.config, self.output
        first = max(states(folder), default=0)
        saves = -(-config.steps // config.save_every) - first // config.save_every
        latent = 4 * math.prod(latent_shape(self.base.pipeline, (config.resolution,) * 2))
        samples = self.processes * rollout_bytes(config, latent)
        needed = peak(config, sizes, first, checkpoints(folder), samples)
        parts = ", and the state"
        if config.cache is not None:
            Cache(config.cache).check_space(encodings)
            if encodings and same_disk(config.cache, folder):
                needed += encodings
                parts = f", the state, and {human(encodings)} of encodings"
        free = free_space(folder)
        if needed > free:
            raise TrainingError(
                f"what is still to be written (checkpoints: {saves}{parts}) "
                f"needs {human(needed)} in {folder}, where {human(free)} are "
                "free: free some, or keep fewer checkpoints with keep_last or a larger save_every"
            )

    def _story(self, step: int) -> dict[str, Any]:
        faults = getattr(self.source, "faults", ())
        dropped = {"dropped": len(faults)} if faults else {}
        packages = ["soar-bench", "torch", "diffusers", "accelerate"]
        if self.config.lora.rank:
            packages.append("peft")
        return {
            "base": {"name": self.base.name, "digest": self.base.digest}
            | ({"story": dict(self.base.story)} if self.base.story else {}),
            "name": self.config.name or self.config.method,
            "method": self.config.method,
            "step": step,
            "seed": self.config.seed,
            "data": {
                "name": self.config.data,
                "digest": self.source.digest,
                "size": len(self.source),
                **dropped,
                **_selection(Path(self.config.data)),
            },
            **self.remarks,
            "config": self.identity["settings"],
            **self._chosen(self.chunk(0)),
            "versions": {"python": platform.python_version()}
            | {name: version(name) for name in packages},
        }


def _lines(file: Path, **types: type) -> list[dict[str, Any]]:
    """Return the lines: JSON objects with an integer ``step`` and values of these types.

    One that was being written when the process was killed is left out. TrainingError, with file
    and line, for any other.
    """
    whole = file.read_bytes().rpartition(b"\n")[0]
    lines = []
    for number, text in enumerate(whole.split(b"\n") if whole else (), start=1):
        try:
            line = json.loads(text)
            damaged = any(type(line[name]) is not t for name, t in {"step": int, **types}.items())
        except (ValueError, TypeError, LookupError, RecursionError):
            damaged = True
        if damaged:
            raise TrainingError(
                f"{file}, line {number} is damaged: delete that line, or name another output"
            )
        lines.append(line)
    return lines


def _selection(data: Path) -> dict[str, Any]:
    """Where selected data comes from, if it is such data."""
    file = data / SELECTION_FILE
    return {"selection": read_json(file)} if file.is_file() else {}


def _leave_out(settings: dict[str, Any], config: BaseModel, names: Iterable[str]) -> None:
    """Remove the settings of these dotted names that are at their defaults."""
    fields = type(config).model_fields
    for name in names:
        section, _, inner = name.partition(".")
        value = getattr(config, section)
        if section not in settings:
            continue
        if inner:
            _leave_out(settings[section], value, {inner})
        elif value == fields[section].get_default():
            del settings[section]
