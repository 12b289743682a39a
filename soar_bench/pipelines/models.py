"""Classes of a pipeline's components, models without memory, and whether weights fit them.

A model on torch's ``meta`` device has shapes and no numbers; of the files, headers are read only.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from soar_bench.core.digests import remember, versions
from soar_bench.core.errors import SoarBenchError
from soar_bench.core.files import read_json
from soar_bench.core.text import first_few
from soar_bench.core.torchvision import mend_torchvision
from soar_bench.pipelines.folder import INDEX, Pipeline, plain
from soar_bench.pipelines.weights import check_stored, read_header

#: Arguments that a text-to-image call has, and those that only other pipelines' calls have.
_NEEDED = ("prompt", "num_inference_steps")
_FOREIGN = ("strength", "mask_image", "control_image", "num_frames", "video", "video_length")
#: Kinds of attention that need no code but the libraries' own.
_ATTENTION = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")
#: Parts of fuller models, and buffers of older ones, that the libraries leave out of a model.
_SURPLUS = re.compile(
    r".*position_ids$|(vision_model|visual_projection|logit_scale|decoder|lm_head)\b"
)
#: One of these is in every tokenizer's folder; transformers makes an empty one without a word.
_VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt", "*.model", "*.tiktoken")

#: Components that a class names and yet works without: SD3 then has zeros for T5's tokens.
MAY_LACK = {"StableDiffusion3Pipeline": ("text_encoder_3", "tokenizer_3")}

#: What libraries raise for settings that they cannot make a model of.
_MISTAKES = (
    *(OSError, LookupError, ArithmeticError, ImportError, RecursionError),
    *(ValueError, TypeError, AttributeError, RuntimeError),
)

Shapes = Mapping[str, tuple[int, ...]]


def quieten() -> None:
    """Keep the libraries' loading bars and advice off the screen; their errors still show."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for logging in (diffusers_logging, transformers_logging):
        logging.set_verbosity_error()
        logging.disable_progress_bar()


@contextmanager
def load_errors(name: str) -> Iterator[None]:
    """Turn errors of the libraries into a SoarBenchError that says ``name`` cannot be loaded."""
    import torch
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (*_MISTAKES, SafetensorError, StrictDataclassError) as error:
        plain_words = re.sub(
            r"\b\w+Error: ", "", re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", str(error))
        )
        reason = " ".join(plain_words.split())[:300]
        raise SoarBenchError(f"{name} cannot be loaded: {reason}") from None


def _libraries() -> tuple[Any, Any]:
    """Import diffusers and transformers, quiet."""
    mend_torchvision()
    quieten()
    import diffusers
    import transformers

    return diffusers, transformers


def pipeline_class(pipeline: Pipeline) -> Any:
    """Return the class of diffusers. SoarBenchError if it is none that makes images from text."""
    diffusers, _ = _libraries()
    name = pipeline.class_name
    cls = getattr(diffusers, name, None)
    if not (inspect.isclass(cls) and issubclass(cls, diffusers.DiffusionPipeline)):
        raise SoarBenchError(
            f"{pipeline.folder} holds a {name}, which diffusers {diffusers.__version__} does not "
            "have: install the version it was saved with"
        )
    call = inspect.signature(cls.__call__).parameters
    foreign = any(p in call for p in _FOREIGN) or "controlnet" in pipeline.components
    foreign |= "image" in call and not _makes_images_from_text(cls)
    if foreign or not all(p in call for p in _NEEDED):
        raise SoarBenchError(
            f"{pipeline.folder} holds a {name}, which does not make images from text alone"
        )
    return cls


def _makes_images_from_text(cls: Any) -> bool:
    # Imported for the few that need it: it imports every pipeline, which takes a second.
    from diffusers.pipelines.auto_pipeline import AUTO_TEXT2IMAGE_PIPELINES_MAPPING

    return cls in AUTO_TEXT2IMAGE_PIPELINES_MAPPING.values()


def model_class(pipeline: Pipeline, component: str) -> Any:
    """Return the class of a component with weights. SoarBenchError if no library has it."""
    diffusers, transformers = _libraries()
    library, name = pipeline.components[component]
    modules = {"diffusers": diffusers, "transformers": transformers}
    module = modules.get(library) or getattr(diffusers.pipelines, library, None)
    cls = getattr(module, name, None)
    if cls is None:
        raise SoarBenchError(
            f"{pipeline.folder} wants {library}.{name} as its {component}, which the installed "
            "libraries do not have; code in a folder is never run"
        )
    return cls


def empty_model(pipeline: Pipeline, component: str) -> Any:
    """Make a model without memory from its settings."""
    place = pipeline.folder / component / "config.json"
    return empty(model_class(pipeline, component), pipeline.config(component), str(place))


def empty(cls: Any, config: dict[str, Any], name: str) -> Any:
    """Make a model of a class and settings without memory; ``name`` is theirs in an error."""
    import torch
    from accelerate import init_empty_weights

    def make() -> Any:
        if hasattr(cls, "from_config"):
            return cls.from_config(plain(config))
        return cls(cls.config_class.from_dict(config))

    with load_errors(name):
        try:
            with torch.device("meta"):
                return make()
        except RuntimeError:  # a model that looks at values while it is made
            with init_empty_weights():
                return make()


def shapes_of(model: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def shapes_in(files: Iterable[Path]) -> Shapes:
    """Return the shapes of a model's weights by name.

    SoarBenchError if a file is damaged or its tensors are not weights as they are.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for file in files:
        header = read_header(file)
        check_stored(header, file)
        shapes |= header.shapes
    return shapes


def check_settings(config: Mapping[str, Any], place: Path) -> None:
    """Raise SoarBenchError if a model's settings ask for quantization or for code of others."""
    quantization = config.get("quantization_config")
    if quantization is not None:
        method = quantization.get("quant_method") if isinstance(quantization, dict) else ""
        raise SoarBenchError(
            f"{place} is quantized ({method or 'quantization_config'}), which is not read: use the "
            "weights in float32, bfloat16 or float16 that it was made from"
        )
    for key in ("_attn_implementation", "attn_implementation", "_attn_implementation_internal"):
        kernel = config.get(key)
        if kernel is not None and kernel not in _ATTENTION:
            raise SoarBenchError(
                f"{place} asks for the attention {str(kernel)[:80]!r}, which is not used: remove "
                f"{key} from its config.json"
            )


@dataclass(frozen=True)
class Faults:
    """Tensors that keep weights from fitting a model, by name."""

    missing: list[str]
    unexpected: list[str]
    #: with both shapes
    misshapen: list[str]

    def refuse(self, subject: str) -> None:
        """Raise SoarBenchError if there are any; ``subject`` begins the sentence."""
        faults = {
            "it lacks": self.missing,
            "it has a shape wrong:": self.misshapen,
            "it has tensors that have no place:": self.unexpected,
        }
        words = [f"{verb} {first_few(names)}" for verb, names in faults.items() if names]
        if words:
            raise SoarBenchError(f"{subject}: {'; '.join(words)}")


def compare(model: Any, shapes: Shapes) -> Faults:
    """Compare tensors of these names and shapes with a model of diffusers."""
    actual = dict(shapes)
    if hasattr(model, "_fix_state_dict_keys_on_load"):  # names of before 2023
        model._fix_state_dict_keys_on_load(actual)
    expected = shapes_of(model)
    ignored = getattr(model, "_keys_to_ignore_on_load_unexpected", None) or ()
    extra = sorted(actual.keys() - expected)
    shared = sorted(name for name in expected.keys() & actual if actual[name] != expected[name])
    return Faults(
        sorted(expected.keys() - actual),
        [name for name in extra if not any(re.search(pattern, name) for pattern in ignored)],
        [_misshapen(name, actual[name], expected[name]) for name in shared],
    )


def check_pipeline(folder: Path) -> None:
    """Raise SoarBenchError unless diffusers can make images from text with the folder's files.

    Reads headers, no weights, and only where files changed since the last check.
    """
    pipeline = Pipeline(folder)
    name, files = pipeline.class_name, pipeline.files()

    def check() -> str:
        check_named(pipeline)
        _ = pipeline.denoiser
        for component, (_library, class_name) in pipeline.components.items():
            part, cls = folder / component, model_class(pipeline, component)
            if "Tokenizer" in class_name and not any(any(part.glob(v)) for v in _VOCABULARIES):
                raise SoarBenchError(f"{part} holds no vocabulary: the copy is incomplete")
            for settings in part.glob("*_config.json"):
                read_json(settings)
            if component.startswith(("tokenizer", "scheduler")):
                with load_errors(str(part)):
                    cls.from_pretrained(part, local_files_only=True)
        for component in pipeline.models():
            check_component(pipeline, component)
        return name

    remember(f"check of all parts of the pipeline {folder.resolve()}", files, check, versions())


def check_named(pipeline: Pipeline) -> None:
    """Raise SoarBenchError unless the folder names every component that its class needs."""
    cls, here = pipeline_class(pipeline), pipeline.components.keys()
    parameters = inspect.signature(cls.__init__).parameters
    parts = [n for n, p in parameters.items() if n != "self" and p.default is p.empty]
    for name in (*parts, *cls._optional_components):
        if pipeline.index.get(name, "") is None:
            raise SoarBenchError(
                f"{pipeline.folder / INDEX} names nothing as {name}: write [null, null] there"
            )
    spare = (*cls._optional_components, *MAY_LACK.get(pipeline.class_name, ()))
    needed = {name for name in parts if name not in spare}
    encoders = {name for name in parts if name.startswith("text_encoder")}
    needed |= {name.replace("text_encoder", "tokenizer") for name in here & encoders} & {*parts}
    if encoders and here.isdisjoint(encoders):
        needed |= encoders
    if missing := sorted(needed - here):
        raise SoarBenchError(
            f"{pipeline.folder} lacks {first_few(missing)}, without which a {pipeline.class_name} "
            "makes no images: the copy is incomplete"
        )


def check_component(pipeline: Pipeline, component: str) -> None:
    """Raise SoarBenchError unless a pipeline's own weights are whole."""
    folder, weights = pipeline.folder / component, pipeline.weight_files(component)
    check_settings(pipeline.config(component), folder)
    shapes = shapes_in(weights.files)
    if pipeline.components[component][0] == "transformers":
        faults = _as_transformers_loads(model_class(pipeline, component), folder, weights.variant)
    else:
        faults = compare(empty_model(pipeline, component), shapes)
    surplus = [name for name in faults.unexpected if not _SURPLUS.match(name)]
    replace(faults, unexpected=surplus).refuse(f"{folder} is not whole")


def _as_transformers_loads(cls: Any, folder: Path, variant: str) -> Faults:
    """Compare weights with a model of transformers by its own loader, which reads headers only."""
    with load_errors(str(folder)):
        _, info = cls.from_pretrained(
            folder,
            variant=variant or None,
            device_map="meta",
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            local_files_only=True,
            use_safetensors=True,
        )
    return Faults(
        sorted(info["missing_keys"]),
        sorted(info["unexpected_keys"]),
        [_misshapen(*entry) for entry in sorted(info["mismatched_keys"])],
    )


def _misshapen(name: str, actual: Iterable[int], expected: Iterable[int]) -> str:
    return f"{name} {_x(actual)} instead of {_x(expected)}"


def _x(shape: Iterable[int]) -> str:
    return "x".join(str(side) for side in shape) or "scalar"
