"""Looking at checkpoints while training goes on, by code that training is handed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Seen:
    """What was seen of a checkpoint."""

    #: by metric
    figures: Mapping[str, float] = field(default_factory=dict)
    #: PNG files by what they show
    images: Mapping[str, Path] = field(default_factory=dict)


class Watcher(Protocol):
    """Looks at checkpoints."""

    @property
    def name(self) -> str:
        """What the stage is called."""
        ...

    @property
    def subject(self) -> str:
        """What the look depends on beside the checkpoint: another subject is another look."""
        ...

    @property
    def every(self) -> int:
        """Steps between looks; the base, at step 0, and the last checkpoint are looked at too."""
        ...

    @property
    def higher_is_better(self) -> Mapping[str, bool]:
        """The metrics it gives, known beforehand."""
        ...

    def look(self, checkpoint: str, step: int) -> Seen:
        """Called in every process with a checkpoint's folder, or the base's name at step 0.

        What the main process returns counts. Called again for the same checkpoint after a stop, it
        makes again only what is missing.
        """
        ...
