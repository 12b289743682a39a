"""Structure of published files whose digest nobody states: what a whole one must look like.

Each function returns why a file cannot be the published one, or an empty string. They read headers
and names, not weights, and tell apart another model, an interrupted copy and anything else; they
do not tell apart other values in the same tensors.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from evaluators.types import EvaluatorError

#: SHA-256 of CLIP's vocabulary and merges as OpenAI's repository writes them. Every CLIP has the
#: same, written otherwise: LAION's without spaces between the words.
CLIP_VOCABULARY = "3f0c4f7d2086b61b38487075278ea9ed04edb53a03cbb045b86c27190fa8fb69"
CLIP_MERGES = "9fd691f7c8039210e0fced15865466c65820d09b63988b0174bfe25de299051a"
#: Bytes of each number in a safetensors file.
_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "U8": 1, "I8": 1, "BOOL": 1}
#: A header is a few hundred kilobytes; a larger one is none.
_LARGEST_HEADER = 100_000_000


def clip_vocabulary(file: Path) -> str:
    """Compare a ``vocab.json`` with CLIP's words and their numbers."""
    words = _json(file)
    if not isinstance(words, dict) or not all(isinstance(n, int) for n in words.values()):
        return "it is no table of words and their numbers"
    by_number = dict(sorted(words.items(), key=lambda word: word[1]))
    text = json.dumps(by_number, ensure_ascii=False)
    return "" if _sha256(text) == CLIP_VOCABULARY else "its words are not those of CLIP"


def clip_merges(file: Path) -> str:
    """Compare a ``merges.txt`` with CLIP's merges."""
    try:
        lines = file.read_text("utf-8").splitlines()
    except UnicodeDecodeError:
        return "it is no text in UTF-8"
    merges = [line for line in lines if line.strip() and not line.startswith("#version")]
    text = "\n".join(("#version: 0.2", *merges, ""))
    return "" if _sha256(text) == CLIP_MERGES else "its merges are not those of CLIP"


def pickscore_config(file: Path) -> str:
    """Compare a ``config.json`` with the sizes of CLIP ViT-H/14."""
    settings = _json(file)
    if not isinstance(settings, dict):
        return "it is no table of settings"
    expected = _clip_vit_h_14().to_dict()
    differing = [name for name in ("projection_dim",) if settings.get(name) != expected[name]]
    for tower in ("text_config", "vision_config"):
        own = settings.get(tower)
        differing += [
            f"{tower}.{name}"
            for name in ("hidden_size", "num_hidden_layers", "num_attention_heads")
            if not isinstance(own, dict) or own.get(name) != expected[tower][name]
        ]
    return f"it describes no CLIP ViT-H/14 ({', '.join(differing)})" if differing else ""


def pickscore_model(file: Path) -> str:
    """Compare the header of a ``model.safetensors`` with CLIP ViT-H/14 and with the file's size."""
    import torch

    from evaluators.loading import check_keys
    from soar_bench.core.torchvision import mend_torchvision

    mend_torchvision()
    from transformers import CLIPModel

    try:
        shapes = safetensors_shapes(file)
        with torch.device("meta"):
            state = CLIPModel(_clip_vit_h_14()).state_dict()
        expected = {name: tuple(tensor.shape) for name, tensor in state.items()}
        tensors: dict[str, Any] = {n: SimpleNamespace(shape=s) for n, s in shapes.items()}
        check_keys(expected, tensors, ("position_ids",), file, "CLIP ViT-H/14")
    except EvaluatorError as error:
        return str(error).removeprefix(f"{file} ")
    return ""


def image_reward(file: Path) -> str:
    """Compare the tensors of an ``ImageReward.pt`` with its model's; their values are not read."""
    import torch

    from evaluators.imagereward import layout, model
    from evaluators.loading import check_keys, read_checkpoint

    try:
        state = read_checkpoint(file, mapped=True)
        table = state if isinstance(state, dict) else {}
        used = {name: tensor for name, tensor in table.items() if name not in layout.UNUSED}
        if not used or not all(isinstance(tensor, torch.Tensor) for tensor in used.values()):
            return "it is no table of tensors by name"
        check_keys(model.shapes(), used, (), file, "ImageReward's BLIP")
    except EvaluatorError as error:
        return str(error).removeprefix(f"{file} ")
    return ""


def safetensors_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor by name, from the header alone.

    EvaluatorError if it is none, or if the file has not exactly the bytes that it announces.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        text = stream.read(length) if 0 < length <= min(size, _LARGEST_HEADER) else b""
    try:
        header = json.loads(text)
        tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
        shapes = {name: tuple(map(int, entry["shape"])) for name, entry in tensors.items()}
        ends = {}
        for name, entry in tensors.items():
            start, ends[name] = entry["data_offsets"]
            if ends[name] - start != math.prod(shapes[name]) * _BYTES[entry["dtype"]]:
                raise ValueError(name)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise EvaluatorError(f"{file} has no header of safetensors") from None
    expected = 8 + length + max(ends.values(), default=0)
    if size != expected:
        raise EvaluatorError(f"{file} has {size:,} bytes where its header says {expected:,}")
    return shapes


def _clip_vit_h_14() -> Any:
    from evaluators.openclip import Architecture

    return Architecture().config()


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text("utf-8"))
    except ValueError:  # UnicodeDecodeError is one
        return None


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
