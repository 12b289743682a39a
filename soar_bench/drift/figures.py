"""From the samples' errors to figures with standard errors, and differences between trainings.

Samples are the independent draws, and everything is paired over them: all checkpoints see the same
pictures, captions and noise. Imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import t as student

from soar_bench.checkpoints import Checkpoint
from soar_bench.core.digests import digest_of
from soar_bench.core.errors import SoarBenchError

#: Mean squared errors up to this are the rounding of float32 latents: the model is exact there,
#: and a ratio of two roundings says nothing.
EXACT = 1e-9
#: Of intervals.
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Value:
    """A figure and its standard error; nan where it is not defined."""

    value: float
    error: float


@dataclass(frozen=True)
class Probe:
    """What was measured of one checkpoint: L inner levels, M lengths of walk, n samples."""

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
        return int(self.ideal.shape[1])

    def places(self, m: int) -> range:
        """The levels, as places in ``sigmas``, at which walks of the m-th length end."""
        return range(self.rolled[m], len(self.sigmas))


@dataclass(frozen=True)
class Row:
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
class Entrant:
    """A checkpoint, or the seeds of one training."""

    name: str
    probes: tuple[Probe, ...]

    @property
    def seeds(self) -> tuple[int | None, ...]:
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


def mean(values: np.ndarray) -> Value:
    """The mean of independent samples [n]; one sample has no standard error."""
    n = len(values)
    error = float(values.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan
    return Value(float(values.mean()), error)


def ratio(own: np.ndarray, ideal: np.ndarray) -> Value:
    """mean(own) / mean(ideal) over paired samples, with the delta method's standard error."""
    below = float(ideal.mean())
    if below <= EXACT:
        return Value(math.nan, math.nan)
    value = float(own.mean()) / below
    return Value(value, mean(_influence(own, ideal)).error)


def _influence(own: np.ndarray, ideal: np.ndarray) -> np.ndarray:
    """How far each sample moves the ratio of means, to first order; their mean is 0."""
    return np.asarray((own - own.mean() / ideal.mean() * ideal) / ideal.mean())


def rows(probe: Probe, label: str) -> list[Row]:
    """Every level and length of walk, walks by length, levels from clean to noise."""
    found = []
    for m, steps in enumerate(probe.rolled):
        for level in reversed(probe.places(m)):
            own, ideal = probe.own[m, level], probe.ideal[level]
            start = level - steps
            scale = (probe.sigmas[start] / probe.sigmas[level]) ** 2
            of = {
                "error_own": mean(own),
                "error_ideal": mean(ideal),
                "ratio": ratio(own, ideal),
                "difference": mean(own - ideal),
                # z0 as predicted at the start is z_s - s v, so its error is s times v's.
                "error_held": mean(probe.ideal[start] * scale),
                "state_drift": mean(np.sqrt(probe.moved[m, level])),
            }
            numbers = {name: one.value for name, one in of.items()}
            numbers |= {f"{name}_se": one.error for name, one in of.items()}
            found.append(
                Row(
                    timestep=float(probe.timesteps[level]),
                    sigma=float(probe.sigmas[level]),
                    checkpoint=label,
                    digest=probe.checkpoint.digest,
                    steps_rolled=steps,
                    sigma_start=float(probe.sigmas[start]),
                    n=probe.samples,
                    **numbers,
                )
            )
    return found


def entrants(probes: Sequence[Probe]) -> list[Entrant]:
    """Checkpoints that differ by their training's seed alone, together; in order of the first."""
    groups: dict[str, list[Probe]] = {}
    for probe in probes:
        groups.setdefault(_training(probe.checkpoint), []).append(probe)
    names = [_name(group) for group in groups.values()]
    return [
        Entrant(name if names.count(name) == 1 else f"{name} {key[:8]}", tuple(group))
        for name, (key, group) in zip(names, groups.items(), strict=True)
    ]


def check_alike(probes: Sequence[Probe]) -> None:
    """SoarBenchError unless all were measured at the same levels."""
    first = probes[0]
    for probe in probes:
        if not np.array_equal(probe.sigmas, first.sigmas):
            raise SoarBenchError(
                f"{probe.checkpoint.name} samples at other noise levels than "
                f"{first.checkpoint.name}, its scheduler has other settings: measure them apart"
            )


def labels(probes: Sequence[Probe]) -> list[str]:
    """The checkpoints' labels, with some of the digest where two are the same."""
    plain = [probe.checkpoint.label for probe in probes]
    return [
        label if plain.count(label) == 1 else f"{label} {probe.checkpoint.digest[:8]}"
        for label, probe in zip(plain, probes, strict=True)
    ]


def _training(checkpoint: Checkpoint) -> str:
    """The same for the seeds of one training."""
    story = checkpoint.story
    if not story:
        return checkpoint.digest
    config = {name: value for name, value in story["config"].items() if name != "seed"}
    what = [story[name] for name in ("name", "method", "step")]
    return digest_of([*what, story["base"]["digest"], story["data"]["digest"], config])


def _name(group: Sequence[Probe]) -> str:
    first = group[0].checkpoint
    return str(first.story["name"]) if len(group) > 1 else first.label


@dataclass(frozen=True)
class _Figure:
    """A figure of an entrant: [K] by seed, and the samples' influence on their mean, [n]."""

    values: np.ndarray
    influence: np.ndarray


def _figure(entrant: Entrant, figure: str, m: int, levels: Sequence[int]) -> _Figure:
    """The ratio, or the own error, at one level; of several levels the geometric mean.

    Both grow a hundredfold toward sigma = 0, where the target divides by it: a plain mean would be
    that of the last level.
    """
    values, influences = [], []
    for probe in entrant.probes:
        below = probe.ideal if figure == "ratio" else np.ones_like(probe.ideal)
        each = [ratio(probe.own[m, level], below[level]).value for level in levels]
        if not all(value > 0 for value in each):  # nan where the model is exact
            return _Figure(np.full(len(entrant.probes), np.nan), np.full(probe.samples, np.nan))
        value = math.exp(float(np.mean(np.log(each))))
        relative = [
            _influence(probe.own[m, level], below[level]) / one
            for level, one in zip(levels, each, strict=True)
        ]
        values.append(value)
        influences.append(value * np.mean(relative, axis=0))
    return _Figure(np.array(values), np.mean(influences, axis=0))


def summary(entrant: Entrant, m: int, levels: Sequence[int]) -> Value:
    """The ratio, in the geometric mean over levels and the mean over seeds, and its standard error:
    over samples, and over seeds where there are several; nan where it is not defined.
    """
    found = _figure(entrant, "ratio", m, levels)
    return Value(float(found.values.mean()), _error(found.influence, _seeds(found.values))[0])


def differences(all_entrants: Sequence[Entrant]) -> list[Difference]:
    """Each entrant against the first, at every level and in the geometric mean over levels."""
    reference, *others = all_entrants
    one = reference.probes[0]
    found = []
    for entrant in others:
        for figure in ("ratio", "error_own"):
            for m, steps in enumerate(one.rolled):
                places = one.places(m)
                cuts: list[tuple[float | None, list[int]]] = [
                    (float(one.timesteps[level]), [level]) for level in reversed(places)
                ]
                for timestep, levels in [*cuts, (None, list(places))]:
                    if levels:
                        value, half = _difference(entrant, reference, figure, m, levels)
                        found.append(
                            Difference(
                                entrant.name, reference.name, figure, steps, timestep,
                                value, value - half, value + half,
                            )
                        )  # fmt: skip
    return found


def _difference(
    a: Entrant, b: Entrant, figure: str, m: int, levels: Sequence[int]
) -> tuple[float, float]:
    """The difference and half the length of its interval."""
    mine, theirs = _figure(a, figure, m, levels), _figure(b, figure, m, levels)
    if None not in a.seeds and sorted(map(str, a.seeds)) == sorted(map(str, b.seeds)):
        order = [a.seeds.index(seed) for seed in b.seeds]
        spreads = _seeds(mine.values[order] - theirs.values)
    else:
        spreads = [*_seeds(mine.values), *_seeds(theirs.values)]
    error, freedom = _error(mine.influence - theirs.influence, spreads)
    half = float(student.ppf((1 + CONFIDENCE) / 2, freedom)) * error
    return float(mine.values.mean() - theirs.values.mean()), half


def _seeds(values: np.ndarray) -> list[tuple[float, int]]:
    """The variance of a mean over seeds and its degrees of freedom; nothing for one seed."""
    k = len(values)
    return [(float(values.var(ddof=1)) / k, k - 1)] if k > 1 else []


def _error(influence: np.ndarray, spreads: Sequence[tuple[float, int]]) -> tuple[float, float]:
    """Standard error of samples and seeds together, and Satterthwaite's degrees of freedom.

    The variances add up. The spread of seeds holds some of the samples' noise already, so the sum
    is rather too large than too small.
    """
    n = len(influence)
    parts = [*spreads, (float(influence.var(ddof=1)) / n if n > 1 else math.nan, max(n - 1, 1))]
    total = sum(variance for variance, _ in parts)
    squares = sum(variance**2 / freedom for variance, freedom in parts)
    return math.sqrt(total), total**2 / squares if squares > 0 else math.nan


def as_records(rows_or_differences: Sequence[Row | Difference]) -> list[dict[str, Any]]:
    return [asdict(one) for one in rows_or_differences]
