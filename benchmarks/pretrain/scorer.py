"""The scorer, a CLIP of its own: other weights, seed and data than the base.

Being a judge, it may know every combination, those too that are held out from the base. The loss is
CLIP's symmetric InfoNCE (Radford et al., 2021) with two changes: captions of the batch that happen
to be true of another picture are not its negatives, and each picture also faces captions of its own
in which one fact was altered, so that counts and colours are not passed over. For word order that
was not enough: the scorer learns facts besides (:mod:`benchmarks.pretrain.facts`).
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTokenizer,
    CLIPVisionConfig,
)

from benchmarks.pretrain import facts
from benchmarks.pretrain.fit import FitConfig, Report, fit, silent
from benchmarks.pretrain.tokenizers import clip_text_config, clip_tokenizer, ids_of
from evaluators.geneval.rules import Detection, judge
from evaluators.shapes.geometry import RADII
from soar_bench.shapes import captions
from soar_bench.shapes.render import Scene, render
from soar_bench.shapes.world import TAG_SHARES, Distribution, scene_of

#: Clean scenes with the broad distribution's sizes.
_SCENES = Distribution("shapes-contrastive", TAG_SHARES, radii=RADII)
#: What the scorer is trained on: mostly the two forms in which one thing is said of another, which
#: it learns last.
_SHARES = {
    "single_object": 0.04,
    "two_object": 0.10,
    "counting": 0.10,
    "colors": 0.06,
    "position": 0.36,
    "color_attr": 0.28,
    captions.SIGN: 0.06,
}
ALTERED_PER_CAPTION = 4
#: The scorer first learns facts alone: beside the contrastive loss, whose gradients are many times
#: as large, it hardly learned them.
_FACTS_ALONE = 800
_FACTS_WEIGHT = 10.0  # brings both losses of the scorer to one size
IMAGE_MEAN, IMAGE_STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Batch:
    images: torch.Tensor  # float32 [B, 3, 64, 64] in [-1, 1]
    captions: list[str]  # B
    altered: list[str]  # B * ALTERED_PER_CAPTION
    also_true: torch.Tensor  # bool [B, B]: caption j is true of picture i != j
    scene_facts: facts.Facts  # of the B pictures
    caption_facts: facts.Facts  # of the B captions, then of the altered ones


def is_true(metadata: captions.Metadata, scene: Scene) -> bool:
    """Whether a caption is true of a clean scene: GenEval's rules over perfect detections."""
    if metadata["tag"] == captions.SIGN:
        return scene.sign is not None and f'"{scene.sign.word}"' in metadata["prompt"]
    perfect = [
        Detection(
            t.shape, 1.0, (t.x - t.radius, t.y - t.radius, t.x + t.radius, t.y + t.radius), t.color
        )
        for t in scene.things
    ]
    return judge(metadata, perfect).correct


def draw(
    seed: str, count: int, shares: dict[str, float] = TAG_SHARES
) -> list[tuple[captions.Metadata, Scene, random.Random]]:
    """``count`` captions with clean scenes of theirs."""
    rng = random.Random(f"contrastive/{seed}")
    drawn: list[tuple[captions.Metadata, Scene, random.Random]] = []
    for _ in range(count):
        tag = rng.choices(list(shares), weights=list(shares.values()))[0]
        metadata = rng.choice(captions.every_caption(tag, rng.choice(captions.LEAD_INS)))
        drawn.append((metadata, scene_of(metadata, rng, _SCENES), rng))
    return drawn


def batch(seed: str, count: int) -> Batch:
    drawn = draw(seed, count, _SHARES)
    images = np.stack([render(scene) for _, scene, _ in drawn])
    also_true = [
        [i != j and is_true(metadata, scene) for j, (metadata, _, _) in enumerate(drawn)]
        for i, (_, scene, _) in enumerate(drawn)
    ]
    wrong = [
        captions.altered(metadata, rng)
        for metadata, _, rng in drawn
        for _ in range(ALTERED_PER_CAPTION)
    ]
    told = [metadata for metadata, _, _ in drawn] + wrong
    return Batch(
        images=torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1,
        captions=[metadata["prompt"] for metadata, _, _ in drawn],
        altered=[metadata["prompt"] for metadata in wrong],
        also_true=torch.tensor(also_true),
        scene_facts=facts.stack([facts.of_scene(scene) for _, scene, _ in drawn]),
        caption_facts=facts.stack([facts.of_caption(metadata) for metadata in told]),
    )


def contrastive_loss(
    image: torch.Tensor,  # [B, D]
    text: torch.Tensor,  # [B, D]
    altered: torch.Tensor,  # [B, M, D]
    also_true: torch.Tensor,  # bool [B, B]
    scale: torch.Tensor,  # []
) -> torch.Tensor:
    image, text, altered = (F.normalize(x, dim=-1) for x in (image, text, altered))
    pairs = scale * image @ text.T  # [B, B], picture by caption
    pairs = pairs.masked_fill(also_true, float("-inf"))
    own = scale * torch.einsum("bd,bmd->bm", image, altered)  # [B, M]
    target = torch.arange(len(image))
    by_image = F.cross_entropy(torch.cat([pairs, own], dim=1), target)
    by_text = F.cross_entropy(pairs.T, target)
    return (by_image + by_text) / 2


def _vision_config(projection: int, hidden: int, layers: int) -> CLIPVisionConfig:
    return CLIPVisionConfig(
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        image_size=64,
        patch_size=8,
        projection_dim=projection,
    )


def _log(
    name: str, image: torch.Tensor, text: torch.Tensor, wrong: torch.Tensor
) -> dict[str, float]:
    """Share of pictures whose caption scores above all of its altered ones, in the batch."""
    image, text, wrong = (F.normalize(x.detach().float(), dim=-1) for x in (image, text, wrong))
    true = (image * text).sum(-1)
    worst = torch.einsum("bd,bmd->bm", image, wrong).max(-1).values
    return {name: (true > worst).float().mean().item()}


def build_scorer(seed: int) -> tuple[CLIPModel, CLIPTokenizer, CLIPImageProcessorPil]:
    torch.manual_seed(seed)
    tokenizer = clip_tokenizer()
    width = 96
    model = CLIPModel(
        CLIPConfig(
            text_config=clip_text_config(tokenizer, width, width, 3).to_dict(),
            vision_config=_vision_config(width, 128, 4).to_dict(),
            projection_dim=width,
        )
    )
    processor = CLIPImageProcessorPil(
        do_resize=True,
        size={"shortest_edge": 64},
        crop_size={"height": 64, "width": 64},
        image_mean=IMAGE_MEAN,
        image_std=IMAGE_STD,
    )
    return model, tokenizer, processor


class Scorer(torch.nn.Module):
    """The scorer beside the map from embeddings to facts that only serves its training."""

    def __init__(self, model: CLIPModel) -> None:
        super().__init__()
        self.model = model
        self.facts = torch.nn.Linear(model.config.projection_dim, facts.COUNT)


def train(
    folder: Path, config: FitConfig, report: Report = silent
) -> tuple[CLIPModel, CLIPTokenizer, CLIPImageProcessorPil]:
    """The tiny CLIP that scores alignment; returns (model, tokenizer, image processor)."""
    model, tokenizer, processor = build_scorer(config.seed)

    def loss_of_step(module: Scorer, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        data = batch(f"scorer/{config.seed}/{step}", config.batch_size)
        # Generated pictures are not as clean as renders: the scorer must not hang on pixels.
        noise = torch.rand(config.batch_size, 1, 1, 1) * 0.15
        images = data.images + noise * torch.randn_like(data.images)
        image = module.model.get_image_features(pixel_values=images).pooler_output
        text = module.model.get_text_features(
            input_ids=ids_of(tokenizer, data.captions + data.altered)
        ).pooler_output
        true, wrong = text[: config.batch_size], text[config.batch_size :]
        wrong = wrong.view(config.batch_size, ALTERED_PER_CAPTION, -1)
        scale = module.model.logit_scale.exp().clamp(max=100)
        loss = contrastive_loss(image, true, wrong, data.also_true, scale)
        shown = facts.loss(module.facts(F.normalize(image, dim=-1)), data.scene_facts)
        told = facts.loss(module.facts(F.normalize(text, dim=-1)), data.caption_facts)
        figures = _log("above_altered", image, true, wrong)
        figures |= {"facts_image": shown.item(), "facts_text": told.item()}
        alone = step < _FACTS_ALONE
        return (0 if alone else loss) + _FACTS_WEIGHT * (shown + told), figures

    fit(Scorer(model), loss_of_step, config, folder, report)
    return model, tokenizer, processor
