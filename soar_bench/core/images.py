"""From an image file that came from anywhere to the pixels that are scored or trained on."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from soar_bench.core.errors import SoarBenchError

#: Raised when the same file would give other pixels.
READING = 1
#: Formats that are read, by content and not by name. Pillow has decoders that start other programs.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
READABLE = "PNG, JPEG, WebP or BMP"
#: Endings of such files; their content says which format they have.
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
#: Endings of images in other formats, which are refused and not passed over.
_OTHER_SUFFIXES = (".gif", ".tif", ".tiff", ".avif", ".heic", ".jxl", ".jp2", ".ppm")
#: More than this is no picture that a model made, but may fill the memory.
_MAX_PIXELS = 1 << 26
_ORIENTATION = 0x0112
#: How an image is turned upright, by its EXIF orientation.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def images_in(folder: Path) -> list[str]:
    """Return the names of images at any depth, without hidden files and folders, sorted.

    SoarBenchError for a folder that may not be read, a link to a folder and a name that is no text.
    """

    def refuse(error: OSError) -> None:
        raise SoarBenchError(f"{error.filename} cannot be read: {error.strerror}")

    images = []
    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in folders:
            if Path(parent, name).is_symlink():
                raise SoarBenchError(
                    f"{Path(parent, name)} is a link to a folder: links are not followed, copy the "
                    "images there"
                )
        for name in names:
            file = Path(parent, name)
            if not name.isprintable():  # nor can it be written into a record
                raise SoarBenchError(f"the name of {str(file)!r} is no text: rename it")
            if not name.startswith(".") and file.suffix.lower() in SUFFIXES + _OTHER_SUFFIXES:
                images.append(file.relative_to(folder).as_posix())
    return sorted(images)


def read_pixels(file: Path) -> tuple[np.ndarray, str]:
    """Return the pixels of an image file and its format, as :func:`decode` does.

    SoarBenchError names the file and why it cannot be read.
    """
    if file.exists() and not file.is_file():  # opening a pipe waits for ever
        raise SoarBenchError(f"{file} is no file: put an image there")
    try:
        with file.open("rb") as stream:
            return decode(stream, str(file))
    except FileNotFoundError:
        raise SoarBenchError(f"the image {file} has gone: put it back") from None
    except PermissionError:
        raise SoarBenchError(f"{file} may not be read: change its permissions") from None


def decode(stream: BinaryIO, name: str) -> tuple[np.ndarray, str]:
    """Return uint8 RGB [H, W, 3] and the format (one of FORMATS): what is scored and trained on.

    Grey and palette images become RGB and an EXIF orientation is applied, as viewers do. Colour
    profiles are not applied. Refused, because no conversion is the obvious one: transparency that
    is used, more than 8 bits per channel, CMYK, animations. SoarBenchError names the image and why.
    """
    try:
        with open_image(stream) as image:
            kind = str(image.format)
            return rgb_array(image, name), "JPEG" if kind == "MPO" else kind
    except UnidentifiedImageError:
        problem = f"is no {READABLE} image: convert it or make it again"
    except Image.DecompressionBombError:
        problem = f"has more than {_MAX_PIXELS} pixels: make it smaller"
    except (SoarBenchError, MemoryError):
        raise
    except Exception as error:  # decoders meet damage in many ways
        words = " ".join(str(error).split())[:160] or type(error).__name__
        problem = f"is cut off or damaged ({words}): copy it or make it again"
    raise SoarBenchError(f"{name} {problem}")


def open_image(file: Path | BinaryIO, formats: tuple[str, ...] = FORMATS) -> Image.Image:
    """Open an image of these formats; Image.DecompressionBombError if it has too many pixels."""
    image = Image.open(file, formats=formats)
    if image.width * image.height > _MAX_PIXELS:
        image.close()
        raise Image.DecompressionBombError
    return image


def rgb_array(image: Image.Image, name: str) -> np.ndarray:
    """Return a PIL image as uint8 RGB [H, W, 3], by the rules of :func:`decode`.

    ``name`` is the image's in errors (SoarBenchError). That a file had 16 bits per channel is seen
    only as long as its pixels are not loaded.
    """
    # Pillow reads 16-bit colour PNGs as 8-bit ones. BGR;16 is a BMP's, of 5 or 6 bits per channel.
    wide = re.search("(?<!BGR);16", str(getattr(image, "tile", "")))
    if wide or image.mode in ("I", "F") or image.mode.startswith("I;"):
        raise SoarBenchError(f"{name} has more than 8 bits a channel: save it with 8")
    frames = getattr(image, "n_frames", 1)
    if image.format in ("PNG", "WEBP") and frames > 1:
        raise SoarBenchError(f"{name} is an animation of {frames} frames: save one of them")
    image.load()  # some formats have their EXIF behind the pixels
    upright = _upright(image)
    if upright.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in upright.info:
        upright = upright.convert("RGBA")
        if np.asarray(upright)[:, :, 3].min() < 255:
            raise SoarBenchError(
                f"{name} has transparent pixels, and what is behind them would be seen: put it "
                "on a background first"
            )
    elif upright.mode not in ("RGB", "L", "1", "P"):
        raise SoarBenchError(f"{name} has the colours {upright.mode}: convert it to RGB")
    return np.asarray(upright.convert("RGB"))


def _upright(image: Image.Image) -> Image.Image:
    """Return an image turned by its EXIF orientation, whatever else its EXIF holds."""
    try:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF turns nothing
        turn = None
    return image if turn is None else image.transpose(turn)


def digest_image(image: np.ndarray) -> str:
    """Return the SHA-256 of the shape and pixels of a uint8 RGB [H, W, 3] in any file format."""
    return hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()
