"""The LAION aesthetic score: how much people like a picture, regardless of its prompt."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from evaluators import catalogue
from evaluators.clip import Tower, TowerEvaluator, tower
from evaluators.clipscore import PROCESSOR_VIEW
from evaluators.loading import load_strictly, read_checkpoint
from evaluators.types import EvaluatorError, Metric, Sample
from evaluators.weights import Weights

if TYPE_CHECKING:
    import torch

HEAD_FILE = "sac+logos+ava1-l14-linearMSE.pth"
#: Widths of the layers after the embedding, and the dropout after each of the first three.
_WIDTHS = (1024, 128, 64, 16, 1)
_DROPOUTS = (0.2, 0.2, 0.1)


class Aesthetic(TowerEvaluator):
    """Regression on CLIP ViT-L/14's normalised image embedding; the prompt is not used.

    Source: christophschuhmann/improved-aesthetic-predictor, ``sac+logos+ava1-l14-linearMSE``.
    Without activations the head is one linear map; with its published weights no picture can leave
    5.24 ± 18.0, which gives the range.
    """

    name = "aesthetic"
    metrics = (
        Metric(
            name="aesthetic",
            unit="rating; people's ran from 1 to 10, published values are about 5.4",
            range=(-13.0, 24.0),
            higher_is_better=True,
            version="1",
            source="christophschuhmann/improved-aesthetic-predictor",
            description="What a regression on CLIP ViT-L/14's image embedding expects people to "
            "rate the picture.",
            licence=catalogue.AESTHETIC.licence,
        ),
    )
    shares = "clip-vit-l-14"

    def __init__(
        self,
        head: Weights = catalogue.AESTHETIC,
        clip: Weights = catalogue.CLIP_VIT_L_14,
        *,
        embedding: int = 768,
    ) -> None:
        self.weights = (head, clip)
        self._embedding = embedding

    def load(self, device: str = "cpu", dtype: str = "float32") -> None:
        weights, clip = self.weights
        self.check()
        self._head = read_head(weights.file(HEAD_FILE), self._embedding)
        self._tower = tower(clip, clip, device, dtype, "CLIP ViT-L/14", self._embedding)

    def values(self, tower: Tower, samples: Sequence[Sample]) -> torch.Tensor:
        import torch

        embeddings = tower.embed_images([s.image for s in samples], PROCESSOR_VIEW)
        with torch.inference_mode():
            return self._head(embeddings).squeeze(-1)


def head(embedding: int = 768) -> torch.nn.Module:
    """Return the head, under the published names, from embeddings [B, embedding] to [B, 1]."""
    from torch import nn

    layers: list[nn.Module] = []
    for sizes, dropout in zip_longest(pairwise((embedding, *_WIDTHS)), _DROPOUTS):
        layers.append(nn.Linear(*sizes))
        if dropout:
            layers.append(nn.Dropout(dropout))
    return nn.ModuleDict({"layers": nn.Sequential(*layers)})


def read_head(file: Path, embedding: int = 768) -> torch.nn.Module:
    """Return the published head: embeddings [B, embedding] to ratings [B, 1], float32, CPU.

    EvaluatorError if the file is damaged or holds another network.
    """
    state = read_checkpoint(file)
    if not isinstance(state, dict):
        raise EvaluatorError(f"{file} holds no state dict: fetch it again")
    network = head(embedding)
    load_strictly(network, state, file, "the aesthetic predictor's head")
    return network.get_submodule("layers").eval()
