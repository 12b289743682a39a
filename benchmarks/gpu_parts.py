"""The parts of benchmarks/gpu.py: each prints its figures so far as a line of JSON."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.gpu import LEFT_OUT, ROOT
from benchmarks.gpu_trainer import Trainer, fitting_chunk

#: moment of ``time.monotonic`` at which the part is ended by force
END = math.inf


class Figures(dict[str, Any]):
    """Figures by label, printed whenever one is added: a part that is cut off keeps the others."""

    def __init__(self) -> None:
        super().__init__()
        self._asked, self._longest = math.inf, 0.0

    def time_for(self, label: str) -> bool:
        """Return whether time is left for as much as took longest between two of these questions;
        where it is not, the figure of ``label`` says so.
        """
        now = time.monotonic()
        self._longest = max(self._longest, now - self._asked)
        self._asked = now
        if now + self._longest > END:
            self[label] = LEFT_OUT
            return False
        return True

    def __setitem__(self, label: str, value: Any) -> None:
        super().__setitem__(label, value)
        print(json.dumps(self), flush=True)


def _synchronize(device: str) -> None:
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


def _seconds(work: Callable[[], Any], device: str, times: int, warmup: int = 1) -> float:
    for _ in range(warmup):
        work()
    _synchronize(device)
    clock = time.perf_counter()
    for _ in range(times):
        work()
    _synchronize(device)
    return (time.perf_counter() - clock) / times


def _peak(work: Callable[[], Any], device: str) -> float | None:
    """Do some work; return GiB at its peak on a GPU, None elsewhere."""
    import torch

    if device != "cuda":
        work()
        return None
    torch.cuda.reset_peak_memory_stats()
    work()
    return torch.cuda.max_memory_allocated() / 2**30


def _measure(figures: Figures, trainer: Trainer, method: str, chunk: int, words: str = "") -> None:
    """Add the seconds, MFU and peak memory of a step."""
    import torch

    from benchmarks.train_step import PEAK
    from soar_bench.core.memory import out_of_memory, release
    from training.types import Soar

    label = (method if method == "sft" else f"soar, aux_chunk {chunk}") + words
    if not figures.time_for(label):
        return
    device, seconds = trainer.device, 0.0

    def step() -> None:
        trainer.step(method, chunk)

    try:
        gib, seconds = _peak(step, device), _seconds(step, device, 3)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        figures[f"{label}: fits"] = False
    if not seconds:  # outside the handler, whose error holds what did not fit
        trainer.optimizer.zero_grad()
        release()
        return
    figures[f"{label}: s/step"] = seconds
    figures[f"{label}: samples/s"] = 4 / seconds
    if gib is not None:
        figures[f"{label}: peak GiB"] = gib
    samples = 4 if method == "sft" else 4 * (1 + Soar().points)
    passes = 3 * samples + (0 if method == "sft" else 4)
    name = torch.cuda.get_device_name() if device == "cuda" else ""
    peak = next((flops for key, flops in PEAK.items() if key in name), None)
    if peak:
        figures[f"{label}: MFU"] = passes * trainer.flop / seconds / peak


def _measure_all(figures: Figures, trainer: Trainer, small: bool, words: str = "") -> None:
    """Measure steps of sft and of soar with aux_chunk 4, auto and 6, as long as there is time."""
    from soar_bench.core.errors import SoarBenchError

    _measure(figures, trainer, "sft", 0, words)
    _measure(figures, trainer, "soar", 4, words)
    try:
        auto = fitting_chunk(trainer.device, small)
    except SoarBenchError as error:  # by the estimate no step fits
        figures["aux_chunk auto failed"] = str(error)[:200]
    else:
        figures["aux_chunk auto is"] = auto
        if auto not in (4, 6):
            _measure(figures, trainer, "soar", auto, words)
    _measure(figures, trainer, "soar", 6, words)


def steps(device: str, small: bool) -> None:
    """Seconds, MFU and peak memory of a step: sft, and soar with aux_chunk 4, auto and 6."""
    _measure_all(Figures(), Trainer(device, small), small)


def compiled(device: str, small: bool) -> None:
    """The same of compiled steps, of which each first compiles what it needs."""
    from training.loop import compile_blocks

    figures, trainer = Figures(), Trainer(device, small)
    compile_blocks(trainer.model)
    _measure_all(figures, trainer, small, ", compiled")


def working_copy(device: str, small: bool) -> None:
    """The same of steps whose passes read a bfloat16 copy of the weights."""
    figures, trainer = Figures(), Trainer(device, small, working_copy=True)
    _measure(figures, trainer, "sft", 0)
    _measure(figures, trainer, "soar", 4)
    _measure(figures, trainer, "soar", 6)


def bits(device: str, small: bool) -> None:
    """Whether a gradient is the same bits twice, with and without ``deterministic``; its cost."""
    import torch

    from training.deterministic import deterministic

    figures, trainer = Figures(), Trainer(device, small)

    def gradient() -> list[Any]:
        trainer.gradients("soar", 4)
        grads = [p.grad for p in trainer.model.parameters() if p.grad is not None]
        trainer.optimizer.zero_grad()  # which leaves them to us
        return grads

    seconds = {}
    for enabled in (False, True):
        label = "deterministic" if enabled else "default"
        with deterministic(enabled):
            first, second = gradient(), gradient()
            same = sum(torch.equal(a, b) for a, b in zip(first, second, strict=True))
            figures[f"{label}: tensors with the same bits twice"] = f"{same} of {len(first)}"
            del first, second
            seconds[enabled] = _seconds(lambda: trainer.gradients("soar", 4), device, 2)
            figures[f"{label}: s/gradient"] = seconds[enabled]
    figures["deterministic takes, times"] = seconds[True] / seconds[False]


def agreement(device: str, small: bool) -> None:
    """The velocity of the embedded base here against the CPU's float32, relative, at the worst."""
    import torch

    from soar_bench.checkpoints import pipeline_folder
    from soar_bench.pipelines.loading import load_pipeline

    figures = Figures()
    model = load_pipeline(pipeline_folder("shapes")).transformer
    config, random = model.config, torch.Generator().manual_seed(0)
    inputs = {
        "hidden_states": torch.randn(8, config.in_channels, 8, 8, generator=random),
        "timestep": torch.linspace(10, 990, 8),
        "encoder_hidden_states": torch.randn(8, 20, config.joint_attention_dim, generator=random),
        "pooled_projections": torch.randn(8, config.pooled_projection_dim, generator=random),
    }

    def velocity(place: str, half: bool) -> Any:
        model.to(place)
        with torch.no_grad(), torch.autocast(place, torch.bfloat16, enabled=half):
            moved = {name: value.to(place) for name, value in inputs.items()}
            return model(**moved, return_dict=False)[0].float().cpu()

    exact = velocity("cpu", False)
    for half in (False, True):
        value = velocity(device, half)
        label = "bf16" if half else "fp32"
        figures[f"{label} against CPU fp32"] = ((value - exact).norm() / exact.norm()).item()


def resume(device: str, small: bool) -> None:
    """A stopped and resumed training against a whole one, and the embedded world's speed."""
    import os
    import signal

    import torch
    from safetensors.torch import load_file

    from soar_bench.trainer.config import load_config
    from soar_bench.trainer.run import train
    from training.types import Stopped

    figures = Figures()

    def config(output: Path, **changes: Any) -> Any:
        settings = {"base": "shapes", "data": "shapes-clean:64", "output": output, "cache": None,
                    "steps": 6, "save_every": 100, "trackers": [], "precision": "fp32",
                    "deterministic": True, **changes}  # fmt: skip
        return load_config(None, settings)

    def stop(stage: str, done: int, total: int, values: Any) -> None:
        if stage == "train" and done == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        whole = train(config(place / "whole", log_every=1), watch=False)
        with suppress(Stopped):
            train(config(place / "parts", log_every=1), watch=False, progress=stop)
        figures["was stopped"] = any((place / "parts").glob("state-*"))
        parts = train(config(place / "parts", log_every=1), watch=False)
        (a,), (b,) = whole.rglob("*.safetensors"), parts.rglob("*.safetensors")
        undisturbed, resumed = load_file(a), load_file(b)
        same = all(torch.equal(undisturbed[name], resumed[name]) for name in undisturbed)
        figures["resumed ends with the bits of undisturbed"] = same
        count = 5 if small else 100
        train(config(place / "speed", steps=count, deterministic=False), watch=False)
        lines = (place / "speed" / "metrics.jsonl").read_text().splitlines()
        figures["embedded world, samples/s"] = json.loads(lines[-1])["samples_per_second"]


def encoding(device: str, small: bool) -> None:
    """Memory and speed of VAE encoding at SD3.5's size."""
    import torch

    from benchmarks.sd35m import vae
    from soar_bench.core.memory import out_of_memory

    figures = Figures()
    with torch.device(device):
        model = vae(small).eval().requires_grad_(False)
    for dtype in (torch.float32, torch.bfloat16):
        model.to(dtype)
        for side, count in ((64, 1),) if small else ((512, 1), (512, 8), (1024, 4)):
            pixels = torch.zeros(count, 3, side, side, device=device, dtype=dtype)

            def work(pixels: Any = pixels) -> None:
                with torch.no_grad():
                    model.encode(pixels)

            label = f"{str(dtype)[6:]}, {count} of {side} px"
            try:
                if (gib := _peak(work, device)) is not None:
                    figures[f"{label}: peak GiB"] = gib
                figures[f"{label}: images/s"] = count / _seconds(work, device, 2)
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                figures[f"{label}: fits"] = False


def generation(device: str, small: bool) -> None:
    """Images per second of ``eval``'s generation and of plain diffusers, PNG files included."""
    import torch

    from benchmarks.generation import OURS, PLAIN, Setting
    from benchmarks.sd35m import sd35m

    figures = Figures()
    side, steps_, count = (64, 2, 2) if small else (512, 20, 16)
    pipeline = sd35m(device, small, torch.bfloat16).to(device)
    ways = Setting(
        pipeline, count, min(8, count), steps_, side, 4.5, 256, "bfloat16", device
    ).ways()
    pipeline("warm up", num_inference_steps=1, height=side, width=side)
    seconds: dict[str, list[float]] = {PLAIN: [], OURS: []}
    for _ in range(3):
        for label, times in seconds.items():
            with tempfile.TemporaryDirectory() as folder:
                work = partial(ways[label], Path(folder))
                times.append(_seconds(work, device, 1, 0))
        best = {label: min(values) for label, values in seconds.items()}
        for label, value in best.items():
            figures[f"{label}, images/s"] = count / value
        figures["eval against plain diffusers"] = best[PLAIN] / best[OURS]


def tests(device: str, small: bool) -> None:
    """``pytest -m gpu``: fails if a test does."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-m", "gpu", "tests/training/test_gpu.py"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    lines = [line.strip(" =") for line in done.stdout.splitlines() if line.strip()]
    Figures()["pytest -m gpu"] = (lines[-1] if lines else "it printed nothing")[:200]
    if done.returncode:
        sys.exit(f"pytest ended with exit code {done.returncode}")


def evaluators(device: str, small: bool) -> None:
    """Images per second of each evaluator at official sizes with random weights."""
    from benchmarks.evaluator_weights import SCALES, Bench, values

    figures = Figures()
    count = 4 if small else 32
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), SCALES["small" if small else "official"], device)
        bench.write()
        for name in ("pickscore", "hpsv21", "clipscore", "aesthetic", "image-reward"):
            if not figures.time_for(name):
                continue
            evaluator = bench.evaluator(name)
            load = _seconds(lambda e=evaluator: e.load(device), device, 1, 0)
            values(evaluator, bench.samples(count))  # the first batch chooses its kernels
            samples = bench.samples(count)  # other arrays: those of before would be recognised
            seconds = _seconds(lambda e=evaluator, s=samples: values(e, s), device, 1, 0)
            figures[f"{name}, images/s"] = count / seconds
            figures[f"{name}, seconds to load"] = load
