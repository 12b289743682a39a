"""Callbacks of a training: metrics, and images of the same prompts, of its checkpoints.

Both go through the code of ``eval``, with the same cache: a later ``eval`` of the checkpoint
finds the images and scores, and nothing is made twice. Records and pictures go into the run's own
folder.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from soar_bench.checkpoints import EMBEDDED, Checkpoint, resolve
from soar_bench.core.devices import AUTO, choose
from soar_bench.core.digests import digest_of
from soar_bench.core.distributed import Group, join, leave
from soar_bench.core.errors import SoarBenchError, unknown_name
from soar_bench.core.files import replace_atomically
from soar_bench.core.memory import USUAL_BATCH, release
from soar_bench.core.progress import named
from soar_bench.core.torch_state import preserved_torch_state
from soar_bench.core.torchvision import mend_torchvision
from soar_bench.evaluation import Note, Options, check_able, prepare, run
from soar_bench.records import Run
from soar_bench.sampling.generate import Generation
from soar_bench.scoring.judges import resolve_judges
from soar_bench.scoring.scores import Observer
from soar_bench.suites import get_suite
from soar_bench.suites.prompts import numbered
from soar_bench.suites.protocols import (
    SHAPES_PROTOCOL,
    SOAR_PAPER_PROTOCOL,
    default_protocol,
    get_protocol,
    override,
)
from soar_bench.suites.types import PlannedSample, Protocol, Suite
from training.callbacks import Callback, Observation
from training.types import Config

#: Folders of records and of images in the run's own.
RESULTS, IMAGES = "results", "validation"
#: Follows a metric's name where the figure is how many samples have no score.
UNSCORED = "/unscored"


def callbacks_of(
    config: Config,
    cache: Path = Path("outputs/cache"),
    observe: Observer = lambda stage, done, total: None,
    note: Note = lambda words: None,
    device: str = AUTO,
) -> list[Callback]:
    """Return the callbacks that the settings ask for. Nothing is written to ``config.output`` yet.

    ``cache`` keeps images and scores, as that of ``eval`` does. ``observe`` hears of stages,
    ``note`` of what a person should know. SoarBenchError if anything is wrong that can be known
    before training: suite, protocol, evaluators, prompts, the metric of ``keep_best``.
    """
    callbacks: list[Callback] = []
    if not (config.validation.every or config.evaluation.every):
        return callbacks
    base = resolve(config.start)
    options = Options(config.output / RESULTS, cache, batch_size=None, device=device)
    if config.validation.every:
        callbacks.append(_validation(config, base, options, observe, note))
    if config.evaluation.every:
        evaluation = _evaluation(config, base, options, observe, note)
        if config.keep_best and config.keep_best not in evaluation.higher_is_better:
            metrics = list(evaluation.higher_is_better)
            with _setting("keep_best"):
                raise unknown_name("metric of the evaluation", config.keep_best, metrics)
        callbacks.append(evaluation)
    return callbacks


# Evaluation


@dataclass(frozen=True)
class EvaluationCallback:
    """Evaluates checkpoints as ``eval`` does; records go to ``results`` in the run's folder."""

    every: int
    suite: Suite
    protocol: Protocol
    options: Options
    #: by metric, of all evaluators
    higher_is_better: Mapping[str, bool]
    observe: Observer
    note: Note
    name: str = "evaluation"

    @property
    def subject(self) -> str:
        count = self.options.images_per_prompt or self.suite.images_per_prompt
        prompts = digest_of([[p.id, p.text, dict(p.metadata)] for p in self.suite.prompts])
        return f"{self.suite.name}/{self.protocol.name} x {count}, {prompts[:8]}"

    def on_checkpoint(self, checkpoint: str, step: int) -> Observation:
        """Return each metric's value, as in the record, and as ``METRIC/unscored`` the number of
        samples without one.
        """
        with _apart() as group:
            judged = _resolved(checkpoint, group)
            work = prepare(judged, self.suite, self.protocol, self.options)
            evaluated = run(work, self.options, self.observe, self.note, group)
        return Observation(figures=_figures(evaluated))


def _evaluation(
    config: Config, base: Checkpoint, options: Options, observe: Observer, note: Note
) -> EvaluationCallback:
    settings = config.evaluation
    with _setting("evaluation.suite"):
        suite = get_suite(settings.suite)
    with _setting("evaluation.protocol"):
        protocol = get_protocol(settings.protocol) if settings.protocol else default_protocol(suite)
    options = replace(options, images_per_prompt=settings.images or None)
    with _setting("evaluation"):
        _check(base, suite, protocol, options)
    metrics = [m for judge in resolve_judges(suite.evaluators) for m in judge.evaluator.metrics]
    directions = {metric.name: metric.higher_is_better for metric in metrics}
    observe = partial(named, observe, "evaluation")
    return EvaluationCallback(settings.every, suite, protocol, options, directions, observe, note)


def _figures(evaluated: Run) -> dict[str, float]:
    figures: dict[str, float] = {}
    for name, metric in evaluated.record.metrics.items():
        if metric.value is not None:
            figures[name] = metric.value
        if metric.unscored:
            figures[name + UNSCORED] = metric.unscored
    return figures


# Validation


@dataclass(frozen=True)
class ValidationCallback:
    """Makes an image of each prompt from the same noise, whatever the checkpoint."""

    every: int
    #: without evaluators
    suite: Suite
    protocol: Protocol
    options: Options
    #: where folders ``step-NNNNNN`` with a PNG a prompt are written
    folder: Path
    observe: Observer
    note: Note
    name: str = "validation"

    @property
    def subject(self) -> str:
        texts = [prompt.text for prompt in self.suite.prompts]
        return digest_of([self.protocol.settings(), texts])[:12]

    @property
    def higher_is_better(self) -> Mapping[str, bool]:
        return {}

    def on_checkpoint(self, checkpoint: str, step: int) -> Observation:
        """Return the images by prompt."""
        folder = self.folder / f"step-{step:06d}"
        with _apart() as group:
            shown = _resolved(checkpoint, group)
            images = Generation(shown, self.suite, self.protocol, self.options.cache, 1)
            files = [folder / f"{number:02d}.png" for number in range(len(images.samples))]
            if group.main:
                store = images.store
                store.remove([s for s in images.samples if store.read(s) is None])  # damaged ones
            images.make(
                batch_size=min(USUAL_BATCH, -(-len(images.samples) // group.size)),
                device=group.device(choose(self.options.device)),
                group=group,
                observe=self.observe,
                note=self.note,
            )
            if group.main:
                for sample, file in zip(images.samples, files, strict=True):
                    _copy(images, sample, file)
        texts = [sample.prompt.text for sample in images.samples]
        return Observation(images=dict(zip(texts, files, strict=True)))


def _validation(
    config: Config, base: Checkpoint, options: Options, observe: Observer, note: Note
) -> ValidationCallback:
    settings = config.validation
    texts = [text.strip() for text in settings.prompts]
    with _setting("validation.prompts"):
        for number, text in enumerate(texts, start=1):
            if not text:
                raise SoarBenchError(f"prompt {number} is empty: write one, or leave it out")
            if text in texts[: number - 1]:
                raise SoarBenchError(f"{text!r} is there twice: leave one of them out")
    # As if the prompts stood in a file validation.txt: the same noise, and the same cached images.
    suite = Suite("validation", "", numbered("validation", texts), (), images_per_prompt=1)
    with _setting("validation.protocol"):
        if settings.protocol:
            protocol = get_protocol(settings.protocol)
        elif base.root[0] in EMBEDDED:
            protocol = SHAPES_PROTOCOL
        else:
            protocol = override(
                SOAR_PAPER_PROTOCOL,
                resolution=config.resolution,
                max_sequence_length=config.max_sequence_length,
            )
    with _setting("validation"):
        _check(base, suite, protocol, options)
    folder, observe = config.output / IMAGES, partial(named, observe, "validation")
    return ValidationCallback(settings.every, suite, protocol, options, folder, observe, note)


def _copy(images: Generation, sample: PlannedSample, file: Path) -> None:
    """Put the sample's image at a place for people, unless it is there; ImageGone without one."""
    images.digest(sample)
    made = images.store.file(sample)
    if not (file.is_file() and file.read_bytes() == made.read_bytes()):
        with replace_atomically(file) as aside:
            shutil.copyfile(made, aside)


# Both


@contextmanager
def _setting(name: str) -> Iterator[None]:
    """Put the setting that an error is about before it."""
    try:
        yield
    except SoarBenchError as error:
        raise SoarBenchError(f"{name}: {error}") from None


def _check(base: Checkpoint, suite: Suite, protocol: Protocol, options: Options) -> None:
    """Raise SoarBenchError for what keeps ``eval`` of the base from starting."""
    # The run's folder is left for the trainer to make, which tells from it whether it has begun.
    check_able([prepare(base, suite, protocol, replace(options, results=options.cache))])


def _resolved(name: str, group: Group) -> Checkpoint:
    """Resolve the checkpoint in every process; one reads its weights for their digest."""
    checkpoint = group.share(resolve(name) if group.main else None)
    assert checkpoint is not None
    return checkpoint


@contextmanager
def _apart() -> Iterator[Group]:
    """Let a callback work in the processes of the training, and leave torch's state as it was."""
    mend_torchvision()
    with preserved_torch_state(), _whole_models():
        _release()
        group = join()
        try:
            yield group
        finally:
            leave(group)
            _release()


def _release() -> None:
    """Give a device back the memory that training, or a callback, holds without need."""
    import torch

    if torch.accelerator.is_available():
        release()


#: With FSDP it tells transformers that weights will be sent from the first process of a machine: in
#: the others models are left empty, in whole or in part. Nobody sends those of a callback.
_ONE_LOADS = "FSDP_CPU_RAM_EFFICIENT_LOADING"


@contextmanager
def _whole_models() -> Iterator[None]:
    """Every process loads whole models, also where training divides its own among them."""
    from transformers.integrations import deepspeed

    before = os.environ.get(_ONE_LOADS)
    divided = deepspeed.is_deepspeed_zero3_enabled()
    settings = deepspeed._hf_deepspeed_config_weak_ref() if divided else None
    if before is not None:
        os.environ[_ONE_LOADS] = "false"
    if divided:
        deepspeed.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        if before is not None:
            os.environ[_ONE_LOADS] = before
        if divided:
            deepspeed.set_hf_deepspeed_config(settings)
