"""``soar-bench eval`` as a user types it: forms of checkpoints, sweeps, plans, JSON, signals."""

from __future__ import annotations

import json
import shutil
import signal

import numpy as np
import pandas as pd
import pytest
import torch
from forks import serve
from safetensors.torch import load_file, save_file

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("eval")


@pytest.fixture(scope="module")
def server(place):
    with serve(place) as server:
        yield server


@pytest.fixture(scope="module")
def forms(place, tiny_pipeline):
    """One change of the tiny pipeline's transformer in every form, and a LoRA with its own."""
    checkpoints = {"base": tiny_pipeline}
    weights = load_file(tiny_pipeline / "transformer" / WEIGHTS)
    config = tiny_pipeline / "transformer" / "config.json"
    changed = {n: value * 1.25 if "proj_out" in n else value for n, value in weights.items()}

    checkpoints["full"] = place / "full"
    (checkpoints["full"] / "transformer").mkdir(parents=True)
    save_file(changed, checkpoints["full"] / "transformer" / WEIGHTS)
    shutil.copy(config, checkpoints["full"] / "transformer")

    checkpoints["file"] = place / "tuned model.safetensors"
    save_file(changed, checkpoints["file"])

    checkpoints["pipeline"] = place / "tuned-pipeline"
    shutil.copytree(tiny_pipeline, checkpoints["pipeline"])
    save_file(changed, checkpoints["pipeline"] / "transformer" / WEIGHTS)

    generator = torch.Generator().manual_seed(5)
    target = "proj_out"
    rank, (out, into) = 3, weights[f"{target}.weight"].shape
    a = 0.1 * torch.randn(rank, into, generator=generator)
    b = torch.randn(out, rank, generator=generator)
    checkpoints["lora"] = place / "adapter"
    checkpoints["lora"].mkdir()
    name = f"base_model.model.{target}"
    save_file(
        {f"{name}.lora_A.weight": a, f"{name}.lora_B.weight": b},
        checkpoints["lora"] / "adapter_model.safetensors",
    )
    settings = {"peft_type": "LORA", "r": rank, "lora_alpha": 6, "target_modules": [target]}
    (checkpoints["lora"] / "adapter_config.json").write_text(json.dumps(settings))

    checkpoints["merged"] = place / "merged"
    checkpoints["merged"].mkdir()
    whole = dict(weights)
    whole[f"{target}.weight"] = weights[f"{target}.weight"] + 6 / rank * (b @ a)
    save_file(whole, checkpoints["merged"] / WEIGHTS)
    shutil.copy(config, checkpoints["merged"])
    return checkpoints


@pytest.fixture(scope="module")
def suite(place, small_suite):
    file = place / "mine, with a comma.jsonl"
    lines = [{"id": p.id, "prompt": p.text, **p.metadata} for p in small_suite.prompts]
    file.write_text("\n".join(json.dumps(line) for line in lines))
    return file


@pytest.fixture(scope="module")
def options(place, suite):
    return (
        "--suite", suite, "--protocol", "shapes+steps=3", "--images", 1, "--evaluators",
        "shapes-geneval", "--device", "cpu", "--results", place / "results",
        "--cache", place / "cache",
    )  # fmt: skip


def printed_json(server):
    text = server.printed
    return json.loads(text[text.index("[\n") : text.rindex("]") + 1])


def pixels(place, record):
    """The images of a run by prompt, from the cache."""
    from soar_bench.cache.images import ImageStore
    from soar_bench.suites.types import PlannedSample, Prompt

    store = ImageStore.of(
        place / "cache", record["checkpoint"]["digest"], record["protocol"]["settings"],
        record["suite"]["seed"],
    )  # fmt: skip
    scores = pd.read_parquet(f"{record['folder']}/scores.parquet")
    samples = [
        PlannedSample(Prompt(row.prompt_id, row.prompt), row.index_)
        for row in scores.rename(columns={"index": "index_"}).itertuples()
    ]
    return np.stack([store.read(sample) for sample in samples]).astype(int)


def test_every_form_of_checkpoint_is_evaluated(place, server, forms, options):
    order = ("base", "full", "file", "pipeline", "lora", "merged")
    names = [forms[name] for name in order]
    code = server.run("eval", *names, "--base", forms["base"], *options, "--json")
    assert code == 0, server.printed
    records = dict(zip(order, printed_json(server), strict=True))
    recorded = {name: record["checkpoint"]["form"] for name, record in records.items()}
    assert recorded == {
        "base": "pipeline", "full": "transformer", "file": "transformer", "pipeline": "pipeline",
        "lora": "lora", "merged": "transformer",
    }  # fmt: skip
    for name in ("full", "file", "lora", "merged"):
        assert records[name]["checkpoint"]["base"] == {
            "name": str(forms["base"]),
            "digest": records["base"]["checkpoint"]["digest"],
        }
    assert records["full"]["checkpoint"]["digest"] == records["file"]["checkpoint"]["digest"]
    made = {name: pixels(place, record) for name, record in records.items()}
    assert np.array_equal(made["full"], made["pipeline"])
    assert np.abs(made["lora"] - made["merged"]).max() <= 1, "W + alpha / r * B A"
    for name in ("full", "lora"):
        assert np.abs(made[name] - made["base"]).max() > 3, f"{name} must change the images"
    noise = {
        tuple(pd.read_parquet(f"{r['folder']}/scores.parquet")["noise"]) for r in records.values()
    }
    assert len(noise) == 1, "all on the same noise"


def test_what_training_writes_is_evaluated_without_being_told_more(
    server, place, options, tiny_config, tiny_train
):
    folder = tiny_train(tiny_config(steps=2, save_every=2))
    assert server.run("eval", folder.parent, *options, "--json") == 0, server.printed
    (record,) = printed_json(server)
    assert record["checkpoint"]["story"]["step"] == 2
    assert record["checkpoint"]["label"].endswith("-seed3")


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        ("zero", "changes nothing"),
        ("no base", "--base"),
        ("other shape", "does not fit its base"),
        ("missing", "it lacks"),
        ("cut", "safetensors"),
    ],
)
def test_wrong_checkpoints_are_refused_before_anything_is_made(
    harm, words, server, forms, options, tmp_path
):
    base = ("--base", forms["base"])
    if harm == "zero":
        wrong = tmp_path / "adapter"
        shutil.copytree(forms["lora"], wrong)
        tensors = load_file(wrong / "adapter_model.safetensors")
        zeroed = {n: v * 0 if "lora_B" in n else v for n, v in tensors.items()}
        save_file(zeroed, wrong / "adapter_model.safetensors")
    else:
        wrong = tmp_path / "wrong.safetensors"
        tensors = load_file(forms["file"])
        if harm == "other shape":
            tensors["proj_out.bias"] = torch.zeros(7)
        elif harm == "missing":
            del tensors["proj_out.bias"]
        save_file(tensors, wrong)
        if harm == "cut":
            wrong.write_bytes(wrong.read_bytes()[:1000])
        if harm == "no base":
            base = ()
    elsewhere = ("--results", tmp_path / "results", "--cache", tmp_path / "cache")
    code = server.run("eval", forms["base"], wrong, *base, *options, *elsewhere)
    assert code == 2
    assert "Traceback" not in server.printed
    assert words in server.printed.strip().splitlines()[-1]
    assert not list(tmp_path.rglob("*.png"))


def test_a_sweep_is_one_plan_of_all_its_runs(server, forms, options):
    sweep = ("--steps", "2,3", "--guidance", "1,2")
    assert server.run("eval", forms["base"], *options, *sweep, "--dry-run", "--json") == 0
    plan = printed_json(server)
    assert [run["protocol"]["name"] for run in plan] == [
        "shapes+guidance=1+steps=2",
        "shapes+guidance=2+steps=2",
        "shapes+guidance=1+steps=3",
        "shapes+guidance=2+steps=3",
    ]
    assert [run["to_generate"] for run in plan] == [6, 6, 6, 6]
    assert server.run("eval", forms["base"], *options, *sweep) == 0, server.printed
    assert server.run("eval", forms["base"], *options, *sweep, "--dry-run", "--json") == 0
    assert [run["to_generate"] for run in printed_json(server)] == [0, 0, 0, 0]


def test_missing_weights_are_in_the_plan_and_nothing_is_started(server, forms, options, tmp_path):
    elsewhere = ("--results", tmp_path / "results", "--cache", tmp_path / "cache")
    more = ("--evaluators", "shapes-geneval,clipscore,aesthetic", *elsewhere)
    assert server.run("eval", forms["base"], *options, *more) == 2
    assert "plan" in server.printed
    last = server.printed.strip().splitlines()[-1]
    assert "nothing was started" in last
    assert "soar-bench fetch" in last
    assert not list(tmp_path.rglob("*.png"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_interrupted_it_says_how_to_go_on_and_goes_on(number, server, forms, options, tmp_path):
    elsewhere = ("--results", tmp_path / "results", "--cache", tmp_path / "cache")
    long = ("--steps", 60, "--batch-size", 1, *elsewhere)
    code, seconds = 0, 4.0
    while code == 0 and seconds > 0.2:  # a fast machine is done by then
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        seconds /= 2
        code = server.run("eval", forms["base"], *options, *long, kill_after=seconds, by=number)
    assert code == 130, server.printed
    assert server.printed.strip().endswith("the same command goes on where it stopped")
    assert "Traceback" not in server.printed
    assert server.run("eval", forms["base"], *options, *long) == 0, server.printed


def test_a_full_disk_is_named_and_what_was_made_is_kept(
    server, forms, options, small_disk, tmp_path
):
    """Room for some of the images, then for none, then for all."""
    arguments = ("eval", forms["base"], *options, "--images", 4, "--batch-size", 2)
    elsewhere = ("--results", tmp_path / "results", "--cache", small_disk / "cache")
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * (shutil.disk_usage(small_disk).free - 90_000))
    assert server.run(*arguments, *elsewhere) == 1
    assert "Traceback" not in server.printed
    last = server.printed.strip().splitlines()[-1]
    assert "no space left on the disk" in last
    assert "run the same command again" in last
    made = [f for f in small_disk.rglob("*.png") if not f.name.startswith(".")]
    assert 0 < len(made) < 24
    assert not [f for f in small_disk.rglob(".*") if f.is_file()], "nothing half written is left"
    ballast.unlink()
    assert server.run(*arguments, *elsewhere) == 0, server.printed
    assert f"{24 - len(made)} of 24" in server.printed
