"""Benchmarks compare what they say: sides compute one loss, and one that does not fit is told."""

from __future__ import annotations

import argparse
import dataclasses
import json
import textwrap
import time
import types
from pathlib import Path

import psutil
import pytest
import torch

from benchmarks import gpu, gpu_parts, gpu_trainer, objectives_world, train_step
from benchmarks.sd35m import sd35m
from benchmarks.step_sides import SIDES, Work
from soar_bench.checkpoints.in_memory import Loaded
from soar_bench.pipelines import Pipeline
from training import memory, space
from training.encoders import caption_shapes


def options(**changes):
    defaults = {
        "sd35m": False, "tiny": False, "device": "cpu", "bf16": False, "compile": False,
        "batch_size": 4, "points": 3, "guidance": 3.0, "rollout_steps": 20, "resolution": 64,
        "chunk": 0, "chunks": [], "steps": 1, "warmup": 1, "rounds": 1, "processor_time": True,
        "worker": "ours", "sides": ["straightforward", "released"], "json": None, "together": False,
    }  # fmt: skip
    return argparse.Namespace(**{**defaults, **changes})


def test_three_implementations_compute_one_loss(monkeypatch):
    """At levels of the sampler's table and with latents' means, where the release computes what the
    paper says: elsewhere it rounds the timesteps of auxiliary points to its table.
    """
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

    from training.objectives.flow import shift_sigma

    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self: self.mode())
    draws = Work.draws

    def of_the_table(self, step, shape):
        drawn, shift = draws(self, step, shape), self.pipeline.scheduler.config.shift
        t0 = (drawn.t0 * 1000).round() / 1000 - 1e-6
        low = shift_sigma((t0 - 1 / self.settings.rollout_steps).clamp_min(0), shift)
        table = self.pipeline.scheduler.sigmas[:1000] * (1 + 2e-6)  # just above: its own entry
        places = torch.arange(1000)
        table = table[((1 - (1 - places / 1000)) * 1000).long() == places]  # 1 - (1 - x) is x
        level = low + drawn.fractions * (1 - low)
        level = table[(table - level[..., None]).abs().argmin(-1)]
        return dataclasses.replace(drawn, t0=t0, fractions=(level - low) / (1 - low))

    monkeypatch.setattr(Work, "draws", of_the_table)
    first = {name: side(train_step.prepare(options()))(0) for name, side in SIDES.items()}
    assert first["ours"] == pytest.approx(first["straightforward"], rel=1e-5)
    assert first["released"] == pytest.approx(first["straightforward"], rel=1e-4)


def test_a_side_that_does_not_fit_says_so_itself(monkeypatch, capsys):
    def too_large(work):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(train_step, "prepare", lambda options: None)
    monkeypatch.setitem(SIDES, "straightforward", too_large)
    train_step.work(options(worker="straightforward"))
    assert json.loads(capsys.readouterr().out)["fits"] is False


def test_a_side_whose_models_do_not_fit_says_so_itself(monkeypatch, capsys):
    monkeypatch.setattr(train_step, "prepare", too_much)
    train_step.work(options(worker="ours"))
    assert json.loads(capsys.readouterr().out)["fits"] is False


def test_a_step_of_the_gpus_table_that_does_not_fit_says_so(monkeypatch):
    zeroed = []
    optimizer = types.SimpleNamespace(zero_grad=lambda: zeroed.append(True))
    trainer = types.SimpleNamespace(device="cpu", optimizer=optimizer, step=lambda *given: None)
    figures = gpu_parts.Figures()
    monkeypatch.setattr(gpu_parts, "_seconds", lambda work, *given: 2.0)
    gpu_parts._measure(figures, trainer, "sft", 0)
    trainer.step = too_much
    gpu_parts._measure(figures, trainer, "soar", 4)
    fits = "soar, aux_chunk 4: fits"
    assert figures == {"sft: s/step": 2.0, "sft: samples/s": 2.0, fits: False}
    assert zeroed == [True]


def test_what_the_gpus_table_has_no_time_for_is_left_out_and_said(monkeypatch):
    """The steps take 10, 30 and 20 s; then 25 s are left, and one that may take 30 is not begun."""
    now, took = [100.0], iter([10.0, 30.0, 20.0])
    monkeypatch.setattr(gpu_parts.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(gpu_parts, "_seconds", lambda work, *given: 2.0)

    def step(*given):
        now[0] += next(took)

    trainer = types.SimpleNamespace(device="cpu", step=step)
    figures = gpu_parts.Figures()
    now[0] += 50  # as its models take, which nothing after them takes again
    monkeypatch.setattr(gpu_parts, "END", 235.0)
    monkeypatch.setattr(gpu_parts, "fitting_chunk", lambda *given: 8)
    gpu_parts._measure_all(figures, trainer, small=True)
    labels = ("sft", "soar, aux_chunk 4", "soar, aux_chunk 8")
    assert [figures[f"{label}: s/step"] for label in labels] == [2.0] * 3
    assert figures["aux_chunk auto is"] == 8
    assert figures["soar, aux_chunk 6"] == gpu.LEFT_OUT


def test_parts_of_the_gpus_table_are_left_out_in_their_order(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["gpu.py", "--device", "cpu", "--output", str(tmp_path)])
    now, ran = [0.0], []
    monkeypatch.setattr(gpu.time, "monotonic", lambda: now[0])

    def run(name, options, seconds):
        ran.append((name, seconds))
        now[0] += 200
        return {"seconds": 200}

    monkeypatch.setattr(gpu, "run", run)
    assert gpu.main() == 1
    assert ran == [("steps", 470), ("bits", 270), ("agreement", 70)]
    parts = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    assert [*parts] == [*gpu.PARTS]
    assert parts["resume"] == parts["working_copy"] == {"all": gpu.LEFT_OUT}
    assert f"| compiled | all | {gpu.LEFT_OUT} |" in (tmp_path / "gpu.md").read_text()


def too_much(*given):
    raise torch.OutOfMemoryError("CUDA out of memory")


def test_the_gpus_table_chooses_points_for_the_tokens_that_it_measures(monkeypatch):
    """With fewer tokens it would choose a pass that does not fit: all points on an H200."""
    asked = []

    def measure(pipeline, config):
        asked.append(caption_shapes(pipeline, config.max_sequence_length)[0][0])
        return memory.Memory(space.Sizes(1, 1, 0), 0, 0, 1)

    monkeypatch.setattr("soar_bench.trainer.memory.measure", measure)
    gpu_trainer.fitting_chunk("cpu", small=True)
    assert asked == [gpu_trainer.TOKENS]


def test_the_other_sides_are_reported_beside_one_that_does_not_fit(monkeypatch, capsys, tmp_path):
    fits = {"fits": True, "loss": 1.0, "norm": 1.0, "seconds": 2.0, "peak": 3 << 30,
            "before": 1 << 30, "flops": 1e12}  # fmt: skip

    def measure(side, chunk, arguments):
        return {"fits": False} if side == "straightforward" else dict(fits)

    monkeypatch.setattr(train_step, "measure", measure)
    train_step.report(options(json=tmp_path / "rows.json"), [])
    printed = capsys.readouterr().out
    assert "straightforward      does not fit into the memory of this device" in printed
    assert "ours, aux_chunk 0 against released: 1.00 x as fast" in printed
    assert json.loads((tmp_path / "rows.json").read_text())["straightforward"] == {"fits": False}


def test_together_the_sides_take_a_step_each_in_turn(monkeypatch, capsys):
    steps, now = [], [0.0]

    def side(work):
        def step(number):
            steps.append((work.worker, work.chunk, number))
            now[0] += {"released": 5.0, "ours": 2.0}[work.worker]

        return step

    monkeypatch.setattr(train_step, "prepare", lambda options: options)
    monkeypatch.setattr(train_step.time, "process_time", lambda: now[0])
    monkeypatch.setitem(SIDES, "released", side)
    monkeypatch.setitem(SIDES, "ours", side)
    train_step.together(options(sides=["released"], chunks=[0, 8], steps=2))
    turn = [("released", 0), ("ours", 0), ("ours", 8)]
    assert steps == [(*which, number) for number in range(3) for which in turn]
    printed = json.loads(capsys.readouterr().out)
    assert printed == {"released": 5.0, "ours, aux_chunk 0": 2.0, "ours, aux_chunk 8": 2.0}


def test_a_process_that_the_system_killed_did_not_fit(monkeypatch, tmp_path):
    killed = tmp_path / "killed.py"
    killed.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    monkeypatch.setattr(train_step, "__file__", str(killed))
    assert train_step.measure("ours", 0, []) == {"fits": False}


def test_the_stand_in_for_sd35_medium_has_its_tokens():
    loaded = Loaded(sd35m("cpu", tiny=True))  # its folder lives as long
    assert caption_shapes(Pipeline(loaded.folder), 256)[0][0] == 77 + 256


def _ends(number):
    """Whether the process ends within seconds; one that nobody has waited for has ended."""
    for _ in range(50):
        try:
            if psutil.Process(number).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.1)
    return False


def test_a_part_of_the_gpus_table_that_fails_keeps_its_figures(monkeypatch, tmp_path):
    part = tmp_path / "part.py"
    lines = """
        import subprocess, sys, tempfile, time
        child = subprocess.Popen(["sleep", "60"])
        left = tempfile.mkdtemp()
        print('{"s/step": 0.5, "child": %d, "left": "%s"}' % (child.pid, left), flush=True)
        print('{"s/step": 0.5, "MFU', end="", flush=True)
        time.sleep(60) if "late" in sys.argv else sys.exit("out of luck")
    """
    part.write_text(textwrap.dedent(lines))
    monkeypatch.setattr(gpu, "__file__", str(part))
    options = argparse.Namespace(device="cuda", small=False)
    failed, late = gpu.run("steps", options, 60), gpu.run("late", options, 3)
    assert failed["s/step"] == late["s/step"] == 0.5
    assert (failed["failed"], late["failed"]) == ("out of luck", "took more than 3 s")
    assert all(_ends(figures["child"]) for figures in (failed, late))
    assert not any(Path(figures["left"]).exists() for figures in (failed, late))


def test_the_comparison_of_objectives_is_of_valid_settings_and_equal_compute():
    from pathlib import Path

    from soar_bench.trainer.config import load_config

    whole = objectives_world.Comparison((0, 1), steps=200, equal=("steps", "units"))
    runs = list(whole.trainings())
    assert len({run.folder for run in runs}) == len(runs) == 40
    root = Path(objectives_world.__file__).parents[1]
    for run in runs:
        if run.seed:
            continue
        _, method, *options = run.command()
        config = root / options[1] if options[0] == "--config" else None
        made = load_config(config, {"method": method}, options[1 + 2 * (config is not None) :: 2])
        assert (made.output, made.seed, made.steps) == (run.folder, 0, run.steps)
        assert made.start == (str(run.after.folder) if run.after else "shapes")
        rollout = made.method in ("nft", "flow-grpo")
        assert made.rewards == ({run.reward: 1.0} if rollout else {})
        units, images = objectives_world.COST[method]
        assert images == made.batch_size
        if method == "nft":
            assert units == made.nft.steps + 5 * made.nft.trained_levels
        if method == "flow-grpo":
            assert units == made.flow_grpo.steps + 1 + 3 * made.flow_grpo.window
        if run.equal == "units":
            assert run.units == pytest.approx(200 * 23 * 32, rel=0.01)


def test_runs_of_equal_seconds_have_the_pace_of_the_first_seeds(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    comparison = objectives_world.Comparison((5, 6), equal=("seconds",), methods=("sft", "nft"))
    runs = list(comparison.trainings())
    assert [run.equal for run in runs] == ["steps"] * 8 + ["seconds"] * 4 + ["steps"] * 2
    equal_steps, in_seconds = runs[:8], runs[8:12]
    by_units = round(24 * 23 * 32 / (3 * 16))
    assert [run.steps for run in in_seconds] == [by_units] * 4  # before the others ran
    for run in equal_steps:
        (run.folder / "checkpoint-000024").mkdir(parents=True)
        (run.folder / "checkpoint-000024" / "checkpoint.json").write_text("{}")
        pace = {"sft": 8, "nft": 4}[run.method] + run.seed - 5  # of 16 and 32 samples a step
        lines = ({"step": step, "samples_per_second": pace * step / 24} for step in (20, 24))
        (run.folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    assert [run.steps for run in in_seconds] == [24 * 4] * 4  # 8 s a step of NFT, 2 s of SFT
