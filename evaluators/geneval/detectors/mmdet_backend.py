"""GenEval's detector in the original library, mmdet 3.

The extra ``mmdet``. It needs no compiled mmcv.
"""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import numpy as np

from evaluators.catalogue import MASK2FORMER
from evaluators.geneval.detectors.architecture import Architecture, is_computed
from evaluators.geneval.detectors.checkpoint import read_mmdet_checkpoint
from evaluators.geneval.detectors.keys import to_mmdet3
from evaluators.geneval.detectors.names import OBJECT_NAMES
from evaluators.geneval.detectors.preprocessing import Channels
from evaluators.geneval.detectors.types import Instance
from evaluators.loading import load_strictly
from evaluators.types import EvaluatorError
from evaluators.weights import Weights
from soar_bench.core.packages import install
from soar_bench.core.torchvision import mend_torchvision

#: The official model's configuration, inside mmdet's own wheel.
CONFIG = "mask2former/mask2former_swin-s-p4-w7-224_8xb2-lsj-50e_coco.py"
_OPERATORS = "mmcv._ext"
_PACKAGES = ("mmengine", "mmcv", "mmdet")


class MmdetDetector:
    """Mask2Former Swin-S by mmdet's ``init_detector`` and ``inference_detector``.

    Weights and ``channels`` are those of
    :class:`~evaluators.geneval.detectors.mask2former.Mask2FormerSwinS`.
    """

    name = "mmdet"
    comparable = True

    def __init__(
        self,
        channels: Channels = "bgr",
        weights: Weights = MASK2FORMER,
        architecture: Architecture | None = None,
    ) -> None:
        if channels not in get_args(Channels):
            raise EvaluatorError(f"channels must be bgr or rgb, not {channels!r}")
        self.channels = channels
        self.weights = (weights,)
        self.architecture = architecture or Architecture()
        self._model: Any = None

    def check(self) -> None:
        """Raise EvaluatorError if a package or the weights are not here."""
        needs = ", ".join(name for name in _PACKAGES if importlib.util.find_spec(name) is None)
        if not needs and not version("mmdet").startswith("3."):
            needs = f"mmdet 3, not {version('mmdet')}"
        if needs:
            raise EvaluatorError(f"the mmdet detector needs {needs}: {install('mmdet')}")
        self.weights[0].digests()

    def identity(self) -> dict[str, str]:
        """Return the weights' digest, mmdet's version and the order of channels."""
        return {
            self.weights[0].name: self.weights[0].digest(),
            "detector": f"mmdet {version('mmdet')}",
            "channels": self.channels,
        }

    def load(self, device: str = "cpu", dtype: str = "float32") -> None:
        """Build mmdet's model and load all the weights into it.

        Keys are converted and checked here: mmdet ignores those that do not fit, as mmdet 2's.
        """
        if dtype != "float32":
            raise EvaluatorError(f"GenEval's detector runs in float32, not {dtype}")
        weights = self.weights[0]
        file = weights.file(weights.files[0].path)
        state = to_mmdet3(read_mmdet_checkpoint(file), self.architecture, file)
        do_without_operators()
        mend_torchvision()
        import mmdet
        from mmdet.apis import init_detector
        from mmengine.config import Config

        config = Config.fromfile(Path(mmdet.__file__).parent / ".mim" / "configs" / CONFIG)
        config.merge_from_dict(sizes(self.architecture))
        with warnings.catch_warnings(record=True):  # it warns of the weights that come below
            model = init_detector(config, None, device=device)
        computed = {n: t for n, t in model.state_dict().items() if is_computed(n)}
        load_strictly(model, {**computed, **state}, file, "mmdet's Mask2Former")
        self._model = model

    def detect(self, images: Sequence[np.ndarray]) -> list[list[Instance]]:
        """Return all objects on each uint8 RGB image [H, W, 3], best first, with masks."""
        if self._model is None:
            raise EvaluatorError("GenEval's detector must be loaded before it detects")
        from mmdet.apis import inference_detector

        detected = []
        for image in images:
            ordered = image[..., ::-1] if self.channels == "bgr" else image
            result = inference_detector(self._model, np.ascontiguousarray(ordered))
            detected.append(_instances(result.pred_instances.cpu()))
        return detected


def sizes(architecture: Architecture) -> dict[str, Any]:
    """Return the settings of mmdet's configuration that an architecture decides; for the official
    one they are those that are there.
    """
    a, head = architecture, "model.panoptic_head"
    encoder = f"{head}.pixel_decoder.encoder.layer_cfg"
    decoder = f"{head}.transformer_decoder.layer_cfg"
    attention = {"embed_dims": a.channels, "num_heads": a.decoder_heads}
    settings: dict[str, dict[str, Any]] = {
        "model.backbone": {
            "embed_dims": a.embed_dim,
            "depths": a.depths,
            "num_heads": a.heads,
            "window_size": a.window,
        },
        head: {
            "in_channels": list(a.stage_channels()),
            "feat_channels": a.channels,
            "out_channels": a.channels,
            "num_things_classes": a.classes,
            "num_queries": a.queries,
            "loss_cls.class_weight": [1.0] * a.classes + [0.1],
            "pixel_decoder.encoder.num_layers": a.pixel_layers,
            "pixel_decoder.positional_encoding.num_feats": a.channels // 2,
            "positional_encoding.num_feats": a.channels // 2,
            "transformer_decoder.num_layers": a.layers,
        },
        f"{encoder}.self_attn_cfg": attention,
        f"{encoder}.ffn_cfg": {"embed_dims": a.channels, "feedforward_channels": a.pixel_width},
        f"{decoder}.self_attn_cfg": attention,
        f"{decoder}.cross_attn_cfg": attention,
        f"{decoder}.ffn_cfg": {"embed_dims": a.channels, "feedforward_channels": a.width},
    }
    return {f"{at}.{name}": v for at, of in settings.items() for name, v in of.items()}


def _instances(result: Any) -> list[Instance]:
    """Return mmdet's ``InstanceData`` as objects, best first."""
    parts = (result.labels.tolist(), result.scores.tolist(), result.bboxes.tolist())
    rows = zip(*parts, result.masks.numpy().astype(bool), strict=True)
    objects = [Instance(OBJECT_NAMES[i], score, tuple(b), mask=mask) for i, score, b, mask in rows]
    return sorted(objects, key=lambda instance: -instance.score)


def do_without_operators() -> None:
    """Make mmdet importable beside mmcv-lite, which lacks mmcv's compiled operators.

    Mask2Former uses a single one, multi-scale deformable attention, which mmcv also has in plain
    PyTorch, exact and only slower on a GPU. So the absent module is replaced by one with that
    function, whose other operators raise an error. Where they are compiled, nothing is replaced.
    """
    if _OPERATORS in sys.modules or importlib.util.find_spec(_OPERATORS) is not None:
        return
    sys.modules[_OPERATORS] = _Operators(_OPERATORS)


class _Operators(ModuleType):
    """Stand-in for ``mmcv._ext``: every operator exists, one of them works."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__ = ModuleSpec(name, None)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name == "ms_deform_attn_forward":
            return _deformable_attention

        def absent(*_args: object, **_kwargs: object) -> None:
            raise EvaluatorError(f"{name} needs mmcv with compiled operators, not mmcv-lite")

        return absent


def _deformable_attention(
    value: Any, shapes: Any, _starts: Any, locations: Any, weights: Any, **_: Any
) -> Any:
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

    return multi_scale_deformable_attn_pytorch(value, shapes, locations, weights)
