"""Checkpoints that training writes: weights with their story.

A checkpoint is a folder with ``transformer/`` (diffusers format, safetensors), or ``lora/`` with an
adapter in diffusers' layout, and ``checkpoint.json``, which says what it stands on and how it was
made; ``soar-bench eval`` needs nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from soar_bench.core.digests import digest_weights, safetensors_in
from soar_bench.core.files import replace_folder_atomically, write_text
from training.types import TrainingError

SCHEMA = 1
CHECKPOINT_FILE = "checkpoint.json"
TRANSFORMER = "transformer"
ADAPTER = "lora"


#: Types of what a checkpoint says of itself.
_KINDS = {
    "weights": str,
    "name": str,
    "method": str,
    "step": int,
    "seed": int,
    "base": dict,
    "data": dict,
    "config": dict,
}


def write_checkpoint(
    folder: Path,
    transformer: Any,
    tensors: Mapping[str, Any],
    story: dict[str, Any],
    adapter: bool = False,
) -> None:
    """Write the checkpoint whole or not at all; ``story`` becomes ``checkpoint.json``.

    ``tensors`` are what is written, by their names in the transformer, whose settings alone are
    taken from it: all of its weights, or those of its adapter.
    """
    from huggingface_hub import save_torch_state_dict

    from training.adapters import write_adapter

    with replace_folder_atomically(folder) as aside:
        if adapter:
            files = [write_adapter(aside / ADAPTER, transformer, tensors)]
        else:
            place = aside / TRANSFORMER
            place.mkdir()
            transformer.save_config(place)
            _name_class(place / "config.json", transformer)
            save_torch_state_dict(
                dict(tensors),
                place,
                filename_pattern="diffusion_pytorch_model{suffix}.safetensors",
                max_shard_size="10GB",
            )
            files = safetensors_in(place)
        record = {"schema": SCHEMA, "weights": digest_weights(files), **story}
        write_text(aside / CHECKPOINT_FILE, json.dumps(record, indent=2, sort_keys=True) + "\n")


def _name_class(file: Path, transformer: Any) -> None:
    """The class by its own name: FSDP2 makes another of it while it trains."""
    settings = json.loads(file.read_text("utf-8"))
    settings["_class_name"] = type(transformer).__name__.removeprefix("FSDP")
    write_text(file, json.dumps(settings, indent=2, sort_keys=True) + "\n")


def read_checkpoint(folder: Path) -> dict[str, Any]:
    """Return the story of a checkpoint. TrainingError if the folder does not hold one."""
    file = folder / CHECKPOINT_FILE
    try:
        record = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        raise TrainingError(f"{folder} is not a checkpoint: it has no {CHECKPOINT_FILE}") from None
    except (ValueError, RecursionError) as error:
        raise TrainingError(f"{file} is damaged: {error}") from None
    _check(record, file)
    return record


def _check(record: Any, file: Path) -> None:
    """Raise TrainingError unless it is a checkpoint's story, with those of what it goes on from."""
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        raise TrainingError(f"{file} has another schema than {SCHEMA}; it needs its own soar-bench")
    if missing := sorted(_KINDS.keys() - record.keys()):
        raise TrainingError(f"{file} is damaged: it lacks {', '.join(missing)}")
    wrong = [key for key, kind in _KINDS.items() if type(record[key]) is not kind]
    for key in ("base", "data") if not wrong else ():
        texts = [record[key].get("digest"), record[key].get("name", "" if key == "data" else None)]
        wrong += [key] * (not all(isinstance(text, str) for text in texts))
    if wrong:
        raise TrainingError(f"{file} is damaged: {wrong[0]} is {str(record[wrong[0]])[:60]!r}")
    if "story" in record["base"]:
        _check(record["base"]["story"], file)


def checkpoint_folder(output: Path, step: int) -> Path:
    return output / f"checkpoint-{step:06d}"


def checkpoints(output: Path) -> dict[int, Path]:
    """The checkpoints in a training run's folder, by step.

    Copies under other names, such as ``checkpoint-best``, are none of the run's.
    """
    return {
        step: folder
        for step, folder in numbered(output, "checkpoint")
        if (folder / CHECKPOINT_FILE).exists()
    }


def numbered(output: Path, name: str) -> Iterator[tuple[int, Path]]:
    """Yield the step and path of each folder in ``output`` that is named NAME-NNNNNN."""
    for folder in output.glob(f"{name}-*"):
        digits = re.fullmatch(r"[0-9]{6,}", folder.name.removeprefix(f"{name}-"))
        if digits and folder.name == f"{name}-{int(digits[0]):06d}" and folder.is_dir():
            yield int(digits[0]), folder


def latest_checkpoint(output: Path) -> Path | None:
    """The checkpoint of most steps; None if there is none."""
    folders = checkpoints(output)
    return folders[max(folders)] if folders else None
