"""The learned scorer of the embedded world, on its shipped weights."""

from __future__ import annotations

import random
import shutil

import numpy as np
import pytest

from benchmarks.pretrain.scorer import draw
from evaluators.shapes.clipscore import WEIGHTS, ShapesClipScore
from evaluators.types import EvaluatorError, Sample
from soar_bench.shapes import captions
from soar_bench.shapes.render import render


@pytest.fixture(scope="module")
def scorer():
    evaluator = ShapesClipScore()
    evaluator.check()
    evaluator.load()
    return evaluator


def values(scorer, samples):
    return np.array([s["shapes_clipscore"].value for s in scorer.score(samples)])


def test_true_captions_rank_above_altered_ones_on_held_out_scenes(scorer):
    """At least 95% over every form of caption, and at least 90% within each."""
    drawn = draw("test: never a training seed", 1500)
    rng = random.Random(0)
    images = [render(scene) for _, scene, _ in drawn]
    truth = [metadata for metadata, _, _ in drawn]
    other = [captions.altered(metadata, rng) for metadata in truth]
    above = []
    for start in range(0, len(drawn), 250):
        part = slice(start, start + 250)
        right = [Sample(i, m["prompt"]) for i, m in zip(images[part], truth[part], strict=True)]
        wrong = [Sample(i, m["prompt"]) for i, m in zip(images[part], other[part], strict=True)]
        above += (values(scorer, right) > values(scorer, wrong)).tolist()
    above = np.array(above)
    tags = np.array([m["tag"] for m in truth])
    assert above.mean() >= 0.95
    for tag in set(tags):
        assert above[tags == tag].mean() >= 0.90, tag


def test_the_score_is_the_samples_own(scorer):
    """Alone, in a batch, in another order: the same within 1e-5."""
    drawn = draw("test: batches", 9)
    samples = [Sample(render(scene), metadata["prompt"]) for metadata, scene, _ in drawn]
    together = values(scorer, samples)
    alone = np.concatenate([values(scorer, [s]) for s in samples])
    back = values(scorer, samples[::-1])[::-1]
    np.testing.assert_allclose(alone, together, atol=1e-5)
    np.testing.assert_allclose(back, together, atol=1e-5)
    assert (np.abs(together) <= 1).all()


def test_the_value_is_the_cosine_of_transformers_own_embeddings(scorer):
    """Against the model's own image-text logits, which are scale x cosine."""
    import torch

    (metadata, scene, _), *_ = draw("test: cosine", 1)
    sample = Sample(render(scene), metadata["prompt"])
    pixels = torch.from_numpy(sample.image).permute(2, 0, 1)[None].float() / 127.5 - 1
    tokens = scorer._tokenizer(sample.prompt, padding="max_length", return_tensors="pt")
    with torch.no_grad():
        logits = scorer._model(input_ids=tokens.input_ids, pixel_values=pixels).logits_per_image
        expected = (logits / scorer._model.logit_scale.exp()).item()
    assert values(scorer, [sample])[0] == pytest.approx(expected, abs=1e-5)


def test_it_is_not_the_model_that_conditions_the_base():
    from safetensors.numpy import load_file

    from soar_bench.checkpoints import EMBEDDED

    scorer = load_file(WEIGHTS / "model.safetensors")
    for name in ("text_encoder", "text_encoder_2"):
        encoder = load_file(EMBEDDED["shapes"] / name / "model.safetensors")
        key = next(k for k in encoder if "token_embedding" in k)
        assert scorer["text_model.embeddings.token_embedding.weight"].shape != encoder[key].shape


def test_its_identity_is_the_digest_of_its_weights(tmp_path):
    shutil.copytree(WEIGHTS, tmp_path / "clip")
    copy = ShapesClipScore(tmp_path / "clip")
    assert copy.identity() == ShapesClipScore().identity()
    data = bytearray((tmp_path / "clip" / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (tmp_path / "clip" / "model.safetensors").write_bytes(data)
    assert copy.identity() != ShapesClipScore().identity()


def test_missing_weights_and_an_empty_tokenizer_are_refused(tmp_path):
    with pytest.raises(EvaluatorError, match=r"incomplete.*install soar-bench again"):
        ShapesClipScore(tmp_path).check()
    shutil.copytree(WEIGHTS, tmp_path / "clip")
    (tmp_path / "clip" / "tokenizer.json").write_text("{}")
    with pytest.raises(EvaluatorError, match="tokenizer"):
        ShapesClipScore(tmp_path / "clip").load()
