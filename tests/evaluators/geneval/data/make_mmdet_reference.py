"""Records what mmdet itself returns for weights and pictures that are made by formulas.

    python tests/evaluators/geneval/data/make_mmdet_reference.py

Under mmdet 3 it writes ``mmdet3.npz`` beside itself, under mmdet 2 ``mmdet2.npz``; README.md there
says what was installed and what the files hold. Of this project it uses ``formulas.py`` alone.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from formulas import PICTURES, fill, lively_fill, picture  # noqa: E402


class _Absent(types.ModuleType):
    """Stands for a module of compiled operators: this model needs none of them on a CPU."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__ = importlib.machinery.ModuleSpec(name, None)
        self.__path__: list[str] = []
        self.__version__ = "0"
        sys.modules[name] = self

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return None


if importlib.util.find_spec("torchvision") is None:  # mmcv 1 imports it
    _Absent("torchvision").models = _Absent("torchvision.models")
    _Absent("torchvision.ops")
_Absent("mmcv._ext")
for alias, kind in {"int": int, "float": float, "bool": bool}.items():  # gone from numpy 2
    if not hasattr(np, alias):
        setattr(np, alias, kind)

import mmdet  # noqa: E402
from mmdet.apis import inference_detector, init_detector  # noqa: E402

MAJOR = int(mmdet.__version__.split(".")[0])
CONFIG = {
    2: "mask2former_swin-s-p4-w7-224_lsj_8x2_50e_coco.py",
    3: "mask2former_swin-s-p4-w7-224_8xb2-lsj-50e_coco.py",
}[MAJOR]


def read_config() -> Any:
    file = Path(mmdet.__file__).parent / ".mim" / "configs" / "mask2former" / CONFIG
    if MAJOR == 2:
        from mmcv import Config
    else:
        from mmengine.config import Config
    return Config.fromfile(str(file))


def shrink(config: Any) -> None:
    """The sizes of the project's ``TINY`` architecture."""
    backbone, head = config.model.backbone, config.model.panoptic_head
    backbone.embed_dims, backbone.depths, backbone.num_heads = 16, [1, 2, 2, 1], [1, 2, 4, 8]
    head.in_channels = [16, 32, 64, 128]
    head.feat_channels = head.out_channels = 32
    head.num_queries = 20
    head.positional_encoding.num_feats = head.pixel_decoder.positional_encoding.num_feats = 16
    encoder, decoder = head.pixel_decoder.encoder, head.transformer_decoder
    encoder.num_layers, decoder.num_layers = 2, 4
    if MAJOR == 2:
        layer = encoder.transformerlayers
        attentions, forwards = [layer.attn_cfgs], [layer.ffn_cfgs]
        layer = decoder.transformerlayers
        attentions.append(layer.attn_cfgs)
        forwards.append(layer.ffn_cfgs)
        layer.feedforward_channels = 64
    else:
        layer = decoder.layer_cfg
        attentions = [encoder.layer_cfg.self_attn_cfg, layer.self_attn_cfg, layer.cross_attn_cfg]
        forwards = [encoder.layer_cfg.ffn_cfg, layer.ffn_cfg]
    for attention in attentions:
        attention.embed_dims, attention.num_heads = 32, 4
    for forward in forwards:
        forward.embed_dims, forward.feedforward_channels = 32, 64


def mmdet3_key(key: str) -> str:
    """Weights are filled by mmdet 3's names under both, so that both hold the same model."""
    decoder = "transformer_decoder" in key
    key = key.replace("attentions.0.", "cross_attn." if decoder else "self_attn.")
    return key.replace("attentions.1.", "self_attn.").replace(".ffns.0.", ".ffn.")


def build(tiny: bool) -> torch.nn.Module:
    config = read_config()
    if tiny:
        shrink(config)
    model = init_detector(config, None, device="cpu")
    filler = lively_fill if tiny else fill
    state = {
        name: torch.from_numpy(np.asarray(filler(mmdet3_key(name), tuple(tensor.shape))))
        for name, tensor in model.state_dict().items()
        if tensor.is_floating_point()
    }
    model.load_state_dict(state, strict=False)
    return model


def objects(found: Any) -> dict[str, np.ndarray]:
    """Boxes, scores, labels and mask areas of either version's result."""
    if MAJOR == 3:
        found = found.pred_instances
        boxes, scores, labels = found.bboxes, found.scores, found.labels
        areas = found.masks.flatten(1).sum(1)
    else:
        by_class, masks = found
        labels = torch.tensor([i for i, rows in enumerate(by_class) for _ in rows])
        rows = torch.from_numpy(np.concatenate(by_class))
        boxes, scores = rows[:, :4], rows[:, 4]
        areas = torch.tensor([int(np.sum(mask)) for row in masks for mask in row])
    return {
        "boxes": boxes.numpy().astype(np.float32),
        "scores": scores.numpy().astype(np.float32),
        "labels": labels.numpy().astype(np.uint8),
        "areas": areas.numpy().astype(np.int32),
    }


def record(model: torch.nn.Module, image: np.ndarray) -> dict[str, np.ndarray]:
    """Figures of one RGB picture, handed to mmdet as it reads files: as BGR."""
    seen: dict[str, np.ndarray] = {}
    forward = model.panoptic_head.forward

    def watched(*args: Any, **kwargs: Any) -> Any:
        classes, masks = output = forward(*args, **kwargs)
        seen["class_logits"] = classes[-1][0, ::2].numpy().astype(np.float32)
        seen["mask_logits"] = masks[-1][0, ::10, 3::8, 3::8].numpy().astype(np.float32)
        return output

    model.panoptic_head.forward = watched
    found = inference_detector(model, np.ascontiguousarray(image[..., ::-1]))
    model.panoptic_head.forward = forward
    return {**seen, **objects(found)}


def main() -> None:
    torch.set_num_threads(1)
    figures = {}
    for size, names in (("tiny", PICTURES), ("full", PICTURES if MAJOR == 3 else ["wide"])):
        model = build(tiny=size == "tiny")
        for name in names:
            for key, value in record(model, picture(name)).items():
                figures[f"{size}/{name}/{key}"] = value
            print(size, name, figures[f"{size}/{name}/boxes"][:2].tolist(), flush=True)
    np.savez_compressed(HERE / f"mmdet{MAJOR}.npz", **figures)


if __name__ == "__main__":
    main()
