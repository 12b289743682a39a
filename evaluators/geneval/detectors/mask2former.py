"""GenEval's detector on transformers: Mask2Former with the official mmdet weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from evaluators.catalogue import MASK2FORMER
from evaluators.geneval.detectors import architecture as layout
from evaluators.geneval.detectors.architecture import LEVELS, PATCH, Architecture, is_computed
from evaluators.geneval.detectors.checkpoint import read_mmdet_checkpoint
from evaluators.geneval.detectors.keys import to_mmdet3, to_transformers
from evaluators.geneval.detectors.postprocessing import instances
from evaluators.geneval.detectors.preprocessing import Channels, Prepared, Preprocessing, prepare
from evaluators.geneval.detectors.types import Instance
from evaluators.loading import empty_model, load_strictly
from evaluators.types import EvaluatorError
from evaluators.weights import Weights
from soar_bench.core.torchvision import mend_torchvision

if TYPE_CHECKING:
    import torch

#: Tensors of transformers' model that detecting does not use and no checkpoint has.
_UNUSED = ("criterion.empty_weight", ".swin.layernorm.weight", ".swin.layernorm.bias")


class Mask2FormerSwinS:
    """Mask2Former Swin-S for COCO instances, as GenEval uses it, without mmdet or OpenCV.

    It detects what mmdet detects (docs/metrics/geneval-detector.md has the figures), one image at a
    time, with the weights of mmdet 2 or 3, converted when loaded.

    ``channels`` is the order in which mmdet would get an image's channels: with ``"bgr"``, as the
    official script's mmdet reads files, the network sees red as red; with ``"rgb"``, as in the
    Flow-GRPO family, it sees red as blue. ``preprocessing`` is mmdet 3.3's or mmdet 2.27's.
    """

    name = "mask2former-swin-s"
    comparable = True

    def __init__(
        self,
        channels: Channels = "bgr",
        preprocessing: Preprocessing = "mmdet3",
        weights: Weights = MASK2FORMER,
        architecture: Architecture | None = None,
    ) -> None:
        if channels not in get_args(Channels):
            raise EvaluatorError(f"channels must be bgr or rgb, not {channels!r}")
        if preprocessing not in get_args(Preprocessing):
            raise EvaluatorError(f"preprocessing must be mmdet3 or mmdet2, not {preprocessing!r}")
        self.channels = channels
        self.preprocessing = preprocessing
        self.weights = (weights,)
        self.architecture = architecture or Architecture()
        self._model: Any = None
        self._device = "cpu"

    def check(self) -> None:
        """Raise EvaluatorError if the weights are not here."""
        self.weights[0].digests()

    def identity(self) -> dict[str, str]:
        """Return the digest of the weights and the settings that decide what is detected."""
        return {
            self.weights[0].name: self.weights[0].digest(),
            "detector": "mask2former 1",
            "channels": self.channels,
            "preprocessing": self.preprocessing,
        }

    def load(self, device: str = "cpu", dtype: str = "float32") -> None:
        """Read and convert the weights. EvaluatorError if they are damaged or of another model.

        ``dtype`` must be float32: a lower precision detects other objects.
        """
        if dtype != "float32":
            raise EvaluatorError(f"GenEval's detector runs in float32, not {dtype}")
        weights = self.weights[0]
        file = weights.file(weights.files[0].path)
        state = to_mmdet3(read_mmdet_checkpoint(file), self.architecture, file)
        self._model = build(self.architecture, state, file).to(device).eval()
        self._device = device

    def detect(self, images: Sequence[np.ndarray]) -> list[list[Instance]]:
        """Return the 100 likeliest objects on each uint8 RGB image [H, W, 3], best first."""
        detected = []
        for image in images:
            prepared = prepare(image, self.channels, self.preprocessing)
            sizes = (prepared.pixels.shape[1:], prepared.size, image.shape[:2])
            detected.append(instances(*self.logits(prepared), *sizes))
        return detected

    def logits(self, prepared: Prepared) -> tuple[torch.Tensor, torch.Tensor]:
        """Return class logits [queries, classes + 1] and mask logits [queries, H/4, W/4].

        float32 on the model's device. EvaluatorError before ``load``.
        """
        import torch

        if self._model is None:
            raise EvaluatorError("GenEval's detector must be loaded before it detects")
        pixels = torch.from_numpy(prepared.pixels)[None].to(self._device)
        with torch.inference_mode():
            output = self._model(pixel_values=pixels)
        return output.class_queries_logits[0], output.masks_queries_logits[0]


def build(
    architecture: Architecture, state: dict[str, torch.Tensor], file: Path
) -> torch.nn.Module:
    """Return transformers' model with the weights in ``file``, given by mmdet 3's keys."""
    import torch

    mend_torchvision()
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

    a = architecture
    backbone = SwinConfig(
        patch_size=PATCH,
        embed_dim=a.embed_dim,
        depths=list(a.depths),
        num_heads=list(a.heads),
        window_size=a.window,
        mlp_ratio=4.0,
        qkv_bias=True,
        hidden_act="gelu",
        layer_norm_eps=1e-5,
        use_absolute_embeddings=False,
        out_features=[f"stage{i + 1}" for i in range(len(a.depths))],
    )
    config = Mask2FormerConfig(
        backbone_config=backbone,
        feature_size=a.channels,
        mask_feature_size=a.channels,
        hidden_dim=a.channels,
        num_attention_heads=a.decoder_heads,
        encoder_layers=a.pixel_layers,
        encoder_feedforward_dim=a.pixel_width,
        decoder_layers=a.layers + 1,  # it counts the prediction before the first layer
        dim_feedforward=a.width,
        num_queries=a.queries,
        num_labels=a.classes,
        dropout=0.0,
        pre_norm=False,
        common_stride=PATCH,
        feature_strides=[PATCH * 2**i for i in range(LEVELS + 1)],
    )
    model: torch.nn.Module = empty_model(lambda: Mask2FormerForUniversalSegmentation(config))
    index = torch.from_numpy(layout.position_index(a.window))
    for name, buffer in model.named_buffers():
        if is_computed(name):
            buffer.copy_(index.view_as(buffer))
    spare = {n: t for n, t in model.state_dict().items() if is_computed(n)}
    spare |= {n: torch.ones_like(t) for n, t in model.state_dict().items() if n.endswith(_UNUSED)}
    converted = to_transformers(state, model.state_dict().keys())
    load_strictly(model, {**spare, **converted}, file, "GenEval's Mask2Former")
    return model
