"""Image sizes that a pipeline can make. Reads its settings only."""

from __future__ import annotations

from typing import Any

from soar_bench.core.errors import SoarBenchError
from soar_bench.pipelines.folder import Pipeline

#: Pipelines that put two by two latents together before the transformer sees them.
_PACKED = ("FluxPipeline", "ChromaPipeline", "QwenImagePipeline")
#: Side of the default latents in pipelines whose settings do not say it.
_DEFAULT_LATENTS = {"StableDiffusion3Pipeline": 128, "StableDiffusionXLPipeline": 128}
_DEFAULT_LATENTS |= {"StableDiffusionPipeline": 64} | dict.fromkeys(_PACKED, 128)


def size_limits(pipeline: Pipeline) -> tuple[int, int | None]:
    """Return the pixels that an image's side is a multiple of, and the largest side or None."""
    name, scale = pipeline.class_name, _vae_scale(pipeline)
    if name in _PACKED:
        return 2 * scale, None
    if pipeline.denoiser != "transformer":
        return scale, None
    config = pipeline.config("transformer")
    patch = config.get("patch_size", 1)
    step = scale * patch if isinstance(patch, int) else scale
    sd3 = name == "StableDiffusion3Pipeline"
    return step, step * int(config.get("pos_embed_max_size", 96)) if sd3 else None


def image_size(pipeline: Pipeline, resolution: int | None, name: str) -> int:
    """Return the side of the square images in pixels: ``resolution``, or the pipeline's default.

    ``name`` stands for the pipeline in errors. SoarBenchError if the pipeline cannot make images of
    that size, or has no default.
    """
    side = _default_size(pipeline, name) if resolution is None else resolution
    step, largest = size_limits(pipeline)
    if side < step or side % step or (largest is not None and side > largest):
        limit = f" up to {largest}" if largest is not None else ""
        nearest = max(step, min(side, largest or side) // step * step)
        raise SoarBenchError(
            f"{name} makes images whose side is a multiple of {step}{limit} pixels, not {side}: "
            f"ask for a resolution of {nearest}"
        )
    return side


def _default_size(pipeline: Pipeline, name: str) -> int:
    latents = None
    if pipeline.class_name not in _PACKED:
        latents = pipeline.config(pipeline.denoiser).get("sample_size")
    latents = latents or _DEFAULT_LATENTS.get(pipeline.class_name)
    if not isinstance(latents, int):
        raise SoarBenchError(
            f"{name} does not say how large its images are: name it with --resolution"
        )
    return _vae_scale(pipeline) * latents


def _vae_scale(pipeline: Pipeline) -> int:
    """Pixels per latent along a side."""
    if "vae" not in pipeline.models():
        return 1
    config: dict[str, Any] = pipeline.config("vae")
    for key in ("block_out_channels", "encoder_block_out_channels"):
        if isinstance(config.get(key), list):
            return int(2 ** (len(config[key]) - 1))
    if isinstance(config.get("temperal_downsample"), list):
        return int(2 ** len(config["temperal_downsample"]))
    return 8
