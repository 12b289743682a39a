"""Loading a pipeline's folder into memory, whole or in parts."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from soar_bench.pipelines.folder import Pipeline
from soar_bench.pipelines.models import MAY_LACK, load_errors, model_class, pipeline_class
from soar_bench.pipelines.weights import model_files


def load_pipeline(
    folder: Path,
    parts: Collection[str] | None = None,
    dtype: Any = None,
    vae_dtype: Any = None,
    components: Mapping[str, Any] | None = None,
    name: str = "",
) -> Any:
    """Load a pipeline on the CPU, in evaluation mode, without gradients, never from a hub.

    ``parts`` are the components to load, with None in the others' place; by default all.
    ``dtype`` is that of weights, by default float32, ``vae_dtype`` that of the autoencoder.
    ``components`` replace models of the folder. SD's safety checker and SDXL's watermark, which
    change finished images, are left out. SoarBenchError, with ``name``, if loading fails.
    """
    import torch

    pipeline = Pipeline(folder)
    # An absent component has to be called absent, or diffusers misses it.
    absent = [part for part, value in pipeline.index.items() if value == [None, None]]
    absent += [p for p in MAY_LACK.get(pipeline.class_name, ()) if p not in pipeline.components]
    loaded: dict[str, Any] = dict.fromkeys(absent)
    if parts is not None and _asks_for_width(pipeline, parts):
        parts = [*parts, "transformer"]
    dtype = dtype or torch.float32
    cls = pipeline_class(pipeline)
    with load_errors(name or f"the pipeline in {folder}"):
        for part in pipeline.components:
            if parts is not None and part not in parts:
                loaded[part] = None
            elif components and part in components:
                loaded[part] = components[part]
            elif part in pipeline.models():
                precision = vae_dtype if part == "vae" and vae_dtype else dtype
                loaded[part] = load_model(pipeline, part, folder / part, precision)
        loaded |= _without_afterwork(cls)
        assembled = cls.from_pretrained(folder, local_files_only=True, **loaded)
    assembled.set_progress_bar_config(disable=True)
    freeze(assembled)
    return assembled


def freeze(assembled: Any) -> None:
    """Put the models of a loaded pipeline into evaluation mode, without gradients."""
    import torch

    for component in assembled.components.values():
        if isinstance(component, torch.nn.Module):
            component.requires_grad_(False).eval()


def load_model(pipeline: Pipeline, component: str, folder: Path, dtype: Any) -> Any:
    """Load a model of the component's class from a folder."""
    variant = model_files(folder).variant or None
    return model_class(pipeline, component).from_pretrained(
        folder, variant=variant, dtype=dtype, local_files_only=True, use_safetensors=True
    )


def _asks_for_width(pipeline: Pipeline, parts: Collection[str]) -> bool:
    """Whether SD3 without a T5 encoder embeds text: its transformer says how wide a token is."""
    sd3 = pipeline.class_name == "StableDiffusion3Pipeline"
    alone = "text_encoder" in parts and "transformer" not in parts
    return sd3 and alone and "text_encoder_3" not in pipeline.components


def _without_afterwork(cls: Any) -> dict[str, Any]:
    """Arguments that leave out what changes finished images."""
    arguments = inspect.signature(cls.__init__).parameters
    without = {"safety_checker": None, "requires_safety_checker": False, "add_watermarker": False}
    return {name: value for name, value in without.items() if name in arguments}
