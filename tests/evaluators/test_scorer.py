"""An evaluator called on images: its own scores, whatever holds the pixels."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from colours import Colours, Red, noise
from PIL import Image

import evaluators
from evaluators import Evaluator, EvaluatorError, Metric, Sample, Score, registry
from evaluators.golden import cases
from soar_bench.core.errors import SoarBenchError


@pytest.mark.parametrize(
    "name", ["pickscore", "clipscore", "aesthetic", "hpsv21", "image-reward", "shapes-geneval"]
)
def test_it_gives_what_the_evaluator_gives(name, tmp_path):
    alone, made = (cases.TINY[name](tmp_path / part) for part in ("alone", "scorer"))
    samples = cases.samples(name)
    alone.load()
    expected = alone.score(samples)
    scorer = evaluators.load(made, device="cpu", batch_size=3)
    assert scorer.metrics == alone.metrics
    values = scorer(
        [s.image for s in samples], [s.prompt for s in samples], [s.metadata for s in samples]
    )
    by_metric = values if isinstance(values, dict) else {alone.metrics[0].name: values}
    assert set(by_metric) == {m.name for m in alone.metrics}
    for metric, own in by_metric.items():
        assert (own.dtype, own.shape) == (np.float64, (len(samples),))
        one_by_one = [np.nan if s[metric].value is None else s[metric].value for s in expected]
        np.testing.assert_allclose(own, one_by_one, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(scorer.score(samples), expected, strict=True):
        assert {m: s.unscored for m, s in ours.items()} == {
            m: s.unscored for m, s in theirs.items()
        }


def test_pil_images_arrays_and_batches_of_any_kind_are_the_same_pixels(tmp_path):
    pixels = noise()
    first = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
    units = torch.from_numpy(first).double() / 255
    scorer = evaluators.load(Red(), device="cpu")
    expected = pixels[..., 0].mean((1, 2)) / 255
    for images in (
        list(pixels),
        tuple(pixels),
        [Image.fromarray(image) for image in pixels],
        first,
        torch.from_numpy(first),
        torch.from_numpy(first).contiguous(memory_format=torch.channels_last),
        first.astype(np.float32) / 255,
        units,
        units.float().requires_grad_(),
        units.numpy()[::-1][::-1],
    ):
        np.testing.assert_array_equal(scorer(images, "a photo"), expected)
        seen = np.stack([s.image for s in scorer.evaluator.samples])
        np.testing.assert_array_equal(seen, pixels)
    for image in (pixels[0], Image.fromarray(pixels[0]), first[:1]):
        np.testing.assert_array_equal(scorer(image, "a photo"), expected[:1])


def test_floats_are_rounded_as_a_saved_image_is():
    values = np.linspace(0, 1, 3 * 64 * 64, dtype=np.float32).reshape(1, 3, 64, 64)
    scorer = evaluators.load(Red(), device="cpu")
    scorer(torch.from_numpy(values), "a photo")
    saved = np.rint(values[0].transpose(1, 2, 0) * 255).astype(np.uint8)  # diffusers' numpy_to_pil
    np.testing.assert_array_equal(scorer.evaluator.samples[0].image, saved)
    halves = torch.tensor([0.5, 1.5, 2.5, 254.5]).div(255).expand(1, 3, 2, 4)
    scorer(halves, "a photo")
    assert scorer.evaluator.samples[0].image[0, :, 0].tolist() == [0, 2, 2, 254]
    scorer(torch.full((1, 3, 2, 2), 0.25, dtype=torch.bfloat16), "a photo")
    assert scorer.evaluator.samples[0].image.max() == 64


def test_several_metrics_are_a_dict_and_unscored_is_nan():
    scorer = evaluators.load(Colours(), device="cpu")
    values = scorer(list(noise(3)), ["a", "no blue", "c"])
    assert list(values) == ["red", "blue"]
    assert np.isnan(values["blue"]).tolist() == [False, True, False]
    assert not np.isnan(values["red"]).any()
    samples = [
        Sample(image, prompt) for image, prompt in zip(noise(2), ["a", "no blue"], strict=True)
    ]
    assert scorer.score(samples)[1]["blue"].unscored == "not asked for"


def test_batches_and_order_do_not_matter():
    pixels = noise(5)
    large, small = Red(), Red()
    values = evaluators.load(large, device="cpu")(list(pixels), "a photo")
    parts = evaluators.load(small, device="cpu", batch_size=2)(list(pixels[::-1]), "a photo")
    np.testing.assert_array_equal(values, parts[::-1])
    assert (large.batches, small.batches) == ([5], [2, 2, 1])
    empty = evaluators.load(Red(), device="cpu")([], "a photo")
    assert (empty.dtype, empty.shape) == (np.float64, (0,))


def test_pixels_written_into_the_same_array_are_seen(tmp_path):
    """A tower remembers the embeddings of arrays that it has just seen."""
    scorer = evaluators.load(cases.TINY["clipscore"](tmp_path), device="cpu")
    images = list(noise(2, 32, 32))
    samples = [Sample(image, "a bird") for image in images]
    first, again = scorer(images, "a bird"), scorer.score(samples)
    assert [s["clipscore"].value for s in again] == first.tolist()
    for image in images:
        image[:] = 255 - image
    second = scorer(images, "a bird")
    assert not np.isclose(first, second).any()
    assert [s["clipscore"].value for s in scorer.score(samples)] == second.tolist()


class Writes(Evaluator):
    """Writes into the metadata that it is given, and tries it with the pixels."""

    name = "writes"
    metrics = (Metric("writes", "u", (0.0, 9.0), True, "1", "test", "test"),)

    def score(self, samples):
        for sample in samples:
            sample.metadata["list"].append(1)
            with pytest.raises(ValueError, match="read-only"):
                sample.image[:] = 0
        return [{"writes": Score(float(len(sample.metadata["list"])))} for sample in samples]


def test_an_evaluator_changes_neither_pixels_nor_metadata_of_its_caller():
    image, metadata = np.full((8, 8, 3), 7, np.uint8), {"list": []}
    scorer = evaluators.load(Writes())
    for _ in range(2):
        assert scorer([image, image], "a", metadata).tolist() == [1, 1]
    assert metadata == {"list": []} and image.min() == 7 and image.flags.writeable


def test_the_metadata_of_prompts_reaches_the_evaluator():
    scorer = evaluators.load(Red(), device="cpu")
    scorer(list(noise(2)), ["a", "b"], [{"n": 1}, {"n": 2}])
    assert [s.metadata for s in scorer.evaluator.samples] == [{"n": 1}, {"n": 2}]
    scorer(list(noise(2)), ("a", "b"), {"n": 3})
    assert [s.metadata for s in scorer.evaluator.samples] == [{"n": 3}] * 2
    assert [s.prompt for s in scorer.evaluator.samples] == ["a", "b"]


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_the_callers_state_of_torch_is_kept(mode):
    torch.manual_seed(1), np.random.seed(2), random.seed(3)
    expected = torch.rand(4), np.random.rand(4), random.random()
    torch.manual_seed(1), np.random.seed(2), random.seed(3)
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    try:
        with mode(), torch.autocast("cpu", torch.bfloat16):
            scorer = evaluators.load(Red(), device="cpu")
            scorer(list(noise(2)), "a photo")
            with pytest.raises(EvaluatorError):
                scorer(list(noise(2)), ["one"])
            assert torch.is_grad_enabled() is (mode is torch.enable_grad)
            assert torch.is_inference_mode_enabled() is (mode is torch.inference_mode)
            assert torch.is_autocast_enabled("cpu")
        assert torch.get_default_dtype() is torch.float64
        assert torch.get_default_device().type == "meta"
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    # neither autocast nor the caller's defaults reach the evaluator; only scoring needs no grad
    assert scorer.evaluator.modes == [
        (True, torch.float32, "cpu"),
        (False, torch.float32, "cpu"),
    ]
    drawn = torch.rand(4), np.random.rand(4), random.random()
    assert torch.equal(drawn[0], expected[0])
    assert drawn[1].tolist() == expected[1].tolist()
    assert drawn[2] == expected[2]


def test_the_default_dtype_does_not_round_the_weights(tmp_path):
    samples = cases.samples("pickscore")
    plain = evaluators.load(cases.TINY["pickscore"](tmp_path / "a"), device="cpu").score(samples)
    torch.set_default_dtype(torch.bfloat16)
    try:
        scorer = evaluators.load(cases.TINY["pickscore"](tmp_path / "b"), device="cpu")
        again = scorer.score(samples)
    finally:
        torch.set_default_dtype(torch.float32)
    assert again == plain


def test_no_files_are_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOAR_BENCH_HOME", str(tmp_path))
    scorer = evaluators.load("shapes-clipscore", device="cpu")
    scorer(list(noise(2, 64, 64)), "a red circle")
    assert list(tmp_path.rglob("*")) == []


def test_a_name_a_file_and_an_object_are_evaluators(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from evaluators import Evaluator, Metric, Score\n"
        "class Mine(Evaluator):\n"
        "    name = 'mine'\n"
        "    metrics = (Metric('mine', 'share', (0.0, 1.0), True, '1', 'here', 'half'),)\n"
        "    def score(self, samples):\n"
        "        return [{'mine': Score(0.5)} for _ in samples]\n"
    )
    for evaluator in (str(file), f"{file}:Mine", registry.create(str(file))):
        scorer = evaluators.load(evaluator, device="cpu")
        assert scorer(list(noise(2)), "a photo").tolist() == [0.5, 0.5]
        evaluators.check_evaluator(evaluator, processes=False)
    assert (scorer.name, scorer.device, scorer.dtype) == ("mine", "cpu", "float32")


def test_the_precision_is_one_that_the_evaluator_has():
    assert evaluators.load(Red(), "cpu", torch.float16).evaluator.loaded == ("cpu", "float16")
    assert evaluators.load(Red(), torch.device("cpu")).evaluator.loaded == ("cpu", "float32")
    with pytest.raises(EvaluatorError, match="computes in float32 or float16, not bfloat16"):
        evaluators.load(Red(), dtype="bfloat16")


def test_missing_weights_are_said_before_anything_is_loaded(monkeypatch, tmp_path):
    monkeypatch.setenv("SOAR_BENCH_HOME", str(tmp_path))
    with pytest.raises(EvaluatorError, match="run `soar-bench fetch pickscore`"):
        evaluators.load("pickscore", device="cpu")
    with pytest.raises(EvaluatorError, match="did you mean pickscore"):
        evaluators.load("pikscore")
    with pytest.raises(EvaluatorError, match="but the class Red"):
        evaluators.load(Red)
    with pytest.raises(EvaluatorError, match="batch_size must be at least 1, not 0"):
        evaluators.load(Red(), batch_size=0)
    with pytest.raises(SoarBenchError, match="device 'nonsense' cannot be used"):
        evaluators.load(Red(), device="nonsense")


def test_want_of_memory_is_raised_with_the_batch_size():
    class Large(Red):
        def score(self, samples):
            self.batches.append(len(samples))
            raise torch.OutOfMemoryError("CUDA out of memory")

    scorer = evaluators.load(Large(), device="cpu", batch_size=4)
    with pytest.raises(torch.OutOfMemoryError) as raised:
        scorer(list(noise(5)), "a photo")
    assert scorer.evaluator.batches == [4]
    assert (
        "had 4 images at once: load it with a smaller batch_size than 4"
        in (raised.value.__notes__[0])
    )


def test_an_evaluator_that_breaks_its_contract_is_named():
    class Short(Red):
        def score(self, samples):
            return super().score(samples)[1:]

    class Wide(Red):
        def score(self, samples):
            return [{"red": Score(2.0)} for _ in samples]

    for evaluator, reason in ((Short(), "did not return one score"), (Wide(), "outside its range")):
        with pytest.raises(EvaluatorError, match=reason):
            evaluators.load(evaluator, device="cpu")(list(noise(2)), "a photo")


def test_the_contract_is_checked_of_an_object_and_leaves_it_alone():
    evaluator = Red()
    evaluators.check_evaluator(evaluator, processes=False)
    assert evaluator.loaded is None
    with pytest.raises(AssertionError, match="outside the declared range"):

        class Wide(Red):
            def score(self, samples):
                return [{"red": Score(2.0)} for _ in samples]

        evaluators.check_evaluator(Wide(), processes=False)
