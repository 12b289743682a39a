"""From what a user types to weights that can be judged, with their identity and their story.

:func:`resolve` checks everything that can be checked without loading weights. What it finds is
remembered (:mod:`soar_bench.core.digests`): for a checkpoint that has not changed it
reads no weights and imports no torch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from soar_bench.checkpoints import hub
from soar_bench.checkpoints.adapters import base_of, check_adapter
from soar_bench.checkpoints.fit import check_denoiser_folder, check_denoiser_shapes
from soar_bench.checkpoints.forms import Found, find
from soar_bench.checkpoints.single_file import converted, converted_shapes, in_diffusers_names
from soar_bench.checkpoints.types import Checkpoint
from soar_bench.core.digests import (
    digest_of,
    digest_tensors,
    digest_weights,
    remember,
    safetensors_in,
    versions,
)
from soar_bench.core.errors import SoarBenchError
from soar_bench.pipelines import (
    EMBEDDED,
    Pipeline,
    check_pipeline,
    digest_pipeline,
    pipeline_folder,
    sizes,
)
from soar_bench.pipelines.models import shapes_in
from soar_bench.pipelines.weights import model_files, read_header
from soar_bench.suites.types import Protocol
from training.checkpoint import ADAPTER, CHECKPOINT_FILE, TRANSFORMER, read_checkpoint
from training.types import TrainingError

__all__ = ["EMBEDDED", "Checkpoint", "digest_pipeline", "image_size", "pipeline_folder", "resolve"]


def resolve(name: str, base: str | None = None) -> Checkpoint:
    """The checkpoint of that name, checked against the base it stands on.

    ``name`` is an embedded base, a file, a folder, or a hub id of which the repository is in the
    hub's cache here. ``base`` names a pipeline for weights that are none themselves; a pipeline
    leaves it unused. SoarBenchError if there is no such checkpoint, or it cannot be judged.
    """
    found = find(name)
    try:
        if found.kind == "pipeline":
            return _pipeline(name, found)
        if found.kind == "trained":
            return _trained(name, found, base)
        return _untold(name, found, base)
    except TrainingError as error:
        raise SoarBenchError(str(error)) from None


def image_size(checkpoint: Checkpoint, protocol: Protocol) -> int:
    """Return the side of the square images in pixels: the protocol's, or the pipeline's own.

    SoarBenchError if the pipeline cannot make images of that size, or has no default.
    """
    return sizes.image_size(Pipeline(checkpoint.pipeline), protocol.resolution, checkpoint.name)


def _pipeline(name: str, found: Found) -> Checkpoint:
    check_pipeline(found.path)
    return Checkpoint(
        label=found.label,
        name=name,
        form="pipeline",
        pipeline=found.path,
        digest=digest_pipeline(found.path),
        revision=found.revision,
    )


def _base(name: str, base: str | None) -> Checkpoint:
    """The pipeline that weights stand on."""
    if not base:
        raise SoarBenchError(
            f"{name} holds no whole pipeline: name the one it was trained from with --base (a "
            "folder, an embedded base or a hub id)"
        )
    if find(base).kind != "pipeline":
        raise SoarBenchError(
            f"the base {base} is no whole pipeline itself: name the pipeline that {name} stands on"
        )
    return resolve(base)


def _trained(name: str, found: Found, base: str | None) -> Checkpoint:
    folder = found.path
    story = read_checkpoint(folder)
    adapter = (folder / ADAPTER).is_dir()
    weights = folder / (ADAPTER if adapter else TRANSFORMER)
    files = safetensors_in(weights)
    if _digest(weights, files) != story["weights"]:
        raise SoarBenchError(
            f"the weights in {folder} are not those that {CHECKPOINT_FILE} names; "
            "the folder is damaged or was changed by hand: train it again"
        )
    named = base or story["base"]["name"]
    stands_on = _base(name, named)
    if stands_on.digest != story["base"]["digest"]:
        raise SoarBenchError(
            f"{folder} was trained from another {story['base']['name']} "
            f"({story['base']['digest'][:12]}, {named} is {stands_on.digest[:12]}): restore that "
            "base, or name it with --base"
        )
    form, place = ("lora", files[0]) if adapter else ("transformer", weights)
    label = f"{story['name']}-seed{story['seed']}"
    return _standing_on(stands_on, name, found, form, place, label=label, story=story)


def _untold(name: str, found: Found, base: str | None) -> Checkpoint:
    """Weights of a transformer or a LoRA, which do not say how they were made."""
    if found.kind == "lora":
        base = base or _own_base(name, base_of(found.path))
    elif found.path.is_dir():
        for file in model_files(found.path).files:
            read_header(file)
    return _standing_on(_base(name, base), name, found, found.kind, found.path)


def _standing_on(
    base: Checkpoint, name: str, found: Found, form: str, weights: Path, **story: Any
) -> Checkpoint:
    """The checkpoint of weights, once they fit their base."""
    fitting = _fitting_folder if weights.is_dir() else _fitting_file
    return Checkpoint(
        **{"label": found.label, **story},
        name=name,
        form=form,
        pipeline=base.pipeline,
        digest=(_fitting_adapter if form == "lora" else fitting)(weights, base),
        base=(base.name, base.digest),
        weights=weights,
        revision=found.revision,
    )


def _fitting_folder(folder: Path, base: Checkpoint) -> str:
    """The digest of a transformer's folder on its base, once it fits."""
    pipeline = Pipeline(base.pipeline)
    weights = model_files(folder)

    def check() -> str:
        check_denoiser_folder(pipeline, folder, weights.files)
        return "fits"

    files = [*weights.files, folder / "config.json"]
    subject = f"fit of {folder.resolve()} on {base.pipeline.resolve()}"
    remember(subject, files, check, base.digest, versions())
    return _on(base, transformer=_digest(folder, weights.files))


def _fitting_file(file: Path, base: Checkpoint) -> str:
    """The same for a single file."""
    pipeline = Pipeline(base.pipeline)

    def check() -> str:
        if in_diffusers_names(pipeline, file):
            check_denoiser_shapes(pipeline, shapes_in([file]), file)
            return _digest(file, [file])
        check_denoiser_shapes(pipeline, converted_shapes(pipeline, file), file)
        return digest_tensors(converted(pipeline, file))

    subject = f"fit of {file.resolve()} on {base.pipeline.resolve()}"
    return _on(base, transformer=remember(subject, [file], check, base.digest, versions()))


def _fitting_adapter(weights: Path, base: Checkpoint) -> str:
    """The digest of an adapter's folder or file on its base, once it fits and changes something."""
    pipeline = Pipeline(base.pipeline)

    def check() -> str:
        adapter = check_adapter(pipeline, weights)
        identity = {
            "lora": digest_tensors(adapter.tensors),
            "settings": {"scale": dict(adapter.scales)},
        }
        return json.dumps(identity, sort_keys=True)

    files = sorted(weights.glob("adapter_*")) if weights.is_dir() else [weights]
    subject = f"adapter {weights.resolve()} on {base.pipeline.resolve()}"
    return _on(base, **json.loads(remember(subject, files, check, base.digest, versions())))


def _own_base(name: str, base: str) -> str:
    """The base that an adapter names itself, if it is here."""
    here = base in EMBEDDED or (base and Path(base).exists())
    if here:
        return base
    repository = hub.parse(base)
    if repository is not None and hub.is_here(repository):
        return base
    words = f" (it names {base}, which is not here)" if base else ""
    raise SoarBenchError(
        f"{name} holds no whole pipeline{words}: name the one it was trained from with --base (a "
        "folder, an embedded base or a hub id)"
    )


def _digest(weights: Path, files: Any) -> str:
    """SHA-256 of weights as they lie in files."""
    subject = f"digest of the weights {weights.resolve()}"
    return remember(subject, files, lambda: digest_weights(files))


def _on(base: Checkpoint, **parts: Any) -> str:
    """The digest of weights together with the pipeline they stand on."""
    return digest_of({"pipeline": base.digest, **parts})
