"""Adapters as checkpoints: one digest in every layout, and what does not fit is refused."""

from __future__ import annotations

import json

import pytest
import torch
from checkpoint_files import MODULE, PEFT_WEIGHTS, pair, peft, refused
from safetensors.torch import save_file

from soar_bench.checkpoints import (
    digest_pipeline,
    resolve,
)


def test_an_adapter_has_one_digest_in_every_layout(tiny_pipeline, tmp_path):
    base = str(tiny_pipeline)
    direct = resolve(str(peft(tmp_path / "style")), base)
    assert (direct.form, direct.label, direct.weights) == ("lora", "style", tmp_path / "style")
    assert direct.base == (base, digest_pipeline(tiny_pipeline))
    for inside in ("lora", "transformer"):  # as Flow-GRPO and others save
        peft(tmp_path / inside / "checkpoint-20" / inside)
        checkpoint = resolve(str(tmp_path / inside / "checkpoint-20"), base)
        assert checkpoint.digest == direct.digest
        assert checkpoint.label.endswith(f"{inside}-checkpoint-20")
    # The same product in diffusers' layout, where alpha is in the metadata.
    metadata = {"transformer.r": 2, "transformer.lora_alpha": 4}
    metadata["transformer.target_modules"] = [MODULE]
    (tmp_path / "saved").mkdir()
    file = tmp_path / "saved" / "pytorch_lora_weights.safetensors"
    save_file(pair(f"transformer.{MODULE}"), file, {"lora_adapter_metadata": json.dumps(metadata)})
    assert resolve(str(file), base).digest == direct.digest
    assert resolve(str(file.parent), base).digest == direct.digest
    assert resolve(str(file.parent), base).label == "saved"


def test_an_adapters_settings_are_part_of_its_identity(tiny_pipeline, tmp_path):
    base = str(tiny_pipeline)
    adapters = [
        peft(tmp_path / "a"),
        peft(tmp_path / "b", lora_alpha=8),
        peft(tmp_path / "c", use_rslora=True),
        peft(tmp_path / "d", alpha_pattern={MODULE: 1}),
        peft(tmp_path / "e", pair(f"base_model.model.{MODULE}", a=0.25)),
    ]
    assert len({resolve(str(a), base).digest for a in adapters}) == len(adapters)
    # What does not decide the result does not count.
    same = peft(
        tmp_path / "f",
        lora_dropout=0.1,
        base_model_name_or_path="somewhere",
        task_type="FEATURE_EXTRACTION",
    )
    assert resolve(str(same), base).digest == resolve(str(adapters[0]), base).digest


def test_any_rank_is_read_from_the_adapter(tiny_pipeline, tmp_path):
    tensors = pair() | pair(f"base_model.model.{MODULE.replace('to_q', 'to_k')}", rank=5)
    names = [MODULE, MODULE.replace("to_q", "to_k")]
    adapter = peft(tmp_path / "a", tensors, target_modules=names, rank_pattern={names[1]: 5})
    assert resolve(str(adapter), str(tiny_pipeline)).form == "lora"


def test_an_adapter_finds_the_base_that_it_names(tiny_pipeline, tmp_path):
    here = peft(tmp_path / "a", base_model_name_or_path=str(tiny_pipeline))
    assert resolve(str(here)).base == (str(tiny_pipeline), digest_pipeline(tiny_pipeline))
    gone = peft(tmp_path / "b", base_model_name_or_path="org/gone")
    refused(r"it names org/gone, which is not here\): name the one .* with --base", gone)
    refused("holds no whole pipeline: name the one", peft(tmp_path / "c"))


@pytest.mark.parametrize(
    ("changes", "config"),
    [({"a": 0.0}, {}), ({"b": 0.0}, {}), ({}, {"lora_alpha": 0})],
    ids=["A", "B", "alpha"],
)
def test_an_adapter_that_changes_nothing_is_refused(tiny_pipeline, tmp_path, changes, config):
    adapter = peft(tmp_path / "a", pair(**changes), **config)
    refused("changes nothing: in every layer", adapter, tiny_pipeline)


def test_an_adapter_of_another_base_is_refused(tiny_pipeline, tmp_path):
    beyond = MODULE.replace("blocks.0", "blocks.7")
    far = peft(tmp_path / "a", pair(f"base_model.model.{beyond}"), target_modules=[beyond])
    refused(f"the base has no transformer.{beyond}", far, tiny_pipeline)
    wide = peft(tmp_path / "b", pair(width=48))
    message = refused("does not fit its base", wide, tiny_pipeline)
    assert f"transformer.{MODULE} is 32x32, its matrices make 48x48" in message
    file = tmp_path / "unet.safetensors"
    save_file(pair("unet.mid_block.attn.to_q"), file)
    refused("has tensors for no part of .* another kind of pipeline", file, tiny_pipeline)


def test_an_adapter_whose_tensors_and_settings_disagree_is_refused(tiny_pipeline, tmp_path):
    more = pair() | pair(f"base_model.model.{MODULE.replace('to_q', 'to_k')}")
    refused("does not fit", peft(tmp_path / "a", more), tiny_pipeline)
    fewer = peft(tmp_path / "b", target_modules=[MODULE, MODULE.replace("to_q", "to_k")])
    refused("does not fit", fewer, tiny_pipeline)
    refused("cannot be brought onto", peft(tmp_path / "c", r=3), tiny_pipeline)


def test_what_is_no_plain_lora_is_refused(tiny_pipeline, tmp_path):
    refused("of the kind LOHA", peft(tmp_path / "a", peft_type="LOHA"), tiny_pipeline)
    changed = peft(tmp_path / "b", init_lora_weights="pissa")
    refused("a base that was changed when training began", changed, tiny_pipeline)
    extra = pair() | {"base_model.model.proj_out.weight": torch.ones(16, 32)}
    refused("no LoRA's: transformer.proj_out.weight", peft(tmp_path / "c", extra), tiny_pipeline)
    half = pair()
    del half[f"base_model.model.{MODULE}.lora_B.weight"]
    refused("without its other half", peft(tmp_path / "d", half), tiny_pipeline)
    nan = peft(tmp_path / "e", pair(a=float("nan")))
    refused("holds values that are not numbers", nan, tiny_pipeline)
    pickled = peft(tmp_path / "f")
    (pickled / PEFT_WEIGHTS).rename(pickled / "adapter_model.bin")
    refused("adapter_model.bin is no safetensors file", pickled, tiny_pipeline)
    dora = tmp_path / "dora.safetensors"
    save_file(pair(f"transformer.{MODULE}") | {"x.dora_scale": torch.ones(1)}, dora)
    refused("is a DoRA, LoKr or LoHa adapter", dora, tiny_pipeline)
