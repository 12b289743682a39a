"""From a run's settings to its data and its objective."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch

from training.copies import Copies
from training.data import Source
from training.data.encoding import Encoded
from training.data.order import rows_of_step
from training.data.prompts import Prompts
from training.draws import Random
from training.encoders import VAE, latent_shape
from training.objectives.d_opsd import TEACHER, ContextBatch, OpsdObjective, short
from training.objectives.defar import DefarObjective
from training.objectives.flow_grpo import GrpoObjective
from training.objectives.nft import NftObjective
from training.objectives.objective import Objective
from training.objectives.on_rollouts import OLD, REFERENCE
from training.objectives.soar import SoarObjective
from training.parallel import Parallel
from training.prefetch import Ahead
from training.rewards import Rewards
from training.rollouts import Rollouts, caption_batch
from training.run import Base
from training.state import Trained
from training.step import Batch, Draw, Drawn, draw_step, draws_in_training
from training.types import ON_PROMPTS, Config, TrainingError


@dataclass(frozen=True)
class Parts:
    """Parts of a training that objectives are made of."""

    config: Config
    base: Base
    source: Source
    data: Encoded
    parallel: Parallel
    scheduler: Any
    #: through which every pass goes
    model: torch.nn.Module
    trained: Trained
    rewards: Rewards | None

    @property
    def train_timesteps(self) -> int:
        return int(self.scheduler.config.num_train_timesteps)

    def latent_shape(self) -> tuple[int, int, int]:
        side = self.config.resolution
        return latent_shape(self.base.pipeline, (side, side))

    def levels(self, steps: int) -> list[float]:
        """The levels of the sampler, from noise down to 0: steps + 1 of them."""
        scheduler = deepcopy(self.scheduler)
        scheduler.set_timesteps(steps)
        levels: list[float] = scheduler.sigmas.float().tolist()
        return levels


def contexts(config: Config, source: Source) -> Source:
    """Return what is encoded: the data; for d-opsd all prompts and then their short forms."""
    if config.method != "d-opsd":
        return source
    assert isinstance(source, Prompts)
    brief = [short(text, config.d_opsd.student_words) for text in source.texts]
    return Prompts([*source.texts, *brief], [{}] * (2 * len(source)))


def make_objective(
    parts: Parts, stopping: Callable[[], bool], note: Callable[[str], None]
) -> Objective:
    """Return the objective, and let ``parts.trained`` hold the copies of weights that it needs.

    Called before a resume state is loaded: the reference is the model that training began with.
    """
    config, shift = parts.config, parts.scheduler.config.shift
    if config.method in ON_PROMPTS:
        if config.method == "d-opsd":
            return _opsd(parts)
        _check_passes_repeat(parts)
        rollouts, levels = _rollouts(parts, stopping, note), parts.levels(config.rollouts.steps)
        if config.method == "nft":
            copies = _copies(parts, {OLD: True, REFERENCE: False})
            return NftObjective(rollouts, copies, levels, config.seed, config.nft)
        copies = _copies(parts, {REFERENCE: False})
        return GrpoObjective(rollouts, copies, levels, config.seed, config.flow_grpo)
    ahead: Ahead[list[Drawn]] = Ahead(config.steps)
    parallel = parts.parallel

    def batches(step: int, draw: Draw) -> list[Batch]:
        def make(step: int) -> list[Drawn]:
            return draw_step(config, parts.data, parallel.rank, parallel.count, step, draw)

        model, timesteps = parts.model, parts.train_timesteps
        return [drawn.batch(model, timesteps, parallel.device) for drawn in ahead(step, make)]

    if config.method == "defar":
        return DefarObjective(config.defar, shift, batches)
    weight = config.soar.weight if config.method == "soar" else 0.0
    settings = config.soar.model_copy(update={"weight": weight})
    reuse = not draws_in_training(parts.trained.transformer)
    return SoarObjective(settings, shift, batches, reuse)


def _check_passes_repeat(parts: Parts) -> None:
    if draws_in_training(parts.trained.transformer):
        raise TrainingError(
            f"the transformer has dropout, so that passes of {parts.config.method} would not "
            "repeat those of its rollout: set it to 0 in the base's config.json"
        )


def _copies(parts: Parts, kept: Mapping[str, bool]) -> Copies:
    """Copies of these names; true for those that a resume state has to hold."""
    copies = Copies(parts.model, list(parts.trained.held().values()))
    for name in kept:
        copies.keep(name)
    parts.trained.copies = copies
    parts.trained.carried = tuple(name for name, carried in kept.items() if carried)
    return copies


def _rollouts(parts: Parts, stopping: Callable[[], bool], note: Callable[[str], None]) -> Rollouts:
    assert isinstance(parts.source, Prompts)
    assert parts.rewards is not None
    return Rollouts(
        config=parts.config,
        prompts=parts.source,
        data=parts.data,
        rewards=parts.rewards,
        parallel=parts.parallel,
        model=parts.model,
        vae=parts.base.pipeline.load(VAE).vae.to(parts.parallel.device),
        train_timesteps=parts.train_timesteps,
        shape=parts.latent_shape(),
        stopping=stopping,
        note=note,
    )


def _opsd(parts: Parts) -> OpsdObjective:
    """D-OPSD, whose batches are prompts in two contexts and noise."""
    config, parallel, count = parts.config, parts.parallel, len(parts.source)

    def batch_of(rows: torch.Tensor) -> Batch:
        return caption_batch(parts.data, rows, parts.model, parts.train_timesteps, parallel.device)

    def batches(step: int) -> list[ContextBatch]:
        share = config.batch_size * config.accumulate
        places = range(share * parallel.rank, share * (parallel.rank + 1))
        rows = rows_of_step(count, share * parallel.count, step, config.seed)
        rows = rows[places.start : places.stop]
        z1 = Random(config.seed, step, places).normal(*parts.latent_shape())
        made = []
        for start in range(0, share, config.batch_size):
            part = slice(start, start + config.batch_size)
            student, teacher = batch_of(count + rows[part]), batch_of(rows[part])
            made.append(ContextBatch(z1[part].to(parallel.device), student, teacher))
        return made

    copies = _copies(parts, {TEACHER: True})
    return OpsdObjective(config.d_opsd, copies, parts.levels(config.d_opsd.steps), batches)
