"""The same four images and captions in every form of training data."""

from __future__ import annotations

import csv
import io
import json
import tarfile

import numpy as np
import pyarrow as pa
from PIL import Image

from training.types import Images

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


def tar_of(file, *members):
    with tarfile.open(file, "w") as tar:
        for name, content in members:
            add(tar, name, content)
    return str(file)
