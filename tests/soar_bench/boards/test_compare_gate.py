"""`soar-bench compare --fail-if worse`."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from compared import NAN, invoked, printed, shifted
from scipy import stats as scipy_stats

from soar_bench.core.errors import SoarBenchError


@pytest.mark.parametrize(
    ("shift", "higher", "code"),
    [(-0.3, True, 3), (0.3, True, 0), (-0.01, True, 0), (0.3, False, 3), (-0.3, False, 0)],
)
def test_the_gate_fails_what_is_significantly_worse_in_the_metrics_direction(
    place, shift, higher, code
):
    a, b, _ = shifted(place, shift, higher=higher)
    result = invoked(a, b, "--fail-if", "worse")
    assert result.exit_code == code
    assert ("b is worse than a in m" in result.stderr) == (code == 3)
    assert "checkpoint" in result.stdout, "the table is printed all the same"
    assert invoked(a, b).exit_code == 0, "without the option nothing fails"


@pytest.mark.parametrize(("quantile", "code"), [(1.05, 3), (0.95, 0)])
def test_a_margin_is_what_the_two_sided_interval_has_to_lie_beyond(place, quantile, code):
    """With the difference this many half intervals below -margin."""
    margin = 0.1
    half = scipy_stats.t.ppf(0.975, 39) * 0.2 / math.sqrt(40)
    a, b, _ = shifted(place, -margin - quantile * half)
    result = invoked(a, b, "--fail-if", "worse", "--margin", str(margin))
    assert result.exit_code == code
    assert ("by more than 0.1" in result.stderr) == (code == 3)
    assert invoked(a, b, "--fail-if", "worse").exit_code == 3


def test_the_gate_agrees_with_the_verdicts_and_their_correction(place):
    """p = 0.03 alone would fail; corrected for two metrics it does not, whichever is asked for."""
    d = np.random.default_rng(2).normal(size=20)
    d = (d - d.mean()) / d.std(ddof=1)
    below = scipy_stats.t.isf(0.03 / 2, 19) / math.sqrt(20)
    place("a", {"first": np.zeros(20), "second": np.zeros(20)})
    place("b", {"first": d - below, "second": d})
    for metric in ([], ["--metric", "first"]):
        assert invoked(place.results, "--fail-if", "worse", *metric).exit_code == 0
    assert invoked(place.results, "--fail-if", "worse", "--level", "0.9").exit_code == 3


def test_only_the_metrics_that_are_named_can_fail(place):
    rng = np.random.default_rng(7)
    base = rng.normal(size=30)
    a = place("a", {"good": base, "bad": base})
    worse = base - 1 + rng.normal(scale=0.1, size=30)
    b = place("b", {"good": base + 1 + rng.normal(scale=0.1, size=30), "bad": worse})
    failed = invoked(a, b, "--fail-if", "worse")
    assert failed.exit_code == 3
    assert failed.stderr.count("is worse than") == 1 and "in bad:" in failed.stderr
    assert invoked(a, b, "--fail-if", "worse", "--metric", "good").exit_code == 0
    assert invoked(a, b, "--fail-if", "worse", "--metric", "bad").exit_code == 3


def test_a_constant_loss_is_tested_by_its_signs_against_the_margin_too(place):
    a, b, _ = shifted(place, -0.5, noise=0.0, prompts=10)
    assert invoked(a, b, "--fail-if", "worse").exit_code == 3
    assert invoked(a, b, "--fail-if", "worse", "--margin", "0.4").exit_code == 3
    assert invoked(a, b, "--fail-if", "worse", "--margin", "0.6").exit_code == 0


def test_the_gate_refuses_what_cannot_be_compared(place):
    a = place("a", {"m": [1.0, 2.0, 3.0]})
    b = place("b", {"m": [NAN, NAN, NAN]})
    c = place("c", {"m": [1.0, 2.0, 3.0]}, steps=10)
    with pytest.raises(SoarBenchError, match="no score of m in common"):
        printed(a, b, "--fail-if", "worse")
    with pytest.raises(SoarBenchError, match="not measured alike"):
        printed(a, c, "--fail-if", "worse")
    with pytest.raises(SoarBenchError, match="--margin is that of --fail-if"):
        printed(a, b, "--margin", "0.1")
    with pytest.raises(SoarBenchError, match="--margin takes a number from 0, not -1"):
        printed(a, b, "--fail-if", "worse", "--margin", "-1")


def test_exit_codes_of_the_command_itself(place):
    """2 for what is refused, as every refusal has it; 3 for what is worse."""
    a, b, _ = shifted(place, -0.3)
    c = place("c", {"m": [1.0, 2.0]}, steps=10)
    for other, code in ((b, 3), (c, 2)):
        done = subprocess.run(
            [sys.executable, "-m", "soar_bench", "compare", a, other, "--fail-if", "worse"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
