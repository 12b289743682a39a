"""Samples' errors as values with standard errors, and differences between trainings.

Samples are the independent draws, and everything is paired over them: all checkpoints see the same
pictures, captions and noise. Imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from soar_bench.checkpoints import Checkpoint
from soar_bench.core.errors import SoarBenchError
from soar_bench.records.labels import Named, of_seeds, told_apart
from soar_bench.records.run import training_key
from soar_bench.stats import Estimate, Spread, welch

#: Mean squared errors up to this are the rounding of float32 latents: the model is exact there,
#: and a ratio of two roundings says nothing.
EXACT = 1e-9


@dataclass(frozen=True)
class Probe:
    """Errors of one checkpoint: L inner levels, M lengths of walk, n samples."""

    checkpoint: Checkpoint
    #: noise levels of the inner places of the sampler's table, falling, [L]
    sigmas: np.ndarray
    #: the same as the model is told them, [L]
    timesteps: np.ndarray
    #: steps of the walks, [M]
    rolled: tuple[int, ...]
    #: as in soar_bench.drift.walk.Errors: [L, n], [M, L, n], [M, L, n]
    ideal: np.ndarray
    own: np.ndarray
    moved: np.ndarray

    @property
    def samples(self) -> int:
        """Number of samples."""
        return int(self.ideal.shape[1])

    def places(self, m: int) -> range:
        """Return the levels, as places in ``sigmas``, at which walks of the m-th length end."""
        return range(self.rolled[m], len(self.sigmas))


@dataclass(frozen=True)
class DriftRow:
    """One checkpoint at one level after one length of walk. Errors are of the velocity, squared and
    averaged over the latent's elements; ``_se`` is the standard error over samples.
    """

    #: the level as the model is told it, 0 to the scheduler's 1000
    timestep: float
    #: the noise level, 0 (clean) to 1
    sigma: float
    checkpoint: str
    #: of the checkpoint's weights
    digest: str
    steps_rolled: int
    #: the level the walk began at
    sigma_start: float
    error_own: float
    error_own_se: float
    error_ideal: float
    error_ideal_se: float
    #: own over ideal, of the means; nan where the model is exact at ideal states
    ratio: float
    ratio_se: float
    #: own less ideal
    difference: float
    difference_se: float
    #: error of staying with the clean latent that the model predicted where the walk began
    error_held: float
    error_held_se: float
    #: root mean square distance of the own state from the ideal one, in latent units
    state_drift: float
    state_drift_se: float
    n: int


@dataclass(frozen=True)
class ProbeGroup:
    """Probes of a checkpoint, or of the seeds of one training."""

    name: str
    probes: tuple[Probe, ...]

    @property
    def seeds(self) -> tuple[int | None, ...]:
        """Training seeds of the probes; None for what was not trained here."""
        return tuple(probe.checkpoint.story.get("seed") for probe in self.probes)


@dataclass(frozen=True)
class Difference:
    """An entrant less the reference at one level, or in the geometric mean over all of them."""

    entrant: str
    reference: str
    #: ``ratio`` or ``error_own``
    figure: str
    steps_rolled: int
    #: None for the mean over all levels
    timestep: float | None
    value: float
    low: float
    high: float


def _mean(values: np.ndarray) -> Estimate:
    """Return the mean of independent samples [n]; one sample has no standard error."""
    return _estimate(float(values.mean()), values)


def _estimate(value: float, influence: np.ndarray, *seeds: np.ndarray) -> Estimate:
    """Return a value whose error comes from samples, by how far each moves it, [n], and from the
    spread of values over training seeds, [K] each.

    The variances add up. The spread of seeds holds some of the samples' noise already, so the sum
    is rather too large than too small.
    """
    n = len(influence)
    spreads = [Spread.of(values, np.zeros(len(values), dtype=int), 1) for values in seeds]
    variance = float(influence.var(ddof=1)) / n if n > 1 else math.nan
    variances = np.array([variance, *(float(spread.variance[0]) for spread in spreads)])
    freedoms = np.array([n - 1.0, *(float(spread.freedom[0]) for spread in spreads)])
    error = math.sqrt(variances.sum())
    return Estimate(value, error, float(welch(variances, freedoms)), n, 0, n)


def ratio(own: np.ndarray, ideal: np.ndarray) -> Estimate:
    """Return mean(own) / mean(ideal) over paired samples, with the delta method's standard error;
    NaN where the model is exact at ideal states.
    """
    below = float(ideal.mean())
    if below <= EXACT:
        return _estimate(math.nan, np.full(len(own), math.nan))
    return _estimate(float(own.mean()) / below, _influence(own, ideal))


def _influence(own: np.ndarray, ideal: np.ndarray) -> np.ndarray:
    """Return how far each sample moves the ratio of means, to first order; their mean is 0."""
    return np.asarray((own - own.mean() / ideal.mean() * ideal) / ideal.mean())


def rows(probe: Probe, label: str) -> Iterator[DriftRow]:
    """Yield every level and length of walk, walks by length, levels from clean to noise."""
    for m, steps in enumerate(probe.rolled):
        for level in reversed(probe.places(m)):
            own, ideal, start = probe.own[m, level], probe.ideal[level], level - steps
            estimates = {
                "error_own": _mean(own),
                "error_ideal": _mean(ideal),
                "ratio": ratio(own, ideal),
                "difference": _mean(own - ideal),
                # z0 as predicted at the start is z_s - s v, so its error is s times v's.
                "error_held": _mean(
                    probe.ideal[start] * (probe.sigmas[start] / probe.sigmas[level]) ** 2
                ),
                "state_drift": _mean(np.sqrt(probe.moved[m, level])),
            }
            yield DriftRow(
                timestep=float(probe.timesteps[level]),
                sigma=float(probe.sigmas[level]),
                checkpoint=label,
                digest=probe.checkpoint.digest,
                steps_rolled=steps,
                sigma_start=float(probe.sigmas[start]),
                n=probe.samples,
                **{name: estimate.value for name, estimate in estimates.items()},
                **{f"{name}_se": e.standard_error for name, e in estimates.items()},
            )


def entrants(probes: Sequence[Probe]) -> list[ProbeGroup]:
    """Group checkpoints that differ by their training's seed alone, in order of the first."""
    groups: dict[str, list[Probe]] = {}
    for probe in probes:
        story = probe.checkpoint.story
        key = training_key(story) if story else probe.checkpoint.digest
        groups.setdefault(key, []).append(probe)
    named = []
    for key, group in groups.items():
        story = group[0].checkpoint.story
        name = of_seeds([probe.checkpoint.label for probe in group], story.get("name", ""))
        named.append(Named(name, key, story.get("step")))
    names = told_apart(named)
    return [ProbeGroup(n, tuple(g)) for n, g in zip(names, groups.values(), strict=True)]


def labels(probes: Sequence[Probe]) -> list[str]:
    """Return the checkpoints' labels, told apart as in every list."""
    checkpoints = [probe.checkpoint for probe in probes]
    return told_apart([Named(c.label, c.digest, c.story.get("step")) for c in checkpoints])


def evenly(count: int, most: int) -> list[int]:
    """Return up to ``most`` of the numbers below ``count``, evenly spread, with both ends."""
    shown = min(count, most)
    return [round(i * (count - 1) / max(shown - 1, 1)) for i in range(shown)]


def check_alike(probes: Sequence[Probe]) -> None:
    """Raise SoarBenchError unless all were measured at the same levels."""
    first = probes[0]
    for probe in probes:
        if not np.array_equal(probe.sigmas, first.sigmas):
            raise SoarBenchError(
                f"{probe.checkpoint.name} samples at other noise levels than "
                f"{first.checkpoint.name}, its scheduler has other settings: measure them apart"
            )


def _by_seed(
    entrant: ProbeGroup, figure: str, m: int, levels: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the values of an entrant by seed, [K], and the samples' influence on their mean, [n]:
    of the ratio, or the own error, at one level; of several levels the geometric mean.

    Both grow a hundredfold toward sigma = 0, where the target divides by it: a plain mean would be
    that of the last level. NaN where the model is exact.
    """
    values, influences = [], []
    for probe in entrant.probes:
        below = probe.ideal if figure == "ratio" else np.ones_like(probe.ideal)
        at_levels = [ratio(probe.own[m, level], below[level]).value for level in levels]
        if not all(value > 0 for value in at_levels):
            return np.full(len(entrant.probes), np.nan), np.full(probe.samples, np.nan)
        value = math.exp(float(np.mean(np.log(at_levels))))
        relative = [
            _influence(probe.own[m, level], below[level]) / at_level
            for level, at_level in zip(levels, at_levels, strict=True)
        ]
        values.append(value)
        influences.append(value * np.mean(relative, axis=0))
    return np.array(values), np.mean(influences, axis=0)


def summary(entrant: ProbeGroup, m: int, levels: Sequence[int]) -> Estimate:
    """Return the ratio, in the geometric mean over levels and the mean over seeds; its error is
    over samples, and over seeds where there are several. NaN where it is not defined.
    """
    values, influence = _by_seed(entrant, "ratio", m, levels)
    return _estimate(float(values.mean()), influence, values)


def differences(groups: Sequence[ProbeGroup]) -> Iterator[Difference]:
    """Yield each entrant against the first, by level and in the geometric mean over levels."""
    reference, *others = groups
    first = reference.probes[0]
    walks = enumerate(first.rolled)
    for entrant, figure, (m, steps) in product(others, ("ratio", "error_own"), walks):
        levels_of: dict[float | None, list[int]] = {
            float(first.timesteps[level]): [level] for level in reversed(first.places(m))
        }
        for timestep, levels in (levels_of | {None: list(first.places(m))}).items():
            estimate = difference(entrant, reference, figure, m, levels)
            numbers = estimate.value, *estimate.interval()
            yield Difference(entrant.name, reference.name, figure, steps, timestep, *numbers)


def difference(
    a: ProbeGroup, b: ProbeGroup, figure: str, m: int, levels: Sequence[int]
) -> Estimate:
    """Return how much higher ``a`` is than ``b``, paired over samples and, where both have the same
    seeds, over seeds.
    """
    a_values, a_influence = _by_seed(a, figure, m, levels)
    b_values, b_influence = _by_seed(b, figure, m, levels)
    seeds = [a_values, b_values]
    if None not in a.seeds and sorted(map(str, a.seeds)) == sorted(map(str, b.seeds)):
        seeds = [a_values[[a.seeds.index(seed) for seed in b.seeds]] - b_values]
    value = float(a_values.mean() - b_values.mean())
    return _estimate(value, a_influence - b_influence, *seeds)
