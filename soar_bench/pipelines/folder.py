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
        entries = {n: v for n, v in self.index.items() if n[:1] != "_" and n not in _NOT_LOADED}
        return {
            name: (str(value[0]), str(value[1]))
            for name, value in entries.items()
            if isinstance(value, list) and len(value) == 2 and value[0] is not None
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
        """Return every file that decides the images. SoarBenchError if weights are missing."""
        weights = (self.weight_files(name).files for name in self.models())
        return [*self.settings_files(), *chain(*weights)]

    def settings_files(self) -> list[Path]:
        """Return the settings and vocabularies of every component."""
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
    """Whether a component's file is one of its settings or vocabularies."""
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    weights = ".safetensors" in file.name or ".bin.index." in file.name
    return not hidden and not weights and file.suffix not in OTHER_FORMATS | {".md"}


def digest_pipeline(folder: Path) -> str:
    """Return the SHA-256 of a pipeline: tensors, settings and vocabularies of every component that
    model_index.json names.

    Keys of settings that begin with an underscore only tell who saved them, and do not count.
    SoarBenchError if a file is damaged.
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
                parts[name] = plain(json.loads(file.read_text("utf-8")))
            except (ValueError, RecursionError) as error:
                raise SoarBenchError(f"{file} is damaged: {error}") from None
        else:
            parts[name] = hashlib.sha256(file.read_bytes()).hexdigest()
    if pipeline.class_name != _FIRST_CLASS:
        parts["class"] = pipeline.class_name
    return digest_of(parts)


def plain(settings: Any) -> Any:
    """Return settings without the keys that only tell who saved them."""
    if not isinstance(settings, dict):
        return settings
    return {key: value for key, value in settings.items() if not key.startswith("_")}


def pipeline_folder(name: str) -> Path:
    """Return the folder of a pipeline by name or path. SoarBenchError if it is none."""
    folder = EMBEDDED.get(name, Path(name))
    if not folder.is_dir():
        if name in EMBEDDED:
            raise SoarBenchError(
                f"the weights of {name!r} are missing ({folder}); install soar-bench again"
            )
        raise unknown_name("pipeline folder or embedded base", name, list(EMBEDDED))
    _ = Pipeline(folder).class_name
    return folder
