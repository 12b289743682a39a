"""Diffusers pipelines that are in memory already, as checkpoints."""

from __future__ import annotations

import copy
import inspect
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from soar_bench.checkpoints.types import IN_MEMORY, Checkpoint
from soar_bench.core.digests import digest_tensors
from soar_bench.core.errors import SoarBenchError
from soar_bench.core.temporary import scratch_folder
from soar_bench.pipelines.folder import Pipeline, digest_with

#: Components that change finished images; left out, as where a pipeline is loaded.
_AFTERWORK = ("safety_checker", "watermark")


class Loaded:
    """A pipeline in memory, and its folder without weights, which is removed with this object."""

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline
        with ExitStack() as stack:
            self.folder = stack.enter_context(scratch_folder())
            _write_settings(pipeline, self.folder)
            weakref.finalize(self, stack.pop_all().close)


def from_memory(pipeline: Any) -> Checkpoint:
    """Return a diffusers pipeline as a checkpoint, identified by a digest of its weights.

    The digest is that of the folder that ``save_pretrained`` writes before the pipeline's first
    call. SoarBenchError if it makes no images from text, or is offloaded.
    """
    from diffusers import DiffusionPipeline
    from torch.nn import Module

    kind = type(pipeline)
    if not isinstance(pipeline, DiffusionPipeline):
        raise SoarBenchError(
            f"a checkpoint is a name, a path or a diffusers pipeline, not {kind.__name__}"
        )
    if "prompt" not in inspect.signature(kind.__call__).parameters:
        raise SoarBenchError(f"a {kind.__name__} makes no images from text")
    models = {n: part for n, part in pipeline.components.items() if isinstance(part, Module)}
    if any(hasattr(part, "_hf_hook") for model in models.values() for part in model.modules()):
        raise SoarBenchError(
            "the pipeline in memory is offloaded, so its weights are not all here: call its "
            "remove_all_hooks() before"
        )
    loaded = Loaded(pipeline)
    folder = Pipeline(loaded.folder)
    weights = {name: digest_tensors(_saved_tensors(models[name])) for name in folder.models()}
    name = Path(str(pipeline.config.get("_name_or_path") or kind.__name__)).name
    digest = digest_with(folder, weights)
    return Checkpoint(name, f"{name} {IN_MEMORY}", "pipeline", loaded.folder, digest, loaded=loaded)


@contextmanager
def borrowed(pipeline: Any, device: str, dtype: Any, vae_dtype: Any) -> Iterator[Any]:
    """Yield a pipeline over the same models, on a device, in a precision and evaluation mode.

    Afterwards the models hold the same tensors as before; ``pipeline`` itself is not touched.
    """
    from torch.nn import Module

    view = copy.copy(pipeline)
    view.scheduler = type(view.scheduler).from_config(view.scheduler.config)
    for name in _AFTERWORK:
        if getattr(view, name, None) is not None:
            setattr(view, name, None)
    view.set_progress_bar_config(disable=True)
    with ExitStack() as stack:
        for name, part in view.components.items():
            if isinstance(part, Module):
                stack.enter_context(_placed(part, device, vae_dtype if name == "vae" else dtype))
            elif part is not None:  # tokenizers remember how they were called last
                setattr(view, name, copy.deepcopy(part))
        yield view


@contextmanager
def _placed(model: Any, device: str, dtype: Any) -> Iterator[None]:
    """Move a model for the block. One of that precision keeps its parts in other precisions."""
    attributes = dict(vars(model))
    modes = [(part, part.training) for part in model.modules()]
    tensors = [(tensor, tensor.data) for tensor in chain(model.parameters(), model.buffers())]
    cast = model.dtype != dtype
    try:
        for tensor, data in tensors:
            tensor.data = data.to(device, dtype if cast and data.is_floating_point() else None)
        model.eval()
        yield
    finally:
        for tensor, data in tensors:
            tensor.data = data
        for part, training in modes:
            part.training = training
        vars(model).clear()
        vars(model).update(attributes)


def _write_settings(pipeline: Any, folder: Path) -> None:
    """Write the files of ``save_pretrained``, without weights."""
    from transformers import PreTrainedModel

    pipeline.save_config(folder)
    for name in Pipeline(folder).components:
        part = folder / name
        component: Any = pipeline.components[name]
        part.mkdir()
        if hasattr(component, "save_config"):
            component.save_config(part)
        elif isinstance(component, PreTrainedModel):
            config = copy.deepcopy(component.config)
            config.dtype = str(component.dtype).removeprefix("torch.")
            config.architectures = [type(component).__name__]
            config.save_pretrained(part)
            if component.can_generate():
                component.generation_config.save_pretrained(part)
        else:
            component = copy.deepcopy(component)
            if (backend := getattr(component, "backend_tokenizer", None)) is not None:
                backend.no_padding()  # as before its first call
                backend.no_truncation()
            component.save_pretrained(part)


def _saved_tensors(model: Any) -> dict[str, Any]:
    """A model's tensors under the names that ``save_pretrained`` gives them."""
    from transformers import PreTrainedModel

    tensors: dict[str, Any] = dict(model.state_dict())
    if isinstance(model, PreTrainedModel):
        from transformers.core_model_loading import revert_weight_conversion
        from transformers.modeling_utils import remove_tied_weights_from_state_dict

        for name in model._keys_to_ignore_on_save or ():
            tensors.pop(name, None)
        tensors = remove_tied_weights_from_state_dict(tensors, model)
        tensors = revert_weight_conversion(model, tensors)
    return tensors
