"""From what a user types to weights that can be judged, with their identity and their story."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from soar_bench.suites import unknown
from soar_bench.types import SoarBenchError, digest_of
from training.checkpoint import (
    CHECKPOINT_FILE,
    TRANSFORMER,
    digest_weights,
    latest_checkpoint,
    read_checkpoint,
    safetensors_in,
)
from training.pipeline import check_pipeline
from training.types import TrainingError

#: Pipelines that come with the package.
EMBEDDED: dict[str, Path] = {"shapes": Path(__file__).parent / "shapes" / "weights" / "base"}


@dataclass(frozen=True)
class Checkpoint:
    """Weights to be judged."""

    #: short name for tables
    label: str
    #: as the user named it
    name: str
    #: the diffusers pipeline it stands on
    pipeline: Path
    #: identifies the weights that make the images, wherever they lie
    digest: str
    #: a transformer to put in the pipeline's place; None for the pipeline itself
    transformer: Path | None = None
    #: the trainer's checkpoint.json; empty for a pipeline
    story: dict[str, Any] = field(default_factory=dict)


def digest_pipeline(folder: Path) -> str:
    """SHA-256 of a pipeline: every component's tensors, settings and vocabularies.

    Keys of settings that begin with an underscore only tell who saved them, and do not count.
    SoarBenchError if a file is damaged.
    """
    files = sorted(f for f in folder.rglob("*") if f.is_file())
    return _digest_pipeline(
        folder, tuple((f, f.stat().st_size, f.stat().st_mtime_ns) for f in files)
    )


@lru_cache(maxsize=8)
def _digest_pipeline(folder: Path, _files: tuple[tuple[Path, int, int], ...]) -> str:
    """Read once as long as no file changes: a large pipeline takes minutes."""
    parts: dict[str, Any] = {}
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        if not file.is_file() or name.startswith(".") or file.suffix in (".md", ".safetensors"):
            continue
        if file.suffix == ".json" and "tokenizer" not in name:
            try:
                settings = json.loads(file.read_text("utf-8"))
            except ValueError as error:
                raise SoarBenchError(f"{file} is damaged: {error}") from None
            parts[name] = {k: v for k, v in settings.items() if not k.startswith("_")}
        else:
            parts[name] = hashlib.sha256(file.read_bytes()).hexdigest()
    for weights in sorted({file.parent for file in folder.rglob("*.safetensors")}):
        key = f"{weights.relative_to(folder).as_posix()}/weights"
        try:
            parts[key] = digest_weights(sorted(weights.glob("*.safetensors")))
        except TrainingError as error:
            raise SoarBenchError(str(error)) from None
    return digest_of(parts)


def pipeline_folder(name: str) -> Path:
    """The folder of a pipeline given by name or path; SoarBenchError if it is none."""
    folder = EMBEDDED.get(name, Path(name))
    if not folder.is_dir():
        if name in EMBEDDED:
            raise SoarBenchError(
                f"the weights of {name!r} are missing ({folder}); install soar-bench again"
            )
        raise unknown("pipeline folder or embedded base", name, list(EMBEDDED))
    try:
        check_pipeline(folder)
    except TrainingError as error:
        raise SoarBenchError(str(error)) from None
    return folder


def resolve(name: str) -> Checkpoint:
    """The checkpoint of that name: an embedded base, a pipeline's folder, a checkpoint's, or a
    training run's (its last checkpoint). SoarBenchError if it is none of them.
    """
    folder = Path(name)
    if name not in EMBEDDED and folder.is_dir() and not (folder / "model_index.json").exists():
        return _trained(name, folder)
    pipeline = pipeline_folder(name)
    return Checkpoint(
        label=name if name in EMBEDDED else pipeline.resolve().name,
        name=name,
        pipeline=pipeline,
        digest=digest_pipeline(pipeline),
    )


def _trained(name: str, folder: Path) -> Checkpoint:
    if not (folder / CHECKPOINT_FILE).exists():
        latest = latest_checkpoint(folder)
        if latest is None:
            raise SoarBenchError(
                f"{folder} is no checkpoint: it has neither model_index.json (a pipeline) nor "
                f"{CHECKPOINT_FILE} (what soar-bench train writes)"
            )
        folder = latest
    try:
        story = read_checkpoint(folder)
        weights = digest_weights(safetensors_in(folder / TRANSFORMER))
    except TrainingError as error:
        raise SoarBenchError(str(error)) from None
    if weights != story["weights"]:
        raise SoarBenchError(
            f"the weights in {folder} are not those that {CHECKPOINT_FILE} names; "
            "the folder is damaged or was changed by hand: train it again"
        )
    base = resolve(story["base"]["name"])
    if base.digest != story["base"]["digest"]:
        raise SoarBenchError(
            f"{folder} was trained from another {story['base']['name']} "
            f"({story['base']['digest'][:12]}, here {base.digest[:12]}): restore that base"
        )
    return Checkpoint(
        label=f"{story['name']}-seed{story['seed']}",
        name=name,
        pipeline=base.pipeline,
        digest=digest_of({"pipeline": base.digest, "transformer": weights}),
        transformer=folder / TRANSFORMER,
        story=story,
    )
