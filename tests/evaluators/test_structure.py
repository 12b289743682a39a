"""Files of unknown digest are compared with what the published ones must look like."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from evaluators import catalogue, structure
from evaluators.golden.clip import vocabulary, write_tokenizer
from evaluators.imagereward import model as image_reward_model
from evaluators.loading import read_checkpoint
from evaluators.openclip import Architecture
from evaluators.types import EvaluatorError

RANDOM = random.Random(0).randbytes(2000)
CHECKS = (
    structure.clip_vocabulary, structure.clip_merges, structure.pickscore_config,
    structure.pickscore_model, structure.image_reward, structure.dinov2_config,
    structure.dinov2_model, structure.clip_336_config, structure.clip_336_model,
    structure.qwen3_vl_config, structure.qwen_tokenizer, structure.qwen3_vl_index,
    structure.qwen3_vl_part, structure.qwen2_vl_config, structure.hps_v3,
)  # fmt: skip


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("content", [RANDOM, b"", b"{}", b"[]", b"null", b'{"a": 1}'])
def test_other_bytes_are_not_the_published_file(check, content, tmp_path):
    file = tmp_path / "file"
    file.write_bytes(content)
    assert check(file)


def test_every_catalogued_file_without_a_digest_has_a_structure_and_a_size():
    files = [file for weights in catalogue.ALL for file in weights.files]
    unpinned = [file for file in files if not (file.sha256 or file.sha256_prefix)]
    assert len(unpinned) == 21
    assert all(file.structure and file.about for file in unpinned)
    assert all(file.size or file.about for file in files)


def test_clips_vocabulary_is_that_of_openais_pinned_files():
    pinned = {file.path: file.sha256 for file in catalogue.CLIP_VIT_L_14.files}
    assert pinned["vocab.json"] == structure.CLIP_VOCABULARY
    assert pinned["merges.txt"] == structure.CLIP_MERGES


def test_a_vocabulary_counts_by_its_words_and_not_by_its_spaces(tmp_path, monkeypatch):
    write_tokenizer(tmp_path)
    words, merges = tmp_path / "vocab.json", tmp_path / "merges.txt"
    openais = json.dumps(vocabulary(), ensure_ascii=False)
    monkeypatch.setattr(structure, "CLIP_VOCABULARY", structure._sha256(openais))
    monkeypatch.setattr(structure, "CLIP_MERGES", structure._sha256(merges.read_text("utf-8")))
    backwards = dict(reversed(vocabulary().items()))
    words.write_text(json.dumps(backwards, separators=(",", ":")), "utf-8")
    assert structure.clip_vocabulary(words) == ""
    lines = merges.read_text("utf-8").splitlines()
    merges.write_text("\n".join(lines[1:]) + "\n\n", "utf-8")  # without its version
    assert structure.clip_merges(merges) == ""
    merges.write_text("\n".join(lines[:-1]), "utf-8")
    assert "not those of CLIP" in structure.clip_merges(merges)
    words.write_text(json.dumps({**backwards, "!": 1}), "utf-8")
    assert "not those of CLIP" in structure.clip_vocabulary(words)


@pytest.fixture(scope="module")
def header():
    """The tensors of a CLIP ViT-H/14 in safetensors' header: name, type, shape and place."""
    from transformers import CLIPModel

    with torch.device("meta"):
        state = CLIPModel(Architecture().config()).state_dict()
    return in_a_header(state)


def in_a_header(state):
    tensors, end = {}, 0
    for name, tensor in state.items():
        start, end = end, end + tensor.numel() * 4
        tensors[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [start, end]}
    return tensors


def sparse(file: Path, tensors, end=None) -> Path:
    """A file of the full size whose weights take no room on the disk."""
    text = json.dumps(tensors).encode()
    last = max((t["data_offsets"][1] for t in tensors.values()), default=0)
    with file.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.truncate(8 + len(text) + last + (end or 0))
    return file


def test_pickscores_header_is_that_of_a_clip_vit_h_14(header, tmp_path):
    file = tmp_path / "model.safetensors"
    assert structure.pickscore_model(sparse(file, header)) == ""
    size = file.stat().st_size
    pinned = {f.path: f for f in catalogue.PICKSCORE.files}["model.safetensors"]
    assert abs(size - pinned.about) < 1_000_000
    assert "bytes where its header says" in structure.pickscore_model(sparse(file, header, -1))
    name = "visual_projection.weight"
    lacking = {n: t for n, t in header.items() if n != name}
    assert f"lacks {name}" in structure.pickscore_model(sparse(file, lacking))
    another = {**header, name: {**header[name], "shape": [*reversed(header[name]["shape"])]}}
    assert f"another shape for {name}" in structure.pickscore_model(sparse(file, another))


def test_pickscores_settings_are_those_of_a_clip_vit_h_14(tmp_path):
    config = Architecture().config()
    config.save_pretrained(tmp_path)
    assert structure.pickscore_config(tmp_path / "config.json") == ""
    Architecture(vision_layers=24).config().save_pretrained(tmp_path)
    wrong = structure.pickscore_config(tmp_path / "config.json")
    assert "vision_config.num_hidden_layers" in wrong


def test_dinov2s_header_and_settings_are_those_of_a_vit_b_14(tmp_path):
    from transformers import Dinov2Config, Dinov2Model

    config = Dinov2Config(image_size=518)  # transformers' other defaults are ViT-B/14's
    config.save_pretrained(tmp_path)
    assert structure.dinov2_config(tmp_path / "config.json") == ""
    with torch.device("meta"):
        tensors = in_a_header(Dinov2Model(config).state_dict())
    file = sparse(tmp_path / "model.safetensors", tensors)
    assert structure.dinov2_model(file) == ""
    assert abs(file.stat().st_size - 346_400_000) < 200_000
    Dinov2Config(hidden_size=384, image_size=518).save_pretrained(tmp_path)
    assert "hidden_size" in structure.dinov2_config(tmp_path / "config.json")


def test_a_clip_at_336_pixels_is_told_from_one_at_224(tmp_path):
    config = structure._clip_vit_l_14_336()
    config.save_pretrained(tmp_path)
    assert structure.clip_336_config(tmp_path / "config.json") == ""
    config.vision_config.image_size = 224
    config.save_pretrained(tmp_path)
    assert "vision_config.image_size" in structure.clip_336_config(tmp_path / "config.json")
    assert sum(map(math.prod, _shapes_336().values())) * 4 == pytest.approx(1_711_900_000, rel=1e-3)
    torch.save({"logit_scale": torch.zeros(())}, tmp_path / "pytorch_model.bin")
    assert "lacks" in structure.clip_336_model(tmp_path / "pytorch_model.bin")


def _shapes_336():
    from transformers import CLIPModel

    return structure._shapes(lambda: CLIPModel(structure._clip_vit_l_14_336()))


def test_image_reward_is_read_by_its_tensors_names(tmp_path, monkeypatch):
    monkeypatch.setattr(image_reward_model, "shapes", lambda: {"a": (2,), "b": (3, 1)})
    file = tmp_path / "ImageReward.pt"
    for old in (False, True):  # torch's older format as well
        state = {"a": torch.zeros(2), "b": torch.zeros(3, 1)}
        torch.save(state, file, _use_new_zipfile_serialization=not old)
        assert structure.image_reward(file) == ""
        torch.save({"a": torch.zeros(2)}, file, _use_new_zipfile_serialization=not old)
        assert "lacks b" in structure.image_reward(file)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    assert "cannot be read" in structure.image_reward(file)


def test_a_safetensors_header_is_read_as_safetensors_reads_it(tmp_path):
    tensors = {
        "a": torch.zeros(2, 3, dtype=torch.bfloat16),
        "b": torch.zeros((), dtype=torch.int64),
    }
    save_file(tensors, tmp_path / "x.safetensors", metadata={"format": "pt"})
    shapes = structure.safetensors_shapes(tmp_path / "x.safetensors")
    assert shapes == {"a": (2, 3), "b": ()}


def test_qwen3_vls_parts_and_index_are_those_of_the_8b(tmp_path, monkeypatch):
    shapes = {"model.visual.a": (2, 3), "lm_head.weight": (4,)}
    monkeypatch.setattr(structure, "_shapes", lambda make: shapes)
    part, index = tmp_path / "part", tmp_path / "index"
    save_file({"lm_head.weight": torch.zeros(4)}, part)
    assert structure.qwen3_vl_part(part) == ""
    save_file({"lm_head.weight": torch.zeros(5), "other": torch.zeros(1)}, part)
    assert structure.qwen3_vl_part(part).endswith("(lm_head.weight, other)")
    save_file({}, part)
    assert structure.qwen3_vl_part(part).endswith("(no tensors)")
    index.write_text(json.dumps({"weight_map": dict.fromkeys(shapes, "part")}), "utf-8")
    assert structure.qwen3_vl_index(index) == ""
    index.write_text(json.dumps({"weight_map": {"lm_head.weight": "part"}}), "utf-8")
    assert structure.qwen3_vl_index(index)
    index.write_text(json.dumps({"added_tokens": [{"content": "<|image_pad|>", "id": 151655}]}))
    assert structure.qwen_tokenizer(index) == ""


@pytest.mark.parametrize("content", [RANDOM, b"", b"\x80\x02.", b"\x80\x02J\x01", b"PK\3\4" * 9])
def test_no_damaged_bytes_end_otherwise_than_in_a_sentence(content, tmp_path):
    """Torch's reader raises IndexError and struct.error too, and advises to read without safety."""
    file = tmp_path / "w.pt"
    file.write_bytes(content)
    with pytest.raises(EvaluatorError, match="cannot be read as weights") as refused:
        read_checkpoint(file, mapped=True)
    assert "weights_only" not in str(refused.value)
