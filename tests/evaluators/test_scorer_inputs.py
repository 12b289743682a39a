"""Images and prompts that an evaluator is called on: what is refused, and why."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import torch
from colours import Red, noise
from PIL import Image

import evaluators
from evaluators import EvaluatorError
from soar_bench.core.errors import SoarBenchError

UNIT = torch.rand(2, 3, 4, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        (UNIT * 2 - 1, r"must lie in \[0, 1\] and hold no NaN.*clamp\(0, 1\)"),
        (UNIT * 255, r"must lie in \[0, 1\]"),
        (UNIT.numpy() - 0.1, r"must lie in \[0, 1\]"),
        (UNIT.where(UNIT.max() != UNIT, torch.nan), "hold no NaN, but runs from nan"),
        (UNIT.permute(0, 2, 3, 1), r"\[2, 4, 6, 3\]: move the channels from the end"),
        (noise(2).astype(np.float32) / 255, r"\[B, 3, H, W\].*move the channels"),
        (noise(2), r"\[B, 3, H, W\].*move the channels"),
        (UNIT[0], r"tensor \[B, 3, H, W\], not torch.float32 \[3, 4, 6\]"),
        (UNIT[:, :1], r"not torch.float32 \[2, 1, 4, 6\]"),
        ((UNIT * 255).long(), "must be uint8, or float in"),
        (list(UNIT), r"image 0 must be .* not torch.float32 \[3, 4, 6\]; give tensors"),
        (noise(1)[0] / 255, r"the image must be a PIL image or a uint8 array.*not float64"),
        ([noise(1)[0], noise(1)[0, ..., 0]], r"image 1 must be .* not uint8 \[8, 12\]"),
        ("picture.png", "not str"),
        (None, "not NoneType"),
    ],
)
def test_what_is_no_image_is_refused_and_never_guessed(images, reason):
    scorer = evaluators.load(Red(), device="cpu")
    with pytest.raises(EvaluatorError, match=reason):
        scorer(images, "a photo")
    assert scorer.evaluator.batches == []


def test_pil_images_follow_the_rules_of_image_files(tmp_path):
    scorer = evaluators.load(Red(), device="cpu")
    grey = Image.new("L", (4, 4), 51)
    palette = Image.new("RGB", (4, 4), (51, 0, 0)).convert("P", palette=Image.Palette.ADAPTIVE)
    opaque = Image.new("RGBA", (4, 4), (51, 0, 0, 255))
    values = scorer([grey, palette, opaque], "a photo")
    np.testing.assert_allclose(values, 0.2)
    wide = tmp_path / "wide.png"

    # A PNG of one RGB pixel of 16 bits, by hand: Pillow writes none.
    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"\0" + b"\1" * 6))
    wide.write_bytes(b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b""))
    for image, reason in (
        (Image.new("RGBA", (4, 4), (51, 0, 0, 128)), "image 0 has transparent pixels"),
        (Image.new("CMYK", (4, 4)), "image 0 has the colours CMYK: convert it to RGB"),
        (Image.new("I;16", (4, 4)), "image 0 has more than 8 bits a channel"),
        (Image.open(wide), "image 0 has more than 8 bits a channel"),
    ):
        with pytest.raises(SoarBenchError, match=reason):
            scorer([image], "a photo")


def test_counts_and_kinds_of_prompts_are_checked():
    scorer = evaluators.load(Red(), device="cpu")
    with pytest.raises(EvaluatorError, match="there are 3 images and 2 prompts: give one for each"):
        scorer(list(noise(3)), ["a", "b"])
    with pytest.raises(EvaluatorError, match="prompts must each be a str, not 7"):
        scorer(list(noise(2)), ["a", 7])
    with pytest.raises(EvaluatorError, match="there are 2 images and 1 metadata"):
        scorer(list(noise(2)), "a", [{}])
    with pytest.raises(EvaluatorError, match="metadata must each be a Mapping, not 'x'"):
        scorer(list(noise(2)), "a", ["x", "y"])


def test_importing_the_package_imports_nothing_heavy():
    code = (
        "import sys, evaluators; from evaluators import *; names = evaluators.list();"
        "heavy = {'torch', 'pandas', 'transformers'} & set(sys.modules);"
        "assert not heavy, heavy; assert 'pickscore' in names; print(load, Scorer, check_evaluator)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = evaluators.nonsense
