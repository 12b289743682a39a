"""The form of a checkpoint, seen from its files alone. Imports no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from soar_bench.checkpoints import hub
from soar_bench.checkpoints.adapters import (
    DIFFUSERS_WEIGHTS,
    PEFT_CONFIG,
    PEFT_WEIGHTS,
    is_lora_name,
)
from soar_bench.checkpoints.types import IN_MEMORY
from soar_bench.core.errors import SoarBenchError, unknown_name
from soar_bench.core.text import first_few, is_unicode
from soar_bench.pipelines import EMBEDDED, INDEX, pipeline_folder
from soar_bench.pipelines.weights import OTHER_FORMATS, convert_first, read_header
from training.checkpoint import CHECKPOINT_FILE, latest_checkpoint

#: Generic names of folders and files, which do not tell one checkpoint from another.
_GENERIC = re.compile(
    r"transformer|unet|lora|checkpoint[-_]?\d*|(global_?)?step[-_]?\d+|adapter(_model)?|model"
    r"|weights|final|last|best|pytorch_lora_weights|diffusion_pytorch_model(\.\w+)?"
)
#: Where trainers put the denoiser or its adapter inside what they save.
_INSIDE = ("lora", "transformer", "unet")


@dataclass(frozen=True)
class Located:
    """A checkpoint's files and form."""

    #: ``pipeline``, ``trained`` (by soar-bench), ``transformer`` or ``lora``
    kind: str
    #: the pipeline's folder, the checkpoint's, or the folder or file of weights
    path: Path
    label: str
    #: commit of a hub repository; empty otherwise
    revision: str = ""


def find(name: str) -> Located:
    """Return the checkpoint of that name. SoarBenchError if there is none that can be judged."""
    if name in EMBEDDED:
        return Located("pipeline", pipeline_folder(name), name)
    if not name.strip():
        raise SoarBenchError(
            "a checkpoint has a name: a file, a folder, an id of the hub, or shapes"
        )
    path = Path(name)
    if not is_unicode(str(path.absolute())):
        raise SoarBenchError(
            f"the name of {path.absolute()} is not UTF-8: rename the folder or file"
        )
    if exists(path):
        return _at(path, _label(path))
    if name.endswith(IN_MEMORY):
        raise SoarBenchError(
            f"{name} was a pipeline in memory and is not kept: save it with save_pretrained, and "
            "evaluate the folder"
        )
    repository = hub.parse(name)
    if repository is None:
        raise unknown_name("checkpoint's file or folder, or embedded base", name, list(EMBEDDED))
    place, commit = hub.find(repository)
    label = repository.repo.rpartition("/")[2]
    if repository.inside:
        label += "-" + Path(repository.inside).stem
    return replace(_at(place, label), revision=commit)


def exists(path: Path) -> bool:
    """Return whether there is such a file or folder; a name too long for a path is none."""
    try:
        return path.exists()
    except OSError:
        return False


def trained_at(name: str) -> Path | None:
    """Return the checkpoint of soar-bench that is meant; None if something else is."""
    path = Path(name)
    other = name in EMBEDDED or not exists(path) or (path / INDEX).exists()
    return None if other else _trained(path)


def _trained(path: Path) -> Path | None:
    """Return the checkpoint that a folder is, or the last one in a training's folder."""
    return path if (path / CHECKPOINT_FILE).exists() else latest_checkpoint(path)


def _at(path: Path, label: str) -> Located:
    if path.is_file():
        return _file(path, label)
    if not path.is_dir():
        raise SoarBenchError(f"{path} is neither a file nor a folder")
    if (path / INDEX).exists():
        return Located("pipeline", path, label)
    if (trained := _trained(path)) is not None:
        return Located("trained", trained, label)
    for folder in (path, *(path / inside for inside in _INSIDE)):
        if (folder / PEFT_CONFIG).exists():
            return Located("lora", folder, label)
        if (folder / "config.json").exists():
            return Located("transformer", folder, label)
    if (path / DIFFUSERS_WEIGHTS).exists():
        return _file(path / DIFFUSERS_WEIGHTS, label)
    files = sorted(path.glob("*.safetensors"))
    if len(files) == 1:
        return _file(files[0], label)
    if files:
        names = first_few([f.name for f in files])
        raise SoarBenchError(f"{path} holds several weight files ({names}): name one of them")
    others = sorted(f for f in path.glob("*") if f.suffix in OTHER_FORMATS)
    if others:
        raise convert_first(others[0])
    copies = sorted(str(file.parent) for file in path.glob(f"*/{CHECKPOINT_FILE}"))
    if copies:
        raise SoarBenchError(f"{path} is no checkpoint, but holds some: name {first_few(copies)}")
    raise SoarBenchError(
        f"{path} is no checkpoint: it has neither {INDEX} (a pipeline) nor {CHECKPOINT_FILE} (what "
        f"soar-bench train writes), no config.json (a transformer) or {PEFT_CONFIG} (a LoRA), also "
        f"not in {', '.join(_INSIDE)}, and no .safetensors file"
    )


def _file(file: Path, label: str) -> Located:
    if file.suffix != ".safetensors":
        if file.suffix in OTHER_FORMATS:
            raise convert_first(file)
        raise SoarBenchError(f"{file} is no safetensors file: only those and folders can be judged")
    if file.name == PEFT_WEIGHTS and (file.parent / PEFT_CONFIG).exists():
        return Located("lora", file.parent, label)
    lora = any(map(is_lora_name, read_header(file).shapes))
    return Located("lora" if lora else "transformer", file, label)


def _label(path: Path) -> str:
    """Return the name, with those of the folders above as long as it is a generic one."""
    path = path.resolve()
    words = [path.stem if path.is_file() else path.name]
    for folder in path.parents:
        if not _GENERIC.fullmatch(words[0]) or not folder.name:
            break
        words.insert(0, folder.name)
    return "-".join(words)
