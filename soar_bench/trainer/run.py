"""One training from its settings: data, pipeline and callbacks, checked and handed over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soar_bench.checkpoints import resolve
from soar_bench.checkpoints.forms import find
from soar_bench.core.errors import SoarBenchError
from soar_bench.core.torchvision import mend_torchvision
from soar_bench.pipelines import Pipeline
from soar_bench.trainer.data import agreeing_contexts, cut_captions, open_data, open_prompts
from soar_bench.trainer.guidance import apart_from_evaluation, check_guidance
from soar_bench.trainer.pipeline import BasePipeline
from soar_bench.trainer.plan import TrainPlan
from training.callbacks import Callback, Progress, silent
from training.data import Source
from training.rewards import Rewards
from training.types import ON_PROMPTS, Config

if TYPE_CHECKING:
    from training.run import Base


def train(
    config: Config,
    *,
    source: Source | None = None,
    callbacks: Sequence[Callback] = (),
    rewards: Rewards | None = None,
    watch: bool = True,
    progress: Progress = silent,
    note: Callable[[str], None] = lambda sentence: None,
) -> Path:
    """Train as the settings say; return the folder of the last checkpoint.

    Goes on where a run of the same settings in ``config.output`` stopped. ``source`` is captioned
    images, or prompts, in place of those that ``config.data`` names, ``rewards`` a callable in
    place of the evaluators that ``config.rewards`` names. ``callbacks`` are called with checkpoints
    as training goes on, after those that the settings ask for (``validation``, ``evaluation``),
    which ``watch=False`` leaves out. ``progress`` hears of every stage, ``note`` of what a person
    should know. SoarBenchError if something is wrong that can be known before training; ``Stopped``
    when interrupted, ``Diverged`` when the loss is no longer a number (``training.types``).
    """
    mend_torchvision()
    from soar_bench.suites.leaks import LEAKS, of_named_suites
    from soar_bench.trainer.data import captions_of
    from soar_bench.trainer.watch import callbacks_of
    from training.loop import train as run

    def remarks(data: Source) -> dict[str, Any]:
        """Count captions that have prompts of suites, where captions are read without images."""
        return {LEAKS: of_named_suites(captions_of(data))} if hasattr(data, "caption") else {}

    base = base_of(config)
    remark = check_guidance(base.pipeline, config)
    if remark:
        note(remark)
    rewards = rewards or rewards_of(config)
    if source is None:
        source, left_out = _source(config, rewards)
        if left_out:
            note(left_out)
    if watch:
        configured = callbacks_of(
            config, observe=lambda stage, done, total: progress(stage, done, total, {}), note=note
        )
        callbacks = [*configured, *callbacks]
        if apart := apart_from_evaluation(config, configured):
            note(apart)
    return run(config, base, source, progress, callbacks, note, remarks, rewards)


def check(
    config: Config,
    *,
    like: TrainPlan | None = None,
    memory: int | None = None,
    progress: Progress = silent,
) -> TrainPlan:
    """Check everything that can be checked before the first step, and train nothing.

    ``like`` is the plan of a run that differs by seed and output alone: its data and sizes are not
    looked at again. ``memory`` are the bytes of the GPU that it shall fit, by default that of this
    machine's GPU. SoarBenchError says what is wrong.
    """
    mend_torchvision()
    from soar_bench.trainer.watch import callbacks_of
    from training.cache import Cache
    from training.checks import check_here
    from training.data.checking import check as check_records
    from training.data.encoding import plan_for
    from training.memory import choose
    from training.objectives.make import contexts
    from training.parallel import usual_device, usual_place
    from training.run import Run

    base, place, rewards = base_of(config), usual_place(memory), rewards_of(config)
    check_here(config, rewards)
    remark = check_guidance(base.pipeline, config)
    if like is not None:
        checked, needs, chunk, cut = like.checked, like.memory, like.chunk, like.cut
        left_out = like.left_out
    else:
        source, left_out = _source(config, rewards)
        chunk, needs = choose(config, base.pipeline.measure, place)
        cache = Cache(config.cache) if config.cache is not None else None
        checked = check_records(
            source,
            config.images,
            cache,
            progress=lambda done, total: progress("check", done, total, {}),
        )
        tokens = config.max_sequence_length
        cut = cut_captions(Pipeline(base.pipeline.folder), checked.source, tokens)
    apart = apart_from_evaluation(config, callbacks_of(config))
    identity = rewards.identity if rewards else {}
    run = Run(config, base, checked.source, place.processes, rewards=identity)
    run.check()
    if (begun := run.as_begun()) != config:  # on whatever device, it goes on as it began
        chunk, needs = choose(begun, base.pipeline.measure, place, run.begun)
    encodings = plan_for(
        config, base.pipeline, contexts(config, checked.source), checked.sizes, usual_device()
    )
    run.check_space(base.pipeline.sizes(config), encodings.bytes_to_come())
    return TrainPlan(config, needs, checked, place, chunk, cut, remark, base.name, left_out, apart)


def rewards_of(config: Config) -> Rewards | None:
    """Return the rewards that the settings name, checked and not loaded; None if there are none."""
    if not config.rewards:
        return None
    from soar_bench.trainer.rewards import EvaluatorRewards

    return EvaluatorRewards(config.rewards)


def _source(config: Config, rewards: Rewards | None) -> tuple[Source, str]:
    """Return the data that the settings name: captioned images, or prompts; and a note on prompts
    that are left out or teach nothing, "" if there are none.
    """
    if config.method not in ON_PROMPTS:
        return open_data(config.data, config.images, config.cache), ""
    from soar_bench.trainer.rewards import EvaluatorRewards, judgeable

    prompts = open_prompts(config.data, config.images, config.cache)
    if config.method == "d-opsd":
        return prompts, agreeing_contexts(prompts, config.d_opsd.student_words, config.data)
    if isinstance(rewards, EvaluatorRewards):
        return judgeable(prompts, rewards, config.data)
    return prompts, ""


def base_of(config: Config) -> Base:
    """Return the pipeline or checkpoint that the settings name, once it can be trained."""
    from training.encoders import check_class
    from training.encoders import check_pipeline as check_trainable
    from training.run import Base

    located = find(config.start)
    if located.kind == "pipeline":
        check_class(BasePipeline(located.path))  # before its weights are looked at
    elif located.kind != "trained":
        raise SoarBenchError(
            f"{config.start} is neither a whole pipeline nor a checkpoint of soar-bench train: "
            "training starts from these alone"
        )
    trained = located.kind == "trained"
    checkpoint = resolve(str(located.path) if trained else config.start)
    pipeline = BasePipeline(checkpoint.pipeline, checkpoint if trained else None)
    check_trainable(pipeline, config.resolution)
    return Base(checkpoint.name, pipeline, checkpoint.digest, checkpoint.story)
