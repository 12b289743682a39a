"""Images from a checkpoint: every planned sample as one lossless PNG in a folder of its own kind.

The folder's name is a digest of everything that decides the images (weights, settings, seed), a
file's name one of everything that decides the sample (prompt, index). So an image that is there is
the right one, whatever run made it, and a change of anything leads to another folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from evaluators.torchvision_import import mend_torchvision
from soar_bench.checkpoints import Checkpoint
from soar_bench.noise import initial_noise
from soar_bench.types import PlannedSample, Protocol, SoarBenchError, Suite, digest_of
from training.files import replace_atomically

#: Raised when this module would make other images from the same inputs.
VERSION = 1


def image_folder(cache: Path, checkpoint: Checkpoint, suite: Suite, protocol: Protocol) -> Path:
    kind = {
        "generator": VERSION,
        "checkpoint": checkpoint.digest,
        "protocol": protocol.settings(),
        "seed": suite.seed,
    }
    return cache / "images" / digest_of(kind)[:32]


def image_file(folder: Path, sample: PlannedSample) -> Path:
    # A digest rather than the id: ids come from files and could hold anything.
    key = digest_of([sample.prompt.id, sample.prompt.text, sample.index])
    return folder / f"{key[:32]}.png"


def read_image(file: Path) -> np.ndarray | None:
    """uint8 RGB [H, W, 3], or None if there is no whole image there."""
    try:
        with Image.open(file) as image:
            return np.asarray(image.convert("RGB"))
    except PermissionError:
        raise SoarBenchError(f"{file} may not be read: change its permissions") from None
    except (UnidentifiedImageError, OSError, SyntaxError):  # absent, cut off or not a PNG
        return None


def digest_image(image: np.ndarray) -> str:
    """SHA-256 of the pixels, independent of the file format."""
    return hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()


def missing(folder: Path, samples: Sequence[PlannedSample]) -> list[PlannedSample]:
    """Samples without a whole image."""
    return [s for s in samples if read_image(image_file(folder, s)) is None]


def load_checkpoint(checkpoint: Checkpoint, protocol: Protocol, device: str) -> Any:
    """The pipeline with the checkpoint's transformer in it, ready to sample on a device."""
    import torch

    mend_torchvision()
    from diffusers import SD3Transformer2DModel

    from training.pipeline import load_pipeline

    dtype = getattr(torch, protocol.dtype)
    pipeline = load_pipeline(checkpoint.pipeline, dtype)
    if checkpoint.transformer is not None:
        transformer = SD3Transformer2DModel.from_pretrained(
            checkpoint.transformer, dtype=dtype, local_files_only=True, use_safetensors=True
        )
        here, there = transformer.config, pipeline.transformer.config
        different = [
            key
            for key, value in there.items()
            if not key.startswith("_") and here.get(key) != value
        ]
        if different:
            raise SoarBenchError(
                f"{checkpoint.transformer} does not fit its base {checkpoint.pipeline}: "
                f"{', '.join(f'{k} is {here.get(k)}, not {there[k]}' for k in different)}"
            )
        pipeline.transformer = transformer.eval()
    return pipeline.to(device)


def generate(
    checkpoint: Checkpoint,
    suite: Suite,
    protocol: Protocol,
    samples: Sequence[PlannedSample],
    folder: Path,
    *,
    batch_size: int = 32,
    device: str = "cpu",
    observe: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Makes the images of ``samples`` in ``folder``; a file appears whole or not at all."""
    if not samples:
        return
    import torch

    pipeline = load_checkpoint(checkpoint, protocol, device)
    embeds = _embed(pipeline, [s.prompt.text for s in samples], protocol, batch_size)
    config = pipeline.transformer.config
    side = protocol.resolution // pipeline.vae_scale_factor
    for start in range(0, len(samples), batch_size):
        batch = samples[start : start + batch_size]
        noise = np.stack(
            [
                initial_noise(suite.seed, s.prompt.id, s.index, (config.in_channels, side, side))
                for s in batch
            ]
        )
        prompt, pooled = (
            torch.stack(e) for e in zip(*(embeds[s.prompt.text] for s in batch), strict=True)
        )
        empty, empty_pooled = (e.expand(len(batch), *e.shape) for e in embeds[""])
        with torch.inference_mode():
            images = pipeline(
                prompt_embeds=prompt,
                pooled_prompt_embeds=pooled,
                negative_prompt_embeds=empty,
                negative_pooled_prompt_embeds=empty_pooled,
                latents=torch.from_numpy(noise).to(device, pipeline.transformer.dtype),
                num_inference_steps=protocol.steps,
                guidance_scale=protocol.guidance,
                height=protocol.resolution,
                width=protocol.resolution,
                output_type="np",
            ).images
        if not np.isfinite(images).all():
            raise SoarBenchError(
                f"{checkpoint.name} made images that are not numbers: its weights are damaged or "
                f"{protocol.dtype} is too narrow for them"
            )
        for sample, image in zip(batch, np.rint(images * 255).astype(np.uint8), strict=True):
            with replace_atomically(image_file(folder, sample)) as aside:
                Image.fromarray(image).save(aside, format="PNG")
        observe(start + len(batch), len(samples))


def _embed(pipeline: Any, texts: list[str], protocol: Protocol, batch_size: int) -> dict[str, Any]:
    """Token and pooled embeddings of each distinct text and of the empty one."""
    from training.pipeline import encode_prompts

    distinct = [*dict.fromkeys(texts), ""]
    embeds = {}
    for start in range(0, len(distinct), batch_size):
        batch = distinct[start : start + batch_size]
        tokens, pooled = encode_prompts(pipeline, batch, protocol.max_sequence_length)
        dtype = pipeline.transformer.dtype
        for text, one, two in zip(batch, tokens.to(dtype), pooled.to(dtype), strict=True):
            embeds[text] = (one, two)
    return embeds
