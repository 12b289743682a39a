"""From an image file that came from anywhere to the pixels that are scored."""

from __future__ import annotations

import hashlib
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from soar_bench.core.errors import SoarBenchError

#: Raised when the same file would give other pixels.
READING = 1
#: Formats that are read, by content and not by name.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
READABLE = "PNG, JPEG, WebP or BMP"
#: More than this is no picture that a model made, but may fill the memory.
_MAX_PIXELS = 1 << 26


def read_pixels(file: Path) -> tuple[np.ndarray, str]:
    """Return the uint8 RGB [H, W, 3] that is scored, and the format (one of FORMATS).

    Grey and palette images become RGB and an EXIF orientation is applied, as viewers do. Colour
    profiles are not applied. Refused, because no conversion is the obvious one: transparency that
    is used, more than 8 bits per channel, CMYK, animations. SoarBenchError names the file and why.
    """
    try:
        with file.open("rb") as stream:
            head = stream.read(25)
            stream.seek(0)
            with Image.open(stream, formats=FORMATS) as image:
                kind = str(image.format)
                if image.width * image.height > _MAX_PIXELS:
                    raise Image.DecompressionBombError
                image.load()
                # Pillow reads 16-bit colour PNGs as 8-bit ones; the header says what they are.
                wide = kind == "PNG" and head[24] == 16
                return rgb_array(image, file, wide), "JPEG" if kind == "MPO" else kind
    except FileNotFoundError:
        raise SoarBenchError(f"the image {file} has gone: put it back") from None
    except PermissionError:
        problem = "may not be read: change its permissions"
    except UnidentifiedImageError:
        problem = f"is no {READABLE} image: convert it or make it again"
    except Image.DecompressionBombError:
        problem = f"has more than {_MAX_PIXELS} pixels: make it smaller"
    except (OSError, SyntaxError, ValueError, struct.error, zlib.error) as error:
        problem = f"is cut off or damaged ({error}): copy it or make it again"
    raise SoarBenchError(f"{file} {problem}")


def rgb_array(image: Image.Image, file: Path | str, wide: bool = False) -> np.ndarray:
    """Return a PIL image as uint8 RGB [H, W, 3], by the rules of :func:`read_pixels`.

    ``file`` names it in errors (SoarBenchError); ``wide`` says that its file had 16 bits per
    channel, which is seen here only as long as the pixels are not loaded.
    """
    wide = wide or any(";16" in str(tile) for tile in getattr(image, "tile", ()))
    if wide or image.mode in ("I", "F") or image.mode.startswith("I;"):
        raise SoarBenchError(f"{file} has more than 8 bits a channel: save it with 8")
    frames = getattr(image, "n_frames", 1)
    if image.format in ("PNG", "WEBP") and frames > 1:
        raise SoarBenchError(f"{file} is an animation of {frames} frames: save one of them")
    upright = ImageOps.exif_transpose(image)
    if upright.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in upright.info:
        upright = upright.convert("RGBA")
        if np.asarray(upright)[:, :, 3].min() < 255:
            raise SoarBenchError(
                f"{file} has transparent pixels, and what is behind them would be scored: put it "
                "on a background first"
            )
    elif upright.mode not in ("RGB", "L", "1", "P"):
        raise SoarBenchError(f"{file} has the colours {upright.mode}: convert it to RGB")
    return np.asarray(upright.convert("RGB"))


def digest_image(image: np.ndarray) -> str:
    """Return the SHA-256 of the shape and pixels of a uint8 RGB [H, W, 3] in any file format."""
    return hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()
