"""Resume states: everything a run needs to go on exactly as if it had not been stopped.

A folder ``state-NNNNNN``, which appears when every process has written its part of it: the
trained weights, the optimizer's state and the average, as plain tensors, and the file's SHA-256
beside it, in the form of ``sha256sum``. The learning rate, the place in the data and the random
state of every process follow from the step (see training/step.py), which stands for them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor

from soar_bench.core.digests import digest_file
from soar_bench.core.files import replace_atomically, sync, write_text
from soar_bench.core.temporary import delete_folder
from training.checkpoint import numbered
from training.copies import Copies
from training.parallel import Parallel, like, part, whole
from training.types import TrainingError
from training.zero import ZeroOptimizer


@dataclass
class Trained:
    """Everything that a step changes."""

    transformer: Any
    optimizer: Any
    average: EMAModel | None = None
    #: of the weights, and the names of those that no step can make again
    copies: Copies | None = None
    carried: tuple[str, ...] = ()

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """The trained parameters, by name."""
        return {n: p for n, p in self.transformer.named_parameters() if p.requires_grad}

    def held(self) -> dict[str, torch.nn.Parameter]:
        """The tensors that the optimizer steps here: the parameters, or DeepSpeed's shards."""
        zero = isinstance(self.optimizer, ZeroOptimizer)
        return self.optimizer.shards() if zero else self.parameters()

    def weights(self, parallel: Parallel, trained_only: bool = False) -> dict[str, Tensor]:
        """The transformer's tensors as a checkpoint holds them: the average, where there is one.

        All processes have to ask; the main one gets them, on the CPU, the others nothing.
        """
        held = list(self.held().values())
        if self.average is not None:
            self.average.store(held)
            self.average.copy_to(held)
        tensors: dict[str, Tensor] = self.transformer.state_dict(keep_vars=True)
        if trained_only:
            tensors = dict(self.parameters())
        weights = {}
        for name, tensor in tensors.items():
            tensor = whole(tensor).detach()
            if parallel.main:
                # Copied where it is on the CPU: what was averaged is put back below, and what was
                # divided into uneven parts is a view of more than itself, which cannot be written.
                copy = self.average is not None or parallel.sharded
                weights[name] = tensor.to("cpu", copy=copy)
        if self.average is not None:
            self.average.restore(held)
        return weights

    def state(self) -> dict[str, Any]:
        """This process's part of the resume state."""
        copies = {} if self.copies is None else {"copies": self.copies.state(self.carried)}
        return {
            **copies,
            "weights": {name: part(p.detach()) for name, p in self.held().items()},
            "optimizer": _map(self.optimizer.state_dict(), part),
            "average": None if self.average is None else _map(self.average.state_dict(), part),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore this process's part, in place."""
        held = self.held()
        parts = {name: part(parameter.detach()) for name, parameter in held.items()}
        weights = state["weights"]
        if {n: t.shape for n, t in weights.items()} != {n: t.shape for n, t in parts.items()}:
            raise ValueError("its weights are another model's")
        for name, tensor in parts.items():
            tensor.copy_(weights[name])
        if isinstance(self.optimizer, ZeroOptimizer):
            self.optimizer.spread()
        examples = list(held.values())
        moments = {
            number: _map(moment, lambda t, n=number: like(t, examples[n].detach()))
            for number, moment in state["optimizer"]["state"].items()
        }
        self.optimizer.load_state_dict({**state["optimizer"], "state": moments})
        if self.average is not None:
            self.average.optimization_step = state["average"]["optimization_step"]
            pairs = zip(self.average.shadow_params, state["average"]["shadow_params"], strict=True)
            for shadow, tensor in pairs:
                part(shadow).copy_(tensor)
        if self.copies is not None:
            self.copies.load(state["copies"])


def save_state(
    output: Path,
    step: int,
    trained: Trained,
    parallel: Parallel,
    run: str,
    samples: Mapping[str, Any] | None = None,
) -> None:
    """Write the resume state after ``step`` steps; an older one goes once this one is whole.

    ``run`` is the run's digest; ``samples`` are what this process made and has yet to train on.
    """
    aside, folder = output / f".state-{step:06d}", output / f"state-{step:06d}"
    if parallel.main:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
    parallel.wait()
    contents: dict[str, Mapping[str, Any]] = {}
    if parallel.main or parallel.sharded:
        contents["process"] = trained.state()
    if samples:
        contents["samples"] = samples
    for name, content in contents.items():
        head = {"step": step, "run": run, "division": parallel.division}
        file = aside / f"{name}-{parallel.rank}.pt"
        with replace_atomically(file) as part_file:
            torch.save({**head, **content}, part_file)
        write_text(_digest_file(file), _digest_line(file))
    parallel.wait()
    if parallel.main:
        sync(aside)
        shutil.rmtree(folder, ignore_errors=True)
        aside.replace(folder)
        sync(output)
        delete_states(output, but=folder)
    parallel.wait()


def load_state(
    output: Path, trained: Trained, parallel: Parallel, run: str, note: Callable[[str], None]
) -> int:
    """Restore the newest resume state; return the number of steps done, 0 without a state.

    ``note`` is told of a state without a digest, as older versions wrote. TrainingError if the
    state is damaged, was changed, is another run's, or was written by processes that divided it
    otherwise; of every process if it is so in one.
    """
    folders = states(output)
    step = max(folders, default=0)
    if parallel.sum(step)[0] != step * parallel.count:
        raise TrainingError(
            f"the processes find different states in {output}: it must be a folder they all share"
        )
    if not step:
        return 0
    file = folders[step] / f"process-{parallel.rank if parallel.sharded else 0}.pt"
    state: dict[str, Any] = {}
    fault = ""
    try:
        state = _read(file, step, run, parallel.division)
    except TrainingError as error:
        fault = str(error)
    if parallel.sum(bool(fault))[0]:
        raise TrainingError(fault or f"another process cannot read its part of {folders[step]}")
    if "run" not in state and parallel.main:
        note(
            f"{folders[step]} was written by an older soar-bench, without a digest: going on from "
            "it, though a change of it would not be seen"
        )
    try:
        trained.load(state)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise _unreadable(file, error) from None
    return step


def load_samples(output: Path, step: int, parallel: Parallel, run: str) -> dict[str, Any]:
    """Return the samples that this process had made and not trained on; TrainingError as above."""
    file = output / f"state-{step:06d}" / f"samples-{parallel.rank}.pt"
    return _read(file, step, run, parallel.division)


def _read(file: Path, step: int, run: str, division: str) -> dict[str, Any]:
    """Return a process's part of a state. TrainingError unless it is what that process wrote."""
    if not file.exists() and file.with_name("process-0.pt").exists():
        raise _otherwise_divided(file)
    beside = _digest_file(file)
    try:
        # Before anything is made of the bytes: a damaged archive can look like anything.
        digested = beside.exists()
        if digested and beside.read_bytes() != _digest_line(file).encode():
            raise ValueError("it was damaged or changed since it was written")
        # Mapped: the processes of a host read one copy, page by page.
        state = torch.load(file, weights_only=True, map_location="cpu", mmap=True)
        if not isinstance(state, dict):
            raise TypeError("it holds no state")
        if "run" in state and not digested:
            raise ValueError(f"its digest, {beside.name}, is missing")
        if state.get("step") != step:
            raise ValueError(f"it is that of step {state.get('step')}")
        if state.get("run", run) != run:
            raise ValueError("it is another run's")
    except Exception as error:
        raise _unreadable(file, error) from None
    if state.get("division") != division:
        raise _otherwise_divided(file)
    return state


def _digest_file(file: Path) -> Path:
    return file.with_name(f"{file.name}.sha256")


def _digest_line(file: Path) -> str:
    return f"{digest_file(file)}  {file.name}\n"


def _unreadable(file: Path, error: Exception) -> TrainingError:
    reason = " ".join((str(error) or type(error).__name__).split())[:160]
    return TrainingError(
        f"{file} cannot be read ({reason}): delete {file.parent} to begin again, or name another "
        "output"
    )


def _otherwise_divided(file: Path) -> TrainingError:
    return TrainingError(
        f"{file.parent} was written by processes that divide the weights in another way: go on "
        "with the launcher's configuration of before, or name another output"
    )


def states(output: Path) -> dict[int, Path]:
    """The resume states of a run, by step."""
    return dict(numbered(output, "state"))


def delete_states(output: Path, but: Path | None = None) -> None:
    for folder in [*states(output).values(), *dict(numbered(output, ".state")).values()]:
        if folder != but:
            delete_folder(folder)


def _map(value: Any, change: Any) -> Any:
    """The same nest of dictionaries and lists, its tensors changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {name: _map(inner, change) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_map(inner, change) for inner in value)
    return value
