"""Reading published weight files safely and strictly.

A key too many or too few is an error: a model with a few random layers gives plausible numbers.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluators.types import EvaluatorError

if TYPE_CHECKING:
    import torch

_SHOWN = 3
#: Buffers that some versions of transformers stored: counted up from 0, so nothing is lost.
_COMPUTED = ("position_ids",)


def read_checkpoint(file: Path) -> Any:
    """What a ``.pt`` or ``.pth`` file holds: tensors, numbers, texts and containers, never code
    (``weights_only``). EvaluatorError if it is damaged or holds anything else.
    """
    import torch

    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError) as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise EvaluatorError(
            f"{file} cannot be read as weights ({reason}): fetch it again"
        ) from None


def read_safetensors(file: Path) -> dict[str, torch.Tensor]:
    """The tensors of a ``.safetensors`` file. EvaluatorError if it is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise EvaluatorError(
            f"{file} cannot be read as weights ({error}): fetch it again"
        ) from None


def load_strictly(
    model: torch.nn.Module, state: Mapping[str, torch.Tensor], file: Path, what: str
) -> None:
    """Puts a state dict into a model; EvaluatorError if any key or shape differs.

    ``what`` names the architecture in the error, for example ``PickScore's CLIP ViT-H/14``.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    given = {name: tuple(tensor.shape) for name, tensor in state.items()}
    computed = {name for name in wanted.keys() ^ given.keys() if name.endswith(_COMPUTED)}
    problems = [
        *_list("lacks", wanted.keys() - given.keys() - computed),
        *_list("has the unknown", given.keys() - wanted.keys() - computed),
        *_list(
            "has another shape for",
            (n for n in wanted.keys() & given.keys() if wanted[n] != given[n]),
        ),
    ]
    if problems:
        raise EvaluatorError(f"{file} holds no weights of {what}: it {'; it '.join(problems)}")
    model.load_state_dict(dict(state), strict=False)


def _list(verb: str, names: Iterable[str]) -> list[str]:
    found = sorted(names)
    if not found:
        return []
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return [f"{verb} {', '.join(found[:_SHOWN])}{more}"]
