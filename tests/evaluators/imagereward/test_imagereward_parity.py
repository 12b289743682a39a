"""ImageReward against the published formula, written out here without any model library.

Two transformers and a head as their papers and the original state dict's names describe them: a
ViT with the norm first, BERT with the norm last and a cross-attention in each layer.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
from PIL import Image

from evaluators.golden.imagereward import ARCHITECTURE
from evaluators.imagereward.layout import OFFICIAL, Architecture
from evaluators.imagereward.model import shapes, state_dict
from evaluators.types import Sample

torch = pytest.importorskip("torch")

PAD, UNKNOWN, START, END = 0, 1, 2, 3


def norm(x, state, name, epsilon):
    centred = x - x.mean(-1, keepdim=True)
    variance = (centred**2).mean(-1, keepdim=True)
    return (
        centred / torch.sqrt(variance + epsilon) * state[f"{name}.weight"] + state[f"{name}.bias"]
    )


def linear(x, state, name):
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def gelu(x):
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def attend(queries, keys, values, heads, seen):
    """One pair: queries [L, D], keys and values [M, D], ``seen`` of M. A head at a time."""
    width = queries.shape[1] // heads
    outputs = []
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        logits = queries[:, part] @ keys[seen][:, part].T / math.sqrt(width)
        outputs.append(torch.softmax(logits, -1) @ values[seen][:, part])
    return torch.cat(outputs, 1)


def see(picture, state, a):
    """Patches of one picture [3, S, S], with the class token first: [1 + N, V]."""
    name = "blip.visual_encoder."
    kernel = state[f"{name}patch_embed.proj.weight"].reshape(a.vision_width, -1)
    step = a.patch_size
    x = [state[f"{name}cls_token"][0, 0]]
    for top in range(0, a.image_size, step):
        for left in range(0, a.image_size, step):
            patch = picture[:, top : top + step, left : left + step].reshape(-1)
            x.append(kernel @ patch + state[f"{name}patch_embed.proj.bias"])
    x = torch.stack(x) + state[f"{name}pos_embed"][0]
    for index in range(a.vision_layers):
        block = f"{name}blocks.{index}."
        inner = linear(norm(x, state, f"{block}norm1", 1e-6), state, f"{block}attn.qkv")
        queries, keys, values = inner.split(a.vision_width, 1)
        everything = torch.ones(len(x), dtype=torch.bool)
        inner = attend(queries, keys, values, a.vision_heads, everything)
        x = x + linear(inner, state, f"{block}attn.proj")
        inner = linear(norm(x, state, f"{block}norm2", 1e-6), state, f"{block}mlp.fc1")
        x = x + linear(gelu(inner), state, f"{block}mlp.fc2")
    return norm(x, state, f"{name}norm", 1e-6)


def read(ids, patches, state, a):
    """The first token's last state for one prompt of 35 token ids, looking at the patches."""
    name = "blip.text_encoder."
    seen = torch.tensor([token != PAD for token in ids])
    x = state[f"{name}embeddings.word_embeddings.weight"][torch.tensor(ids)]
    x = x + state[f"{name}embeddings.position_embeddings.weight"][: len(ids)]
    x = norm(x, state, f"{name}embeddings.LayerNorm", 1e-12)
    everything = torch.ones(len(patches), dtype=torch.bool)
    for index in range(a.text_layers):
        layer = f"{name}encoder.layer.{index}."
        for attention in ("attention", "crossattention"):
            at = layer + attention
            source, mask = (x, seen) if attention == "attention" else (patches, everything)
            inner = attend(
                linear(x, state, f"{at}.self.query"),
                linear(source, state, f"{at}.self.key"),
                linear(source, state, f"{at}.self.value"),
                a.text_heads,
                mask,
            )
            inner = linear(inner, state, f"{at}.output.dense")
            x = norm(inner + x, state, f"{at}.output.LayerNorm", 1e-12)
        inner = gelu(linear(x, state, f"{layer}intermediate.dense"))
        inner = linear(inner, state, f"{layer}output.dense")
        x = norm(inner + x, state, f"{layer}output.LayerNorm", 1e-12)
    return x[0]


def published(picture, ids, state, a):
    """The score of one pair, in float64."""
    state = {name: tensor.double() for name, tensor in state.items()}
    x = read(ids, see(picture.double(), state, a), state, a)
    for index in (0, 2, 4, 6, 7):
        x = linear(x, state, f"mlp.layers.{index}")
    return ((x - 0.16717362830052426) / 1.0333394966054072).item()


def padded(*tokens):
    return [START, *tokens, END] + [PAD] * (33 - len(tokens))


def plain_view(picture: Image.Image, side: int):
    """A square picture as the original sees it: Pillow's bicubic, CLIP's mean and deviation."""
    pixels = np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC)) / 255.0
    pixels -= np.array([0.48145466, 0.4578275, 0.40821073])
    pixels /= np.array([0.26862954, 0.26130258, 0.27577711])
    return torch.from_numpy(pixels.transpose(2, 0, 1))


# of the fixtures' vocabulary: a 5, the 6, red 7, cat 8, dog 9, on 10, mat 11, two 12, play 13,
# ##ing 14, ##s 15, ##ed 16, "," 17, ! 18, and then [DEC] 19, [ENC] 20
@pytest.mark.parametrize(
    ("prompt", "ids"),
    [
        ("a red cat on the mat", padded(5, 7, 8, 10, 6, 11)),
        ("Two dogs playing!", padded(12, 9, 15, 13, 14, 18)),
        ("a zebra, RED", padded(5, UNKNOWN, 17, 7)),
        ("", padded()),
        ("the cat " * 40, padded(*[6, 8] * 16, 6)),  # cut: 33 tokens and the two around them
        ("[DEC] cat [ENC]", padded(19, 8, 20)),
    ],
    ids=["plain", "word pieces and capitals", "unknown word", "empty", "too long", "BLIP's tokens"],
)
def test_the_score_is_the_published_formula_of_pixels_and_tokens(
    scorer, tiny_state, prompt, ids, tiny_architecture
):
    rng = np.random.default_rng(11)
    image = rng.integers(0, 256, (80, 80, 3), dtype=np.uint8)
    pixels = plain_view(Image.fromarray(image), tiny_architecture.image_size)
    expected = published(pixels, ids, tiny_state, tiny_architecture)
    score = scorer.score([Sample(image, prompt)])[0]["image_reward"].value
    assert score == pytest.approx(expected, abs=1e-5)


def test_the_tiny_model_tells_prompts_and_pictures_apart(scorer, samples):
    """Else parity would show little: a constant score is easily equal."""
    image, other = samples[0].image, samples[3].image
    pairs = [(image, "a red cat"), (other, "a red cat"), (image, "a red dog"), (image, "cat a red")]
    values = [s["image_reward"].value for s in scorer.score([Sample(i, p) for i, p in pairs])]
    assert min(abs(a - b) for k, a in enumerate(values) for b in values[:k]) > 1e-3


@pytest.mark.parametrize(
    ("size", "resized", "corner"),
    [
        ((40, 64), (32, 51), (0, 10)),  # (51 - 32) / 2 = 9.5: to the even 10
        ((96, 33), (93, 32), (30, 0)),  # (93 - 32) / 2 = 30.5: to the even 30
        ((64, 32), (64, 32), (16, 0)),
    ],
)
def test_of_a_picture_that_is_not_square_the_middle_is_seen(
    scorer, tiny_state, tiny_architecture, size, resized, corner
):
    """Short side to 32, long side rounded down, centre by Python's round, as torchvision crops."""
    image = np.random.default_rng(5).integers(0, 256, (*size, 3), dtype=np.uint8)
    picture = Image.fromarray(image).resize(resized[::-1], Image.Resampling.BICUBIC)
    top, left = corner
    middle = picture.crop((left, top, left + 32, top + 32))
    expected = published(plain_view(middle, 32), padded(7, 8), tiny_state, tiny_architecture)
    score = scorer.score([Sample(image, "red cat")])[0]["image_reward"].value
    assert score == pytest.approx(expected, abs=1e-5)


def test_half_precision_stays_near(tiny_folder, make, scorer, samples):
    exact = [s["image_reward"].value for s in scorer.score(samples)]
    for dtype, tolerance in (("bfloat16", 0.1), ("float16", 0.02)):
        evaluator = make(tiny_folder)
        evaluator.load(dtype=dtype)
        values = [s["image_reward"].value for s in evaluator.score(samples)]
        np.testing.assert_allclose(values, exact, atol=tolerance)
        assert values != exact


def test_the_official_sizes_have_the_published_names_and_shapes():
    """A sample from each part of the file, and as many bytes as the published one has."""
    own_shapes = shapes(OFFICIAL)
    expected = {
        "blip.visual_encoder.cls_token": (1, 1, 1024),
        "blip.visual_encoder.pos_embed": (1, 197, 1024),
        "blip.visual_encoder.patch_embed.proj.weight": (1024, 3, 16, 16),
        "blip.visual_encoder.blocks.23.attn.qkv.weight": (3072, 1024),
        "blip.visual_encoder.blocks.0.mlp.fc1.bias": (4096,),
        "blip.visual_encoder.norm.bias": (1024,),
        "blip.text_encoder.embeddings.word_embeddings.weight": (30524, 768),
        "blip.text_encoder.embeddings.LayerNorm.weight": (768,),
        "blip.text_encoder.encoder.layer.11.crossattention.self.key.weight": (768, 1024),
        "blip.text_encoder.encoder.layer.0.attention.self.key.weight": (768, 768),
        "blip.text_encoder.encoder.layer.0.output.dense.weight": (768, 3072),
        "mlp.layers.0.weight": (1024, 768),
        "mlp.layers.2.weight": (128, 1024),
        "mlp.layers.4.weight": (64, 128),
        "mlp.layers.6.weight": (16, 64),
        "mlp.layers.7.bias": (1,),
    }
    assert {name: own_shapes.get(name) for name in expected} == expected
    unused = 4 * (256 * (1024 + 768) + 2 * 256) + 8 * 512  # two projections, positions
    size = 4 * sum(math.prod(shape) for shape in own_shapes.values()) + unused
    assert size == pytest.approx(1_786_880_927, rel=2e-4)  # the file has names and checksums too


@pytest.mark.parametrize(
    ("architecture", "count", "digest"),
    [
        (OFFICIAL, 620, "79aa07414ce481c87064e5b74bd4d2c604519777c909a90651d07ab3bf275032"),
        (ARCHITECTURE, 96, "6ff19686f3b90b8bf3ed01aa1731933668e73840e85e0e702982818600fa9403"),
    ],
    ids=["official", "tiny"],
)
def test_the_network_has_a_place_for_each_published_tensor(architecture, count, digest):
    """The digests are of a table that was written from the published file's names and sizes."""
    lines = sorted(f"{name} {list(shape)}" for name, shape in shapes(architecture).items())
    assert len(lines) == count
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == digest


def test_a_state_dict_in_the_published_layout_has_the_unused_tensors_too(tiny_architecture):
    asked = []

    def zeros(name, shape):
        asked.append(name)
        return np.zeros(shape)

    state = state_dict(tiny_architecture, zeros)
    unused = {
        "blip.vision_proj.weight": (5, 48),
        "blip.vision_proj.bias": (5,),
        "blip.text_proj.weight": (5, 32),
        "blip.text_proj.bias": (5,),
        "blip.text_encoder.embeddings.position_ids": (1, 40),
    }
    own_shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    assert own_shapes == shapes(tiny_architecture) | unused
    positions = "blip.text_encoder.embeddings.position_ids"
    assert state[positions].tolist() == [list(range(40))]
    assert set(asked) == set(own_shapes) - {positions}


def test_a_filler_that_gives_another_shape_is_refused():
    with pytest.raises(ValueError, match="another shape"):
        state_dict(Architecture(vision_layers=0, text_layers=0), lambda name, shape: np.zeros(1))
