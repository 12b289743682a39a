"""The noun checkpoint. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

#: Ends the name of a checkpoint that was a pipeline in memory.
IN_MEMORY = "(in memory)"


@dataclass(frozen=True)
class Checkpoint:
    """Weights to be judged."""

    #: short name for tables
    label: str
    #: as the user named it
    name: str
    #: what its weights are: ``pipeline``, ``transformer`` (or a UNet) or ``lora``
    form: str
    #: the diffusers pipeline it stands on; its own folder if it is one
    pipeline: Path
    #: identifies the weights that make the images, wherever they lie
    digest: str
    #: name and digest of the pipeline it stands on; None for a pipeline
    base: tuple[str, str] | None = None
    #: folder or single file of the transformer or adapter; None for a pipeline
    weights: Path | None = None
    #: commit of a hub repository; empty otherwise
    revision: str = ""
    #: the trainer's checkpoint.json; empty for everything else
    story: dict[str, Any] = field(default_factory=dict)
    #: checkpoint that an adapter was trained on; None: the pipeline itself
    before: Checkpoint | None = None
    #: :class:`soar_bench.checkpoints.in_memory.Loaded`, a pipeline in memory; None: to be loaded
    loaded: Any = None
    #: whether the user chose the label
    labelled: bool = False

    @property
    def root(self) -> tuple[str, str]:
        """Name and digest of the pipeline it stands on, or is."""
        return self.base or (self.name, self.digest)

    def named(self, label: str | None) -> Checkpoint:
        """Return the same under a label of the user's, if there is one."""
        return replace(self, label=label, labelled=True) if label else self
