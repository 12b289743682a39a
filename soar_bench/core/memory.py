"""How much fits: batches that are too large, batches found automatically, decoded images kept."""

from __future__ import annotations

#: Batch sizes tried automatically are powers of two up to this.
LARGEST_BATCH = 64
#: Where the memory of a device cannot be asked for.
USUAL_BATCH = 32
#: Share of free memory that an automatic batch may take: other processes and fragments need some.
_SHARE = 0.8


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the memory of the device or the machine did not suffice."""
    if isinstance(error, MemoryError):
        return True
    from accelerate.utils.memory import should_reduce_batch_size

    return isinstance(error, RuntimeError) and (
        should_reduce_batch_size(error) or "out of memory" in str(error)
    )


def release() -> None:
    """Gives unused memory back to the device."""
    import gc

    from accelerate.utils.memory import clear_device_cache

    gc.collect()
    clear_device_cache()


def fitting_batch(free: int, one: int) -> int:
    """The largest power of two of samples of ``one`` byte each that fits into ``free`` bytes."""
    fits = int(free * _SHARE) // max(one, 1)
    size = 1
    while size * 2 <= min(fits, LARGEST_BATCH):
        size *= 2
    return size


class Peak:
    """Measures on a GPU what one more sample takes: used around a batch of one."""

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
        """The batch size for what is free now, after a batch of one since :meth:`start`."""
        if not self.known:
            return USUAL_BATCH
        import torch

        held = torch.cuda.memory_allocated(self._device)
        one = torch.cuda.max_memory_allocated(self._device) - held
        free = torch.cuda.mem_get_info(self._device)[0]
        unused = torch.cuda.memory_reserved(self._device) - held
        return fitting_batch(free + unused, one)


def peak(device: str) -> int | None:
    """Bytes a GPU has held at most in this process; None for another device."""
    if not device.startswith("cuda"):
        return None
    import torch

    return int(torch.cuda.max_memory_allocated(device))


def image_budget(processes: int = 1) -> int:
    """Bytes of decoded images to keep between evaluators: a quarter of what is available now,
    divided among the processes of this machine.
    """
    import psutil

    return int(psutil.virtual_memory().available) // 4 // processes
