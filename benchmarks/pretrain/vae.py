"""The base's autoencoder: 64x64 RGB to 16x16 latents of four channels.

Its posterior has one fixed width instead of a learned one. With a KL term the encoder let half of
its channels collapse and hid colours in small differences of the rest, so that latents a little
off decoded to objects of two colours. A fixed width under unit variance makes it spread what it
knows over all channels, as far apart as the noise is wide, and teaches the decoder to put up with
that much error, which is what a denoiser's latents have.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

from benchmarks.pretrain.fit import FitConfig, Report, fit, silent
from soar_bench.shapes.render import render
from soar_bench.shapes.world import BROAD, example

#: standard deviation of the posterior, in units of the latents' own
POSTERIOR_WIDTH = 0.35


def pictures(seed: int, start: int, count: int) -> torch.Tensor:
    """Broad pictures from number ``start`` on: float32 [count, 3, 64, 64] in [-1, 1]."""
    batch = np.stack([render(example(BROAD, seed, i).scene) for i in range(start, start + count)])
    return torch.from_numpy(batch).permute(0, 3, 1, 2).float() / 127.5 - 1


def build(seed: int) -> AutoencoderKL:
    torch.manual_seed(seed)
    channels = (16, 32, 64)
    vae = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        block_out_channels=channels,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        mid_block_add_attention=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
        sample_size=64,
        scaling_factor=1.0,
        shift_factor=0.0,
    )
    # The second half of the encoder's output is the posterior's log variance: a constant.
    last = vae.encoder.conv_out
    width = vae.config.latent_channels
    with torch.no_grad():
        last.weight[width:] = 0
        last.bias[width:] = 2 * math.log(POSTERIOR_WIDTH)
    for parameter in (last.weight, last.bias):
        parameter.register_hook(lambda gradient: _without_second_half(gradient, width))
    return vae


def _without_second_half(gradient: torch.Tensor, width: int) -> torch.Tensor:
    kept = gradient.clone()
    kept[width:] = 0
    return kept


def _edges(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return image.diff(dim=-1), image.diff(dim=-2)


def train(folder: Path, config: FitConfig, report: Report = silent) -> AutoencoderKL:
    """Trains the autoencoder on broad pictures and sets its latents' shift and scale."""
    vae = build(config.seed)

    def loss_of_step(module: AutoencoderKL, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        x = pictures(config.seed, step * config.batch_size, config.batch_size)
        with torch.autocast("cpu", torch.bfloat16):
            posterior = module.encode(x).latent_dist
            y = module.decode(posterior.sample()).sample.float()
        pixel = (y - x).abs().mean() + 2 * (y - x).square().mean()
        # Flat colours with sharp borders: what the eye and the detector need is the borders.
        edge = sum((a - b).abs().mean() for a, b in zip(_edges(y), _edges(x), strict=True))
        # Unit variance at most, by channel: without a bound the encoder would outgrow the noise.
        spread = posterior.mean.float().std(dim=(0, 2, 3))
        bound = (spread - 1).clamp(min=0).square().sum()
        loss = pixel + edge + bound
        return loss, {"pixel": pixel.item(), "edge": float(edge), "spread": spread.mean().item()}

    fit(vae, loss_of_step, config, folder, report)
    with torch.no_grad():
        z = torch.cat(
            [
                vae.encode(pictures(config.seed + 1, i, 64)).latent_dist.mode()
                for i in range(0, 1024, 64)
            ]
        )
    vae.register_to_config(shift_factor=z.mean().item(), scaling_factor=1 / z.std().item())
    return vae
