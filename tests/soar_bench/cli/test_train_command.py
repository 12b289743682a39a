"""``soar-bench train`` as a user types it: several seeds as one command, and a look before."""

from __future__ import annotations

import json
import math

import pytest
import yaml
from forks import serve


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("train")


@pytest.fixture(scope="module")
def server(place):
    with serve(place) as server:
        yield server


@pytest.fixture(scope="module")
def command(tiny_pipeline):
    return (
        "train", "soar", "--base", tiny_pipeline, "--data", "shapes-clean:12", "--steps", 2,
        "--batch-size", 4, "--set", "resolution=64", "--set", "max_sequence_length=14", "--set",
        "precision=fp32", "--set", "soar.points=2", "--set", "optimizer.lr=1e-3",
    )  # fmt: skip


def weights(folder):
    return json.loads((folder / "checkpoint-000002" / "checkpoint.json").read_text())["weights"]


def test_several_seeds_are_the_runs_that_single_seeds_make(server, command, place):
    many = place / "many-{seed}"
    assert server.run(*command, "--seeds", "3,4", "--output", many) == 0, server.printed
    for seed in (3, 4):
        single = place / f"single-{seed}"
        assert server.run(*command, "--seed", seed, "--output", single) == 0, server.printed
        assert weights(place / f"many-{seed}") == weights(single)
    assert weights(place / "many-3") != weights(place / "many-4")


def test_the_bases_of_all_seeds_are_checked_before_the_first_is_trained(
    server, command, place, tiny_pipeline
):
    (place / "base-3").symlink_to(tiny_pipeline)
    of_seed = ("--base", place / "base-{seed}", "--output", place / "on-{seed}")
    assert server.run(*command, *of_seed, "--seeds", "3,4") == 2
    assert "base-4" in server.printed
    assert not (place / "on-3").exists()


def test_several_seeds_never_share_a_folder(server, command, place):
    assert server.run(*command, "--seeds", "3,4", "--output", place / "shared") == 2
    assert "put {seed} in the output's name" in server.printed
    assert server.run(*command, "--seeds", "3", "--seed", "4") == 2
    assert "not both" in server.printed
    assert not (place / "shared").exists()


def test_a_dry_run_shows_what_would_be_trained_and_writes_nothing(
    server, command, place, tiny_pipeline
):
    from safetensors import safe_open

    output = place / "dry"
    assert server.run(*command, "--seed", 3, "--output", output, "--dry-run") == 0, server.printed
    text = server.printed[server.printed.index("method:") :]
    settings = yaml.safe_load(text)
    assert settings["steps"] == 2
    assert settings["soar"]["points"] == 2
    file = tiny_pipeline / "transformer" / "diffusion_pytorch_model.safetensors"
    with safe_open(file, "pt") as tensors:
        names = [name for name in tensors.keys() if name != "pos_embed.pos_embed"]  # noqa: SIM118
        count = sum(math.prod(tensors.get_slice(name).get_shape()) for name in names)
    stated = int(text.split(" parameters are trained")[0].rsplit("# ", 1)[1].replace(",", ""))
    assert stated == count
    assert "on 12 samples" in text
    assert "0.667 times the data" in text
    assert text.strip().endswith(": new")
    assert not output.exists()


def test_a_dry_run_reads_every_record_and_looks_at_the_disk(server, command, place, small_disk):
    from PIL import Image

    data = place / "data"
    data.mkdir()
    for number in range(3):
        Image.new("RGB", (64, 64), (number, 0, 0)).save(data / f"{number}.png")
        (data / f"{number}.txt").write_text("a star")
    given = [*command, "--data", data, "--set", f"cache={place / 'cache'}", "--dry-run"]
    # The embedded base takes 14 MB, the disk holds two.
    large = ("train", "sft", "--base", "shapes", "--data", "shapes-clean:8", "--dry-run")
    assert server.run(*large, "--output", small_disk / "deep" / "run") == 2
    assert " MB are free" in server.printed
    assert not (small_disk / "deep").exists()
    assert server.run(*given, "--output", place / "fits") == 0, server.printed
    (data / "1.png").write_bytes(b"no image")
    assert server.run(*given, "--output", place / "fits") == 2
    assert "1.png, which is not a readable image" in server.printed
    dropped = ("--set", "images.on_broken=drop")
    assert server.run(*given, *dropped, "--output", place / "fits") == 0
    assert "on 2 samples" in server.printed


def test_a_dry_run_refuses_what_training_would(server, command, place):
    assert server.run(*command, "--set", "resolution=65", "--dry-run") == 2
    assert "multiples of" in server.printed


def test_a_dry_run_compares_the_step_with_a_named_device(server, command, place):
    """What it finds too large it refuses with what would fit; sizes without a unit are none."""
    dry = [*command, "--output", place / "device", "--dry-run"]
    assert server.run(*dry, "--memory", "80GiB") == 0, server.printed
    assert "# a pass of 8 fits a device of 80.0 GiB: soar.aux_chunk is all points" in server.printed
    assert server.run(*dry, "--memory", "5MB") == 0, server.printed
    assert "fits a device of 0.0 GiB: soar.aux_chunk is 4" in server.printed
    assert server.run(*dry, "--memory", "5MB", "--set", "soar.aux_chunk=0") == 2
    assert "% may be filled" in server.printed
    assert server.printed.strip().endswith("set soar.aux_chunk: auto")
    for wrong in ("80", "much", "0GiB", "80 apples"):
        assert server.run(*dry, "--memory", wrong) == 2
        assert "takes a size with its unit, such as 80GiB" in " ".join(server.printed.split())
    assert server.run(*command, "--output", place / "device", "--memory", "80GiB") == 2
    assert "--dry-run" in server.printed
    assert not (place / "device").exists()
