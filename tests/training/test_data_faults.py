"""Every fault of an image, a caption or a line is named with file and line."""

from __future__ import annotations

import io
import os

import pytest
from data_forms import (
    CAPTIONS,
    DROP,
    lines,
    picture,
    png,
    write_beside,
    write_images,
    write_metadata,
    write_released,
)
from PIL import Image

from training.data import ImageFolder, open_listing
from training.data.checking import check
from training.types import TrainingError


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"md5": "0" * 32}, r'line 2 needs the texts "md5" and "caption_en"'),
        ({"md5": "f" * 32, "caption_en": "x"}, r"line 2 names 'f{32}\.jpg', which is missing"),
        ({"md5": "../../out", "caption_en": "x"}, "line 2 .*outside"),
        ({"md5": "0" * 32, "caption_en": "x", "bw": "wide"}, "line 2 has 'wide' for \"bw\""),
        ({"md5": "0" * 32, "caption_en": 3}, "line 2 needs the texts"),
    ],
)
def test_a_broken_released_line_is_named(row, message, tmp_path):
    write_images(tmp_path, [f"{0:032x}.jpg"])
    good = {"md5": f"{0:032x}", "caption_en": "x", "bw": 24, "bh": 16}
    (tmp_path / "train.jsonl").write_text(lines([good, row]))
    with pytest.raises(TrainingError, match=message):
        open_listing(str(tmp_path / "train.jsonl"))
    dropped = open_listing(str(tmp_path / "train.jsonl"), DROP)
    assert len(dropped) == 1
    assert len(dropped.faults) == 1


@pytest.mark.parametrize("write", [write_metadata, write_beside, write_released])
def test_a_link_out_of_the_folder_is_refused(write, tmp_path):
    path, images = write(tmp_path / "data")
    outside = tmp_path / "secret.png"
    outside.write_bytes(png(9))
    victim = next(p for p in sorted((tmp_path / "data").rglob("*")) if p.suffix in (".png", ".jpg"))
    victim.unlink()
    victim.symlink_to(outside)
    with pytest.raises(TrainingError, match="outside"):
        open_listing(str(path), images)
    assert len(open_listing(str(path), images.model_copy(update={"on_broken": "drop"}))) == 3


def test_a_caption_that_is_a_link_out_of_the_folder_is_not_read(tmp_path):
    write_beside(tmp_path / "data")
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "data" / "1.txt").unlink()
    (tmp_path / "data" / "1.txt").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(TrainingError, match=r"1\.txt', outside"):
        open_listing(str(tmp_path / "data"))


@pytest.mark.parametrize("gone", ["1.png", "1.txt"])
def test_an_image_without_caption_and_a_caption_without_image_are_faults(gone, tmp_path):
    write_beside(tmp_path / "data")
    (tmp_path / "data" / gone).unlink()
    with pytest.raises(TrainingError, match=r"1\.(png|txt)"):
        open_listing(str(tmp_path / "data"))


def test_a_table_with_a_cell_too_many_names_the_line(tmp_path):
    write_images(tmp_path, ["a.png"])
    (tmp_path / "metadata.csv").write_text("file_name,text\na.png,star\na.png,red, star\n")
    with pytest.raises(TrainingError, match="line 3 has 3 cells where the header has 2"):
        ImageFolder(tmp_path)


def broken_images():
    jpeg = io.BytesIO()
    Image.fromarray(picture(0, (200, 200))).save(jpeg, format="JPEG")
    return {
        "empty": b"",
        "text": b"<html>404</html>",
        "half a PNG": png(0)[:200],
        "half a JPEG": jpeg.getvalue()[: len(jpeg.getvalue()) // 2],
        "flipped bytes": png(0)[:60] + bytes(255 - b for b in png(0)[60:80]) + png(0)[80:],
    }


@pytest.mark.parametrize("kind", broken_images())
def test_a_broken_image_is_found_before_training_and_dropped_only_when_asked(kind, tmp_path):
    folder, images = write_metadata(tmp_path / "data")
    (folder / "sub" / "2.png").write_bytes(broken_images()[kind])
    data = open_listing(str(folder))
    with pytest.raises(TrainingError, match=r"line 3 names sub/2\.png, which is not a readable"):
        check(data, images)
    checked = check(open_listing(str(folder), DROP), DROP)
    assert checked.dropped == 1
    assert [checked.source[i][1] for i in range(len(checked.source))] == [
        CAPTIONS[0],
        CAPTIONS[1],
        CAPTIONS[3],
    ]
    assert checked.sizes.tolist() == [[24, 16]] * 3
    assert checked.source.digest != data.digest


def test_a_caption_in_utf16_is_a_fault_and_not_trained_on(tmp_path):
    """Its letters read as UTF-8 have NUL characters between them."""
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_bytes("a star".encode("utf-16-le"))
    with pytest.raises(TrainingError, match=r"a\.png has a caption that holds a NUL character"):
        open_listing(str(tmp_path))


def test_a_file_that_cannot_be_read_is_a_fault(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    folder, _ = write_metadata(tmp_path / "data")
    (folder / "sub" / "1.png").chmod(0)
    with pytest.raises(TrainingError, match=r"line 2 names sub/1\.png, which cannot be read"):
        open_listing(str(folder))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"file_name": "a.png", "text": "half \\ud800"}', "line 2 needs the texts"),
        ('{"file_name": "a.png", "text": "x", "n": ' + "1" * 5000 + "}", "line 2 is not JSON"),
        ("[" * 100_000, "line 2 is not JSON"),
    ],
)
def test_a_line_that_python_stumbles_over_is_a_fault_of_its_record(line, message, tmp_path):
    write_images(tmp_path, ["a.png"])
    good = lines([{"file_name": "a.png", "text": "a \u2028 star", "similarity": float("nan")}])
    (tmp_path / "metadata.jsonl").write_text(good + line + "\n")
    with pytest.raises(TrainingError, match=message):
        open_listing(str(tmp_path))
    assert open_listing(str(tmp_path), DROP).caption(0) == "a \u2028 star"


@pytest.mark.parametrize("name", ["half \ud83d.png", "a" * 5000 + ".png", "circle.png", "\0.png"])
def test_a_name_that_is_no_files_is_a_fault_of_its_line(name, tmp_path):
    write_images(tmp_path, ["a.png"])
    (tmp_path / "circle.png").symlink_to("circle.png")
    rows = [{"file_name": n, "text": "x"} for n in ("a.png", name)]
    (tmp_path / "metadata.jsonl").write_text(lines(rows))
    with pytest.raises(TrainingError, match=r"line 2 names .* which is no file name") as caught:
        open_listing(str(tmp_path))
    str(caught.value).encode()
    assert len(open_listing(str(tmp_path), DROP)) == 1


def test_a_circle_of_links_beside_images_is_a_fault(tmp_path):
    write_beside(tmp_path / "data")
    (tmp_path / "data" / "9.png").symlink_to("9.png")
    (tmp_path / "data" / "inner").symlink_to(".")
    with pytest.raises(TrainingError, match=r"9\.png names '9\.png', which is no file name"):
        open_listing(str(tmp_path / "data"))
    assert len(open_listing(str(tmp_path / "data"), DROP)) == 4


def test_a_file_whose_name_is_not_unicode_is_read_and_its_fault_can_be_printed(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "\udcff.png").write_bytes(png(0))
    (folder / "\udcff.txt").write_text("a star")
    assert open_listing(str(folder))[0][1] == "a star"
    (folder / "\udcff.png").unlink()
    with pytest.raises(TrainingError, match="has no image beside it") as caught:
        open_listing(str(folder))
    str(caught.value).encode()
