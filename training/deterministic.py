"""Deterministic algorithms: the same bits from the same step on the same device, at a cost in time.

On GPUs several kernels, the backward pass of fused attention among them, add up in whatever order
their blocks finish.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from training.types import TrainingError

#: Read by cuBLAS when it is first used; with these values its products are reproducible.
WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
_REPRODUCIBLE = (":4096:8", ":16:8")


def check_deterministic(enabled: bool) -> None:
    """Fix cuBLAS's workspace where algorithms are to be deterministic, before a GPU is first used.

    TrainingError if the environment asks for one whose products are not reproducible.
    """
    if not enabled:
        return
    value = os.environ.setdefault(WORKSPACE, _REPRODUCIBLE[0])
    if value not in _REPRODUCIBLE:
        raise TrainingError(
            f"deterministic: with {WORKSPACE}={value} matrix products are not reproducible: "
            f"unset it, or set it to {' or '.join(_REPRODUCIBLE)}"
        )


@contextmanager
def where_possible() -> Iterator[None]:
    """Inside deterministic steps: let operations run that have no deterministic form.

    Those of a reward's models do not stop a training for that: torch warns of the first.
    """
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(before, warn_only=before)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)


@contextmanager
def deterministic(enabled: bool) -> Iterator[None]:
    """Use deterministic algorithms inside, and those of before again afterwards; if not enabled,
    change nothing.
    """
    if not enabled:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    memory: Any = torch.utils.deterministic
    fill = memory.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False  # it would choose kernels by their time
    # Filling memory before it is written costs time and changes no result.
    memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)
        torch.backends.cudnn.benchmark = benchmark
        memory.fill_uninitialized_memory = fill
