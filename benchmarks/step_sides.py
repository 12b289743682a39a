"""Three implementations of a SOAR step: as written from the paper, as released, and ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

#: Number of a step to its loss and its gradient's norm.
Step = Callable[[int], tuple[float, float]]


@dataclass
class Work:
    """Data, model and settings of a step, the same for every implementation."""

    pipeline: Any
    images: Any  # uint8 [B, H, W, 3]
    captions: list[str]
    length: int
    settings: Any
    parallel: Any
    model: Any
    optimizer: Any

    def draws(self, step: int, shape: Any) -> Any:
        from training.draws import Random
        from training.objectives.flow import draw_time
        from training.objectives.soar import Draws, draw_paths
        from training.types import NoiseLevels

        random = Random(0, step, range(shape[0]))
        z1, t0 = random.normal(*shape[1:]), draw_time(NoiseLevels(), random)
        return Draws(z1, t0, *draw_paths(z1, self.settings, random)).to(self.parallel.device)


def straightforward(work: Work) -> Step:
    """Return a step as one would write it from the paper."""
    import torch

    from training.encoders import encode_images, encode_prompts
    from training.objectives.flow import shift_sigma

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


def released(work: Work) -> Step:
    """Return a step as the release takes it (Tencent-Hunyuan/HY-SOAR 59f0e02), written anew.

    Nothing of ours but the pipeline and the random numbers: latents sampled from the VAE and
    captions encoded in every step, levels and timesteps looked up in the sampler's table of 1000,
    both halves of the guided velocity with a graph that nothing uses, one pass per auxiliary point
    and one backward pass for all.
    """
    import torch

    soar, pipeline, device = work.settings, work.pipeline, work.parallel.device
    for name in ("vae", "text_encoder", "text_encoder_2", "text_encoder_3"):
        getattr(pipeline, name).to(device)
    table = pipeline.scheduler.sigmas.to(device)[:1000]  # from 1 down
    steps = pipeline.scheduler.timesteps.to(device)
    vae = pipeline.vae

    def place(time: Any) -> Any:
        return ((1 - time) * 1000).long().clamp(0, 999)

    def nearest(sigma: Any) -> Any:
        """The table's place of a level between its entries, by way of its time."""
        return place(1 - torch.searchsorted(-table, -sigma).clamp(0, 999) / 1000)

    @torch.no_grad()
    def encode(captions: list[str]) -> list[Any]:
        embeds = pipeline.encode_prompt(
            captions, None, None, do_classifier_free_guidance=False,
            max_sequence_length=work.length,
        )  # fmt: skip
        return [embeds[0].float(), embeds[2].float()]

    empty = encode([""])

    def step(number: int) -> tuple[float, float]:
        pixels = torch.from_numpy(work.images).to(device).permute(0, 3, 1, 2)
        with torch.no_grad():
            z0 = vae.encode(pixels.to(vae.dtype) / 127.5 - 1).latent_dist.sample().float()
        z0 = (z0 - vae.config.shift_factor) * vae.config.scaling_factor
        words = encode(work.captions)
        draws, count = work.draws(number, z0.shape), len(z0)
        z1 = draws.z1

        def model(z: Any, at: Any, embeds: Any) -> Any:
            return work.model(
                hidden_states=z,
                timestep=steps[at],
                encoder_hidden_states=embeds[0],
                pooled_projections=embeds[1],
                return_dict=False,
            )[0]

        def error(velocity: Any, target: Any) -> Any:
            return ((velocity.float() - target.float()) ** 2).reshape(count, -1).mean(1).sum()

        start = place(draws.t0)
        s0 = table[start].view(-1, 1, 1, 1)
        z = (1 - s0) * z0 + s0 * z1
        main = error(model(z, start, words), z1 - z0)
        pairs = [
            torch.cat([e.expand(count, *e.shape[1:]), w]) for e, w in zip(empty, words, strict=True)
        ]
        halves = model(torch.cat([z, z]).detach(), torch.cat([start, start]), pairs)
        without, caption = halves.chunk(2)
        guided = (without + soar.guidance * (caption - without)).detach()
        s1 = table[place((draws.t0 - 1 / soar.rollout_steps).clamp_min(0))]
        off = z + guided * (s1.view(-1, 1, 1, 1) - s0)
        auxiliary = torch.zeros((), device=device)
        for fraction in draws.fractions[0]:
            sigma = s1 + fraction * (1 - s1)
            mix = ((sigma - s1) / (1 - s1).clamp_min(1e-8)).clamp(0, 1).view(-1, 1, 1, 1)
            state = ((1 - mix) * off + mix * z1).detach()
            target = (state - z0) / sigma.view(-1, 1, 1, 1)
            auxiliary = auxiliary + error(model(state, nearest(sigma), words), target)
        points = count * (1 + soar.weight * soar.points)
        loss = (main + soar.weight * auxiliary) / points
        loss.backward()
        norm = work.parallel.clip(work.model.parameters(), 1.0)
        work.optimizer.step()
        work.optimizer.zero_grad()
        return loss.item(), float(norm)

    return step


def ours(work: Work) -> Step:
    """Return the loop's own step, on encodings made before it."""
    import torch

    from training.encoders import encode_images, encode_prompts
    from training.gradients import add_gradients
    from training.objectives.soar import SoarObjective
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


SIDES: dict[str, Callable[[Work], Step]] = {
    "straightforward": straightforward,
    "released": released,
    "ours": ours,
}
#: Sides that ours is compared with.
OTHERS = ("straightforward", "released")
