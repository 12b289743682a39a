"""Callbacks: code that training is handed and calls with checkpoints as it goes on."""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

#: Hears of every stage: its name, how much is done of how much, and figures by name.
Progress = Callable[[str, int, int, dict[str, float]], None]


def silent(stage: str, done: int, total: int, figures: dict[str, float]) -> None:
    """Progress that nobody sees."""


@dataclass(frozen=True)
class Observation:
    """Figures and images that a callback made of a checkpoint."""

    #: by metric
    figures: Mapping[str, float] = field(default_factory=dict)
    #: PNG files by what they show
    images: Mapping[str, Path] = field(default_factory=dict)


class Callback(typing.Protocol):
    """Called with checkpoints: evaluates them, or makes images of the same prompts."""

    @property
    def name(self) -> str:
        """Name of the stage, and prefix of its figures."""
        ...

    @property
    def subject(self) -> str:
        """Identifies what the figures depend on beside the checkpoint: with another subject, a
        checkpoint that was seen before is seen again.
        """
        ...

    @property
    def every(self) -> int:
        """Steps between calls; the base (step 0) and the last checkpoint are seen as well."""
        ...

    @property
    def higher_is_better(self) -> Mapping[str, bool]:
        """The metrics among its figures, known beforehand."""
        ...

    def on_checkpoint(self, checkpoint: str, step: int) -> Observation:
        """Called in every process with a checkpoint's folder, or the base's name at step 0.

        What the main process returns counts. Called again for the same checkpoint after a stop, it
        makes again only what is missing.
        """
        ...
