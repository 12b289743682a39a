"""Image sizes that a pipeline can make. Reads its settings only."""

from __future__ import annotations

from typing import Any

from soar_bench.core.errors import SoarBenchError
from soar_bench.pipelines.folder import Pipeline

#: Side of the default latents in pipelines whose settings do not say it.
_DEFAULT_LATENTS = {
    "FluxPipeline": 128,
    "ChromaPipeline": 128,
    "QwenImagePipeline": 128,
    "StableDiffusion3Pipeline": 128,
    "StableDiffusionXLPipeline": 128,
    "StableDiffusionPipeline": 64,
}
#: Pipelines that put two by two latents together before the transformer sees them.
_PACKED = ("FluxPipeline", "ChromaPipeline", "QwenImagePipeline")


def size_limits(pipeline: Pipeline) -> tuple[int, int | None]:
    """Return the pixels that a square image's side is a multiple of, and the largest side.

    The largest is None where the settings set no limit.
    """
    name, scale = pipeline.class_name, _vae_scale(pipeline)
    if name in _PACKED:
        return 2 * scale, None
    if pipeline.denoiser != "transformer":
        return scale, None
    config = pipeline.config("transformer")
    patch = config.get("patch_size", 1)
    step = scale * patch if isinstance(patch, int) else scale
    if name == "StableDiffusion3Pipeline":
        return step, step * int(config.get("pos_embed_max_size", 96))
    return step, None


def image_size(pipeline: Pipeline, resolution: int | None, name: str) -> int:
    """Return the side of the square images in pixels: ``resolution``, or the pipeline's default.

    ``name`` stands for the pipeline in errors. SoarBenchError if the pipeline cannot make images of
    that size, or has no default.
    """
    step, largest = size_limits(pipeline)
    side = resolution
    if side is None:
        class_name = pipeline.class_name
        sample = None
        if class_name not in _PACKED:
            sample = pipeline.config(pipeline.denoiser).get("sample_size")
        sample = sample or _DEFAULT_LATENTS.get(class_name)
        if not isinstance(sample, int):
            raise SoarBenchError(
                f"{name} does not say how large its images are: name it with --resolution"
            )
        side = _vae_scale(pipeline) * sample
    if side < step or side % step or (largest is not None and side > largest):
        limit = f" up to {largest}" if largest is not None else ""
        raise SoarBenchError(
            f"{name} makes images whose side is a multiple of {step}{limit} pixels, not {side}"
        )
    return side


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
