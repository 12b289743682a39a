"""Images from anywhere: what their pixels are."""

from __future__ import annotations

import re

import numpy as np
import pytest
from folders_by_hand import pixels, save
from PIL import Image

from soar_bench.core.errors import SoarBenchError
from soar_bench.core.images import read_pixels


def read(file):
    return read_pixels(file)[0]


@pytest.mark.parametrize(
    ("suffix", "options", "kind"),
    [
        (".png", {}, "PNG"),
        (".bmp", {}, "BMP"),
        (".webp", {"lossless": True}, "WEBP"),
    ],
)
def test_a_lossless_file_equals_the_array_it_was_saved_from(tmp_path, suffix, options, kind):
    Image.fromarray(pixels()).save(tmp_path / f"a{suffix}", **options)
    image, format = read_pixels(tmp_path / f"a{suffix}")
    assert image.dtype == np.uint8
    assert format == kind
    np.testing.assert_array_equal(image, pixels())


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_a_lossy_file_is_what_its_decoder_gives(tmp_path, suffix):
    Image.fromarray(pixels()).save(tmp_path / f"a{suffix}", quality=70)
    with Image.open(tmp_path / f"a{suffix}") as image:
        expected = np.asarray(image)
    np.testing.assert_array_equal(read(tmp_path / f"a{suffix}"), expected)
    assert not np.array_equal(expected, pixels())


def test_content_decides_what_a_file_is_and_not_its_name(tmp_path):
    Image.fromarray(pixels()).save(tmp_path / "a.png", format="JPEG")
    assert read_pixels(tmp_path / "a.png")[1] == "JPEG"


def test_grey_and_palette_become_rgb(tmp_path):
    grey = pixels()[:, :, 0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read(tmp_path / "grey.png"), np.stack([grey] * 3, axis=2))
    Image.fromarray(grey > 127).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(
        read(tmp_path / "bits.png"), np.stack([np.where(grey > 127, 255, 0)] * 3, axis=2)
    )
    palette = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), "P")
    palette.putpalette([255, 0, 0, 0, 255, 0, 9, 8, 7])
    palette.save(tmp_path / "palette.png")
    red, green, dark = (255, 0, 0), (0, 255, 0), (9, 8, 7)
    np.testing.assert_array_equal(read(tmp_path / "palette.png"), [[red, green], [dark, green]])


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_that_is_not_used_is_dropped_and_used_one_refused(tmp_path, mode):
    opaque = Image.fromarray(pixels()).convert(mode)
    opaque.save(tmp_path / "opaque.png")
    expected = pixels() if mode == "RGBA" else np.asarray(opaque.convert("L").convert("RGB"))
    np.testing.assert_array_equal(read(tmp_path / "opaque.png"), expected)
    opaque.putpixel((3, 2), (1, 2, 3, 254) if mode == "RGBA" else (1, 254))
    opaque.save(tmp_path / "clear.png")
    with pytest.raises(SoarBenchError, match=r"clear\.png has transparent pixels"):
        read(tmp_path / "clear.png")


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_a_colour_marked_as_transparent_counts_only_where_it_is_used(tmp_path, mode):
    array = {
        "P": np.array([[0, 1], [1, 1]], np.uint8),
        "L": np.array([[0, 1], [1, 1]], np.uint8),
        "RGB": np.array([[[0, 0, 0], [1, 1, 1]]] * 2, np.uint8),
    }[mode]
    image = Image.fromarray(array, "P") if mode == "P" else Image.fromarray(array)
    if mode == "P":
        image.putpalette([10, 20, 30, 1, 1, 1, 2, 2, 2])
    unused, used = ((7, 7, 7), (0, 0, 0)) if mode == "RGB" else (2, 0)
    image.save(tmp_path / "unused.png", transparency=unused)
    first = [10, 20, 30] if mode == "P" else [0, 0, 0]
    assert read(tmp_path / "unused.png")[0].tolist() == [first, [1, 1, 1]]
    image.save(tmp_path / "used.png", transparency=used)
    with pytest.raises(SoarBenchError, match="transparent pixels"):
        read(tmp_path / "used.png")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_the_orientation_in_exif_is_applied_as_viewers_do(tmp_path, suffix):
    """6: the camera was held so that the stored rows are the picture's columns, right to left."""
    image = Image.fromarray(pixels(height=16, width=8))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / f"plain{suffix}", quality=90)
    image.save(tmp_path / f"turned{suffix}", exif=exif, quality=90)
    stored = read(tmp_path / f"plain{suffix}")
    turned = read(tmp_path / f"turned{suffix}")
    assert turned.shape == (8, 16, 3)
    np.testing.assert_array_equal(turned, np.rot90(stored, k=-1))


def png_16_bit_colour(file):
    """Pillow cannot write one: by hand, 1x1, from the PNG specification."""
    import struct
    import zlib

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    data = zlib.compress(b"\0" + struct.pack(">HHH", 0x1234, 0x5678, 0x9ABC))
    file.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def test_what_has_no_obvious_conversion_is_refused_by_name(tmp_path):
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "deep.png")
    png_16_bit_colour(tmp_path / "deepcolour.png")
    Image.fromarray(pixels()).convert("CMYK").save(tmp_path / "print.jpg")
    frames = [Image.fromarray(pixels(seed)) for seed in range(3)]
    for name in ("moving.png", "moving.webp"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "moving.gif")
    (tmp_path / "moving.gif").rename(tmp_path / "gif.png")
    huge = Image.new("1", (8200, 8200))
    huge.save(tmp_path / "huge.png")
    for name, words in (
        ("deep.png", "more than 8 bits"),
        ("deepcolour.png", "more than 8 bits"),
        ("print.jpg", "has the colours CMYK: convert it to RGB"),
        ("moving.png", "an animation of 3 frames"),
        ("moving.webp", "an animation of 3 frames"),
        ("gif.png", "is no PNG, JPEG, WebP or BMP image"),
        ("huge.png", "has more than 67108864 pixels"),
    ):
        with pytest.raises(SoarBenchError, match=rf"{re.escape(str(tmp_path / name))} .*{words}"):
            read(tmp_path / name)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp"])
def test_a_broken_file_is_refused_by_name_wherever_it_was_cut(tmp_path, suffix):
    file = save(tmp_path / f"a{suffix}")
    whole = file.read_bytes()
    # The last 20 bytes of a PNG are checksums and its end: without them the pixels are whole.
    for size in (0, 1, 9, 30, len(whole) // 2, len(whole) - 40):
        file.write_bytes(whole[:size])
        with pytest.raises(SoarBenchError, match=re.escape(str(file))) as caught:
            read(file)
        assert "\n" not in str(caught.value)
    file.write_text("<html>404</html>")
    with pytest.raises(SoarBenchError, match="is no PNG, JPEG, WebP or BMP image"):
        read(file)
    file.unlink()
    with pytest.raises(SoarBenchError, match="has gone"):
        read(file)


def test_a_png_with_a_flipped_bit_is_refused(tmp_path):
    file = save(tmp_path / "a.png")
    whole = bytearray(file.read_bytes())
    for position in range(60, len(whole) - 20, 40):
        damaged = bytearray(whole)
        damaged[position] ^= 0x10
        file.write_bytes(damaged)
        with pytest.raises(SoarBenchError, match="damaged"):
            read(file)


def test_damaged_exif_turns_nothing_and_a_phones_pair_of_pictures_is_its_first(tmp_path):
    Image.fromarray(pixels()).save(tmp_path / "a.jpg", exif=b"Exif\0\0not a TIFF header at all")
    Image.fromarray(pixels()).save(tmp_path / "b.jpg")
    np.testing.assert_array_equal(read(tmp_path / "a.jpg"), read(tmp_path / "b.jpg"))
    pair = [Image.fromarray(pixels(seed)) for seed in range(2)]
    pair[0].save(tmp_path / "c.jpg", format="MPO", save_all=True, append_images=pair[1:])
    with Image.open(tmp_path / "c.jpg") as image:
        assert image.format == "MPO"
    assert read_pixels(tmp_path / "c.jpg")[1] == "JPEG"
    np.testing.assert_array_equal(read(tmp_path / "c.jpg"), read(tmp_path / "b.jpg"))
