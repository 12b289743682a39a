"""The probe against flows that are solved by hand, the official sampler, and scipy's statistics."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from scipy import stats
from typer import Typer
from typer.testing import CliRunner

from soar_bench.checkpoints import Checkpoint, resolve
from soar_bench.core.errors import SoarBenchError
from soar_bench.drift import figures, show
from soar_bench.drift.figures import Probe
from soar_bench.drift.measure import Measurement, Model, Settings, check
from soar_bench.drift.samples import Encoded
from soar_bench.drift.walk import inner_levels, probe, walk
from soar_bench.pipelines.loading import load_pipeline
from soar_bench.suites.protocols import get_protocol, override
from soar_bench.trainer.data import open_data
from training.encoders import encode_prompts
from training.types import TrainingError

SHAPE = (2, 4, 4)


def noise(count: int, seed: int, shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))


def table(steps: int, shift: float = 3.0) -> torch.Tensor:
    """Shifted levels from 1 down to 0, as a sampler's."""
    t = torch.linspace(1, 0, steps + 1)
    return shift * t / (1 + (shift - 1) * t)


def wide(sigma: torch.Tensor) -> torch.Tensor:
    return sigma[:, None, None, None]


# Flows that are solved by hand


def test_a_perfect_model_of_a_point_mass_errs_nowhere_and_stays_on_the_line():
    picture = noise(1, 1)
    z0, z1 = picture.repeat(8, 1, 1, 1), noise(8, 2)

    def velocity(z, sigma, rows, conditional):
        return (z - picture) / wide(sigma)

    found = probe(velocity, z0, z1, table(10), 4.5, (1, 2, 4))
    assert found.ideal.max() < figures.EXACT
    assert np.nanmax(found.own) < figures.EXACT
    assert np.nanmax(found.moved) < figures.EXACT


def test_a_constant_error_carries_the_state_off_by_itself_times_the_steps():
    """v = z1 - z0 + e whatever the state: z' - z_s' = e (s' - s), and from there the way back to
    z0 is e s/s' off.
    """
    e, sigmas = 0.3, table(8)
    z0, z1 = noise(4, 3), noise(4, 4)

    def velocity(z, sigma, rows, conditional):
        return z1[rows] - z0[rows] + e

    found = probe(velocity, z0, z1, sigmas, 1.0, (1, 3))
    levels = inner_levels(sigmas)
    assert levels == list(range(1, 8))
    np.testing.assert_allclose(found.ideal, e**2, rtol=1e-5)
    for m, steps in enumerate((1, 3)):
        for place in range(len(levels)):
            if place < steps:
                assert np.isnan(found.own[m, place]).all()
                continue
            s, s_new = float(sigmas[levels[place - steps]]), float(sigmas[levels[place]])
            np.testing.assert_allclose(found.moved[m, place], (e * (s - s_new)) ** 2, rtol=1e-4)
            np.testing.assert_allclose(found.own[m, place], (e * s / s_new) ** 2, rtol=1e-4)


def test_where_the_model_corrects_itself_its_error_does_not_grow_though_its_state_drifts():
    """v = (z - z0)/s + e always aims at z0 but for e: the error is e at every state, while
    z'/s' - z_s'/s' grows by e (1 - s/s') a step.
    """
    e, sigmas, picture = 0.2, table(6, shift=1.0), noise(1, 5)
    z0, z1 = picture.repeat(3, 1, 1, 1), noise(3, 6)

    def velocity(z, sigma, rows, conditional):
        return (z - picture) / wide(sigma) + e

    found = probe(velocity, z0, z1, sigmas, 1.0, (3,))
    s = [5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]
    for place in (3, 4):
        walked = s[place - 3 : place + 1]
        off = walked[-1] * e * sum(1 - a / b for a, b in pairwise(walked))
        np.testing.assert_allclose(found.own[0, place], e**2, rtol=1e-4)
        np.testing.assert_allclose(found.moved[0, place], off**2, rtol=1e-4)


def test_a_perfect_model_of_a_gaussian_errs_by_what_the_start_did_not_know():
    """z0 and z1 standard normal: v = (2s - 1) z / ((1 - s)^2 + s^2), so that every state of the
    walk is a multiple of z_s and both errors follow by hand. The own one is the larger, although
    the model is perfect: z' knows of z0 only what z_s knew.
    """
    sigmas, count = table(10), 60_000
    z0, z1 = noise(count, 7, (1, 1, 1)), noise(count, 8, (1, 1, 1))

    def velocity(z, sigma, rows, conditional):
        s = wide(sigma)
        return (2 * s - 1) * z / ((1 - s) ** 2 + s**2)

    found = probe(velocity, z0, z1, sigmas, 1.0, (1, 2))
    s = sigmas.double().numpy()
    for m, steps in enumerate((1, 2)):
        for place in range(steps, 9):
            start, end = place + 1 - steps, place + 1
            var_start, var = ((1 - s[i]) ** 2 + s[i] ** 2 for i in (start, end))
            factor = math.prod(
                1 + (s[i + 1] - s[i]) * (2 * s[i] - 1) / ((1 - s[i]) ** 2 + s[i] ** 2)
                for i in range(start, end)
            )
            ideal = (1 - (1 - s[end]) ** 2 / var) / s[end] ** 2
            guess = (1 - s[end]) / var * factor  # the predicted z0 is this times z_s
            own = (1 - 2 * guess * (1 - s[start]) + guess**2 * var_start) / s[end] ** 2
            assert own > ideal
            assert found.ideal[place].mean() == pytest.approx(ideal, rel=0.03)
            assert found.own[m, place].mean() == pytest.approx(own, rel=0.03)


def test_steps_are_guided_and_errors_are_those_of_the_conditional_prediction():
    z0, z1, sigmas = noise(2, 9), noise(2, 10), table(4, shift=1.0)

    def velocity(z, sigma, rows, conditional):
        return z1[rows] - z0[rows] + (0.1 if conditional else -0.3)

    found = probe(velocity, z0, z1, sigmas, 3.0, (1,))
    guided = -0.3 + 3 * (0.1 + 0.3)  # off the line by this a step of 1
    np.testing.assert_allclose(found.ideal, 0.1**2, rtol=1e-5)
    np.testing.assert_allclose(found.moved[0, 1], (guided / 4) ** 2, rtol=1e-4)
    np.testing.assert_allclose(found.own[0, 1], (0.1 + guided / 4 / 0.5) ** 2, rtol=1e-4)


# The sampler itself


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_walk_takes_the_steps_of_the_official_pipeline(tiny_pipeline: Path, guidance: float):
    captions, steps = ["a photo of a star", "a photo of a red ring"], 6
    pipeline = load_pipeline(tiny_pipeline)
    embeds, pooled = encode_prompts(pipeline, [*captions, ""], 14)
    seen = []

    def keep(pipe, step, timestep, tensors):
        seen.append(tensors["latents"].clone())
        return tensors

    pipeline(
        prompt_embeds=embeds[:2],
        pooled_prompt_embeds=pooled[:2],
        negative_prompt_embeds=embeds[2:].expand(2, -1, -1),
        negative_pooled_prompt_embeds=pooled[2:].expand(2, -1),
        latents=noise(2, 11, (4, 16, 16)),
        num_inference_steps=steps,
        guidance_scale=guidance,
        height=64,
        width=64,
        output_type="latent",
        callback_on_step_end=keep,
    )
    protocol = override(get_protocol("shapes"), steps=steps)
    model = Model(resolve(str(tiny_pipeline)), protocol, "cpu")
    samples = Encoded(torch.zeros(2, 4, 16, 16), torch.tensor([0, 1]), embeds, pooled)
    velocity = model.velocity(samples, range(2))
    with torch.no_grad():
        states = {i: z for i, z, _ in walk(velocity, seen[0], model.sigmas, 1, guidance)}
    assert sorted(states) == [1, 2, 3, 4, 5]
    for place, state in states.items():
        torch.testing.assert_close(state, seen[place - 1], rtol=1e-4, atol=1e-4)


# Statistics


def made(own: np.ndarray, ideal: np.ndarray, digest: str = "a" * 64, **story: object) -> Probe:
    """A probe of one walk of one step between two levels, 0.5 and 0.25."""
    nothing = np.full((1, 1, len(own)), np.nan)
    return Probe(
        Checkpoint(
            story.get("name", digest[:4]), "x", "pipeline", Path("x"), digest, story=dict(story)
        ),
        np.array([0.5, 0.25]),
        np.array([500.0, 250.0]),
        (1,),
        np.stack([np.full(len(own), 0.1), ideal]),
        np.concatenate([nothing, own[None, None]], axis=1),
        np.concatenate([nothing, own[None, None]], axis=1),
    )


def trained(seed: int, name: str = "sft", **other: object) -> dict[str, object]:
    return {
        "name": name,
        "method": "sft",
        "step": 5,
        "seed": seed,
        "base": {"digest": "b"},
        "data": {"digest": "d"},
        "config": {"seed": seed, **other},
    }


def test_the_standard_error_of_a_ratio_is_that_of_resampling_the_samples():
    rng = np.random.default_rng(0)
    ideal = rng.gamma(4, 0.1, 400)
    own = ideal * rng.gamma(9, 0.15, 400)
    found = figures.ratio(own, ideal)
    assert found.value == pytest.approx(own.mean() / ideal.mean())
    resampled = []
    for _ in range(3000):
        rows = rng.integers(0, 400, 400)
        resampled.append(own[rows].mean() / ideal[rows].mean())
    assert found.standard_error == pytest.approx(np.std(resampled), rel=0.06)


def test_a_row_says_the_start_the_error_held_from_it_and_means_with_their_errors():
    own, ideal = np.array([0.2, 0.4, 0.6]), np.array([0.1, 0.1, 0.4])
    (row,) = figures.rows(made(own, ideal), "one")
    assert (row.timestep, row.sigma, row.sigma_start, row.steps_rolled) == (250, 0.25, 0.5, 1)
    assert row.error_own == pytest.approx(0.4)
    assert row.error_own_se == pytest.approx(stats.sem(own))
    assert row.ratio == pytest.approx(2.0)
    assert row.difference_se == pytest.approx(stats.sem(own - ideal))
    assert row.error_held == pytest.approx(0.1 * 4)  # (0.5 / 0.25)^2
    assert row.state_drift == pytest.approx(np.sqrt(own).mean())
    assert row.n == 3


def test_two_checkpoints_are_compared_sample_by_sample():
    rng = np.random.default_rng(1)
    hard = rng.gamma(2, 1, 50)
    a, b = hard + rng.normal(0, 0.1, 50), hard + 0.05 + rng.normal(0, 0.1, 50)
    ideal = np.full(50, 0.5)
    every = figures.entrants([made(a, ideal), made(b, ideal, "c" * 64)])
    (found,) = [
        d for d in figures.differences(every) if d.figure == "error_own" and d.timestep is not None
    ]
    expected = stats.ttest_rel(b, a).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx(tuple(expected), rel=1e-9)
    assert found.value == pytest.approx((b - a).mean())


def test_seeds_of_one_training_become_one_and_their_spread_counts():
    ideal = np.full(40, 0.5)
    sft, soar = [0.50, 0.54, 0.52], [0.47, 0.52, 0.46]
    probes = [
        made(np.full(40, value), ideal, f"{name}{seed}".ljust(64, "0"), **trained(seed, name))
        for name, values in (("sft", sft), ("soar", soar))
        for seed, value in enumerate(values)
    ]
    every = figures.entrants(probes)
    assert [(e.name, len(e.probes)) for e in every] == [("sft", 3), ("soar", 3)]
    (found,) = [
        d for d in figures.differences(every) if d.figure == "ratio" and d.timestep is not None
    ]
    # All samples are alike, so nothing but the paired seeds is left.
    pairs = stats.ttest_rel(np.array(soar) / 0.5, np.array(sft) / 0.5)
    assert (found.low, found.high) == pytest.approx(tuple(pairs.confidence_interval(0.95)))


def test_trainings_with_other_settings_are_not_seeds_of_one():
    own = ideal = np.full(4, 0.5)
    probes = [
        made(own, ideal, "e" * 64, **trained(0)),
        made(own, ideal, "f" * 64, **trained(1, lr=2)),
    ]
    names = [entrant.name for entrant in figures.entrants(probes)]
    assert len(set(names)) == 2


def test_all_levels_together_are_the_geometric_mean():
    own = np.array([[0.2, 0.2], [0.8, 0.8]])
    one = dataclasses.replace(
        made(own[0], own[0]),
        sigmas=np.array([0.8, 0.5, 0.25]),
        timesteps=np.array([800.0, 500.0, 250.0]),
        ideal=np.full((3, 2), 0.1),
        own=np.concatenate([np.full((1, 1, 2), np.nan), own[None]], axis=1),
    )
    (entrant,) = figures.entrants([one])
    found = figures.summary(entrant, 0, [1, 2])
    assert found.value == pytest.approx(math.sqrt(2 * 8))
    assert found.standard_error == pytest.approx(0)


def test_a_ratio_to_no_error_at_all_is_not_defined_and_is_said_so():
    one = made(np.zeros(4), np.zeros(4))
    (row,) = figures.rows(one, "exact")
    assert math.isnan(row.ratio)
    (line,) = csv.DictReader(show.as_csv([one]).splitlines())
    assert line["ratio"] == ""
    assert line["error_own"] == "0"
    assert json.loads(json_of([one]))["rows"][0]["ratio"] is None
    console = Console(width=100, record=True, quiet=True)
    for made_table in show.tables([one]):
        console.print(made_table)
    assert any("no error at the ideal states of 1 of 2 levels" in s for s in show.notes([one]))


def json_of(probes: list[Probe]) -> str:
    from soar_bench.core.text import json_text

    return json_text(show.record(probes, {}))


# Checkpoints


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
    found = {}
    for output, order in (("ab", names), ("ba", names[::-1])):
        work = Measurement(settings, open_data("shapes-clean:12"), tmp_path / output, "cpu")
        for name in order:
            found[output, name] = work.probe(resolve(name))
    for name in names:
        np.testing.assert_array_equal(found["ab", name].own, found["ba", name].own)
    assert not np.allclose(found["ab", names[0]].own, found["ab", names[1]].own, rtol=1e-3)

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
    np.testing.assert_array_equal(again.probe(resolve(names[1])).own, found["ab", names[1]].own)
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


def test_samplers_with_other_levels_are_not_compared():
    own = ideal = np.full(4, 0.5)
    one, other = made(own, ideal), made(own, ideal, "c" * 64)
    figures.check_alike([one, other])
    other = dataclasses.replace(other, sigmas=np.array([0.5, 0.2]))
    with pytest.raises(SoarBenchError, match="other noise levels"):
        figures.check_alike([one, other])


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


# The command


@pytest.fixture()
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """run(*arguments) -> what the command printed; errors are raised."""
    import soar_bench.cli.drift as command

    app = Typer()
    app.command()(command.drift)

    def go(*arguments: object) -> str:
        words = [str(a) for a in arguments]
        result = CliRunner().invoke(app, [*words, "--output", str(tmp_path / "out")])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.stdout

    return go


def test_the_command_writes_a_table_a_record_and_a_plot(run, tiny_pipeline, tmp_path):
    said = run(
        tiny_pipeline, "shapes", "--data", "shapes-clean:4", "--steps", 5, "--guidance", 2,
        "--rolled", "1,2", "--device", "cpu",
    )  # fmt: skip
    assert "own error / ideal error" in said
    assert "ratio less that of pipeline" in said
    lines = list(csv.DictReader((tmp_path / "out" / "drift.csv").read_text().splitlines()))
    assert list(lines[0])[:5] == ["timestep", "sigma", "checkpoint", "digest", "steps_rolled"]
    # Levels 2, 3 and 4 of 5 after one step, 3 and 4 after two, of two checkpoints.
    assert len(lines) == 2 * (3 + 2)
    for line in lines:
        assert float(line["ratio"]) == pytest.approx(
            float(line["error_own"]) / float(line["error_ideal"]), rel=1e-6
        )
        assert float(line["timestep"]) == pytest.approx(1000 * float(line["sigma"]), rel=1e-6)
        assert line["n"] == "4"
    record = json.loads((tmp_path / "out" / "drift.json").read_text())
    assert record["settings"]["protocol"]["guidance"] == 2
    assert len(record["rows"]) == len(lines)
    # All levels and each, of the ratio and of the own error.
    assert len(record["differences"]) == 2 * (3 + 1 + 2 + 1)
    assert (tmp_path / "out" / "drift.png").read_bytes().startswith(b"\x89PNG")
    printed = run(
        tiny_pipeline, "shapes", "--data", "shapes-clean:4", "--steps", 5, "--guidance", 2,
        "--rolled", "1,2", "--device", "cpu", "--json",
    )  # fmt: skip
    assert json.loads(printed) == record


def test_bad_input_is_refused_with_a_sentence(run, tiny_pipeline, tmp_path):
    with pytest.raises(SoarBenchError, match="nothing"):
        run("nothing-there")
    with pytest.raises(SoarBenchError, match="steps"):
        run(tiny_pipeline, "--steps", 1)
    with pytest.raises(SoarBenchError, match="has 4 samples, not the 6"):
        run(tiny_pipeline, "--data", "shapes-clean:4", "--samples", 6)
    (tmp_path / "plain").mkdir()
    with pytest.raises(TrainingError):
        run(tiny_pipeline, "--data", tmp_path / "plain")


def test_pictures_without_captions_are_refused(run, tiny_pipeline, tmp_path):
    from PIL import Image

    folder = tmp_path / "data"
    folder.mkdir()
    records = []
    for number, text in enumerate(["a photo of a star", " "]):
        Image.new("RGB", (64, 64), "white").save(folder / f"{number}.png")
        records.append(json.dumps({"file_name": f"{number}.png", "text": text}))
    (folder / "metadata.jsonl").write_text("\n".join(records) + "\n")
    with pytest.raises((SoarBenchError, TrainingError), match="caption"):
        run(tiny_pipeline, "--data", folder, "--protocol", "shapes", "--device", "cpu")
