"""From a run's settings to its objective."""

from __future__ import annotations

from typing import Any

import torch

from training.data.encoding import Encoded
from training.method import Objective
from training.off_policy import DefarObjective, SoarObjective
from training.parallel import Parallel
from training.prefetch import Ahead
from training.step import Batch, Draw, Drawn, draw_step, draws_in_training
from training.types import Config


def make_objective(
    config: Config,
    data: Encoded,
    parallel: Parallel,
    scheduler: Any,
    transformer: torch.nn.Module,
    model: torch.nn.Module,
) -> Objective:
    """Return the objective; ``model`` is what every pass of ``transformer`` goes through."""
    timesteps, shift = scheduler.config.num_train_timesteps, scheduler.config.shift

    ahead: Ahead[list[Drawn]] = Ahead(config.steps)

    def batches(step: int, draw: Draw) -> list[Batch]:
        def make(step: int) -> list[Drawn]:
            return draw_step(config, data, parallel.rank, parallel.count, step, draw)

        return [one.batch(model, timesteps, parallel.device) for one in ahead(step, make)]

    if config.method == "defar":
        return DefarObjective(config.defar, shift, batches)
    weight = config.soar.weight if config.method == "soar" else 0.0
    settings = config.soar.model_copy(update={"weight": weight})
    return SoarObjective(settings, shift, batches, reuse=not draws_in_training(transformer))
