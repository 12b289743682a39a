"""Checks that a transformer's own weights fit their pipeline; headers only are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from soar_bench.core.errors import SoarBenchError
from soar_bench.core.files import read_json
from soar_bench.core.temporary import scratch_folder
from soar_bench.core.text import first_few
from soar_bench.pipelines.folder import Pipeline, plain
from soar_bench.pipelines.models import (
    Shapes,
    check_settings,
    compare,
    empty,
    empty_model,
    model_class,
    shapes_in,
)


def check_denoiser_folder(pipeline: Pipeline, folder: Path, files: Sequence[Path]) -> None:
    """Raise SoarBenchError unless a transformer's folder fits the pipeline."""
    cls = model_class(pipeline, pipeline.denoiser)
    own = read_json(folder / "config.json")
    name = own.get("_class_name", cls.__name__)
    if name != cls.__name__:
        raise SoarBenchError(
            f"{folder} holds a {name}, its base {pipeline.folder} has a {cls.__name__}: "
            "name the base it was trained from with --base"
        )
    check_settings(own, folder)
    settings = _settings(cls, own, folder)
    base = pipeline.folder / pipeline.denoiser
    expected = _settings(cls, pipeline.config(pipeline.denoiser), base)
    different = [
        f"{key} is {settings.get(key)}, not {value}"
        for key, value in sorted(expected.items())
        if _listed(settings.get(key)) != _listed(value)
    ]
    if different:
        raise SoarBenchError(
            f"{folder} does not fit its base {pipeline.folder}: {first_few(different)}; name the "
            "base it was trained from with --base"
        )
    check_denoiser_shapes(pipeline, shapes_in(files), folder)


def check_denoiser_shapes(pipeline: Pipeline, shapes: Shapes, place: Path) -> None:
    """Raise SoarBenchError unless tensors of these names and shapes are the pipeline's denoiser."""
    faults = compare(empty_model(pipeline, pipeline.denoiser), shapes)
    faults.refuse(f"{place} does not fit its base {pipeline.folder}")


@contextmanager
def one_file_folder(pipeline: Pipeline, file: Path) -> Iterator[Path]:
    """Yield a model's folder made of links to one file and to the pipeline's settings."""
    with scratch_folder() as folder:
        settings = pipeline.folder / pipeline.denoiser / "config.json"
        (folder / "config.json").symlink_to(settings.resolve())
        (folder / "diffusion_pytorch_model.safetensors").symlink_to(file.resolve())
        yield folder


def _settings(cls: Any, config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return a folder's settings with the class's defaults filled in."""
    return plain(dict(empty(cls, config, f"{folder / 'config.json'}").config))


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value  # JSON knows no tuples
