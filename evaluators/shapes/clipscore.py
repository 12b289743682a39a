"""Image-text alignment by a tiny CLIP trained on the embedded world."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from evaluators.loading import load_strictly, read_safetensors
from evaluators.types import Evaluator, EvaluatorError, Metric, Sample, Score
from soar_bench.core.torchvision import mend_torchvision

WEIGHTS = Path(__file__).parent / "weights" / "clip"
_FILES = ("config.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json")


class ShapesClipScore(Evaluator):
    """Cosine of image and prompt in a CLIP of 1.2M parameters.

    A learned scorer with a learned scorer's faults, so that the embedded world has one of the kind
    of preference metrics. Its text tower is none of those that condition the base.
    """

    name = "shapes-clipscore"
    metrics = (
        Metric(
            name="shapes_clipscore",
            unit="cosine",
            range=(-1.0, 1.0),
            higher_is_better=True,
            version="1",
            source="weights and recipe of this project (configs/shapes_pretrain.yaml)",
            description="Cosine of image and prompt embeddings in the embedded world's own CLIP.",
        ),
    )

    def __init__(self, folder: Path = WEIGHTS) -> None:
        self.folder = folder
        self._model: Any = None

    def check(self) -> None:
        if missing := [name for name in _FILES if not (self.folder / name).is_file()]:
            raise EvaluatorError(
                f"the weights of shapes-clipscore are incomplete: {self.folder} lacks "
                f"{', '.join(missing)}; install soar-bench again"
            )

    def identity(self) -> dict[str, str]:
        digests = (sha256((self.folder / name).read_bytes()).digest() for name in _FILES)
        return {"weights": sha256(b"".join(digests)).hexdigest()}

    def load(self, device: str = "cpu", dtype: str = "float32") -> None:
        import torch

        mend_torchvision()
        from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

        self.check()
        self._device = device
        model = CLIPModel(CLIPConfig.from_pretrained(self.folder, local_files_only=True))
        weights = self.folder / "model.safetensors"
        load_strictly(model, read_safetensors(weights), weights, "the embedded world's CLIP")
        self._model = model.to(device, torch.float32).eval()
        try:
            self._tokenizer = CLIPTokenizer.from_pretrained(self.folder, local_files_only=True)
        except Exception as error:  # a damaged file raises whatever its reader stumbles over
            raise EvaluatorError(
                f"the tokenizer in {self.folder} is damaged ({error!r}); install soar-bench again"
            ) from error
        expected = model.config.text_config.vocab_size
        if len(self._tokenizer) != expected:  # transformers does not say so
            raise EvaluatorError(
                f"the tokenizer in {self.folder} has {len(self._tokenizer)} tokens where the "
                f"model has {expected}; install soar-bench again"
            )
        self._processor = CLIPImageProcessorPil.from_pretrained(self.folder, local_files_only=True)

    def score(self, samples: Sequence[Sample]) -> list[dict[str, Score]]:
        if not samples:
            return []
        import torch

        pixels = self._processor(images=[s.image for s in samples], return_tensors="pt")
        length = self._model.config.text_config.max_position_embeddings
        padded = {"padding": "max_length", "truncation": True, "return_tensors": "pt"}
        ids = self._tokenizer([s.prompt for s in samples], max_length=length, **padded).input_ids
        with torch.inference_mode():
            image = self._model.get_image_features(**pixels.to(self._device)).pooler_output
            text = self._model.get_text_features(input_ids=ids.to(self._device)).pooler_output
            cosine = torch.nn.functional.cosine_similarity(image, text, dim=-1)
        return [{self.metrics[0].name: Score(value)} for value in cosine.tolist()]
