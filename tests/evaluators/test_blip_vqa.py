"""BLIP-VQA against a direct transcription over transformers' class, and its phrases."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from PIL import Image

from evaluators import EvaluatorError, catalogue
from evaluators.blip_vqa import model, phrases
from evaluators.blip_vqa.evaluator import BlipVqa, question
from evaluators.golden import blip_vqa as tiny
from evaluators.golden.fill import fill
from evaluators.types import Sample


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("blip-vqa")
    tiny.write_blip_vqa(folder)
    return folder


def evaluator_over(folder, **settings):
    weights, words = catalogue.BLIP_VQA.at(folder), catalogue.BERT_TOKENIZER.at(folder)
    return BlipVqa(weights, words, tiny.ARCHITECTURE, **{"canary": False, **settings})


@pytest.fixture(scope="module")
def judge(folder):
    made = evaluator_over(folder)
    made.load()
    return made


def image(height=40, width=56, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


ASKED = ["a red bird", "The ball, on the mat!", "an unknown thing of the night"]


def test_a_phrases_probability_is_that_of_a_direct_transcription(folder, judge):
    """The released steps, over the class with a state dict of its own names."""
    import torch
    from transformers import BertTokenizer, BlipConfig, BlipForQuestionAnswering

    a = tiny.ARCHITECTURE
    sizes = {"hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 2,
             "num_attention_heads": 2}  # fmt: skip
    network = BlipForQuestionAnswering(BlipConfig(
        vision_config={**sizes, "image_size": 32, "patch_size": 8, "layer_norm_eps": 1e-6},
        text_config={**sizes, "vocab_size": a.vocabulary, "encoder_hidden_size": 32,
                     "max_position_embeddings": 40, "layer_norm_eps": 1e-12, "is_decoder": True,
                     "bos_token_id": a.vocabulary - 2, "sep_token_id": 3, "eos_token_id": 3},
    )).eval()  # fmt: skip
    file = torch.load(folder / catalogue.BLIP_VQA.files[0].path, weights_only=True)["model"]
    places = {
        "cls_token": "embeddings.class_embedding", "pos_embed": "embeddings.position_embedding",
        "patch_embed.proj": "embeddings.patch_embedding", "blocks.": "encoder.layers.",
        ".attn.": ".self_attn.", ".proj.": ".projection.", ".norm1.": ".layer_norm1.",
        ".norm2.": ".layer_norm2.",
    }  # fmt: skip
    state = {}
    for name, tensor in file.items():
        if name.startswith("visual_encoder."):
            name = name.replace("visual_encoder.", "vision_model.").replace(
                ".norm.", ".post_layernorm."
            )
            for old, new in places.items():
                name = name.replace(old, new)
        state[name] = tensor
    network.load_state_dict(state)
    words = {word: number for number, word in enumerate(tiny.VOCABULARY)}
    tokenizer = BertTokenizer(vocab=words, do_lower_case=True)

    resized = Image.fromarray(image()).resize((32, 32), Image.Resampling.BICUBIC)
    mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    pixels = torch.from_numpy(((np.asarray(resized) / 255 - mean) / std).astype(np.float32))
    pixels = pixels.permute(2, 0, 1)[None]
    expected = []
    texts = ["a red bird?", "the ball, on the mat?", "an unknown thing of the night?"]
    for text in texts:
        ids = tokenizer(text, return_tensors="pt").input_ids
        ids[:, 0] = a.vocabulary - 1  # [ENC]
        with torch.inference_mode():
            seen = network.vision_model(pixel_values=pixels).last_hidden_state
            states = network.text_encoder(
                input_ids=ids, encoder_hidden_states=seen, is_decoder=False
            ).last_hidden_state
            logits = network.text_decoder(
                input_ids=torch.tensor([[a.vocabulary - 2]]), encoder_hidden_states=states
            ).logits[0, 0]
        share = logits.softmax(0)
        yes, no = share[words["yes"]], share[words["no"]]
        expected.append(float(yes / (yes + no)))
    assert len(set(np.round(expected, 6))) == 3
    (values,) = judge.probabilities([image()], [ASKED])
    assert values == pytest.approx(expected, abs=1e-6)
    (scores,) = judge.score([Sample(image(), "", {"phrases": ASKED})])
    assert scores["blip_vqa"].value == pytest.approx(math.prod(expected), abs=1e-6)
    shown = scores["blip_vqa"].details["phrases"]
    assert [p["phrase"] for p in shown] == ASKED and shown[0]["yes"] == round(values[0], 4)


def test_a_score_depends_on_its_sample_alone(judge, monkeypatch):
    samples = [Sample(image(32 + i, 40, i), "", {"phrases": ASKED[: i % 3 + 1]}) for i in range(4)]
    samples.insert(2, Sample(image(), "unknown prompt"))
    alone = [judge.score([sample])[0]["blip_vqa"].value for sample in samples]
    for batch in (1, 3, 64):
        monkeypatch.setattr(judge, "_batch", batch)
        rows = [row["blip_vqa"].value for row in judge.score(samples[::-1])][::-1]
        assert rows[2] is None and alone[2] is None
        assert rows == [v if v is None else pytest.approx(v, abs=1e-6) for v in alone]


def test_a_question_is_asked_as_in_the_released_script():
    assert question('A "red" (small) bird.') == "a red small bird?"
    assert question("x " * 60) == " ".join(["x"] * 50)


def test_phrases_come_from_the_metadata_or_the_table():
    assert phrases.phrases_of("a cat", {}) == []
    assert phrases.phrases_of("a cat", {"phrases": ["the cat", " "]}) == ["the cat"]
    assert phrases.phrases_of("", {"phrases": list("abcdefghij")}) == list("abcdefgh")
    # the first prompt of T2I-CompBench's colours
    text = "a green bench and a blue bowl"
    assert phrases.phrases_of(f" {text}\n", {}) == ["a green bench", "a blue bowl"]
    table = json.loads(phrases.FILE.read_text("utf-8"))
    assert len(table["spans"]) == 900 and table["made_by"].startswith("spaCy 3")
    assert all(spans and all(0 <= a < b for a, b in spans) for spans in table["spans"].values())


def test_a_judge_that_sees_nothing_is_refused(folder, tmp_path):
    import torch

    state = model.state_dict(tiny.ARCHITECTURE, fill)
    for name, tensor in state.items():
        if name.startswith("visual_encoder."):
            tensor.zero_()
    torch.save({"model": state}, tmp_path / catalogue.BLIP_VQA.files[0].path)
    (tmp_path / "vocab.txt").write_bytes((folder / "vocab.txt").read_bytes())
    with pytest.raises(EvaluatorError, match="blip-vqa fails its canary"):
        evaluator_over(tmp_path, canary=True).load()


@pytest.mark.parametrize("damage", ["bytes", "inside", "missing", "unknown", "shape"])
def test_another_file_is_one_sentence(damage, folder, tmp_path):
    import torch

    file = tmp_path / catalogue.BLIP_VQA.files[0].path
    (tmp_path / "vocab.txt").write_bytes((folder / "vocab.txt").read_bytes())
    state = model.state_dict(tiny.ARCHITECTURE, fill)
    if damage == "missing":
        del state["text_decoder.cls.predictions.bias"]
    elif damage == "unknown":
        state["extra"] = torch.zeros(1)
    elif damage == "shape":
        state["visual_encoder.pos_embed"] = state["visual_encoder.pos_embed"][:, :5]
    torch.save(state if damage == "inside" else {"model": state}, file)
    if damage == "bytes":
        file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(EvaluatorError) as caught:
        evaluator_over(tmp_path).load()
    assert len(str(caught.value).splitlines()) == 1 and str(file) in str(caught.value)


def test_positions_that_older_libraries_stored_are_let_pass(folder, tmp_path, judge):
    import torch

    state = model.state_dict(tiny.ARCHITECTURE, fill)
    for part in ("text_encoder", "text_decoder.bert"):
        state[f"{part}.embeddings.position_ids"] = torch.arange(40)[None]
    torch.save({"model": state}, tmp_path / catalogue.BLIP_VQA.files[0].path)
    (tmp_path / "vocab.txt").write_bytes((folder / "vocab.txt").read_bytes())
    other = evaluator_over(tmp_path)
    other.load()
    assert other.probabilities([image()], [ASKED]) == judge.probabilities([image()], [ASKED])
