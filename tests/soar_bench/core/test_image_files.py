"""One reader of image files, for scoring and for training: what it refuses and what it reads."""

from __future__ import annotations

import ast
import io
import json
import os
import struct
import tarfile
import zlib
from pathlib import Path

import forks
import numpy as np
import pytest
from PIL import Image

from soar_bench.cache.images import ImageStore
from soar_bench.core.errors import SoarBenchError
from soar_bench.core.images import read_pixels
from soar_bench.suites.types import PlannedSample, Prompt
from training.data import open_listing
from training.data.checking import check, inspect
from training.types import Images, TrainingError

ROOT = Path(__file__).parents[3]
PIXELS = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)


def image(mode="RGB"):
    return Image.fromarray(PIXELS).convert(mode)


def see_through(mode):
    made = image(mode)
    made.putalpha(200)
    return made


#: By the name of the file: how to save what is refused, and the words of the refusal.
REFUSED = {
    "grey.png": (lambda f: Image.fromarray(PIXELS[..., 0].astype("u2") * 257).save(f), "8 bits"),
    "rgba.png": (lambda f: see_through("RGB").save(f), "transparent pixels"),
    "la.png": (lambda f: see_through("L").save(f), "transparent pixels"),
    "palette.png": (lambda f: image("P").save(f, transparency=image("P").getpixel((0, 0))), "tran"),
    "alpha.webp": (lambda f: see_through("RGB").save(f, lossless=True), "transparent pixels"),
    "cmyk.jpg": (lambda f: image("CMYK").save(f), "the colours CMYK"),
    "moving.webp": (lambda f: image().save(f, save_all=True, append_images=[image("L")]), "anima"),
    "moving.png": (lambda f: image().save(f, save_all=True, append_images=[image("L")]), "anima"),
    "float.png": (lambda f: Image.fromarray(PIXELS[..., 0] / 255.0).save(f, "TIFF"), "is no PNG"),
    "moving.jpg": (lambda f: image().save(f, "GIF"), "is no PNG, JPEG, WebP or BMP image"),
    "huge.png": (lambda f: Image.new("1", (8200, 8200)).save(f), "pixels: make it smaller"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_training_refuses_what_scoring_refuses(name, tmp_path):
    save, words = REFUSED[name]
    save(tmp_path / name)
    image().save(tmp_path / "whole.png")
    lines = [{"file_name": n, "text": "a star"} for n in (name, "whole.png")]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(SoarBenchError, match=words):
        read_pixels(tmp_path / name)
    with pytest.raises(TrainingError, match=f"line 1 names {name}, which is not .*: it .*{words}"):
        check(open_listing(str(tmp_path)), Images())
    kept = check(open_listing(str(tmp_path)), Images(on_broken="drop"))
    assert kept.dropped == 1
    assert (kept.source[0][0] == PIXELS).all()


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "grey.png", "a.webp", "a.jpg", "opaque.png"])
def test_training_and_scoring_read_the_same_pixels(name, tmp_path):
    mode = {"grey.png": "L", "opaque.png": "RGBA"}.get(name, "RGB")
    image(mode).save(tmp_path / name, **({"lossless": True} if name == "a.webp" else {}))
    (tmp_path / name).with_suffix(".txt").write_text("a star")
    pixels = open_listing(str(tmp_path))[0][0]
    assert (pixels == read_pixels(tmp_path / name)[0]).all()
    with Image.open(tmp_path / name) as opened:
        assert (pixels == np.asarray(opened.convert("RGB"))).all()


EPS = (
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n"
    b"(anything) pop showpage\n%%EOF\n"
)


@pytest.mark.parametrize("form", ["beside", "tar"])
def test_no_image_starts_another_program(form, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    if form == "beside":
        (data / "a.jpg").write_bytes(EPS)
        (data / "a.txt").write_text("a red star")
    else:
        with tarfile.open(data / "a.tar", "w") as tar:
            for name, content in (("a.jpg", EPS), ("a.txt", b"a red star")):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    program = tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {tmp_path / 'ran'}\n")
    program.chmod(0o755)
    done = forks.run(
        ["-m", "soar_bench", "data", "check", data],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"},
    )
    assert done.returncode == 2
    assert "is no PNG, JPEG, WebP or BMP image" in done.stderr
    assert not (tmp_path / "ran").exists()


def test_image_files_are_opened_in_one_place():
    """Image.open tries every decoder of Pillow, and some of them start other programs."""
    places = {
        str(file.relative_to(ROOT))
        for package in ("soar_bench", "evaluators", "training")
        for file in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Image.open")
    }
    assert places == {"soar_bench/core/images.py"}


def exif(*entries):
    """An EXIF block of (tag, type, count, value): big-endian TIFF, by hand."""
    body, data, place = b"", b"", 8 + 2 + 12 * len(entries) + 4
    for tag, kind, count, value in entries:
        if len(value) > 4:
            body += struct.pack(">HHII", tag, kind, count, place + len(data))
            data += value
        else:
            body += struct.pack(">HHI", tag, kind, count) + value.ljust(4, b"\0")
    header = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", len(entries))
    return header + body + bytes(4) + data


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize("kind", [0, 1, 2, 3, 4, 5, 7, 9, 11, 12, 13, 16, 255])
@pytest.mark.parametrize("tag", [282, 296, 306, 34665, 34853])
def test_exif_of_odd_types_turns_an_image_and_breaks_nothing(tag, kind, suffix, tmp_path):
    turn = (0x0112, 3, 1, struct.pack(">HH", 6, 0))
    lossless = {"lossless": True} if suffix == ".webp" else {}
    for count in (0, 1, 2, 70_000):
        odd = (tag, kind, count, b"0072\0\0\1\1" * 2)
        Image.fromarray(PIXELS).save(
            tmp_path / f"a{suffix}",
            exif=exif(turn, odd),
            **lossless,
        )
        (tmp_path / "a.txt").write_text("a star")
        data = open_listing(str(tmp_path))
        assert inspect(data).sizes.tolist() == [[32, 48]]
        if suffix != ".jpg":
            assert (data[0][0] == np.rot90(PIXELS, -1)).all()


def test_a_small_file_of_very_many_pixels_in_the_cache_is_no_image(tmp_path):
    store = ImageStore(tmp_path)
    sample = PlannedSample(Prompt("a", "a star", {}), 0)
    store.add(sample, PIXELS)
    file = store.file(sample)
    whole = file.read_bytes()
    header = struct.pack(">II", 60_000, 60_000) + whole[24:29]
    checksum = struct.pack(">I", zlib.crc32(b"IHDR" + header))
    file.write_bytes(whole[:16] + header + checksum + whole[33:])
    assert store.digest(sample) is None
    assert store.read(sample) is None


@pytest.mark.parametrize("kind", ["pipe", "sparse"])
def test_what_is_no_picture_but_would_never_end_is_not_read(kind, tmp_path):
    if kind == "pipe":
        os.mkfifo(tmp_path / "a.png")
    else:
        with (tmp_path / "a.png").open("wb") as stream:
            stream.truncate(1 << 40)
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "a star"}')
    with pytest.raises(SoarBenchError):
        read_pixels(tmp_path / "a.png")
    with pytest.raises(TrainingError, match=r"line 1 names .*a\.png.*(missing|too large)"):
        open_listing(str(tmp_path))
