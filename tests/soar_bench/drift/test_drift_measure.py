"""The probe on the tiny pipeline: what changes a figure and what is refused."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from soar_bench.checkpoints import resolve
from soar_bench.core.errors import SoarBenchError
from soar_bench.drift.measure import Measurement, Settings, check
from soar_bench.pipelines.loading import load_pipeline
from soar_bench.suites.protocols import get_protocol, override
from soar_bench.trainer.data import open_data


@pytest.fixture(scope="module")
def settings() -> Settings:
    protocol = override(get_protocol("shapes"), steps=4)
    return Settings(protocol, rolled=(1, 2), samples=5)


@pytest.fixture()
def measure(tiny_pipeline: Path, settings: Settings, tmp_path: Path):
    """measure(checkpoint, output=..., batch_size=..., **settings) -> its probe."""

    def go(name: object = tiny_pipeline, output: str = "a", batch_size: int = 2, **changes):
        asked = dataclasses.replace(settings, **changes)
        data = open_data("shapes-clean:12")
        work = Measurement(asked, data, tmp_path / output, "cpu", batch_size)
        return work.probe(resolve(str(name)))

    return go


def test_the_batch_changes_no_figure(measure):
    small, large = measure(), measure(output="b", batch_size=5)
    for name in ("ideal", "own", "moved"):
        np.testing.assert_allclose(getattr(small, name), getattr(large, name), rtol=2e-4)


def test_a_sample_has_its_noise_wherever_the_probe_begins(measure):
    whole, part = measure(), measure(output="b", skip=2, samples=3)
    np.testing.assert_allclose(whole.own[:, :, 2:], part.own, rtol=2e-4)
    other = measure(output="c", seed=1)
    assert not np.allclose(other.ideal, whole.ideal, rtol=1e-2)


def test_the_order_of_checkpoints_changes_no_figure_and_nothing_is_measured_twice(
    tiny_pipeline, tiny_config, tiny_train, settings, tmp_path
):
    after = tiny_train(tiny_config(steps=2, save_every=2))
    names = [str(tiny_pipeline), str(after)]
    probes = {}
    for output, order in (("ab", names), ("ba", names[::-1])):
        work = Measurement(settings, open_data("shapes-clean:12"), tmp_path / output, "cpu")
        for name in order:
            probes[output, name] = work.probe(resolve(name))
    for name in names:
        np.testing.assert_array_equal(probes["ab", name].own, probes["ba", name].own)
    assert not np.allclose(probes["ab", names[0]].own, probes["ab", names[1]].own, rtol=1e-3)

    files = sorted((tmp_path / "ab").rglob("*.npz"))
    assert len(files) == 2
    stages: list[str] = []
    again = Measurement(
        settings,
        open_data("shapes-clean:12"),
        tmp_path / "ab",
        "cpu",
        observe=lambda stage, done, total: stages.append(stage),
    )
    np.testing.assert_array_equal(again.probe(resolve(names[1])).own, probes["ab", names[1]].own)
    assert stages == []
    files[0].write_bytes(b"PK torn")
    with pytest.raises(SoarBenchError, match="damaged"):
        for name in names:
            again.probe(resolve(name))


def test_a_sampler_of_one_step_is_refused():
    with pytest.raises(SoarBenchError, match="at least 3 steps"):
        Settings(override(get_protocol("shapes"), steps=1))
    assert Settings(override(get_protocol("shapes"), steps=4)).lengths == (1, 2)


def test_pipelines_that_are_not_sd3s_are_refused(tiny_pipeline, settings, tmp_path):
    from tests.soar_bench.tiny_pipelines import sd15

    other = sd15(tiny_pipeline, tmp_path / "sd15")
    with pytest.raises(SoarBenchError, match=r"StableDiffusionPipeline.*flow matching"):
        check(resolve(str(other)), settings)


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"use_dynamic_shifting": True}, "use_dynamic_shifting"),
        ({"stochastic_sampling": True}, "stochastic_sampling"),
    ],
)
def test_samplers_whose_steps_are_others_are_refused(
    tiny_pipeline, settings, tmp_path, setting, sentence
):
    folder = tmp_path / "other"
    shutil.copytree(tiny_pipeline, folder)
    file = folder / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **setting}))
    with pytest.raises(SoarBenchError, match=sentence):
        check(resolve(str(folder)), settings)


def test_weights_that_predict_no_numbers_are_refused_and_nothing_is_kept(
    tiny_pipeline, settings, tmp_path
):
    folder = tmp_path / "broken"
    pipeline = load_pipeline(tiny_pipeline)
    pipeline.transformer.proj_out.bias.data.fill_(math.nan)
    pipeline.save_pretrained(folder, safe_serialization=True)
    work = Measurement(settings, open_data("shapes-clean:12"), tmp_path / "out", "cpu")
    with pytest.raises(SoarBenchError, match="not numbers"):
        work.probe(resolve(str(folder)))
    assert not list((tmp_path / "out").rglob("*.npz"))
