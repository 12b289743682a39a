"""Whether a training can run here: what needs no data, no weights and no GPU to be known."""

from __future__ import annotations

from training.deterministic import check_deterministic
from training.optimizers import check_optimizer
from training.parallel import uses_deepspeed
from training.rewards import Rewards
from training.trackers import check_trackers
from training.types import ON_PROMPTS, REWARDED, Config, TrainingError


def check_here(config: Config, rewards: Rewards | None) -> None:
    """Raise TrainingError if a package, a tracker, the launcher or the rewards stand in the way."""
    check_optimizer(config.optimizer)
    check_trackers(config)
    check_deterministic(config.deterministic)
    if uses_deepspeed():
        _check_deepspeed(config)
    if config.method in REWARDED:
        _check_rewards(config, rewards)


def _check_deepspeed(config: Config) -> None:
    if config.working_copy:
        raise TrainingError(
            "DeepSpeed's passes read the weights that it steps, and no copy of them: set "
            "working_copy to false, or launch with DDP or FSDP2"
        )
    if config.method in ON_PROMPTS:
        raise TrainingError(
            f"{config.method} needs copies of the weights, which DeepSpeed cannot exchange: launch "
            "with configs/accelerate/ddp.yaml or fsdp2.yaml"
        )


def _check_rewards(config: Config, rewards: Rewards | None) -> None:
    if rewards is None:
        raise TrainingError(f"{config.method} needs rewards, and training was handed none")
    if set(rewards.names) != set(config.rewards):
        raise TrainingError(
            f"the setting rewards weights {', '.join(config.rewards)}, but training was handed "
            f"{', '.join(rewards.names) or 'none'}: give each of them its weight there"
        )
