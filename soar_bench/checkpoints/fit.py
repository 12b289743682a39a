"""Whether a transformer's own weights fit the pipeline they are brought to; reads headers only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from soar_bench.core.errors import SoarBenchError
from soar_bench.core.files import read_json
from soar_bench.core.text import first_few
from soar_bench.pipelines import Pipeline
from soar_bench.pipelines.models import (
    Shapes,
    check_settings,
    compare,
    empty,
    empty_model,
    model_class,
    plain,
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
    settings = _settings(cls, own)
    different = [
        f"{key} is {settings.get(key)}, not {value}"
        for key, value in sorted(_settings(cls, pipeline.config(pipeline.denoiser)).items())
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


class OneFileFolder:
    """A model's folder made of links to one file and to the pipeline's settings, while in use."""

    def __init__(self, pipeline: Pipeline, file: Path) -> None:
        self._pipeline, self._file = pipeline, file
        self._place = TemporaryDirectory(prefix="soar-bench-")

    def __enter__(self) -> Path:
        folder = Path(self._place.name)
        settings = self._pipeline.folder / self._pipeline.denoiser / "config.json"
        (folder / "config.json").symlink_to(settings.resolve())
        (folder / "diffusion_pytorch_model.safetensors").symlink_to(self._file.resolve())
        return folder

    def __exit__(self, *_: object) -> None:
        self._place.cleanup()


def _settings(cls: Any, config: dict[str, Any]) -> dict[str, Any]:
    """Settings with the class's defaults filled in, without notes on who saved them."""
    return plain(dict(empty(cls, config).config))


def _listed(value: Any) -> Any:
    """JSON knows no tuples."""
    return list(value) if isinstance(value, tuple) else value
