"""Image files, folders and lists of them, and captions."""

from __future__ import annotations

import io
import json
import struct
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.bad_inputs import Bad


def pictures() -> dict[str, bytes]:
    """Image files that are not read, by the name that they have."""
    import numpy as np
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    image = Image.fromarray(noise)

    def saved(picture: Image.Image, form: str, **more: Any) -> bytes:
        target = io.BytesIO()
        picture.save(target, form, **more)
        return target.getvalue()

    png, jpeg = saved(image, "PNG"), saved(image, "JPEG")
    clear = image.convert("RGBA")
    clear.putalpha(0)
    turned = [image.rotate(90)]
    grey = Image.fromarray(noise[..., 0].astype(np.uint16) * 256)
    bomb = png[:16] + struct.pack(">II", 60_000, 60_000) + png[24:]
    return {
        "empty.png": b"",
        "text.png": b"no image",
        "cut.png": png[: len(png) // 2],
        "head.png": png[:20],
        "bomb.png": bomb,
        "cut.jpg": jpeg[: len(jpeg) // 2],
        "grey16.png": saved(grey, "PNG"),
        "cmyk.jpg": saved(image.convert("CMYK"), "JPEG"),
        "clear.png": saved(clear, "PNG"),
        "anim.png": saved(image, "PNG", save_all=True, append_images=turned),
        "anim.webp": saved(image, "WEBP", save_all=True, append_images=turned),
        "eps.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n",
        "tiff.png": saved(image, "TIFF"),
        "gif.png": saved(image, "GIF"),
        "pdf.png": b"%PDF-1.4\n",
        "svg.png": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "pil.png": b"P6 2 2 255\n" + bytes(12),
        "zip.png": b"PK\3\4" + bytes(60),
        "flipped.png": png[:40] + bytes([png[40] ^ 255]) + png[41:],
    }


def image_folders(place: Path) -> Iterator[Bad]:
    import numpy as np
    from PIL import Image

    target = io.BytesIO()
    Image.fromarray(np.zeros((32, 32, 3), np.uint8) + 9).save(target, "PNG")
    good = target.getvalue()
    judge = ["--evaluators", "shapes-clipscore"]
    for name, content in pictures().items():
        folder = place / f"with-{name}"
        folder.mkdir(parents=True)
        (folder / name).write_bytes(content)
        (folder / Path(name).with_suffix(".txt")).write_text("a star")
        (folder / "prompts.jsonl").write_text(json.dumps({"file": name, "prompt": "a star"}) + "\n")
        yield "images", ["score", str(folder), *judge]
        (folder / "metadata.jsonl").write_text(json.dumps({"file_name": name, "text": "a"}) + "\n")
        yield "images", ["data", "check", str(folder)]
        with tarfile.open(place / f"{name}.tar", "w") as tar:
            tar.add(folder / name, name)
            tar.add(folder / Path(name).with_suffix(".txt"), str(Path(name).with_suffix(".txt")))
        yield "images", ["data", "check", str(place / f"{name}.tar")]
        yield "images", ["train", "sft", "--base", "shapes", "--data", str(folder), "--dry-run"]
    lists = {
        "file": "../a.png",
        "absolute": "/etc/passwd",
        "missing": "b.png",
        "folder": ".",
        "nul": "a\0.png",
        "number": 5,
        "none": None,
        "list": ["a.png"],
        "empty": "",
        "long": "a" * 300 + ".png",
    }
    for name, value in lists.items():
        folder = place / f"list-{name}"
        folder.mkdir()
        (folder / "a.png").write_bytes(good)
        (folder / "prompts.jsonl").write_text(json.dumps({"file": value, "prompt": "a"}) + "\n")
        yield "lists", ["score", str(folder), *judge]
        (folder / "prompts.jsonl").unlink()
        (folder / "metadata.jsonl").write_text(json.dumps({"file_name": value, "text": "a"}) + "\n")
        yield "lists", ["data", "check", str(folder)]
    captions = {
        "half": '{"file_name":"a.png","text":"\\ud800"}',
        "none": '{"file_name":"a.png"}',
        "open": '{"file_name":"a.png"',
        "number": '{"file_name":"a.png","text":5}',
        "list": '["a.png"]',
        "nul": '{"file_name":"a.png","text":"a\0"}',
        "deep": "[" * 100_000,
        "huge": "9" * 5000,
    }
    for name, line in captions.items():
        folder = place / f"caption-{name}"
        folder.mkdir()
        (folder / "a.png").write_bytes(good)
        (folder / "metadata.jsonl").write_text(line + "\n")
        yield "captions", ["data", "check", str(folder)]
        (folder / "prompts.jsonl").write_text(
            line.replace("file_name", "file").replace("text", "prompt") + "\n"
        )
        yield "captions", ["score", str(folder), *judge]
    for name, content in (
        ("empty.tar", b""),
        ("cut.tar", b"a" * 700),
        ("text.tar", b"no tar"),
        ("a.parquet", b"PAR1"),
        ("a.zip", b"PK"),
        ("a.json", b"{}"),
        ("a.csv", b""),
        ("b.csv", b"x,y\n1,2\n"),
        ("a.jsonl", b""),
        ("b.jsonl", b"{}\n"),
    ):
        (place / name).write_bytes(content)
        yield "data", ["data", "check", str(place / name)]
        yield (
            "data",
            ["train", "soar", "--base", "shapes", "--data", str(place / name), "--dry-run"],
        )
    (place / "nothing").mkdir()
    for name in ("nothing", "nowhere", "shapes-clean:0", "shapes-clean:x", "shapes-clean:-1"):
        data = name if ":" in name else str(place / name)
        yield "data", ["data", "check", data]
        yield "data", ["data", "stats", data]
        yield "data", ["score", data, *judge]
