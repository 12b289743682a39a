"""Training data: every fault is named, nothing is replaced in silence, order is reproducible."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from soar_bench.pipelines.loading import load_pipeline
from soar_bench.trainer.pipeline import BasePipeline
from training.data import ImageFolder
from training.data.encoding import EncodingPlan
from training.data.order import rows_of_step
from training.data.views import fit_to
from training.encoders import Encoders
from training.types import TrainingError


@pytest.fixture()
def folder(tmp_path):
    rng = np.random.default_rng(0)
    lines = []
    for i in range(3):
        image = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(image).save(tmp_path / f"{i}.png")
        lines.append(json.dumps({"file_name": f"{i}.png", "text": f"a photo of a star {i % 2}"}))
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_reads_images_and_captions(folder):
    data = ImageFolder(folder)
    assert len(data) == 3
    image, caption = data[1]
    assert image.shape == (64, 64, 3)
    assert image.dtype == np.uint8
    assert caption == "a photo of a star 1"


def test_the_digest_follows_the_content(folder):
    before = ImageFolder(folder).digest
    Image.new("RGB", (64, 64)).save(folder / "1.png")
    assert ImageFolder(folder).digest != before


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"file_name": "7.png", "text": "x"}', r"line 4 names '7\.png', which is missing"),
        ('{"file_name": "../other.png", "text": "x"}', "outside"),
        ('{"file_name": "/etc/passwd", "text": "x"}', "outside"),
        ('{"file_name": "0.png"}', 'needs the texts "file_name" and "text"'),
        ('["0.png", "x"]', "line 4 must be one JSON object, such as"),
        ("{not json", "line 4 is not JSON"),
    ],
)
def test_a_bad_record_is_named(folder, line, message):
    with (folder / "metadata.jsonl").open("a") as stream:
        stream.write(line + "\n")
    with pytest.raises(TrainingError, match=message):
        ImageFolder(folder)


def test_a_broken_image_is_an_error_and_no_black_square(folder):
    data = (folder / "2.png").read_bytes()
    (folder / "2.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(TrainingError, match=r"line 3 names 2\.png, which is not a readable image"):
        ImageFolder(folder)[2]


def test_a_folder_without_metadata_or_records_is_refused(tmp_path):
    with pytest.raises(TrainingError, match=r"has no metadata\.jsonl"):
        ImageFolder(tmp_path)
    (tmp_path / "metadata.jsonl").write_text("\n")
    with pytest.raises(TrainingError, match="names no images"):
        ImageFolder(tmp_path)


def test_fit_keeps_the_centre():
    image = np.zeros((64, 128, 3), np.uint8)
    image[:, 32:96] = 200
    assert (fit_to(image, 64) == 200).all()
    assert fit_to(image, 32).shape == (32, 32, 3)


def test_every_epoch_visits_every_sample_once_in_a_new_order():
    steps = [rows_of_step(10, 4, step, seed=0).tolist() for step in range(5)]
    flat = [row for step in steps for row in step]
    assert sorted(flat[:10]) == list(range(10))
    assert sorted(flat[10:]) == list(range(10))
    assert flat[:10] != flat[10:]
    assert rows_of_step(10, 4, 3, seed=0).tolist() == steps[3]
    assert rows_of_step(10, 4, 3, seed=1).tolist() != steps[3]


def test_a_batch_may_be_larger_than_the_data():
    assert sorted(rows_of_step(3, 7, 0, seed=0).tolist()[:3]) == [0, 1, 2]


def test_encoding_matches_the_pipelines_own(folder, tiny_pipeline):
    import torch

    pipeline = load_pipeline(tiny_pipeline)
    data = ImageFolder(folder)
    encoders = Encoders(BasePipeline(tiny_pipeline), torch.device("cpu"))
    encoded = EncodingPlan(data, encoders, 64, 14, batch_size=2).make()
    assert encoded.latents[torch.arange(3)].shape == (3, 4, 16, 16)
    assert encoded.captions.tolist() == [0, 1, 0]
    assert len(encoded.prompt_embeds) == 3  # two captions and the empty one

    pixels = pipeline.image_processor.preprocess(Image.fromarray(data[1][0]))
    with torch.no_grad():
        latent = pipeline.vae.encode(pixels).latent_dist.mean
        expected = (latent - pipeline.vae.config.shift_factor) * pipeline.vae.config.scaling_factor
        embeds, empty, pooled, _ = pipeline.encode_prompt(
            data[1][1], None, None, max_sequence_length=14
        )
    torch.testing.assert_close(encoded.latents[1][None], expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(encoded.prompt_embeds[1][None], embeds, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(encoded.pooled_embeds[1][None], pooled, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        encoded.prompt_embeds[encoded.empty_caption][None], empty, rtol=1e-4, atol=1e-5
    )
