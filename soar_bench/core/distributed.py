"""Several processes at one evaluation, as ``torchrun`` and ``accelerate launch`` start them.

They share a file system. Their messages are small (which samples, which scores), so they go over
gloo, which never shares an accelerator with the work, also while the processes train over NCCL.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

from soar_bench.core.errors import SoarBenchError

T = TypeVar("T")

#: A process waits this long for the others; one that fails makes the launcher end them all.
_PATIENCE = timedelta(days=14)


@dataclass(frozen=True)
class Group:
    """The processes of one command; by default one alone."""

    rank: int = 0
    size: int = 1
    #: number among the processes of this machine: which of its devices to use
    local_rank: int = 0
    #: processes on this machine, which share its memory
    local_size: int = 1
    #: the torch process group that :func:`join` made to talk over; None: one that was there
    channel: Any = None

    @property
    def main(self) -> bool:
        """Whether this process speaks for all: it plans, shows progress and writes the record."""
        return self.rank == 0

    def mine(self, items: Sequence[T]) -> list[T]:
        """Return this process's part: every item goes to exactly one process, without padding."""
        return list(items[self.rank :: self.size])

    def share(self, value: T) -> T:
        """Return the main process's value, in every process."""
        if self.size == 1:
            return value
        import torch.distributed as dist

        values = [value]
        dist.broadcast_object_list(values, src=0, group=self.channel)
        return values[0]

    def gather(self, value: T) -> list[T]:
        """Return every process's value, by rank, in every process. Waits for all of them."""
        if self.size == 1:
            return [value]
        import torch.distributed as dist

        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.channel)
        return values

    def device(self, name: str) -> str:
        """Return the device of this process: cuda becomes one GPU per process."""
        return f"cuda:{self.local_rank}" if name == "cuda" and self.size > 1 else name


ALONE = Group()


class Counter:
    """Work that all processes have done together. Each of them makes it, at the same moment."""

    def __init__(self, group: Group) -> None:
        self._key = group.share(f"soar-bench {secrets.token_hex(8)}")
        self._alone, self._done = group.size == 1, 0

    def add(self, amount: int) -> int:
        """Count work of this process; return that of all so far. Waits for none of them."""
        if self._alone:
            self._done += amount
            return self._done
        from torch.distributed.distributed_c10d import _get_default_store

        return int(_get_default_store().add(self._key, amount))


def described() -> Group:
    """Return the group that a launcher's environment describes; one process where there is none."""
    size = _number("WORLD_SIZE", 1)
    if size == 1:
        return ALONE
    needed = ("RANK", "MASTER_ADDR", "MASTER_PORT")
    if lacking := [name for name in needed if name not in os.environ]:
        raise SoarBenchError(
            f"the environment has WORLD_SIZE={size} but no {' and no '.join(lacking)}: start with "
            "torchrun, which sets them all, or unset WORLD_SIZE"
        )
    if (rank := _number("RANK", 0)) >= size:
        raise SoarBenchError(
            f"the environment has RANK={rank} of WORLD_SIZE={size}: ranks count from 0; start with "
            "torchrun, which sets both"
        )
    return Group(rank, size, _number("LOCAL_RANK", 0), _number("LOCAL_WORLD_SIZE", 1))


def join() -> Group:
    """Return the described group, connected. All processes have to call this.

    A default group of torch's that is there already, as in training, is used if it is gloo's;
    beside one of another kind (NCCL's) a gloo group is made.
    """
    group = described()
    if group.size == 1:
        return group
    import torch.distributed as dist

    if not dist.is_initialized():
        dist.init_process_group("gloo", timeout=_PATIENCE)
        return replace(group, channel=dist.group.WORLD)
    if dist.get_backend() == "gloo":
        return group
    return replace(group, channel=dist.new_group(backend="gloo", timeout=_PATIENCE))


def leave(group: Group) -> None:
    """End the group that :func:`join` made; one that was there before stays."""
    if group.channel is not None:
        import torch.distributed as dist

        if dist.is_initialized():
            dist.destroy_process_group(group.channel)


def _number(variable: str, default: int) -> int:
    text = os.environ.get(variable, str(default))
    if not text.isdecimal():
        raise SoarBenchError(f"the environment has {variable}={text!r}, which is no number")
    return int(text)
