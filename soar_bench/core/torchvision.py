"""torchvision beside a torch that it was not built for.

The usual torchvision wheel is built for CUDA. Beside a CPU build of torch its import ends with
``operator torchvision::nms does not exist``, and with it the import of transformers' and diffusers'
models. Declaring the missing names lets the import through; ``torchvision.io`` and the operators
themselves stay broken. Call :func:`mend_torchvision` before importing such models.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from soar_bench.core.errors import SoarBenchError

_OPERATORS = ("nms", "qnms")
#: Declarations last as long as this object does.
_library: Any = None


def mend_torchvision() -> bool:
    """Make an installed torchvision importable, and return whether that took mending.

    SoarBenchError if it is broken in another way.
    """
    global _library
    if find_spec("torchvision") is None:
        return False
    try:
        import_module("torchvision")
        return _library is not None
    except (RuntimeError, ImportError, OSError) as error:
        if "does not exist" not in str(error) or _library is not None:
            raise SoarBenchError(
                f"the installed torchvision does not import ({str(error).splitlines()[0]}): "
                "uninstall it, or install the version and build that belong to this torch"
            ) from None
    import torch

    _library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for operator in _OPERATORS:
        _library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return mend_torchvision()
