"""Memory of a training on a device: whether it fits, and how many points a pass may take.

Imports no torch. The sizes are measured by whoever has the pipeline (``TrainingPipeline.measure``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from typing import Any

from training.space import MOMENTS, SINGLE, Sizes, rollout_bytes
from training.types import COPIES, Config, TrainingError

#: Share of a device's memory that a training may fill. The rest is for the driver's context, the
#: libraries' workspaces, fragments, and the error of the estimate.
SHARE = 0.95
#: Numbers of processes, and the rank of an adapter, that a refusal tries.
_PROCESSES, _RANK = (2, 4, 8, 16, 32, 64), 32
_GIB = 2**30

#: Values of settings, by dotted name.
Change = dict[str, Any]


@dataclass(frozen=True)
class Memory:
    """Sizes of a transformer in training, measured."""

    sizes: Sizes
    #: bytes that a pass of any number of samples keeps for its backward pass
    fixed: int
    #: bytes that it keeps besides for each sample
    each: int
    #: samples, or auxiliary points, of the largest pass
    count: int
    #: bytes of one latent in float32
    latent: int = 0

    @property
    def parameters(self) -> int:
        return self.sizes.parameters

    @property
    def trained(self) -> int:
        return self.sizes.trained

    @property
    def activations(self) -> int:
        """Bytes that the largest pass keeps for its backward pass."""
        return self.fixed + self.each * self.count

    def of(self, config: Config, chunk: int) -> Memory:
        """Return the same where a pass takes ``chunk`` auxiliary points; 0: all."""
        return replace(self, count=largest_pass(config, chunk))


#: Measures the memory of a training with these settings.
Measure = Callable[[Config], Memory]


@dataclass(frozen=True)
class Place:
    """A device and the processes that share a training."""

    #: bytes of the device's memory; None where it is not known or does not limit a training
    memory: int | None = None
    processes: int = 1
    #: whether weights are divided among the processes; gradients and moments, or moments alone
    divided: tuple[bool, bool, bool] = (False, False, False)


def largest_pass(config: Config, chunk: int) -> int:
    """Return the samples or auxiliary points that go through the model at once."""
    size, points = config.batch_size, _points(config)
    if config.method == "defar" and config.defar.form == "defar":
        return 2 * size  # the gradient goes through its step
    if config.method == "flow-grpo" and config.flow_grpo.guidance != 1:
        return 2 * size  # both halves of guidance are in one graph
    return max(size, min(points, chunk or points))


def _points(config: Config) -> int:
    """Auxiliary points of a micro-batch."""
    soar = config.soar
    with_points = config.method == "soar" and soar.weight
    return soar.paths * soar.points * config.batch_size if with_points else 0


def with_chunk(config: Config, chunk: int | str) -> Config:
    """Return the settings with so many auxiliary points per pass."""
    soar = config.soar.model_copy(update={"aux_chunk": chunk})
    return config.model_copy(update={"soar": soar})


def held(config: Config, sizes: Sizes, place: Place = Place()) -> int:
    """Return the bytes of weights, gradients, moments, average and copies of a process."""
    weights, gradients, moments = (place.processes if d else 1 for d in place.divided)
    half = 2 if config.precision == "bf16" else SINGLE
    frozen = sizes.parameters * half if config.lora.rank else 0
    buffers = sizes.buffers * (half if config.lora.rank else SINGLE)
    copies = bool(config.ema_decay) + COPIES.get(config.method, (0, 0))[0]
    states = MOMENTS[config.optimizer.kind] + SINGLE * copies
    # FSDP2 gathers its copy block by block.
    copy = 2 * sizes.trained if config.working_copy and not any(place.divided) else 0
    return (
        copy
        + (frozen + sizes.trained * SINGLE) // weights
        + sizes.trained * SINGLE // gradients
        + sizes.trained * states // moments
        + buffers
    )


def choose(
    config: Config, measure: Measure, place: Place, begun: bool = False
) -> tuple[int, Memory]:
    """Return the auxiliary points per pass (0: all of a micro-batch) and the memory of a step.

    That of the settings, or where it is ``auto`` the fewest passes that fit the device; all at once
    where its memory is not known. TrainingError, with a change of settings that was found to fit,
    if a step does not fit; without one for a run that is ``begun``, whose settings stay.
    """
    memory = measure(config)
    chunks = list(_chunks(config))
    if place.memory is None:
        return chunks[0], memory.of(config, chunks[0])
    for chunk in chunks:
        if _fits(config, memory.of(config, chunk), place):
            return chunk, memory.of(config, chunk)
    memory = memory.of(config, chunks[-1])
    advice = (
        "go on with it on GPUs as large as it began on, or name another output to begin anew"
        if begun
        else _advice(config, measure, place, memory.sizes)
    )
    raise TrainingError(
        f"a step needs about {_needed(config, memory, place) / _GIB:.1f} GiB a process "
        f"({held(config, memory.sizes, place) / _GIB:.1f} of weights, gradients and optimizer, "
        f"{memory.activations / _GIB:.1f} of activations of a pass of {memory.count}), and of the "
        f"device's {place.memory / _GIB:.1f} GiB {SHARE:.0%} may be filled: "
        f"{advice}"
    )


def _chunks(config: Config) -> Iterator[int]:
    """The numbers of points per pass to try, largest first; none is smaller than the base pass."""
    if config.soar.aux_chunk != "auto":
        yield config.soar.aux_chunk
        return
    yield 0
    points, size, before = _points(config), config.batch_size, 0
    for passes in range(2, points + 1):
        chunk = max(-(-points // passes), size)
        if chunk != before and chunk < points:
            yield chunk
        if chunk == size:
            return
        before = chunk


def _needed(config: Config, memory: Memory, place: Place) -> int:
    own = rollout_bytes(config, memory.latent)
    return held(config, memory.sizes, place) + memory.activations + own


def _fits(config: Config, memory: Memory, place: Place) -> bool:
    return place.memory is None or _needed(config, memory, place) <= SHARE * place.memory


def _advice(config: Config, measure: Measure, place: Place, sizes: Sizes) -> str:
    """The first change of settings, of those that cost least, with which a step fits."""
    assert place.memory is not None
    room, measured = SHARE * place.memory, cache(lambda words: measure(configs[words]))
    configs: dict[str, Config] = {}

    def fits(change: Change, place: Place) -> bool:
        words = _words(change)
        other = configs.setdefault(words, _changed(config, change))
        if "lora.rank" not in change and held(other, sizes, place) > room:
            return False  # seconds sooner than by a measurement
        memory = measured(words)
        return any(_fits(other, memory.of(other, chunk), place) for chunk in _chunks(other))

    for change in _changes(config, place):
        if fits(change, place):
            return f"set {_words(change)}"
    ways = []
    saving = [c for c in _changes(config, place) if "optimizer.kind" not in c]
    numbers = [n for n in _PROCESSES if n > place.processes or not place.divided[0]]
    for number, change in product(numbers, ({}, *saving)):
        divided = Place(place.memory, max(number, place.processes), (True, True, True))
        if fits(change, divided):
            more = f" and set {_words(change)}" if change else ""
            weights = f"divide the weights among {divided.processes} GPUs"
            ways.append(f"{weights} (configs/accelerate/fsdp2.yaml){more}")
            break
    if not config.lora.rank:
        for change in ({}, *saving):
            if fits({"lora.rank": _RANK} | change, place):
                ways.append(f"train an adapter: set {_words({'lora.rank': _RANK} | change)}")
                break
    return ", or ".join(ways) or "no change of settings that was tried fits: use a larger GPU"


def _changes(config: Config, place: Place) -> Iterator[Change]:
    """Changes of settings that train the same with less memory, those that cost least first."""
    size, smallest = config.batch_size, {}
    auto = config.method == "soar" and config.soar.aux_chunk != "auto"
    first: Change = {"soar.aux_chunk": "auto"} if auto else {}
    if first:
        yield first
    for n in range(size - 1, 0, -1):
        if size % n == 0:
            smallest = {"batch_size": n, "accumulate": config.accumulate * size // n}
            yield first | smallest
    if not config.gradient_checkpointing:
        first |= {"gradient_checkpointing": True}
        yield first
        if smallest:
            yield first | smallest
    if config.optimizer.kind == "adamw" and not any(place.divided):
        yield first | smallest | {"optimizer.kind": "adamw8bit"}


def _changed(config: Config, change: Change) -> Config:
    update: dict[str, Any] = {}
    for name, value in change.items():
        section, _, inner = name.partition(".")
        own = getattr(config, section)
        update[section] = own.model_copy(update={inner: value}) if inner else value
    return config.model_copy(update=update)


def _words(change: Change) -> str:
    *others, last = [f"{n}: {str(v).lower()}" for n, v in change.items()] or [""]
    return f"{', '.join(others)} and {last}" if others else last
