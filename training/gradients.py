"""The gradient of a step: of all micro-batches and processes, one forward pass at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from training.objectives.objective import Objective
from training.parallel import Parallel


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
                made = next(passes)
                parallel.backward(made.loss / total * factor)
            for name, value in made.sums.items():
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
