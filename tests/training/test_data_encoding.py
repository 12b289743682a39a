"""Encodings on disk are those made in memory, bit for bit, and are made once."""

from __future__ import annotations

import json
from types import SimpleNamespace

import forks
import numpy as np
import pytest
import torch
from diffusers import StableDiffusion3Pipeline
from PIL import Image
from safetensors.torch import load_file

from soar_bench.pipelines.loading import load_pipeline
from soar_bench.trainer.pipeline import BasePipeline
from training.cache import ALONE, Cache, Processes
from training.checkpoint import read_checkpoint
from training.data import open_listing
from training.data.encoding import Encoded, EncodingPlan, encode_for
from training.data.views import bucket_sizes
from training.encoders import Encoders, encode_images, encode_prompts
from training.types import Images, TrainingError

CPU = torch.device("cpu")
COUNT = 7


@pytest.fixture()
def source(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "data"
    folder.mkdir()
    rows = []
    for i in range(COUNT):
        size = (64, 64, 3) if i % 2 else (64, 112, 3)
        Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(folder / f"{i}.png")
        rows.append(json.dumps({"file_name": f"{i}.png", "text": f"a photo of a star {i % 4}"}))
    (folder / "metadata.jsonl").write_text("\n".join(rows))
    return open_listing(str(folder))


@pytest.fixture()
def encode(source, tiny_pipeline, tmp_path):
    """Encodes the source; with a cache unless told otherwise."""

    def make(cache=True, processes=ALONE, **keywords):
        plan = EncodingPlan(
            keywords.pop("source", source),
            keywords.pop("encoders", None) or Encoders(BasePipeline(tiny_pipeline), CPU),
            64,
            14,
            batch_size=3,
            cache=Cache(tmp_path / "cache") if cache else None,
            **keywords,
        )
        return plan.make(processes)

    return make


def assert_same(a: Encoded, b: Encoded) -> None:
    for name in ("latents", "prompt_embeds", "pooled_embeds"):
        left, right = getattr(a, name), getattr(b, name)
        assert len(left) == len(right)
        assert all(torch.equal(left[i], right[i]) for i in range(len(left))), name
    assert torch.equal(a.captions, b.captions)


def files(tmp_path, kind="*"):
    return sorted((tmp_path / "cache").glob(f"{kind}/??/*"))


@pytest.fixture()
def no_encoders(monkeypatch):
    def refuse(*args):
        pytest.fail("an encoder was loaded")

    return lambda: monkeypatch.setattr(BasePipeline, "load", refuse)


class WholePipeline:
    """Encodes with a pipeline loaded as diffusers loads it, all of it at once."""

    def __init__(self, folder):
        self._pipeline = StableDiffusion3Pipeline.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True
        )

    def images(self, pixels):
        return encode_images(self._pipeline, pixels)

    def prompts(self, texts, tokens):
        return encode_prompts(self._pipeline, texts, tokens)

    def identity(self, parts):
        return ""


def test_encodings_on_disk_are_those_made_in_memory_and_are_made_once(
    encode, tiny_pipeline, tmp_path, no_encoders
):
    in_memory = encode(cache=False, encoders=WholePipeline(tiny_pipeline))
    first = encode()
    assert_same(first, in_memory)
    # 7 images and 5 captions (4 and the empty one) by 3.
    assert [len(files(tmp_path, kind)) for kind in ("latents", "text")] == [3, 2]
    no_encoders()
    assert_same(encode(), in_memory)


def test_an_image_or_caption_that_changed_is_made_again_with_its_batch_alone(
    encode, source, tmp_path
):
    encode()
    before = {kind: set(files(tmp_path, kind)) for kind in ("latents", "text")}
    Image.new("RGB", (64, 64), "red").save(source.records[4].place.path)
    changed = open_listing(str(source.records[0].place.path.parent))
    assert_same(encode(source=changed), encode(source=changed, cache=False))
    assert len(set(files(tmp_path, "latents")) - before["latents"]) == 1
    assert set(files(tmp_path, "text")) == before["text"]


@pytest.mark.parametrize(
    "changes",
    [
        {"images": Images(crop="random")},
        {"keep": torch.bfloat16},
    ],
)
def test_other_settings_are_other_encodings(changes, encode, tmp_path):
    encode()
    before = len(files(tmp_path))
    assert_same(encode(**changes), encode(cache=False, **changes))
    assert len(files(tmp_path)) > before


def test_an_encode_that_was_killed_goes_on(encode, tiny_pipeline, tmp_path):
    class Killed(Encoders):
        left = 2

        def images(self, pixels):
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            return super().images(pixels)

    with pytest.raises(KeyboardInterrupt):
        encode(encoders=Killed(BasePipeline(tiny_pipeline), CPU))
    assert len(files(tmp_path)) == 2
    seen = []

    class Counting(Encoders):
        def images(self, pixels):
            seen.append(len(pixels))
            return super().images(pixels)

    whole = encode(encoders=Counting(BasePipeline(tiny_pipeline), CPU))
    assert seen == [1]
    assert_same(whole, encode(cache=False))


_PROCESSES = """
import os, sys, time
from pathlib import Path
import torch
from training.cache import Cache, Processes
from training.checkpoint import read_checkpoint
from training.data import open_listing
from training.data.encoding import EncodingPlan
from soar_bench.trainer.pipeline import BasePipeline
from training.encoders import Encoders

data, pipeline, here = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
waits, encoded = 0, 0
child = os.fork()  # nothing was computed yet
rank = 1 if child == 0 else 0

def wait():
    global waits
    waits += 1
    (here / f"{waits}-{rank}").touch()
    while not (here / f"{waits}-{1 - rank}").exists():
        time.sleep(0.02)

class Counting(Encoders):
    def images(self, pixels):
        global encoded
        encoded += len(pixels)
        return super().images(pixels)

encoders = Counting(BasePipeline(pipeline), torch.device("cpu"))
plan = EncodingPlan(
    open_listing(data), encoders, 64, 14, batch_size=3, cache=Cache(here / "cache")
)
encodings = plan.make(Processes(rank, 2, wait))
torch.save([encodings.latents[i] for i in range(len(encodings.latents))], here / f"{rank}.pt")
(here / f"{rank}.made").write_text(str(encoded))
if rank == 0:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_two_processes_share_the_work_and_read_the_same(encode, source, tiny_pipeline, tmp_path):
    data = source.records[0].place.path.parent
    done = forks.run(["-c", _PROCESSES, data, tiny_pipeline, tmp_path])
    assert done.returncode == 0, done.stderr
    # 3 batches of 3, 3 and 1 images: the first and the last are rank 0's.
    assert [int((tmp_path / f"{rank}.made").read_text()) for rank in range(2)] == [4, 3]
    alone = encode(cache=False).latents
    for rank in range(2):
        rows = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert all(torch.equal(row, alone[i]) for i, row in enumerate(rows))


def test_a_folder_that_processes_do_not_share_is_named(encode):
    with pytest.raises(TrainingError, match="a folder that every process shares"):
        encode(processes=Processes(1, 2))


def test_a_full_disk_is_told_beforehand(encode, monkeypatch):
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=100))
    with pytest.raises(TrainingError, match=r"encodings need .* [kM]?B more in .*cache"):
        encode()


def test_damage_is_named_and_cleared(encode, tmp_path):
    encode()
    file = files(tmp_path, "latents")[0]
    file.write_bytes(b"damaged")
    fresh = encode()
    with pytest.raises(TrainingError, match=f"{file.name} is damaged"):
        for row in range(COUNT):
            fresh.latents[row]
    keep = tmp_path / "cache" / "latents" / "notes.txt"
    keep.write_text("mine")
    assert Cache(tmp_path / "cache").clear() == 5
    assert list((tmp_path / "cache").rglob("*.*")) == [keep]


def test_buckets_and_variants_by_hand(encode, source, tiny_pipeline):
    """Every row is the image's own crop through the VAE, of the bucket's shape."""
    images = Images(buckets=True, bucket_step=16, crop="random", flip=True, crops=2)
    buckets = bucket_sizes(64, 16)
    assert buckets == [(48, 80), (64, 64), (80, 48)]
    sizes = np.array([source[i][0].shape[1::-1] for i in range(COUNT)])
    data = encode(images=images, buckets=buckets, sizes=sizes)
    assert_same(data, encode(images=images, buckets=buckets, sizes=sizes, cache=False))
    assert len(data.latents) == 2 * COUNT
    shapes = [tuple(data.latents[row].shape) for row in range(2 * COUNT)]
    # width 80, height 48, a quarter of it as latents
    assert shapes == [(4, 12, 20) if (row // 2) % 2 == 0 else (4, 16, 16) for row in range(14)]
    assert data.captions.tolist() == [i % 4 for i in range(COUNT) for _ in range(2)]

    vae = load_pipeline(tiny_pipeline)
    flipped = np.ascontiguousarray(source[1][0][:, ::-1])  # 64 x 64: nothing to crop
    pixels = vae.image_processor.preprocess(Image.fromarray(flipped))
    with torch.no_grad():
        mean = vae.vae.encode(pixels).latent_dist.mean
    expected = (mean - vae.vae.config.shift_factor) * vae.vae.config.scaling_factor
    torch.testing.assert_close(data.latents[3], expected[0], rtol=1e-4, atol=1e-5)

    for step in range(12):
        rows = data.rows_of_step(2, step, seed=0)
        assert data.latents[rows].ndim == 4, "one shape a batch"
    epoch = [r // 2 for s in range(4) for r in data.rows_of_step(2, s, seed=0).tolist()]
    assert set(epoch) == set(range(COUNT))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resolution": 60}, "multiples of 8 .*not at 60"),
        ({"images": {"buckets": True, "bucket_step": 12}}, "multiples of 8"),
        ({"images": {"buckets": True, "bucket_step": 128}}, "too coarse"),
    ],
)
def test_sizes_that_the_pipeline_cannot_see_are_refused(
    changes, message, tiny_config, tiny_pipeline, source
):
    config, pipeline = tiny_config(**changes), BasePipeline(tiny_pipeline)
    with pytest.raises(TrainingError, match=message):
        encode_for(config, pipeline, source, None, CPU, Processes(), lambda *a: None)


def test_training_from_the_cache_is_training_from_memory(
    tiny_config, tiny_pipeline, source, tmp_path, monkeypatch
):
    """The whole way: a folder of unlike sizes, buckets and variants; twice, and in memory."""
    from training.loop import train
    from training.run import Base

    name = str(source.records[0].place.path.parent)
    images = {"buckets": True, "bucket_step": 16, "crop": "random", "crops": 2}

    def weights(output, cache):
        config = tiny_config(
            data=name,
            output=tmp_path / output,
            cache=cache,
            images=images,
            steps=3,
            resolution=48,
            method="sft",
        )
        listing = open_listing(name, config.images)
        checkpoint = train(config, Base("tiny", BasePipeline(tiny_pipeline), "0" * 64), listing)
        return load_file(checkpoint / "transformer" / "diffusion_pytorch_model.safetensors")

    memory = weights("a", None)
    first = weights("b", tmp_path / "cache")
    load = BasePipeline.load

    def core_only(pipeline, parts):
        assert parts == ("transformer", "scheduler"), "an encoder was loaded"
        return load(pipeline, parts)

    monkeypatch.setattr(BasePipeline, "load", core_only)
    second = weights("c", tmp_path / "cache")
    for name in memory:
        assert torch.equal(memory[name], first[name])
        assert torch.equal(memory[name], second[name])


def test_broken_images_stop_training_before_it_starts_or_are_dropped_and_counted(
    tiny_config, tiny_train, source, tmp_path
):
    source.records[2].place.path.write_bytes(b"no image")
    name = str(source.records[0].place.path.parent)

    def config(**images):
        return tiny_config(data=name, cache=None, images=images, method="sft", steps=1)

    with pytest.raises(TrainingError, match=r"line 3 names 2\.png, which is not a readable image"):
        tiny_train(config())
    assert not config().output.exists()
    story = read_checkpoint(tiny_train(config(on_broken="drop")))
    assert story["data"]["size"] == COUNT - 1
    assert story["data"]["dropped"] == 1
