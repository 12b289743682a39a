"""``soar-bench data``: what it says and how it exits."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from soar_bench.cli.data import app
from soar_bench.core.errors import SoarBenchError
from soar_bench.trainer.data import open_data
from training.cache import Cache, write_json
from training.data.records import caption_of, key_of, size_of


@pytest.fixture()
def folder(tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for i, size in enumerate([(32, 32), (32, 32), (32, 64), (64, 32)]):
        image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(image).save(tmp_path / f"{i}.png")
        rows.append({"file_name": f"{i}.png", "text": "one two" if i else ""})
    (tmp_path / "1.png").write_bytes((tmp_path / "0.png").read_bytes())
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


def call(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_whole_data_passes_the_check(folder):
    result = call("check", folder)
    assert result.exit_code == 0
    assert "4 records, every one can be read" in result.stdout


def test_everything_that_is_broken_is_listed_with_its_line(folder):
    (folder / "1.png").unlink()
    (folder / "2.png").write_bytes(b"no image")
    with (folder / "metadata.jsonl").open("a") as stream:
        stream.write("\n{oops")
    result = call("check", folder)
    assert result.exit_code == 1
    assert "line 2 names '1.png', which is missing" in result.stdout
    assert "line 3 names 2.png, which is not a readable image" in result.stdout
    assert "line 5 is not JSON" in result.stdout
    assert "5 records, 3 broken" in result.stdout
    result = call("check", folder, "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert (report["records"], report["whole"], len(report["broken"])) == (5, 2, 3)


def test_statistics_by_hand(folder):
    result = call("stats", folder, "--json", "--resolution", 32, "--bucket-step", 8,
                  "--batch-size", 2)  # fmt: skip
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["records"] == 4
    assert report["images_distinct"] == 3
    assert (report["captions_distinct"], report["captions_empty"]) == (2, 1)
    assert report["width"] == {"min": 32, "median": 32, "max": 64}
    assert report["aspect"] == {"min": 0.5, "median": 1, "max": 2}
    assert report["caption_words"] == {"min": 0, "median": 2, "max": 2}
    taken = {(b["width"], b["height"]): b["images"] for b in report["buckets"] if b["images"]}
    assert taken == {(24, 40): 1, (32, 32): 2, (40, 24): 1}
    # one batch each of 1, 2 and 1 images
    assert (report["bucket_batches"], report["bucket_repeats"]) == (3, 2)
    assert "distinct images    3" in call("stats", folder).stdout


def test_the_cache_is_counted_and_cleared(tmp_path):
    cache = Cache(tmp_path)
    write_json(cache.file("checked", ["x"], "json"), [[1, 1]])
    assert "1 files" in call("cache", "--folder", tmp_path).stdout
    assert "1 files deleted" in call("cache", "--folder", tmp_path, "--clear").stdout
    assert "0 files" in call("cache", "--folder", tmp_path).stdout


def test_the_embedded_worlds_keys_captions_and_sizes_are_those_of_its_pictures():
    long, short = open_data("shapes-clean:40"), open_data("shapes-clean:3")
    other = open_data("shapes-broad:3")
    for index in range(3):
        image, caption = long[index]
        assert caption_of(long, index) == caption
        assert size_of(long, index) == image.shape[1::-1]
        assert key_of(long, index) == key_of(short, index)
        assert key_of(long, index) != key_of(other, index)
    assert len({key_of(long, index) for index in range(40)}) == 40


def test_data_that_is_not_there_is_one_sentence():
    with pytest.raises(SoarBenchError, match="no training data 'nowhere'"):
        open_data("nowhere")


def test_everything_that_evaluators_lack_is_told_at_once(folder, tmp_path, monkeypatch):
    from soar_bench.core.files import HOME_VARIABLE
    from soar_bench.scoring.plan import Options, prepare_images

    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "empty"))
    told = str(call("score", folder, "--evaluators", "aesthetic,hpsv21").exception)
    assert "aesthetic" in told and "hps-v2.1" in told and told.count("soar-bench fetch") == 1
    options = Options(tmp_path, tmp_path, None, ("aesthetic", "hpsv21"))
    with pytest.raises(SoarBenchError) as refused:
        prepare_images(folder, options)
    assert str(refused.value) == told
