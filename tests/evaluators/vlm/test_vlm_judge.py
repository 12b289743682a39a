"""The layer over Qwen-VL models, against transformers' own processors and classes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from evaluators import EvaluatorError
from evaluators.golden import vlm as tiny
from evaluators.vlm import canary
from evaluators.vlm.chat import wrapped
from evaluators.vlm.judge import KINDS, Judge
from evaluators.vlm.pixels import PixelRule, rule_of
from evaluators.vlm.question import Question
from evaluators.weights import WeightFile, Weights
from soar_bench.core.torchvision import mend_torchvision

SIZES = ((64, 96), (300, 200), (448, 448), (30, 45), (17, 1000))


def image(height=64, width=96, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def weights_in(folder):
    files = sorted(file.name for file in folder.iterdir())
    return Weights("tiny", tuple(WeightFile(name, "") for name in files), "", "", folder)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {}
    for kind in KINDS:
        made[kind] = tmp_path_factory.mktemp(kind)
        tiny.write_model(made[kind], kind)
    return made


@pytest.fixture(scope="module")
def judges(folders):
    return {kind: Judge.read(weights_in(folder)) for kind, folder in folders.items()}


def processor_of(kind, folder):
    """The model's own processor, with what the hub's preprocessor_config.json says."""
    mend_torchvision()
    import transformers
    from transformers import PreTrainedTokenizerFast
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    tokenizer.pad_token = "<|endoftext|>"
    if kind == "qwen3_vl":
        sizes = {"shortest_edge": 65_536, "longest_edge": 16_777_216}
        images = Qwen2VLImageProcessorPil(size=sizes, patch_size=16, image_mean=[0.5] * 3,
                                          image_std=[0.5] * 3)  # fmt: skip
    else:
        images = Qwen2VLImageProcessorPil(
            size={"shortest_edge": 3136, "longest_edge": 12_845_056}, patch_size=14
        )
    name = {"qwen2_vl": "Qwen2VL", "qwen2_5_vl": "Qwen2_5_VL", "qwen3_vl": "Qwen3VL"}[kind]
    return images, tokenizer, name, transformers


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("size", SIZES)
def test_patches_are_those_of_the_models_own_processor(kind, size, folders):
    images, *_ = processor_of(kind, folders[kind])
    expected = images(image(*size), return_tensors="np")
    patches, grid = rule_of(kind).patches(image(*size))
    assert [list(grid)] == expected["image_grid_thw"].tolist()
    assert np.abs(patches - expected["pixel_values"]).max() <= 2e-6


@pytest.mark.parametrize("kind", list(KINDS))
def test_probabilities_are_those_of_a_direct_transcription(kind, folders, judges):
    """The processor's tensors through the class, the last position's softmax."""
    import torch

    images, tokenizer, name, transformers = processor_of(kind, folders[kind])
    model = getattr(transformers, f"{name}ForConditionalGeneration").from_pretrained(folders[kind])
    question = "How many birds are in the image? Answer in one word."
    batch = images(image(), return_tensors="pt")
    tokens = int(batch["image_grid_thw"].prod()) // 4
    before = "" if kind == "qwen3_vl" else (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n")  # fmt: skip
    text = (f"{before}<|im_start|>user\n<|vision_start|>{'<|image_pad|>' * tokens}<|vision_end|>"
            f"{question}<|im_end|>\n<|im_start|>assistant\n")  # fmt: skip
    assert wrapped(kind, question, tokens) == text
    ids = tokenizer(text, return_tensors="pt").input_ids
    kinds = (ids == tokenizer.convert_tokens_to_ids("<|image_pad|>")).int()
    with torch.inference_mode():
        logits = model(input_ids=ids, mm_token_type_ids=kinds, **batch).logits[0, -1]
    (row,) = judges[kind].first_token([Question(image(), question)])
    assert row == pytest.approx(logits.softmax(-1).numpy(), abs=1e-6)
    assert (
        row.sum() == pytest.approx(1, abs=1e-5) and len(row) == model.config.text_config.vocab_size
    )


@pytest.mark.parametrize("kind", list(KINDS))
def test_answers_are_the_same_alone_in_any_batch_and_order(kind, judges, monkeypatch):
    questions = [
        Question(image(64, 96, 1), "Is it?"), Question(image(300, 200, 2), "Is it red or blue?"),
        Question(image(64, 96, 3), "Is it?"), Question(image(64, 96, 1), "How many are there?"),
    ]  # fmt: skip
    judge = judges[kind]
    alone = np.concatenate([judge.first_token([q]) for q in questions])
    monkeypatch.setattr(Judge, "at_once", 16)
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        rows = judge.first_token([questions[i] for i in order])
        assert rows == pytest.approx(alone[order], abs=1e-6)
    assert judge.write(questions, 4)[2] == judge.write([questions[2]], 4)[0]


def test_generation_is_greedy_and_ends(judges):
    judge = judges["qwen3_vl"]
    question = Question(image(), "Say")
    text = judge.write([question], 3)[0]
    first = int(judge.first_token([question]).argmax())
    assert text.startswith(judge.tokenizer.decode([first])[:1])


def test_questions_about_one_picture_prepare_it_once(judges, monkeypatch):
    judge, picture, prepared = judges["qwen2_vl"], image(), []
    patches = PixelRule.patches
    monkeypatch.setattr(
        PixelRule, "patches", lambda rule, array: prepared.append(array) or patches(rule, array)
    )
    questions = [Question(picture, "Is it?"), Question(picture, "How many?")]
    rows = judge.first_token([*questions, Question(image(seed=1), "Is it?")])
    assert len(prepared) == 2
    assert rows[:2] == pytest.approx(np.concatenate([judge.first_token([q]) for q in questions]))


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_picture_goes_through_the_vision_tower_once(kind, judges, monkeypatch):
    """The same probabilities and texts as when every question brings its picture."""
    judge, first, second = judges[kind], image(64, 96, 1), image(128, 64, 2)
    questions = [Question(first, "Is it?"), Question(second, "Is it red?"),
                 Question(first, "How many are there?"), Question(first, "Is he?")]  # fmt: skip
    seen = []
    hook = judge.model.model.visual.register_forward_hook(lambda *_: seen.append(1))
    rows, texts = judge.first_token(questions), judge.write(questions, 3)
    assert len(seen) == 4  # two pictures, asked about twice
    monkeypatch.setattr(Judge, "at_once", 16)
    together = judge.first_token(questions)
    assert len(seen) == 5
    monkeypatch.setattr(judge, "takes_features", False)
    assert judge.write(questions, 3) == texts
    monkeypatch.setattr(Judge, "at_once", 1)
    assert np.array_equal(judge.first_token(questions), rows)
    hook.remove()
    assert together == pytest.approx(rows, abs=1e-6)


def test_a_picture_too_narrow_is_refused():
    with pytest.raises(ValueError, match="too narrow"):
        rule_of("qwen2_vl").size(10, 3000)


@pytest.mark.parametrize("damage", ["config", "kind", "tokenizer", "missing", "unknown", "shape"])
def test_damaged_weights_are_one_sentence(damage, folders, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    folder = tmp_path / "model"
    shutil.copytree(folders["qwen3_vl"], folder)
    config, file = folder / "config.json", folder / "model.safetensors"
    state = load_file(file)
    name = next(key for key in state if key.endswith("q_proj.weight"))
    if damage == "config":
        config.write_text("{", "utf-8")
    elif damage == "kind":
        config.write_text(json.dumps({"model_type": "llava"}), "utf-8")
    elif damage == "tokenizer":
        (folder / "tokenizer.json").write_text("{}", "utf-8")
    elif damage == "missing":
        del state[name]
    elif damage == "unknown":
        state["model.extra.weight"] = state[name].clone()
    else:
        state[name] = state[name][:4].clone()
    save_file(state, file, {"format": "pt"})
    with pytest.raises(EvaluatorError) as caught:
        Judge.read(weights_in(folder))
    message = str(caught.value)
    assert "fetch it again" in message or "holds no weights" in message
    assert len(message.splitlines()) == 1


def canary_of(judge):
    question = f"Is there {canary.RIGHT} in the image? Answer yes or no."
    yes, no = (judge.ids(word)[0] for word in ("Yes", "No"))
    rows = judge.first_token([Question(im, question) for im in (canary.circle(), canary.square())])
    return canary.Answer("yes against no", *(rows[:, yes] - rows[:, no]))


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_judge_that_sees_nothing_fails_the_canary(kind, tmp_path):
    tiny.write_model(tmp_path, kind, vision=False)
    with pytest.raises(EvaluatorError, match="fails its canary"):
        canary.require("blind", [canary_of(Judge.read(weights_in(tmp_path)))])
    canary.require("right", [canary.Answer("yes", 0.6, 0.4)])


@pytest.mark.parametrize("kind", list(KINDS))
def test_bfloat16_gives_the_same_alone_and_together(kind, folders, monkeypatch):
    judge = Judge.read(weights_in(folders[kind]), dtype="bfloat16")
    questions = [Question(image(64, 96, i), "Is it?") for i in (1, 2, 1)]
    alone = np.concatenate([judge.first_token([q]) for q in questions])
    monkeypatch.setattr(Judge, "at_once", 16)
    rows = judge.first_token(questions[::-1])[::-1]
    assert rows == pytest.approx(alone, rel=0.05, abs=1e-3)
    assert rows.sum(1) == pytest.approx(1, abs=1e-5)


def test_the_canarys_pictures_are_what_they_are_named():
    assert canary.circle()[224, 224].tolist() == [220, 20, 20]
    assert canary.square()[224, 224].tolist() == [20, 40, 220]
    assert (canary.circle()[0, 0] == 255).all() and (canary.circle()[224, 40] == 255).all()
