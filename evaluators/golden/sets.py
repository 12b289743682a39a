"""Tiny DINOv2, and LPIPS and Inception at their own sizes, in their published layouts."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from unittest.mock import patch

import numpy as np
from PIL import Image

from evaluators import catalogue
from evaluators.golden.clip import EMBEDDING, write_clip
from evaluators.golden.fill import fill
from evaluators.sets import inception
from evaluators.sets.lpips import HEADS_FILE, TRUNK_FILE, head_shapes, trunk_shapes
from evaluators.sets.reference import Cmmd, DinoFidelity, InceptionFidelity
from evaluators.types import Evaluator, EvaluatorError
from soar_bench.core.images import read_pixels
from soar_bench.core.torchvision import mend_torchvision


def write_dinov2(folder: Path) -> None:
    """Write ``config.json`` and ``model.safetensors``."""
    import torch
    from safetensors.torch import save_file

    mend_torchvision()
    from transformers import Dinov2Config, Dinov2Model

    folder.mkdir(parents=True, exist_ok=True)
    config = Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14
    )
    config.save_pretrained(folder)
    with torch.device("meta"):
        shapes = {name: tuple(t.shape) for name, t in Dinov2Model(config).state_dict().items()}
    state = {name: torch.from_numpy(fill(name, shape)) for name, shape in shapes.items()}
    save_file(state, folder / "model.safetensors")


def write_lpips(folder: Path) -> None:
    """Write AlexNet's convolutions and the linear heads, which are never negative."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    trunk = {name: torch.from_numpy(fill(name, s)) for name, s in trunk_shapes().items()}
    heads = {name: torch.from_numpy(fill(name, s)).abs() for name, s in head_shapes().items()}
    torch.save(trunk, folder / TRUNK_FILE)
    torch.save(heads, folder / HEADS_FILE)


def write_inception(folder: Path) -> None:
    """Write the Inception network, 95 MB, by the names that the package has for its parts."""
    import torch

    mend_torchvision()
    from torch_fidelity import feature_extractor_inceptionv3 as package

    network = package.FeatureExtractorInceptionV3
    with (  # which would download the published one
        patch.object(package, "load_state_dict_from_url", lambda *_, **__: {}),
        patch.object(network, "load_state_dict", lambda *_: None),
        torch.device("meta"),
    ):
        shapes = network("inception-v3-compat", ["2048"]).state_dict()
    state = {}
    for name, tensor in shapes.items():
        values = fill(name, tuple(tensor.shape))
        values *= 1.35 if values.ndim > 1 else 1  # against what each rectifier takes away
        state[name] = torch.from_numpy(1 + values if name.endswith("running_var") else values)
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state, folder / catalogue.INCEPTION.files[0].path)


def write_reference(folder: Path) -> Path:
    """Write twelve reference pictures into a folder ``reference`` of a folder; return it.

    They are the packaged pictures, shifted.
    """
    reference = folder / "reference"
    reference.mkdir(parents=True, exist_ok=True)
    for file in sorted((Path(__file__).parent / "images").glob("*.png")):
        image = np.resize(read_pixels(file)[0], (64, 64, 3))
        for shift in (5, 23, 41):
            shifted = Image.fromarray(np.roll(image, shift, axis=(0, 1)))
            shifted.save(reference / f"{file.stem}-{shift}.png")
    return reference


def _cmmd(folder: Path) -> Evaluator:
    import torch
    from safetensors.torch import load_file

    write_clip(folder / "clip")
    state = load_file(folder / "clip" / "model.safetensors")
    torch.save(state, folder / "clip" / "pytorch_model.bin")
    weights = catalogue.CLIP_VIT_L_14_336.at(folder / "clip")
    return Cmmd(str(write_reference(folder)), weights, embedding=EMBEDDING)


def _dino_fidelity(folder: Path) -> Evaluator:
    write_dinov2(folder / "dinov2")
    return DinoFidelity(str(write_reference(folder)), catalogue.DINOV2.at(folder / "dinov2"))


def _inception_fidelity(folder: Path) -> Evaluator:
    with suppress(EvaluatorError):  # without its package, check() says what to install
        inception.check()
        write_inception(folder / "inception")
    weights = catalogue.INCEPTION.at(folder / "inception")
    return InceptionFidelity(str(write_reference(folder)), weights)


#: By the names before the folder of reference pictures.
REFERENCED: dict[str, Callable[[Path], Evaluator]] = {
    "fidelity": _inception_fidelity,
    "fidelity-dinov2": _dino_fidelity,
    "cmmd": _cmmd,
}
