"""A pipeline's folder: its components, the files that decide the images, and its digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from soar_bench.core.digests import digest_of, digest_weights, remember
from soar_bench.core.errors import SoarBenchError, unknown_name
from soar_bench.core.files import read_json
from soar_bench.pipelines.weights import OTHER_FORMATS, WeightFiles, model_files, read_header

INDEX = "model_index.json"
#: Pipelines that come with the package.
EMBEDDED: dict[str, Path] = {"shapes": Path(__file__).parents[1] / "shapes" / "weights" / "base"}
#: Judges finished images and blackens some; it is not loaded, and no part of what makes an image.
_NOT_LOADED = ("safety_checker",)
#: Digests of this class do not name it: they were published before there were others.
_FIRST_CLASS = "StableDiffusion3Pipeline"


@dataclass(frozen=True)
class Pipeline:
    """A pipeline's folder, as its model_index.json describes it."""

    folder: Path

    @cached_property
    def index(self) -> dict[str, Any]:
        index = self.folder / INDEX
        if not index.is_file():
            raise SoarBenchError(f"{self.folder} is not a diffusers pipeline: it has no {INDEX}")
        return read_json(index)

    @property
    def class_name(self) -> str:
        """Name of the diffusers class. SoarBenchError if the folder asks for its own code."""
        name = self.index.get("_class_name")
        if isinstance(name, list) and name:
            raise SoarBenchError(
                f"{self.folder} wants to run code of its own ({name[-1]}), which is never done: "
                "only pipeline classes of diffusers can be evaluated"
            )
        if not isinstance(name, str):
            raise SoarBenchError(f"{self.folder / INDEX} is damaged: it names no _class_name")
        return name

    @property
    def components(self) -> dict[str, tuple[str, str]]:
        """Library and class of every component that is loaded, by name."""
        return {
            name: (str(value[0]), str(value[1]))
            for name, value in self.index.items()
            if not name.startswith("_")
            and isinstance(value, list)
            and len(value) == 2
            and value[0] is not None
            and name not in _NOT_LOADED
        }

    @property
    def denoiser(self) -> str:
        """The component that is trained: ``transformer`` or ``unet``."""
        for name in ("transformer", "unet"):
            if name in self.components:
                return name
        raise SoarBenchError(f"{self.folder} has neither a transformer nor a unet")

    def config(self, component: str) -> dict[str, Any]:
        """Settings of a model."""
        return read_json(self.folder / component / "config.json")

    def models(self) -> list[str]:
        """Names of the components with weights."""
        return [name for name in self.components if (self.folder / name / "config.json").is_file()]

    def files(self) -> list[Path]:
        """Every file that decides the images: settings, vocabularies, and the weights that are
        loaded. SoarBenchError if weights are missing.
        """
        files = self.settings_files()
        for name in self.models():
            files += self.weight_files(name).files
        return files

    def settings_files(self) -> list[Path]:
        """Those of them that hold no weights."""
        files = [self.folder / INDEX]
        for name in self.components:
            part = self.folder / name
            if not part.is_dir():
                raise SoarBenchError(f"{self.folder} lacks the folder {name} that {INDEX} names")
            files += [f for f in sorted(part.rglob("*")) if f.is_file() and _counts(f, part)]
        return files

    def weight_files(self, component: str) -> WeightFiles:
        return model_files(self.folder / component)


def _counts(file: Path, folder: Path) -> bool:
    """Whether a file that holds no weights is part of what a component is."""
    name = file.relative_to(folder).as_posix()
    if any(part.startswith(".") for part in name.split("/")) or ".safetensors" in file.name:
        return False
    weights = file.suffix in OTHER_FORMATS or ".bin.index." in file.name
    return not weights and file.suffix != ".md"


def digest_pipeline(folder: Path) -> str:
    """Return the SHA-256 of a pipeline: every component's tensors, settings and vocabularies.

    Only components that model_index.json names count, and of their weights only those that are
    loaded. Keys of settings that begin with an underscore only tell who saved them, and do not
    count. SoarBenchError if a file is damaged.
    """
    pipeline = Pipeline(folder)

    def digest() -> str:
        weights = {name: pipeline.weight_files(name).files for name in pipeline.models()}
        for file in chain(*weights.values()):
            read_header(file)
        return digest_with(pipeline, {name: digest_weights(f) for name, f in weights.items()})

    return remember(f"digest of the pipeline {folder.resolve()}", pipeline.files(), digest)


def digest_with(pipeline: Pipeline, weights: Mapping[str, str]) -> str:
    """Return the digest of a pipeline from the digests of its models' weights, by name."""
    parts: dict[str, Any] = {f"{name}/weights": digest for name, digest in weights.items()}
    for file in pipeline.settings_files():
        name = file.relative_to(pipeline.folder).as_posix()
        if file.suffix == ".json" and "tokenizer" not in name:
            try:
                settings = json.loads(file.read_text("utf-8"))
            except (ValueError, RecursionError) as error:
                raise SoarBenchError(f"{file} is damaged: {error}") from None
            if isinstance(settings, dict):
                settings = {k: v for k, v in settings.items() if not k.startswith("_")}
            parts[name] = settings
        else:
            parts[name] = hashlib.sha256(file.read_bytes()).hexdigest()
    if pipeline.class_name != _FIRST_CLASS:
        parts["class"] = pipeline.class_name
    return digest_of(parts)


def pipeline_folder(name: str) -> Path:
    """Return the folder of a pipeline given by name or path, looked at but not checked.

    SoarBenchError if it is none.
    """
    folder = EMBEDDED.get(name, Path(name))
    if not folder.is_dir():
        if name in EMBEDDED:
            raise SoarBenchError(
                f"the weights of {name!r} are missing ({folder}); install soar-bench again"
            )
        raise unknown_name("pipeline folder or embedded base", name, list(EMBEDDED))
    _ = Pipeline(folder).class_name
    return folder
