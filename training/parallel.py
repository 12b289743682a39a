"""The differences between one process, DDP, FSDP2 and DeepSpeed, and nothing else.

Which of them is the launcher's to say (``accelerate launch --config_file``, ``torchrun``). Weights
that are divided among processes are DTensors, or DeepSpeed's (see training/zero.py); each process
then holds, saves and restores its own part of them, of the optimizer's moments and of the average.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState, is_initialized
from accelerate.utils import (
    DeepSpeedPlugin,
    DistributedDataParallelKwargs,
    DistributedType,
    GradientAccumulationPlugin,
    InitProcessGroupKwargs,
    convert_outputs_to_fp32,
    is_deepspeed_available,
    parse_flag_from_env,
)
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from soar_bench.core.distributed import described
from soar_bench.core.packages import install
from training.cache import Processes
from training.memory import Place
from training.types import TrainingError
from training.working_copy import WorkingCopy, in_bfloat16
from training.zero import ZeroOptimizer, configure, gathered

#: Time that processes wait for one another: encoding and evaluating take longer than the libraries'
#: ten minutes, and a process that fails makes the launcher end them all.
_PATIENCE = timedelta(hours=6)
#: mark in accelerate's state of a process: a training of ours made it
_OWN = "_of_soar_bench"


class Parallel:
    """The processes of one training, seen from one of them."""

    def __init__(self, precision: str, working_copy: bool = False) -> None:
        """``precision`` is ``fp32`` or ``bf16``: float32 weights, with passes in bfloat16.

        With ``working_copy`` these read a bfloat16 copy of the weights (training/working_copy.py).
        """
        kwargs = [
            InitProcessGroupKwargs(timeout=_PATIENCE),
            DistributedDataParallelKwargs(gradient_as_bucket_view=True),
        ]
        # Without an accelerator, accelerate has to be told that several processes share the CPU.
        cpu = usual_device().type == "cpu"
        if cpu and parse_flag_from_env("ACCELERATE_USE_FSDP"):
            _shard_on_cpu(kwargs[0])
        # It would load models in one process alone, encoders too, which all of them use.
        os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
        self._bf16 = bf16 = precision == "bf16"
        self._engine: Any = None
        self._rounded = working_copy
        self._copy: WorkingCopy | None = None
        if uses_deepspeed():
            self._accelerator = _with_deepspeed(cpu, kwargs)
            return
        mixed_precision = "bf16" if bf16 and not working_copy else "no"
        own = _take_precision(mixed_precision)
        self._accelerator = Accelerator(
            cpu=cpu,
            mixed_precision=mixed_precision,
            # The launcher may ask for accumulation too, by which accelerate would divide the loss.
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
            kwargs_handlers=kwargs,
        )
        AcceleratorState._shared_state[_OWN] = own
        if self.sharded:
            plugin = self._accelerator.state.fsdp_plugin
            if plugin.fsdp_version != 2:
                raise TrainingError(
                    "the first version of FSDP cannot be used: set fsdp_version: 2 in the "
                    "launcher's configuration"
                )
            if bf16:
                from torch.distributed.fsdp import MixedPrecisionPolicy

                # Inputs keep their precision: the plugin's own policy would round timesteps.
                plugin.mixed_precision_policy = MixedPrecisionPolicy(
                    param_dtype=torch.bfloat16,
                    reduce_dtype=torch.float32,
                    cast_forward_inputs=False,
                )

    @property
    def rank(self) -> int:
        return int(self._accelerator.process_index)

    @property
    def count(self) -> int:
        return int(self._accelerator.num_processes)

    @property
    def main(self) -> bool:
        return bool(self._accelerator.is_main_process)

    @property
    def device(self) -> torch.device:
        return torch.device(self._accelerator.device)

    @property
    def sharded(self) -> bool:
        """Whether what is trained is divided among processes."""
        return bool(self.division)

    @property
    def division(self) -> str:
        """How it is divided, as a resume state must be to be read again; empty: not at all."""
        kind = self._accelerator.distributed_type
        if kind == DistributedType.FSDP:
            return f"FSDP2 in {self.count}"
        if kind == DistributedType.DEEPSPEED:
            stage = self._accelerator.state.deepspeed_plugin.zero_stage
            return f"ZeRO {'3' if stage == 3 else '1 or 2'} in {self.count}"
        return ""

    def place(self) -> Place:
        """The memory of the smallest GPU of all processes, and what these divide among them."""
        kind, memory = self._accelerator.distributed_type, None
        if self.device.type == "cuda":
            own = torch.cuda.get_device_properties(self.device).total_memory
            sizes = self._accelerator.gather(torch.tensor([own], device=self.device))
            memory = int(sizes.min())
        stage = 3 if kind == DistributedType.FSDP else 0  # which divides all, as ZeRO 3 does
        if kind == DistributedType.DEEPSPEED:
            stage = self._accelerator.state.deepspeed_plugin.zero_stage
        return Place(memory, self.count, _divided(stage))

    @property
    def processes(self) -> Processes:
        return Processes(self.rank, self.count, self.wait)

    def wait(self) -> None:
        self._accelerator.wait_for_everyone()

    def prepare(self, transformer: Any, optimizer: Any, clip_norm: float) -> tuple[Any, Any]:
        """The model through which every pass goes, and the optimizer of its parameters.

        ``clip_norm`` is that of ``clip``, which DeepSpeed has to know beforehand.
        """
        if self._rounded:
            # FSDP2 gathers weights in bfloat16: that is its copy.
            self._copy = None if self.sharded else WorkingCopy(transformer)
            transformer.forward = in_bfloat16(transformer.forward, self._copy)
        elif self._bf16 and self.sharded:  # accelerate casts the passes of the others
            cast = torch.autocast(self.device.type, torch.bfloat16)
            transformer.forward = convert_outputs_to_fp32(cast(transformer.forward))
        if self._accelerator.distributed_type != DistributedType.DEEPSPEED:
            model, optimizer = self._accelerator.prepare(transformer, optimizer)
            # Buffers, such as SD3's 0.9 GB table of positions, are the same everywhere and stay so.
            # Set afterwards, since versions of torch differ in the argument's name.
            if isinstance(model, DistributedDataParallel):
                model.broadcast_buffers = False
            return model, optimizer
        settings = self._accelerator.deepspeed_plugin.deepspeed_config
        configure(settings, optimizer, self.count, clip_norm)
        self._engine, _ = self._accelerator.prepare(transformer, optimizer)
        return self._engine, ZeroOptimizer(self._engine)

    def refresh(self) -> None:
        """Take over weights that have changed, before the first pass of a step."""
        if self._copy is not None:
            self._copy.refresh()

    @contextmanager
    def one_pass(self, model: Any, last: bool) -> Iterator[None]:
        """In it, one forward and backward pass of those that lead to a step.

        DDP exchanges gradients with the last one alone; FSDP2 with each, since to keep them whole
        until then would take the memory that it saves. DeepSpeed does either, and steps in the
        last one's backward.
        """
        if self._engine is not None:
            self._engine.set_gradient_accumulation_boundary(last)
        apart = not last and not self.sharded
        with (
            self._accelerator.no_sync(model) if apart else nullcontext(),
            self._copy.read() if self._copy is not None else nullcontext(),
        ):
            yield

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of the mean of the processes' losses."""
        if self._engine is None:
            self._accelerator.backward(loss)
            return
        self._engine.backward(loss)
        if self._engine.is_gradient_accumulation_boundary():
            self._engine.step()

    def clip(self, parameters: Iterable[Tensor], norm: float) -> float:
        """Clip the gradient of all processes to this norm; return the norm it had.

        DeepSpeed did so before its step, which it left out where the norm is not finite.
        """
        if self._engine is not None:
            return float(self._engine.get_global_grad_norm())
        return float(whole(self._accelerator.clip_grad_norm_(parameters, norm)))

    def sum(self, *numbers: float) -> list[float]:
        """Return the sums over all processes, in every process."""
        if self.count == 1:  # and on mps, which knows no float64
            return [float(number) for number in numbers]
        summed = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        sums: list[float] = self._accelerator.reduce(summed, "sum").tolist()
        return sums


def usual_place(memory: int | None) -> Place:
    """Return the place that a training here would have, as the launcher's environment has it.

    ``memory`` is that of a GPU that is not here, in bytes; None: what is here.
    """
    device = usual_device()
    if memory is None and device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory
    stage = 3 if parse_flag_from_env("ACCELERATE_USE_FSDP") else 0
    if not stage and uses_deepspeed():
        stage = int(os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", 2))
    return Place(memory, described().size, _divided(stage))


def _divided(stage: int) -> tuple[bool, bool, bool]:
    """Whether weights, gradients and moments are divided at that stage of ZeRO; 0: none are."""
    return stage >= 3, stage >= 2, stage >= 1


def uses_deepspeed() -> bool:
    """Return whether the launcher asks for DeepSpeed."""
    return bool(parse_flag_from_env("ACCELERATE_USE_DEEPSPEED"))


def usual_device() -> torch.device:
    """Return the kind of device that a training here and now would use."""
    device = torch.accelerator.current_accelerator(check_available=True)
    if device is None or parse_flag_from_env("ACCELERATE_USE_CPU"):
        return torch.device("cpu")
    return torch.device(device.type)


def leave() -> None:
    """Close the connection of the processes, after the last training of a command."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def whole(tensor: Tensor) -> Tensor:
    """A tensor that may be divided among processes, which all have to ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else gathered(tensor)


def part(tensor: Tensor) -> Tensor:
    """The part of a tensor that this process holds."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def like(tensor: Tensor, example: Tensor) -> Tensor:
    """A copy of a tensor of this process's part of the example, placed and divided as that is.

    One of another shape, such as a count of steps, stays where it is.
    """
    if tensor.shape != part(example).shape:
        return tensor.clone()
    if not isinstance(example, DTensor):
        return tensor.to(example.device, copy=True)
    return DTensor.from_local(
        tensor.to(example.device, copy=True),
        example.device_mesh,
        example.placements,
        shape=example.shape,
        stride=example.stride(),
    )


def _take_precision(precision: str) -> bool:
    """Return whether accelerate's state of this process is of our trainings alone.

    Its precision is that of the first Accelerator. What an earlier training left is dropped where
    this one has another precision; what the user's own has is not: TrainingError.
    """
    if not is_initialized():
        return True
    state = AcceleratorState._shared_state
    own, earlier = bool(state.get(_OWN)), state["_mixed_precision"]
    if earlier != precision:
        if not own:
            raise TrainingError(
                f"this process has an Accelerator with mixed_precision={earlier!r}, and accelerate "
                f"allows no second one with {precision!r}: train in a process of its own, or with "
                "the same precision"
            )
        AcceleratorState._reset_state()
    return own


def _shard_on_cpu(handler: InitProcessGroupKwargs) -> None:
    """accelerate takes FSDP for GPUs alone, and on CPUs would go on without it in silence."""
    state = PartialState(cpu=True, timeout=handler.timeout)
    if state.distributed_type == DistributedType.MULTI_CPU:
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU


def _with_deepspeed(cpu: bool, handlers: list[Any]) -> Accelerator:
    if not is_deepspeed_available():
        raise TrainingError(
            "the launcher's configuration asks for DeepSpeed, which is not installed: "
            f"{install('deepspeed')}, or launch with configs/accelerate/fsdp2.yaml"
        )
    if cpu:  # as for FSDP above
        PartialState(cpu=True, timeout=handlers[0].timeout)
    plugin = None if is_initialized() else DeepSpeedPlugin(zero3_init_flag=False)
    # The passes are cast as training/zero.py says.
    accelerator = Accelerator(
        deepspeed_plugin=plugin, mixed_precision="no", kwargs_handlers=handlers
    )
    # accelerate tells transformers, which would then divide every model that it loads, such as
    # text encoders and evaluators, whatever the flag above says.
    unset_hf_deepspeed_config()
    if accelerator.distributed_type != DistributedType.DEEPSPEED:
        raise TrainingError(
            "the launcher's configuration asks for DeepSpeed and for use_cpu, which accelerate "
            "cannot do at once: set use_cpu: false"
        )
    return accelerator
