"""Weights, pipelines, what a training says of its checkpoint, and names."""

from __future__ import annotations

import itertools
import json
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.bad_inputs import SHORT, WRONG, Bad


def tensors(file: Path, header: Any, size: int = 8) -> Path:
    """Write a safetensors file with this header and as many bytes of values."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + bytes(size))
    return file


def checkpoints(place: Path) -> Iterator[Bad]:
    from soar_bench.pipelines import EMBEDDED

    on = ["--base", "shapes", "--suite", "one.txt", "--dry-run", *SHORT]
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    headers: dict[str, Any] = {
        "deep": b"[" * 200_000,
        "list": [],
        "none": {},
        "text": b"no json",
        "half": b'{"a"',
        "other": {"a": entry},
        "meta": {"__metadata__": 5, "a": entry},
        "wrapped": {"module.a": entry},
        "nul": b"\0" * 50,
        "latin1": b'{"\xfc": 1}',
    }
    for key, value in itertools.product(entry, WRONG):
        headers[f"{key}-{WRONG.index(value)}"] = {"a": {**entry, key: value}}
    for name, header in headers.items():
        yield "weights", ["eval", str(tensors(place / f"{name}.safetensors", header)), *on]
    for name in ("a.bin", "a.ckpt", "a.pt", "a.gguf", "a.txt", "a.zip", "a"):
        (place / name).write_bytes(b"GGUF" + bytes(100))
        yield "weights", ["eval", str(place / name), *on]
    for size in (0, 1, 7, 8, 100):
        (place / f"{size}.safetensors").write_bytes(bytes(size))
        yield "weights", ["eval", str(place / f"{size}.safetensors"), *on]
    files = {
        "model_index.json": ("_class_name", "scheduler", "transformer", "vae", "tokenizer"),
        "transformer/config.json": ("num_layers", "attention_head_dim", "quantization_config"),
        "text_encoder_3/config.json": ("d_model", "_attn_implementation"),
        "scheduler/scheduler_config.json": ("num_train_timesteps",),
        "tokenizer/tokenizer_config.json": ("tokenizer_class",),
        "vae/config.json": ("latent_channels", "block_out_channels"),
    }
    for file, keys in files.items():
        for number, text in enumerate(("", "[", "5", "null", "[" * 100_000, "\0", "{}")):
            if (
                text != "{}"
                or "config" not in file
                or (file[0] in "tv" and "tokenizer" not in file)
            ):
                folder = place / f"text-{file.partition('/')[0]}-{number}"
                shutil.copytree(EMBEDDED["shapes"], folder)
                (folder / file).write_text(text)
                yield "pipelines", ["eval", str(folder), *on[2:]]
        for key, value in itertools.product(keys, WRONG):
            harmless = "quant" in key or "_attn" in key or "tokenizer_class" in key
            if (harmless and value is None) or "tokenizer_class" in key:
                continue
            if (
                "timesteps" in key
                and value is not None
                and not isinstance(value, list | dict | str)
            ):
                continue
            folder = place / f"value-{file.partition('/')[0]}-{key}-{WRONG.index(value)}"
            shutil.copytree(EMBEDDED["shapes"], folder)
            content = json.loads((folder / file).read_text())
            (folder / file).write_text(json.dumps({**content, key: value}))
            yield "pipelines", ["eval", str(folder), *on[2:]]
    trained = place / "trained"
    (trained / "transformer").mkdir(parents=True)
    shutil.copytree(EMBEDDED["shapes"] / "transformer", trained / "transformer", dirs_exist_ok=True)
    good = {"schema": 1, "weights": "w", "name": "n", "method": "sft", "step": 1, "seed": 0}
    good |= {"base": {"name": "shapes", "digest": "d"}, "data": {"digest": "d"}, "config": {}}
    odd = [{**good, key: value} for key in good for value in WRONG]
    for number, story in enumerate((*odd, *WRONG, {"base": "shapes"}, {"base": {}, "weights": 5})):
        folder = shutil.copytree(trained, place / f"story-{number}")
        (folder / "checkpoint.json").write_text(json.dumps(story))
        yield "stories", ["eval", str(folder), *on]
    for name in (
        "",
        " ",
        "nowhere",
        "a/b/c",
        "../x",
        "org/name@",
        "-",
        "a\nb",
        "~nouser/x",
        "a" * 5000,
    ):
        yield "names", ["eval", "--suite", "one.txt", "--dry-run", "--", name]
