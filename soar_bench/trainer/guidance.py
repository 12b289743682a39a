"""Guidance in rollouts of models that were distilled to do without it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.types import REWARDED, Config, TrainingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.callbacks import Callback
    from training.encoders import Described


def rollout_guidance(config: Config) -> tuple[str, float]:
    """Return the setting that guides the model's own steps, and its value; 1 without any."""
    if config.method in REWARDED:
        section = "nft" if config.method == "nft" else "flow_grpo"
        return f"{section}.guidance", config.rollouts.guidance
    guided = config.method == "soar" and config.soar.weight > 0
    return "soar.guidance", config.soar.guidance if guided else 1.0


def check_guidance(pipeline: Described, config: Config) -> str:
    """Return a remark where a guided rollout is likely a mistake; "" where nothing speaks for that.

    TrainingError where the model says that it takes guidance as an input, and so was distilled from
    guided steps. Files of step-distilled models say nothing, so for them a name is all there is.
    """
    setting, value = rollout_guidance(config)
    if value == 1:
        return ""
    if pipeline.config("transformer").get("guidance_embeds"):
        raise TrainingError(
            f"the transformer takes guidance as an input (guidance_embeds): a rollout guided by "
            f"{setting} {value:g} would guide it twice, so set {setting} to 1"
        )
    if "turbo" in f"{config.base} {pipeline.folder}".lower():
        return (
            f"{setting} is {value:g}, but by its name the base was distilled to be sampled without "
            f"guidance: set {setting} to 1, unless it was not"
        )
    return ""


def apart_from_evaluation(config: Config, callbacks: Sequence[Callback]) -> str:
    """Return a remark where checkpoints are judged at another guidance than samples for rewards are
    made with; "" where they are not.
    """
    setting, value = rollout_guidance(config)
    if config.method not in REWARDED:
        return ""
    protocols = [getattr(c, "protocol", None) for c in callbacks if c.name == "evaluation"]
    for protocol in protocols:
        if protocol is not None and protocol.guidance != value:
            same = protocol.override(guidance=value).name
            return (
                f"{setting} is {value:g}, but the evaluation's protocol has guidance "
                f"{protocol.guidance:g}: evaluation.protocol {same} judges what is trained"
            )
    return ""
