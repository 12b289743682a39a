"""Safetensors files: those of a folder that are loaded, and their headers. No torch."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soar_bench.core.errors import SoarBenchError
from soar_bench.core.files import read_json
from soar_bench.core.text import first_few

#: Name stems of weights as diffusers and transformers save them.
_STEMS = ("diffusion_pytorch_model", "model")
#: Formats that may hold code, or that are not read here.
OTHER_FORMATS = frozenset(
    {".bin", ".ckpt", ".pt", ".pth", ".pkl", ".msgpack", ".h5", ".onnx", ".onnx_data", ".gguf"}
)
_LARGEST_HEADER = 1 << 27
#: Bits of the dtypes that hold a weight's value by itself, and of all that safetensors has.
_FLOATS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16} | {
    f"F8_{kind}": 8 for kind in ("E4M3", "E5M2", "E4M3FNUZ", "E5M2FNUZ")
}
_DTYPE_BITS = _FLOATS | {
    **{f"{sign}{bits}": bits for sign in "IU" for bits in (8, 16, 32, 64)},
    "BOOL": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "F8_E8M0": 8,
    "C64": 64,
}
#: Names of scales and other notes of quantizers beside the weights they belong to.
_SCALES = re.compile(
    r"(^|[._])((weight|input|output)_scale|scale_(weight|input|output|inv)|scaled_fp8|zero_point"
    r"|weight\._(data|scale)|absmax|quant_map|quant_state|comfy_quant|q(weight|zeros)|SCB)"
)
#: Keys of a header's free text under which scales stand.
_STATED_SCALES = re.compile(r"quant|(^|[._])scales?($|[._])", re.IGNORECASE)
#: Ends of the names of integer tensors that belong to models as they are.
_INTEGERS = ("position_ids", "position_index", "token_type_ids", "num_batches_tracked")
#: What a model was wrapped in when it was saved, as it shows in the names of its tensors.
_WRAPPED = re.compile(r"((module|diffusion_model|_orig_mod)\.)+|.*\._orig_mod\.")
_GGUF = b"GGUF"


@dataclass(frozen=True)
class WeightFiles:
    """The files that a model's weights are loaded from."""

    files: tuple[Path, ...]
    #: for example ``fp16``, where there are no plain files; empty otherwise
    variant: str = ""


@dataclass(frozen=True)
class Header:
    """The header of a safetensors file."""

    #: of every tensor, by name
    shapes: dict[str, tuple[int, ...]]
    #: names of the format, such as ``F32``, by tensor
    dtypes: dict[str, str]
    #: free text
    metadata: dict[str, str]


def convert_first(path: Path) -> SoarBenchError:
    """Return the error of a file of weights in a format that is not read."""
    if path.suffix in (".gguf", ".safetensors"):
        return SoarBenchError(
            f"{path} holds quantized weights in GGUF, which are not read: use the safetensors file "
            "that they were made from"
        )
    return SoarBenchError(
        f"{path} is no safetensors file and is not read, since such files may run code: convert it "
        "to safetensors (torch.load(FILE, weights_only=True), then safetensors.torch.save_file)"
    )


def model_files(folder: Path) -> WeightFiles:
    """Return the weights of a model's folder: one file, or the shards its index names.

    A variant such as fp16 only without plain files. SoarBenchError if files are missing.
    """
    for stem in _STEMS:
        for variant in ("", *_variants(folder, stem)):
            if files := _of_variant(folder, stem, variant):
                return WeightFiles(files, variant)
    others = sorted(f for f in folder.glob("*") if f.suffix in OTHER_FORMATS)
    if others:
        raise convert_first(others[0])
    raise SoarBenchError(f"{folder} holds no {' or '.join(f'{s}.safetensors' for s in _STEMS)}")


def _variants(folder: Path, stem: str) -> list[str]:
    """Variants in the folder, fp16 first."""
    pattern = re.compile(rf"{stem}\.(?:(\w+)\.safetensors|safetensors\.index\.(\w+)\.json)")
    matches = [pattern.fullmatch(file.name) for file in folder.glob(f"{stem}*")]
    variants = {match[1] or match[2] for match in matches if match}
    return sorted(variants, key=lambda variant: (variant != "fp16", variant))


def _of_variant(folder: Path, stem: str, variant: str) -> tuple[Path, ...]:
    middle = f".{variant}" if variant else ""
    single = folder / f"{stem}{middle}.safetensors"
    index = folder / f"{stem}.safetensors.index{middle}.json"
    # Of both, diffusers loads the shards and transformers the single file.
    if index.is_file() and (stem == "diffusion_pytorch_model" or not single.is_file()):
        return _shards(index)
    return (single,) if single.is_file() else ()


def _shards(index: Path) -> tuple[Path, ...]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise SoarBenchError(f"{index} is damaged: it has no weight_map")
    names = sorted({str(name) for name in weight_map.values()})
    outside = [name for name in names if Path(name).name != name]
    if outside:
        raise SoarBenchError(f"{index} names {outside[0]!r}, which is outside its folder")
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise SoarBenchError(
            f"{index} names {first_few(missing)}, not in its folder: the copy is incomplete"
        )
    return tuple(index.parent / name for name in names)


def read_header(file: Path) -> Header:
    """Return the header, compared with the file's length.

    SoarBenchError if it is damaged, cut off or no safetensors file.
    """
    size = file.stat().st_size
    try:
        with file.open("rb") as stream:
            start = stream.read(8)
            if start.startswith(_GGUF):
                raise convert_first(file)
            length = int.from_bytes(start, "little")
            if size < 8 or not 2 <= length <= min(size - 8, _LARGEST_HEADER):
                raise ValueError("it is empty, cut off or no safetensors file")
            entries: dict[str, Any] = json.loads(stream.read(length))
        metadata = entries.pop("__metadata__", None) or {}
        shapes = {name: tuple(entry["shape"]) for name, entry in entries.items()}
        dtypes = {name: str(entry["dtype"]) for name, entry in entries.items()}
        end = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
        for name, entry in entries.items():
            if any(type(side) is not int or side < 0 for side in shapes[name]):
                raise ValueError(f"the shape of {name} is wrong")
            if (bits := _DTYPE_BITS.get(dtypes[name])) is None:
                raise ValueError(f"{name} has the unknown dtype {dtypes[name][:20]}")
            begin, stop = entry["data_offsets"]
            if not 0 <= begin <= stop or (stop - begin) * 8 != bits * math.prod(shapes[name]):
                raise ValueError(f"the length of {name} is wrong")
        metadata = {str(k): str(v) for k, v in metadata.items()}
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        reason = str(error) if isinstance(error, ValueError) else "its header is not readable"
        raise SoarBenchError(f"{file} is damaged: {reason}") from None
    if size != 8 + length + end:
        raise SoarBenchError(
            f"{file} is cut off: it has {size:,} bytes, its header promises {8 + length + end:,}"
        )
    if not shapes:
        raise SoarBenchError(f"{file} holds no tensors")
    return Header(shapes, dtypes, metadata)


def check_values(header: Header, place: Path, names: Collection[str] | None = None) -> None:
    """Raise SoarBenchError if tensors are integers, or 8-bit floats with scales anywhere beside.

    By themselves they are other values than the model's. ``names`` are the tensors that matter, all
    by default.
    """
    dtypes = {name: header.dtypes[name] for name in header.dtypes if names is None or name in names}
    beside = {*header.dtypes} if any(_FLOATS.get(dtype) == 8 for dtype in dtypes.values()) else {}
    faults = [
        name
        for name in {*dtypes, *beside}
        if _SCALES.search(name)
        or (dtypes.get(name, "F32") not in _FLOATS and not name.endswith(_INTEGERS))
    ]
    if beside:
        faults += [key for key in header.metadata if _STATED_SCALES.search(key)]
    if faults:
        raise SoarBenchError(
            f"{place} holds quantized weights, whose scales are not applied here "
            f"({first_few(sorted(faults))}): use the weights in float32, bfloat16 or float16 that "
            "they were made from"
        )


def check_stored(header: Header, place: Path, names: Collection[str] | None = None) -> None:
    """Raise SoarBenchError if tensors are not a model's weights, by values and names, as they are.

    A wrapper puts its own name before every tensor's. ``names`` as of :func:`check_values`.
    """
    check_values(header, place, names)
    names = header.dtypes.keys() if names is None else names
    prefixes = {match[0] for name in names if (match := _WRAPPED.match(name))}
    if prefixes and all(map(_WRAPPED.match, names)):
        raise SoarBenchError(
            f"{place} was saved inside a wrapper (torch.compile, DDP, ComfyUI): remove "
            f"{first_few(sorted(prefixes))} from the names of its tensors"
        )
