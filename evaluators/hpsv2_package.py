"""HPSv2.1 through its authors' own package, to compare with ``hpsv21``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from PIL import Image

from evaluators import catalogue
from evaluators.hpsv2 import FILE, HpsV21, read_state
from evaluators.loading import load_strictly
from evaluators.openclip import Architecture
from evaluators.types import Evaluator, EvaluatorError, Sample, Score
from evaluators.weights import Weights
from soar_bench.core.packages import install, installed
from soar_bench.core.torchvision import mend_torchvision


class HpsV21Package(Evaluator):
    """HPSv2.1 by the hpsv2 package's model, transform and tokenizer.

    Its ``score`` function is not used: it loads v2.0 by default, reads the weights at every call
    and downloads. Its resize follows the installed torchvision's default, so torchvision's version
    is part of the identity. Weights and activations are float32, where the package uses autocast on
    a GPU.
    """

    name = "hpsv21-package"
    metrics = (
        replace(
            HpsV21().metrics[0],
            name="hpsv21_package",
            version="1, the hpsv2 package's own resize",
            description="HPSv2.1 as the hpsv2 package computes it, one picture at a time.",
        ),
    )

    def __init__(
        self,
        weights: Weights = catalogue.HPS_V2_1,
        *,
        architecture: Architecture | None = None,
        tokenize: Any = None,
    ) -> None:
        self.weights = (weights,)
        self._architecture = architecture or Architecture()
        self._tokenize = tokenize  # the package's own, unless a test has a tiny vocabulary

    def check(self) -> None:
        for package in ("hpsv2", "torchvision"):
            if find_spec(package) is None:
                raise EvaluatorError(
                    "hpsv21-package needs the packages hpsv2 and torchvision: "
                    f"{install('hpsv2')} and pip install --no-deps hpsv2x==1.2.0; hpsv21 gives the "
                    "same number without them"
                )
        super().check()

    def identity(self) -> dict[str, str]:
        return {**super().identity(), "hpsv2": _version(), "torchvision": version("torchvision")}

    def load(self, device: str = "cpu", dtype: str = "float32") -> None:
        self.check()
        mend_torchvision()
        try:
            from hpsv2.src.open_clip.model import CLIP
            from hpsv2.src.open_clip.tokenizer import tokenize
            from hpsv2.src.open_clip.transform import image_transform
        except Exception as error:  # its dependencies fail in many ways
            raise EvaluatorError(
                f"the hpsv2 package does not import ({error!r}): pip install --no-deps hpsv2x, or "
                "use hpsv21, which needs no package"
            ) from error
        a = self._architecture
        vision = {"image_size": a.image_size, "layers": a.vision_layers, "width": a.vision_width}
        vision |= {"head_width": a.vision_width // a.vision_heads, "patch_size": a.patch_size}
        text = {"context_length": a.text_length, "vocab_size": a.vocabulary, "width": a.text_width}
        text |= {"heads": a.text_heads, "layers": a.text_layers}
        model = CLIP(embed_dim=a.embedding, vision_cfg=vision, text_cfg=text, output_dict=True)
        (weights,) = self.weights
        file = weights.file(FILE)
        load_strictly(model, read_state(file), file, "HPSv2.1's CLIP ViT-H/14")
        self._model = model.to(device).eval()
        self._device = device
        self._tokenize = self._tokenize or tokenize
        self._transform = image_transform(a.image_size, is_train=False, resize_longest_max=True)

    def score(self, samples: Sequence[Sample]) -> list[dict[str, Score]]:
        import torch

        scores = []
        for sample in samples:
            pixels = self._transform(Image.fromarray(sample.image))[None].to(self._device)
            tokens = self._tokenize([sample.prompt]).to(self._device)
            with torch.inference_mode():
                features = self._model(pixels, tokens)
            cosine = (features["image_features"] * features["text_features"]).sum()
            scores.append({"hpsv21_package": Score(float(cosine))})
        return scores


def _version() -> str:
    names = ("hpsv2", "hpsv2x")  # two distributions of the same package
    return next((f"{n} {number}" for n in names if (number := installed(n))), "unknown")
