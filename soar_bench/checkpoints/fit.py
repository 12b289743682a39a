"""Whether weights fit the models they are for, found out on models without memory.

A model on torch's ``meta`` device has shapes and no numbers; of the files, headers are read only.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from soar_bench.checkpoints.pipelines import Pipeline
from soar_bench.checkpoints.weights import read_header, read_json
from soar_bench.core.errors import SoarBenchError
from soar_bench.core.text import first_few
from soar_bench.core.torchvision import mend_torchvision

#: What a text-to-image call asks for, and what only other pipelines' calls ask for.
_NEEDED = ("prompt", "num_inference_steps")
_FOREIGN = ("strength", "mask_image", "control_image", "num_frames", "video", "video_length")

Shapes = Mapping[str, tuple[int, ...]]


def pipeline_class(pipeline: Pipeline) -> Any:
    """The class of diffusers. SoarBenchError if there is none, or it makes no images from text."""
    diffusers, _ = _libraries()
    from diffusers.pipelines.auto_pipeline import AUTO_TEXT2IMAGE_PIPELINES_MAPPING

    name = pipeline.class_name
    found = getattr(diffusers, name, None)
    if not (inspect.isclass(found) and issubclass(found, diffusers.DiffusionPipeline)):
        raise SoarBenchError(
            f"{pipeline.folder} holds a {name}, which diffusers {diffusers.__version__} does not "
            "have: install the version it was saved with"
        )
    call = inspect.signature(found.__call__).parameters
    known = found in AUTO_TEXT2IMAGE_PIPELINES_MAPPING.values()
    foreign = [p for p in _FOREIGN if p in call]
    if "image" in call and not known:
        foreign.append("image")
    if "controlnet" in pipeline.components:
        foreign.append("controlnet")
    if foreign or not all(p in call for p in _NEEDED):
        raise SoarBenchError(
            f"{pipeline.folder} holds a {name}, which does not make images from text alone"
        )
    return found


def model_class(pipeline: Pipeline, component: str) -> Any:
    """The class of a component with weights. SoarBenchError if no library has it."""
    diffusers, transformers = _libraries()
    library, name = pipeline.components[component]
    places = {"diffusers": diffusers, "transformers": transformers}
    place = places.get(library) or getattr(diffusers.pipelines, library, None)
    found = getattr(place, name, None)
    if found is None:
        raise SoarBenchError(
            f"{pipeline.folder} wants {library}.{name} as its {component}, which the installed "
            "libraries do not have; code in a folder is never run"
        )
    return found


def _libraries() -> tuple[Any, Any]:
    """diffusers and transformers, quiet."""
    mend_torchvision()
    from training.pipeline import quieten

    quieten()
    import diffusers
    import transformers

    return diffusers, transformers


def check_component(pipeline: Pipeline, component: str) -> None:
    """SoarBenchError unless a pipeline's own weights are whole."""
    folder, weights = pipeline.folder / component, pipeline.weight_files(component)
    if pipeline.components[component][0] == "transformers":
        faults = _as_transformers_loads(model_class(pipeline, component), folder, weights.variant)
    else:
        faults = compare(empty_model(pipeline, component), _shapes_in(weights.files))
    # What is left over is the library's to ignore here: older files hold more than models now have.
    _refuse(f"{folder} is not whole", replace(faults, unexpected=[]))


def check_denoiser_folder(pipeline: Pipeline, folder: Path, files: Sequence[Path]) -> None:
    """SoarBenchError unless a transformer's folder fits the pipeline."""
    found = model_class(pipeline, pipeline.denoiser)
    here = read_json(folder / "config.json")
    name = here.get("_class_name", found.__name__)
    if name != found.__name__:
        raise SoarBenchError(
            f"{folder} holds a {name}, its base {pipeline.folder} has a {found.__name__}: "
            "name the base it was trained from with --base"
        )
    there = pipeline.config(pipeline.denoiser)
    different = _differences(_settings(found, here), _settings(found, there))
    if different:
        raise SoarBenchError(
            f"{folder} does not fit its base {pipeline.folder}: {first_few(different)}; name the "
            "base it was trained from with --base"
        )
    check_denoiser_shapes(pipeline, _shapes_in(files), folder)


def check_denoiser_shapes(pipeline: Pipeline, found: Shapes, what: Path) -> None:
    """SoarBenchError unless tensors of these names and shapes are the pipeline's denoiser."""
    faults = compare(empty_denoiser(pipeline), found)
    _refuse(f"{what} does not fit its base {pipeline.folder}", faults)


@dataclass(frozen=True)
class Faults:
    """What is wrong with weights for a model."""

    missing: list[str]
    unexpected: list[str]
    #: with both shapes
    misshapen: list[str]


def compare(model: Any, shapes: Shapes) -> Faults:
    """Tensors of these names and shapes against a model of diffusers."""
    here = dict(shapes)
    if hasattr(model, "_fix_state_dict_keys_on_load"):  # names of before 2023
        model._fix_state_dict_keys_on_load(here)
    expected = shapes_of(model)
    ignored = getattr(model, "_keys_to_ignore_on_load_unexpected", None) or ()
    return Faults(
        sorted(set(expected) - set(here)),
        sorted(n for n in set(here) - set(expected) if not any(re.search(i, n) for i in ignored)),
        [
            f"{name} {_x(here[name])} instead of {_x(expected[name])}"
            for name in sorted(set(expected) & set(here))
            if here[name] != expected[name]
        ],
    )


def _shapes_in(files: Iterable[Path]) -> Shapes:
    return {name: shape for file in files for name, shape in read_header(file).shapes.items()}


def empty_denoiser(pipeline: Pipeline) -> Any:
    """The pipeline's transformer or unet, without memory."""
    return empty_model(pipeline, pipeline.denoiser)


def empty_model(pipeline: Pipeline, component: str) -> Any:
    """A model without memory, made from its settings."""
    return _empty(model_class(pipeline, component), pipeline.config(component))


def _empty(found: Any, config: dict[str, Any]) -> Any:
    import torch
    from accelerate import init_empty_weights

    def make() -> Any:
        if hasattr(found, "from_config"):
            return found.from_config(_plain(config))
        return found(found.config_class.from_dict(config))

    try:
        with torch.device("meta"):
            return make()
    except (RuntimeError, NotImplementedError):  # a model that looks at values while it is made
        with init_empty_weights():
            return make()


def shapes_of(model: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


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


def _as_transformers_loads(found: Any, folder: Path, variant: str) -> Faults:
    """The same for a model of transformers, whose loader knows which names changed or are shared;
    it reads headers only.
    """
    from safetensors import SafetensorError

    try:
        _, info = found.from_pretrained(
            folder,
            variant=variant or None,
            device_map="meta",
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            local_files_only=True,
            use_safetensors=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise SoarBenchError(f"{folder} cannot be loaded: {reason}") from None
    shapes = [
        f"{name} {_x(here)} instead of {_x(there)}"
        for name, here, there in sorted(info["mismatched_keys"])
    ]
    return Faults(sorted(info["missing_keys"]), sorted(info["unexpected_keys"]), shapes)


def _refuse(what: str, faults: Faults) -> None:
    words = [
        f"{said} {first_few(names)}"
        for said, names in (
            ("it lacks", faults.missing),
            ("it has a shape wrong:", faults.misshapen),
            ("it has tensors that have no place:", faults.unexpected),
        )
        if names
    ]
    if words:
        raise SoarBenchError(f"{what}: {'; '.join(words)}")


def _settings(found: Any, config: dict[str, Any]) -> dict[str, Any]:
    """Settings with the class's defaults filled in, without notes on who saved them."""
    return _plain(dict(_empty(found, config).config))


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if not key.startswith("_")}


def _differences(here: dict[str, Any], there: dict[str, Any]) -> list[str]:
    return [
        f"{key} is {here.get(key)}, not {value}"
        for key, value in sorted(there.items())
        if _listed(here.get(key)) != _listed(value)
    ]


def _listed(value: Any) -> Any:
    """JSON knows no tuples."""
    return list(value) if isinstance(value, tuple) else value


def _x(shape: Iterable[int]) -> str:
    return "x".join(str(side) for side in shape) or "scalar"
