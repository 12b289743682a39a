"""Looking at checkpoints while training goes on: figures and images as of ``eval``."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from watched import PROMPTS, PROTOCOL, by_name

from soar_bench import suites
from soar_bench.checkpoints import resolve
from soar_bench.core.errors import SoarBenchError
from soar_bench.evaluation import Options, prepare, run
from soar_bench.sampling.noise import initial_noise
from soar_bench.sampling.sampler import Sampler
from soar_bench.suites import get_suite
from soar_bench.suites.protocols import get_protocol
from soar_bench.trainer.watch import callbacks_of

pytestmark = pytest.mark.usefixtures("collected")


@pytest.fixture(scope="module")
def trained(config):
    """The settings of a training, in which nothing looked on, and its checkpoint of two steps."""
    settings = config()
    return settings, train(settings)


def train(settings, callbacks=()):
    from soar_bench.trainer.run import train

    return str(train(settings, callbacks=callbacks, watch=False))


@pytest.fixture()
def drawn(monkeypatch):
    """The samples that are drawn, as they are drawn."""
    samples, sample = [], Sampler.sample

    def counted(self, batch, seed):
        samples.extend(batch)
        return sample(self, batch, seed)

    monkeypatch.setattr(Sampler, "sample", counted)
    return samples


def files_in(folder):
    return {f: f.stat().st_mtime_ns for f in folder.rglob("*") if f.suffix in (".png", ".json")}


def test_settings_without_evaluation_and_validation_need_no_watcher(config, tmp_path):
    settings = config(
        base="nowhere", evaluation={"every": 0}, validation={"every": 0}, output=tmp_path / "run"
    )
    assert callbacks_of(settings, tmp_path / "cache") == []
    assert not any(tmp_path.iterdir())


def test_figures_of_a_checkpoint_are_those_of_its_evaluation(trained, prompts, tmp_path):
    settings, checkpoint = trained
    seen = by_name(settings, tmp_path / "one")["evaluation"].on_checkpoint(checkpoint, 2)
    options = Options(tmp_path / "results", tmp_path / "two", images_per_prompt=1)
    work = prepare(resolve(checkpoint), get_suite(str(prompts)), get_protocol(PROTOCOL), options)
    assert len(work.to_generate) == 3
    expected = run(work, options)
    assert seen.figures == {"shapes_geneval": expected.scores()["value"].mean()}
    (file,) = (settings.output / "results").rglob("run.json")
    for key in ("checkpoint", "suite", "protocol", "metrics", "scores"):
        assert json.loads(file.read_text())[key] == expected.record.as_json()[key]


def test_an_evaluation_afterwards_finds_everything_made(trained, prompts, tmp_path):
    settings, checkpoint = trained
    by_name(settings, tmp_path / "cache")["evaluation"].on_checkpoint(checkpoint, 2)
    options = Options(tmp_path / "results", tmp_path / "cache", images_per_prompt=1)
    work = prepare(resolve(checkpoint), get_suite(str(prompts)), get_protocol(PROTOCOL), options)
    assert work.to_generate == []
    assert work.to_score == {"shapes-geneval": 0}


def test_records_go_into_the_runs_own_folder_alone(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = config(output=tmp_path / "run")
    watchers = by_name(settings, tmp_path / "cache")
    assert not (tmp_path / "run").exists(), "the trainer tells from it whether the run has begun"
    for watcher in watchers.values():
        watcher.on_checkpoint(settings.base, 0)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["cache", "run"]
    assert sorted(f.name for f in (tmp_path / "run").iterdir()) == ["results", "validation"]


def test_a_second_look_makes_nothing_and_leaves_every_file_as_it_was(trained, drawn, tmp_path):
    settings, checkpoint = trained
    first = by_name(settings, tmp_path / "cache")
    seen = {name: watcher.on_checkpoint(checkpoint, 2) for name, watcher in first.items()}
    assert len(drawn) == 3 + 2
    before = files_in(tmp_path / "cache") | files_in(settings.output)
    again = by_name(settings, tmp_path / "cache")  # as after a stop
    assert {name: watcher.on_checkpoint(checkpoint, 2) for name, watcher in again.items()} == seen
    assert len(drawn) == 5
    assert files_in(tmp_path / "cache") | files_in(settings.output) == before


def test_a_validation_image_that_was_lost_or_damaged_is_made_again(config, drawn, tmp_path):
    settings = config(output=tmp_path / "run")
    watcher = by_name(settings, tmp_path / "cache")["validation"]
    images = watcher.on_checkpoint(settings.base, 0).images
    shown = [file.read_bytes() for file in images.values()]
    one, two = sorted((tmp_path / "cache" / "images").rglob("*.png"))
    content = bytearray(one.read_bytes())
    content[len(content) // 2] ^= 1
    one.write_bytes(content)
    two.unlink()
    for file in images.values():
        file.unlink()
    del drawn[:]
    again = watcher.on_checkpoint(settings.base, 0).images
    assert len(drawn) == 2
    assert [file.read_bytes() for file in again.values()] == shown


def test_validation_images_are_the_pipelines_own_from_noise_that_never_changes(
    trained, tiny_pipeline, tmp_path
):
    """Against diffusers called with the prompt as text, and noise by the documented rule."""
    import torch

    from soar_bench.pipelines.loading import load_pipeline

    settings, checkpoint = trained
    pipeline = load_pipeline(tiny_pipeline)
    watcher = by_name(settings, tmp_path / "cache")["validation"]
    for name, step in ((settings.base, 0), (checkpoint, 2)):
        if step:
            weights = checkpoint + "/transformer"
            pipeline.transformer = type(pipeline.transformer).from_pretrained(weights)
        images = watcher.on_checkpoint(name, step).images
        assert list(images) == PROMPTS
        for number, (prompt, file) in enumerate(images.items()):
            assert file == settings.output / "validation" / f"step-{step:06d}" / f"0{number}.png"
            noise = initial_noise(0, f"validation-0000{number}", 0, (4, 16, 16))
            expected = pipeline(
                prompt,
                latents=torch.from_numpy(noise)[None],
                num_inference_steps=2,
                guidance_scale=3.0,
                height=64,
                width=64,
                max_sequence_length=14,
            ).images[0]
            made = np.asarray(Image.open(file)).astype(int)
            assert np.abs(made - np.asarray(expected).astype(int)).max() <= 1


def test_only_weights_change_validation_images(trained, tmp_path):
    settings, checkpoint = trained

    def look(name, step, cache):
        images = by_name(settings, tmp_path / cache)["validation"].on_checkpoint(name, step).images
        return [np.asarray(Image.open(file)) for file in images.values()]

    base, again = look(settings.base, 0, "one"), look(settings.base, 0, "two")
    changed = look(checkpoint, 2, "one")
    assert all(np.array_equal(a, b) for a, b in zip(base, again, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(base, changed, strict=True))


def test_validation_without_a_protocol_is_at_the_size_that_is_trained(config, tmp_path):
    own = config(validation={"every": 1, "prompts": PROMPTS})
    watcher = by_name(own, tmp_path)["validation"]
    assert watcher.protocol.name == "soar-paper+max_sequence_length=14+resolution=64"
    embedded = config(base="shapes", validation={"every": 1, "prompts": PROMPTS})
    assert by_name(embedded, tmp_path)["validation"].protocol.name == "shapes"


def test_unscored_samples_are_counted_and_no_figure_stands_for_none(
    config, small_suite, tmp_path, monkeypatch
):
    """No prompt quotes a text, so OCR accuracy has no value: not 0."""
    from evaluators.ocr.evaluator import OcrAccuracy

    monkeypatch.setattr(OcrAccuracy, "can_judge", lambda *prompt: True)  # it would be left out
    both = dataclasses.replace(small_suite, evaluators=("shapes-geneval", "ocr"))
    monkeypatch.setitem(suites.SUITES, "small", lambda: both)
    evaluation = {"every": 1, "suite": "small", "protocol": PROTOCOL, "images": 1}
    settings = config(output=tmp_path / "run", evaluation=evaluation, keep_last=1)
    watcher = by_name(settings, tmp_path / "cache")["evaluation"]
    assert watcher.higher_is_better == {"shapes_geneval": True, "ocr_accuracy": True}
    figures = watcher.on_checkpoint(settings.base, 0).figures
    assert set(figures) == {"shapes_geneval", "ocr_accuracy/unscored"}
    assert figures["ocr_accuracy/unscored"] == 6


def test_progress_is_told_by_stage(config, tmp_path):
    heard = []
    settings = config(output=tmp_path / "run")
    for watcher in callbacks_of(settings, tmp_path / "cache", lambda *told: heard.append(told)):
        watcher.on_checkpoint(settings.base, 0)
    assert heard == [
        ("validation: generate", 0, 2),
        ("validation: generate", 2, 2),
        ("evaluation: generate", 0, 3),
        ("evaluation: generate", 3, 3),
        ("evaluation: shapes-geneval", 3, 3),
    ]


# What is refused before training


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"evaluation": {"suite": "shaps"}}, "evaluation.suite: .*did you mean shapes"),
        ({"evaluation": {"suite": "gone.txt"}}, "evaluation.suite: there is no file of prompts"),
        ({"evaluation": {"protocol": "shape"}}, "evaluation.protocol: .*did you mean shapes"),
        (
            {"evaluation": {"protocol": "shapes+resolution=60"}},
            "evaluation: .*multiple of 8 up to .* pixels, not 60",
        ),
        ({"evaluation": {"suite": "plain.txt"}}, "evaluation: .*soar-bench fetch"),
        (
            {"keep_best": "shape_geneval", "keep_last": 1},
            "keep_best: no metric of the evaluation .*did you mean shapes_geneval",
        ),
        (
            {"keep_best": "shapes_geneval/unscored", "keep_last": 1},
            "keep_best: .*known: shapes_geneval",
        ),
        ({"validation": {"prompts": ["a", " "]}}, "validation.prompts: prompt 2 is empty"),
        ({"validation": {"prompts": ["a", "b", "a "]}}, "validation.prompts: 'a' is there twice"),
        ({"validation": {"protocol": "papre"}}, "validation.protocol: no protocol"),
        ({"validation": {"protocol": "shapes+resolution=8000"}}, "validation: .*not 8000"),
    ],
)
def test_what_cannot_work_is_refused_before_training(
    changes, sentence, config, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOAR_BENCH_HOME", str(tmp_path / "home"))  # no weights in it
    (tmp_path / "plain.txt").write_text("a cat\n")
    default = config()
    for section in ("evaluation", "validation"):
        if section in changes:
            whole = getattr(default, section).model_dump()
            changes = {**changes, section: {**whole, **changes[section]}}
    settings = config(output=tmp_path / "run", **changes)
    with pytest.raises(SoarBenchError, match=sentence):
        callbacks_of(settings, tmp_path / "cache")
    assert not (tmp_path / "run").exists()


def test_a_device_that_is_not_here_is_refused_before_training(config, tmp_path):
    with pytest.raises(SoarBenchError, match="the device 'gpu' cannot be used here"):
        callbacks_of(config(), tmp_path, device="gpu")


# What training goes on with


def test_training_that_is_looked_at_gives_the_weights_of_one_that_is_not(config, trained, tmp_path):
    settings = config(output=tmp_path / "run", keep_best="shapes_geneval", keep_last=2)
    checkpoint = train(settings, callbacks_of(settings, tmp_path / "cache"))
    stories = [
        json.loads((Path(folder) / "checkpoint.json").read_text())
        for folder in (checkpoint, trained[1])
    ]
    assert stories[0]["weights"] == stories[1]["weights"]
    lines = (tmp_path / "run" / "evaluations.jsonl").read_text().splitlines()
    looks = [json.loads(line) for line in lines]
    assert [look["step"] for look in looks if look["watcher"] == "evaluation"] == [0, 1, 2]
    for step in (0, 1, 2):
        assert len(list((tmp_path / "run" / "validation" / f"step-00000{step}").iterdir())) == 2
