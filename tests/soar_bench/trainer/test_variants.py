"""Training reads the weight files that evaluation reads, where a pipeline has some in float16."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from soar_bench.core.digests import digest_weights
from soar_bench.trainer.pipeline import BasePipeline
from training.encoders import CORE, TEXT, VAE


def halves(folder: Path) -> None:
    """Rename every weight file to its fp16 variant, with values that float16 can hold."""
    for file in folder.glob("*/*.safetensors"):
        tensors = {name: t.half() if t.is_floating_point() else t
                   for name, t in load_file(file).items()}  # fmt: skip
        save_file(tensors, file.with_name(f"{file.stem}.fp16.safetensors"), {"format": "pt"})
        file.unlink()


@pytest.fixture()
def copy(tiny_pipeline, tmp_path):
    return Path(shutil.copytree(tiny_pipeline, tmp_path / "pipeline"))


def test_a_pipeline_of_fp16_files_alone_is_trained_and_evaluated(
    copy, tiny_config, tiny_train, tmp_path
):
    from soar_bench.pipelines.loading import load_pipeline

    halves(copy)
    whole = load_pipeline(copy)
    for parts in (CORE, VAE, TEXT):
        loaded = BasePipeline(copy).load(parts)
        for part in (part for part in parts if hasattr(getattr(whole, part), "parameters")):
            for name, value in getattr(whole, part).state_dict().items():
                assert torch.equal(value, getattr(loaded, part).state_dict()[name])
    config = tiny_config(base=str(copy), steps=1, method="sft", cache=tmp_path / "cache")
    checkpoint = tiny_train(config)
    assert (checkpoint / "checkpoint.json").is_file()


def test_where_both_variants_lie_the_plain_shards_count(copy, tiny_pipeline):
    """As in the published folder of Stable Diffusion 3.5: T5 in shards, once in each precision."""
    t5 = copy / "text_encoder_3"
    (file,) = t5.glob("*.safetensors")
    tensors = load_file(file)
    names = sorted(tensors)
    for middle, index_name, change in (
        ("", "model.safetensors.index.json", lambda t: t),
        (".fp16", "model.safetensors.index.fp16.json", lambda t: t.half() + 1),
    ):
        weight_map = {}
        for number, part in enumerate((names[::2], names[1::2]), start=1):
            shard = f"model{middle}-0000{number}-of-00002.safetensors"
            save_file({n: change(tensors[n]) for n in part}, t5 / shard, {"format": "pt"})
            weight_map |= dict.fromkeys(part, shard)
        (t5 / index_name).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    plain = digest_weights([file])
    file.unlink()
    both, alone = BasePipeline(copy), BasePipeline(tiny_pipeline)
    assert digest_weights(both.weight_files("text_encoder_3").files) == plain
    # Neither how the tensors are divided nor a variant beside them is another encoder.
    assert both.digest_parts(TEXT) == alone.digest_parts(TEXT)
    for name, value in both.load(TEXT).text_encoder_3.state_dict().items():
        if name in tensors:
            assert torch.equal(value, tensors[name])
