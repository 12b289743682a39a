"""CLIP: evaluators that hold the model of the same weights at the same time share it.

An image that they view in the same way is embedded once.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import numpy as np

from evaluators.images import View, stack
from evaluators.loading import (
    empty_model,
    load_strictly,
    read_checkpoint,
    read_config,
    read_safetensors,
)
from evaluators.types import Evaluator, EvaluatorError, Sample, Score
from evaluators.weights import Weights
from soar_bench.core.torchvision import mend_torchvision

if TYPE_CHECKING:
    import torch

#: Texts are padded to a multiple of this many tokens.
_STEP = 8


def at_once(device: str) -> int:
    """Return how many images or texts go through a large model together.

    Scores do not depend on it. A GPU idles with few; on a CPU more cost memory and save no time.
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
        # transformers does not say when it makes a useless tokenizer
        if len(vocabulary) != vocabulary_size or len(self._tokenizer) != vocabulary_size:
            raise EvaluatorError(
                f"the tokenizer in {folder} has {len(vocabulary)} tokens where the model has "
                f"{vocabulary_size}: fetch it again"
            )

    @property
    def end(self) -> int:
        """Id of the end token, at which a text's embedding is read."""
        return int(self._tokenizer.eos_token_id)

    def __call__(self, texts: Sequence[str], length: int) -> torch.Tensor:
        """Return token ids [B, length]: long texts cut, short ones padded after the end token."""
        padded = {"padding": "max_length", "truncation": True, "return_tensors": "pt"}
        return self._tokenizer(list(texts), max_length=length, **padded).input_ids


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
        """Learned temperature, by which training multiplies the cosine."""
        return float(self.model.logit_scale.detach().exp())

    def cosines(
        self, samples: Sequence[Sample], view: View, clean: Callable[[str], str] = str
    ) -> torch.Tensor:
        """Return the cosine of each sample's image and cleaned prompt: [B], float32, CPU."""
        images = self.embed_images([sample.image for sample in samples], view)
        texts = self.embed_texts([clean(sample.prompt) for sample in samples])
        return (images * texts).sum(-1)

    def embed_images(self, images: Sequence[np.ndarray], view: View) -> torch.Tensor:
        """Return L2-normalised image embeddings [B, D], float32 on the CPU.

        ``images`` are uint8 RGB [H, W, 3]. Embeddings of the last images are kept for the next
        evaluator that views the same arrays in the same way.
        """
        import torch

        seen = {}
        fresh = []
        for image in images:
            key = (view, id(image))
            if key in self._seen and self._seen[key][0] is image:
                seen[key] = self._seen[key]
            elif key not in seen:
                fresh.append(image)
                seen[key] = (image, torch.empty(0))
        for start in range(0, len(fresh), self.batch):
            batch = fresh[start : start + self.batch]
            rows = self.embed_pixels(stack(batch, view, self.image_size))
            seen |= {(view, id(i)): (i, row) for i, row in zip(batch, rows, strict=True)}
        others = {key: value for key, value in self._seen.items() if key[0] is not view}
        current = {id(image) for image in images}
        self._seen = {**{k: v for k, v in others.items() if k[1] in current}, **seen}
        return torch.stack([seen[view, id(image)][1] for image in images])

    def embed_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return L2-normalised embeddings [B, D] of pixels [B, 3, S, S], float32 on the CPU."""
        import torch

        with torch.inference_mode():
            dtype = self.model.dtype
            features = self.model.get_image_features(pixel_values=pixels.to(self.device, dtype))
            return _unit(features.pooler_output)

    def embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Return L2-normalised text embeddings [B, D], float32 on the CPU; equal texts share."""
        import torch

        distinct = list(dict.fromkeys(texts))
        ids = self.tokenizer(distinct, self.model.config.text_config.max_position_embeddings)
        # Compute each text up to its end token, rounded up: attention is causal, so the padding
        # after it changes nothing, and would be most of the work. The length is the text's own.
        ends = (ids == self.tokenizer.end).int().argmax(-1)
        lengths = ((ends // _STEP + 1) * _STEP).clamp(max=ids.shape[1]).tolist()
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

    @property
    def image_size(self) -> int:
        """Side of the pixels the vision encoder takes."""
        return int(self.model.config.vision_config.image_size)


class TowerEvaluator(Evaluator):
    """Base class of evaluators with one metric that is computed by a :class:`Tower`."""

    dtypes = ("float32", "bfloat16", "float16")
    _tower: Tower | None = None

    @abstractmethod
    def values(self, tower: Tower, samples: Sequence[Sample]) -> torch.Tensor:
        """Return the value of each of one or more samples: float32 [B] on the CPU."""

    def score(self, samples: Sequence[Sample]) -> list[dict[str, Score]]:
        if not samples:
            return []
        assert self._tower is not None, "load first"
        values = self.values(self._tower, samples).tolist()
        return [{self.metrics[0].name: Score(value)} for value in values]


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
    """Return the model in ``weights`` (hub layout: ``config.json``, and ``model.safetensors``
    or ``pytorch_model.bin``).

    ``what`` names it in errors; ``embedding`` is the width that its embeddings must have.
    EvaluatorError if files are missing, damaged or of another model.
    """
    key = (f"{weights.digest()} {tokenizer.digest()}", device, dtype)
    if (shared := _towers.get(key)) is not None:
        return shared
    mend_torchvision()
    from transformers import CLIPConfig

    file = weights.file("config.json")
    config = read_config(file, CLIPConfig.from_dict, "a CLIP")
    if embedding not in (None, config.projection_dim):
        raise EvaluatorError(
            f"{file} describes another model than {what}: embeddings of {config.projection_dim} "
            f"numbers instead of {embedding}"
        )
    stored = {file.path for file in weights.files}
    if "model.safetensors" in stored:
        file = weights.file("model.safetensors")
        state = read_safetensors(file)
    else:
        file = weights.file("pytorch_model.bin")
        state = read_checkpoint(file)
    new = build(config, state, file, tokenizer, device, dtype, what)
    _towers[key] = new
    return new


def build(
    config: Any,
    state: dict[str, torch.Tensor],
    file: Path,
    tokenizer: Weights,
    device: str,
    dtype: str,
    what: str,
) -> Tower:
    """Return a tower from a transformers CLIPConfig and the state dict in ``file``."""
    import torch

    mend_torchvision()
    from transformers import CLIPModel

    words = Tokenizer(tokenizer.folder, config.text_config.vocab_size)
    model = empty_model(lambda: CLIPModel(config))
    load_strictly(model, state, file, what)
    return Tower(model.to(device, getattr(torch, dtype)).eval(), words, device)
