"""Tiny Qwen-VL models of the real classes in the hub's layout."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from evaluators.golden.fill import fill
from evaluators.hpsv3 import FILE, head
from evaluators.vlm.judge import KINDS, quiet_transformers
from evaluators.weights import WeightFile, Weights
from soar_bench.core.torchvision import mend_torchvision

_SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>",
    "<|image_pad|>", "<|video_pad|>", "<|Reward|>",
)  # fmt: skip
#: Words that are one token each, with and without a space before them.
_WORDS = ("Yes", "yes", "No", "no", "one", "One", "two", "Two", "three", "1", "2", "3", "4", "5")
_MERGES = ("t h", "th e", "i n", "a n", "o n", "r e")
WIDTH = 32
#: Stands in for HPSv3's instruction, which is in its package.
INSTRUCTION = "How good is {text_prompt}? <|Reward|> END"


def write_tokenizer(folder: Path) -> dict[str, int]:
    """Write ``tokenizer.json`` in the form of the hub's; return its vocabulary."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate(letters)}
    merges: list[tuple[str, str]] = []

    def merge(left: str, right: str) -> None:
        if (left, right) not in merges:
            merges.append((left, right))
            vocabulary.setdefault(left + right, len(vocabulary))

    for pair in _MERGES:
        merge(*pair.split())
    for word in _WORDS:
        for form in (word, f"Ġ{word}"):
            for end in range(2, len(form) + 1):
                merge(form[: end - 1], form[end - 1])
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in _SPECIAL])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return tokenizer.get_vocab()


def tiny_config(kind: str, vocabulary: dict[str, int]) -> Any:
    """Return the configuration of a model of a few hundred kilobytes."""
    mend_torchvision()
    import transformers

    text = {
        "vocab_size": len(vocabulary), "hidden_size": WIDTH, "intermediate_size": 64,
        "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
        "max_position_embeddings": 4096, "bos_token_id": None, "eos_token_id": None,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]},
    }  # fmt: skip
    vision: dict[str, Any] = {"depth": 2, "num_heads": 2}
    if kind == "qwen2_vl":
        vision |= {"embed_dim": WIDTH, "hidden_size": WIDTH, "patch_size": 14}
    elif kind == "qwen2_5_vl":
        vision |= {"hidden_size": WIDTH, "out_hidden_size": WIDTH, "intermediate_size": 64,
                   "patch_size": 14, "fullatt_block_indexes": [1], "window_size": 56}  # fmt: skip
    else:
        vision |= {"hidden_size": WIDTH, "out_hidden_size": WIDTH, "intermediate_size": 64,
                   "patch_size": 16, "num_position_embeddings": 64,
                   "deepstack_visual_indexes": [0]}  # fmt: skip
        text["head_dim"] = 16
    names = {"image": "image_pad", "video": "video_pad"}
    names |= {f"vision_{end}": f"vision_{end}" for end in ("start", "end")}
    tokens = {f"{key}_token_id": vocabulary[f"<|{name}|>"] for key, name in names.items()}
    make = getattr(transformers, f"{KINDS[kind]}Config")
    return make(text_config=text, vision_config=vision, **tokens)


def weights(folder: Path, published: Weights, kind: str = "qwen3_vl") -> Weights:
    """Write a model and return it in place of published weights."""
    write_model(folder, kind)
    files = tuple(WeightFile(file.name, "") for file in sorted(folder.iterdir()))
    return replace(published, files=files, folder_override=folder)


def write_model(folder: Path, kind: str, vision: bool = True) -> Any:
    """Write a model with its tokenizer, and return its configuration.

    Without ``vision`` every weight of the vision tower is 0: such a judge sees nothing.
    """
    import torch

    vocabulary = write_tokenizer(folder)
    config = tiny_config(kind, vocabulary)
    import transformers

    model = getattr(transformers, f"{KINDS[kind]}ForConditionalGeneration")(config)
    for name, parameter in model.named_parameters():
        values = fill(name, tuple(parameter.shape))
        if ".visual." in name and not vision:
            values = np.zeros_like(values)
        if name.endswith(("norm.weight", "norm1.weight", "norm2.weight")) and vision:
            values = np.abs(values)
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(values))
    with quiet_transformers():
        model.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(config.to_dict()), "utf-8")
    return config


def write_hpsv3(folder: Path, vision: bool = True) -> None:
    """Write HPSv3's one file under its published names, and the form of its base; without
    ``vision`` as :func:`write_model` does.

    transformers saves a Qwen2-VL as its first version named it: ``visual`` and ``model``.
    """
    import torch
    from safetensors.torch import load_file, save_file

    write_model(folder, "qwen2_vl", vision)
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    for name, tensor in head(WIDTH).state_dict().items():
        state[name] = torch.from_numpy(fill(name, tuple(tensor.shape)))
    save_file(state, folder / FILE)
