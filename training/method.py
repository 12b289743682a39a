"""The seam between the loop and the objectives: what a step asks of one, and how it adds gradients.

An objective draws a step's batches (and makes samples of its own, where it needs any), and gives
the passes of each batch one after another, so that no more activations are held than one pass
keeps.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from training.parallel import Parallel


@dataclass(frozen=True)
class Pass:
    """One forward pass: its part of the loss, before the objective's divisor, and what to report.

    ``sums`` are scalars without a graph, by name; those of all passes and processes are added up.
    """

    loss: Tensor
    sums: Mapping[str, Tensor]


class Objective(typing.Protocol):
    """What one step minimises."""

    def batches(self, step: int) -> Sequence[Any]:
        """Draw this process's micro-batches of a step, from (seed, step)."""
        ...

    def counts(self, batches: Sequence[Any]) -> Sequence[float]:
        """Return numbers of points, known before any pass and added up over processes."""
        ...

    def divisor(self, counts: Sequence[float]) -> float:
        """Return what the summed loss is divided by; ``counts`` are those of all processes."""
        ...

    def passes(self, batch: Any) -> int:
        """Return the number of passes that :meth:`run` gives for a batch."""
        ...

    def run(self, batch: Any) -> Iterator[Pass]:
        """Yield the passes of a batch; before the next is taken, backward has run on the last."""
        ...

    def figures(self, sums: Mapping[str, float], counts: Sequence[float]) -> dict[str, float]:
        """Return what is logged: ``loss`` and others, from the sums of all processes."""
        ...

    def stepped(self, done: int) -> None:
        """Hear that the optimizer has made its step number ``done``."""
        ...

    def state(self, done: int) -> Mapping[str, Any]:
        """Return what this process's next step needs and no step can draw again."""
        ...

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore it."""
        ...

    def has_state(self, done: int) -> bool:
        """Return whether there is any after so many steps."""
        ...


class Stateless:
    """An objective of which every step draws all it needs."""

    def stepped(self, done: int) -> None:
        """Do nothing."""

    def state(self, done: int) -> Mapping[str, Any]:
        """Return nothing."""
        return {}

    def load(self, state: Mapping[str, Any]) -> None:
        """Do nothing."""

    def has_state(self, done: int) -> bool:
        return False


def add_gradients(
    parallel: Parallel,
    model: torch.nn.Module,
    objective: Objective,
    batches: Sequence[Any],
    counts: Sequence[float],
) -> dict[str, Tensor]:
    """Add the gradient of the loss over all processes' batches, one forward pass at a time.

    ``counts`` are those of all micro-batches and processes. Returns this process's sums.
    """
    # The wrapper averages gradients over processes, hence the factor.
    total, factor = objective.divisor(counts), parallel.count
    passes_left = sum(objective.passes(batch) for batch in batches)
    sums: dict[str, Tensor] = {}
    zero = torch.zeros((), device=parallel.device)
    for batch in batches:
        passes = objective.run(batch)
        # Counted, since the last pass has to be known as such before it runs.
        for _ in range(objective.passes(batch)):
            passes_left -= 1
            with parallel.one_pass(model, last=passes_left == 0):
                one = next(passes)
                parallel.backward(one.loss / total * factor)
            for name, value in one.sums.items():
                sums[name] = sums.get(name, zero) + value.detach()
    return sums


def settle(
    parallel: Parallel, model: torch.nn.Module, objective: Objective, batches: Sequence[Any]
) -> None:
    """Run a pass under DDP whose gradient is thrown away.

    DDP groups gradients in the order in which its first backward pass made them, and three or more
    processes round the sums of other groups in another way. After this pass a run that goes on
    sums as one that was never stopped. No random state changes.
    """
    if not isinstance(model, DistributedDataParallel):
        return
    cuda = parallel.device.type == "cuda"
    with (
        torch.random.fork_rng([parallel.device] if cuda else []),
        parallel.one_pass(model, last=True),
    ):
        parallel.backward(next(objective.run(batches[0])).loss)
    model.zero_grad()
