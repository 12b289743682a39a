"""Safetensors files: those of a folder that are loaded, and their headers. No torch."""

from __future__ import annotations

import json
import math
import re
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
_DTYPE_BITS = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "C64": 64, "BOOL": 8}


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
    #: free text
    metadata: dict[str, str]


def convert_first(path: Path) -> SoarBenchError:
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
            files = _of_variant(folder, stem, variant)
            if files:
                return WeightFiles(files, variant)
    others = sorted(f for f in folder.glob("*") if f.suffix in OTHER_FORMATS)
    if others:
        raise convert_first(others[0])
    raise SoarBenchError(f"{folder} holds no {' or '.join(f'{s}.safetensors' for s in _STEMS)}")


def _variants(folder: Path, stem: str) -> list[str]:
    """Variants in the folder, fp16 first."""
    names = [file.name for file in folder.glob(f"{stem}*")]
    patterns = (rf"{stem}\.(\w+)\.safetensors", rf"{stem}\.safetensors\.index\.(\w+)\.json")
    variants = {m[1] for name in names for p in patterns if (m := re.fullmatch(p, name))}
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

    SoarBenchError if it is damaged or cut off.
    """
    size = file.stat().st_size
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if size < 8 or not 2 <= length <= min(size - 8, _LARGEST_HEADER):
                raise ValueError("it is empty, cut off or no safetensors file")
            entries: dict[str, Any] = json.loads(stream.read(length))
        metadata = entries.pop("__metadata__", {})
        shapes = {name: tuple(entry["shape"]) for name, entry in entries.items()}
        end = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
        for name, entry in entries.items():
            bits = _DTYPE_BITS.get(entry["dtype"]) or int(re.findall(r"\d+", entry["dtype"])[0])
            begin, stop = entry["data_offsets"]
            if bits >= 8 and (stop - begin) * 8 != bits * math.prod(shapes[name]):
                raise ValueError(f"the length of {name} is wrong")
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        reason = str(error) if isinstance(error, ValueError) else "its header is not readable"
        raise SoarBenchError(f"{file} is damaged: {reason}") from None
    if size != 8 + length + end:
        raise SoarBenchError(
            f"{file} is cut off: it has {size:,} bytes, its header promises {8 + length + end:,}"
        )
    if not shapes:
        raise SoarBenchError(f"{file} holds no tensors")
    return Header(shapes, {str(k): str(v) for k, v in dict(metadata).items()})
