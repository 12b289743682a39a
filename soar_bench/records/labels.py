"""Names of checkpoints in lists: one for each, wherever it is listed. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Named(NamedTuple):
    """Fields that tell a checkpoint from others."""

    label: str
    digest: str
    #: step of its training; None for what was not trained here
    step: int | None


def told_apart(checkpoints: Sequence[Named]) -> list[str]:
    """Return the label of each, with its step, or else a part of its digest, where it stands for
    several checkpoints.
    """
    labels = [checkpoint.label for checkpoint in checkpoints]
    for suffix in (_step, _digest):
        digests: dict[str, set[str]] = {}
        for label, checkpoint in zip(labels, checkpoints, strict=True):
            digests.setdefault(label, set()).add(checkpoint.digest)
        labels = [
            label + suffix(checkpoint) if len(digests[label]) > 1 else label
            for label, checkpoint in zip(labels, checkpoints, strict=True)
        ]
    return labels


def of_seeds(labels: Sequence[str], training: str) -> str:
    """Return the name of the seeds of one training: the label that all have, which is that of a
    single one, or else the training's name.
    """
    return labels[0] if len(set(labels)) == 1 else training


def _step(checkpoint: Named) -> str:
    return "" if checkpoint.step is None else f", step {checkpoint.step}"


def _digest(checkpoint: Named) -> str:
    return f" ({checkpoint.digest[:6]})"
