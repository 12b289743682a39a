"""Resume states: everything a run needs to go on exactly as if it had not been stopped.

A folder ``state-NNNNNN``, which appears when every process has written its part of it: the
trained weights, the optimizer's state and the average, as plain tensors. The learning rate, the
place in the data and the random state of every process follow from the step (see training/step.py),
which stands for them.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor

from soar_bench.core.files import replace_atomically, sync
from training.checkpoint import numbered
from training.parallel import Parallel, like, part, whole
from training.types import TrainingError
from training.zero import ZeroOptimizer


@dataclass
class Trained:
    """Everything that a step changes."""

    transformer: Any
    optimizer: Any
    average: EMAModel | None = None

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
                # Copied where it is on the CPU: what was averaged is put back below.
                weights[name] = tensor.to("cpu", copy=self.average is not None)
        if self.average is not None:
            self.average.restore(held)
        return weights

    def state(self) -> dict[str, Any]:
        """This process's part of the resume state."""
        return {
            "weights": {name: part(p.detach()) for name, p in self.held().items()},
            "optimizer": _map(self.optimizer.state_dict(), part),
            "average": None if self.average is None else _map(self.average.state_dict(), part),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore this process's part, in place."""
        held = self.held()
        for name, parameter in held.items():
            part(parameter.detach()).copy_(state["weights"][name])
        if isinstance(self.optimizer, ZeroOptimizer):
            self.optimizer.spread()
        examples = list(held.values())
        moments = {
            number: _map(moment, lambda t, n=number: like(t, examples[n].detach()))
            for number, moment in state["optimizer"]["state"].items()
        }
        self.optimizer.load_state_dict({**state["optimizer"], "state": moments})
        if self.average is not None:
            pairs = zip(state["average"]["shadow_params"], examples, strict=True)
            shadows = [like(tensor, example.detach()) for tensor, example in pairs]
            self.average.load_state_dict({**state["average"], "shadow_params": shadows})


def save_state(output: Path, step: int, trained: Trained, parallel: Parallel) -> None:
    """Write the resume state after ``step`` steps; an older one goes once this one is whole."""
    aside, folder = output / f".state-{step:06d}", output / f"state-{step:06d}"
    if parallel.main:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
    parallel.wait()
    if parallel.main or parallel.sharded:
        content = {"step": step, "division": parallel.division, **trained.state()}
        with replace_atomically(aside / f"process-{parallel.rank}.pt") as file:
            torch.save(content, file)
    parallel.wait()
    if parallel.main:
        sync(aside)
        shutil.rmtree(folder, ignore_errors=True)
        aside.replace(folder)
        sync(output)
        delete_states(output, but=folder)
    parallel.wait()


def load_state(output: Path, trained: Trained, parallel: Parallel) -> int:
    """Restore the newest resume state; return the number of steps done, 0 without a state.

    Raises TrainingError if the state was written by processes that divided it otherwise.
    """
    folders = states(output)
    step = max(folders, default=0)
    if parallel.sum(step)[0] != step * parallel.count:
        raise TrainingError(
            f"the processes find different states in {output}: it must be a folder they all share"
        )
    if not step:
        return 0
    rank = parallel.rank if parallel.sharded else 0
    file = folders[step] / f"process-{rank}.pt"
    try:
        state = torch.load(file, weights_only=True, map_location="cpu")
    except FileNotFoundError:
        state = {}
    except (OSError, RuntimeError, EOFError, UnpicklingError) as error:
        reason = " ".join(str(error).split())[:160]
        raise TrainingError(
            f"{file} cannot be read ({reason}): delete {folders[step]} to begin again, or name "
            "another output"
        ) from None
    if state.get("division") != parallel.division:
        raise TrainingError(
            f"{folders[step]} was written by processes that divide the weights in another way: go "
            "on with the launcher's configuration of before, or name another output"
        )
    trained.load(state)
    return step


def states(output: Path) -> dict[int, Path]:
    """The resume states of a run, by step."""
    return dict(numbered(output, "state"))


def delete_states(output: Path, but: Path | None = None) -> None:
    for folder in [*states(output).values(), *dict(numbered(output, ".state")).values()]:
        if folder != but:
            shutil.rmtree(folder)


def _map(value: Any, change: Any) -> Any:
    """The same nest of dictionaries and lists, its tensors changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {name: _map(inner, change) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_map(inner, change) for inner in value)
    return value
