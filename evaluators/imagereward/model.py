"""ImageReward's model on transformers' BLIP, from the published file."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluators.imagereward import layout
from evaluators.imagereward.layout import HEAD_INDEX, MLP_RATIO, OFFICIAL, Architecture
from evaluators.loading import check_keys, empty_model, read_checkpoint
from evaluators.types import EvaluatorError
from soar_bench.core.torchvision import mend_torchvision

if TYPE_CHECKING:
    import torch

#: The authors' mean and standard deviation of the head's output.
REWARD_MEAN = 0.16717362830052426
REWARD_STD = 1.0333394966054072


class Model:
    """ImageReward's network in memory."""

    def __init__(self, network: Any, device: str, dtype: torch.dtype) -> None:
        self._network = network.to(device, dtype).eval()
        self._network["mlp"].float()  # as the original: the head in float32 whatever is before it
        self._device, self._dtype = device, dtype

    def rewards(self, pixels: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the rewards of pairs, one pass each: [B], float32 on the CPU.

        ``pixels`` are [B, 3, S, S], normalised; ``ids`` and ``mask`` the tokenizer's [B, L].
        """
        import torch

        blip, head = self._network["blip"], self._network["mlp"]["layers"]
        with torch.inference_mode():
            patches = blip["visual_encoder"](
                pixel_values=pixels.to(self._device, self._dtype)
            ).last_hidden_state  # [B, 1 + patches, vision width]
            words = blip["text_encoder"](
                input_ids=ids.to(self._device),
                attention_mask=mask.to(self._device),
                encoder_hidden_states=patches,
                is_decoder=False,  # the prompt is read in both directions
            ).last_hidden_state  # [B, L, text width]
            raw = head(words[:, 0].float())[:, 0]
            return ((raw - REWARD_MEAN) / REWARD_STD).cpu()


def build(architecture: Architecture) -> Any:
    """Return the network without values, on the CPU."""
    from torch import nn

    mend_torchvision()
    from transformers import BlipTextConfig, BlipTextModel, BlipVisionConfig, BlipVisionModel

    a = architecture
    vision = BlipVisionConfig(
        image_size=a.image_size,
        patch_size=a.patch_size,
        hidden_size=a.vision_width,
        intermediate_size=MLP_RATIO * a.vision_width,
        num_hidden_layers=a.vision_layers,
        num_attention_heads=a.vision_heads,
        layer_norm_eps=1e-6,
    )
    text = BlipTextConfig(
        vocab_size=a.vocabulary,
        hidden_size=a.text_width,
        encoder_hidden_size=a.vision_width,
        intermediate_size=MLP_RATIO * a.text_width,
        num_hidden_layers=a.text_layers,
        num_attention_heads=a.text_heads,
        max_position_embeddings=a.text_positions,
        layer_norm_eps=1e-12,
        bos_token_id=None,  # for generation only, and too large for small vocabularies
        sep_token_id=None,
        is_decoder=True,  # only then are there layers of cross-attention
    )

    def make() -> nn.Module:
        layers = nn.Sequential(*(nn.Identity() for _ in range(HEAD_INDEX[-1] + 1)))
        for index, sizes in zip(HEAD_INDEX, pairwise((a.text_width, *a.head)), strict=True):
            layers[index] = nn.Linear(*sizes)
        blip = {
            "visual_encoder": BlipVisionModel(vision),
            "text_encoder": BlipTextModel(text, add_pooling_layer=False),
        }
        head = {"layers": layers}
        return nn.ModuleDict({"blip": nn.ModuleDict(blip), "mlp": nn.ModuleDict(head)})

    return empty_model(make)


def shapes(architecture: Architecture = OFFICIAL) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor that decides a score, by its name in the published file."""
    return _shapes(build(architecture))


def _shapes(network: Any) -> dict[str, tuple[int, ...]]:
    state = network.state_dict()
    return {layout.published_name(name): tuple(tensor.shape) for name, tensor in state.items()}


def load(file: Path, architecture: Architecture, device: str, dtype: str) -> Model:
    """Return the model of ``ImageReward.pt``.

    EvaluatorError if the file is damaged or of another model: of tensors that the model does not
    have, only those of the published file are let pass.
    """
    import torch

    state = read_checkpoint(file)
    what = "ImageReward's BLIP"
    pairs = state.items() if isinstance(state, dict) else [(None, None)]
    if not all(isinstance(name, str) and isinstance(t, torch.Tensor) for name, t in pairs):
        raise EvaluatorError(
            f"{file} holds no weights of {what}: it is no table of tensors by name"
        )
    network = build(architecture)
    used = {name: tensor for name, tensor in state.items() if name not in layout.UNUSED}
    check_keys(_shapes(network), used, (), file, what)
    network.load_state_dict({n: used[layout.published_name(n)] for n in network.state_dict()})
    return Model(network, device, getattr(torch, dtype))


def state_dict(
    architecture: Architecture, fill: Callable[[str, tuple[int, ...]], np.ndarray]
) -> dict[str, torch.Tensor]:
    """Return the tensors of the published file, unused ones too, for a model of these sizes.

    ``fill(name, shape)`` returns the values of each, which become float32; positions are counted.
    """
    import torch

    a = architecture
    expected = shapes(a)
    for name, width in zip(layout.PROJECTIONS, (a.vision_width, a.text_width), strict=True):
        expected |= {f"{name}.weight": (a.projection, width), f"{name}.bias": (a.projection,)}
    state = {n: torch.from_numpy(np.array(fill(n, s), "float32")) for n, s in expected.items()}
    wrong = [name for name, tensor in state.items() if tuple(tensor.shape) != expected[name]]
    if wrong:
        raise ValueError(f"fill gave another shape for {', '.join(wrong[:3])}")
    return {**state, layout.POSITION_IDS: torch.arange(a.text_positions)[None]}
