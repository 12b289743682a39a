"""CLIP: one loaded model for all evaluators that need the same weights.

``tower`` gives the model of a set of weights; as long as one evaluator holds it, another that asks
for it gets the same one, and an image that both look at in the same way is embedded once.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import numpy as np

from evaluators.images import View, stack
from evaluators.loading import load_strictly, read_safetensors
from evaluators.types import EvaluatorError
from evaluators.weights import Weights
from soar_bench.core.torchvision import mend_torchvision

if TYPE_CHECKING:
    import torch

#: Texts are padded to a multiple of so many tokens.
_STEP = 8


def at_once(device: str) -> int:
    """How many images or texts go through a large model together; scores do not depend on it.

    A GPU is idle with few; a CPU gains nothing from more than a few, and pays in memory.
    """
    return 8 if device == "cpu" else 64


class Tokenizer:
    """CLIP's byte-pair encoding, from ``vocab.json`` and ``merges.txt``."""

    def __init__(self, folder: Path, vocabulary_size: int) -> None:
        mend_torchvision()
        from transformers import CLIPTokenizer

        try:
            vocabulary = json.loads((folder / "vocab.json").read_text("utf-8"))
            lines = (folder / "merges.txt").read_text("utf-8").splitlines()
            merges = [
                tuple(line.split()) for line in lines if line and not line.startswith("#version")
            ]
            self._tokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges)
        except Exception as error:  # a damaged file raises whatever its reader stumbles over
            raise EvaluatorError(
                f"the tokenizer in {folder} is damaged ({error!r}): fetch it again"
            ) from None
        # transformers makes useless tokenizers in silence: count
        if len(vocabulary) != vocabulary_size or len(self._tokenizer) != vocabulary_size:
            raise EvaluatorError(
                f"the tokenizer in {folder} has {len(vocabulary)} tokens where the model has "
                f"{vocabulary_size}: fetch it again"
            )

    @property
    def end(self) -> int:
        """The end token, at which a text's embedding is read."""
        return int(self._tokenizer.eos_token_id)

    def __call__(self, texts: Sequence[str], length: int) -> torch.Tensor:
        """Token ids [B, length]; longer texts are cut, shorter ones padded after the end token."""
        return self._tokenizer(
            list(texts),
            padding="max_length",
            truncation=True,
            max_length=length,
            return_tensors="pt",
        ).input_ids


class Tower:
    """A CLIP with both encoders, and its tokenizer."""

    def __init__(self, model: Any, tokenizer: Tokenizer, device: str) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.device = device
        self.batch = at_once(device)
        self._seen: dict[tuple[View, int], tuple[np.ndarray, torch.Tensor]] = {}

    @property
    def logit_scale(self) -> float:
        """The learned temperature: the cosine is multiplied by it in training."""
        return float(self.model.logit_scale.detach().exp())

    def embed_images(self, images: Sequence[np.ndarray], view: View) -> torch.Tensor:
        """L2-normalised image embeddings [B, D], float32 on the CPU.

        ``images`` are uint8 RGB [H, W, 3]. The last images' embeddings are kept, so that the next
        evaluator that looks at the same arrays through the same view gets them for nothing.
        """
        import torch

        seen = {}
        fresh = []
        for image in images:
            key = (view, id(image))
            known = self._seen.get(key)
            if known is not None and known[0] is image:
                seen[key] = known
            elif key not in seen:
                fresh.append(image)
                seen[key] = (image, torch.empty(0))
        if fresh:
            rows = torch.cat(
                [
                    self.embed_pixels(stack(fresh[i : i + self.batch], view, self.image_size))
                    for i in range(0, len(fresh), self.batch)
                ]
            )
            for image, row in zip(fresh, rows, strict=True):
                seen[view, id(image)] = (image, row)
        others = {key: value for key, value in self._seen.items() if key[0] is not view}
        current = {id(image) for image in images}
        self._seen = {**{k: v for k, v in others.items() if k[1] in current}, **seen}
        return torch.stack([seen[view, id(image)][1] for image in images])

    def embed_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """L2-normalised embeddings [B, D] of normalised pixels [B, 3, S, S], float32, CPU."""
        import torch

        with torch.inference_mode():
            dtype = self.model.dtype
            features = self.model.get_image_features(pixel_values=pixels.to(self.device, dtype))
            return _unit(features.pooler_output)

    def embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """L2-normalised text embeddings [B, D], float32, CPU; equal texts are embedded once."""
        import torch

        distinct = list(dict.fromkeys(texts))
        ids = self.tokenizer(distinct, self.model.config.text_config.max_position_embeddings)
        lengths = self._lengths(ids)
        rows = torch.empty(len(distinct), self.model.config.projection_dim)
        for length in sorted(set(lengths)):
            alike = [i for i, other in enumerate(lengths) if other == length]
            for start in range(0, len(alike), self.batch):
                chosen = alike[start : start + self.batch]
                tokens = ids[chosen, :length].to(self.device)
                with torch.inference_mode():
                    features = self.model.get_text_features(input_ids=tokens).pooler_output
                rows[chosen] = _unit(features)
        index = {text: row for row, text in enumerate(distinct)}
        return rows[[index[text] for text in texts]]

    def _lengths(self, ids: torch.Tensor) -> list[int]:
        """How many tokens of each row are worth computing: those up to its end token, rounded up.

        What is padded after the end token cannot be seen from it (the attention is causal), and
        would be most of the work. The number depends on the text alone, not on its batch.
        """
        ends = (ids == self.tokenizer.end).int().argmax(-1)
        rounded = (ends // _STEP + 1) * _STEP
        return rounded.clamp(max=ids.shape[1]).tolist()

    @property
    def image_size(self) -> int:
        """Side of the pixels the vision encoder takes."""
        return int(self.model.config.vision_config.image_size)


def _unit(features: torch.Tensor) -> torch.Tensor:
    features = features.float().cpu()
    return features / features.norm(dim=-1, keepdim=True)


_towers: WeakValueDictionary[tuple[str, str, str], Tower] = WeakValueDictionary()


def tower(
    weights: Weights,
    tokenizer: Weights,
    device: str,
    dtype: str,
    what: str,
    embedding: int | None = None,
) -> Tower:
    """The model in ``weights`` (hub layout: ``config.json``, ``model.safetensors``).

    ``what`` names it in errors, ``embedding`` is its width, checked if given.
    EvaluatorError if files are missing, damaged or of another model.
    """
    key = (f"{weights.digest()} {tokenizer.digest()}", device, dtype)
    found = _towers.get(key)
    if found is None:
        found = _load(weights, tokenizer, device, dtype, what, embedding)
        _towers[key] = found
    return found


def _load(
    weights: Weights,
    tokenizer: Weights,
    device: str,
    dtype: str,
    what: str,
    embedding: int | None = None,
) -> Tower:
    mend_torchvision()
    from transformers import CLIPConfig

    file = weights.file("config.json")
    try:
        config = CLIPConfig.from_dict(json.loads(file.read_text("utf-8")))
    except (ValueError, TypeError, AttributeError) as error:
        raise EvaluatorError(f"{file} is no configuration of a CLIP ({error})") from None
    if embedding not in (None, config.projection_dim):
        raise EvaluatorError(
            f"{file} describes another model than {what}: embeddings of {config.projection_dim} "
            f"numbers instead of {embedding}"
        )
    weight_file = weights.file("model.safetensors")
    return build(config, read_safetensors(weight_file), weight_file, tokenizer, device, dtype, what)


def build(
    config: Any,
    state: dict[str, torch.Tensor],
    file: Path,
    tokenizer: Weights,
    device: str,
    dtype: str,
    what: str,
) -> Tower:
    """A tower from a transformers CLIPConfig and state dict that came from ``file``."""
    import torch

    mend_torchvision()
    from transformers import CLIPModel

    words = Tokenizer(tokenizer.folder, config.text_config.vocab_size)
    with torch.device("meta"):
        model = CLIPModel(config)
    model.to_empty(device="cpu")
    for module in model.modules():  # not in any file: counted up from 0
        ids = getattr(module, "position_ids", None)
        if isinstance(ids, torch.Tensor):
            module.position_ids = torch.arange(ids.shape[-1])[None]
    load_strictly(model, state, file, what)
    return Tower(model.to(device, getattr(torch, dtype)).eval(), words, device)
