"""Every form of training data gives the same records; what is none of them is said."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from data_forms import (
    CAPTIONS,
    DROP,
    FORMS,
    lines,
    picture,
    png,
    write_beside,
    write_images,
    write_metadata,
    write_saved,
    write_tars,
)
from PIL import Image

from training.data import open_listing
from training.data.checking import inspect
from training.types import Images, TrainingError


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_images_and_captions(form, tmp_path):
    path, images = FORMS[form](tmp_path / "data")
    data = open_listing(str(path), images)
    assert [data[i][1] for i in range(len(data))] == CAPTIONS
    assert all((data[i][0] == picture(i)).all() for i in range(4))
    assert data.digest == open_listing(str(write_metadata(tmp_path / "other")[0])).digest
    assert inspect(data).sizes.tolist() == [[24, 16]] * 4


def test_what_the_datasets_library_saves_is_read(tmp_path):
    datasets = pytest.importorskip("datasets")
    images = [Image.fromarray(picture(i)) for i in range(4)]
    features = datasets.Features({"picture": datasets.Image(), "text": datasets.Value("string")})
    dataset = datasets.Dataset.from_dict({"picture": images, "text": CAPTIONS}, features=features)
    shuffled = dataset.select([2, 0, 1, 3])
    datasets.DatasetDict({"small": shuffled}).save_to_disk(str(tmp_path / "saved"))
    data = open_listing(str(tmp_path / "saved"), Images(image="picture", split="small"))
    assert [data.caption(i) for i in range(4)] == [CAPTIONS[i] for i in (2, 0, 1, 3)]
    assert all((data[row][0] == picture(i)).all() for row, i in enumerate((2, 0, 1, 3)))
    with pytest.raises(TrainingError, match=r"no split 'train'.*one of small"):
        open_listing(str(tmp_path / "saved"))
    with pytest.raises(TrainingError, match=r"no column 'image'.*images\.image.*picture, text"):
        open_listing(str(tmp_path / "saved"), Images(split="small"))


def test_columns_may_have_other_names(tmp_path):
    write_images(tmp_path, ["a.png"])
    (tmp_path / "list.jsonl").write_text(lines([{"jpg": "a.png", "long": "x", "text": "y"}]))
    data = open_listing(str(tmp_path / "list.jsonl"), Images(image="jpg", caption="long"))
    assert data[0][1] == "x"


def test_a_saved_dataset_cannot_name_files_elsewhere(tmp_path):
    folder, _ = write_saved(tmp_path / "data")
    state = {"_data_files": [{"filename": "../x.arrow"}]}
    (folder / "state.json").write_text(json.dumps(state))
    with pytest.raises(TrainingError, match="outside"):
        open_listing(str(folder))
    image = pa.array(
        [{"bytes": None, "path": "/etc/hostname"}],
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    )
    table = pa.table({"image": image, "text": ["x"]})
    with (
        pa.OSFile(str(folder / "data-0.arrow"), "wb") as sink,
        pa.ipc.new_stream(sink, table.schema) as writer,
    ):
        writer.write_table(table)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-0.arrow"}]}))
    with pytest.raises(TrainingError, match="row 0 names '/etc/hostname', outside"):
        open_listing(str(folder))


def test_an_image_that_is_upright_only_by_its_exif_is_turned(tmp_path):
    image = Image.fromarray(picture(0))
    exif = image.getexif()
    exif[0x0112] = 6  # turn clockwise by 90 degrees
    image.save(tmp_path / "a.png", exif=exif)
    (tmp_path / "a.txt").write_text("x")
    data = open_listing(str(tmp_path))
    assert (data[0][0] == np.rot90(picture(0), -1)).all()
    assert inspect(data).sizes.tolist() == [[16, 24]]


def test_what_was_read_is_remembered_by_content(tmp_path, monkeypatch):
    from training.cache import Cache
    from training.data.records import Listing

    folder, _ = write_metadata(tmp_path / "data")
    (folder / "sub" / "2.png").write_bytes(b"broken")
    cache = Cache(tmp_path / "cache")
    data = open_listing(str(folder), DROP)
    first = inspect(data, cache)
    with monkeypatch.context() as patch:
        patch.setattr(Listing, "decode", lambda *a: pytest.fail("read again"))
        findings = inspect(open_listing(str(folder), DROP), cache)
    assert findings.sizes.tolist() == first.sizes.tolist()
    assert findings.faults == first.faults
    (folder / "sub" / "2.png").write_bytes(png(2))
    assert not inspect(open_listing(str(folder)), cache).faults


def test_a_row_of_a_table_may_lack_its_last_cells_but_not_those_that_are_needed(tmp_path):
    write_images(tmp_path, ["a.png", "b.png"])
    (tmp_path / "metadata.csv").write_text("file_name,text,note\na.png,star\nb.png\n")
    data = open_listing(str(tmp_path), DROP)
    assert [data.caption(i) for i in range(len(data))] == ["star"]
    assert 'line 3 needs the texts "file_name" and "text"' in str(data.faults[0])


def test_a_table_may_hold_line_separators_inside_a_caption(tmp_path):
    write_images(tmp_path, ["a.png"])
    (tmp_path / "metadata.csv").write_text("file_name,text\na.png,a \u2028 star\n", "utf-8")
    assert open_listing(str(tmp_path)).caption(0) == "a \u2028 star"


def test_hidden_files_that_a_mac_leaves_are_passed_over(tmp_path):
    for form, write in (("tars", write_tars), ("txt", write_beside)):
        write(tmp_path / form)
        for file in [*(tmp_path / form).iterdir()]:
            file.with_name(f"._{file.name}").write_bytes(b"\0\5\x16\7" + bytes(40))
        data = open_listing(str(tmp_path / form))
        assert [data[i][1] for i in range(4)] == CAPTIONS


@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize("file", ["metadata.jsonl", "metadata.csv"])
def test_metadata_a_folder_further_down_is_pointed_at(split, file, tmp_path):
    write_images(tmp_path / split, ["a.png"])
    (tmp_path / split / file).write_text('{"file_name": "a.png", "text": "x"}\n')
    with pytest.raises(TrainingError, match=f"{split}/{file}: give .*{split}"):
        open_listing(str(tmp_path))


def test_parquet_is_named_with_what_to_do(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train-00000-of-00001.parquet").touch()
    for name in (tmp_path, tmp_path / "data" / "train-00000-of-00001.parquet"):
        with pytest.raises(TrainingError, match=r"parquet, which is not read: .*save_to_disk"):
            open_listing(str(name))


def test_a_damaged_saved_dataset_is_refused(tmp_path):
    folder, _ = write_saved(tmp_path / "data")
    file = folder / "data-0.arrow"
    file.write_bytes(file.read_bytes().replace(CAPTIONS[0].encode(), b"a red st\xffr"))
    with pytest.raises(TrainingError, match=r"data is damaged: .*UTF8"):
        open_listing(str(folder))
