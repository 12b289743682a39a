"""The seam between the loop and the objectives: what a step asks of one.

An objective draws a step's batches (and makes samples of its own, where it needs any), and gives
the passes of each batch one after another, so that no more activations are held than one pass
keeps.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Pass:
    """One forward pass: its part of the loss, before the objective's divisor, and what to report.

    ``sums`` are scalars without a graph, by name; those of all passes and processes are added up.
    """

    loss: Tensor
    sums: Mapping[str, Tensor]


class Objective(typing.Protocol):
    """The loss of one training step."""

    def batches(self, step: int) -> Sequence[Any]:
        """Draw this process's micro-batches of a step, from (seed, step)."""
        ...

    def counts(self, batches: Sequence[Any]) -> Sequence[float]:
        """Return numbers of points, known before any pass and added up over processes."""
        ...

    def divisor(self, counts: Sequence[float]) -> float:
        """Return what the summed loss is divided by; ``counts`` are those of all processes."""
        ...

    def passes(self, batch: Any) -> int:
        """Return the number of passes that :meth:`run` gives for a batch."""
        ...

    def run(self, batch: Any) -> Iterator[Pass]:
        """Yield the passes of a batch; before the next is taken, backward has run on the last."""
        ...

    def figures(self, sums: Mapping[str, float], counts: Sequence[float]) -> dict[str, float]:
        """Return what is logged: ``loss`` and others, from the sums of all processes."""
        ...

    def stepped(self, done: int) -> None:
        """Hear that the optimizer has made its step number ``done``."""
        ...

    def state(self, done: int) -> Mapping[str, Any]:
        """Return what this process's next step needs and no step can draw again."""
        ...

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore it."""
        ...

    def has_state(self, done: int) -> bool:
        """Return whether there is any after so many steps."""
        ...


class Stateless:
    """An objective of which every step draws all it needs."""

    def stepped(self, done: int) -> None:
        """Do nothing."""

    def state(self, done: int) -> Mapping[str, Any]:
        """Return nothing."""
        return {}

    def load(self, state: Mapping[str, Any]) -> None:
        """Do nothing."""

    def has_state(self, done: int) -> bool:
        return False
