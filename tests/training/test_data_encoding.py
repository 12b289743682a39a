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

from soar_bench.pipelines import EMBEDDED
from soar_bench.pipelines.loading import load_pipeline
from soar_bench.trainer.pipeline import BasePipeline
from training import encoders
from training.cache import ALONE, Cache, Processes
from training.checkpoint import read_checkpoint
from training.data import open_listing
from training.data.encoding import Encoded, EncodingPlan, encode_for
from training.data.views import bucket_sizes
from training.encoders import Encoders, encode_images, encode_prompts
from training.types import Encoding, Images, TrainingError

CPU = torch.device("cpu")
VAE_DIGEST = "ad07d7f446ddf508d40581b3bed0b6106192bfca7cb97dfc62b50574d405c8bf"
TEXT_DIGEST = "e36fa8dcb0ced8822483f1f5d5901ed5b2d7cf2f6da62be731bd942e9bdbfe12"
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
def made(source, tiny_pipeline, tmp_path):
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
    made, tiny_pipeline, tmp_path, no_encoders
):
    in_memory = made(cache=False, encoders=WholePipeline(tiny_pipeline))
    first = made()
    assert_same(first, in_memory)
    # 7 images and 5 captions (4 and the empty one) by 3.
    assert [len(files(tmp_path, kind)) for kind in ("latents", "text")] == [3, 2]
    no_encoders()
    assert_same(made(), in_memory)


def test_an_image_or_caption_that_changed_is_made_again_with_its_batch_alone(
    made, source, tmp_path
):
    made()
    before = {kind: set(files(tmp_path, kind)) for kind in ("latents", "text")}
    Image.new("RGB", (64, 64), "red").save(source.records[4].place.path)
    changed = open_listing(str(source.records[0].place.path.parent))
    assert_same(made(source=changed), made(source=changed, cache=False))
    assert len(set(files(tmp_path, "latents")) - before["latents"]) == 1
    assert set(files(tmp_path, "text")) == before["text"]


@pytest.mark.parametrize(
    "changes",
    [
        {"images": Images(crop="random")},
        {"keep": torch.bfloat16},
    ],
)
def test_other_settings_are_other_encodings(changes, made, tmp_path):
    made()
    before = len(files(tmp_path))
    assert_same(made(**changes), made(cache=False, **changes))
    assert len(files(tmp_path)) > before


def test_other_weights_are_other_encodings(tiny_pipeline, tmp_path):
    import shutil

    other = tmp_path / "other"
    shutil.copytree(tiny_pipeline, other)
    settings = other / "vae" / "config.json"
    settings.write_text(settings.read_text().replace("scaling_factor", "scaling_factor "))
    one, two = (Encoders(BasePipeline(f), CPU) for f in (tiny_pipeline, other))
    assert one.identity(encoders.TEXT) == two.identity(encoders.TEXT)
    assert one.identity(encoders.VAE) != two.identity(encoders.VAE)


def test_an_encode_that_was_killed_goes_on(made, tiny_pipeline, tmp_path):
    class Killed(Encoders):
        left = 2

        def images(self, pixels):
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            return super().images(pixels)

    with pytest.raises(KeyboardInterrupt):
        made(encoders=Killed(BasePipeline(tiny_pipeline), CPU))
    assert len(files(tmp_path)) == 2
    seen = []

    class Counting(Encoders):
        def images(self, pixels):
            seen.append(len(pixels))
            return super().images(pixels)

    whole = made(encoders=Counting(BasePipeline(tiny_pipeline), CPU))
    assert seen == [1]
    assert_same(whole, made(cache=False))


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
waits, made = 0, 0
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
        global made
        made += len(pixels)
        return super().images(pixels)

encoders = Counting(BasePipeline(pipeline), torch.device("cpu"))
plan = EncodingPlan(
    open_listing(data), encoders, 64, 14, batch_size=3, cache=Cache(here / "cache")
)
found = plan.make(Processes(rank, 2, wait))
torch.save([found.latents[i] for i in range(len(found.latents))], here / f"{rank}.pt")
(here / f"{rank}.made").write_text(str(made))
if rank == 0:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_two_processes_share_the_work_and_read_the_same(made, source, tiny_pipeline, tmp_path):
    data = source.records[0].place.path.parent
    done = forks.run(["-c", _PROCESSES, data, tiny_pipeline, tmp_path])
    assert done.returncode == 0, done.stderr
    # 3 batches of 3, 3 and 1 images: the first and the last are rank 0's.
    assert [int((tmp_path / f"{rank}.made").read_text()) for rank in range(2)] == [4, 3]
    alone = made(cache=False).latents
    for rank in range(2):
        rows = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert all(torch.equal(row, alone[i]) for i, row in enumerate(rows))


def test_a_folder_that_processes_do_not_share_is_named(made):
    with pytest.raises(TrainingError, match="a folder that every process shares"):
        made(processes=Processes(1, 2))


def test_a_full_disk_is_told_beforehand(made, monkeypatch):
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=100))
    with pytest.raises(TrainingError, match=r"encodings need .* [kM]?B more in .*cache"):
        made()


def test_damage_is_named_and_cleared(made, tmp_path):
    made()
    file = files(tmp_path, "latents")[0]
    file.write_bytes(b"damaged")
    fresh = made()
    with pytest.raises(TrainingError, match=f"{file.name} is damaged"):
        for row in range(COUNT):
            fresh.latents[row]
    keep = tmp_path / "cache" / "latents" / "notes.txt"
    keep.write_text("mine")
    assert Cache(tmp_path / "cache").clear() == 5
    assert list((tmp_path / "cache").rglob("*.*")) == [keep]


def test_buckets_and_variants_by_hand(made, source, tiny_pipeline):
    """Every row is the image's own crop through the VAE, of the bucket's shape."""
    images = Images(buckets=True, bucket_step=16, crop="random", flip=True, crops=2)
    buckets = bucket_sizes(64, 16)
    assert buckets == [(48, 80), (64, 64), (80, 48)]
    sizes = np.array([source[i][0].shape[1::-1] for i in range(COUNT)])
    data = made(images=images, buckets=buckets, sizes=sizes)
    assert_same(data, made(images=images, buckets=buckets, sizes=sizes, cache=False))
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


def test_images_are_encoded_as_many_at_once_as_memory_holds(tiny_pipeline, monkeypatch):
    """By the size of the memory, then halved where it still runs out, and remembered."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (7, 64, 64, 3), dtype=np.uint8)
    texts = [f"a star {n}" for n in range(5)]
    whole = Encoders(BasePipeline(tiny_pipeline), CPU)
    expected, captions = whole.images(pixels), whole.prompts(texts, 14)
    tried = []
    real = encoders.encode_images, encoders.encode_prompts

    def images(pipeline, part):
        tried.append(len(part))
        if len(part) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real[0](pipeline, part)

    def prompts(pipeline, part, tokens):
        if len(part) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real[1](pipeline, part, tokens)

    monkeypatch.setattr(encoders, "encode_images", images)
    monkeypatch.setattr(encoders, "encode_prompts", prompts)
    halved = Encoders(BasePipeline(tiny_pipeline), CPU)
    torch.testing.assert_close(halved.images(pixels), expected, rtol=1e-4, atol=1e-5)
    assert tried == [7, 3, 1, 1, 1, 1, 1, 1, 1]
    for here, there in zip(halved.prompts(texts, 14), captions, strict=True):
        torch.testing.assert_close(here, there, rtol=1e-4, atol=1e-5)
    del tried[:]
    halved.images(pixels)
    assert tried == [1] * 7, "no second try of what did not fit"
    del tried[:]
    each = encoders.image_memory(BasePipeline(tiny_pipeline), (64, 64), half=False)
    monkeypatch.setattr(encoders, "_memory", lambda device: 3 * each)
    Encoders(BasePipeline(tiny_pipeline), CPU).images(pixels)
    assert tried == [2, 2, 2, 1]
    monkeypatch.setattr(encoders, "encode_images", lambda *given: images(None, [0] * 3))
    with pytest.raises(TrainingError, match=r"images of 64 x 64 .* set encoding.images to bf16"):
        Encoders(BasePipeline(tiny_pipeline), CPU).images(pixels)


def test_encoders_that_do_not_fit_are_told_in_a_sentence(tiny_pipeline, monkeypatch):
    """SD3.5's text encoders are 22 GiB in float32; in bfloat16 there is nothing left to set."""
    from diffusers import StableDiffusion3Pipeline

    def too_large(pipeline, *place):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(StableDiffusion3Pipeline, "to", too_large)
    single = Encoders(BasePipeline(tiny_pipeline), CPU)
    half = Encoders(BasePipeline(tiny_pipeline), CPU, Encoding(images="bf16", captions="bf16"))
    pixels = np.zeros((1, 64, 64, 3), np.uint8)
    with pytest.raises(TrainingError, match=r"text encoders do not fit .* encoding.captions to bf"):
        single.prompts(["a star"], 14)
    with pytest.raises(TrainingError, match=r"autoencoder does not fit .* encoding.images to bf16"):
        single.images(pixels)
    with pytest.raises(TrainingError, match="are encoded: use a larger device"):
        half.images(pixels)


def test_processes_of_one_machine_share_its_memory(monkeypatch):
    whole = encoders._memory(CPU)
    environment = {"WORLD_SIZE": "16", "LOCAL_WORLD_SIZE": "8", "RANK": "0",
                   "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}  # fmt: skip
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert encoders._memory(CPU) == whole // 8


def test_the_memory_of_encoding_is_what_was_measured(tmp_path):
    """SD3's autoencoder in float32: 64 images at 512 hold 40 GiB, at 1024 160 GiB."""
    pipeline = SimpleNamespace(config=lambda part: {"block_out_channels": [128, 256, 512, 512]})
    for side, gib in ((512, 40), (1024, 160)):
        assert 64 * encoders.image_memory(pipeline, (side, side), half=False) == gib * 2**30
    assert encoders.image_memory(pipeline, (512, 512), half=True) == 5 * 2**26


def test_encoding_in_bfloat16_is_another_encoding_near_the_first(tiny_pipeline):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    single = Encoders(BasePipeline(tiny_pipeline), CPU)
    half = Encoders(BasePipeline(tiny_pipeline), CPU, Encoding(images="bf16", captions="bf16"))
    for parts in (encoders.VAE, encoders.TEXT):
        assert single.identity(parts) != half.identity(parts)
    pairs = [(single.images(pixels), half.images(pixels))]
    pairs += zip(single.prompts(["a star"], 14), half.prompts(["a star"], 14), strict=True)
    for expected, found in pairs:
        assert found.dtype == torch.float32
        assert not torch.equal(found, expected)
        assert (found - expected).norm() < 0.05 * expected.norm()


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
        asked = {"bw": size[0], "bh": size[1]} if size else {}
        rows.append({"md5": f"{number:032x}", "caption_en": f"a star {number}", **asked})
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
    whole = Image.fromarray(source[0][0]).resize((64, 53), Image.Resampling.LANCZOS)
    parts = [np.asarray(whole)[top : top + 48] for top in range(6)]
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


def test_what_is_kept_in_half_precision_trains_the_same_under_bf16(tiny_pipeline):
    """The transformer's first layers round embeddings to bfloat16 in any case."""
    transformer = load_pipeline(tiny_pipeline).transformer
    generator = torch.Generator().manual_seed(0)
    config = transformer.config
    z = torch.randn(2, 4, 16, 16, generator=generator)
    embeds = torch.randn(2, 28, config.joint_attention_dim, generator=generator)
    pooled = torch.randn(2, config.pooled_projection_dim, generator=generator)

    def predict(embeds, pooled):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            return transformer(
                hidden_states=z,
                timestep=torch.tensor([300.0, 700.0]),
                encoder_hidden_states=embeds,
                pooled_projections=pooled,
            ).sample

    rounded = [e.bfloat16().float() for e in (embeds, pooled)]
    assert torch.equal(predict(embeds, pooled), predict(*rounded))
    assert not torch.equal(embeds, rounded[0])


def test_a_pipeline_loads_part_by_part_what_it_loads_as_a_whole(tiny_pipeline):
    whole = StableDiffusion3Pipeline.from_pretrained(
        tiny_pipeline, dtype=torch.float32, local_files_only=True
    )
    core = BasePipeline(tiny_pipeline).load(encoders.CORE)
    text = BasePipeline(tiny_pipeline).load(encoders.TEXT)
    vae = BasePipeline(tiny_pipeline).load(encoders.VAE)
    names = {"text_encoder": text, "text_encoder_2": text, "text_encoder_3": text}
    for name, loaded in {"transformer": core, "vae": vae, **names}.items():
        tensors = getattr(loaded, name).state_dict()
        for key, value in getattr(whole, name).state_dict().items():
            assert torch.equal(value, tensors[key])
    assert core.scheduler.config == whole.scheduler.config
    assert BasePipeline(tiny_pipeline).size_limits() == (2 * whole.vae_scale_factor, 64)
    assert core.vae is None
    assert core.tokenizer is None
    assert text.vae is None
    assert text.transformer is None
    assert vae.text_encoder_3 is None


def test_a_pipeline_without_a_third_text_encoder_embeds_the_same_in_parts(tiny_pipeline, tmp_path):
    whole = load_pipeline(tiny_pipeline)
    whole.register_modules(text_encoder_3=None, tokenizer_3=None)
    whole.save_pretrained(tmp_path / "two", safe_serialization=True)
    expected = encode_prompts(whole, ["a red star"], 14)
    found = Encoders(BasePipeline(tmp_path / "two"), CPU).prompts(["a red star"], 14)
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_cached_encodings_keep_their_names():
    """Recorded before the shipped base's parts were read through soar_bench.pipelines."""
    base = BasePipeline(EMBEDDED["shapes"])
    assert base.digest_parts(encoders.VAE) == VAE_DIGEST
    assert base.digest_parts(encoders.TEXT) == TEXT_DIGEST


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
