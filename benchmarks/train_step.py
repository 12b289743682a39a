"""Time and memory of a SOAR step, against the straightforward implementation of the same loss.

    python benchmarks/train_step.py                          # the embedded world, on this machine
    python benchmarks/train_step.py --sd35m --device cuda    # SD3.5-Medium's shape, random weights

The straightforward step encodes its pictures and captions, keeps the rollout's graph, asks for both
halves of the guided velocity, takes the auxiliary points one at a time and runs one backward pass
at the end. Each runs in a process of its own, on the same pictures, noise and levels; the loss and
the gradient's norm of the first step are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: dense bf16 operations a second, by a part of the device's name (the makers' data sheets)
PEAK = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "4090": 165e12}


@dataclass
class Work:
    """What both implementations train on, and how."""

    pipeline: Any
    images: Any  # uint8 [B, H, W, 3]
    captions: list[str]
    length: int
    settings: Any
    parallel: Any
    model: Any
    optimizer: Any

    def draws(self, step: int, shape: Any) -> Any:
        import torch

        from training.objectives import Draws, draw_paths, draw_time
        from training.types import NoiseLevels

        generator = torch.Generator().manual_seed(step)
        z1 = torch.randn(shape, generator=generator)
        t0 = draw_time(len(z1), NoiseLevels(), generator)
        return Draws(z1, t0, *draw_paths(z1, self.settings, generator)).to(self.parallel.device)


def straightforward(work: Work) -> Callable[[int], tuple[float, float]]:
    """A step as one would write it from the paper; gives the loss and the gradient's norm."""
    import torch

    from training.encoders import encode_images, encode_prompts
    from training.objectives import shift_sigma

    soar, shift = work.settings, work.pipeline.scheduler.config.shift
    device = work.parallel.device
    work.pipeline.vae.to(device)
    for name in ("text_encoder", "text_encoder_2", "text_encoder_3"):
        getattr(work.pipeline, name).to(device)
    empty = [e.to(device) for e in encode_prompts(work.pipeline, [""], work.length)]

    def wide(x: Any) -> Any:
        return x[:, None, None, None]

    def mean_square(x: Any) -> Any:
        return x.square().mean((1, 2, 3)).sum()

    def step(number: int) -> tuple[float, float]:
        z0 = encode_images(work.pipeline, work.images).to(device)
        texts = [e.to(device) for e in encode_prompts(work.pipeline, work.captions, work.length)]
        draws = work.draws(number, z0.shape)
        z1, count = draws.z1, len(z0)

        def velocity(z: Any, sigma: Any, embeds: Any) -> Any:
            return work.model(
                hidden_states=z,
                timestep=sigma * 1000,
                encoder_hidden_states=embeds[0],
                pooled_projections=embeds[1],
                return_dict=False,
            )[0].float()

        s0 = shift_sigma(draws.t0, shift)
        z = (1 - wide(s0)) * z0 + wide(s0) * z1
        loss = mean_square(velocity(z, s0, texts) - (z1 - z0))
        both = [
            torch.cat([e.expand(count, *e.shape[1:]), t]) for e, t in zip(empty, texts, strict=True)
        ]
        without, caption = velocity(z.repeat(2, 1, 1, 1), s0.repeat(2), both).chunk(2)
        rollout = without + soar.guidance * (caption - without)
        s1 = shift_sigma((draws.t0 - 1 / soar.rollout_steps).clamp(min=0), shift)
        off = z + wide(s1 - s0) * rollout.detach()
        for fraction in draws.fractions[0]:
            s = s1 + (1 - s1) * fraction
            a = wide((s - s1) / (1 - s1))
            state = (1 - a) * off + a * z1
            target = (state - z0) / wide(s)
            loss = loss + soar.weight * mean_square(velocity(state, s, texts) - target)
        loss = loss / (count + soar.weight * soar.points * count)
        work.optimizer.zero_grad()
        loss.backward()
        norm = work.parallel.clip(work.model.parameters(), 1.0)
        work.optimizer.step()
        return loss.item(), float(norm)

    return step


def ours(work: Work) -> Callable[[int], tuple[float, float]]:
    """The loop's own step, on encodings made before it."""
    import torch

    from training.encoders import encode_images, encode_prompts
    from training.method import add_gradients
    from training.off_policy import SoarObjective
    from training.step import Batch

    device, shift = work.parallel.device, work.pipeline.scheduler.config.shift
    work.pipeline.to(device)
    z0 = encode_images(work.pipeline, work.images)
    texts = encode_prompts(work.pipeline, work.captions, work.length)
    empty = [e[0] for e in encode_prompts(work.pipeline, [""], work.length)]
    work.pipeline.vae = work.pipeline.text_encoder = None
    work.pipeline.text_encoder_2 = work.pipeline.text_encoder_3 = None
    if device.type == "cuda":
        torch.cuda.empty_cache()

    objective = SoarObjective(work.settings, shift, lambda step, draw: [])

    def step(number: int) -> tuple[float, float]:
        draws = work.draws(number, z0.shape)
        batch = Batch(work.model, z0.to(device), draws, [e.to(device) for e in texts], empty, 1000)
        counts = objective.counts([batch])
        work.optimizer.zero_grad()
        sums = add_gradients(work.parallel, work.model, objective, [batch], counts)
        norm = work.parallel.clip(work.model.parameters(), 1.0)
        work.optimizer.step()
        totals = {name: value.item() for name, value in sums.items()}
        return objective.figures(totals, counts)["loss"], float(norm)

    return step


def sd35m(tiny: bool, device: str) -> Any:
    """A pipeline of SD3.5-Medium's shape in memory, random weights, encoders in bfloat16."""
    import torch
    from diffusers import (
        AutoencoderKL,
        FlowMatchEulerDiscreteScheduler,
        SD3Transformer2DModel,
        StableDiffusion3Pipeline,
    )
    from transformers import (
        CLIPTextConfig,
        CLIPTextModelWithProjection,
        T5Config,
        T5EncoderModel,
    )

    from soar_bench.checkpoints import pipeline_folder
    from soar_bench.pipelines.loading import load_pipeline

    words = load_pipeline(pipeline_folder("shapes"))  # its tokenizers: any ids will do
    widths = (32, 64) if tiny else (768, 1280)

    def clip(width: int, layers: int, heads: int, act: str) -> Any:
        config = CLIPTextConfig(
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            projection_dim=width,
            hidden_act=act,
            vocab_size=49408,
        )
        return CLIPTextModelWithProjection(config).to(torch.bfloat16).eval()

    t5 = T5Config(
        d_model=128 if tiny else 4096,
        d_kv=64,
        d_ff=256 if tiny else 10240,
        num_layers=1 if tiny else 24,
        num_heads=2 if tiny else 64,
        vocab_size=32128,
        feed_forward_proj="gated-gelu",
    )
    with torch.device(device):
        pipeline = StableDiffusion3Pipeline(
            transformer=SD3Transformer2DModel(
                sample_size=128,
                patch_size=2,
                in_channels=16,
                out_channels=16,
                num_layers=2 if tiny else 24,
                attention_head_dim=64,
                num_attention_heads=2 if tiny else 24,
                joint_attention_dim=128 if tiny else 4096,
                caption_projection_dim=128 if tiny else 1536,
                pooled_projection_dim=sum(widths),
                pos_embed_max_size=384,
                dual_attention_layers=(0,) if tiny else tuple(range(13)),
                qk_norm="rms_norm",
            ),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
            vae=AutoencoderKL(
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
                block_out_channels=(32,) * 4 if tiny else (128, 256, 512, 512),
                layers_per_block=2,
                latent_channels=16,
                scaling_factor=1.5305,
                shift_factor=0.0609,
                use_quant_conv=False,
                use_post_quant_conv=False,
            ).eval(),
            text_encoder=clip(widths[0], 1 if tiny else 12, 1 if tiny else 12, "quick_gelu"),
            tokenizer=words.tokenizer,
            text_encoder_2=clip(widths[1], 1 if tiny else 32, 1 if tiny else 20, "gelu"),
            tokenizer_2=words.tokenizer_2,
            text_encoder_3=T5EncoderModel(t5).to(torch.bfloat16).eval(),
            tokenizer_3=words.tokenizer_3,
        )
    pipeline.tokenizer_max_length = 77
    return pipeline


def prepare(given: argparse.Namespace) -> Work:
    import numpy as np
    import torch

    from soar_bench.core.torchvision import mend_torchvision

    mend_torchvision()
    from soar_bench.checkpoints import pipeline_folder
    from soar_bench.pipelines.loading import load_pipeline
    from soar_bench.pipelines.models import quieten
    from soar_bench.trainer.data import open_data
    from training.loop import compile_blocks
    from training.parallel import Parallel
    from training.sections import Soar

    quieten()
    torch.manual_seed(0)
    if given.sd35m:
        pipeline = sd35m(given.tiny, given.device)
        rng = np.random.default_rng(0)
        side = (given.batch_size, given.resolution, given.resolution, 3)
        images = rng.integers(0, 256, side, dtype=np.uint8)
        captions, length = ["a photo of a thing"] * given.batch_size, 256
    else:
        pipeline = load_pipeline(pipeline_folder("shapes"))
        examples = [open_data("shapes-clean:64")[i] for i in range(given.batch_size)]
        images = np.stack([image for image, _ in examples])
        captions, length = [caption for _, caption in examples], 14
    if given.device == "cpu":
        os.environ["ACCELERATE_USE_CPU"] = "true"
    parallel = Parallel("bf16" if given.bf16 else "fp32")
    transformer = pipeline.transformer.float().requires_grad_(True).train()
    optimizer = torch.optim.AdamW(
        transformer.parameters(), lr=1e-5, fused=given.device == "cuda" or None
    )
    if given.compile and given.worker == "ours":
        compile_blocks(transformer)
    model, optimizer = parallel.prepare(transformer, optimizer, clip_norm=1.0)
    settings = Soar(
        points=given.points,
        guidance=given.guidance,
        rollout_steps=given.rollout_steps,
        aux_chunk=given.chunk,
    )
    return Work(pipeline, images, captions, length, settings, parallel, model, optimizer)


class Memory:
    """Peak memory from now on, in bytes: of the device, or of the process on a CPU."""

    def __init__(self, device: str) -> None:
        import torch

        self._cuda = device == "cuda"
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()
        else:
            Path("/proc/self/clear_refs").write_text("5")  # the process's peak starts anew
        self.before = self._read("VmRSS")

    def peak(self) -> int:
        return self._read("VmHWM")

    def _read(self, field: str) -> int:
        import torch

        if self._cuda:
            torch.cuda.synchronize()
            peak = field == "VmHWM"
            return torch.cuda.max_memory_allocated() if peak else torch.cuda.memory_allocated()
        status = Path("/proc/self/status").read_text()
        return 1024 * int(status.split(f"{field}:")[1].split()[0])


def flops(work: Work) -> float:
    """Operations of the model in one step: forward passes once, backward passes twice."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    config = work.pipeline.transformer.config
    side = work.images.shape[1] // work.pipeline.vae_scale_factor
    tokens = work.length + work.pipeline.tokenizer_max_length
    device, one = work.parallel.device, FlopCounterMode(display=False)
    with one, torch.no_grad():
        work.model(
            hidden_states=torch.zeros(1, config.in_channels, side, side, device=device),
            timestep=torch.ones(1, device=device),
            encoder_hidden_states=torch.zeros(1, tokens, config.joint_attention_dim, device=device),
            pooled_projections=torch.zeros(1, config.pooled_projection_dim, device=device),
        )
    passes = 3 * (1 + work.settings.points) + 1
    return float(one.get_total_flops() * passes * len(work.images))


def work(given: argparse.Namespace) -> None:
    """One implementation in this process; its figures as a line of JSON."""
    prepared = prepare(given)
    step = (straightforward if given.worker == "plain" else ours)(prepared)
    memory = Memory(given.device)
    first = step(0)
    for number in range(1, given.warmup):
        step(number)
    now = time.process_time if given.processor_time else time.perf_counter
    seconds = []
    for number in range(given.steps):
        clock = now()
        step(given.warmup + number)  # its loss is read: the device has finished
        seconds.append(now() - clock)
    figures = {
        "loss": first[0],
        "norm": first[1],
        "seconds": statistics.median(seconds),
        "peak": memory.peak(),
        "before": memory.before,
        "flops": 0.0 if given.compile else flops(prepared),
    }
    print(json.dumps(figures))


def measure(worker: str, chunk: int, arguments: list[str]) -> dict[str, float]:
    command = [sys.executable, __file__, *arguments, "--worker", worker, "--chunk", str(chunk)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[1:])} failed")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def report(given: argparse.Namespace, arguments: list[str]) -> None:
    plain = measure("plain", 0, arguments)
    rows = [("straightforward", plain)]
    for chunk in given.chunks or (0, given.batch_size):
        name = "compiled" if given.compile else "ours"
        rows.append((f"{name}, aux_chunk {chunk}", measure("ours", chunk, arguments)))
    print(f"{given.batch_size} samples, K = {given.points}, {given.device}")
    print(
        f"{'':<20}{'s/step':>8}{'samples/s':>11}{'faster':>8}{'peak GiB':>10}{'share':>7}"
        f"{'above start':>13}{'share':>7}"
    )
    for name, row in rows:
        above, before = row["peak"] - row["before"], plain["peak"] - plain["before"]
        print(
            f"{name:<20}{row['seconds']:>8.3g}{given.batch_size / row['seconds']:>11.3g}"
            f"{plain['seconds'] / row['seconds']:>7.2f}x{row['peak'] / 2**30:>10.3g}"
            f"{row['peak'] / plain['peak']:>7.2f}{above / 2**30:>13.3g}{above / before:>7.2f}"
        )
    for name, row in rows[1:]:
        print(
            f"{name}: first step's loss differs by {abs(row['loss'] / plain['loss'] - 1):.1e}, "
            f"its gradient's norm by {abs(row['norm'] / plain['norm'] - 1):.1e}"
        )
    if given.device == "cuda":
        import torch

        name = torch.cuda.get_device_name()
        peak = next((value for key, value in PEAK.items() if key in name), None)
        for label, row in rows:
            if peak and plain["flops"]:
                share = plain["flops"] / row["seconds"] / peak
                print(f"{label}: model FLOPs utilisation {share:.1%} of {name}'s bf16 peak")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sd35m", action="store_true", help="SD3.5-Medium's shape, random weights")
    parser.add_argument("--tiny", action="store_true", help="a thin --sd35m, to try this program")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--points", type=int, help="K")
    parser.add_argument("--resolution", type=int, default=512, help="with --sd35m")
    parser.add_argument("--chunks", type=int, nargs="*", help="aux_chunk  [default: 0 and batch]")
    parser.add_argument("--compile", action="store_true", help="ours, compiled")
    parser.add_argument(
        "--processor-time", action="store_true", help="on a CPU that others use: not wall clock"
    )
    parser.add_argument("--steps", type=int, default=5, help="timed steps")
    parser.add_argument("--warmup", type=int, default=2, help="steps before them")
    parser.add_argument("--worker", choices=("plain", "ours"), help=argparse.SUPPRESS)
    parser.add_argument("--chunk", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    # The published recipe, or the embedded world's.
    recipe = (4, 6, 4.5, 40) if given.sd35m else (16, 4, 3.0, 20)
    given.batch_size = given.batch_size or recipe[0]
    given.points = given.points or recipe[1]
    given.guidance, given.rollout_steps = recipe[2:]
    given.bf16 = given.sd35m
    if given.worker:
        work(given)
    else:
        report(given, sys.argv[1:])


if __name__ == "__main__":
    main()
