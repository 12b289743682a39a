"""LoRA files of other trainers, in the names, dtypes and with the alphas that diffusers loads.

For SD3, diffusers knows its own names alone. Those of kohya's scripts and ComfyUI (the original
layers, of which one holds query, key and value), of OneTrainer and of peft are brought to them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from soar_bench.core.errors import SoarBenchError
from soar_bench.core.temporary import scratch_folder
from soar_bench.core.text import first_few
from soar_bench.pipelines import Pipeline
from soar_bench.pipelines.models import empty_model
from soar_bench.pipelines.weights import check_values, read_header

_DIFFUSERS_METADATA = "lora_adapter_metadata"
_HALF = re.compile(r"(.+)\.lora[._](A|B|down|up)(\.default)?\.weight")
#: Names of (up, down) in a denoiser, and those in a text encoder that diffusers always knows.
_HALVES = (("lora_B", "lora_A"), ("lora_linear_layer.up", "lora_linear_layer.down"))
_PREFIX = re.compile(
    r"(lora_(unet|transformer)_|(model\.)?diffusion_model\.|base_model\.model\.|module\.)+"
)
_TEXT = re.compile(r"(?:lora_te|text_encoder_?|te)([123]?)[._]")
#: SD3's layers in their original names, with diffusers' for them; ``*`` is a block's number.
_SD3 = {
    "joint_blocks.*.x_block.attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "joint_blocks.*.x_block.attn.proj": ("attn.to_out.0",),
    "joint_blocks.*.x_block.attn2.qkv": ("attn2.to_q", "attn2.to_k", "attn2.to_v"),
    "joint_blocks.*.x_block.attn2.proj": ("attn2.to_out.0",),
    "joint_blocks.*.x_block.mlp.fc1": ("ff.net.0.proj",),
    "joint_blocks.*.x_block.mlp.fc2": ("ff.net.2",),
    "joint_blocks.*.x_block.adaLN_modulation.1": ("norm1.linear",),
    "joint_blocks.*.context_block.attn.qkv": (
        *("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    ),
    "joint_blocks.*.context_block.attn.proj": ("attn.to_add_out",),
    "joint_blocks.*.context_block.mlp.fc1": ("ff_context.net.0.proj",),
    "joint_blocks.*.context_block.mlp.fc2": ("ff_context.net.2",),
    "joint_blocks.*.context_block.adaLN_modulation.1": ("norm1_context.linear",),
    "x_embedder.proj": ("pos_embed.proj",),
    "context_embedder": ("context_embedder",),
    "t_embedder.mlp.0": ("time_text_embed.timestep_embedder.linear_1",),
    "t_embedder.mlp.2": ("time_text_embed.timestep_embedder.linear_2",),
    "y_embedder.mlp.0": ("time_text_embed.text_embedder.linear_1",),
    "y_embedder.mlp.2": ("time_text_embed.text_embedder.linear_2",),
    "final_layer.linear": ("proj_out",),
    "final_layer.adaLN_modulation.1": ("norm_out.linear",),
}


#: Settings in a header that change the scale of an adapter, and that are not applied from there.
_NOT_APPLIED = re.compile(
    r"alpha_pattern|use_dora|(use_)?rs_?lora|(use_)?rank_stabili[sz]ed(_lora)?|scaling|lora_scale",
    re.IGNORECASE,
)
#: An alpha inside a text that is no JSON.
_ALPHA_IN_TEXT = re.compile(r"(?<!conv_)alpha[\"'\s]*[:=]", re.IGNORECASE)
#: Keys of kohya's headers that state settings of the adapter.
_KOHYA_SETTINGS = ("ss_network_alpha", "ss_network_args")


@contextmanager
def as_diffusers(pipeline: Pipeline, file: Path) -> Iterator[tuple[Path, dict[str, float]]]:
    """Yield the file that diffusers is to load, and the alphas that it would not take from it.

    The file is the given one if it can be loaded as it is. The alphas are by ``component.module``,
    or by ``component`` for all of its layers. SoarBenchError if they cannot be told.
    """
    from safetensors.torch import load_file, save_file

    header = read_header(file)
    check_values(header, file, [name for name in header.dtypes if not name.endswith(".alpha")])
    tensors = load_file(file)
    renamed, alphas = _renamed(pipeline, file, tensors) or (tensors, {})
    own = {name.removesuffix(".alpha") for name in tensors if name.endswith(".alpha")}
    lacking = [m[1] for name in tensors if (m := _HALF.fullmatch(name)) and m[1] not in own]
    if _DIFFUSERS_METADATA in header.metadata:
        _check_diffusers_metadata(pipeline, header.metadata[_DIFFUSERS_METADATA], renamed, file)
    elif lacking or not own:
        stated = {
            component: alpha
            for component in pipeline.models()
            if (alpha := _stated_alpha(header.metadata, component, file)) is not None
        }
        if own and stated:
            raise SoarBenchError(
                f"{file} has an alpha for some layers, not for {first_few(sorted(set(lacking)))}, "
                "and another in its header: save it in peft's layout or with diffusers"
            )
        alphas = alphas if own else stated
        if not alphas and any(name.startswith("base_model.model.") for name in tensors):
            raise SoarBenchError(
                f"{file} is in peft's layout, in which adapter_config.json states the alpha: put "
                "that file beside it, and evaluate the folder"
            )
    values = {name: wide(tensor) for name, tensor in renamed.items()}
    if renamed is tensors and all(values[name] is tensors[name] for name in tensors):
        yield file, alphas
        return
    with scratch_folder() as folder:
        copy = folder / file.name
        save_file({k: v.contiguous() for k, v in values.items()}, copy, header.metadata)
        yield copy, alphas


def wide(tensor: Any) -> Any:
    """Return an 8-bit float tensor as float32, with which can be computed; others as they are."""
    return tensor.float() if tensor.element_size() == 1 else tensor


def _check_diffusers_metadata(
    pipeline: Pipeline, text: str, tensors: Mapping[str, Any], file: Path
) -> None:
    """Raise SoarBenchError unless the settings that diffusers takes an adapter's alphas from state
    them for every part of the pipeline that it changes.
    """
    settings = None
    with suppress(ValueError, RecursionError):
        settings = json.loads(text)
    for component in {name.partition(".")[0] for name in tensors} & set(pipeline.models()):
        needed = {"lora_alpha": int | float, "r": int, "target_modules": list | str}
        for key, kind in needed.items():
            key = f"{component}.{key}"
            if not isinstance(settings, dict) or not isinstance(settings.get(key), kind):
                raise SoarBenchError(
                    f"{file} does not state {key} in its header's {_DIFFUSERS_METADATA}, from "
                    "which its scale comes: save it in peft's layout or with diffusers"
                )


def _stated_alpha(metadata: Mapping[str, str], component: str, file: Path) -> float | None:
    """Return the alpha that a file's header states for a component; None if it states none."""
    general, own = set(), set()
    for key, value in _flat(metadata):
        place, _, last = key.rpartition(".")
        text = str(value)
        if text.lower() in ("", "none", "null", "false", "{}"):
            continue
        if _NOT_APPLIED.fullmatch(last):
            raise SoarBenchError(
                f"{file} states {last} in its header, which is not applied: save it in peft's "
                "layout or with diffusers"
            )
        if last.lower().endswith("alpha") and "conv" not in last.lower():
            if place == component:
                own.add(text)
            elif not place.startswith(("text_encoder", "transformer", "unet")):
                general.add(text)
        elif _ALPHA_IN_TEXT.search(text):
            general.add(f"{key} = {' '.join(text.split())[:60]}")
    stated = own or general
    try:
        numbers = {float(text) for text in stated}
    except ValueError:
        numbers = set()
    if stated and len(numbers) != 1:
        raise SoarBenchError(
            f"{file} states no single alpha in its header ({', '.join(sorted(stated))[:80]}): save "
            "it in peft's layout or with diffusers"
        )
    return numbers.pop() if numbers else None


def _flat(settings: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield a header's keys and values, with those of JSON objects and lists in it.

    Of kohya's, network arguments are settings; its other JSON holds words of captions.
    """
    if isinstance(settings, str) and settings.lstrip()[:1] in ("{", "["):
        with suppress(ValueError, RecursionError):
            settings = json.loads(settings)
    if key.endswith("_pattern"):
        yield key, settings
    elif isinstance(settings, dict):
        for name, value in settings.items():
            if not name.startswith("ss_") or name in _KOHYA_SETTINGS:
                yield from _flat(value, name)
    elif isinstance(settings, list) and any(isinstance(item, dict) for item in settings):
        for item in settings:
            yield from _flat(item, key)
    else:
        yield key, settings


def _renamed(
    pipeline: Pipeline, file: Path, tensors: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, float]] | None:
    """Return tensors under diffusers' names, and their alphas; None if they are to stay."""
    sd3 = pipeline.class_name == "StableDiffusion3Pipeline"
    halves = {name: match for name in tensors if (match := _HALF.fullmatch(name))}
    if not halves or any(n not in halves and not n.endswith(".alpha") for n in tensors):
        return None
    if not sd3 and any(m[2] not in "AB" or m[1].startswith("lora_") for m in halves.values()):
        return None  # diffusers has tables of its own
    tables: dict[str, dict[str, list[str]]] = {}
    places = {}
    for module in {match[1] for match in halves.values()}:
        component, rest = _component(pipeline, module)
        if component not in (pipeline.models() if sd3 else (pipeline.denoiser,)):
            return None
        if component not in tables:
            tables[component] = _table(pipeline, component)
        if (layers := tables[component].get(rest.replace(".", "_"))) is None:
            return None
        places[module] = [f"{component}.{layer}" for layer in layers]
    widths = {m[1]: tensors[n].shape[-1] for n, m in halves.items() if m[2] in ("A", "down")}
    renamed, alphas = {}, {}
    for name, match in halves.items():
        layers = places[match[1]]
        tensor = tensors[name]
        first = match[2] in ("A", "down")
        parts = [tensor] * len(layers) if first else tensor.chunk(len(layers))
        if not first and "adaLN_modulation" in name and len(tensor) == 2 * widths.get(match[1], 0):
            # The last layers' shift and scale are the other way round in diffusers.
            parts = [tensor.roll(len(tensor) // 2, 0)]
        for layer, part in zip(layers, parts, strict=False):
            half = _HALVES[layer.startswith("text_encoder")][first]
            renamed[f"{layer}.{half}.weight"] = part.clone()
    for name in tensors.keys() - halves.keys():
        for layer in places.get(name.removesuffix(".alpha"), ()):
            alphas[layer] = float(tensors[name])
    return None if renamed.keys() == tensors.keys() else (renamed, alphas)


def _component(pipeline: Pipeline, module: str) -> tuple[str, str]:
    """Return the part of the pipeline that a layer is of, and its name there."""
    module = module.replace("_orig_mod.", "")
    if match := _TEXT.match(module):
        number = "" if match[1] in ("", "1") else f"_{match[1]}"
        rest = module[match.end() :].removeprefix("text_model_").removeprefix("text_model.")
        return f"text_encoder{number}", rest
    module = _PREFIX.sub("", module.removeprefix(f"{pipeline.denoiser}."), count=1)
    return pipeline.denoiser, module.removeprefix(f"{pipeline.denoiser}.")


def _table(pipeline: Pipeline, component: str) -> dict[str, list[str]]:
    """Return diffusers' names of a model's layers by any name, with underscores for dots."""
    model = empty_model(pipeline, component)
    layers = [name for name, module in model.named_modules() if hasattr(module, "weight")]
    table = {name.removeprefix("text_model.").replace(".", "_"): [name] for name in layers}
    if pipeline.class_name == "StableDiffusion3Pipeline" and component == "transformer":
        for name, parts in _SD3.items():
            for number in range(len(model.transformer_blocks) if "*" in name else 1):
                block = f"transformer_blocks.{number}." if "*" in name else ""
                key = name.replace("*", str(number)).replace(".", "_")
                table[key] = [block + part for part in parts]
    return table
