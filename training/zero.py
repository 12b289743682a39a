"""DeepSpeed's ZeRO: its settings, and its flat float32 shards as an optimizer that can be saved.

DeepSpeed steps shards of the weights and lets the model follow. What is saved, restored and
averaged are therefore those shards, as plain tensors: its own checkpoints are read by unpickling.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from training.types import TrainingError


def configure(
    settings: dict[str, Any], optimizer: torch.optim.Optimizer, processes: int, clip_norm: float
) -> None:
    """Complete DeepSpeed's settings in place with those of the run.

    TrainingError if both set the same thing, or if the optimizer would not be itself with shards.
    """
    if not isinstance(optimizer, torch.optim.AdamW):
        raise TrainingError(
            "with DeepSpeed adamw8bit would keep its moments in 32 bits, since shards do not divide"
            " into its blocks: set optimizer.kind to adamw, or launch with FSDP2"
        )
    for name in ("optimizer", "scheduler"):
        if name in settings:
            raise TrainingError(
                f"the launcher's DeepSpeed configuration has a section {name!r}: leave it out, the "
                "run's own settings decide that"
            )
    settings |= {
        # A step is a number of passes of our own, whose loss is already divided by all of them.
        "gradient_accumulation_steps": 1,
        "train_micro_batch_size_per_gpu": 1,
        "train_batch_size": processes,
        "gradient_clipping": clip_norm,
        # The passes are in bfloat16 by autocast, as everywhere. DeepSpeed's own mode takes inputs
        # in bfloat16 alone, the timestep with them; its autocast adds up gradients in bfloat16.
        "bf16": {"enabled": False},
        "fp16": {"enabled": False},
        "zero_allow_untested_optimizer": True,
    }


class ZeroOptimizer:
    """The optimizer of an engine, which steps at the end of the last backward pass by itself."""

    def __init__(self, engine: Any) -> None:
        self._zero, self._inner = engine.optimizer, engine.optimizer.optimizer
        flat = (
            self._zero.fp32_partitioned_groups_flat
            if hasattr(self._zero, "fp32_partitioned_groups_flat")
            else self._zero.single_partition_of_fp32_groups
        )
        self._flat: list[Tensor] = list(flat)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        groups: list[dict[str, Any]] = self._inner.param_groups
        return groups

    def shards(self) -> dict[str, torch.nn.Parameter]:
        """The flat float32 tensors that this process steps; they share the engine's memory."""
        return {f"shard {n}": torch.nn.Parameter(t.detach()) for n, t in enumerate(self._flat)}

    def step(self) -> None:
        """Done with the last backward pass."""

    def zero_grad(self) -> None:
        """Done with the step."""

    def state_dict(self) -> dict[str, Any]:
        """torch's own, of the shards."""
        with self._knowing_its_shards():
            state: dict[str, Any] = self._inner.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        with self._knowing_its_shards():
            self._inner.load_state_dict(state)

    def spread(self) -> None:
        """Make the model follow shards that were changed otherwise than by a step."""
        if hasattr(self._zero, "update_lp_params"):
            self._zero.update_lp_params()
            return
        self._zero.checkpoint_event_prologue()
        for number in range(len(self._flat)):
            self._zero._reassign_or_swap_out_partitioned_parameters(number)
        self._zero.checkpoint_event_epilogue()

    @contextmanager
    def _knowing_its_shards(self) -> Iterator[None]:
        """Stage 3 shows torch's optimizer a shard only while it steps it."""
        before = self._inner.param_groups[0]["params"]
        self._inner.param_groups[0]["params"] = self._flat
        try:
            yield
        finally:
            self._inner.param_groups[0]["params"] = before


def gathered(tensor: Tensor) -> Tensor:
    """A parameter of an engine, whole and in float32; other tensors as they are."""
    if not hasattr(tensor, "ds_id") and not hasattr(tensor, "_hp_mapping"):
        return tensor
    from deepspeed.utils import safe_get_full_fp32_param

    parameter: Tensor = safe_get_full_fp32_param(tensor)
    return parameter
