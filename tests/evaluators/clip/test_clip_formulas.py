"""PickScore, CLIPScore, the aesthetic score and HPSv2.1 against the published formulas.

The formulas are written out here in torch; nothing of ours or of transformers computes them.
"""

from __future__ import annotations

import math

import pytest
import torch
from clip_family import ARCHITECTURE, aesthetic, clipscore, hps, pickscore, values
from safetensors.torch import load_file
from torch.nn.functional import conv2d, gelu, layer_norm, linear, multi_head_attention_forward

from evaluators.aesthetic import read_head
from evaluators.clip import Tokenizer
from evaluators.images import padded_view, pillow_view, tensor_view
from evaluators.types import Sample


def quick_gelu(x):
    return x * torch.sigmoid(1.702 * x)


def transformer(x, blocks, heads, activation, mask):
    """Pre-norm blocks: x + attention(norm(x)), then x + MLP(norm(x)); x is [T, D]."""
    for b in blocks:
        y = layer_norm(x, x.shape[-1:], *b["ln_1"])
        y, _ = multi_head_attention_forward(
            *(y[:, None],) * 3,
            embed_dim_to_check=x.shape[-1],
            num_heads=heads,
            in_proj_weight=b["in"][0],
            in_proj_bias=b["in"][1],
            bias_k=None,
            bias_v=None,
            add_zero_attn=False,
            dropout_p=0.0,
            out_proj_weight=b["out"][0],
            out_proj_bias=b["out"][1],
            need_weights=False,
            attn_mask=mask,
        )
        x = x + y[:, 0]
        y = layer_norm(x, x.shape[-1:], *b["ln_2"])
        x = x + linear(activation(linear(y, *b["fc1"])), *b["fc2"])
    return x


def hub_parts(state):
    """Weights by their role, from the hub's names."""

    def pair(name):
        return state[f"{name}.weight"], state[f"{name}.bias"]

    def blocks(tower):
        layers = []
        while f"{tower}.encoder.layers.{len(layers)}.layer_norm1.weight" in state:
            layer = f"{tower}.encoder.layers.{len(layers)}"
            qkv = [pair(f"{layer}.self_attn.{part}_proj") for part in "qkv"]
            layers.append(
                {
                    "ln_1": pair(f"{layer}.layer_norm1"),
                    "ln_2": pair(f"{layer}.layer_norm2"),
                    "in": tuple(torch.cat(tensors) for tensors in zip(*qkv, strict=True)),
                    "out": pair(f"{layer}.self_attn.out_proj"),
                    "fc1": pair(f"{layer}.mlp.fc1"),
                    "fc2": pair(f"{layer}.mlp.fc2"),
                }
            )
        return layers

    vision, text = "vision_model.embeddings", "text_model.embeddings"
    return {
        "patch": state[f"{vision}.patch_embedding.weight"],
        "class": state[f"{vision}.class_embedding"],
        "image_positions": state[f"{vision}.position_embedding.weight"],
        "ln_pre": pair("vision_model.pre_layrnorm"),
        "ln_post": pair("vision_model.post_layernorm"),
        "image_blocks": blocks("vision_model"),
        "image_projection": state["visual_projection.weight"],
        "tokens": state[f"{text}.token_embedding.weight"],
        "text_positions": state[f"{text}.position_embedding.weight"],
        "text_blocks": blocks("text_model"),
        "ln_final": pair("text_model.final_layer_norm"),
        "text_projection": state["text_projection.weight"],
        "scale": state["logit_scale"].exp(),
    }


def open_clip_parts(state):
    """Weights by their role, from open_clip's names."""

    def pair(name, joint="."):
        return state[f"{name}{joint}weight"], state[f"{name}{joint}bias"]

    def blocks(tower, count):
        return [
            {
                "ln_1": pair(f"{tower}transformer.resblocks.{i}.ln_1"),
                "ln_2": pair(f"{tower}transformer.resblocks.{i}.ln_2"),
                "in": pair(f"{tower}transformer.resblocks.{i}.attn.in_proj", "_"),
                "out": pair(f"{tower}transformer.resblocks.{i}.attn.out_proj"),
                "fc1": pair(f"{tower}transformer.resblocks.{i}.mlp.c_fc"),
                "fc2": pair(f"{tower}transformer.resblocks.{i}.mlp.c_proj"),
            }
            for i in range(count)
        ]

    return {
        "patch": state["visual.conv1.weight"],
        "class": state["visual.class_embedding"],
        "image_positions": state["visual.positional_embedding"],
        "ln_pre": pair("visual.ln_pre"),
        "ln_post": pair("visual.ln_post"),
        "image_blocks": blocks("visual.", ARCHITECTURE.vision_layers),
        "image_projection": state["visual.proj"].T,
        "tokens": state["token_embedding.weight"],
        "text_positions": state["positional_embedding"],
        "text_blocks": blocks("", ARCHITECTURE.text_layers),
        "ln_final": pair("ln_final"),
        "text_projection": state["text_projection"].T,
        "scale": state["logit_scale"].exp(),
    }


def image_embedding(parts, pixels, activation):
    patches = conv2d(pixels[None], parts["patch"], stride=ARCHITECTURE.patch_size)
    x = torch.cat([parts["class"][None], patches[0].flatten(1).T]) + parts["image_positions"]
    x = layer_norm(x, x.shape[-1:], *parts["ln_pre"])
    x = transformer(x, parts["image_blocks"], ARCHITECTURE.vision_heads, activation, None)
    x = linear(layer_norm(x[0], x.shape[-1:], *parts["ln_post"]), parts["image_projection"])
    return x / x.norm()


def text_embedding(parts, tokens, activation):
    """``tokens`` end with the end token; what is padded after it cannot be seen from it."""
    mask = torch.full((len(tokens), len(tokens)), -math.inf).triu(1)
    x = parts["tokens"][tokens] + parts["text_positions"][: len(tokens)]
    x = transformer(x, parts["text_blocks"], ARCHITECTURE.text_heads, activation, mask)
    x = linear(layer_norm(x[-1], x.shape[-1:], *parts["ln_final"]), parts["text_projection"])
    return x / x.norm()


def tokens_of(folder, text):
    """Start, the text's tokens (at most 75), end."""
    ids = Tokenizer(folder, ARCHITECTURE.vocabulary)([text], 77)[0].tolist()
    return ids[: ids.index(ARCHITECTURE.vocabulary - 1) + 1]


# --- equal to the formulas -----------------------------------------------------------------------


def test_pickscore_is_the_scaled_cosine_of_its_paper(folder, samples):
    parts = hub_parts(load_file(folder / "pickscore" / "model.safetensors"))
    view = pillow_view("floor")
    expected = [
        float(
            parts["scale"]
            * image_embedding(parts, view(s.image, 32), gelu)
            @ text_embedding(parts, tokens_of(folder / "clip", s.prompt), gelu)
        )
        for s in samples
    ]
    assert values(pickscore(folder), samples) == pytest.approx(expected, abs=1e-4)  # of about 100
    assert max(abs(v) for v in expected) > 1


@pytest.mark.parametrize(
    ("name", "view"),
    [
        ("clipscore", tensor_view(True)),
        ("clipscore-no-antialias", tensor_view(False)),
        ("clipscore-processor", pillow_view("floor")),
    ],
)
def test_clipscore_is_the_cosine_in_openais_clip(folder, samples, name, view):
    parts = hub_parts(load_file(folder / "clip" / "model.safetensors"))
    expected = [
        float(
            image_embedding(parts, view(s.image, 32), quick_gelu)
            @ text_embedding(parts, tokens_of(folder / "clip", s.prompt), quick_gelu)
        )
        for s in samples
    ]
    assert values(clipscore(folder, name), samples) == pytest.approx(expected, abs=1e-6)


def test_hpsv21_is_the_cosine_of_its_authors_model(folder, samples):
    state = torch.load(folder / "hps" / "HPS_v2.1_compressed.pt", weights_only=True)
    parts = open_clip_parts(state["state_dict"])
    for name, antialias in (("hpsv21", True), ("hpsv21-no-antialias", False)):
        view = padded_view(antialias)
        expected = []
        for sample in samples:
            # what open_clip's tokenizer makes of the prompt with quotes and an entity
            text = '"Stop" & naïve: 7 + 1' if "Stop" in sample.prompt else sample.prompt
            expected.append(
                float(
                    image_embedding(parts, view(sample.image, 32), gelu)
                    @ text_embedding(parts, tokens_of(folder / "clip", text), gelu)
                )
            )
        assert values(hps(folder, name), samples) == pytest.approx(expected, abs=1e-6)


def test_the_aesthetic_score_is_the_linear_map_its_head_amounts_to(folder, samples):
    clip = hub_parts(load_file(folder / "clip" / "model.safetensors"))
    head = torch.load(folder / "aesthetic" / "sac+logos+ava1-l14-linearMSE.pth", weights_only=True)
    expected = []
    for sample in samples:
        x = image_embedding(clip, pillow_view("floor")(sample.image, 32), quick_gelu)
        for layer in (0, 2, 4, 6, 7):
            x = head[f"layers.{layer}.weight"] @ x + head[f"layers.{layer}.bias"]
        expected.append(float(x))
    assert values(aesthetic(folder), samples) == pytest.approx(expected, abs=1e-6)


def test_the_prompt_plays_no_part_in_the_aesthetic_score(folder, samples):
    others = [Sample(sample.image, "something else") for sample in samples]
    assert values(aesthetic(folder), samples) == values(aesthetic(folder), others)


def test_a_head_of_the_published_sizes_loads(tmp_path):
    state = {}
    width = 768
    for index, following in zip((0, 2, 4, 6, 7), (1024, 128, 64, 16, 1), strict=True):
        state[f"layers.{index}.weight"] = torch.zeros(following, width)
        state[f"layers.{index}.bias"] = torch.full((following,), float(index))
        width = following
    torch.save(state, tmp_path / "head.pth")
    head = read_head(tmp_path / "head.pth")
    assert head(torch.zeros(2, 768)).tolist() == [[7.0], [7.0]]
