"""Low-rank adapters (peft): put onto a transformer, and written in diffusers' layout."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training.types import Lora, TrainingError

#: Name of the adapter on the model; files do not name it.
_NAME = "default"
WEIGHTS_FILE = "pytorch_lora_weights.safetensors"
#: Where diffusers looks for the settings of an adapter, in the file's metadata.
_SETTINGS = "lora_adapter_metadata"


def add_adapter(transformer: Any, settings: Lora, seed: int) -> None:
    """Freeze the transformer and add an adapter to it, with B = 0 and A drawn from the seed.

    Raises TrainingError if a target is no linear layer of the transformer.
    """
    from peft import LoraConfig

    check_targets(transformer, settings)
    transformer.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformer.add_adapter(
            LoraConfig(
                r=settings.rank,
                lora_alpha=settings.alpha or settings.rank,
                lora_dropout=settings.dropout,
                target_modules=list(settings.targets),
                init_lora_weights="gaussian",
            ),
            adapter_name=_NAME,
        )
    for parameter in transformer.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def check_targets(transformer: Any, settings: Lora) -> None:
    """Raise TrainingError unless each of ``lora.targets`` ends the name of a linear layer."""
    linear = [n for n, part in transformer.named_modules() if isinstance(part, torch.nn.Linear)]
    for target in settings.targets:
        if not any(name == target or name.endswith(f".{target}") for name in linear):
            kinds = sorted({re.sub(r"^.*\.\d+\.(?=\D)", "", name) for name in linear})
            raise TrainingError(
                f"lora.targets: no linear layer of the transformer ends in {target!r}; there are "
                f"{', '.join(kinds)}"
            )


def write_adapter(folder: Path, transformer: Any, tensors: Mapping[str, Tensor]) -> Path:
    """Write the adapter's tensors, by their names in the transformer, for ``load_lora_weights``.

    Return the file.
    """
    from safetensors.torch import save_file

    settings = {
        f"transformer.{name}": sorted(value) if isinstance(value, set) else value
        for name, value in transformer.peft_config[_NAME].to_dict().items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / WEIGHTS_FILE
    save_file(
        {f"transformer.{n.replace(f'.{_NAME}.', '.')}": t for n, t in tensors.items()},
        file,
        metadata={"format": "pt", _SETTINGS: json.dumps(settings, indent=2, sort_keys=True)},
    )
    return file
