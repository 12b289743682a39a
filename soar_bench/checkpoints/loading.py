"""From a checkpoint to a diffusers pipeline in memory, ready to make images."""

from __future__ import annotations

import inspect
from collections.abc import Collection
from pathlib import Path
from typing import Any

from soar_bench.checkpoints.adapters import bring, read_adapter
from soar_bench.checkpoints.fit import OneFileFolder, model_class, pipeline_class
from soar_bench.checkpoints.pipelines import Pipeline
from soar_bench.checkpoints.single_file import converted, in_diffusers_names
from soar_bench.checkpoints.types import Checkpoint
from soar_bench.checkpoints.weights import model_files
from soar_bench.core.errors import SoarBenchError


def load(
    checkpoint: Checkpoint,
    dtype: Any,
    vae_dtype: Any,
    parts: Collection[str] | None = None,
) -> Any:
    """The checkpoint's pipeline on the CPU, in evaluation mode, without gradients.

    ``parts`` are the components to load, with None in the others' place; by default all. SD's
    safety checker and SDXL's watermark are left out: they change finished images.
    """
    import torch
    from safetensors import SafetensorError

    from training.pipeline import quieten

    quieten()
    pipeline = Pipeline(checkpoint.pipeline)
    found = pipeline_class(pipeline)
    loaded: dict[str, Any] = {}
    try:
        for name in pipeline.components:
            if parts is not None and name not in parts:
                loaded[name] = None
            elif name in pipeline.models():
                precision = vae_dtype if name == "vae" else dtype
                if name == pipeline.denoiser and checkpoint.form == "transformer":
                    loaded[name] = _denoiser(checkpoint, pipeline, precision)
                else:
                    loaded[name] = _model(pipeline, name, pipeline.folder / name, precision)
        assembled = found.from_pretrained(
            pipeline.folder, local_files_only=True, **loaded, **_without_afterwork(found, pipeline)
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        reason = " ".join(str(error).split())[:300]
        raise SoarBenchError(f"{checkpoint.name} cannot be loaded: {reason}") from None
    if checkpoint.form == "lora" and loaded.get(pipeline.denoiser) is not None:
        assert checkpoint.weights is not None
        bring(assembled, pipeline, checkpoint.weights, dtype)
    assembled.set_progress_bar_config(disable=True)
    for component in assembled.components.values():
        if isinstance(component, torch.nn.Module):
            component.requires_grad_(False).eval()
    return assembled


def changes_text(checkpoint: Checkpoint) -> bool:
    """Whether the checkpoint is an adapter with parts for text encoders."""
    if checkpoint.form != "lora" or checkpoint.weights is None or checkpoint.weights.is_dir():
        return False
    tensors = read_adapter(Pipeline(checkpoint.pipeline), checkpoint.weights)
    return any(name.startswith("text_encoder") for name in tensors)


def _without_afterwork(found: Any, pipeline: Pipeline) -> dict[str, Any]:
    """Arguments that leave out what changes finished images."""
    asked = inspect.signature(found.__init__).parameters
    without = {
        "safety_checker": None,
        "requires_safety_checker": False,
        "add_watermarker": False,
    }
    return {name: value for name, value in without.items() if name in asked}


def _model(pipeline: Pipeline, component: str, folder: Path, dtype: Any) -> Any:
    return model_class(pipeline, component).from_pretrained(
        folder,
        variant=model_files(folder).variant or None,
        dtype=dtype,
        local_files_only=True,
        use_safetensors=True,
    )


def _denoiser(checkpoint: Checkpoint, pipeline: Pipeline, dtype: Any) -> Any:
    """The checkpoint's own transformer or unet."""
    weights = checkpoint.weights
    assert weights is not None
    if weights.is_dir():
        return _model(pipeline, pipeline.denoiser, weights, dtype)
    if in_diffusers_names(pipeline, weights):
        with OneFileFolder(pipeline, weights) as folder:
            return _model(pipeline, pipeline.denoiser, folder, dtype)
    return model_class(pipeline, pipeline.denoiser).from_single_file(
        converted(pipeline, weights),
        config=str(pipeline.folder),
        subfolder=pipeline.denoiser,
        local_files_only=True,
        dtype=dtype,
    )
