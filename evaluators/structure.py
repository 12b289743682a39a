"""Structure of published files whose digest nobody states: what a whole one must look like.

Each function returns why a file cannot be the published one, or an empty string. They read headers
and names, not weights, and tell apart another model, an interrupted copy and anything else; they
do not tell apart other values in the same tensors.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from evaluators.types import EvaluatorError
from soar_bench.core.text import first_few, parse_json
from soar_bench.core.torchvision import mend_torchvision

#: SHA-256 of CLIP's vocabulary and merges as OpenAI's repository writes them. Every CLIP has the
#: same, written otherwise: LAION's without spaces between the words.
CLIP_VOCABULARY = "3f0c4f7d2086b61b38487075278ea9ed04edb53a03cbb045b86c27190fa8fb69"
CLIP_MERGES = "9fd691f7c8039210e0fced15865466c65820d09b63988b0174bfe25de299051a"
#: Bytes of each number in a safetensors file.
_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "U8": 1, "I8": 1, "BOOL": 1}
_PICKSCORE = "CLIP ViT-H/14"
_CLIP_336 = "CLIP ViT-L/14 at 336 pixels"
_DINOV2 = "DINOv2 ViT-B/14"
_DINOV2_SIZES: dict[str, Any] = {
    "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "image_size": 518,
    "patch_size": 14,
}  # fmt: skip
_QWEN3_VL = "Qwen3-VL-8B"
_QWEN3_VL_SIZES: dict[str, Any] = {
    "model_type": "qwen3_vl", "image_token_id": 151_655,
    "text_config": {"hidden_size": 4096, "num_hidden_layers": 36, "vocab_size": 151_936,
                    "intermediate_size": 12_288, "num_attention_heads": 32,
                    "num_key_value_heads": 8, "head_dim": 128},
    "vision_config": {"depth": 27, "hidden_size": 1152, "patch_size": 16, "num_heads": 16,
                      "intermediate_size": 4304, "out_hidden_size": 4096},
}  # fmt: skip
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
    return _settings(file, _clip_sizes(_clip_vit_h_14()), _PICKSCORE)


def pickscore_model(file: Path) -> str:
    """Compare the header of a ``model.safetensors`` with CLIP ViT-H/14 and with the file's size."""
    return _header(file, lambda: _transformers().CLIPModel(_clip_vit_h_14()), _PICKSCORE)


def clip_336_config(file: Path) -> str:
    """Compare a ``config.json`` with the sizes of CLIP ViT-L/14 at 336 pixels."""
    sizes = _clip_sizes(_clip_vit_l_14_336())
    sizes["vision_config"]["image_size"] = 336
    return _settings(file, sizes, _CLIP_336)


def clip_336_model(file: Path) -> str:
    """Compare a ``pytorch_model.bin`` with CLIP ViT-L/14 at 336 pixels; values are not read."""
    shapes = _shapes(lambda: _transformers().CLIPModel(_clip_vit_l_14_336()))
    return _checkpoint(file, shapes, (), ("position_ids",), _CLIP_336)


def dinov2_config(file: Path) -> str:
    """Compare a ``config.json`` with the sizes of DINOv2 ViT-B/14."""
    return _settings(file, {"model_type": "dinov2", **_DINOV2_SIZES}, _DINOV2)


def dinov2_model(file: Path) -> str:
    """Compare the header of a ``model.safetensors`` with DINOv2 ViT-B/14 and the file's size."""
    library = _transformers()
    config = library.Dinov2Config(**_DINOV2_SIZES)
    return _header(file, lambda: library.Dinov2Model(config), _DINOV2)


def qwen3_vl_config(file: Path) -> str:
    """Compare a ``config.json`` with the sizes of Qwen3-VL-8B."""
    return _settings(file, _QWEN3_VL_SIZES, _QWEN3_VL)


def qwen2_vl_config(file: Path) -> str:
    """Compare a ``config.json``, with the language model's sizes at its top, with Qwen2-VL-7B."""
    sizes = {"model_type": "qwen2_vl", "hidden_size": 3584, "num_hidden_layers": 28}
    return _settings(file, sizes, "Qwen2-VL-7B")


def hps_v3(file: Path) -> str:
    """Compare the header of a safetensors file with HPSv3's head, and with the file's size."""
    try:
        shapes = safetensors_shapes(file)
    except EvaluatorError as error:
        return str(error).removeprefix(f"{file} ")
    right = {"rm_head.0.weight": (1024, 3584), "rm_head.5.weight": (2, 16)}
    wrong = [name for name, shape in right.items() if shapes.get(name) != shape]
    return f"it holds no weights of HPSv3 ({first_few(wrong)})" if wrong else ""


def qwen_tokenizer(file: Path) -> str:
    """Compare a ``tokenizer.json`` with the number of the token that stands for an image."""
    table = _json(file)
    added = table.get("added_tokens") if isinstance(table, dict) else None
    tokens = {t.get("content"): t.get("id") for t in added or () if isinstance(t, dict)}
    right = tokens.get("<|image_pad|>") == _QWEN3_VL_SIZES["image_token_id"]
    return "" if right else "its tokens are not those of Qwen-VL"


def qwen3_vl_index(file: Path) -> str:
    """Compare a ``model.safetensors.index.json`` with the tensors of Qwen3-VL-8B."""
    table = _json(file)
    names = table.get("weight_map") if isinstance(table, dict) else None
    right = isinstance(names, dict) and names.keys() == _shapes(_qwen3_vl).keys()
    return "" if right else f"it does not list the tensors of {_QWEN3_VL}"


def qwen3_vl_part(file: Path) -> str:
    """Compare the header of one of several safetensors files with Qwen3-VL-8B and its size."""
    try:
        shapes = safetensors_shapes(file)
    except EvaluatorError as error:
        return str(error).removeprefix(f"{file} ")
    expected = _shapes(_qwen3_vl)
    wrong = [name for name, shape in shapes.items() if expected.get(name) != shape]
    listed = first_few(sorted(wrong)) or "no tensors"
    return f"it holds no part of {_QWEN3_VL} ({listed})" if wrong or not shapes else ""


def image_reward(file: Path) -> str:
    """Compare the tensors of an ``ImageReward.pt`` with its model's; their values are not read."""
    from evaluators.imagereward import layout, model

    return _checkpoint(file, model.shapes(), layout.UNUSED, (), "ImageReward's BLIP")


def blip_vqa(file: Path) -> str:
    """Compare the tensors of BLIP's VQA file with its model's; their values are not read."""
    from evaluators.blip_vqa import model

    return _checkpoint(file, model.shapes(), (), ("position_ids",), model.WHAT, model.INSIDE)


def safetensors_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor by name, from the header alone.

    EvaluatorError if it is none, or if the file has not exactly the bytes that it announces.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        text = stream.read(length) if 0 < length <= min(size, _LARGEST_HEADER) else b""
    try:
        header = parse_json(text)
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


def _settings(file: Path, expected: Mapping[str, Any], what: str) -> str:
    """Compare settings, of which tables may have tables, with those of an architecture."""
    own = _json(file)
    if not isinstance(own, dict):
        return "it is no table of settings"
    differing = []
    for name, value in expected.items():
        if isinstance(value, Mapping):
            part = own.get(name)
            inner = part if isinstance(part, dict) else {}
            differing += [f"{name}.{key}" for key in value if inner.get(key) != value[key]]
        elif own.get(name) != value:
            differing.append(name)
    return f"it describes no {what} ({', '.join(differing)})" if differing else ""


def _header(file: Path, make: Callable[[], Any], what: str) -> str:
    """Compare the header of a safetensors file with the tensors of the model that is made."""
    from evaluators.loading import check_keys

    try:
        shapes = safetensors_shapes(file)
        expected = _shapes(make)
        tensors: dict[str, Any] = {n: SimpleNamespace(shape=s) for n, s in shapes.items()}
        check_keys(expected, tensors, ("position_ids",), file, what)
    except EvaluatorError as error:
        return str(error).removeprefix(f"{file} ")
    return ""


def _checkpoint(
    file: Path,
    expected: Mapping[str, tuple[int, ...]],
    unused: tuple[str, ...],
    optional: tuple[str, ...],
    what: str,
    inside: str = "",
) -> str:
    """Compare the tensors of a file of torch's, without ``unused`` ones, with a model's.

    ``inside`` is the key that they lie under, where the file has others.
    """
    import torch

    from evaluators.loading import check_keys, read_checkpoint

    try:
        state = read_checkpoint(file, mapped=True)
        table = state if isinstance(state, dict) else {}
        table = table.get(inside) or {} if inside else table
        used = {name: tensor for name, tensor in table.items() if name not in unused}
        if not used or not all(isinstance(tensor, torch.Tensor) for tensor in used.values()):
            return "it is no table of tensors by name"
        check_keys(expected, used, optional, file, what)
    except EvaluatorError as error:
        return str(error).removeprefix(f"{file} ")
    return ""


def _transformers() -> Any:
    mend_torchvision()
    import transformers

    return transformers


def _shapes(make: Callable[[], Any]) -> dict[str, tuple[int, ...]]:
    import torch

    with torch.device("meta"):
        state = make().state_dict()
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def _clip_sizes(config: Any) -> dict[str, Any]:
    expected = config.to_dict()
    sizes = ("hidden_size", "num_hidden_layers", "num_attention_heads")
    towers = {t: {n: expected[t][n] for n in sizes} for t in ("text_config", "vision_config")}
    return {"projection_dim": expected["projection_dim"], **towers}


def _qwen3_vl() -> Any:
    library = _transformers()
    config = library.Qwen3VLConfig(**_QWEN3_VL_SIZES)
    return library.Qwen3VLForConditionalGeneration(config)


def _clip_vit_l_14_336() -> Any:
    from evaluators.openclip import Architecture

    vision = {"image_size": 336, "vision_width": 1024, "vision_layers": 24}
    return Architecture(
        embedding=768, **vision, text_width=768, text_layers=12, text_heads=12
    ).config()


def _clip_vit_h_14() -> Any:
    from evaluators.openclip import Architecture

    return Architecture().config()


def _json(file: Path) -> Any:
    try:
        return parse_json(file.read_text("utf-8"))
    except ValueError:  # UnicodeDecodeError is one
        return None


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
