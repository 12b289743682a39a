"""From checkpoints, or images from anywhere, to a run's record: ``soar-bench eval`` and ``score``.

A :class:`Plan` says what is missing; :func:`run` generates it, scores it and writes the record.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluators import registry
from evaluators.types import Evaluator, EvaluatorError
from soar_bench.cache.images import ImageGone
from soar_bench.checkpoints import Checkpoint, image_size
from soar_bench.core.devices import AUTO, choose
from soar_bench.core.distributed import ALONE, Group
from soar_bench.core.errors import SoarBenchError
from soar_bench.core.images import READING
from soar_bench.core.memory import peak
from soar_bench.records import IMAGES, IMPORTED, Run, RunDraft, folder_of, read_run, write_run
from soar_bench.records.assembly import evaluator_record, score_table, summaries
from soar_bench.records.provenance import made_by
from soar_bench.sampling.generate import Generation
from soar_bench.scoring.folders import open_folder
from soar_bench.scoring.images import ImageSet
from soar_bench.scoring.judges import Judge, resolve_judges
from soar_bench.scoring.scores import BATCH, Judged, Observer, sample_key, score
from soar_bench.suites.types import PlannedSample, Protocol, Suite

if TYPE_CHECKING:
    import pandas as pd

#: Called with a sentence for a person.
Note = Callable[[str], None]

#: Stands in place of the settings of generation, so that a comparison with generated runs is
#: refused.
NOT_GENERATED: dict[str, Any] = {
    "name": "images",
    "settings": {"images": "scored, not made here", "reading": READING},
}
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
    #: None is the suite's
    images_per_prompt: int | None = None
    #: names or objects; None are the suite's
    evaluators: tuple[str | Evaluator, ...] | None = None
    #: images made at once, or scored at once where none are made; None finds how many fit
    batch_size: int | None = 32
    #: a device of torch, or ``auto``
    device: str = "cpu"
    #: precision of the evaluators that have a choice; None is their own, float32
    evaluator_dtype: str | None = None
    #: make and score again what is there
    force: bool = False


@dataclass(frozen=True)
class Plan:
    """One run, checked and ready to start."""

    #: where its images come from
    source: Generation | ImageSet
    judges: tuple[Judge, ...]
    to_generate: list[PlannedSample]
    #: by evaluator: samples that have no score yet
    to_score: dict[str, int]

    @property
    def samples(self) -> Sequence[PlannedSample]:
        return self.source.samples

    @property
    def problems(self) -> dict[str, str]:
        """By evaluator: why it cannot run here and what to do. Nothing starts with problems."""
        return {judge.given: judge.problem for judge in self.judges if judge.problem}

    @property
    def idle(self) -> bool:
        """Whether everything is there."""
        return not self.to_generate and not any(self.to_score.values())


def prepare(checkpoint: Checkpoint, suite: Suite, protocol: Protocol, options: Options) -> Plan:
    """Check everything that can be checked before the expensive work begins, and compare the plan
    with what is there. Evaluators that cannot run are among ``Plan.problems``.
    """
    image_size(checkpoint, protocol)
    judges = resolve_judges(options.evaluators or suite.evaluators, options.evaluator_dtype)
    images_per_prompt = options.images_per_prompt or suite.images_per_prompt
    generation = Generation(checkpoint, suite, protocol, options.cache, images_per_prompt)
    _make_folders(options)
    return _compared(generation, judges, options)


def prepare_images(
    folder: Path,
    options: Options,
    prompts: Path | None = None,
    label: str | None = None,
    suite: str | None = None,
    observe: Observer = lambda stage, done, total: None,
) -> Plan:
    """The same for images from elsewhere, all of which are read through.

    ``prompts`` is a list of files and prompts, where the folder does not hold one; ``label`` is
    what tables call the images, by default the folder's name; ``suite`` is what the prompts are
    called, by default after their digest.
    """
    if not options.evaluators:
        raise SoarBenchError(
            f"name what is to judge with --evaluators (known: {', '.join(registry.names())})"
        )
    judges = resolve_judges(options.evaluators, options.evaluator_dtype)
    for judge in judges:
        if judge.problem:
            raise EvaluatorError(judge.problem)
    if options.device != AUTO:
        choose(options.device)
    images = open_folder(folder, prompts)
    _make_folders(options)
    source = ImageSet.read(images, label, suite, lambda done, total: observe("read", done, total))
    return _compared(source, judges, options)


def _make_folders(options: Options) -> None:
    for place in (options.results, options.cache):
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SoarBenchError(f"nothing can be written to {place}: {error.strerror}") from None


def _compared(source: Generation | ImageSet, judges: tuple[Judge, ...], options: Options) -> Plan:
    """The plan, once it is known what is there. SoarBenchError if the device is not here."""
    to_generate: list[PlannedSample] = []
    keys = []
    for sample in source.samples:
        digest: str | None
        if isinstance(source, Generation):
            digest = None if options.force else source.store.digest(sample)
        else:
            digest = source.digest(sample)
        if digest is None:
            to_generate.append(sample)
        else:
            keys.append(sample_key(sample, digest))
    to_score = {}
    for judge in judges:
        lacking = len(keys)
        if not judge.problem and not options.force:
            journal = judge.journal(options.cache, source.name)
            lacking = sum(journal.get(key) is None for key in keys)
        to_score[judge.name] = len(to_generate) + lacking
    plan = Plan(source, judges, to_generate, to_score)
    if not plan.idle:
        choose(options.device)
    return plan


def run(
    plan: Plan,
    options: Options,
    observe: Observer = lambda stage, done, total: None,
    note: Note = lambda words: None,
    group: Group = ALONE,
) -> Run:
    """Generate and score what is missing, and write the record.

    With several processes each calls this with the same plan; the main one writes, all return the
    record.
    """
    if plan.problems:
        raise SoarBenchError("; ".join(plan.problems.values()))
    started = datetime.now(UTC)
    # where nothing is left to do, torch need not be asked for a device
    idle = plan.idle and options.device == AUTO
    device = group.device("cpu" if idle else choose(options.device))
    made, judged = _make_and_score(plan, options, device, observe, note, group)
    if not group.main:
        return read_run(Path(group.share("")))
    scores = score_table(plan.samples, judged, plan.source.noise)
    record = _record(plan, scores)
    finished = None
    if not made["generated"] and not any(judged.scored.values()):
        finished = _same(options, record, scores)
    if finished is None:
        made["seconds"] |= judged.seconds
        made |= {"scored": judged.scored, "failed": judged.failed, "processes": group.size}
        made_record = made_by(started, device, memory=peak(device), **made)
        record = record.model_copy(update={"made": made_record})
        if isinstance(plan.source, ImageSet):
            plan.source.write_files(folder_of(options.results, record))
        finished = write_run(options.results, record, scores)
    group.share(str(finished.folder))
    return finished


def _make_and_score(
    plan: Plan, options: Options, device: str, observe: Observer, note: Note, group: Group
) -> tuple[dict[str, Any], Judged]:
    """What was generated, as the record has it, and the scores of all samples."""
    source, force = plan.source, options.force
    made: dict[str, Any] = {"generated": 0, "batch_size": options.batch_size, "seconds": {}}
    at_once, seconds = options.batch_size or BATCH, 0.0
    for _ in range(_ATTEMPTS):
        if isinstance(source, Generation):
            clock = time.monotonic()
            images = source.make(
                batch_size=options.batch_size,
                device=device,
                force=force,
                group=group,
                observe=observe,
                note=note,
            )
            seconds += time.monotonic() - clock
            made["generated"] += images.images
            made |= {"batch_size": images.batch_size, "seconds": {"generate": round(seconds, 3)}}
            at_once = BATCH
        judged = score(
            plan.judges,
            plan.samples,
            source,
            options.cache,
            source.name,
            batch_size=at_once,
            device=device,
            force=force,
            observe=observe,
            group=group,
        )
        if not judged.gone:
            return made, judged
        force = False
        note(f"{len(judged.gone)} images have gone or are damaged: making them again")
    assert isinstance(source, Generation)
    raise ImageGone(
        f"images keep vanishing from {source.store.folder}: see what deletes or damages them, "
        "and run the same command again"
    )


def _record(plan: Plan, scores: pd.DataFrame) -> RunDraft:
    """What identifies the run and its figures: the same for the same run, whenever made."""
    evaluators = {judge.name: evaluator_record(judge) for judge in plan.judges}
    metrics = summaries(scores, evaluators)
    return RunDraft.model_validate(
        {**subject(plan.source), "evaluators": evaluators, "metrics": metrics}
    )


def subject(source: Generation | ImageSet) -> dict[str, Any]:
    """What is judged, as a record has it: its parts ``checkpoint``, ``suite`` and ``protocol``."""
    return _generated(source) if isinstance(source, Generation) else _imported(source)


def _generated(source: Generation) -> dict[str, Any]:
    checkpoint, suite = source.checkpoint, source.suite
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
            "name": suite.name,
            "digest": suite.digest(),
            "seed": suite.seed,
            "prompts": len(suite.prompts),
            "images_per_prompt": source.images_per_prompt,
            "source": suite.source,
        },
        "protocol": {"name": source.protocol.name, "settings": source.protocol.settings()},
    }


def _imported(source: ImageSet) -> dict[str, Any]:
    images = source.images
    return {
        "checkpoint": {
            "label": source.label,
            "name": str(images.folder),
            "form": IMAGES,
            "digest": source.digest_all(),
            "base": None,
            "revision": "",
            "story": {
                IMPORTED: {
                    "layout": images.layout,
                    "formats": dict(Counter(content.format for content in source.contents)),
                    "sizes": dict(Counter(content.size for content in source.contents)),
                }
            },
        },
        "suite": {
            "name": source.suite,
            "digest": images.digest(),
            "seed": None,
            "prompts": len(images.prompts),
            "images_per_prompt": source.images_per_prompt,
            "source": "",
        },
        "protocol": NOT_GENERATED,
    }


def _same(options: Options, record: RunDraft, scores: pd.DataFrame) -> Run | None:
    """The record that is there, if it says the same: it still knows when the work was done."""
    try:
        old = read_run(folder_of(options.results, record))
        if not old.scores().equals(scores):
            return None
    except SoarBenchError:  # none, or damaged
        return None
    same = all(getattr(old.record, name) == part for name, part in record if name != "made")
    return old if same else None
