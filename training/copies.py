"""Copies of the trained weights: a reference, an old policy, a teacher.

A copy is this process's part of every trained tensor, so that it works alike for whole weights and
adapters, in one process, under DDP and divided under FSDP2. For passes through a copy its values
and the model's change places, and back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.distributed.fsdp import FSDPModule

from training.parallel import part


class Copies:
    """Named copies of parameters, on their devices."""

    def __init__(self, model: torch.nn.Module, parameters: Sequence[Tensor]) -> None:
        self._model, self._parameters = model, parameters
        self._copies: dict[str, list[Tensor]] = {}

    def keep(self, name: str) -> None:
        """Copy the weights as they are now."""
        self._copies[name] = [tensor.clone() for tensor in self._own()]

    @contextmanager
    def as_weights(self, name: str) -> Iterator[None]:
        """In it the model has the copy's weights. For passes without gradients alone."""
        self._swap(name)
        try:
            yield
        finally:
            self._swap(name)

    @torch.no_grad()
    def follow(self, name: str, decay: float) -> None:
        """``copy <- decay copy + (1 - decay) weights``."""
        for copy, own in zip(self._copies[name], self._own(), strict=True):
            copy.mul_(decay).add_(own, alpha=1 - decay)

    def state(self, names: Sequence[str]) -> dict[str, Any]:
        """Return the copies of these names, as plain tensors."""
        return {name: self._copies[name] for name in names}

    @torch.no_grad()
    def load(self, state: Mapping[str, Sequence[Tensor]]) -> None:
        for name, tensors in state.items():
            for copy, tensor in zip(self._copies[name], tensors, strict=True):
                copy.copy_(tensor)

    def _own(self) -> list[Tensor]:
        return [part(parameter.detach()) for parameter in self._parameters]

    @torch.no_grad()
    def _swap(self, name: str) -> None:
        for copy, own in zip(self._copies[name], self._own(), strict=True):
            before = own.clone()
            own.copy_(copy)
            copy.copy_(before)
        for module in self._model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()  # gathered values would be those of before
