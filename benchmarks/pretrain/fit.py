"""One small training loop for the parts of the embedded base that are not the transformer.

(The transformer itself is trained by ``training.loop``, the loop that everyone uses.) Everything
random in step n comes from (seed, n), so a run that was stopped continues as if it had not been.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict

from soar_bench.core.errors import SoarBenchError
from soar_bench.core.files import replace_atomically, write_text
from training.schedule import learning_rate


class FitConfig(BaseModel):
    """AdamW with a linear warm-up and a cosine decay to zero, and an average of the weights."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int
    batch_size: int
    lr: float
    warmup: int = 100
    weight_decay: float = 0.0
    clip: float = 1.0
    #: decay of the exponential moving average of the weights, which is what is kept
    ema: float = 0.999
    seed: int = 0
    log_every: int = 50
    save_every: int = 500


LossOfStep = Callable[[Any, int], tuple[torch.Tensor, dict[str, float]]]
Report = Callable[[int, int, dict[str, float]], None]


def _step(line: str) -> int:
    return int(json.loads(line)["step"])


def silent(done: int, total: int, figures: dict[str, float]) -> None:
    pass


def fit(
    module: torch.nn.Module,
    loss_of_step: LossOfStep,
    config: FitConfig,
    folder: Path,
    report: Report = silent,
) -> None:
    """Trains ``module`` in place and leaves the averaged weights in it.

    ``loss_of_step(module, step)`` returns the loss of that step's batch and figures to log. The
    state is kept in ``folder/state.pt`` and the log in ``folder/log.jsonl``; a second call with the
    same folder goes on where the first one stopped.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state_file, log_file = folder / "state.pt", folder / "log.jsonl"
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=config.lr, betas=(0.9, 0.99), weight_decay=config.weight_decay
    )
    average = {k: v.detach().clone() for k, v in module.state_dict().items()}
    first, spent = 0, 0.0
    if not state_file.exists():
        log_file.unlink(missing_ok=True)
    if state_file.exists():
        state = torch.load(state_file, weights_only=True, map_location="cpu")
        if state["config"] != config.model_dump():
            raise SoarBenchError(
                f"{folder} holds a run with other settings: name another output, or delete it"
            )
        module.load_state_dict(state["module"])
        optimizer.load_state_dict(state["optimizer"])
        average, first, spent = state["average"], state["step"], state["seconds"]
        lines = log_file.read_text("utf-8").split("\n")[:-1]
        write_text(log_file, "".join(f"{line}\n" for line in lines if _step(line) <= first))
    module.train()
    started = time.monotonic() - spent
    for step in range(first, config.steps):
        rate = learning_rate(config.lr, step, config.steps, warmup=config.warmup, cosine=True)
        for group in optimizer.param_groups:
            group["lr"] = rate
        torch.manual_seed(config.seed * 1_000_003 + step)
        loss, figures = loss_of_step(module, step)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        norm = torch.nn.utils.clip_grad_norm_(parameters, config.clip)
        optimizer.step()
        decay = min(config.ema, (step + 1) / (step + 10))
        with torch.no_grad():
            for key, value in module.state_dict().items():
                if value.is_floating_point():
                    average[key].lerp_(value, 1 - decay)
                else:
                    average[key].copy_(value)
        done = step + 1
        if done % config.log_every == 0 or done == config.steps:
            row = {
                "step": done,
                "loss": loss.item(),
                **figures,
                "grad_norm": float(norm),
                "lr": rate,
                "seconds": round(time.monotonic() - started, 1),
            }
            with log_file.open("a") as stream:
                stream.write(json.dumps(row) + "\n")
            report(done, config.steps, {k: row[k] for k in ("loss", *figures)})
        if done % config.save_every == 0 or done == config.steps:
            with replace_atomically(state_file) as aside:
                torch.save(
                    {
                        "config": config.model_dump(),
                        "module": module.state_dict(),
                        "optimizer": optimizer.state_dict(),
                        "average": average,
                        "step": done,
                        "seconds": time.monotonic() - started,
                    },
                    aside,
                )
    module.load_state_dict(average)
    module.eval()
