"""LoRA adapters: peft's layout (a folder) and diffusers' (one file, also of other trainers).

Both are brought onto a base by their own library. What was brought is then read off the models and
compared with the file, tensor by tensor name, so that nothing is passed over in silence.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soar_bench.checkpoints.lora_files import as_diffusers, wide
from soar_bench.core.errors import SoarBenchError
from soar_bench.core.files import read_json
from soar_bench.core.text import first_few
from soar_bench.pipelines import Pipeline
from soar_bench.pipelines.models import empty_model, pipeline_class
from soar_bench.pipelines.weights import check_stored, convert_first, read_header

PEFT_CONFIG = "adapter_config.json"
PEFT_WEIGHTS = "adapter_model.safetensors"
DIFFUSERS_WEIGHTS = "pytorch_lora_weights.safetensors"
#: What the adapter is called on the models it is brought onto.
_NAME = "judged"
_A, _B = ".lora_A.weight", ".lora_B.weight"
_MAGNITUDE = (".lora_magnitude_vector", ".lora_magnitude_vector.weight")
#: Ways to start training that leave the base as it was; the others need a changed base.
_PLAIN_STARTS = (True, False, "gaussian", "eva", "orthogonal")


@dataclass(frozen=True)
class Adapter:
    """Tensors and scales of an adapter, whatever its layout."""

    #: by ``component.module.lora_A.weight`` and the like
    tensors: Mapping[str, Any]
    #: by ``component.module``: alpha over rank, by which its product is multiplied
    scales: Mapping[str, float]

    @property
    def changes_something(self) -> bool:
        return any(
            scale != 0 and self.tensors[name + _A].any() and self.tensors[name + _B].any()
            for name, scale in self.scales.items()
        )


def is_lora_name(key: str) -> bool:
    """Return whether a tensor's name is an adapter's, in any trainer's spelling."""
    return key.startswith("lora_") or any(
        part in key for part in (".lora", "_lora.", ".lokr_", ".hada_")
    )


def check_adapter(pipeline: Pipeline, weights: Path) -> Adapter:
    """Return the adapter, if it fits the pipeline and changes something. SoarBenchError if not."""
    tensors = read_adapter(pipeline, weights)
    models = {name: empty_model(pipeline, name) for name in _components(pipeline, tensors)}
    _check_places(pipeline, weights, tensors, models)
    assembled = _assemble(pipeline, models)
    bring(assembled, pipeline, weights)
    scales = {
        f"{component}.{module}": scale
        for component, model in models.items()
        for module, _, scale in _layers(model)
    }
    if odd := [layer for layer, scale in scales.items() if not math.isfinite(scale)]:
        raise SoarBenchError(f"{weights} is damaged: the alpha of {odd[0]} is no finite number")
    adapter = Adapter(tensors, scales)
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise SoarBenchError(f"{weights} is damaged: {name} holds values that are not numbers")
    if not adapter.changes_something:
        raise SoarBenchError(
            f"{weights} changes nothing: in every layer one of its matrices or its alpha is zero, "
            "so its images would be the base's; was it saved before training?"
        )
    return adapter


def bring(assembled: Any, pipeline: Pipeline, weights: Path, dtype: Any = None) -> None:
    """Put the adapter onto the loaded models of a diffusers pipeline, active and not merged.

    SoarBenchError if anything of the file found no place.
    """
    models = {
        name: model
        for name in pipeline.models()
        if (model := getattr(assembled, name, None)) is not None
    }
    try:
        if weights.is_dir():
            _bring_peft(models[pipeline.denoiser], weights)
        else:
            with as_diffusers(pipeline, weights) as (file, alphas):
                assembled.load_lora_weights(
                    str(file.parent),
                    weight_name=file.name,
                    adapter_name=_NAME,
                    local_files_only=True,
                    use_safetensors=True,
                )
            for component, model in models.items():
                _scale(model, component, alphas)
    except (ValueError, RuntimeError, KeyError, TypeError, AttributeError, OSError) as error:
        reason = " ".join(str(error).split())[:300]
        raise SoarBenchError(
            f"{weights} cannot be brought onto {pipeline.folder}: {reason}"
        ) from None
    loaded: set[str] = set()
    for component, model in models.items():
        for module, layer, _ in _layers(model):
            if layer.disable_adapters or _NAME not in layer.active_adapters:
                raise SoarBenchError(f"{weights} was brought onto {component} but is not active")
            loaded |= {f"{component}.{module}{_A}", f"{component}.{module}{_B}"}
            if dtype is not None:
                for held in (layer.lora_A, layer.lora_B, layer.lora_magnitude_vector):
                    if _NAME in held:
                        held[_NAME].to(dtype)
    expected = {name for name in read_adapter(pipeline, weights) if name.endswith((_A, _B))}
    if expected != loaded:
        faults = sorted(expected ^ loaded)
        raise SoarBenchError(f"{weights} does not fit {pipeline.folder}: {first_few(faults)}")


def _scale(model: Any, component: str, alphas: Mapping[str, float]) -> None:
    """Set the scale of every layer whose alpha diffusers did not take from the file."""
    for module, layer, _ in _layers(model):
        alpha = alphas.get(f"{component}.{module}", alphas.get(component))
        if alpha is not None:
            layer.lora_alpha[_NAME] = alpha
            layer.scaling[_NAME] = alpha / layer.r[_NAME]


def base_of(weights: Path) -> str:
    """The base that an adapter's own settings name; empty if they name none."""
    if not weights.is_dir():
        return ""
    return str(read_json(weights / PEFT_CONFIG).get("base_model_name_or_path") or "")


def read_adapter(pipeline: Pipeline, weights: Path) -> dict[str, Any]:
    """The adapter's tensors by ``component.module.lora_A.weight`` and the like.

    SoarBenchError if it holds something else.
    """
    if weights.is_dir():
        return _read_peft(pipeline, weights)
    return _read_diffusers(pipeline, weights)


def _read_peft(pipeline: Pipeline, folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    settings = read_json(folder / PEFT_CONFIG)
    kind = settings.get("peft_type")
    if kind != "LORA":
        raise SoarBenchError(f"{folder} is an adapter of the kind {kind}; only LORA can be judged")
    start = settings.get("init_lora_weights", True)
    if start not in _PLAIN_STARTS or settings.get("layer_replication"):
        raise SoarBenchError(
            f"{folder} stands on a base that was changed when training began "
            f"(init_lora_weights={start!r}): convert it to an ordinary LoRA with peft first"
        )
    for key in ("r", "lora_alpha"):
        if not isinstance(settings.get(key, 8), int | float):
            raise SoarBenchError(f"{folder / PEFT_CONFIG} states no number as {key}: correct it")
    if parts := settings.get("modules_to_save"):
        raise SoarBenchError(
            f"{folder} has whole layers beside its matrices (modules_to_save: {str(parts)[:80]}): "
            "merge it into a transformer"
        )
    file = folder / PEFT_WEIGHTS
    if not file.is_file():
        others = sorted(folder.glob("adapter_model.*"))
        raise convert_first(others[0]) if others else SoarBenchError(f"{file} is missing")
    check_stored(read_header(file), file)
    tensors = {
        f"{pipeline.denoiser}.{name.removeprefix('base_model.model.')}": wide(tensor)
        for name, tensor in load_file(file).items()
    }
    with_magnitude = {n.removesuffix(end) for n in tensors for end in _MAGNITUDE if n.endswith(end)}
    if settings.get("use_dora") and (
        lacking := sorted({n.removesuffix(_A) for n in tensors if n.endswith(_A)} - with_magnitude)
    ):
        raise SoarBenchError(
            f"{folder} is a DoRA (use_dora) without the magnitudes of {first_few(lacking)}: the "
            "copy is incomplete"
        )
    return _only_lora(folder, tensors, (_A, _B, *_MAGNITUDE))


def _bring_peft(model: Any, folder: Path) -> None:
    from peft import PeftModel

    PeftModel.from_pretrained(
        model,
        str(folder),
        adapter_name=_NAME,
        is_trainable=False,
        torch_device="cpu",
        autocast_adapter_dtype=False,
        low_cpu_mem_usage=True,
    )


def _read_diffusers(pipeline: Pipeline, file: Path) -> dict[str, Any]:
    from diffusers.loaders import StableDiffusionXLLoraLoaderMixin

    header = read_header(file)
    if any(re.search(r"dora_scale|\.lokr_|\.hada_", name) for name in header.shapes):
        raise SoarBenchError(
            f"{file} is a DoRA, LoKr or LoHa adapter, of which diffusers loads a part or none: "
            "save it in peft's layout, or merge it into a transformer"
        )
    kind = pipeline_class(pipeline)
    if not hasattr(kind, "lora_state_dict"):
        raise SoarBenchError(f"diffusers loads no LoRA onto a {pipeline.class_name}")
    extra = {}
    if issubclass(kind, StableDiffusionXLLoraLoaderMixin):
        extra["unet_config"] = empty_model(pipeline, pipeline.denoiser).config
    try:
        with as_diffusers(pipeline, file) as (place, _alphas):
            tensors, *_ = kind.lora_state_dict(
                str(place.parent),
                weight_name=place.name,
                local_files_only=True,
                use_safetensors=True,
                return_lora_metadata=True,
                return_alphas=True,
                **extra,
            )
        whole = _peft_names(pipeline, file, tensors)
    except (ValueError, KeyError, RuntimeError, AttributeError, IndexError) as error:
        reason = " ".join(str(error).split())[:300]
        raise SoarBenchError(
            f"{file} is no LoRA for a {pipeline.class_name} that diffusers knows: {reason}"
        ) from None
    return _only_lora(file, whole, (_A, _B))


def _peft_names(pipeline: Pipeline, file: Path, tensors: Mapping[str, Any]) -> dict[str, Any]:
    """The same tensors under ``component.module.lora_A.weight`` and the like."""
    from diffusers.utils import convert_unet_state_dict_to_peft

    parts: dict[str, dict[str, Any]] = {}
    astray = []
    for name, tensor in tensors.items():
        component, _, rest = name.partition(".")
        if component in pipeline.components:
            parts.setdefault(component, {})[rest] = tensor
        else:
            astray.append(name)
    if astray:
        raise SoarBenchError(
            f"{file} has tensors for no part of {pipeline.folder}: {first_few(sorted(astray))}; "
            "was it trained for another kind of pipeline?"
        )
    whole: dict[str, Any] = {}
    for component, part in parts.items():
        if component.startswith("text_encoder"):
            part = _text_names(pipeline, component, part)
        elif not all(".lora_A" in name or ".lora_B" in name for name in part):
            part = convert_unet_state_dict_to_peft(part)
        whole |= {f"{component}.{name}": tensor for name, tensor in part.items()}
    return whole


def _text_names(pipeline: Pipeline, component: str, part: dict[str, Any]) -> dict[str, Any]:
    """Names as the installed transformers has them: older ones have one level more."""
    from diffusers.utils import convert_state_dict_to_diffusers, convert_state_dict_to_peft

    part = convert_state_dict_to_peft(convert_state_dict_to_diffusers(part))
    if not hasattr(empty_model(pipeline, component), "text_model"):
        part = {name.removeprefix("text_model."): tensor for name, tensor in part.items()}
    return part


def _only_lora(what: Path, tensors: dict[str, Any], known: tuple[str, ...]) -> dict[str, Any]:
    others = sorted(name for name in tensors if not name.endswith(known))
    if others or not tensors:
        words = f"tensors that are no LoRA's: {first_few(others)}" if others else "no tensors"
        raise SoarBenchError(f"{what} holds {words}; only LoRA matrices can be judged")
    lonely = sorted(
        name for name in tensors if name.endswith((_A, _B)) and _other(name) not in tensors
    )
    if lonely:
        raise SoarBenchError(f"{what} is damaged: without its other half: {first_few(lonely)}")
    return tensors


def _other(name: str) -> str:
    return name.removesuffix(_A) + _B if name.endswith(_A) else name.removesuffix(_B) + _A


def _components(pipeline: Pipeline, tensors: Mapping[str, Any]) -> list[str]:
    """The denoiser and whatever else the adapter changes."""
    changed = {name.split(".", 1)[0] for name in tensors}
    return [c for c in pipeline.models() if c == pipeline.denoiser or c in changed]


def _check_places(
    pipeline: Pipeline, weights: Path, tensors: Mapping[str, Any], models: Mapping[str, Any]
) -> None:
    """SoarBenchError unless every pair of matrices has a layer of its size."""
    missing, wrong = [], []
    layers = {component: dict(model.named_modules()) for component, model in models.items()}
    for name in sorted(name for name in tensors if name.endswith(_A)):
        component, _, module = name.removesuffix(_A).partition(".")
        layer = layers[component].get(module)
        place = getattr(layer, "weight", None)
        a, b = tensors[name], tensors[_other(name)]
        if place is None or place.ndim < 2:
            missing.append(f"{component}.{module}")
        elif min(a.ndim, b.ndim) < 2 or a.shape[0] != b.shape[1]:
            shapes = " and ".join("x".join(map(str, half.shape)) for half in (a, b))
            wrong.append(f"{component}.{module} has matrices of {shapes}, which have no product")
        elif (b.shape[0], a.shape[1]) != place.shape[:2]:
            wrong.append(
                f"{component}.{module} is {place.shape[0]}x{place.shape[1]}, its matrices make "
                f"{b.shape[0]}x{a.shape[1]}"
            )
    if missing or wrong:
        words = [f"the base has no {first_few(missing)}"] if missing else []
        words += [first_few(wrong)] if wrong else []
        raise SoarBenchError(
            f"{weights} does not fit its base {pipeline.folder}: {'; '.join(words)}; name the base "
            "it was trained from with --base"
        )


def _assemble(pipeline: Pipeline, models: Mapping[str, Any]) -> Any:
    """A diffusers pipeline of these models alone."""
    parts = {name: models.get(name) for name in pipeline.components if name != "scheduler"}
    if "safety_checker" in pipeline.index:
        parts |= {"safety_checker": None, "requires_safety_checker": False}
    return pipeline_class(pipeline).from_pretrained(pipeline.folder, local_files_only=True, **parts)


def _layers(model: Any) -> Iterator[tuple[str, Any, float]]:
    """Name, layer and scale wherever the adapter lies on a model."""
    from peft.tuners.lora import LoraLayer

    for name, layer in model.named_modules():
        if isinstance(layer, LoraLayer) and _NAME in layer.lora_A:
            yield name, layer, float(layer.scaling[_NAME])
