"""PickScore, CLIPScore, the aesthetic score and HPSv2.1: a score depends on its sample alone, one
tower serves all that share it, and bad files are refused.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from clip_family import ARCHITECTURE, aesthetic, clipscore, hps, pickscore, values
from safetensors.torch import load_file, save_file

from evaluators import catalogue
from evaluators.aesthetic import read_head
from evaluators.clipscore import ClipScore, clipscore_no_antialias, clipscore_processor
from evaluators.golden import clip as tiny
from evaluators.hpsv2 import HpsV21
from evaluators.pickscore import PickScore
from evaluators.types import EvaluatorError, Sample


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
    clip_score, aesthetics = clipscore(folder), aesthetic(folder)
    clip_score.load()
    aesthetics.load()
    assert clip_score._tower is aesthetics._tower
    assert clip_score.shares == aesthetics.shares != ""


def test_an_image_seen_twice_in_the_same_way_is_embedded_once(folder, samples, monkeypatch):
    clip_score, aesthetics = clipscore(folder, "clipscore-processor"), aesthetic(folder)
    clip_score.load()
    aesthetics.load()
    passes = []
    embed = clip_score._tower.embed_pixels
    monkeypatch.setattr(
        clip_score._tower, "embed_pixels", lambda p: passes.append(len(p)) or embed(p)
    )
    clip_score.score(samples)
    shared = [s["aesthetic"].value for s in aesthetics.score(samples)]
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
