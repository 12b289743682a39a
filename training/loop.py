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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel

from training.checkpoint import checkpoint_folder, write_checkpoint
from training.data import Encoded, Source, encode, rows_of_step
from training.differences import differences
from training.files import replace_atomically, write_text
from training.objectives import draw_time, soar_loss
from training.pipeline import check_resolution
from training.schedule import learning_rate
from training.types import Config, Diverged, Stopped, TrainingError

STATE_FILE = "state.pt"
METRICS_FILE = "metrics.jsonl"
CONFIG_FILE = "config.json"


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
    fingerprint = _claim(config, base, source, accelerator.num_processes)
    last = checkpoint_folder(config.output, config.steps)
    if last.exists():
        return last

    check_resolution(base.pipeline, config.resolution)
    data = encode(
        source,
        base.pipeline.to(accelerator.device),
        config.resolution,
        config.max_sequence_length,
        progress=lambda done, total: observe("encode", done, total, {}),
    )
    base.pipeline.to("cpu")  # the encoders have done their part; the transformer is moved below
    scheduler = base.pipeline.scheduler
    transformer = base.pipeline.transformer.float().requires_grad_(True).train()
    parameters = list(transformer.parameters())
    optimizer = torch.optim.AdamW(
        parameters,
        lr=config.optimizer.lr,
        betas=(config.optimizer.beta1, config.optimizer.beta2),
        eps=config.optimizer.epsilon,
        weight_decay=config.optimizer.weight_decay,
    )
    average = EMAModel(parameters, decay=config.ema_decay) if config.ema_decay else None
    model, optimizer = accelerator.prepare(transformer, optimizer)
    if config.compile:
        model = torch.compile(model)
    run = _Run(config, accelerator, model, transformer, optimizer, average)
    first = run.load_state()
    weight = config.soar.weight if config.method == "soar" else 0.0
    settings = config.soar.model_copy(update={"weight": weight})

    started, started_at = time.monotonic(), first
    with _signals() as stop_asked:
        for step in range(first, config.steps):
            batch = _Batch(
                config, data, accelerator, step, scheduler.config.num_train_timesteps, model
            )
            sums = soar_loss(
                batch.velocity,
                batch.z0,
                batch.z1,
                batch.t0,
                scheduler.config.shift,
                settings,
                batch.generator,
            )
            # The mean over all points of all processes; the wrapper averages gradients over
            # processes, hence the factor.
            counts = torch.tensor(
                [sums.base_points, sums.auxiliary_points, stop_asked()], device=accelerator.device
            )
            # Asked of all processes at once: they stop at the same step.
            n_base, n_auxiliary, stop = accelerator.reduce(counts, "sum").tolist()
            loss = sums.loss(weight, n_base, n_auxiliary) * accelerator.num_processes

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
            accelerator.backward(loss)
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
                figures = {
                    "loss": loss.item(),
                    "loss_base": sums.base.item() / sums.base_points,
                    "loss_auxiliary": sums.auxiliary.item() / max(sums.auxiliary_points, 1),
                    "grad_norm": float(norm),
                    "lr": rate,
                    "samples_per_second": (done - started_at)
                    * config.batch_size
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


class _Batch:
    """What one process trains on in one step, and its model as a velocity."""

    def __init__(
        self,
        config: Config,
        data: Encoded,
        accelerator: Accelerator,
        step: int,
        train_timesteps: int,
        model: torch.nn.Module,
    ) -> None:
        size, rank, device = config.batch_size, accelerator.process_index, accelerator.device
        rows = rows_of_step(len(data.latents), size * accelerator.num_processes, step, config.seed)[
            rank * size : (rank + 1) * size
        ]
        # Drawn on the CPU in a fixed order, so that every device and every method sees the same.
        self.generator = _generator(config.seed, step, rank)
        z0 = data.latents[rows]
        self.z1 = torch.randn(z0.shape, generator=self.generator).to(device)
        self.t0 = draw_time(size, config.noise, self.generator).to(device)
        dropped = torch.rand(size, generator=self.generator) < config.caption_dropout
        captions = data.captions[rows].masked_fill(dropped, data.empty_caption)
        self.z0 = z0.to(device)
        self._conditional = [
            e[captions].to(device) for e in (data.prompt_embeds, data.pooled_embeds)
        ]
        self._empty = [
            e[data.empty_caption].to(device) for e in (data.prompt_embeds, data.pooled_embeds)
        ]
        self._train_timesteps = train_timesteps
        self._model = model

    def velocity(
        self, z: torch.Tensor, sigma: torch.Tensor, rows: torch.Tensor, conditional: bool
    ) -> torch.Tensor:
        if conditional:
            embeds, pooled = (e[rows] for e in self._conditional)
        else:
            embeds, pooled = (e.expand(len(rows), *e.shape) for e in self._empty)
        return self._model(
            hidden_states=z,
            timestep=sigma * self._train_timesteps,
            encoder_hidden_states=embeds,
            pooled_projections=pooled,
            return_dict=False,
        )[0]


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
    settings = config.model_dump(mode="json", exclude={"output", "log_every", "save_every"})
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


def _story(
    config: Config, base: Base, source: Source, step: int, fingerprint: dict[str, Any]
) -> dict[str, Any]:
    return {
        "base": {"name": base.name, "digest": base.digest},
        "name": config.name or config.method,
        "method": config.method,
        "step": step,
        "seed": config.seed,
        "data": {"name": config.data, "digest": source.digest, "size": len(source)},
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
