"""BLIP's question answering on transformers' BlipForQuestionAnswering, from the published file.

The hub's copy of these weights has its position table shrunk to 384 pixels; the released script
asks the original at 480, and so does this.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluators.imagereward import layout
from evaluators.loading import check_keys, empty_model, read_checkpoint
from evaluators.types import EvaluatorError
from soar_bench.core.torchvision import mend_torchvision

if TYPE_CHECKING:
    import torch

WHAT = "BLIP's VQA model (ViT-B/16 at 480 pixels)"
#: Key of the tensors in the published file.
INSIDE = "model"
#: Begins the vision tower's names in transformers.
_VISION = "vision_model."


@dataclass(frozen=True)
class Architecture:
    """Sizes of the model; the defaults are those of ``model_base_vqa_capfilt_large.pth``."""

    #: side of the square image, and of its patches, in pixels
    image_size: int = 480
    patch_size: int = 16
    #: of vision, question and answer alike
    width: int = 768
    layers: int = 12
    heads: int = 12
    text_positions: int = 512
    #: BERT's 30522 tokens, [DEC] and [ENC]
    vocabulary: int = 30524


OFFICIAL = Architecture()


class Model:
    """The network in memory."""

    def __init__(self, network: Any, device: str, dtype: torch.dtype) -> None:
        self._network = network.to(device, dtype).eval()
        self._device, self._dtype = device, dtype

    def see(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the states of normalised pictures [B, 3, S, S]: [B, 1 + patches, width]."""
        import torch

        with torch.inference_mode():
            pixels = pixels.to(self._device, self._dtype)
            return self._network.vision_model(pixel_values=pixels).last_hidden_state

    def yes(self, pictures: torch.Tensor, ids: torch.Tensor, yes: int, no: int) -> list[float]:
        """Return the probability of yes against no as the answer's first token, [B].

        ``pictures`` are rows of :meth:`see`, one per question; ``ids`` [B, L] are the questions',
        the first of each [ENC], without padding: transformers 5.23 gives the decoder's
        cross-attention no mask.
        """
        import torch

        ids = ids.to(self._device)
        start = torch.full((len(ids), 1), self._network.config.text_config.vocab_size - 2)
        with torch.inference_mode():
            question = self._network.text_encoder(
                input_ids=ids,
                encoder_hidden_states=pictures,
                is_decoder=False,  # the question is read in both directions
            ).last_hidden_state
            logits = self._network.text_decoder(
                input_ids=start.to(self._device),  # [DEC]
                encoder_hidden_states=question,
            ).logits[:, 0]
            return (logits[:, yes] - logits[:, no]).float().sigmoid().tolist()


def build(architecture: Architecture) -> Any:
    """Return the network without values, on the CPU."""
    mend_torchvision()
    from transformers import BlipConfig, BlipForQuestionAnswering

    a = architecture
    both = {"hidden_size": a.width, "intermediate_size": layout.MLP_RATIO * a.width,
            "num_hidden_layers": a.layers, "num_attention_heads": a.heads}  # fmt: skip
    config = BlipConfig(
        vision_config={
            **both,
            "image_size": a.image_size,
            "patch_size": a.patch_size,
            "layer_norm_eps": 1e-6,
        },
        text_config={
            **both,
            "vocab_size": a.vocabulary,
            "encoder_hidden_size": a.width,
            "max_position_embeddings": a.text_positions,
            "layer_norm_eps": 1e-12,
            "bos_token_id": a.vocabulary - 2,
            "sep_token_id": None,
            "eos_token_id": None,
            "is_decoder": True,  # only then are there layers of cross-attention
        },
    )
    return empty_model(lambda: BlipForQuestionAnswering(config))


def published_name(name: str) -> str:
    """Return the file's name of a tensor, by the one that it has in transformers."""
    if not name.startswith(_VISION):
        return name
    blip = layout.published_name(layout.VISION + name.removeprefix(_VISION))
    return blip.removeprefix("blip.")


def shapes(architecture: Architecture = OFFICIAL) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor by its name in the published file."""
    state = build(architecture).state_dict()
    return {published_name(name): tuple(tensor.shape) for name, tensor in state.items()}


def load(file: Path, architecture: Architecture, device: str, dtype: str) -> Model:
    """Return the model of the published file. EvaluatorError if it is damaged or another's."""
    import torch

    table = read_checkpoint(file)
    state = table.get(INSIDE) if isinstance(table, dict) else None
    if not isinstance(state, dict) or not all(isinstance(t, torch.Tensor) for t in state.values()):
        raise EvaluatorError(f"{file} holds no weights of {WHAT}: fetch it again")
    network = build(architecture)
    own = network.state_dict()
    expected = {published_name(name): tuple(tensor.shape) for name, tensor in own.items()}
    check_keys(expected, state, ("position_ids",), file, WHAT)
    network.load_state_dict({name: state[published_name(name)] for name in own})
    return Model(network, device, getattr(torch, dtype))


def state_dict(
    architecture: Architecture, fill: Callable[[str, tuple[int, ...]], np.ndarray]
) -> dict[str, torch.Tensor]:
    """Return the tensors of the published file for a model of these sizes, by ``fill(name, shape)``
    and, as there, with one table for the words of the answer going in and out.
    """
    import torch

    state = {n: torch.from_numpy(fill(n, s)) for n, s in shapes(architecture).items()}
    decoder = "text_decoder.cls.predictions"
    state[f"{decoder}.decoder.weight"] = state[
        "text_decoder.bert.embeddings.word_embeddings.weight"
    ]
    state[f"{decoder}.decoder.bias"] = state[f"{decoder}.bias"]
    return state
