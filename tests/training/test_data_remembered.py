"""Images are read once for their digests, as long as their files stay as they are."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest
from PIL import Image

from training.data import records
from training.data.forms import open_listing
from training.types import TrainingError


@pytest.fixture()
def folder(tmp_path):
    place = tmp_path / "images"
    place.mkdir()
    for number in range(5):
        picture(place / f"{number}.png", number)
        (place / f"{number}.txt").write_text(f"picture {number}")
    return place


def picture(file, value, age=3600.0):
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(file)
    then = time.time() - age
    os.utime(file, (then, then))


@pytest.fixture()
def reads(monkeypatch):
    """The files whose content was read."""
    seen = []
    real = records.FileSlice.read

    def read(place):
        seen.append(place.path.name)
        return real(place)

    monkeypatch.setattr(records.FileSlice, "read", read)
    return seen


def test_the_second_time_nothing_is_read_and_the_data_is_the_same(folder, tmp_path, reads):
    plain = open_listing(str(folder))
    first = open_listing(str(folder), cache=tmp_path / "cache")
    reads.clear()
    again = open_listing(str(folder), cache=tmp_path / "cache")
    assert reads == []
    assert again.digest == first.digest == plain.digest
    assert again.digests == plain.digests


def test_what_changed_is_read_again_and_no_more(folder, tmp_path, reads):
    before = open_listing(str(folder), cache=tmp_path / "cache")
    picture(folder / "2.png", 99, age=1800)
    reads.clear()
    after = open_listing(str(folder), cache=tmp_path / "cache")
    assert reads == ["2.png"]
    assert after.digest != before.digest
    assert after.digest == open_listing(str(folder)).digest


def test_a_file_that_changed_just_now_is_not_remembered(folder, tmp_path, reads):
    """Another change within the tick of the file system's clock could not be told."""
    picture(folder / "3.png", 50, age=0)
    open_listing(str(folder), cache=tmp_path / "cache")
    reads.clear()
    open_listing(str(folder), cache=tmp_path / "cache")
    assert reads == ["3.png"]


def test_images_in_a_tar_are_remembered_by_their_place_in_it(folder, tmp_path, reads):
    import tarfile

    file = tmp_path / "data.tar"
    with tarfile.open(file, "w") as tar:
        for entry in sorted(folder.iterdir()):
            tar.add(entry, arcname=entry.name)
    os.utime(file, (1, time.time() - 60))
    first = open_listing(str(file), cache=tmp_path / "cache")
    reads.clear()
    again = open_listing(str(file), cache=tmp_path / "cache")
    assert reads == []
    assert len(set(again.digests)) == 5
    assert again.digests == first.digests


def test_a_missing_image_and_a_damaged_memory_are_no_secret(folder, tmp_path, reads):
    cache = tmp_path / "cache"
    expected = open_listing(str(folder), cache=cache).digest
    (memory,) = (cache / "digests").rglob("*.json")
    memory.write_text("[[1")
    assert open_listing(str(folder), cache=cache).digest == expected
    lines = folder / "metadata.csv"
    lines.write_text("file_name,text\n0.png,a\ngone.png,b\n")
    with pytest.raises(TrainingError, match=r"gone\.png"):
        open_listing(str(lines), cache=cache)
