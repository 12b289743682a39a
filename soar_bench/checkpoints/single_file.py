"""A transformer or UNet in one safetensors file, in diffusers' names or in the original ones.

Original files may hold a whole pipeline; only the denoiser is taken out of them.
"""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import Any

from soar_bench.core.errors import SoarBenchError
from soar_bench.core.text import first_few
from soar_bench.pipelines.folder import Pipeline, plain
from soar_bench.pipelines.models import empty_model, model_class, shapes_of
from soar_bench.pipelines.weights import check_stored, read_header

#: What original checkpoints call the denoiser among their parts.
_ORIGINAL = "model.diffusion_model."
#: Begin the names of tensors in other parts of a pipeline.
_OTHERS = {
    **dict.fromkeys(("encoder.conv_in.", "decoder.conv_in.", "first_stage_model."), "a VAE"),
    **dict.fromkeys(("text_model.", "shared.weight", "encoder.block.0."), "a text encoder"),
    **dict.fromkeys(("controlnet_", "control_model."), "a ControlNet"),
}


def in_diffusers_names(pipeline: Pipeline, file: Path) -> bool:
    """Whether most of the denoiser's tensors are there under their diffusers names."""
    expected = set(shapes_of(empty_model(pipeline, pipeline.denoiser)))
    return 2 * len(expected & set(read_header(file).shapes)) > len(expected)


def converted_shapes(pipeline: Pipeline, file: Path) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of an original file's denoiser once converted; reads its header."""
    import torch

    header = read_header(file)
    names = _denoiser_names(header.shapes)
    for name in names:
        if part := next((part for start, part in _OTHERS.items() if name.startswith(start)), ""):
            raise SoarBenchError(
                f"{file} is {part} and no {pipeline.denoiser} ({name}): put it into the folder of "
                "a whole pipeline, and evaluate that"
            )
    check_stored(header, file, names)
    empty = {name: torch.empty(header.shapes[name], device="meta") for name in names}
    shapes = {name: tuple(t.shape) for name, t in _convert(pipeline, file, empty).items()}
    # Tensors are renamed, cut and joined, and none is lost: the number of values stays.
    if sum(map(math.prod, shapes.values())) != sum(t.numel() for t in empty.values()):
        surplus = [name for name in names if _is_surplus(pipeline, file, empty, name)]
        raise SoarBenchError(
            f"{file} has tensors that have no place in {pipeline.folder}: {first_few(surplus)}"
        )
    return shapes


def _is_surplus(pipeline: Pipeline, file: Path, tensors: dict[str, Any], name: str) -> bool:
    """Whether the denoiser is the same without a tensor."""
    try:
        rest = _convert(pipeline, file, {k: v for k, v in tensors.items() if k != name})
    except SoarBenchError:
        return False
    return rest.keys() == _convert(pipeline, file, tensors).keys()


def converted(pipeline: Pipeline, file: Path) -> dict[str, Any]:
    """Return the denoiser's tensors of an original file, under diffusers' names."""
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        tensors = {name: opened.get_tensor(name) for name in _denoiser_names(opened.keys())}
    return _convert(pipeline, file, tensors)


def _denoiser_names(names: Any) -> list[str]:
    """Return the names of the denoiser's tensors, where a file holds other parts as well."""
    names = sorted(names)
    return [name for name in names if name.startswith(_ORIGINAL)] or names


def _convert(pipeline: Pipeline, file: Path, tensors: dict[str, Any]) -> dict[str, Any]:
    """Rename tensors with diffusers' own table for the class."""
    loaders = importlib.import_module("diffusers.loaders.single_file_model")
    cls = model_class(pipeline, pipeline.denoiser)
    name = loaders._get_single_file_loadable_mapping_class(cls)
    if name is None:
        raise SoarBenchError(
            f"{file} is not a {cls.__name__} in diffusers' names, and diffusers cannot convert "
            "other names for that class: convert it to a diffusers folder"
        )
    rename = loaders.SINGLE_FILE_LOADABLE_CLASSES[name]["checkpoint_mapping_fn"]
    config = plain(pipeline.config(pipeline.denoiser))
    try:
        renamed = rename(config=config, checkpoint=dict(tensors))
    except (KeyError, IndexError, ValueError, RuntimeError, TypeError, AttributeError) as error:
        lack = f" (it lacks {error.args[0]})" if isinstance(error, KeyError) else ""
        raise SoarBenchError(
            f"{file} is not the {cls.__name__} of {pipeline.folder}, neither in diffusers' names "
            f"nor in the original ones{lack}: name the base it was trained from with --base"
        ) from None
    return dict(renamed)
