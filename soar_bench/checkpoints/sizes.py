"""How large a pipeline's images are. Reads its settings only."""

from __future__ import annotations

from typing import Any

from soar_bench.checkpoints.pipelines import Pipeline
from soar_bench.checkpoints.types import Checkpoint
from soar_bench.core.errors import SoarBenchError
from soar_bench.suites.types import Protocol

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


def image_size(checkpoint: Checkpoint, protocol: Protocol) -> int:
    """The side of the square images in pixels: the protocol's, or the pipeline's own default.

    SoarBenchError if the pipeline cannot make images of that size, or has no default.
    """
    pipeline = Pipeline(checkpoint.pipeline)
    name = pipeline.class_name
    denoiser = pipeline.config(pipeline.denoiser)
    scale = _vae_scale(pipeline.config("vae")) if "vae" in pipeline.models() else 1
    step, largest = scale, None
    if name in _PACKED:
        step = 2 * scale
    elif pipeline.denoiser == "transformer":
        patch = denoiser.get("patch_size", 1)
        step = scale * patch if isinstance(patch, int) else scale
        if name == "StableDiffusion3Pipeline":
            largest = step * int(denoiser.get("pos_embed_max_size", 96))
    side = protocol.resolution
    if side is None:
        sample = denoiser.get("sample_size") if name not in _PACKED else None
        sample = sample or _DEFAULT_LATENTS.get(name)
        if not isinstance(sample, int):
            raise SoarBenchError(
                f"{checkpoint.name} does not say how large its images are: name it with "
                "--resolution"
            )
        side = scale * sample
    if side < step or side % step or (largest is not None and side > largest):
        limit = f" up to {largest}" if largest is not None else ""
        raise SoarBenchError(
            f"{checkpoint.name} makes images whose side is a multiple of {step}{limit} pixels, not "
            f"{side}"
        )
    return side


def _vae_scale(config: dict[str, Any]) -> int:
    """Pixels a latent."""
    for key in ("block_out_channels", "encoder_block_out_channels"):
        if isinstance(config.get(key), list):
            return int(2 ** (len(config[key]) - 1))
    if isinstance(config.get("temperal_downsample"), list):
        return int(2 ** len(config["temperal_downsample"]))
    return 8
