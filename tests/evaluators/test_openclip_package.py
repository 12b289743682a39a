"""CLIPScore by open_clip's models, and our CLIP towers beside open_clip's own (where installed)."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import evaluators
from evaluators import EvaluatorError, Sample, openclip_package, registry
from evaluators.clip import build
from evaluators.golden import clip as tiny
from evaluators.images import pillow_view
from evaluators.openclip import Architecture, clean, to_transformers
from evaluators.openclip_package import OpenClipScore
from evaluators.testing import check_evaluator, sample_images
from evaluators.weights import Weights
from soar_bench.core.torchvision import mend_torchvision

PROMPTS = (
    "a red bird on the mat",
    "",
    "the mat " * 60,
    "“Stop” &amp;amp; naïve: 7 + 1",
    "ÀÉ  日本",
)
#: Tiny, with the vocabulary that open_clip's tokenizer has.
ARCHITECTURE = Architecture(
    embedding=32, image_size=32, patch_size=8, vision_width=64, vision_layers=2, vision_heads=1,
    text_width=32, text_layers=2, text_heads=2,
)  # fmt: skip


def model_config(a: Architecture, quick_gelu: bool = False) -> dict:
    return {
        "embed_dim": a.embedding,
        "quick_gelu": quick_gelu,
        "vision_cfg": {
            "image_size": a.image_size,
            "layers": a.vision_layers,
            "width": a.vision_width,
            "head_width": a.vision_width // a.vision_heads,
            "patch_size": a.patch_size,
        },
        "text_cfg": {
            "context_length": a.text_length,
            "vocab_size": a.vocabulary,
            "width": a.text_width,
            "heads": a.text_heads,
            "layers": a.text_layers,
        },
    }


def samples() -> list[Sample]:
    pictures = [*sample_images().values()][: len(PROMPTS)]
    return [Sample(image, prompt) for image, prompt in zip(pictures, PROMPTS, strict=True)]


@pytest.fixture
def open_clip():
    mend_torchvision()
    return pytest.importorskip("open_clip")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty hub's cache."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def put(cache, repo: str, preprocessing: dict | None = None) -> None:
    """A repository with tiny weights, as ``hf download`` leaves one."""
    folder = cache / f"models--{repo.replace('/', '--')}"
    snapshot = folder / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0123")
    save_file(tiny.open_clip_state(ARCHITECTURE), snapshot / "open_clip_model.safetensors")
    config = {"model_cfg": model_config(ARCHITECTURE), "preprocess_cfg": preprocessing or {}}
    (snapshot / "open_clip_config.json").write_text(json.dumps(config))


@pytest.fixture
def built_in(open_clip, tmp_path, monkeypatch):
    """A model ``tiny`` among open_clip's own, and its weights in a file."""
    (tmp_path / "model_configs").mkdir()
    file = tmp_path / "model_configs" / "tiny.json"
    file.write_text(json.dumps(model_config(ARCHITECTURE)))
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny", json.loads(file.read_text()))
    monkeypatch.setattr(openclip_package, "_folder", lambda: tmp_path)
    weights = tmp_path / "tiny.safetensors"
    save_file(tiny.open_clip_state(ARCHITECTURE), weights)
    return weights


def tower(open_clip, folder, quick_gelu: bool = False):
    """Our own tower with the same weights, and CLIP's vocabulary from open_clip's file."""
    words = open_clip.tokenizer.SimpleTokenizer()
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {names.get(word, word): id for word, id in words.encoder.items()}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), "utf-8")
    merges = sorted(words.bpe_ranks, key=words.bpe_ranks.__getitem__)
    (folder / "merges.txt").write_text("\n".join(" ".join(pair) for pair in merges), "utf-8")
    config = ARCHITECTURE.config()
    if quick_gelu:
        config.text_config.hidden_act = config.vision_config.hidden_act = "quick_gelu"
    state = to_transformers(tiny.open_clip_state(ARCHITECTURE))
    tokenizer = Weights("words", (), "", "", folder)
    return build(config, state, folder, tokenizer, "cpu", "float32", "a tiny CLIP")


# --- our towers beside open_clip's ---------------------------------------------------------------


@pytest.mark.parametrize("quick_gelu", [False, True])
def test_our_tower_embeds_as_open_clip_does(open_clip, tmp_path, quick_gelu):
    theirs = open_clip.CLIP(**model_config(ARCHITECTURE, quick_gelu)).eval()
    theirs.load_state_dict(tiny.open_clip_state(ARCHITECTURE))
    ours = tower(open_clip, tmp_path, quick_gelu)
    tokens = open_clip.get_tokenizer("ViT-B-32")(list(PROMPTS))
    transform = open_clip.image_transform(32, is_train=False)
    pixels = torch.stack([transform(Image.fromarray(s.image)) for s in samples()])
    with torch.no_grad():
        images = theirs.encode_image(pixels, normalize=True)
        texts = theirs.encode_text(tokens, normalize=True)
    own = ours.embed_images([s.image for s in samples()], pillow_view("round"))
    torch.testing.assert_close(own, images, atol=2e-6, rtol=0)
    own = ours.embed_texts([clean(prompt) for prompt in PROMPTS])
    torch.testing.assert_close(own, texts, atol=2e-6, rtol=0)
    assert ours.logit_scale == pytest.approx(float(theirs.logit_scale.exp()))
    other = tower(open_clip, tmp_path, not quick_gelu)  # the two activations are told apart
    other_images = other.embed_images([s.image for s in samples()], pillow_view("round"))
    assert (other_images - images).abs().max() > 1e-4


def test_our_texts_become_open_clips_tokens(open_clip, tmp_path):
    ours = tower(open_clip, tmp_path).tokenizer([clean(prompt) for prompt in PROMPTS], 77)
    theirs = open_clip.get_tokenizer("ViT-B-32")(list(PROMPTS))
    end = ARCHITECTURE.vocabulary - 1
    for mine, other in zip(ours.tolist(), theirs.tolist(), strict=True):
        assert mine[: mine.index(end) + 1] == other[: other.index(end) + 1]


# --- the evaluator -------------------------------------------------------------------------------


def test_the_score_is_the_cosine_that_our_own_tower_gives(open_clip, cache, tmp_path):
    put(cache, "someone/tiny-clip")
    ours = tower(open_clip, tmp_path)
    images = ours.embed_images([s.image for s in samples()], pillow_view("round"))
    texts = ours.embed_texts([clean(prompt) for prompt in PROMPTS])
    scorer = evaluators.load("openclip:hf-hub:someone/tiny-clip", device="cpu")
    values = scorer([s.image for s in samples()], PROMPTS)
    np.testing.assert_allclose(values, (images * texts).sum(-1).numpy(), atol=2e-6)
    assert np.ptp(values) > 0.01
    (metric,) = scorer.metrics
    assert (scorer.name, metric.name) == (
        "openclip-someone-tiny-clip",
        "openclip_someone_tiny_clip",
    )
    for dtype in ("bfloat16", "float16"):
        low = evaluators.load("openclip:hf-hub:someone/tiny-clip", "cpu", dtype)
        np.testing.assert_allclose(low([s.image for s in samples()], PROMPTS), values, atol=0.03)


def test_a_repository_a_file_and_a_tag_agree(open_clip, built_in, cache, monkeypatch):
    put(cache, "someone/tiny-clip")
    tag = open_clip.get_pretrained_cfg("ViT-B-32", "laion2b_s34b_b79k")
    table = {"mine": {**tag, "hf_hub": "someone/tiny-clip/"}}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny", table)
    values = [
        evaluators.load(f"openclip:{name}", device="cpu")([s.image for s in samples()], PROMPTS)
        for name in ("hf-hub:someone/tiny-clip", "tiny/hf-hub:someone/tiny-clip", "tiny/mine",
                     f"tiny/{built_in}")
    ]  # fmt: skip
    for other in values[1:]:
        np.testing.assert_array_equal(values[0], other)


def test_a_folder_of_a_repositorys_files_is_the_repository(open_clip, cache, tmp_path):
    put(cache, "someone/tiny-clip")
    (snapshot,) = (cache / "models--someone--tiny-clip" / "snapshots").iterdir()
    folder = snapshot.rename(tmp_path / "my clip")
    in_folder = evaluators.load(f"openclip:local-dir:{folder}", device="cpu")
    assert (in_folder.name, in_folder.metrics[0].name) == ("openclip-my-clip", "openclip_my_clip")
    put(tmp_path / "again", "someone/tiny-clip")
    cache.rename(tmp_path / "old")
    (tmp_path / "again").rename(cache)
    from_hub = evaluators.load("openclip:hf-hub:someone/tiny-clip", device="cpu")
    images = [s.image for s in samples()]
    np.testing.assert_array_equal(in_folder(images, PROMPTS), from_hub(images, PROMPTS))
    (folder / "open_clip_config.json").unlink()
    with pytest.raises(EvaluatorError, match=r"or open_clip_config\.json: name a folder that"):
        registry.create(f"openclip:local-dir:{folder}").check()


def test_pictures_are_prepared_as_the_weights_were_trained(open_clip, built_in, cache, monkeypatch):
    """SigLIP squashes pictures and centres them otherwise, whichever way its weights are named."""
    siglip = open_clip.get_pretrained_cfg("ViT-B-16-SigLIP", "webli")
    settings = {key: siglip[key] for key in ("mean", "std", "interpolation", "resize_mode")}
    put(cache, "someone/squashed", settings)
    table = {"mine": {**siglip, "hf_hub": "someone/squashed/open_clip_pytorch_model.bin"}}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny", table)
    image = sample_images()["a wide gradient"]
    resized = Image.fromarray(image).resize((32, 32), Image.Resampling.BICUBIC)
    expected = torch.from_numpy(np.array(resized)).permute(2, 0, 1) / 127.5 - 1
    for name in ("hf-hub:someone/squashed", "tiny/mine", f"tiny/{built_in}"):
        evaluator = registry.create(f"openclip:{name}")
        evaluator.load()
        pixels = evaluator._transform(Image.fromarray(image))
        torch.testing.assert_close(pixels, expected, atol=1e-6, rtol=0)


def test_weights_trained_with_quickgelu_are_run_with_it(open_clip, built_in, cache, monkeypatch):
    put(cache, "someone/tiny-clip")
    tag = open_clip.get_pretrained_cfg("ViT-B-32", "openai")
    table = {"openai": {**tag, "hf_hub": "someone/tiny-clip/"}}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny", table)
    theirs = open_clip.CLIP(**model_config(ARCHITECTURE, quick_gelu=True)).eval()
    theirs.load_state_dict(tiny.open_clip_state(ARCHITECTURE))
    evaluator = registry.create("openclip:tiny/openai")
    evaluator.load()
    tokens = open_clip.get_tokenizer("ViT-B-32")(list(PROMPTS))
    with torch.no_grad():
        expected = theirs.encode_text(tokens)
        torch.testing.assert_close(evaluator._network.encode_text(tokens), expected)


def test_it_keeps_the_contract(open_clip, built_in):
    check_evaluator(f"openclip:tiny/{built_in}", samples(), processes=False)


def test_the_weights_and_the_package_are_its_identity(open_clip, built_in):
    evaluator = registry.create(f"openclip:tiny/{built_in}")
    first = evaluator.identity()
    assert set(first) == {"tiny.safetensors", "open_clip", "torchvision"}
    state = tiny.open_clip_state(ARCHITECTURE)
    save_file({**state, "logit_scale": state["logit_scale"] + 1}, built_in)
    assert evaluator.identity()["tiny.safetensors"] != first["tiny.safetensors"]


def test_nothing_is_downloaded_and_what_to_fetch_is_said(open_clip, built_in, cache, monkeypatch):
    from huggingface_hub import constants

    def refuse(*_):
        raise AssertionError("asks the network")

    monkeypatch.setattr("socket.getaddrinfo", refuse)
    monkeypatch.setattr("socket.socket.connect", refuse)
    table = {"far": {"url": "https://example.com/w.pt", "hf_hub": ""},
             "near": {"url": "", "hf_hub": "someone/tiny-clip/weights.bin"}}  # fmt: skip
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny", table)
    for name, reason in (
        (
            "hf-hub:someone/none",
            "not in the hub's cache: run `hf download someone/none open_clip",
        ),
        ("tiny/near", "run `hf download someone/tiny-clip weights.safetensors`"),
        ("tiny/far", r"download https://example.com/w.pt and name the file, openclip:tiny/PATH"),
        ("tiny/farther", r"no weights 'farther' of the model tiny \(known: far, near\)"),
        ("tiny/none.pt", "there is no file none.pt to read weights from"),
        ("tinny/near", "no model 'tinny'; did you mean tiny?"),
    ):
        with pytest.raises(EvaluatorError, match=reason):
            evaluators.load(f"openclip:{name}", device="cpu")
    # a text tower of transformers whose files are not here
    config = model_config(ARCHITECTURE)
    config["text_cfg"] = {
        "hf_model_name": "someone/roberta",
        "hf_tokenizer_name": "someone/roberta",
    }
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny", config)
    with pytest.raises(EvaluatorError, match="nothing is downloaded: what it lacks must be in the"):
        evaluators.load(f"openclip:tiny/{built_in}", device="cpu")
    assert constants.HF_HUB_OFFLINE is bool(constants._is_true(None))


def test_weights_of_another_model_and_damaged_ones_are_refused(open_clip, built_in):
    save_file({"visual.proj": torch.zeros(2, 2)}, built_in)
    with pytest.raises(EvaluatorError, match=r"cannot load .*tiny.safetensors"):
        evaluators.load(f"openclip:tiny/{built_in}", device="cpu")
    built_in.write_bytes(b"nothing")
    with pytest.raises(EvaluatorError, match=r"cannot load .*tiny.safetensors"):
        evaluators.load(f"openclip:tiny/{built_in}", device="cpu")


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("ViT-B-32/laion2b_s34b_b79k", "openclip-ViT-B-32-laion2b_s34b_b79k"),
        ("ViT-B-32//data/my weights.pt", "openclip-ViT-B-32-my-weights"),
        ("ViT-B-32/weights.pt", "openclip-ViT-B-32-weights"),
        ("hf-hub:laion/CLIP-ViT", "openclip-laion-CLIP-ViT"),
        ("ViT-B-32/hf-hub:laion/CLIP-ViT", "openclip-ViT-B-32-laion-CLIP-ViT"),
    ],
)
def test_a_name_says_the_model_and_its_weights(given, name):
    evaluator = registry.create(f"openclip:{given}")
    assert evaluator.name == name
    assert evaluator.metrics[0].name == name.replace("-", "_")
    assert registry.find(f"openclip:{given}").origin == "built in"


@pytest.mark.parametrize("given", ["ViT-B-32", "ViT-B-32/", "/laion2b"])
def test_a_name_without_weights_says_how_to_write_it(given):
    with pytest.raises(EvaluatorError, match="write openclip:MODEL/PRETRAINED, for example"):
        registry.create(f"openclip:{given}")


def test_a_module_of_that_name_is_still_a_module(tmp_path, monkeypatch):
    (tmp_path / "openclip.py").write_text(
        "from evaluators import Evaluator, Metric, Score\n"
        "class Mine(Evaluator):\n"
        "    name = 'mine'\n"
        "    metrics = (Metric('mine', 'share', (0.0, 1.0), True, '1', 'here', 'half'),)\n"
        "    def score(self, samples):\n"
        "        return [{'mine': Score(0.5)} for _ in samples]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert registry.create("openclip:Mine").name == "mine"


def test_the_extra_is_named_where_the_package_is_missing(monkeypatch):
    monkeypatch.setattr(openclip_package, "find_spec", lambda name: None)
    with pytest.raises(EvaluatorError, match=r"pip install .*\[openclip\]'"):
        OpenClipScore("ViT-B-32/laion2b_s34b_b79k").check()
