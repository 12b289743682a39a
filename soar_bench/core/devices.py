"""Choice of the device that the work runs on. Imports torch only where it has to be asked."""

from __future__ import annotations

from soar_bench.core.errors import SoarBenchError

#: The best device that is here.
AUTO = "auto"
_KINDS = ("cpu", "cuda", "mps", "xpu")


def choose(name: str) -> str:
    """Return the device of that name; of ``auto``: cuda, mps or cpu. SoarBenchError if it is not
    here.
    """
    if name == "cpu":
        return name
    import torch

    if name == AUTO:
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        if name.partition(":")[0] not in _KINDS:  # torch would list every backend that it ever had
            reason = "it is none of auto, cpu, cuda, cuda:1 and so on, mps, and xpu"
        raise SoarBenchError(f"the device {name!r} cannot be used here: {reason}") from None
    return name


def describe(name: str) -> str:
    """Return the device with the model of a GPU, for the record."""
    if not name.startswith("cuda"):
        return name
    import torch

    return f"{name.partition(':')[0]} ({torch.cuda.get_device_name(name)})"
