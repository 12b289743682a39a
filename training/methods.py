"""From a run's settings to its objective."""

from __future__ import annotations

from typing import Any

import torch

from training.data.encoding import Encoded
from training.method import Objective
from training.off_policy import DefarObjective, SoarObjective
from training.parallel import Parallel
from training.step import Draw, draw_batches, draws_in_training
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

    def batches(step: int, draw: Draw) -> Any:
        return draw_batches(config, data, parallel, step, timesteps, model, draw)

    if config.method == "defar":
        return DefarObjective(config.defar, shift, batches)
    weight = config.soar.weight if config.method == "soar" else 0.0
    settings = config.soar.model_copy(update={"weight": weight})
    return SoarObjective(settings, shift, batches, reuse=not draws_in_training(transformer))
