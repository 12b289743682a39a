"""PickScore, CLIPScore, the aesthetic score and HPSv2.1 against the published formulas.

Tiny weights in the official file layouts stand in for the real ones; the loading path is the real
one. The references below are written from the papers, without transformers' models.
"""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import conv2d, gelu, layer_norm, linear, multi_head_attention_forward

from evaluators import catalogue
from evaluators.aesthetic import Aesthetic, read_head
from evaluators.clip import Tokenizer
from evaluators.clipscore import ClipScore, clipscore_no_antialias, clipscore_processor
from evaluators.golden import clip as tiny
from evaluators.hpsv2 import HpsV21
from evaluators.images import padded_view, pillow_view, tensor_view
from evaluators.pickscore import PickScore
from evaluators.types import EvaluatorError, Sample

PROMPTS = ("a red bird on the mat", "", "the mat " * 60, "“Stop” &amp; naïve: 7 + 1")
SIZES = ((64, 64), (50, 81), (32, 32), (91, 60))
ARCHITECTURE = tiny.ARCHITECTURE


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    tiny.write_clip(folder / "clip")
    tiny.write_clip(folder / "pickscore", activation="gelu")
    tiny.write_hps(folder / "hps")
    tiny.write_aesthetic_head(folder / "aesthetic")
    return folder


@pytest.fixture(scope="module")
def samples():
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES]
    return [Sample(image, prompt) for image, prompt in zip(pictures, PROMPTS, strict=True)]


def pickscore(folder: Path) -> PickScore:
    return PickScore(
        catalogue.PICKSCORE.at(folder / "pickscore"),
        catalogue.CLIP_TOKENIZER.at(folder / "pickscore"),
        embedding=tiny.EMBEDDING,
    )


def clipscore(folder: Path, name: str = "clipscore") -> ClipScore:
    weights = catalogue.CLIP_VIT_L_14.at(folder / "clip")
    return ClipScore(name, weights, embedding=tiny.EMBEDDING)


def aesthetic(folder: Path) -> Aesthetic:
    head = catalogue.AESTHETIC.at(folder / "aesthetic")
    return Aesthetic(head, catalogue.CLIP_VIT_L_14.at(folder / "clip"), embedding=tiny.EMBEDDING)


def hps(folder: Path, name: str = "hpsv21") -> HpsV21:
    return HpsV21(
        name,
        catalogue.HPS_V2_1.at(folder / "hps"),
        catalogue.CLIP_TOKENIZER.at(folder / "clip"),
        architecture=ARCHITECTURE,
    )


def values(evaluator, samples) -> list[float]:
    evaluator.load()
    (metric,) = evaluator.metrics
    return [scores[metric.name].value for scores in evaluator.score(samples)]


# --- the formulas, written out -------------------------------------------------------------------


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
        found = []
        while f"{tower}.encoder.layers.{len(found)}.layer_norm1.weight" in state:
            layer = f"{tower}.encoder.layers.{len(found)}"
            qkv = [pair(f"{layer}.self_attn.{part}_proj") for part in "qkv"]
            found.append(
                {
                    "ln_1": pair(f"{layer}.layer_norm1"),
                    "ln_2": pair(f"{layer}.layer_norm2"),
                    "in": tuple(torch.cat(tensors) for tensors in zip(*qkv, strict=True)),
                    "out": pair(f"{layer}.self_attn.out_proj"),
                    "fc1": pair(f"{layer}.mlp.fc1"),
                    "fc2": pair(f"{layer}.mlp.fc2"),
                }
            )
        return found

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


def test_metrics_have_names_that_nobody_can_mix_up():
    evaluators = [ClipScore(), clipscore_no_antialias(), clipscore_processor(), HpsV21()]
    names = [metric.name for evaluator in evaluators for metric in evaluator.metrics]
    assert names == ["clipscore", "clipscore_no_antialias", "clipscore_processor", "hpsv21"]


# --- a score depends on its sample alone ---------------------------------------------------------


@pytest.mark.parametrize("make", [pickscore, clipscore, aesthetic, hps])
def test_a_score_is_the_same_alone_in_a_batch_and_in_any_order(folder, samples, make):
    together = values(make(folder), samples)
    alone = [values(make(folder), [sample])[0] for sample in samples]
    backwards = values(make(folder), samples[::-1])[::-1]
    assert alone == pytest.approx(together, abs=1e-5)
    assert backwards == pytest.approx(together, abs=1e-5)
    assert len({round(v, 4) for v in together}) == len(samples)


def test_half_precision_is_near_full(folder, samples):
    full = values(clipscore(folder), samples)
    half = clipscore(folder)
    half.load(dtype="bfloat16")
    assert [s["clipscore"].value for s in half.score(samples)] == pytest.approx(full, abs=0.02)


def test_an_empty_batch_has_no_scores(folder):
    for evaluator in (pickscore(folder), clipscore(folder), aesthetic(folder), hps(folder)):
        evaluator.load()
        assert evaluator.score([]) == []


# --- one tower for all that share it -------------------------------------------------------------


def test_evaluators_of_one_clip_share_the_loaded_model(folder):
    one, other = clipscore(folder), aesthetic(folder)
    one.load()
    other.load()
    assert one._tower is other._tower
    assert one.shares == other.shares != ""


def test_an_image_seen_twice_in_the_same_way_is_embedded_once(folder, samples, monkeypatch):
    one, other = clipscore(folder, "clipscore-processor"), aesthetic(folder)
    one.load()
    other.load()
    passes = []
    embed = one._tower.embed_pixels
    monkeypatch.setattr(one._tower, "embed_pixels", lambda p: passes.append(len(p)) or embed(p))
    one.score(samples)
    shared = [s["aesthetic"].value for s in other.score(samples)]
    assert passes == [len(samples)]
    assert shared == pytest.approx(values(aesthetic(folder), samples), abs=1e-6)


def test_a_batch_that_repeats_an_image_embeds_it_once(folder, samples, monkeypatch):
    evaluator = clipscore(folder)
    evaluator.load()
    passes = []
    embed = evaluator._tower.embed_pixels
    monkeypatch.setattr(
        evaluator._tower, "embed_pixels", lambda p: passes.append(len(p)) or embed(p)
    )
    image = samples[0].image
    first, second = evaluator.score([Sample(image, "a"), Sample(image, "red")])
    assert passes == [1]
    assert first["clipscore"].value != second["clipscore"].value


# --- bad files -----------------------------------------------------------------------------------


def copy(folder: Path, to: Path) -> Path:
    to.mkdir()
    for file in folder.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    return to


def clip_at(folder: Path) -> ClipScore:
    return ClipScore(weights=catalogue.CLIP_VIT_L_14.at(folder), embedding=tiny.EMBEDDING)


def test_missing_weights_are_named_before_anything_is_loaded(tmp_path):
    with pytest.raises(EvaluatorError, match=r"lacks config\.json, model\.safetensors, vocab"):
        clip_at(tmp_path).check()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("visual_projection.weight"), "it lacks visual_projection.weight"),
        (lambda s: s.update(extra=torch.zeros(1)), "it has the unknown extra"),
        (
            lambda s: s.update({"text_projection.weight": torch.zeros(3, 3)}),
            "it has another shape for text_projection.weight",
        ),
    ],
)
def test_weights_with_other_keys_or_shapes_are_refused(folder, tmp_path, change, message):
    broken = copy(folder / "clip", tmp_path / "clip")
    state = load_file(broken / "model.safetensors")
    change(state)
    save_file(state, broken / "model.safetensors")
    with pytest.raises(EvaluatorError, match=message):
        clip_at(broken).load()


def test_a_truncated_weight_file_is_named(folder, tmp_path):
    broken = copy(folder / "clip", tmp_path / "clip")
    data = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(EvaluatorError, match=r"model\.safetensors cannot be read as weights"):
        clip_at(broken).load()


def test_a_truncated_checkpoint_is_named(folder, tmp_path):
    broken = copy(folder / "hps", tmp_path / "hps")
    file = broken / "HPS_v2.1_compressed.pt"
    file.write_bytes(file.read_bytes()[:1000])
    evaluator = HpsV21(
        weights=catalogue.HPS_V2_1.at(broken),
        tokenizer=catalogue.CLIP_TOKENIZER.at(folder / "clip"),
        architecture=ARCHITECTURE,
    )
    with pytest.raises(EvaluatorError, match=r"HPS_v2\.1_compressed\.pt cannot be read as weights"):
        evaluator.load()


def test_a_checkpoint_that_holds_code_is_refused(tmp_path):
    class Harmful:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"layers.0.weight": Harmful()}, tmp_path / "head.pth")
    with pytest.raises(EvaluatorError, match="cannot be read as weights"):
        read_head(tmp_path / "head.pth")
    assert not (tmp_path / "ran").exists()


def test_hps_weights_of_another_architecture_are_refused(folder):
    evaluator = HpsV21(
        weights=catalogue.HPS_V2_1.at(folder / "hps"),
        tokenizer=catalogue.CLIP_TOKENIZER.at(folder / "clip"),
        architecture=tiny.Architecture(**{**vars(ARCHITECTURE), "vision_layers": 3}),
    )
    with pytest.raises(EvaluatorError, match=r"no weights of HPSv2.1's CLIP ViT-H/14: it lacks"):
        evaluator.load()


def test_another_clip_in_pickscores_place_is_refused(folder):
    evaluator = PickScore(
        catalogue.PICKSCORE.at(folder / "clip"), catalogue.CLIP_TOKENIZER.at(folder / "clip")
    )
    with pytest.raises(EvaluatorError, match="another model than PickScore's CLIP ViT-H/14"):
        evaluator.load()


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("vocab.json", "{}"),
        ("vocab.json", '{"<|startoftext|>": 0, "<|endoftext|>": 1}'),
        ("vocab.json", "not json"),
        ("merges.txt", "#version: 0.2\nno such\n"),
    ],
)
def test_a_tokenizer_without_its_words_is_refused(folder, tmp_path, file, content):
    broken = copy(folder / "clip", tmp_path / "clip")
    (broken / file).write_text(content, "utf-8")
    with pytest.raises(EvaluatorError, match="the tokenizer in"):
        clip_at(broken).load()


def test_a_configuration_of_something_else_is_refused(folder, tmp_path):
    broken = copy(folder / "clip", tmp_path / "clip")
    config = json.loads((broken / "config.json").read_text("utf-8"))
    config["projection_dim"] = 8
    (broken / "config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(EvaluatorError, match="embeddings of 8 numbers instead of 32"):
        clip_at(broken).load()


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((0, 8, 3), np.uint8),
    ],
)
def test_an_image_of_the_wrong_form_is_refused(image):
    with pytest.raises(EvaluatorError, match="must be uint8 RGB"):
        Sample(image, "a")
