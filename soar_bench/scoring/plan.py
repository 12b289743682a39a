"""Plan of a run: what is missing, known before the expensive work begins."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from evaluators import registry
from evaluators.types import Evaluator, EvaluatorError
from soar_bench.checkpoints import Checkpoint, image_size
from soar_bench.core.devices import AUTO, choose
from soar_bench.core.errors import SoarBenchError
from soar_bench.core.files import check_writable
from soar_bench.pipelines import Pipeline
from soar_bench.pipelines.lengths import Cut, count_cut, cut_texts
from soar_bench.sampling.generate import Generation
from soar_bench.scoring.images import ImageSet
from soar_bench.scoring.inputs import check_inputs
from soar_bench.scoring.judges import Judge, resolve_judges
from soar_bench.scoring.scores import Observer, sample_key
from soar_bench.scoring.sets import check_sets, set_keys
from soar_bench.suites.types import PlannedSample, Prompt, Protocol, Suite


@dataclass(frozen=True)
class Options:
    """How to run. Of these only the precision of evaluators changes numbers; it is recorded."""

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
    #: text encoders that read only the beginning of some prompts
    cut: Sequence[Cut] = ()
    #: sentences on what was left out
    notes: Sequence[str] = ()

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
    """Check everything before the expensive work begins, and see what is missing.

    Evaluators that cannot run are among ``Plan.problems``.
    """
    image_size(checkpoint, protocol)
    named = resolve_judges(options.evaluators or suite.evaluators, options.evaluator_dtype)
    judges, notes = _able(named, suite)
    images_per_prompt = options.images_per_prompt or suite.images_per_prompt
    generation = Generation(checkpoint, suite, protocol, options.cache, images_per_prompt)
    _make_folders(options)
    plan = _compared(generation, judges, options)
    return replace(plan, cut=_cut(generation), notes=notes)


def _able(judges: tuple[Judge, ...], suite: Suite) -> tuple[tuple[Judge, ...], tuple[str, ...]]:
    """Return the judges of any of the suite's prompts, and a note on each other. SoarBenchError if
    there is none.
    """
    unable = _unable(judges, suite.prompts)
    if judges and len(unable) == len(judges):
        raise SoarBenchError(
            f"{' and '.join(unable)} can judge no prompt of {suite.name}: name another evaluator "
            "with --evaluators, or leave the suite out"
        )
    notes = (f"{name} can judge no prompt of {suite.name}: left out there" for name in unable)
    return tuple(judge for judge in judges if judge.given not in unable), tuple(notes)


def _unable(judges: Sequence[Judge], prompts: Sequence[Prompt]) -> list[str]:
    """Return the names of the judges that can judge none of the prompts. SoarBenchError names a
    prompt whose metadata one of them cannot read.
    """
    # all prompts, not up to the first that it can judge: a later one may be wrong
    able = {judge.given: sum(map(judge.can_judge, prompts)) for judge in judges}
    return [name for name, number in able.items() if not number]


def _cut(generation: Generation) -> list[Cut]:
    checkpoint, tokens = generation.checkpoint, generation.protocol.max_sequence_length
    # the folder of a pipeline in memory is a new one each time
    count = cut_texts if checkpoint.loaded is None else count_cut
    texts = [prompt.text for prompt in generation.suite.prompts]
    return count(Pipeline(checkpoint.pipeline), texts, tokens)


def prepare_images(
    images: Any,
    options: Options,
    prompts: Any = None,
    metadata: Any = None,
    label: str | None = None,
    suite: str | None = None,
    observe: Observer = lambda stage, done, total: None,
) -> Plan:
    """Plan the scores of images from elsewhere, which are read by :meth:`ImageSet.read`."""
    if not options.evaluators:
        raise SoarBenchError(
            f"name what is to judge with --evaluators (known: {', '.join(registry.names())})"
        )
    judges = resolve_judges(options.evaluators, options.evaluator_dtype)
    check_judges(judges)
    if options.device != AUTO:
        choose(options.device)
    reading = partial(observe, "read")
    source = ImageSet.read(images, prompts, metadata, label, suite, reading)
    unable = _unable(judges, list({s.prompt.id: s.prompt for s in source.samples}.values()))
    if len(unable) == len(judges):
        raise SoarBenchError(
            f"{' and '.join(unable)} can judge no image of {source.label}: name another evaluator, "
            "or give the prompts the metadata that it reads"
        )
    _make_folders(options)
    return _compared(source, judges, options)


def _make_folders(options: Options) -> None:
    for place in (options.results, options.cache):
        check_writable(place)
        place.mkdir(parents=True, exist_ok=True)


def _compared(source: Generation | ImageSet, judges: tuple[Judge, ...], options: Options) -> Plan:
    """Return the plan of what is missing. SoarBenchError if the device is not here."""
    digest: Callable[[PlannedSample], str | None] = source.digest
    if isinstance(source, Generation):
        digest = (lambda sample: None) if options.force else source.store.digest
    digests = [(sample, digest(sample)) for sample in source.samples]
    to_generate = [sample for sample, pixels in digests if pixels is None]
    keys = ["" if pixels is None else sample_key(sample, pixels) for sample, pixels in digests]
    to_score = {}
    for judge in judges:
        check_sets(judge.evaluator, source.samples)
        check_inputs(judge.evaluator, source.samples)
        lacking = len(keys)
        if not judge.problem and not options.force:
            journal = judge.journal(options.cache, source.name)
            of_sets = set_keys(judge.evaluator, source.samples, keys)
            pairs = zip(keys, of_sets, strict=True)
            lacking = sum(not key or journal.get(of_set) is None for key, of_set in pairs)
        to_score[judge.name] = lacking
    plan = Plan(source, judges, to_generate, to_score)
    if not plan.idle:
        choose(options.device)
    return plan


def check_able(plans: Sequence[Plan]) -> None:
    """Raise SoarBenchError with every reason why evaluators of the plans cannot work here."""
    if reasons := problems_of(judge for plan in plans for judge in plan.judges):
        raise SoarBenchError("nothing was started: " + "; ".join(reasons))


def check_judges(judges: Iterable[Judge]) -> None:
    """Raise EvaluatorError with every reason why judges cannot work here."""
    lacking = [judge for judge in judges if judge.problem]
    if len(lacking) == 1:
        raise EvaluatorError(lacking[0].problem)
    if lacking:
        raise EvaluatorError("; ".join(problems_of(lacking)))


def problems_of(all_judges: Iterable[Judge]) -> list[str]:
    """Return why judges cannot work here, each reason once; one command fetches all weights."""
    judges = {judge.given: judge for judge in all_judges if judge.problem}
    sets: dict[str, None] = {}
    others = []
    for judge in judges.values():
        absent = [weights for weights in judge.evaluator.weights if weights.missing()]
        missing = [weights.to_fetch for weights in absent if weights.folder_override is None]
        sets |= dict.fromkeys(missing)
        if not missing or f"soar-bench fetch {missing[0]}" not in judge.problem:
            others.append(judge.problem)  # a package, say, beside which weights are missing too
    if not sets or (len(judges) == len(sets) == 1 and not others):
        return list(dict.fromkeys(judge.problem for judge in judges.values()))
    fetch = f"weights are missing: run `soar-bench fetch {' '.join(sets)}`"
    return [fetch, *dict.fromkeys(others)]
