"""Images cut to the sizes that their own records ask for, as the release's data does."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from soar_bench.pipelines.loading import load_pipeline
from soar_bench.trainer.pipeline import BasePipeline
from training.cache import Processes
from training.data import open_listing
from training.data.encoding import encode_for
from training.encoders import encode_images
from training.types import TrainingError

CPU = torch.device("cpu")

RELEASED = [(64, 48), (48, 64), (64, 48), (64, 64), None]


@pytest.fixture()
def released(tmp_path):
    """Images of 96 x 80 in the release's form, each with the size that it is to be cut to."""
    rng = np.random.default_rng(1)
    folder = tmp_path / "released"
    folder.mkdir()
    rows = []
    for number, size in enumerate(RELEASED):
        pixels = rng.integers(0, 256, (80, 96, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:032x}.jpg")
        own_size = {"bw": size[0], "bh": size[1]} if size else {}
        rows.append({"md5": f"{number:032x}", "caption_en": f"a star {number}", **own_size})
    file = folder / "train.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    return str(file)


def test_a_record_is_cut_to_its_own_size_where_it_has_one(released, tiny_config, tiny_pipeline):
    """As the release cuts: resized to cover bw x bh, one random part of it, batches of one size."""
    images = {"record_sizes": True, "crop": "random", "crops": 2}
    config = tiny_config(data=released, images=images, resolution=64)
    source = open_listing(released, config.images)
    pipeline = BasePipeline(tiny_pipeline)
    data = encode_for(config, pipeline, source, None, CPU, Processes(), lambda *a: None)
    shapes = [tuple(data.latents[2 * n].shape) for n in range(len(RELEASED))]
    # The VAE halves a side twice; a record without sizes is a square.
    assert shapes == [(4, h // 4, w // 4) for w, h in (*RELEASED[:4], (64, 64))]
    vae = load_pipeline(tiny_pipeline)
    resized = Image.fromarray(source[0][0]).resize((64, 53), Image.Resampling.LANCZOS)
    parts = [np.asarray(resized)[top : top + 48] for top in range(6)]
    encoded = [encode_images(vae, part[None])[0] for part in parts]
    for variant in (0, 1):  # a part of the resized picture, whichever was drawn
        far = [float((data.latents[variant] - e).abs().mean()) for e in encoded]
        assert min(far) < 0.3 * np.median(far), far
    for step in range(6):
        assert data.latents[data.rows_of_step(2, step, seed=0)].ndim == 4, "one size a batch"
    plain = encode_for(
        tiny_config(data=released, resolution=64),
        *(pipeline, source, None, CPU, Processes(), lambda *a: None),
    )
    assert {tuple(plain.latents[n].shape) for n in range(5)} == {(4, 16, 16)}


def test_a_record_larger_than_the_resolution_is_refused(released, tiny_config, tiny_pipeline):
    config = tiny_config(data=released, images={"record_sizes": True}, resolution=48)
    source = open_listing(released, config.images)
    with pytest.raises(TrainingError, match=r"asks for 64 x 64 .* set resolution to 64 or more"):
        encode_for(
            config, BasePipeline(tiny_pipeline), source, None, CPU, Processes(), lambda *a: None
        )
