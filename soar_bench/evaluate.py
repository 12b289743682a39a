"""``soar-bench eval``: a plan of samples, what is missing of it, and the run's record."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluators import registry
from soar_bench.cache.images import ImageGone, ImageStore
from soar_bench.checkpoints import Checkpoint, image_size
from soar_bench.core.devices import AUTO, choose
from soar_bench.core.distributed import ALONE, Group
from soar_bench.core.errors import SoarBenchError
from soar_bench.core.memory import peak
from soar_bench.records import Run, folder_of, read_run, write_run
from soar_bench.records.provenance import made_by
from soar_bench.sampling.noise import noise_key
from soar_bench.scoring import Generated, Judge, sample_key
from soar_bench.scoring.judging import Judged, Observer, judge, summary, table
from soar_bench.suites.types import PlannedSample, Protocol, Suite, plan

if TYPE_CHECKING:
    import pandas as pd

#: Called with a sentence for a person.
Note = Callable[[str], None]

#: Images that vanish while they are scored are made again so many times.
_ATTEMPTS = 3


@dataclass(frozen=True)
class Options:
    """How to run. The evaluators' precision is recorded; nothing else here changes a number beyond
    floating-point rounding.
    """

    results: Path
    #: where images and scores are kept between runs
    cache: Path
    images_per_prompt: int | None = None
    evaluators: tuple[str, ...] | None = None
    #: images made at once; None finds how many fit
    batch_size: int | None = 32
    #: a device of torch, or ``auto``
    device: str = "cpu"
    #: precision of the evaluators that have a choice; None is their own, float32
    evaluator_dtype: str | None = None
    #: make and score again what is there
    force: bool = False


@dataclass(frozen=True)
class Work:
    """One run, checked and ready to start."""

    checkpoint: Checkpoint
    suite: Suite
    protocol: Protocol
    samples: list[PlannedSample]
    #: as named, in order
    evaluators: tuple[str, ...]
    store: ImageStore
    to_generate: list[PlannedSample]
    #: by evaluator: samples that have no score yet
    to_score: dict[str, int]
    #: by evaluator: why it cannot run here and what to do; nothing starts while there are any
    problems: dict[str, str]


def prepare(checkpoint: Checkpoint, suite: Suite, protocol: Protocol, options: Options) -> Work:
    """Checks everything that can be checked before the expensive work begins, and compares the plan
    with what is there. Evaluators that cannot run are among ``Work.problems``.
    """
    count = options.images_per_prompt or suite.images_per_prompt
    image_size(checkpoint, protocol)
    evaluators = distinct(options.evaluators or suite.evaluators)
    problems = {name: why for name in evaluators if (why := _problem(name))}
    store = ImageStore.of(options.cache, checkpoint.digest, protocol.settings(), suite.seed)
    make_folders(options.results, options.cache)
    samples = plan(suite, count)
    digests = [None if options.force else store.digest(sample) for sample in samples]
    to_generate = [s for s, digest in zip(samples, digests, strict=True) if digest is None]
    keys = [sample_key(s, d) for s, d in zip(samples, digests, strict=True) if d is not None]
    to_score = {}
    for given in evaluators:
        lacking = len(keys)
        if given not in problems:
            judge = Judge.of(
                registry.create(given), options.evaluator_dtype, options.cache, store.folder.name
            )
            lacking = len(judge.missing(keys))
        to_score[registry.create(given).name] = len(to_generate) + lacking
    if to_generate or any(to_score.values()):
        choose(options.device)
    return Work(
        checkpoint, suite, protocol, samples, evaluators, store, to_generate, to_score, problems
    )


def distinct(names: Iterable[str]) -> tuple[str, ...]:
    """The evaluators' names without repetition. SoarBenchError if two give one metric."""
    evaluators = tuple(dict.fromkeys(names))
    declared: dict[str, str] = {}
    for name in evaluators:
        for metric in registry.create(name).metrics:
            if declared.setdefault(metric.name, name) != name:
                raise SoarBenchError(
                    f"{declared[metric.name]} and {name} both give the metric {metric.name}: "
                    "choose one of them"
                )
    return evaluators


def _problem(name: str) -> str:
    return registry.cannot_run(registry.create(name))


def make_folders(*places: Path) -> None:
    for place in places:
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SoarBenchError(f"nothing can be written to {place}: {error.strerror}") from None


def run(
    work: Work,
    options: Options,
    observe: Observer = lambda stage, done, total: None,
    note: Note = lambda words: None,
    group: Group = ALONE,
) -> Run:
    """Generates and scores what is missing, and writes the record.

    With several processes each calls this with the same work; the main one writes, all return the
    record.
    """
    if work.problems:
        raise SoarBenchError("; ".join(work.problems.values()))
    started = datetime.now(UTC)
    device = group.device(_device(work, options))
    images, batch_size, seconds = 0, options.batch_size, 0.0
    forget = options.force
    for _ in range(_ATTEMPTS):
        clock = time.monotonic()
        made, batch_size = _generate(work, options, device, forget, observe, note, group)
        seconds += time.monotonic() - clock
        images += made
        judged = judge(
            work.evaluators,
            work.samples,
            Generated(work.store),
            options.cache,
            work.store.folder.name,
            device=device,
            dtype=options.evaluator_dtype,
            force=forget,
            observe=observe,
            group=group,
        )
        if not judged.gone:
            break
        forget = False
        note(f"{len(judged.gone)} images have gone or are damaged: making them again")
    else:
        raise ImageGone(
            f"images keep vanishing from {work.store.folder}: see what deletes or damages them, "
            "and run the same command again"
        )
    done: dict[str, Any] = {
        "generated": images,
        "scored": judged.scored,
        "failed": judged.failed,
        "processes": group.size,
        "batch_size": batch_size,
    }
    if (memory := peak(device)) is not None:
        done["memory"] = memory
    if not group.main:
        return read_run(Path(group.share("")))
    scores = table(work.samples, judged, partial(_noise, work.suite.seed))
    record = _record(work, judged, scores)
    known = None if images or any(judged.scored.values()) else _same(options, record, scores)
    if known is None:
        record["made"] = made_by(started, {"generate": round(seconds, 3)} | judged.seconds, device)
        record["made"] |= done
        known = write_run(options.results, record, scores)
    group.share(str(known.folder))
    return known


def _device(work: Work, options: Options) -> str:
    """The device to work on; where nothing is left to do, torch need not be asked for one."""
    idle = not work.to_generate and not any(work.to_score.values())
    return "cpu" if options.device == AUTO and idle else choose(options.device)


def _noise(seed: int, sample: PlannedSample) -> str:
    return f"{noise_key(seed, sample.prompt.id, sample.index):032x}"


def _generate(
    work: Work,
    options: Options,
    device: str,
    force: bool,
    observe: Observer,
    note: Note,
    group: Group,
) -> tuple[int, int | None]:
    """Makes missing images; how many were made by all processes, and how many at once."""
    if not group.share(force or bool(work.store.missing(work.samples))):
        return 0, options.batch_size
    from soar_bench.sampling.generate import generate
    from soar_bench.sampling.sampler import Sampler

    waiting = partial(note, "waiting for another soar-bench that makes the same images")
    sampler = Sampler(work.checkpoint, work.protocol, device)
    with work.store.lock(waiting) if group.main else nullcontext():
        if force and group.main:
            work.store.remove(work.samples)
        try:
            made = generate(
                sampler,
                work.samples,
                work.store,
                work.suite.seed,
                batch_size=options.batch_size,
                device=device,
                group=group,
                observe=partial(observe, "generate"),
                note=note,
            )
        finally:
            sampler.close()
        return sum(group.gather(made.images)), made.batch_size


def _record(work: Work, judged: Judged, scores: pd.DataFrame) -> dict[str, Any]:
    """What identifies the run and what it found: the same for the same run, whenever made."""
    checkpoint = work.checkpoint
    base = checkpoint.base
    return {
        "checkpoint": {
            "label": checkpoint.label,
            "name": checkpoint.name,
            "form": checkpoint.form,
            "digest": checkpoint.digest,
            "base": None if base is None else {"name": base[0], "digest": base[1]},
            "revision": checkpoint.revision,
            "story": checkpoint.story,
        },
        "suite": {
            "name": work.suite.name,
            "digest": work.suite.digest(),
            "seed": work.suite.seed,
            "prompts": len(work.suite.prompts),
            "images_per_prompt": len(work.samples) // max(len(work.suite.prompts), 1),
            "source": work.suite.source,
        },
        "protocol": {"name": work.protocol.name, "settings": work.protocol.settings()},
        "evaluators": judged.declared,
        "metrics": summary(judged, scores),
    }


def _same(options: Options, record: dict[str, Any], scores: pd.DataFrame) -> Run | None:
    """The record that is there, if it says the same: it still knows when the work was done."""
    try:
        there = read_run(folder_of(options.results, record))
        if not there.scores().equals(scores):
            return None
    except SoarBenchError:  # none, or damaged
        return None
    return there if all(there.record[key] == part for key, part in record.items()) else None
