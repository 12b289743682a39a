"""From a name to weights that can be judged, with their digest and the story of their training.

:func:`resolve` checks everything that can be checked without loading weights. Its findings are
cached (:mod:`soar_bench.core.digests`): a checkpoint that has not changed is not read again, and no
torch imported.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from soar_bench.checkpoints import hub
from soar_bench.checkpoints.adapters import base_of, check_adapter
from soar_bench.checkpoints.fit import check_denoiser_folder, check_denoiser_shapes
from soar_bench.checkpoints.forms import Located, exists, find, trained_at
from soar_bench.checkpoints.single_file import converted, converted_shapes, in_diffusers_names
from soar_bench.checkpoints.types import Checkpoint
from soar_bench.core.digests import (
    digest_of,
    digest_tensors,
    remember,
    safetensors_in,
    versions,
    weights_digest,
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

__all__ = [
    "EMBEDDED", "Checkpoint", "digest_pipeline", "image_size", "is_here", "pipeline_folder",
    "resolve", "root_of",
]  # fmt: skip


def resolve(name: str, base: str | None = None) -> Checkpoint:
    """Return the checkpoint of that name, checked against the base it stands on.

    ``name`` is an embedded base, a file, a folder, or a hub id in the hub's cache. ``base`` names
    the pipeline that weights stand on. SoarBenchError if there is none that can be judged.
    """
    located = find(name)
    try:
        if located.kind == "pipeline":
            folder = located.path
            check_pipeline(folder)
            digest = digest_pipeline(folder)
            return Checkpoint(
                located.label, name, "pipeline", folder, digest, revision=located.revision
            )
        if located.kind == "trained":
            return _trained(name, located, base)
        return _untold(name, located, base)
    except TrainingError as error:
        raise SoarBenchError(str(error)) from None


def is_here(name: str) -> bool:
    """Return whether there is a file, a folder or a copy of a hub's repository of that name."""
    if name in EMBEDDED or exists(Path(name)):
        return True
    hub_id = hub.parse(name)
    return hub_id is not None and hub.is_here(hub_id)


def root_of(name: str) -> str:
    """Return the name of the pipeline that a checkpoint of soar-bench stands on; that of anything
    else is its own. Reads the checkpoint's story alone. SoarBenchError if that is damaged.
    """
    folder = trained_at(name)
    return str(_root(read_checkpoint(folder)["base"])["name"]) if folder else name


def image_size(checkpoint: Checkpoint, protocol: Protocol) -> int:
    """Return the images' side in pixels: see :func:`soar_bench.pipelines.sizes.image_size`."""
    return sizes.image_size(Pipeline(checkpoint.pipeline), protocol.resolution, checkpoint.name)


def _base(name: str, base: str | None, hint: str = "") -> Checkpoint:
    """Return the pipeline that weights stand on."""
    if not base:
        raise SoarBenchError(
            f"{name} holds no whole pipeline{hint}: name the one it was trained from with --base "
            "(a folder, an embedded base or a hub id)"
        )
    if find(base).kind != "pipeline":
        raise SoarBenchError(
            f"the base {base} is no whole pipeline itself: name the pipeline that {name} stands on"
        )
    return resolve(base)


def _trained(name: str, located: Located, base: str | None) -> Checkpoint:
    folder = located.path
    story = read_checkpoint(folder)
    adapter = (folder / ADAPTER).is_dir()
    weights = folder / (ADAPTER if adapter else TRANSFORMER)
    files = safetensors_in(weights)
    if weights_digest(files) != story["weights"]:
        raise SoarBenchError(
            f"the weights in {folder} are not those that {CHECKPOINT_FILE} names; "
            "the folder is damaged or was changed by hand: train it again"
        )
    # Nothing of the checkpoint that training went on from is left in whole weights.
    stands_on = _recorded(name, folder, story["base"] if adapter else _root(story["base"]), base)
    form, place = ("lora", files[0]) if adapter else ("transformer", weights)
    located = replace(located, label=f"{story['name']}-seed{story['seed']}")
    return _standing_on(stands_on, name, located, form, place, story)


def _root(base: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the pipeline at the beginning of a chain of trainings, as a story has its base."""
    while "story" in base:
        base = base["story"]["base"]
    return base


def _recorded(name: str, folder: Path, recorded: Mapping[str, Any], base: str | None) -> Checkpoint:
    """Return the pipeline or checkpoint that a story names, or ``base`` in its place: that of the
    same digest, or the pipeline that the named checkpoint stands on.
    """
    named, root = str(recorded["name"]), base
    if base and ("story" not in recorded or find(base).kind == "trained"):
        named, root = base, None
    try:
        stands_on = resolve(named, root) if "story" in recorded else _base(name, named)
    except SoarBenchError as error:
        raise SoarBenchError(f"{folder} was trained from {named}: {error}") from None
    if stands_on.digest != recorded["digest"]:
        raise SoarBenchError(
            f"{folder} was trained from another {recorded['name']} "
            f"({recorded['digest'][:12]}, {named} is {stands_on.digest[:12]}): restore that "
            "base, or name it with --base"
        )
    return stands_on


def _untold(name: str, located: Located, base: str | None) -> Checkpoint:
    """Return the checkpoint of a transformer or a LoRA that does not say how it was made."""
    hint = ""
    if located.kind == "lora":
        if not base and (own := base_of(located.path)):
            if is_here(own):
                base = own
            else:
                hint = f" (it names {own}, which is not here)"
    elif located.path.is_dir():
        for file in model_files(located.path).files:
            read_header(file)
    return _standing_on(_base(name, base, hint), name, located, located.kind, located.path)


def _standing_on(
    base: Checkpoint, name: str, located: Located, form: str, weights: Path, story: Any = None
) -> Checkpoint:
    """Return the checkpoint of weights, once they fit their base."""
    fitting = _fitting_folder if weights.is_dir() else _fitting_file
    parts = (_fitting_adapter if form == "lora" else fitting)(weights, base)
    digest = digest_of({"pipeline": base.digest, **parts})
    return Checkpoint(
        located.label,
        name,
        form,
        base.pipeline,
        digest,
        base.root,
        weights,
        located.revision,
        story or {},
        base if base.weights else None,
    )


def _fitting_folder(folder: Path, base: Checkpoint) -> dict[str, Any]:
    """Return the digest of a transformer's folder, once it fits its base."""
    pipeline, weights = Pipeline(base.pipeline), model_files(folder)

    def check() -> str:
        check_denoiser_folder(pipeline, folder, weights.files)
        return "fits"

    _remember_fit("fit of", folder, base, [*weights.files, folder / "config.json"], check)
    return {"transformer": weights_digest(weights.files)}


def _fitting_file(file: Path, base: Checkpoint) -> dict[str, Any]:
    """Return the digest of a transformer's single file, once it fits its base."""
    pipeline = Pipeline(base.pipeline)

    def check() -> str:
        if in_diffusers_names(pipeline, file):
            check_denoiser_shapes(pipeline, shapes_in([file]), file)
            return weights_digest([file])
        check_denoiser_shapes(pipeline, converted_shapes(pipeline, file), file)
        return digest_tensors(converted(pipeline, file))

    return {"transformer": _remember_fit("fit of", file, base, [file], check)}


def _fitting_adapter(weights: Path, base: Checkpoint) -> dict[str, Any]:
    """Return the digest and settings of an adapter, once it fits its base and changes something."""

    def check() -> str:
        adapter = check_adapter(Pipeline(base.pipeline), weights)
        scales = {"scale": dict(adapter.scales)}
        parts = {"lora": digest_tensors(adapter.tensors), "settings": scales}
        return json.dumps(parts, sort_keys=True)

    files = sorted(weights.glob("adapter_*")) if weights.is_dir() else [weights]
    parts: dict[str, Any] = json.loads(_remember_fit("adapter", weights, base, files, check))
    return parts


def _remember_fit(
    kind: str, weights: Path, base: Checkpoint, files: Sequence[Path], check: Callable[[], str]
) -> str:
    subject = f"{kind} {weights.resolve()} on {base.pipeline.resolve()}"
    return remember(subject, files, check, base.digest, versions())
