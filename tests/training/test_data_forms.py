"""Every form of training data gives the same records; every fault is named with file and line."""

from __future__ import annotations

import csv
import io
import json
import os
import tarfile

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from training.data import ImageFolder, open_listing
from training.data.checking import check, inspect
from training.data.tars import expand
from training.types import Images, TrainingError

CAPTIONS = ["a red star", 'a sign saying "GO, NOW"', "ein größerer Hund", ""]
DROP = Images(on_broken="drop")


def picture(number: int, size: tuple[int, int] = (24, 16)) -> np.ndarray:
    rng = np.random.default_rng(number)
    return rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)


def png(number: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture(number)).save(stream, format="PNG")
    return stream.getvalue()


def write_images(folder, names):
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png(number))


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def write_metadata(folder):
    names = [f"sub/{i}.png" for i in range(4)]
    write_images(folder, names)
    rows = [{"file_name": n, "text": c} for n, c in zip(names, CAPTIONS, strict=True)]
    (folder / "metadata.jsonl").write_text(lines(rows))
    return folder, Images()


def write_table(folder):
    names = [f"{i}.png" for i in range(4)]
    write_images(folder, names)
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("file_name", "text"), *zip(names, CAPTIONS, strict=True)])
    return folder, Images()


def write_beside(folder):
    write_images(folder, [f"{i}.png" for i in range(4)])
    for i, caption in enumerate(CAPTIONS):
        (folder / f"{i}.txt").write_text(caption + "\n", encoding="utf-8")
    return folder, Images()


def write_released(folder):
    names = [f"{i:032x}" for i in range(4)]
    write_images(folder / "images", [f"{n}.jpg" for n in names])
    rows = [
        {"md5": n, "caption_en": c, "bw": 512, "bh": 512}
        for n, c in zip(names, CAPTIONS, strict=True)
    ]
    (folder / "lists").mkdir()
    (folder / "lists" / "train.jsonl").write_text(lines(rows))
    return folder / "lists" / "train.jsonl", Images(folder=str(folder / "images"))


def add(tar, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def write_tars(folder):
    folder.mkdir()
    for number in range(2):
        with tarfile.open(folder / f"part-{number:03d}.tar", "w") as tar:
            for i in (2 * number, 2 * number + 1):
                add(tar, f"x/{i:04d}.png", png(i))
                if number:
                    add(tar, f"x/{i:04d}.json", json.dumps({"caption": CAPTIONS[i]}).encode())
                else:
                    add(tar, f"x/{i:04d}.txt", CAPTIONS[i].encode())
                add(tar, f"x/{i:04d}.cls", b"7")
    return folder / "part-{000..001}.tar", Images()


def write_saved(folder):
    """What ``Dataset.save_to_disk`` writes, by hand."""
    folder.mkdir()
    images = pa.array(
        [{"bytes": png(i), "path": None} for i in range(4)],
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    )
    table = pa.table({"image": images, "text": CAPTIONS})
    for number in range(2):
        with pa.OSFile(str(folder / f"data-{number}.arrow"), "wb") as sink:
            part = table.slice(2 * number, 2)
            with pa.ipc.new_stream(sink, part.schema) as writer:
                writer.write_table(part)
    state = {"_data_files": [{"filename": f"data-{number}.arrow"} for number in range(2)]}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text("{}")
    return folder, Images()


FORMS = {
    "metadata.jsonl": write_metadata,
    "metadata.csv": write_table,
    "txt": write_beside,
    "released": write_released,
    "tars": write_tars,
    "saved": write_saved,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_images_and_captions(form, tmp_path):
    path, images = FORMS[form](tmp_path / "data")
    data = open_listing(str(path), images)
    assert [data[i][1] for i in range(len(data))] == CAPTIONS
    assert all((data[i][0] == picture(i)).all() for i in range(4))
    assert data.digest == open_listing(str(write_metadata(tmp_path / "other")[0])).digest
    assert inspect(data).sizes.tolist() == [[24, 16]] * 4


def test_a_folder_of_tars_is_read_in_the_order_of_names(tmp_path):
    write_tars(tmp_path / "data")
    data = open_listing(str(tmp_path / "data"))
    assert [data.caption(i) for i in range(4)] == CAPTIONS


def test_what_the_datasets_library_saves_is_read(tmp_path):
    datasets = pytest.importorskip("datasets")
    images = [Image.fromarray(picture(i)) for i in range(4)]
    features = datasets.Features({"picture": datasets.Image(), "text": datasets.Value("string")})
    made = datasets.Dataset.from_dict({"picture": images, "text": CAPTIONS}, features=features)
    shuffled = made.select([2, 0, 1, 3])
    datasets.DatasetDict({"small": shuffled}).save_to_disk(str(tmp_path / "saved"))
    data = open_listing(str(tmp_path / "saved"), Images(image="picture", split="small"))
    assert [data.caption(i) for i in range(4)] == [CAPTIONS[i] for i in (2, 0, 1, 3)]
    assert all((data[row][0] == picture(i)).all() for row, i in enumerate((2, 0, 1, 3)))
    with pytest.raises(TrainingError, match=r"no split 'train'.*one of small"):
        open_listing(str(tmp_path / "saved"))
    with pytest.raises(TrainingError, match=r"no column 'image'.*images\.image.*picture, text"):
        open_listing(str(tmp_path / "saved"), Images(split="small"))


def test_ranges_of_files_are_spelled_out_with_their_zeros(tmp_path):
    for name in ("a-08.tar", "a-09.tar", "a-10.tar"):
        (tmp_path / name).touch()
    found = expand(str(tmp_path / "a-{08..10}.tar"))
    assert [file.name for file in found] == ["a-08.tar", "a-09.tar", "a-10.tar"]
    with pytest.raises(TrainingError, match=r"a-11\.tar' and 1 more"):
        expand(str(tmp_path / "a-{08..12}.tar"))


def test_columns_may_have_other_names(tmp_path):
    write_images(tmp_path, ["a.png"])
    (tmp_path / "list.jsonl").write_text(lines([{"jpg": "a.png", "long": "x", "text": "y"}]))
    data = open_listing(str(tmp_path / "list.jsonl"), Images(image="jpg", caption="long"))
    assert data[0][1] == "x"


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


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("a.txt", b"x")], "sample a has no image"),
        ([("a.jpg", png(0))], "sample a has no caption"),
        ([("a.jpg", png(0)), ("a.json", b"{")], "not JSON"),
        ([("a.jpg", png(0)), ("a.json", b'{"caption": 3}')], "without a text under caption"),
        ([("a.jpg", png(0)), ("a.txt", b"\xff\xfe")], "not UTF-8"),
        ([("a.jpg", png(0)), ("a.jpg", png(1)), ("a.txt", b"x")], "member a.jpg is there twice"),
    ],
)
def test_a_broken_sample_of_a_tar_is_named(members, message, tmp_path):
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        for name, content in members:
            add(tar, name, content)
    with pytest.raises(TrainingError, match=message):
        open_listing(str(tmp_path / "t.tar"))


def test_nothing_pickled_in_a_tar_is_loaded_and_links_are_refused(tmp_path):
    ran = tmp_path / "ran"
    code = b"cposix\nsystem\n(S'touch " + str(ran).encode() + b"'\ntR."
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        add(tar, "a.jpg", png(0))
        add(tar, "a.txt", b"x")
        for ending in ("pyd", "pickle", "pkl", "pth"):
            add(tar, f"a.{ending}", code)
    data = open_listing(str(tmp_path / "t.tar"))
    assert data[0][1] == "x"
    assert not ran.exists()
    with tarfile.open(tmp_path / "t.tar", "a") as tar:
        link = tarfile.TarInfo("b.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        add(tar, "b.txt", b"x")
    with pytest.raises(TrainingError, match=r"member b\.jpg is a link"):
        open_listing(str(tmp_path / "t.tar"))


@pytest.mark.parametrize("keep", [100, 1500])
def test_a_tar_that_ends_too_early_is_refused(keep, tmp_path):
    path, _ = write_tars(tmp_path / "data")
    file = path.parent / "part-001.tar"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(TrainingError, match=r"part-001\.tar is not a whole, uncompressed tar"):
        open_listing(str(path))


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
    found = check(open_listing(str(folder), DROP), DROP)
    assert found.dropped == 1
    assert [found.source[i][1] for i in range(len(found.source))] == [
        CAPTIONS[0],
        CAPTIONS[1],
        CAPTIONS[3],
    ]
    assert found.sizes.tolist() == [[24, 16]] * 3
    assert found.source.digest != data.digest


def test_a_caption_in_utf16_is_a_fault_and_not_trained_on(tmp_path):
    """Its letters read as UTF-8 have NUL characters between them."""
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_bytes("a star".encode("utf-16-le"))
    with pytest.raises(TrainingError, match=r"a\.png has a caption that holds a NUL character"):
        open_listing(str(tmp_path))


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
        again = inspect(open_listing(str(folder), DROP), cache)
    assert again.sizes.tolist() == first.sizes.tolist()
    assert again.faults == first.faults
    (folder / "sub" / "2.png").write_bytes(png(2))
    assert not inspect(open_listing(str(folder)), cache).faults


def test_a_file_that_cannot_be_read_is_a_fault(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    folder, _ = write_metadata(tmp_path / "data")
    (folder / "sub" / "1.png").chmod(0)
    with pytest.raises(TrainingError, match=r"line 2 names sub/1\.png, which cannot be read"):
        open_listing(str(folder))


def test_a_row_of_a_table_may_lack_its_last_cells_but_not_those_that_are_needed(tmp_path):
    write_images(tmp_path, ["a.png", "b.png"])
    (tmp_path / "metadata.csv").write_text("file_name,text,note\na.png,star\nb.png\n")
    data = open_listing(str(tmp_path), DROP)
    assert [data.caption(i) for i in range(len(data))] == ["star"]
    assert 'line 3 needs the texts "file_name" and "text"' in str(data.faults[0])


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


def tar_of(file, *members):
    with tarfile.open(file, "w") as tar:
        for name, content in members:
            add(tar, name, content)
    return str(file)


def test_a_dot_in_a_name_of_a_tar_is_explained(tmp_path):
    members = [(f"22.0{i}.{end}", c) for i in (5, 6) for end, c in (("png", png(i)), ("txt", b"x"))]
    with pytest.raises(TrainingError, match=r"22 has no image .*first dot, so '05\.png'"):
        open_listing(tar_of(tmp_path / "a.tar", *members))


@pytest.mark.parametrize(
    ("members", "caption"),
    [
        ({"json": b'{"caption": "", "text": "a star"}'}, "a star"),
        ({"json": b'{"caption": null, "prompt": "a star"}'}, "a star"),
        ({"txt": b" \n", "json": b'{"text": "a star"}'}, "a star"),
        ({"txt": b"a star", "json": b'{"text": "another"}'}, "a star"),
        ({"json": b'{"caption": "", "text": ""}'}, ""),
        ({"txt": b""}, ""),
    ],
)
def test_an_empty_caption_gives_way_to_one_with_a_text(members, caption, tmp_path):
    texts = [(f"a.{ending}", content) for ending, content in members.items()]
    data = open_listing(tar_of(tmp_path / "a.tar", ("a.png", png(0)), *texts))
    assert data.caption(0) == caption


@pytest.mark.parametrize("version", ["0.0", "0.1", "1.0"])
def test_a_sparse_member_of_a_tar_is_a_fault(version, tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        add(tar, "a.png", png(0))
        add(tar, "a.txt", b"x")
        member = tarfile.TarInfo("b.png")
        content = b"1\n0\n4\n".ljust(512, b"\0") + b"abcd" if version == "1.0" else b"abcd"
        major, minor = version.split(".")
        member.pax_headers = {
            "1.0": {"GNU.sparse.name": "b.png", "GNU.sparse.realsize": "999999999999"},
            "0.1": {"GNU.sparse.name": "b.png", "GNU.sparse.map": "0,4"},
            "0.0": {"GNU.sparse.offset": "0", "GNU.sparse.numbytes": "4"},
        }[version] | {"GNU.sparse.major": major, "GNU.sparse.minor": minor}
        if version != "1.0":
            member.pax_headers |= {"GNU.sparse.size": "999999999999", "GNU.sparse.numblocks": "1"}
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    with pytest.raises(TrainingError, match=r"member b\.png is a link, a device or sparse"):
        open_listing(str(tmp_path / "a.tar"))
    assert len(open_listing(str(tmp_path / "a.tar"), DROP)) == 1


def test_a_tar_with_a_header_that_python_stumbles_over_is_refused(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        member = tarfile.TarInfo("a.png")
        member.pax_headers = {"GNU.sparse.map": "no,numbers", "GNU.sparse.size": "x"}
        tar.addfile(member, io.BytesIO())
    with pytest.raises(TrainingError, match="is not a whole, uncompressed tar file"):
        open_listing(str(tmp_path / "a.tar"))


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


@pytest.mark.parametrize("name", ["a-{0..99999999}.tar", "a-{0..9999}{0..9999}.tar"])
def test_a_range_of_too_many_files_is_refused(name):
    with pytest.raises(TrainingError, match="names more than 1,000,000 files"):
        expand(name)


def test_a_damaged_saved_dataset_is_refused(tmp_path):
    folder, _ = write_saved(tmp_path / "data")
    file = folder / "data-0.arrow"
    file.write_bytes(file.read_bytes().replace(CAPTIONS[0].encode(), b"a red st\xffr"))
    with pytest.raises(TrainingError, match=r"data is damaged: .*UTF8"):
        open_listing(str(folder))
