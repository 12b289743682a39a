"""The training loop: one file, every method, one process or many.

Everything random in step n comes from (seed, n), and the state is saved with the step it belongs
to, so a run that was stopped goes on exactly as if it had not been.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import torch
from diffusers.training_utils import EMAModel
from torch import Tensor

from soar_bench.core.files import locked_folder
from training.adapters import add_adapter
from training.cache import Cache
from training.callbacks import Callback, Progress, silent
from training.checkpoint import CHECKPOINT_FILE, checkpoint_folder, latest_checkpoint
from training.checks import check_here
from training.data import Source
from training.data.checking import check
from training.data.encoding import plan_for
from training.deterministic import deterministic
from training.draws import key
from training.encoders import CORE
from training.gradients import add_gradients, settle
from training.memory import choose, with_chunk
from training.objectives.make import Parts, contexts, make_objective
from training.objectives.objective import Objective
from training.optimizers import make_optimizer, set_learning_rate
from training.parallel import Parallel
from training.rewards import Rewards
from training.rollouts import RolloutStopped
from training.run import Base, Run
from training.schedule import learning_rate
from training.state import Trained, delete_states, load_samples, load_state, save_state
from training.trackers import Trackers
from training.types import Config, Diverged, Stopped, TrainingError

_GIB = 2**30
#: kinds and sizes of passes that are compiled at most, where each is compiled by itself
_EACH_SIZE = 4096


def train(
    config: Config,
    base: Base,
    source: Source,
    progress: Progress = silent,
    callbacks: Sequence[Callback] = (),
    note: Callable[[str], None] = lambda sentence: None,
    remarks: Callable[[Source], Mapping[str, Any]] = lambda source: {},
    rewards: Rewards | None = None,
) -> Path:
    """Train and return the folder of the last checkpoint.

    ``source`` are :class:`Prompts`, and ``rewards`` given, where ``config.method`` makes its own
    images.

    Resumes when ``config.output`` holds a run of the same settings; refuses when it holds another.
    While another process trains there it waits, and ``note`` is told. ``remarks`` are what the
    story of a checkpoint says besides, of the data that is trained on.
    Raises Stopped when interrupted, Diverged when the loss is no longer a number or above
    ``config.loss_limit``.
    """
    check_here(config, rewards)
    parallel = Parallel(config.precision, config.working_copy)
    checked = check(
        source,
        config.images,
        Cache(config.cache) if config.cache is not None else None,
        parallel.processes,
        lambda done, total: progress("check", done, total, {}),
    )
    identity = rewards.identity if rewards else {}
    told = remarks(checked.source) if parallel.main else {}
    run = Run(config, base, checked.source, parallel.count, told, rewards=identity)
    run.check()
    chunk = _chunk(run, parallel)
    parallel.wait()
    with ExitStack() as stack:
        if parallel.main:
            waiting = partial(note, f"waiting for another training in {run.output}")
            stack.enter_context(locked_folder(run.output, waiting))
            run.claim(chunk)
        parallel.wait()
        chunk = run.chunk(chunk)
        signals = _Signals()
        reports = _Reports(run, callbacks, parallel, signals, stack)
        if (run.last / CHECKPOINT_FILE).exists():
            if parallel.main:
                delete_states(run.output)  # killed at the very end, it would have left one
            stack.enter_context(signals.heard())
            reports.at(config.steps)
            return run.last
        captioned = contexts(config, run.source)
        plan = plan_for(config, base.pipeline, captioned, checked.sizes, parallel.device)
        if parallel.main:
            run.check_space(base.pipeline.sizes(config), plan.bytes_to_come())
        parallel.wait()
        data = plan.make(
            parallel.processes, lambda stage, done, total: progress(stage, done, total, {})
        )
        plan.encoders.release()
        core = base.pipeline.load(CORE)
        scheduler = core.scheduler
        transformer = _to_be_trained(core.transformer, config)
        trainable = [p for p in transformer.parameters() if p.requires_grad]
        optimizer = make_optimizer(trainable, config.optimizer, parallel.device)
        model, optimizer = parallel.prepare(transformer, optimizer, config.optimizer.clip_norm)
        trained = Trained(transformer, optimizer)
        parameters = list(trained.held().values())
        if config.ema_decay:
            trained.average = EMAModel(parameters, decay=config.ema_decay)
        chosen = with_chunk(config, chunk)
        objective = make_objective(
            Parts(chosen, base, run.source, data, parallel, scheduler, model, trained, rewards),
            stopping=lambda: parallel.sum(signals.received)[0] > 0,
            note=note if parallel.main else lambda sentence: None,
        )
        first = load_state(run.output, trained, parallel, run.digest, note)
        if objective.has_state(first):
            objective.load(load_samples(run.output, first, parallel, run.digest))
        if parallel.main:
            run.cut_log(first)
        stack.enter_context(signals.heard())
        reports.at(first)

        clock = _Clock(config, parallel, first)
        for step in range(first, config.steps):
            with deterministic(config.deterministic):
                # The model's own random numbers, as dropout's, are others on each process.
                torch.manual_seed(key(config.seed, step, parallel.rank, "model"))
                parallel.refresh()
                try:
                    batches = objective.batches(step)
                except RolloutStopped:  # nothing has changed since the last step
                    if step > first:
                        save_state(run.output, step, trained, parallel, run.digest)
                    raise Stopped(step) from None
                if step == first:
                    settle(parallel, model, objective, batches)
                # Of all micro-batches and processes, and known before any pass of the model. All
                # processes are asked at once whether to stop: they stop at the same step.
                *counts, stopping = parallel.sum(*objective.counts(batches), signals.received)
                rate = learning_rate(
                    config.optimizer.lr,
                    step,
                    config.steps,
                    warmup=config.optimizer.warmup_steps,
                    cosine=config.optimizer.schedule == "cosine",
                )
                set_learning_rate(optimizer, rate)
                optimizer.zero_grad()
                sums = add_gradients(parallel, model, objective, batches, counts)
                norm = parallel.clip(parameters, config.optimizer.clip_norm)
                if not math.isfinite(norm):
                    raise _diverged(run, step, "no longer finite")
                optimizer.step()
                if trained.average is not None:
                    trained.average.step(parameters)

            done = step + 1
            objective.stepped(done)
            finished = done == config.steps
            save = done % config.save_every == 0 or finished
            if done % config.log_every == 0 or save:
                losses = _losses(objective, sums, counts, parallel)
                watched = losses.get("loss_base", losses["loss"])
                if watched > config.loss_limit:
                    words = f"{watched:.4g}, above loss_limit ({config.loss_limit:g}),"
                    raise _diverged(run, step, words)
                if done % config.log_every == 0 or finished:
                    figures = {**losses, "grad_norm": norm, "lr": rate, **clock.figures(done)}
                    reports.log(done, figures)
                    progress("train", done, config.steps, figures)
            # The checkpoint first: a resume state promises that all up to its step is on disk.
            if save:
                _save_checkpoint(run, done, trained, parallel)
            if (save or stopping) and not finished:
                save_state(run.output, done, trained, parallel, run.digest, objective.state(done))
                if stopping:
                    raise Stopped(done)
            if finished and parallel.main:
                delete_states(run.output)
            if save:
                with clock.stopped():
                    reports.at(done)
    return run.last


def _chunk(run: Run, parallel: Parallel) -> int:
    """Auxiliary points per pass; 0: all. TrainingError if a step does not fit the GPUs."""
    place = parallel.place()
    if place.memory is None:
        return run.config.soar.chunk
    return choose(run.as_begun(), run.base.pipeline.measure, place, run.begun)[0]


def _to_be_trained(transformer: Any, config: Config) -> Any:
    """The transformer, in float32 where it is trained, with its adapter if there is to be one."""
    if config.lora.rank:
        # The frozen weights are only ever read: in the precision of the passes.
        transformer.to(torch.bfloat16 if config.precision == "bf16" else torch.float32)
        add_adapter(transformer, config.lora, key(config.seed, "adapter"))
    else:
        transformer.float().requires_grad_(True)
    transformer.train()
    if config.gradient_checkpointing:
        transformer.enable_gradient_checkpointing()
    if config.compile:
        compile_blocks(transformer, config.deterministic)
    return transformer


def compile_blocks(transformer: Any, deterministic: bool = False) -> None:
    """Compile the blocks one by one: they share their code, which is then compiled once per kind of
    block and of pass, and however the weights are divided.

    Code that meets another size of pass is compiled once more, for all sizes from then on. If
    ``deterministic`` it is compiled for each size alone, and no kernel is chosen by its time: the
    code of a pass then does not depend on those that came before.
    """
    torch._dynamo.config.recompile_limit = 64
    kind: dict[str, Any] = {}
    if deterministic:
        torch._dynamo.config.recompile_limit = _EACH_SIZE
        torch._dynamo.config.accumulated_recompile_limit = _EACH_SIZE
        kind = {"dynamic": False}
        if "deterministic" in torch._inductor.list_options():  # an older torch has none
            kind["options"] = {"deterministic": True}
    for block in transformer.transformer_blocks:
        block.compile(**kind)


def _losses(
    objective: Objective, sums: Mapping[str, Tensor], counts: Sequence[float], parallel: Parallel
) -> dict[str, float]:
    """The loss and its parts, of all processes."""
    totals = parallel.sum(*(value.item() for value in sums.values()))
    return objective.figures(dict(zip(sums, totals, strict=True)), counts)


def _save_checkpoint(run: Run, step: int, trained: Trained, parallel: Parallel) -> None:
    tensors = trained.weights(parallel, trained_only=bool(run.config.lora.rank))
    if parallel.main:
        run.save(step, trained.transformer, tensors)
    parallel.wait()


def _diverged(run: Run, step: int, words: str) -> Diverged:
    good = latest_checkpoint(run.output) or "the base itself"
    return Diverged(
        f"the loss is {words} at step {step + 1}; the last good checkpoint is {good}; try a "
        "smaller optimizer.lr"
    )


class _Clock:
    """Speed and memory of the training."""

    def __init__(self, config: Config, parallel: Parallel, first: int) -> None:
        self._samples = config.batch_size * config.accumulate * parallel.count
        self._device, self._first, self._start = parallel.device, first, time.monotonic()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Time spent inside does not count as training."""
        before = time.monotonic()
        yield
        self._start += time.monotonic() - before

    def figures(self, done: int) -> dict[str, float]:
        """Samples per second since the start, and this process's memory (a GPU's at its peak)."""
        if self._device.type == "cuda":
            memory = torch.cuda.max_memory_allocated(self._device)
        else:
            memory = psutil.Process().memory_info().rss
        seconds = time.monotonic() - self._start
        return {
            "samples_per_second": (done - self._first) * self._samples / seconds,
            "memory_gib": memory / _GIB,
        }


class _Reports:
    """Everything reported besides weights: figures, and what callbacks make of checkpoints."""

    def __init__(
        self,
        run: Run,
        callbacks: Sequence[Callback],
        parallel: Parallel,
        signals: _Signals,
        stack: ExitStack,
    ) -> None:
        self._run, self._callbacks, self._parallel = run, callbacks, parallel
        self._signals, self._stack = signals, stack
        self._trackers: Trackers | None = None
        better = {
            name: (higher, callback.subject)
            for callback in callbacks
            for name, higher in callback.higher_is_better.items()
        }
        metric = run.config.keep_best
        if metric and metric not in better:
            raise TrainingError(
                f"keep_best: no metric {metric!r} is evaluated; there are "
                f"{', '.join(sorted(better)) or 'none'}"
            )
        self._best = better.get(metric, (True, ""))

    def at(self, step: int) -> None:
        """Call the callbacks that are due at that step (the base at 0) and were not called yet."""
        run, steps = self._run, self._run.config.steps
        seen = {(line["watcher"], line["subject"], line["step"]) for line in run.evaluations()}
        due = [
            callback
            for callback in self._callbacks
            if (step % callback.every == 0 or step == steps)
            and (callback.name, callback.subject, step) not in seen
        ]
        self._parallel.wait()
        checkpoint = str(checkpoint_folder(run.output, step)) if step else run.base.name
        for callback in due:
            with self._signals.at_once(step):
                observation = callback.on_checkpoint(checkpoint, step)
            if self._parallel.main:
                figures = {f"{callback.name}/{name}": v for name, v in observation.figures.items()}
                self._tracked(step).figures(step, figures)
                self._tracked(step).images(step, observation.images)
                run.add_evaluation(step, callback.name, callback.subject, observation.figures)
        if self._parallel.main:
            run.prune(*self._best)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        if self._parallel.main:
            self._run.log(step, figures)
            tracked = {f"train/{name}": value for name, value in figures.items()}
            self._tracked(step - 1).figures(step, tracked)

    def _tracked(self, first: int) -> Trackers:
        """The trackers, opened with the first figures: what they know of later steps than ``first``
        is about to be told again.
        """
        if self._trackers is None:
            trackers = Trackers(self._run.config, first, self._run.identity)
            self._trackers = self._stack.enter_context(trackers)
        return self._trackers


class _Signals:
    """SIGINT and SIGTERM: the first waits until the step is done, a second interrupts at once."""

    def __init__(self) -> None:
        self.received = False
        self._step: int | None = None

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Handle signals here until the end."""
        before = {}
        with suppress(ValueError):  # not the main thread: whoever runs us handles signals
            for number in (signal.SIGINT, signal.SIGTERM):
                before[number] = signal.signal(number, self._note)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def at_once(self, step: int) -> Iterator[None]:
        """Raise Stopped at once inside, where nothing would be lost."""
        self._step = step
        try:
            if self.received:
                raise Stopped(step)
            yield
        finally:
            self._step = None

    def _note(self, number: int, frame: Any) -> None:
        if self.received:
            raise KeyboardInterrupt
        self.received = True
        if self._step is not None:
            raise Stopped(self._step)
