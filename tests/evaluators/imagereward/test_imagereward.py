"""ImageReward as an evaluator: batches, order, declared metric, and bad files."""

from __future__ import annotations

import json
import math
import pickle

import numpy as np
import pytest

from evaluators.imagereward.evaluator import ImageReward
from evaluators.types import EvaluatorError, Sample

torch = pytest.importorskip("torch")


def values(evaluator, samples):
    return [s["image_reward"].value for s in evaluator.score(samples)]


def test_the_score_is_the_samples_own(scorer, samples):
    """Alone, in a batch, in another order, beside its like: the same within 1e-5."""
    together = values(scorer, samples)
    alone = [values(scorer, [s])[0] for s in samples]
    back = values(scorer, samples[::-1])[::-1]
    twice = values(scorer, [s for s in samples for _ in range(2)])
    np.testing.assert_allclose(alone, together, atol=1e-5)
    np.testing.assert_allclose(back, together, atol=1e-5)
    np.testing.assert_allclose(twice[::2], together, atol=1e-5)
    np.testing.assert_allclose(twice[1::2], together, atol=1e-5)


def test_more_samples_than_a_batch_come_back_in_order(scorer, samples, monkeypatch):
    together = values(scorer, samples)
    monkeypatch.setattr(scorer, "_batch", 4)
    np.testing.assert_allclose(values(scorer, samples), together, atol=1e-5)
    assert scorer.score([]) == []


def test_each_pair_passes_through_the_model_once(scorer, samples, monkeypatch):
    """16 pairs cost 16 rows of the text encoder, not 256."""
    rows = []
    original = scorer._model.rewards

    def counted(pixels, ids, mask):
        rows.append((len(pixels), len(ids), len(mask)))
        return original(pixels, ids, mask)

    monkeypatch.setattr(scorer._model, "rewards", counted)
    scorer.score([samples[i % len(samples)] for i in range(16)])
    assert [sum(counts) for counts in zip(*rows, strict=True)] == [16, 16, 16]


def test_a_cut_prompt_scores_as_what_is_left_of_it_and_says_so(scorer, samples):
    """33 tokens and the two around them; "the cat" is two."""
    image = samples[0].image
    long, cut = scorer.score(
        [Sample(image, "the cat " * 40), Sample(image, "the cat " * 16 + "the")]
    )
    assert long["image_reward"].value == pytest.approx(cut["image_reward"].value, abs=1e-5)
    assert long["image_reward"].details == {"tokens_cut": 47}
    assert cut["image_reward"].details == {}


def test_an_empty_prompt_and_one_of_spaces_are_scored_alike(scorer, samples):
    image = samples[0].image
    empty, spaces = values(scorer, [Sample(image, ""), Sample(image, "  \n ")])
    assert empty == pytest.approx(spaces, abs=1e-5)


def test_its_metric_can_be_recorded_as_json():
    (metric,) = ImageReward().metrics
    assert metric.name == "image_reward"
    json.dumps(list(metric.range), allow_nan=False)
    shown = (-2.03, 0.58)  # least and greatest in the authors' documentation
    assert all(metric.range[0] < value < metric.range[1] for value in shown)
    assert metric.higher_is_better and metric.version and metric.licence and metric.source


def test_making_one_needs_no_weights_and_names_them(tmp_path, monkeypatch):
    monkeypatch.setenv("SOAR_BENCH_HOME", str(tmp_path))
    evaluator = ImageReward()
    assert [w.name for w in evaluator.weights] == ["image-reward", "bert-tokenizer"]
    with pytest.raises(EvaluatorError, match="run `soar-bench fetch image-reward`"):
        evaluator.check()


def test_its_identity_is_the_weights(tiny_folder, make):
    identity = make(tiny_folder).identity()
    assert set(identity) == {"image-reward", "bert-tokenizer"}


def complaint(make, folder, state) -> str:
    evaluator = make(folder, state)
    with pytest.raises(EvaluatorError) as caught:
        evaluator.load()
    sentence = str(caught.value)
    assert str(folder) in sentence and "\n" not in sentence
    return sentence


def test_a_missing_tensor_is_named_as_in_the_file(make, tmp_path, tiny_state):
    del tiny_state["blip.visual_encoder.blocks.1.attn.qkv.bias"]
    message = complaint(make, tmp_path, tiny_state)
    assert "lacks blip.visual_encoder.blocks.1.attn.qkv.bias" in message


@pytest.mark.parametrize(
    "name",
    [
        "blip.itm_head.weight",
        "blip.temp",
        "module.mlp.layers.0.weight",
        "blip.vision_proj.scale",
        "blip.visual_encoder.post_layernorm.weight",  # transformers' name for the file's norm
        "blip.text_encoder.pooler.dense.weight",
    ],
)
def test_a_tensor_that_the_published_file_does_not_hold_is_an_error(
    make, tmp_path, tiny_state, name
):
    tiny_state[name] = torch.zeros(3)
    assert f"has the unknown {name}" in complaint(make, tmp_path, tiny_state)


def test_a_tensor_of_another_shape_is_an_error(make, tmp_path, tiny_state):
    name = "blip.text_encoder.encoder.layer.0.crossattention.self.key.weight"
    tiny_state[name] = tiny_state[name][:, :-1].clone()
    assert f"another shape for {name}" in complaint(make, tmp_path, tiny_state)


def test_what_the_published_file_holds_beside_the_model_changes_nothing(
    make, tmp_path, tiny_state, scorer, samples
):
    for name in list(tiny_state):
        if "_proj." in name or name.endswith("position_ids"):
            del tiny_state[name]
    evaluator = make(tmp_path, tiny_state)
    evaluator.load()
    assert values(evaluator, samples) == values(scorer, samples)


@pytest.mark.parametrize("content", [[1, 2], {"state_dict": {"a": 1}}, {"a": torch.zeros(1), 2: 3}])
def test_a_file_of_something_else_is_refused(make, tmp_path, content):
    assert "no table of tensors" in complaint(make, tmp_path, content)


def test_a_truncated_file_is_refused(make, tmp_path, tiny_state):
    evaluator = make(tmp_path, tiny_state)
    file = tmp_path / "ImageReward.pt"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(EvaluatorError, match=r"ImageReward\.pt cannot be read.*fetch it again"):
        evaluator.load()


class Code:
    def __reduce__(self):
        return (print, ("code ran",))


def test_code_in_a_file_is_not_run(make, tmp_path, tiny_state, capsys):
    evaluator = make(tmp_path, tiny_state)
    (tmp_path / "ImageReward.pt").write_bytes(pickle.dumps(Code(), protocol=2))
    with pytest.raises(EvaluatorError, match="cannot be read as weights"):
        evaluator.load()
    assert "code ran" not in capsys.readouterr().out


SPECIAL = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "has 0 tokens"),
        (SPECIAL, "has 5 tokens"),
        (SPECIAL + "\n".join(f"w{i}" for i in range(15)), "has 20 tokens"),
        (SPECIAL + "\n".join(["same"] * 14), "repeats 13 tokens"),
        (SPECIAL.replace("[CLS]", "w") + "\n".join(f"w{i}" for i in range(14)), r"lacks \[CLS\]"),
        (SPECIAL + "[DEC]\n" + "\n".join(f"w{i}" for i in range(13)), r"holds \[DEC\] itself"),
    ],
    ids=["empty", "too few", "too many", "repeated", "a special one lacking", "BLIP's inside"],
)
def test_a_vocabulary_that_is_not_berts_is_refused(make, tmp_path, tiny_state, text, reason):
    evaluator = make(tmp_path, tiny_state)
    (tmp_path / "vocab.txt").write_text(text, "utf-8")
    with pytest.raises(EvaluatorError, match=reason + ".*needs BERT's 19.*fetch it again"):
        evaluator.load()


def test_a_vocabulary_that_is_no_text_is_refused(make, tmp_path, tiny_state):
    evaluator = make(tmp_path, tiny_state)
    (tmp_path / "vocab.txt").write_bytes(b"\xff\xfe\x80" * 30)
    with pytest.raises(EvaluatorError, match=r"vocab\.txt is damaged.*fetch it again"):
        evaluator.load()


def test_a_score_that_is_no_number_is_an_error_and_no_score(make, tmp_path, tiny_state, samples):
    tiny_state["mlp.layers.7.bias"][:] = math.nan
    evaluator = make(tmp_path, tiny_state)
    evaluator.load()
    with pytest.raises(EvaluatorError, match=r"no number.*use float32"):
        evaluator.score(samples)
