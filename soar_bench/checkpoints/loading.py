"""From a checkpoint to a diffusers pipeline in memory, ready to make images."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from soar_bench.checkpoints.adapters import bring, read_adapter
from soar_bench.checkpoints.fit import one_file_folder
from soar_bench.checkpoints.single_file import converted, in_diffusers_names
from soar_bench.checkpoints.types import Checkpoint
from soar_bench.pipelines import Pipeline
from soar_bench.pipelines.loading import freeze, load_model, load_pipeline
from soar_bench.pipelines.models import load_errors, model_class, quieten


def load(
    checkpoint: Checkpoint, dtype: Any, vae_dtype: Any, parts: Collection[str] | None = None
) -> Any:
    """Load the checkpoint's pipeline, as :func:`soar_bench.pipelines.loading.load_pipeline`."""
    quieten()
    pipeline, components = Pipeline(checkpoint.pipeline), {}
    with_denoiser = parts is None or pipeline.denoiser in parts
    if with_denoiser and checkpoint.form == "transformer":
        with load_errors(checkpoint.name):
            components[pipeline.denoiser] = _denoiser(checkpoint, pipeline, dtype)
    elif with_denoiser and checkpoint.before:
        before = load_merged(checkpoint.before, (pipeline.denoiser,))
        components[pipeline.denoiser] = getattr(before, pipeline.denoiser).to(dtype)
    assembled = load_pipeline(
        checkpoint.pipeline, parts, dtype, vae_dtype, components, checkpoint.name
    )
    if with_denoiser and checkpoint.form == "lora":
        assert checkpoint.weights is not None
        bring(assembled, pipeline, checkpoint.weights, dtype)
        freeze(assembled)
    return assembled


def load_merged(checkpoint: Checkpoint, parts: Collection[str]) -> Any:
    """Load parts of a checkpoint's pipeline in float32, an adapter merged into its weights."""
    import torch

    assembled = load(checkpoint, torch.float32, None, parts)
    denoiser = Pipeline(checkpoint.pipeline).denoiser
    if checkpoint.form == "lora" and denoiser in parts:
        merged = getattr(assembled, denoiser)
        merged.fuse_lora()
        merged.unload_lora()
    return assembled


def changes_text(checkpoint: Checkpoint) -> bool:
    """Whether the checkpoint is an adapter with parts for text encoders."""
    if checkpoint.form != "lora" or checkpoint.weights is None or checkpoint.weights.is_dir():
        return False
    tensors = read_adapter(Pipeline(checkpoint.pipeline), checkpoint.weights)
    return any(name.startswith("text_encoder") for name in tensors)


def _denoiser(checkpoint: Checkpoint, pipeline: Pipeline, dtype: Any) -> Any:
    """Load the checkpoint's own transformer or unet."""
    weights = checkpoint.weights
    assert weights is not None
    if weights.is_dir():
        return load_model(pipeline, pipeline.denoiser, weights, dtype)
    if in_diffusers_names(pipeline, weights):
        with one_file_folder(pipeline, weights) as folder:
            return load_model(pipeline, pipeline.denoiser, folder, dtype)
    return model_class(pipeline, pipeline.denoiser).from_single_file(
        converted(pipeline, weights),
        config=str(pipeline.folder),
        subfolder=pipeline.denoiser,
        local_files_only=True,
        dtype=dtype,
    )
