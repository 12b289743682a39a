"""Global state of torch, and of what else draws numbers, kept for the caller."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np


@contextmanager
def preserved_torch_state(device: str = "", gradients: bool = False) -> Iterator[None]:
    """Give the block torch as a new process has it (float32, the CPU by default, no autocast, no
    inference mode), with or without ``gradients``. ``device`` is where the block works: unless
    named, the current GPU if there is one.

    Afterwards all is as it was, also the states of all global generators of random numbers.
    """
    import torch

    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    with ExitStack() as stack:
        stack.callback(torch.set_default_dtype, torch.get_default_dtype())
        stack.callback(np.random.set_state, np.random.get_state())
        stack.callback(random.setstate, random.getstate())
        stack.enter_context(torch.random.fork_rng([place] if place.type == "cuda" else []))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.set_grad_enabled(gradients))
        for kind in {"cpu", place.type}:
            stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        torch.set_default_dtype(torch.float32)
        yield
