"""Memory: errors of batches that are too large, automatic batch sizes, images kept decoded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from soar_bench.core.errors import SoarBenchError

_UNITS = {"GIB": 2**30, "GB": 10**9, "MIB": 2**20, "MB": 10**6}
#: Batch sizes tried automatically are powers of two up to this.
LARGEST_BATCH = 64
#: Where the memory of a device cannot be asked for.
USUAL_BATCH = 32
#: Share of free memory that an automatic batch may take: other processes and fragments need some.
_SHARE = 0.8
_PROCESS = Path("/proc/self")


def byte_size(option: str, text: str) -> int:
    """Return the bytes of a size with its unit, such as ``80GiB``; SoarBenchError if it is none."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([GM]i?B)", text.strip(), re.IGNORECASE)
    size = float(match[1]) * _UNITS[match[2].upper()] if match else 0
    if not 0 < size < 2**60:
        raise SoarBenchError(
            f"{option} takes a size with its unit, such as 80GiB, 80GB or 24000MiB, not {text!r}"
        )
    return int(size)


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that the memory of the device or machine did not suffice."""
    if isinstance(error, MemoryError):
        return True
    from accelerate.utils.memory import should_reduce_batch_size

    return isinstance(error, RuntimeError) and (
        should_reduce_batch_size(error) or "out of memory" in str(error)
    )


def release() -> None:
    """Give unused memory back to the device."""
    import gc

    from accelerate.utils.memory import clear_device_cache

    gc.collect()
    clear_device_cache()


def fitting_batch(free: int, sample: int) -> int:
    """Return the largest power of two of samples, ``sample`` bytes each, that fits into ``free``
    bytes; at least 1.
    """
    fits = max(1, min(int(free * _SHARE) // max(sample, 1), LARGEST_BATCH))
    return 1 << fits.bit_length() - 1


class Peak:
    """Memory of a GPU that one more sample takes, measured around a batch of one."""

    def __init__(self, device: str) -> None:
        import torch

        self._device = torch.device(device)

    @property
    def known(self) -> bool:
        return self._device.type == "cuda"

    def start(self) -> None:
        if self.known:
            import torch

            torch.cuda.reset_peak_memory_stats(self._device)

    def batch(self) -> int:
        """Return the batch size for what is free now, after a batch of one since :meth:`start`."""
        if not self.known:
            return USUAL_BATCH
        import torch

        held = torch.cuda.memory_allocated(self._device)
        sample = torch.cuda.max_memory_allocated(self._device) - held
        free = torch.cuda.mem_get_info(self._device)[0]
        unused = torch.cuda.memory_reserved(self._device) - held
        return fitting_batch(free + unused, sample)


class Watch:
    """Most memory that is held from now on: of a GPU, and of this process on Linux.

    A new watch ends those before it.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        if device.startswith("cuda"):
            import torch

            torch.cuda.reset_peak_memory_stats(device)
        self._marked = False
        with suppress(OSError):  # 5 resets the high-water mark of the resident set: man 5 proc
            _PROCESS.joinpath("clear_refs").write_text("5")
            self._marked = True

    def peaks(self) -> dict[str, int]:
        """Return bytes of the ``gpu`` and the ``process``, as far as they can be known."""
        known = {"gpu": self._gpu(), "process": self._resident() if self._marked else None}
        return {name: held for name, held in known.items() if held is not None}

    def _gpu(self) -> int | None:
        if not self._device.startswith("cuda"):
            return None
        import torch

        return int(torch.cuda.max_memory_allocated(self._device))

    def _resident(self) -> int | None:
        with suppress(OSError):
            mark = re.search(r"^VmHWM:\s*(\d+) kB", _PROCESS.joinpath("status").read_text(), re.M)
            return int(mark[1]) * 1024 if mark else None
        return None


def largest_of(peaks: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Return the largest of each kind."""
    most: dict[str, int] = {}
    for each in peaks:
        most |= {name: max(held, most.get(name, 0)) for name, held in each.items()}
    return most


def image_budget(processes: int = 1) -> int:
    """Return how many bytes of decoded images to keep between evaluators: a quarter of the memory
    available now, divided among the processes of this machine.
    """
    import psutil

    return int(psutil.virtual_memory().available) // 4 // processes
