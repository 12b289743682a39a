"""Read mmdet's checkpoints without mmdet and without running code (``weights_only``).

Numpy values and objects of the OpenMMLab libraries, such as the training's log, become empty
stand-ins.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from evaluators.loading import read_checkpoint
from evaluators.types import EvaluatorError

if TYPE_CHECKING:
    import torch

#: Modules whose objects are replaced; anything else that is not weights is refused.
_REPLACED = ("mmengine.", "mmcv.", "mmdet.", "numpy.")
#: Pickle's name of a method, for example of mmengine's log.
_REPLACED_NAMES = ("builtins.getattr",)


class _StandIn:
    """Stand-in for everything but weights; keeps nothing."""

    def __new__(cls, *_args: object, **_kwargs: object) -> _StandIn:
        return super().__new__(cls)

    def __init__(self, *_args: object, **_kwargs: object) -> None:
        return

    def __setstate__(self, _state: object) -> None:
        return


def read_mmdet_checkpoint(file: Path) -> dict[str, torch.Tensor]:
    """Return the weights in a ``.pth`` of mmdet 2 or 3, by its own keys.

    The file holds ``{"state_dict": ..., "meta": ...}`` or the weights alone. EvaluatorError if it
    is damaged, or holds objects of other libraries, or no weights.
    """
    from torch.serialization import safe_globals

    with safe_globals([(_StandIn, name) for name in _foreign_names(file)]):
        content = read_checkpoint(file)
    state = content.get("state_dict", content) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not state:
        raise EvaluatorError(f"{file} holds no weights of a detector: fetch it again")
    import torch

    odd = [key for key, value in state.items() if not isinstance(value, torch.Tensor)]
    if odd:
        raise EvaluatorError(
            f"{file} holds no weights of a detector: its {odd[0]!r} is no tensor; fetch it again"
        )
    return {str(key): value for key, value in state.items()}


def _foreign_names(file: Path) -> list[str]:
    """Return the classes in the file besides tensors and containers; EvaluatorError if unsafe."""
    from torch.serialization import get_unsafe_globals_in_checkpoint

    try:
        names: list[str] = get_unsafe_globals_in_checkpoint(file)
    except Exception:  # damaged, or of a form that has no names: reading it says what is wrong
        return []
    refused = sorted(n for n in names if not n.startswith(_REPLACED) and n not in _REPLACED_NAMES)
    if refused:
        raise EvaluatorError(
            f"{file} holds {', '.join(refused[:3])}, which may run code when it is read: fetch the "
            "official file again, or save its state_dict alone"
        )
    return names
