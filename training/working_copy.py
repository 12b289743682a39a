"""A bfloat16 copy of float32 weights, which passes read in their place.

Autocast casts every weight in every pass and keeps the casts with the activations. Here they are
cast once a step, and the whole pass is in bfloat16, normalisation included. Gradients come back in
float32, pass by pass, to the weights themselves: these, their gradients, the optimizer, checkpoints
and resume states are what they are without the copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import wraps
from typing import Any

import torch
from torch import Tensor


class _Read(torch.autograd.Function):
    """The copy of a weight, whose gradient is the weight's."""

    @staticmethod
    def forward(context: Any, weight: Tensor, copy: Tensor) -> Tensor:
        return copy.detach()  # another tensor of the same memory, to hang the graph on

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient.float(), None


class WorkingCopy:
    """The copy of a model's trained float32 parameters."""

    def __init__(self, model: torch.nn.Module) -> None:
        """The copy is made by the first :meth:`refresh`, where the weights then are."""
        self._places = [
            (module, name)
            for module in model.modules()
            for name, parameter in module.named_parameters(recurse=False)
            if parameter.requires_grad and parameter.dtype == torch.float32
        ]
        self._copies: list[Tensor] = []
        self._weights: list[Tensor] = []
        self._reading = False

    @torch.no_grad()
    def refresh(self) -> None:
        """Copy the weights, which have changed."""
        self._weights = [module._parameters[name] for module, name in self._places]  # type: ignore[misc]
        if not self._copies:
            self._copies = [torch.empty_like(w, dtype=torch.bfloat16) for w in self._weights]
        torch._foreach_copy_(self._copies, self._weights)

    @contextmanager
    def read(self) -> Iterator[None]:
        """Let passes inside read the copy, their backward passes as well; may be nested."""
        if self._reading:
            yield
            return
        for (module, name), weight, copy in zip(
            self._places, self._weights, self._copies, strict=True
        ):
            module._parameters[name] = _Read.apply(weight, copy)  # type: ignore[no-untyped-call]
        self._reading = True
        try:
            yield
        finally:
            self._reading = False
            for (module, name), weight in zip(self._places, self._weights, strict=True):
                module._parameters[name] = weight  # type: ignore[assignment]


def in_bfloat16(forward: Callable[..., Any], copy: WorkingCopy | None) -> Callable[..., Any]:
    """Return a transformer's ``forward`` that takes float32 and returns it, in bfloat16 inside.

    It reads the ``copy`` of the weights; None: they are in bfloat16 in a pass already. The timestep
    stays float32: the model makes features of it before it rounds.
    """

    @wraps(forward)
    def rounded(*args: Any, timestep: Tensor, **inputs: Any) -> Any:
        rounded = {name: _cast(value, torch.bfloat16) for name, value in inputs.items()}
        with copy.read() if copy is not None else nullcontext():
            outputs = forward(*args, timestep=timestep, **rounded)
        return tuple(_cast(value, torch.float32) for value in outputs)

    return rounded


def _cast(value: Any, dtype: torch.dtype) -> Any:
    floats = isinstance(value, Tensor) and value.is_floating_point()
    return value.to(dtype) if floats else value
