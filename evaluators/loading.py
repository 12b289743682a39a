"""Read published weight files safely and strictly.

A key too many or too few is an error: a model with a few random layers gives plausible numbers.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluators.types import EvaluatorError
from soar_bench.core.text import first_few, parse_json

if TYPE_CHECKING:
    import torch

#: Buffers that some versions of transformers stored: counted up from 0, so nothing is lost.
_COMPUTED = ("position_ids",)


def read_config(file: Path, make: Callable[[Any], Any], what: str) -> Any:
    """Return what ``make`` makes of a ``config.json``. EvaluatorError if it is none of ``what``."""
    try:
        return make(parse_json(file.read_text("utf-8")))
    except (ValueError, TypeError, AttributeError) as error:
        raise EvaluatorError(f"{file} is no configuration of {what} ({error})") from None


def read_checkpoint(file: Path, *, mapped: bool = False) -> Any:
    """Return the tensors, numbers, texts and containers of a ``.pt`` or ``.pth`` file.

    No code is run (``weights_only``). ``mapped`` leaves values on the disk until they are used.
    EvaluatorError if it is damaged or holds anything else.
    """
    import torch

    mapped = mapped and zipfile.is_zipfile(file)  # the older format cannot be
    try:
        return torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # damaged bytes fail in any way
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        if isinstance(error, pickle.UnpicklingError):  # torch advises to run what it holds
            reason = "it is no file of tensors, or holds other objects beside them"
        raise EvaluatorError(
            f"{file} cannot be read as weights ({reason}): fetch it again"
        ) from None


def read_safetensors(file: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a ``.safetensors`` file. EvaluatorError if it is damaged."""
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
    """Put a state dict into a model; EvaluatorError if any key or shape differs.

    ``what`` names the architecture in the error, for example ``PickScore's CLIP ViT-H/14``.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    check_keys(shapes, state, _COMPUTED, file, what)
    model.load_state_dict(dict(state), strict=False)


def check_keys(
    shapes: Mapping[str, tuple[int, ...]],
    state: Mapping[str, torch.Tensor],
    optional: tuple[str, ...],
    file: Path,
    what: str,
    shown: int = 3,
) -> None:
    """Raise EvaluatorError unless ``state`` has exactly the keys and shapes of ``shapes``.

    Keys that end like one of ``optional`` may be missing or too many. The error shows up to
    ``shown`` keys of a kind.
    """
    differing = {key for key in shapes.keys() ^ state.keys() if not key.endswith(optional)}
    common = shapes.keys() & state.keys()
    misshapen = {k for k in common if tuple(state[k].shape) != shapes[k]}
    refuse_keys(file, what, differing & shapes.keys(), differing & state.keys(), misshapen, shown)


def refuse_keys(
    source: Path | str,
    what: str,
    missing: Collection[str],
    unknown: Collection[str],
    misshapen: Collection[str],
    shown: int = 3,
) -> None:
    """Raise EvaluatorError if there are such keys; of each kind it shows up to ``shown``."""
    kinds = {"lacks": missing, "has the unknown": unknown, "has another shape for": misshapen}
    faults = [f"{verb} {first_few(sorted(keys), shown)}" for verb, keys in kinds.items() if keys]
    if faults:
        raise EvaluatorError(f"{source} holds no weights of {what}: it {'; it '.join(faults)}")


def empty_model(make: Callable[[], torch.nn.Module]) -> Any:
    """Return the model that ``make`` builds, on the CPU, with memory for its weights and no values.

    Initial values would cost seconds, and loading replaces them all. Positions, which are in no
    file, are counted from 0.
    """
    import torch

    with torch.device("meta"):
        model = make()
    model.to_empty(device="cpu")
    for module in model.modules():
        ids = getattr(module, "position_ids", None)
        if isinstance(ids, torch.Tensor):
            module.position_ids = torch.arange(ids.shape[-1])[None]
    return model
