"""HPSv2.1: human preference score, version 2.1."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from evaluators import catalogue
from evaluators.clip import Tower, TowerEvaluator, build
from evaluators.images import padded_view
from evaluators.loading import read_checkpoint
from evaluators.openclip import Architecture, clean, to_transformers
from evaluators.types import EvaluatorError, Metric, Sample
from evaluators.weights import Weights

if TYPE_CHECKING:
    import torch

FILE = "HPS_v2.1_compressed.pt"
_VIEWS = {
    "hpsv21": (padded_view(antialias=True), "with antialiasing"),
    "hpsv21-no-antialias": (padded_view(antialias=False), "without antialiasing"),
}


class HpsV21(TowerEvaluator):
    """Cosine of image and prompt in a CLIP ViT-H/14 tuned on people's preferences.

    Source: Wu et al., "Human Preference Score v2" (arXiv 2306.09341) and tgxs002/HPSv2. Its code
    resizes the picture as a tensor by torchvision's default: with antialiasing since torchvision
    0.17, as in Flow-GRPO (0.21) and the SOAR paper, which is ``hpsv21``; without before, as when
    HPSv2 was published, which is ``hpsv21-no-antialias``.
    """

    def __init__(
        self,
        name: str = "hpsv21",
        weights: Weights = catalogue.HPS_V2_1,
        tokenizer: Weights = catalogue.CLIP_TOKENIZER,
        *,
        architecture: Architecture | None = None,
    ) -> None:
        self.name = name
        self._view, resize = _VIEWS[name]
        self.weights = (weights, tokenizer)
        self._architecture = architecture or Architecture()
        self.metrics = (
            Metric(
                name=name.replace("-", "_"),
                unit="cosine; published values are about 0.28",
                range=(-1.0, 1.0),
                higher_is_better=True,
                version=f"1, bicubic resize of the tensor {resize}",
                source="arXiv 2306.09341; tgxs002/HPSv2",
                description="How a CLIP tuned on people's preferences rates the picture for its "
                f"prompt; bicubic resize of the tensor {resize}.",
                licence=catalogue.HPS_V2_1.licence,
            ),
        )

    def load(self, device: str = "cpu", dtype: str = "float32") -> None:
        weights, tokenizer = self.weights
        self.check()
        file = weights.file(FILE)
        config, state = self._architecture.config(), to_transformers(read_state(file))
        what = "HPSv2.1's CLIP ViT-H/14"
        self._tower = build(config, state, file, tokenizer, device, dtype, what)

    def values(self, tower: Tower, samples: Sequence[Sample]) -> torch.Tensor:
        return tower.cosines(samples, self._view, clean)


def read_state(file: Path) -> dict[str, torch.Tensor]:
    """Return the published file's tensors by open_clip's names. EvaluatorError if it has none."""
    content = read_checkpoint(file)
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict):
        raise EvaluatorError(f"{file} has no state_dict, as HPSv2.1 is published: fetch it again")
    return state


def hpsv21_no_antialias() -> HpsV21:
    """Return HPSv2.1 as HPSv2's own code computed it when it was published."""
    return HpsV21("hpsv21-no-antialias")
