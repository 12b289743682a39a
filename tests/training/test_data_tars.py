"""Tar files of training data: which are read in which order, and their faults."""

from __future__ import annotations

import io
import tarfile

import pytest
from data_forms import CAPTIONS, DROP, add, png, tar_of, write_tars

from training.data import open_listing
from training.data.tars import expand
from training.types import TrainingError


def test_a_folder_of_tars_is_read_in_the_order_of_names(tmp_path):
    write_tars(tmp_path / "data")
    data = open_listing(str(tmp_path / "data"))
    assert [data.caption(i) for i in range(4)] == CAPTIONS


def test_ranges_of_files_are_spelled_out_with_their_zeros(tmp_path):
    for name in ("a-08.tar", "a-09.tar", "a-10.tar"):
        (tmp_path / name).touch()
    paths = expand(str(tmp_path / "a-{08..10}.tar"))
    assert [file.name for file in paths] == ["a-08.tar", "a-09.tar", "a-10.tar"]
    with pytest.raises(TrainingError, match=r"a-11\.tar' and 1 more"):
        expand(str(tmp_path / "a-{08..12}.tar"))


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


@pytest.mark.parametrize("name", ["a-{0..99999999}.tar", "a-{0..9999}{0..9999}.tar"])
def test_a_range_of_too_many_files_is_refused(name):
    with pytest.raises(TrainingError, match="names more than 1,000,000 files"):
        expand(name)
