"""Training that goes on from a checkpoint of soar-bench, whole weights or an adapter."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from soar_bench.checkpoints import resolve, root_of
from soar_bench.checkpoints.loading import load
from soar_bench.core.errors import SoarBenchError
from soar_bench.records.run import training_key
from soar_bench.trainer.config import Config, load_config
from soar_bench.trainer.run import check, train

WEIGHTS = "diffusion_pytorch_model.safetensors"
LAYER = "transformer_blocks.0.attn.to_q"
LORA = {"rank": 2, "alpha": 4}


@pytest.fixture(scope="module")
def settings(tiny_pipeline, tmp_path_factory):
    """settings(base, name, **changes) -> those of two steps in a folder of that name."""
    place = tmp_path_factory.mktemp("outputs")

    def of(base, name, **changes):
        plain = {
            "method": "sft", "base": str(base), "data": "shapes-clean:4", "seed": 3, "steps": 2,
            "batch_size": 2, "resolution": 64, "max_sequence_length": 14, "precision": "fp32",
            "save_every": 2, "optimizer": {"lr": 0.01}, "cache": place / "cache",
            "output": place / name, "name": name,
        }  # fmt: skip
        return load_config(None, plain | changes)

    return of


@pytest.fixture(scope="module")
def whole(settings, tiny_pipeline) -> Path:
    """A checkpoint of whole weights."""
    return train(settings(tiny_pipeline, "whole"))


@pytest.fixture(scope="module")
def adapter(settings, tiny_pipeline) -> Path:
    """A checkpoint that is an adapter."""
    return train(settings(tiny_pipeline, "adapter", lora=LORA))


def product(checkpoint: Path) -> torch.Tensor:
    """An adapter's change of a layer, by hand: alpha over rank times B A."""
    halves = load_file(checkpoint / "lora" / "pytorch_lora_weights.safetensors")
    a, b = (halves[f"transformer.{LAYER}.lora_{half}.weight"] for half in "AB")
    return LORA["alpha"] / LORA["rank"] * b @ a


def weight(place: Path) -> torch.Tensor:
    return load_file(place / "transformer" / WEIGHTS)[f"{LAYER}.weight"]


def refused(sentence: str, call, *arguments) -> None:
    with pytest.raises(SoarBenchError, match=sentence) as error:
        call(*arguments)
    assert "\n" not in str(error.value)


def test_a_run_from_whole_weights_is_that_from_a_pipeline_with_these_weights(
    settings, whole, tiny_pipeline, tmp_path
):
    by_hand = tmp_path / "pipeline"
    shutil.copytree(tiny_pipeline, by_hand)
    shutil.rmtree(by_hand / "transformer")
    shutil.copytree(whole / "transformer", by_hand / "transformer")
    expected = train(settings(by_hand, "by-hand"))
    of_run = settings(whole.parent, "after")  # a run's folder stands for its last checkpoint
    assert f"# starts from {whole}" in check(of_run).lines()
    last = train(of_run)
    files = [folder / "transformer" / WEIGHTS for folder in (last, expected)]
    assert files[0].read_bytes() == files[1].read_bytes()

    base = json.loads((last / "checkpoint.json").read_text())["base"]
    first = resolve(str(whole))
    assert (base["name"], base["digest"]) == (str(whole), first.digest)
    assert base["story"] == json.loads((whole / "checkpoint.json").read_text())
    # It stands on the pipeline alone: the same weights by themselves are the same checkpoint.
    checkpoint = resolve(str(last))
    assert checkpoint.base == first.base == resolve(str(tiny_pipeline)).root
    assert checkpoint.digest == resolve(str(last / "transformer"), str(tiny_pipeline)).digest
    assert checkpoint.before is None
    assert root_of(str(last.parent)) == str(tiny_pipeline)


def test_an_adapter_stands_on_the_checkpoint_it_was_trained_on(settings, whole, tmp_path):
    last = train(settings(whole, "adapter-on-whole", lora=LORA))
    checkpoint = resolve(str(last))
    assert (checkpoint.base, checkpoint.before.digest) == (
        resolve(str(whole)).base,
        resolve(str(whole)).digest,
    )
    layer = load(checkpoint, torch.float32, None, ("transformer",)).transformer.get_submodule(LAYER)
    assert torch.equal(layer.base_layer.weight, weight(whole))
    assert torch.allclose(layer.get_delta_weight("judged"), product(last))

    moved = tmp_path / "moved"
    whole.rename(moved)
    try:
        refused(f"{last} was trained from {whole}: no checkpoint", resolve, str(last))
        assert resolve(str(last), str(moved)).digest == checkpoint.digest
    finally:
        moved.rename(whole)
    assert resolve(str(last), str(checkpoint.pipeline)).digest == checkpoint.digest


def test_an_adapter_is_merged_before_training_goes_on(settings, adapter, tiny_pipeline):
    last = train(settings(adapter, "adapter-on-adapter", lora=LORA))
    checkpoint = resolve(str(last))
    merged = weight(tiny_pipeline) + product(adapter)
    for dtype, rounding in ((torch.float32, 1e-6), (torch.bfloat16, 2**-8)):
        layer = load(checkpoint, dtype, None, ("transformer",)).transformer.get_submodule(LAYER)
        assert layer.base_layer.weight.dtype == dtype
        torch.testing.assert_close(
            layer.base_layer.weight.float(), merged, rtol=rounding, atol=1e-6
        )
    still = settings(adapter, "still", optimizer={"lr": 1e-12})
    assert torch.allclose(weight(train(still)), merged, atol=1e-6)


def test_the_seeds_of_a_chain_are_one_training(settings, tiny_pipeline, whole):
    story = json.loads((whole / "checkpoint.json").read_text())

    def after(seed, base="outputs/whole-seed{seed}"):
        first = story | {"seed": seed, "config": story["config"] | {"seed": seed}}
        return story | {
            "seed": seed,
            "base": {"name": base.format(seed=seed), "digest": f"of {seed}", "story": first},
            "config": story["config"] | {"seed": seed, "base": base},
        }

    assert training_key(after(0)) == training_key(after(1)) != training_key(story)
    named = [training_key(after(seed, f"outputs/whole-seed{seed}")) for seed in (0, 1)]
    assert named[0] != named[1]  # two trainings, which go on from two checkpoints
    other = after(0)
    other["base"]["story"]["name"] = "another"
    assert training_key(other) != training_key(after(0))


def test_the_seed_stands_in_the_name_of_the_checkpoint(settings, whole):
    assert settings("runs/{seed}", "of-seed").start == "runs/3"


def test_a_checkpoint_of_the_embedded_base_has_the_recipe_of_that(whole, tmp_path):
    story = json.loads((whole / "checkpoint.json").read_text())
    place = tmp_path / "checkpoint-000002"
    place.mkdir()
    story["base"]["name"] = "shapes"
    (place / "checkpoint.json").write_text(json.dumps(story))
    assert Config(base=str(tmp_path)).model_dump(exclude={"base"}) == Config(
        base="shapes"
    ).model_dump(exclude={"base"})


def test_what_cannot_be_gone_on_from_is_refused_in_one_sentence(settings, whole, tmp_path):
    copy = tmp_path / "run" / "checkpoint-000002"
    shutil.copytree(whole, copy)
    file, story = copy / "checkpoint.json", json.loads((whole / "checkpoint.json").read_text())
    refused(
        "no checkpoint's file or folder, or embedded base is named",
        check,
        settings(tmp_path / "gone", "x"),
    )
    refused(
        "is neither a whole pipeline nor a checkpoint of soar-bench train",
        check,
        settings(copy / "transformer", "x"),
    )
    file.write_text(json.dumps(story | {"base": {"name": "/gone/away", "digest": "0"}}))
    refused("was trained from /gone/away: no checkpoint", check, settings(copy, "x"))
    nested = {"name": "gone", "digest": "0", "story": {"schema": 1}}
    file.write_text(json.dumps(story | {"base": nested}))
    refused("is damaged: it lacks base", settings, copy, "x")
    file.write_text("{")
    refused("checkpoint.json is damaged", settings, copy, "x")
    file.write_text(json.dumps(story))
    tensors = load_file(copy / "transformer" / WEIGHTS)
    tensors["proj_out.bias"] += 1
    save_file(tensors, copy / "transformer" / WEIGHTS)
    refused("not those that checkpoint.json names", check, settings(copy, "x"))
