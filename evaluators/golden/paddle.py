"""Tiny models of PaddleOCR 3 in its own layout: they find what is dark, and read nonsense there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evaluators.golden.fill import fill

#: All that the recogniser knows: the letters of the packaged sign.
_LETTERS = "SOAR"
#: Pixels of a line that it reads a letter from.
_HEIGHT, _STEP = 48, 8

_DETECTOR = {
    "PreProcess": {
        "transform_ops": [
            {"DecodeImage": {"channel_first": False, "img_mode": "BGR"}},
            {"DetResizeForTest": {"resize_long": 960}},
            {
                "NormalizeImage": {
                    "mean": [0.485, 0.456, 0.406],
                    "std": [0.229, 0.224, 0.225],
                    "scale": "1./255.",
                    "order": "hwc",
                }
            },
            {"ToCHWImage": None},
        ]
    },
    "PostProcess": {
        "name": "DBPostProcess",
        "thresh": 0.3,
        "box_thresh": 0.6,
        "max_candidates": 1000,
        "unclip_ratio": 1.5,
    },
}
_RECOGNISER = {
    "PreProcess": {
        "transform_ops": [
            {"DecodeImage": {"channel_first": False, "img_mode": "BGR"}},
            {"RecResizeImg": {"image_shape": [3, _HEIGHT, 320]}},
        ]
    },
    "PostProcess": {"name": "CTCLabelDecode", "character_dict": list(_LETTERS)},
}


def write_paddle(detector: Path, recogniser: Path) -> None:
    """Export both models into folders that have their names; Paddle must be installed."""
    import paddle
    from paddle import nn

    # dark is about -2 after normalisation, and white 2.4
    darkness = nn.Conv2D(3, 1, 1)
    darkness.weight.set_value(paddle.full([1, 3, 1, 1], -2.0))
    darkness.bias.set_value(paddle.zeros([1]))
    find = nn.Sequential(darkness, nn.MaxPool2D(13, stride=1, padding=6), nn.Sigmoid())
    _export(find, detector, [None, 3, None, None], _DETECTOR)

    classes = 1 + len(_LETTERS) + 1  # none, and a space
    shape = (classes, 3, _HEIGHT, _STEP)
    look = nn.Conv2D(3, classes, shape[2:], stride=shape[2:])
    look.weight.set_value(paddle.to_tensor(60 * fill("look", shape)))
    look.bias.set_value(paddle.zeros([classes]))
    read = nn.Sequential(look, nn.Flatten(2), _columns_last(), nn.Softmax(-1))
    _export(read, recogniser, [None, 3, _HEIGHT, None], _RECOGNISER)


def _columns_last() -> Any:
    from paddle import nn

    class ColumnsLast(nn.Layer):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            return x.transpose([0, 2, 1])

    return ColumnsLast()


def _export(model: Any, folder: Path, shape: Sequence[int | None], steps: dict[str, Any]) -> None:
    import paddle

    folder.mkdir(parents=True, exist_ok=True)
    model.eval()
    spec = [paddle.static.InputSpec(shape, "float32", "x")]
    paddle.jit.save(model, str(folder / "inference"), input_spec=spec)
    # JSON is YAML
    text = json.dumps({"Global": {"model_name": folder.name}, **steps})
    (folder / "inference.yml").write_text(text, "utf-8")
