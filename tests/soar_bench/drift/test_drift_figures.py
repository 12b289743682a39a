"""Ratios, differences and their errors of probes made by hand."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from soar_bench.checkpoints import Checkpoint
from soar_bench.core.errors import SoarBenchError
from soar_bench.drift import figures, show
from soar_bench.drift.figures import Probe


def probe(own: np.ndarray, ideal: np.ndarray, digest: str = "a" * 64, **story: object) -> Probe:
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
    estimated = figures.ratio(own, ideal)
    assert estimated.value == pytest.approx(own.mean() / ideal.mean())
    resampled = []
    for _ in range(3000):
        rows = rng.integers(0, 400, 400)
        resampled.append(own[rows].mean() / ideal[rows].mean())
    assert estimated.standard_error == pytest.approx(np.std(resampled), rel=0.06)


def test_a_row_says_the_start_the_error_held_from_it_and_means_with_their_errors():
    own, ideal = np.array([0.2, 0.4, 0.6]), np.array([0.1, 0.1, 0.4])
    (row,) = figures.rows(probe(own, ideal), "one")
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
    entrants = figures.entrants([probe(a, ideal), probe(b, ideal, "c" * 64)])
    (row,) = [
        d
        for d in figures.differences(entrants)
        if d.figure == "error_own" and d.timestep is not None
    ]
    expected = stats.ttest_rel(b, a).confidence_interval(0.95)
    assert (row.low, row.high) == pytest.approx(tuple(expected), rel=1e-9)
    assert row.value == pytest.approx((b - a).mean())


def test_seeds_of_one_training_become_one_and_their_spread_counts():
    ideal = np.full(40, 0.5)
    sft, soar = [0.50, 0.54, 0.52], [0.47, 0.52, 0.46]
    probes = [
        probe(np.full(40, value), ideal, f"{name}{seed}".ljust(64, "0"), **trained(seed, name))
        for name, values in (("sft", sft), ("soar", soar))
        for seed, value in enumerate(values)
    ]
    entrants = figures.entrants(probes)
    assert [(e.name, len(e.probes)) for e in entrants] == [("sft", 3), ("soar", 3)]
    (difference,) = [
        d for d in figures.differences(entrants) if d.figure == "ratio" and d.timestep is not None
    ]
    # All samples are alike, so nothing but the paired seeds is left.
    pairs = stats.ttest_rel(np.array(soar) / 0.5, np.array(sft) / 0.5)
    assert (difference.low, difference.high) == pytest.approx(
        tuple(pairs.confidence_interval(0.95))
    )


def test_trainings_with_other_settings_are_not_seeds_of_one():
    own = ideal = np.full(4, 0.5)
    probes = [
        probe(own, ideal, "e" * 64, **trained(0)),
        probe(own, ideal, "f" * 64, **trained(1, lr=2)),
    ]
    names = [entrant.name for entrant in figures.entrants(probes)]
    assert len(set(names)) == 2


def test_all_levels_together_are_the_geometric_mean():
    own = np.array([[0.2, 0.2], [0.8, 0.8]])
    three_levels = dataclasses.replace(
        probe(own[0], own[0]),
        sigmas=np.array([0.8, 0.5, 0.25]),
        timesteps=np.array([800.0, 500.0, 250.0]),
        ideal=np.full((3, 2), 0.1),
        own=np.concatenate([np.full((1, 1, 2), np.nan), own[None]], axis=1),
    )
    (entrant,) = figures.entrants([three_levels])
    estimated = figures.summary(entrant, 0, [1, 2])
    assert estimated.value == pytest.approx(math.sqrt(2 * 8))
    assert estimated.standard_error == pytest.approx(0)


def test_a_ratio_to_no_error_at_all_is_not_defined_and_is_said_so():
    perfect = probe(np.zeros(4), np.zeros(4))
    (row,) = figures.rows(perfect, "exact")
    assert math.isnan(row.ratio)
    (line,) = csv.DictReader(show.as_csv([perfect]).splitlines())
    assert line["ratio"] == ""
    assert line["error_own"] == "0"
    assert json.loads(json_of([perfect]))["rows"][0]["ratio"] is None
    console = Console(width=100, record=True, quiet=True)
    for made_table in show.tables([perfect]):
        console.print(made_table)
    assert any("no error at the ideal states of 1 of 2 levels" in s for s in show.notes([perfect]))


def json_of(probes: list[Probe]) -> str:
    from soar_bench.core.text import json_text

    return json_text(show.record(probes, {}))


def test_samplers_with_other_levels_are_not_compared():
    own = ideal = np.full(4, 0.5)
    one, other = probe(own, ideal), probe(own, ideal, "c" * 64)
    figures.check_alike([one, other])
    other = dataclasses.replace(other, sigmas=np.array([0.5, 0.2]))
    with pytest.raises(SoarBenchError, match="other noise levels"):
        figures.check_alike([one, other])
