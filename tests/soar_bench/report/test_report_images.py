"""Images of a report: kept as asked, limited, or said to be missing."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from PIL import Image
from records_by_hand import write_run
from report_by_hand import (
    PROMPTS,
    SEED,
    hand_run,
    hand_runs,
    image_of,
    settings,
    story,
)
from report_pages import FEW, data_of

from soar_bench.cache.images import ImageStore
from soar_bench.core.images import digest_image
from soar_bench.report import pictures
from soar_bench.suites.types import PlannedSample, Prompt


def sample_of(number: int, index: int) -> PlannedSample:
    return PlannedSample(Prompt(*PROMPTS[number][:2]), index)


@pytest.mark.usefixtures("no_plots")
def test_large_images_are_kept_without_loss_if_asked(write, tmp_path):
    runs = hand_runs(tmp_path / "r", tmp_path / "cache", **FEW)
    folder = write(runs, lossless=True)
    file = data_of(folder)["images"][0][0][1]
    assert np.array_equal(np.asarray(Image.open(folder / "images" / file)), image_of(0, 0, 0))


@pytest.mark.usefixtures("no_plots")
def test_what_is_missing_damaged_or_another_image_is_said_to_be_missing(write, tmp_path):
    runs = hand_runs(tmp_path / "r", tmp_path / "cache", **FEW)
    store = ImageStore.of(tmp_path / "cache", "base", settings(), SEED)
    store.file(sample_of(1, 0)).unlink()
    store.file(sample_of(2, 0)).write_bytes(b"no image")
    store.add(sample_of(3, 0), np.zeros((16, 16, 3), np.uint8))
    folder = write(runs)
    data = data_of(folder)
    place = {(data["prompts"][p][0], k): s for s, (p, k) in enumerate(data["samples"])}
    reason = {p: data["missing"][data["images"][0][place[p, 0]]] for p in ("p1", "p2", "p3")}
    assert str(tmp_path / "cache") in reason["p1"]
    assert "damaged or another image" in reason["p2"]
    assert "damaged or another image" in reason["p3"]
    assert isinstance(data["images"][0][place["p1", 1]], list)
    assert isinstance(data["images"][1][place["p1", 0]], list)
    shown = {file.name for file in (folder / "images").iterdir()}
    assert not any(digest_image(np.zeros((16, 16, 3), np.uint8)).startswith(n[:24]) for n in shown)


def test_the_command_for_missing_images_is_one_that_makes_them(tmp_path):
    cache = tmp_path / "my cache"
    run = hand_run(tmp_path / "r", None, 1, "it's mine", story("sft", 0), steps=10)
    assert pictures.command(run, cache) == (
        "soar-bench eval 'it'\"'\"'s mine' --base base --suite hand --protocol hand+steps=10 "
        f"--images 2 --seed 7 --evaluators right,distance,read --cache '{cache}'"
    ).replace("right,distance,read", ",".join(sorted(["right", "distance", "read"])))


@pytest.mark.usefixtures("no_plots")
def test_with_a_limit_first_images_of_all_prompts_come_first(write, tmp_path):
    runs = hand_runs(tmp_path / "r", tmp_path / "cache", **FEW)
    data = data_of(write(runs, max_images=4 * 7 + 3))
    shown = [
        tuple(data["samples"][s]) for s, image in enumerate(data["images"][0])
        if isinstance(image, list)
    ]  # fmt: skip
    assert sorted(shown) == sorted([*((p, 0) for p in range(6)), (0, 1)])
    assert data["missing"] == [pictures.LEFT_OUT]
    assert len(data["values"][0][0]) == 12, "scores are all there"


@pytest.mark.usefixtures("no_plots")
def test_images_of_a_scored_folder_are_shown_where_they_still_are(write, tmp_path):
    place = tmp_path / "elsewhere"
    place.mkdir()
    generated = hand_run(tmp_path / "r", None, 0, "mine", **FEW)
    record = generated.record.as_json()
    record["checkpoint"] |= {"form": "images", "name": str(place), "story": {"imported": {}}}
    record["suite"]["seed"] = None
    record["protocol"] = {"name": "images", "settings": {"images": "scored, not made here"}}
    run = write_run(tmp_path / "r", record, generated.scores())
    rows = [("prompt_id", "index", "file", "image")]
    for p in range(6):
        for k in range(2):
            if (p, k) == (2, 1):
                continue
            image = image_of(0, p, k) if (p, k) != (1, 1) else np.zeros((16, 16, 3), np.uint8)
            Image.fromarray(image).save(place / f"{p}-{k}.png")
            rows.append((f"p{p}", str(k), f"{p}-{k}.png", ""))
    (place / "3-0.png").unlink()
    with (run.folder / "files.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    data = data_of(write([run]))
    lacking = {tuple(data["samples"][s]): data["missing"][image]
               for s, image in enumerate(data["images"][0]) if isinstance(image, int)}  # fmt: skip
    assert set(lacking) == {(1, 1), (2, 1), (3, 0)}
    assert "another image" in lacking[1, 1]
    assert "does not say" in lacking[2, 1]
    assert "has gone" in lacking[3, 0]


@pytest.mark.usefixtures("no_plots")
def test_scores_of_another_tool_have_no_images_and_no_command(write, tmp_path):
    generated = hand_run(tmp_path / "r", None, 0, "theirs", **FEW)
    record = generated.record.as_json()
    record["checkpoint"]["form"] = "images"
    record["checkpoint"]["story"] = {"imported": {"tool": "x/geneval"}}
    record["suite"]["seed"] = None
    record["protocol"] = {"name": "imported", "settings": {"tool": "x/geneval"}}
    run = write_run(tmp_path / "other", record, generated.scores())
    data = data_of(write([run]))
    assert data["missing"] == ["x/geneval gave its scores without images"]
    assert data["checkpoints"][0]["command"] == ""
