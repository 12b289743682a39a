"""AdamW, with moments in 32 bits or in 8."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from typing import Any

import torch

from soar_bench.core.packages import install
from training.types import Optimizer, TrainingError


def check_optimizer(settings: Optimizer) -> None:
    """Raise TrainingError if the optimizer needs a package that is not installed."""
    if settings.kind == "adamw8bit" and find_spec("torchao") is None:
        raise TrainingError(
            f"the optimizer adamw8bit needs torchao: {install('adamw8bit')}, or set "
            "optimizer.kind to adamw"
        )


def make_optimizer(
    parameters: Iterable[torch.nn.Parameter], settings: Optimizer, device: torch.device
) -> torch.optim.Optimizer:
    """Make AdamW for these parameters, which are on ``device``.

    ``adamw`` is PyTorch's. ``adamw8bit`` is torchao's: both moments of a tensor (or, under FSDP2,
    of a process's part of it) of at least 4096 values and a multiple of 256 are kept in 8 bits
    with a scale for every 256 values (Dettmers et al., arXiv 2110.02861); those of others stay
    float32, and so do weights and arithmetic. A tensor of n values takes 2 (n + n / 64) bytes and
    two tables of 1 KiB, for AdamW's 8 n. Raises TrainingError where torchao is not installed.
    """
    options: dict[str, Any] = {
        "lr": settings.lr,
        "betas": (settings.beta1, settings.beta2),
        "eps": settings.epsilon,
        "weight_decay": settings.weight_decay,
    }
    if settings.kind == "adamw8bit":
        check_optimizer(settings)
        return _adamw8bit(parameters, options, device)
    # One kernel for the whole step. On the CPU it rounds in another way than the records here.
    return torch.optim.AdamW(parameters, fused=device.type == "cuda" or None, **options)


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Set the learning rate of the next step, for all parameters."""
    for group in optimizer.param_groups:
        # torchao takes a tensor, since it would compile its step anew for every other number. On
        # the CPU, wherever accelerate or a saved state put it: a step is then always the same code.
        tensor = isinstance(group["lr"], torch.Tensor)
        group["lr"] = torch.tensor(value, dtype=torch.float32) if tensor else value


def _adamw8bit(
    parameters: Iterable[torch.nn.Parameter], options: dict[str, Any], device: torch.device
) -> torch.optim.Optimizer:
    from torchao.optim import AdamW8bit

    # Warned about once per process: a cache of compiled code, without which it works as well.
    warnings.filterwarnings("ignore", "OptimState8bit does not implement", UserWarning)

    class Uncompiled(AdamW8bit):  # type: ignore[misc]
        """The same arithmetic, operation by operation."""

        def step(self, closure: Callable[[], Any] | None = None) -> Any:
            with torch.compiler.set_stance("force_eager"):
                return super().step(closure)

    # Compiling takes seconds per shape of tensor at the start: on the CPU more than it saves.
    kind = Uncompiled if device.type == "cpu" else AdamW8bit
    optimizer: torch.optim.Optimizer = kind(parameters, **options)
    optimizer.register_load_state_dict_post_hook(_count_on_the_cpu)
    return optimizer


def _count_on_the_cpu(optimizer: torch.optim.Optimizer) -> None:
    """The number of steps where torchao makes it, wherever a state was loaded to."""
    for state in optimizer.state.values():
        state["step"] = state["step"].cpu()
