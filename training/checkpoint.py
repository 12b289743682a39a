"""What training leaves behind: weights with their story, and the state to resume from.

A checkpoint is a folder with ``transformer/`` (diffusers format, safetensors) and
``checkpoint.json``, which says what it stands on and how it was made; ``soar-bench eval`` needs
nothing else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from training.files import replace_folder_atomically, write_text
from training.types import TrainingError

SCHEMA = 1
CHECKPOINT_FILE = "checkpoint.json"
TRANSFORMER = "transformer"


def digest_weights(files: Iterable[Path]) -> str:
    """SHA-256 of the tensors in safetensors files: names, dtypes, shapes and bytes.

    It does not depend on how tensors are ordered or divided among files, nor on file metadata.
    """
    from safetensors import SafetensorError, safe_open

    with ExitStack() as stack:
        where: dict[str, Any] = {}
        for file in files:
            try:
                opened = stack.enter_context(safe_open(file, framework="pt"))
            except SafetensorError as error:
                raise TrainingError(f"{file} is damaged: {error}") from None
            where |= dict.fromkeys(opened.keys(), opened)
        return _digest((name, where[name].get_tensor(name)) for name in sorted(where))


def digest_tensors(tensors: Mapping[str, Any]) -> str:
    """The same of tensors in memory."""
    return _digest((name, tensors[name].detach().cpu()) for name in sorted(tensors))


def _digest(tensors: Iterable[tuple[str, Any]]) -> str:
    import torch

    digest = hashlib.sha256()
    for name, tensor in tensors:
        tensor = tensor.contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def safetensors_in(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise TrainingError(f"{folder} holds no .safetensors weights")
    return files


def write_checkpoint(folder: Path, transformer: Any, story: dict[str, Any]) -> None:
    """Writes the checkpoint whole or not at all; ``story`` becomes ``checkpoint.json``."""
    with replace_folder_atomically(folder) as aside:
        transformer.save_pretrained(aside / TRANSFORMER, safe_serialization=True)
        digest = digest_weights(safetensors_in(aside / TRANSFORMER))
        record = {"schema": SCHEMA, "weights": digest, **story}
        write_text(aside / CHECKPOINT_FILE, json.dumps(record, indent=2, sort_keys=True) + "\n")


def read_checkpoint(folder: Path) -> dict[str, Any]:
    """The story of a checkpoint; a TrainingError if the folder does not hold one."""
    file = folder / CHECKPOINT_FILE
    try:
        record = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        raise TrainingError(f"{folder} is not a checkpoint: it has no {CHECKPOINT_FILE}") from None
    except ValueError as error:
        raise TrainingError(f"{file} is damaged: {error}") from None
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        raise TrainingError(f"{file} has another schema than {SCHEMA}; it needs its own soar-bench")
    lacking = {"weights", "base", "name", "method", "step", "seed", "data", "config"} - set(record)
    if lacking:
        raise TrainingError(f"{file} is damaged: it lacks {', '.join(sorted(lacking))}")
    return record


def checkpoint_folder(output: Path, step: int) -> Path:
    return output / f"checkpoint-{step:06d}"


def latest_checkpoint(output: Path) -> Path | None:
    """The checkpoint of most steps in a training run's folder."""
    found = [file.parent for file in output.glob(f"checkpoint-*/{CHECKPOINT_FILE}")]
    return max(found, key=lambda folder: int(folder.name.partition("-")[2]), default=None)
