"""Memory of a training step, measured by running a pass without computing anything."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from soar_bench.pipelines import Pipeline
from soar_bench.pipelines.models import empty_model
from training.memory import Memory, largest_pass
from training.space import Sizes
from training.types import Config

#: Functions of which CUDA's autocast makes the inputs float32 and the CPU's does not, as far as
#: transformers use them: https://docs.pytorch.org/docs/stable/amp.html lists them all.
_FLOAT32 = frozenset(
    "layer_norm group_norm softmax log_softmax softplus norm normalize pow __pow__ rsqrt reciprocal"
    " exp log sum cumsum prod".split()
)


def sizes_of(pipeline: Pipeline, config: Config) -> Sizes:
    """Return how much of the transformer a training with these settings holds.

    TrainingError if a target of the adapter does not exist.
    """
    return _outline(pipeline, config)[1]


def _outline(pipeline: Pipeline, config: Config) -> tuple[Any, Sizes]:
    """The transformer without memory, with its adapter if it is to have one, and its sizes."""
    from training.adapters import add_adapter

    outline = empty_model(pipeline, "transformer")
    own = {name for name, _ in outline.named_parameters()}
    buffers = sum(t.numel() for name, t in outline.state_dict().items() if name not in own)
    parameters = trained = sum(p.numel() for p in outline.parameters())
    if config.lora.rank:
        add_adapter(outline, config.lora, 0)
        trained = sum(p.numel() for p in outline.parameters() if p.requires_grad)
    return outline, Sizes(parameters, trained, buffers)


def measure(pipeline: Pipeline, config: Config) -> Memory:
    """Measure passes of one and two micro-batches on tensors without memory, by CUDA's rules.

    Attention is counted as GPUs have it, without a matrix of scores. TrainingError if the adapter's
    targets do not exist.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    from training.encoders import caption_shapes, latent_shape

    transformer, sizes = _outline(pipeline, config)
    half, copy = config.precision == "bf16", config.working_copy
    embeds, pooled = caption_shapes(pipeline, config.max_sequence_length)
    latents = latent_shape(pipeline, (config.resolution, config.resolution))
    blocks = len(transformer.transformer_blocks)
    tokens = embeds[0] + latents[1] * latents[2] // int(transformer.config.patch_size) ** 2
    with FakeTensorMode():
        frozen = torch.bfloat16 if half and config.lora.rank else torch.float32
        floats = torch.bfloat16 if copy else torch.float32
        _without_values(transformer.train(), floats, frozen)

        def kept(count: int) -> int:
            inputs = {
                "hidden_states": torch.empty(count, *latents, dtype=floats),
                "timestep": torch.empty(count),
                "encoder_hidden_states": torch.empty(count, *embeds, dtype=floats),
                "pooled_projections": torch.empty(count, pooled, dtype=floats),
            }
            cast = half and not copy
            with torch.autocast("cpu", torch.bfloat16, enabled=cast), _cuda_rules(cast):
                transformer.disable_gradient_checkpointing()
                all_kept = _kept(transformer, inputs)
                if not config.gradient_checkpointing:
                    return all_kept
                transformer.enable_gradient_checkpointing()
                outside = _kept(transformer, inputs)
            entering = count * tokens * transformer.inner_dim * (2 if half else 4)
            # The inputs of each block, and one block at a time made again; or, at the end of the
            # forward pass, all weights in bfloat16, which autocast keeps until then.
            block = (all_kept - outside) // blocks
            return outside + blocks * entering + max(block, _autocast(sizes, config))

        single, double = kept(config.batch_size), kept(2 * config.batch_size)
    each = (double - single) // config.batch_size
    fixed, latent = single - each * config.batch_size, 4 * math.prod(latents)
    return Memory(sizes, fixed, each, largest_pass(config, config.soar.chunk), latent)


def _autocast(sizes: Sizes, config: Config) -> int:
    """Bytes of the weights that autocast makes bfloat16 in a pass."""
    cast = config.precision == "bf16" and not config.working_copy
    return 2 * sizes.trained if cast else 0


def _without_values(model: Any, trained: Any, frozen: Any) -> None:
    """Give a model's tensors a device and types, ``trained`` and ``frozen``, and no values.

    To be called where tensors have none (FakeTensorMode).
    """
    import torch

    def like(tensor: Any) -> Any:
        floats = trained if tensor.requires_grad else frozen
        dtype = floats if tensor.is_floating_point() else tensor.dtype
        return torch.empty(tensor.shape, dtype=dtype)

    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            values, learns = like(parameter), parameter.requires_grad
            module._parameters[name] = torch.nn.Parameter(values, requires_grad=learns)
        for name, buffer in module.named_buffers(recurse=False):
            module._buffers[name] = like(buffer)


def _cuda_rules(enabled: bool) -> Any:
    """Autocast on the CPU as it is on CUDA."""
    from contextlib import nullcontext

    import torch

    class Rules(torch.overrides.TorchFunctionMode):
        def __torch_function__(
            self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if getattr(function, "__name__", "") in _FLOAT32:
                args = [_single(value) for value in args]
                kwargs = {name: _single(value) for name, value in (kwargs or {}).items()}
            return function(*args, **(kwargs or {}))

    def _single(value: Any) -> Any:
        low = isinstance(value, torch.Tensor) and value.dtype == torch.bfloat16
        return value.float() if low else value

    return Rules() if enabled else nullcontext()


def _kept(transformer: Any, inputs: dict[str, Any]) -> int:
    """Bytes that a pass keeps beside the parameters."""
    import torch

    storages: dict[int, Any] = {}

    def pack(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if not isinstance(tensor, torch.nn.Parameter):
            storages[storage._cdata] = storage
        return tensor

    own = {p.untyped_storage()._cdata for p in transformer.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        transformer(**inputs, return_dict=False)
    return sum(s.nbytes() for key, s in storages.items() if key not in own)
