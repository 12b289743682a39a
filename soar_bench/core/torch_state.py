"""Global state of torch, and of what else draws numbers, kept for the caller."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


@contextmanager
def preserved_torch_state() -> Iterator[None]:
    """Give the block torch as a new process has it: float32, no autocast, no gradients.

    Afterwards it is as it was, and so are the states of all global generators of random numbers.
    """
    import torch

    cuda = torch.cuda.is_available()
    default = torch.get_default_dtype()
    numpy_state, python_state = np.random.get_state(), random.getstate()
    try:
        with (
            torch.random.fork_rng([torch.cuda.current_device()] if cuda else []),
            torch.autocast("cpu", enabled=False),
            torch.autocast("cuda" if cuda else "cpu", enabled=False),
            torch.no_grad(),
        ):
            torch.set_default_dtype(torch.float32)
            yield
    finally:
        torch.set_default_dtype(default)
        np.random.set_state(numpy_state)
        random.setstate(python_state)
