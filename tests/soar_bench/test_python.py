"""Evaluation and scoring from Python: objects in the place of names, nothing left changed."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from types import SimpleNamespace

import forks
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from evaluators.types import Evaluator, Metric, Score
from soar_bench.checkpoints import resolve
from soar_bench.checkpoints.in_memory import from_memory
from soar_bench.core.errors import SoarBenchError
from soar_bench.evaluation import evaluate, score
from soar_bench.records import read_run
from soar_bench.rerun import plan_again
from soar_bench.sampling import sampler


class Brightness(Evaluator):
    """Mean grey level, of an object that no file or entry point leads to."""

    name = "brightness"
    metrics = (Metric("brightness", "grey levels", (0.0, 255.0), True, "1", "this test", "mean"),)

    def __init__(self) -> None:
        self.loads = 0

    def load(self, device: str = "cpu", dtype: str = "float32") -> None:
        self.loads += 1
        self.offset = 0.0

    def score(self, samples):
        return [{"brightness": Score(float(s.image.mean()) + self.offset)} for s in samples]


@pytest.fixture
def go(tmp_path, small_suite, quick):
    """evaluate() of two images of the small suite, in folders of the test's own."""

    def run(checkpoint, **changes):
        settings = {
            "protocol": quick, "images_per_prompt": 1, "results": tmp_path / "results",
            "cache": tmp_path / "cache", "device": "cpu",
        }  # fmt: skip
        return evaluate(checkpoint, small_suite, **{**settings, **changes})

    return run


@pytest.fixture(scope="module")
def pipeline(tiny_pipeline):
    from soar_bench.pipelines.loading import load_pipeline

    return load_pipeline(tiny_pipeline)


def pixels_by_sample(run):
    return run.scores().set_index(["prompt_id", "index"])["image"].to_dict()


def test_an_evaluator_object_judges_like_any_other(go, tiny_pipeline, small_suite, tmp_path):
    own = Brightness()
    run = go(tiny_pipeline, evaluators=["shapes-geneval", own])
    scores = run.scores()
    assert set(scores["metric"]) == {"shapes_geneval", "brightness"}
    by_digest = {}
    for file in (tmp_path / "cache" / "images").rglob("[!.]*.png"):
        image = np.asarray(Image.open(file))
        by_digest[Image.open(file).info["soar-bench pixels"]] = image.mean()
    brightness = scores[scores["metric"] == "brightness"]
    expected = [by_digest[digest] for digest in brightness["image"]]
    assert brightness["value"].tolist() == pytest.approx(expected)
    record = run.record.evaluators["brightness"]
    assert record.given == f"{__name__}:Brightness"
    assert record.version == ""
    assert re.fullmatch("[0-9a-f]{64}", record.identity["source"])
    assert own.loads == 0, "the caller's object is not loaded"
    assert run.record.made.scored == {"shapes-geneval": 6, "brightness": 6}
    again = go(tiny_pipeline, evaluators=["shapes-geneval", Brightness()])
    assert again.record == run.record, "nothing was made or scored again"


def test_a_built_in_evaluator_as_an_object_leaves_the_record_of_its_name(go, tiny_pipeline):
    from evaluators.geneval.shapes import ShapesGenEval

    named = go(tiny_pipeline, evaluators="shapes-geneval")
    assert go(tiny_pipeline, evaluators=ShapesGenEval()).record == named.record


def test_a_loaded_evaluator_of_the_caller_goes_on_working(go, tiny_pipeline):
    own = Brightness()
    own.load()
    own.offset = 5.0
    go(tiny_pipeline, evaluators=own)
    assert own.offset == 5.0
    assert own.loads == 1


def test_an_object_that_is_no_evaluator_is_refused_in_one_sentence(go, tiny_pipeline):
    with pytest.raises(SoarBenchError, match=r"no evaluators\.types\.Evaluator but of the type"):
        go(tiny_pipeline, evaluators=[3])
    with pytest.raises(SoarBenchError, match=r"no evaluators\.types\.Evaluator but the class Br"):
        go(tiny_pipeline, evaluators=Brightness)


EVALUATOR = """
from evaluators.types import Evaluator, Metric, Score

class Height(Evaluator):
    name = "height"
    metrics = (Metric("height", "pixels", (0.0, 9999.0), True, "1", "here", "rows"),)
    def score(self, samples):
        return [{"height": Score(float(s.image.shape[0]))} for s in samples]
"""


def test_an_edited_class_does_not_keep_its_old_scores(tmp_path):
    """Whether it is named module:Class or handed over as an object, in processes of their own."""
    by_name = "score([Image.new('RGB', (8, 5))], 'a', evaluators='mine:Height', results='by-name')"
    by_object = "score([Image.new('RGB', (8, 5))], 'a', evaluators=mine.Height(), results='object')"
    code = (
        "import sys; sys.dont_write_bytecode = True\n"
        "import json, mine; from PIL import Image; from soar_bench.evaluation import score\n"
        f"runs = [{by_name}, {by_object}]\n"
        "print(json.dumps([[r.scores()['value'].tolist(), r.record.made.scored] for r in runs]))"
    )
    printed = []
    for source in (EVALUATOR, EVALUATOR, EVALUATOR.replace("shape[0]", "shape[1]")):
        (tmp_path / "mine.py").write_text(source)
        done = forks.run(["-c", code], cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        printed.append(json.loads(done.stdout.splitlines()[-1]))
    assert printed[0][0] == [[5.0], {"height": 1}]
    assert printed[1] == printed[0], "kept"
    assert [values for values, _ in printed[2]] == [[8.0], [8.0]]


# A pipeline in memory


def test_a_pipeline_in_memory_is_the_folder_that_it_would_be_saved_to(pipeline, tmp_path):
    checkpoint = from_memory(pipeline)
    pipeline.save_pretrained(tmp_path / "saved")
    assert checkpoint.digest == resolve(str(tmp_path / "saved")).digest
    assert checkpoint.form == "pipeline"
    bias = pipeline.transformer.proj_out.bias
    before, bias.data = bias.data, bias.data + 1
    assert from_memory(pipeline).digest != checkpoint.digest
    bias.data = before
    assert from_memory(pipeline).digest == checkpoint.digest
    folder = checkpoint.pipeline
    assert not list(folder.rglob("*.safetensors"))
    del checkpoint
    assert not folder.exists()


@pytest.mark.parametrize("end", ["", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_the_settings_of_a_pipeline_in_memory_do_not_stay_on_the_disk(tmp_path, end):
    code = """
import os, signal, tempfile
from soar_bench.checkpoints import in_memory
in_memory._write_settings = lambda pipeline, folder: (folder / "model_index.json").touch()
loaded = in_memory.Loaded(None)
assert [*loaded.folder.iterdir()] and str(loaded.folder.parent) == tempfile.gettempdir()
"""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    for last in (end, ""):  # who is killed leaves it to the next one
        # no fork: those end without what Python does at its end
        subprocess.run([sys.executable, "-c", code + last], env=environment, check=not last)
    assert not [*tmp_path.iterdir()]


def test_a_pipeline_in_memory_makes_the_images_of_its_folder(go, pipeline, tiny_pipeline, tmp_path):
    saved = go(tiny_pipeline, cache=tmp_path / "other")
    run = go(pipeline, label="mine")
    assert pixels_by_sample(run) == pixels_by_sample(saved)
    assert run.record.checkpoint.label == "mine"
    assert run.record.made.generated == 6
    again = go(pipeline, label="mine")
    assert again.record == run.record, "nothing was made or scored again"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_callers_pipeline_and_random_states_are_left_as_they_were(
    go, pipeline, quick, dtype, monkeypatch
):
    def search():
        raise AssertionError("memory was searched for a pipeline that its owner keeps")

    monkeypatch.setattr(sampler, "gc", SimpleNamespace(collect=search))
    pipeline.transformer.train()
    pipeline.transformer.pos_embed.eval()
    modules = {
        f"{name}.{path}": module.training
        for name, part in pipeline.components.items()
        if isinstance(part, torch.nn.Module)
        for path, module in part.named_modules()
    }
    tensors = {
        (name, path): (tensor, tensor.data_ptr(), tensor.dtype, tensor.clone())
        for name, part in pipeline.components.items()
        if isinstance(part, torch.nn.Module)
        for path, tensor in part.state_dict(keep_vars=True).items()
    }
    parts, scheduler = dict(pipeline.components), dict(vars(pipeline.scheduler))
    own, vocabulary = dict(vars(pipeline)), pipeline.tokenizer.backend_tokenizer.to_str()
    torch.manual_seed(3)
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    go(pipeline, protocol=quick.override(dtype=dtype, vae_dtype="float32"))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == states[1:]
    assert pipeline.components == parts
    assert pipeline.tokenizer.backend_tokenizer.to_str() == vocabulary
    assert vars(pipeline) == own
    assert vars(pipeline.scheduler) == scheduler
    assert "decode" not in vars(pipeline.vae)
    for name, part in parts.items():
        if isinstance(part, torch.nn.Module):
            for path, module in part.named_modules():
                assert module.training == modules[f"{name}.{path}"]
            for path, tensor in part.state_dict(keep_vars=True).items():
                before, place, precision, values = tensors[name, path]
                assert tensor is before
                assert (tensor.data_ptr(), tensor.dtype) == (place, precision)
                assert torch.equal(tensor, values)
    pipeline.transformer.eval()


def test_the_run_of_a_pipeline_in_memory_cannot_be_made_again(go, pipeline, tmp_path):
    with pytest.raises(SoarBenchError, match="was a pipeline in memory and is not kept: save it"):
        plan_again(go(pipeline), tmp_path / "rerun")


def test_what_is_no_pipeline_is_refused(go):
    with pytest.raises(SoarBenchError, match="a name, a path or a diffusers pipeline, not int"):
        go(3)


# Images in memory


@pytest.fixture
def pictures():
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (16, 16, 3), np.uint8) for _ in range(3)]


PROMPTS = ["a red star", "a blue ring", "a red star"]


def test_pil_images_are_scored_with_two_evaluators(pictures, tmp_path):
    run = score(
        [Image.fromarray(picture) for picture in pictures],
        PROMPTS,
        evaluators=[Brightness(), "shapes-clipscore"],
        results=tmp_path / "results",
        cache=tmp_path / "cache",
        device="cpu",
    )
    scores = run.scores()
    assert set(scores["metric"]) == {"brightness", "shapes_clipscore"}
    assert scores["value"].notna().all()
    brightness = scores[scores["metric"] == "brightness"]
    by_image = {(row.prompt, row.index_): row.value for row in
                brightness.rename(columns={"index": "index_"}).itertuples()}  # fmt: skip
    assert by_image == {
        (PROMPTS[i], (0, 0, 1)[i]): pytest.approx(pictures[i].mean()) for i in range(3)
    }
    assert read_run(run.folder).record == run.record
    assert run.record.checkpoint.form == "images"
    assert run.label == "images"
    with pytest.raises(SoarBenchError, match="were in memory and are not kept: score them again"):
        plan_again(run, tmp_path / "rerun")


@pytest.mark.parametrize("kind", ["arrays", "tensor", "floats", "files", "folder"])
def test_the_same_images_have_the_same_scores_however_they_are_handed_over(
    kind, pictures, tmp_path
):
    places = {"results": tmp_path / "results", "cache": tmp_path / "cache", "device": "cpu"}
    whole = score(
        [Image.fromarray(p) for p in pictures], PROMPTS, evaluators=Brightness(), **places
    )
    folder = tmp_path / "pictures"
    folder.mkdir()
    files = [folder / f"{number}.png" for number in range(3)]
    for file, picture, prompt in zip(files, pictures, PROMPTS, strict=True):
        Image.fromarray(picture).save(file)
        file.with_suffix(".txt").write_text(prompt)
    batch = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    images = {
        "arrays": pictures, "tensor": batch, "floats": batch / 255, "files": files,
        "folder": folder,
    }[kind]  # fmt: skip
    prompts = None if kind == "folder" else PROMPTS
    other = score(images, prompts, evaluators=Brightness(), label="images", **places)
    pd.testing.assert_frame_equal(other.scores(), whole.scores())
    assert other.record.suite == whole.record.suite
    assert other.record.checkpoint.digest == whole.record.checkpoint.digest
    scored = other.record.made.scored["brightness"]
    assert scored == 3, "by places, or kept from the same pixels"


def test_images_need_prompts_and_as_many_as_there_are(pictures, tmp_path):
    places = {"results": tmp_path / "results", "cache": tmp_path / "cache"}
    with pytest.raises(SoarBenchError, match="need prompts"):
        score(pictures, evaluators=Brightness(), **places)
    with pytest.raises(SoarBenchError, match="there are 3 images and 2 prompts"):
        score(pictures, PROMPTS[:2], evaluators=Brightness(), **places)
    with pytest.raises(SoarBenchError, match="there are no images"):
        score([], [], evaluators=Brightness(), **places)
    assert not (tmp_path / "results").exists()
