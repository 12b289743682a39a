"""The training loop: one file, every method.

Everything random in step n comes from (seed, n, process), and the state is saved with the step it
belongs to, so a run that was stopped goes on exactly as if it had not been.
"""

from __future__ import annotations

import hashlib
import json
import platform
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from pydantic import BaseModel

from training.cache import Cache, Processes
from training.checkpoint import checkpoint_folder, write_checkpoint
from training.data import Source
from training.data.checking import check
from training.data.encoding import Encoded, encode_for
from training.differences import differences
from training.files import replace_atomically, write_text
from training.objectives import (
    Draws,
    LossSums,
    count_points,
    count_terms,
    draw_paths,
    draw_time,
    normaliser,
    soar_terms,
)
from training.schedule import learning_rate
from training.types import Config, Diverged, Soar, Stopped, TrainingError

STATE_FILE = "state.pt"
METRICS_FILE = "metrics.jsonl"
CONFIG_FILE = "config.json"

#: Settings that came after the first records, as dotted names. At its default each trains what was
#: trained before it existed, so it is then left out of a run's identity: old and new runs of one
#: training stay seeds of one another.
_LATER = {
    "soar.paths",
    "soar.update",
    "soar.noise_scale",
    "soar.aux_chunk",
    "accumulate",
    "gradient_checkpointing",
    "images",
}


@dataclass(frozen=True)
class Base:
    """What the run starts from."""

    #: as the user named it, kept in checkpoint.json so that ``eval`` finds it again
    name: str
    pipeline: Any
    #: digest of the pipeline's weights
    digest: str


Observer = Callable[[str, int, int, dict[str, float]], None]


def _ignore(stage: str, done: int, total: int, figures: dict[str, float]) -> None:
    pass


def _generator(*key: object) -> torch.Generator:
    """A CPU generator whose stream depends on the key alone."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def train(config: Config, base: Base, source: Source, observe: Observer = _ignore) -> Path:
    """Trains and returns the folder of the last checkpoint.

    Resumes when ``config.output`` holds a run of the same settings; refuses when it holds another.
    Raises Stopped when interrupted, Diverged when the loss is no longer finite.
    """
    accelerator = Accelerator(mixed_precision="bf16" if config.precision == "bf16" else "no")
    processes = Processes(
        accelerator.process_index, accelerator.num_processes, accelerator.wait_for_everyone
    )
    found = check(
        source,
        config.images,
        Cache(config.cache) if config.cache is not None else None,
        processes,
        lambda done, total: observe("check", done, total, {}),
    )
    source = found.source
    fingerprint = _claim(config, base, source, accelerator.num_processes)
    last = checkpoint_folder(config.output, config.steps)
    if last.exists():
        return last

    data = encode_for(
        config,
        base.pipeline,
        source,
        found.sizes,
        accelerator.device,
        processes,
        lambda stage, done, total: observe(stage, done, total, {}),
    )
    scheduler = base.pipeline.scheduler
    transformer = base.pipeline.transformer.float().requires_grad_(True).train()
    if config.gradient_checkpointing:
        transformer.enable_gradient_checkpointing()
    parameters = list(transformer.parameters())
    optimizer = torch.optim.AdamW(
        parameters,
        lr=config.optimizer.lr,
        betas=(config.optimizer.beta1, config.optimizer.beta2),
        eps=config.optimizer.epsilon,
        weight_decay=config.optimizer.weight_decay,
        # One kernel for the whole step. On the CPU it rounds in another way than the records here.
        fused=accelerator.device.type == "cuda" or None,
    )
    average = EMAModel(parameters, decay=config.ema_decay) if config.ema_decay else None
    model, optimizer = accelerator.prepare(transformer, optimizer)
    if config.compile:
        model = torch.compile(model)
    run = _Run(config, accelerator, model, transformer, optimizer, average)
    first = run.load_state()
    weight = config.soar.weight if config.method == "soar" else 0.0
    settings = config.soar.model_copy(update={"weight": weight})
    reuse = not _draws_in_training(transformer)

    started, started_at = time.monotonic(), first
    with _signals() as stop_asked:
        for step in range(first, config.steps):
            batches = _micro_batches(
                config, data, accelerator, step, scheduler.config.num_train_timesteps, model
            )
            # Of all micro-batches and processes, and known before any pass of the model. All
            # processes are asked at once whether to stop: they stop at the same step.
            counts = torch.tensor(
                [*_count(batches, settings), stop_asked()], device=accelerator.device
            )
            n_base, n_auxiliary, stop = accelerator.reduce(counts, "sum").tolist()

            rate = learning_rate(
                config.optimizer.lr,
                step,
                config.steps,
                warmup=config.optimizer.warmup_steps,
                cosine=config.optimizer.schedule == "cosine",
            )
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.zero_grad()
            sums = add_gradients(
                accelerator,
                model,
                batches,
                scheduler.config.shift,
                settings,
                (n_base, n_auxiliary),
                reuse,
            )
            norm = accelerator.clip_grad_norm_(parameters, config.optimizer.clip_norm)
            if not torch.isfinite(norm):
                raise Diverged(
                    f"the loss is no longer finite at step {step + 1}; the last good checkpoint is "
                    f"{_last_good(config, step)}; try a smaller optimizer.lr"
                )
            optimizer.step()
            if average is not None:
                average.step(parameters)

            done = step + 1
            if done % config.log_every == 0 or done == config.steps:
                loss = sums.loss(weight, n_base, n_auxiliary) * accelerator.num_processes
                figures = {
                    "loss": loss.item(),
                    "loss_base": sums.base.item() / sums.base_points,
                    "loss_auxiliary": sums.auxiliary.item() / max(sums.auxiliary_points, 1),
                    "grad_norm": float(norm),
                    "lr": rate,
                    "samples_per_second": (done - started_at)
                    * config.batch_size
                    * config.accumulate
                    * accelerator.num_processes
                    / (time.monotonic() - started),
                }
                run.log(done, figures)
                observe("train", done, config.steps, figures)
            finished = done == config.steps
            # The checkpoint first: a state says that everything up to its step is on disk.
            if done % config.save_every == 0 or finished:
                run.save_checkpoint(done, _story(config, base, source, done, fingerprint))
            if done % config.save_every == 0 or (stop and not finished):
                run.save_state(done)
            if stop and not finished:
                raise Stopped(done)
    run.delete_state()
    return last


class Batch:
    """What one process takes through the model at a time, and that model as a velocity."""

    def __init__(
        self,
        model: torch.nn.Module,
        z0: torch.Tensor,
        draws: Draws,
        conditional: Sequence[torch.Tensor],
        empty: Sequence[torch.Tensor],
        train_timesteps: int,
    ) -> None:
        """All on the model's device. ``conditional`` are the captions' token and pooled embeddings
        [B, ...], ``empty`` [...] those of no caption.
        """
        self.z0, self.draws = z0, draws
        self._model, self._conditional, self._empty = model, conditional, empty
        self._train_timesteps = train_timesteps

    def velocity(
        self, z: torch.Tensor, sigma: torch.Tensor, rows: torch.Tensor, conditional: bool
    ) -> torch.Tensor:
        """See training.objectives.Velocity. Without gradients, as in sampling, no dropout."""
        if conditional:
            embeds, pooled = (e[rows] for e in self._conditional)
        else:
            embeds, pooled = (e.expand(len(rows), *e.shape) for e in self._empty)
        with nullcontext() if torch.is_grad_enabled() else _as_sampled(self._model):
            prediction: torch.Tensor = self._model(
                hidden_states=z,
                timestep=sigma * self._train_timesteps,
                encoder_hidden_states=embeds,
                pooled_projections=pooled,
                return_dict=False,
            )[0]
        return prediction


def _micro_batches(
    config: Config,
    data: Encoded,
    accelerator: Accelerator,
    step: int,
    train_timesteps: int,
    model: torch.nn.Module,
) -> list[Batch]:
    """A process's share of a step: drawn as one batch, cut into micro-batches."""
    size, rank, device = config.batch_size, accelerator.process_index, accelerator.device
    share = size * config.accumulate
    rows = data.rows_of_step(share * accelerator.num_processes, step, config.seed)[
        rank * share : (rank + 1) * share
    ]
    # Drawn on the CPU in a fixed order, so that every device and every method sees the same.
    generator = _generator(config.seed, step, rank)
    z0 = data.latents[rows]
    z1 = torch.randn(z0.shape, generator=generator)
    t0 = draw_time(share, config.noise, generator)
    dropped = torch.rand(share, generator=generator) < config.caption_dropout
    draws = Draws(z1, t0, *draw_paths(z1, config.soar, generator))
    captions = data.captions[rows].masked_fill(dropped, data.empty_caption)
    embeds = (data.prompt_embeds, data.pooled_embeds)
    empty = [e[data.empty_caption].to(device) for e in embeds]
    return [
        Batch(
            model,
            z0[part].to(device),
            draws.samples(part).to(device),
            [e[captions[part]].to(device) for e in embeds],
            empty,
            train_timesteps,
        )
        for part in (slice(start, start + size) for start in range(0, share, size))
    ]


def add_gradients(
    accelerator: Accelerator,
    model: torch.nn.Module,
    batches: Sequence[Batch],
    shift: float,
    settings: Soar,
    counts: tuple[int, int],
    reuse: bool = True,
) -> LossSums:
    """Adds the gradient of the loss over all processes' batches, a forward pass at a time.

    ``counts`` are n_base and n_aux of all micro-batches and processes. Gradients go between
    processes once, with the last pass. Returns this process's sums, without their graphs.
    """
    # The wrapper averages gradients over processes, hence the factor.
    total, factor = normaliser(settings.weight, *counts), accelerator.num_processes
    left = sum(count_terms(len(batch.z0), settings) for batch in batches)
    zero = torch.zeros((), device=accelerator.device)
    base, auxiliary = zero, zero
    for batch in batches:
        terms = soar_terms(batch.velocity, batch.z0, batch.draws, shift, settings, reuse)
        for _ in range(count_terms(len(batch.z0), settings)):
            left -= 1
            with accelerator.no_sync(model) if left else nullcontext():
                term = next(terms)
                weight = settings.weight if term.auxiliary else 1
                accelerator.backward(weight * term.sum / total * factor)
            if term.auxiliary:
                auxiliary = auxiliary + term.sum.detach()
            else:
                base = base + term.sum.detach()
    return LossSums(base, auxiliary, *_count(batches, settings))


def _count(batches: Sequence[Batch], settings: Soar) -> tuple[int, int]:
    """n_base and n_aux of these batches."""
    points = [count_points(batch.draws.t0, settings) for batch in batches]
    return sum(base for base, _ in points), sum(auxiliary for _, auxiliary in points)


def _draws_in_training(model: torch.nn.Module) -> bool:
    """Whether a pass with gradients is another than the sampler's: whether dropout is at work."""
    kinds = (torch.nn.Dropout, torch.nn.Dropout1d, torch.nn.Dropout2d, torch.nn.Dropout3d)
    return any(isinstance(part, kinds) and part.p > 0 for part in model.modules())


@contextmanager
def _as_sampled(model: torch.nn.Module) -> Iterator[None]:
    """The model without dropout, where it has any."""
    if not (model.training and _draws_in_training(model)):
        yield
        return
    model.eval()
    try:
        yield
    finally:
        model.train()


@dataclass
class _Run:
    """The run's files."""

    config: Config
    accelerator: Accelerator
    model: torch.nn.Module
    transformer: Any
    optimizer: Any
    average: EMAModel | None

    def load_state(self) -> int:
        """Restores the saved state, if there is one; returns the number of steps done."""
        file = self.config.output / STATE_FILE
        if not file.exists():
            (self.config.output / METRICS_FILE).unlink(missing_ok=True)
            return 0
        state = torch.load(file, weights_only=True, map_location=self.accelerator.device)
        self.transformer.load_state_dict(state["transformer"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self._cut_metrics(state["step"])
        return int(state["step"])

    def save_state(self, step: int) -> None:
        if self.accelerator.is_main_process:
            state = {
                "step": step,
                "transformer": self.transformer.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "average": None if self.average is None else self.average.state_dict(),
            }
            with replace_atomically(self.config.output / STATE_FILE) as aside:
                torch.save(state, aside)

    def delete_state(self) -> None:
        if self.accelerator.is_main_process:
            (self.config.output / STATE_FILE).unlink(missing_ok=True)

    def save_checkpoint(self, step: int, story: dict[str, Any]) -> None:
        if not self.accelerator.is_main_process:
            return
        parameters = list(self.transformer.parameters())
        if self.average is not None:
            self.average.store(parameters)
            self.average.copy_to(parameters)
        write_checkpoint(checkpoint_folder(self.config.output, step), self.transformer, story)
        if self.average is not None:
            self.average.restore(parameters)

    def log(self, step: int, figures: dict[str, float]) -> None:
        if self.accelerator.is_main_process:
            with (self.config.output / METRICS_FILE).open("a", encoding="utf-8") as stream:
                stream.write(json.dumps({"step": step, **figures}) + "\n")

    def _cut_metrics(self, step: int) -> None:
        """Drops lines of steps after the saved state: they are about to be made again."""
        file = self.config.output / METRICS_FILE
        if file.exists():
            lines = file.read_text("utf-8").splitlines(keepends=True)
            kept = [
                line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step
            ]
            write_text(file, "".join(kept))


def _last_good(config: Config, step: int) -> str:
    good = step // config.save_every * config.save_every
    return str(checkpoint_folder(config.output, good)) if good else "the base itself"


def _claim(config: Config, base: Base, source: Source, processes: int) -> dict[str, Any]:
    """Marks the output folder as this run's; raises TrainingError if it is another run's."""
    elsewhere = {"output", "cache", "log_every", "save_every"}
    settings = config.model_dump(mode="json", exclude=elsewhere)
    _leave_out(settings, config, _LATER)
    settings["name"] = config.name or config.method
    settings["processes"] = processes
    if config.method == "sft":
        del settings["soar"]
    mine = {"settings": settings, "base": base.digest, "data": source.digest}
    file = config.output / CONFIG_FILE
    if file.exists():
        theirs = json.loads(file.read_text("utf-8"))
        different = [
            f"{name}: {there} there, {here} here" for name, there, here in differences(theirs, mine)
        ]
        if different:
            raise TrainingError(
                f"{config.output} holds a run with other settings ({'; '.join(different)}): "
                "name another output, or delete that folder"
            )
    else:
        write_text(file, json.dumps(mine, indent=2, sort_keys=True) + "\n")
    return mine


def _leave_out(settings: dict[str, Any], config: BaseModel, names: set[str]) -> None:
    """Removes the settings of these dotted names that are at their defaults."""
    fields = type(config).model_fields
    for name in names:
        section, _, inner = name.partition(".")
        value = getattr(config, section)
        if inner:
            _leave_out(settings[section], value, {inner})
        elif value == fields[section].get_default():
            del settings[section]


def _story(
    config: Config, base: Base, source: Source, step: int, fingerprint: dict[str, Any]
) -> dict[str, Any]:
    faults = getattr(source, "faults", ())
    dropped = {"dropped": len(faults)} if faults else {}
    return {
        "base": {"name": base.name, "digest": base.digest},
        "name": config.name or config.method,
        "method": config.method,
        "step": step,
        "seed": config.seed,
        "data": {"name": config.data, "digest": source.digest, "size": len(source)} | dropped,
        "config": fingerprint["settings"],
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("soar-bench", "torch", "diffusers", "accelerate")},
    }


@contextmanager
def _signals() -> Iterator[Callable[[], bool]]:
    """Turns the first SIGINT or SIGTERM into a question the loop asks; a second one interrupts."""
    received: list[int] = []

    def note(number: int, frame: Any) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: whoever runs us handles signals
        before = {}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
