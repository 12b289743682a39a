"""About a thousand bad inputs, each of which must end in one clear sentence and not with code 0.

    python -m benchmarks.bad_inputs [--only KIND] [--show]

Inputs are made by kind from tables of faults: prompt files, image folders, checkpoints, settings of
training, records and arguments. A command runs in this process, by the entry point of the command
line. It is wrong if a fault ends in a traceback, in the last net for unforeseen errors, in no
sentence or several, or is taken for good.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import os
import re
import shutil
import struct
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Bad = tuple[str, list[str]]
WRONG: tuple[Any, ...] = (None, True, -1, 0.5, "text", "", [], [1, "x"], {}, {"a": 1})
#: Arguments that make a run as short as it can be.
SHORT = ["--steps", "1", "--images", "1", "--evaluators", "shapes-clipscore"]


# What is made, by kind


def prompt_files(place: Path) -> Iterator[Bad]:
    deep = "[" * 100_000
    texts = {
        "txt": {
            "empty": b"",
            "blank": b"\n \n\t\n",
            "nul": b"a\0b\n",
            "latin1": "grün\n".encode("latin-1"),
            "utf16": "a star\n".encode("utf-16"),
            "cr": b"one\rtwo\r",
            "long": b"a" * 10_001,
            "half": b"\xed\xa0\x80\n",
            "binary": bytes(range(256)),
        },
        "csv": {
            "empty": b"",
            "header": b"prompt\n",
            "column": b"text\na star\n",
            "twice": b"prompt,prompt\na,b\n",
            "few": b"prompt,id\na\n",
            "many": b"prompt\na,b\n",
            "quote": b'prompt\n"a star\n',
            "quotes": b'prompt\n"a"b\n',
            "nul": b"prompt\na\0\n",
            "blank": b"prompt,id\n,x\n",
            "ids": b"prompt,id\na,x\nb,x\n",
            "some": b"prompt,id\na,x\nb,\n",
            "latin1": b"prompt\ngr\xfcn\n",
            "long": b"prompt\n" + b"a" * 10_001 + b"\n",
            "id": b"prompt,id\na," + b"x" * 201 + b"\n",
            "field": b"prompt,x\na," + b"x" * 140_000 + b"\n",
        },
        "jsonl": {
            "empty": b"",
            "word": b"star\n",
            "open": b'{"prompt": "a"\n',
            "list": b"[1]\n",
            "number": b"5\n",
            "none": b"{}\n",
            "deep": deep.encode(),
            "huge": b'{"prompt":"a","n":' + b"9" * 5000 + b"}",
            "nan": b'{"prompt":"a","n":NaN}\n',
            "infinite": b'{"prompt":"a","n":1e999}\n',
            "half": b'{"prompt":"\\ud800"}\n',
            "ids": b'{"prompt":"a","id":"x"}\n{"prompt":"b","id":"x"}\n',
            "some": b'{"prompt":"a","id":"x"}\n{"prompt":"b"}\n',
            "id": b'{"prompt":"a","id":"%s"}\n' % (b"x" * 201),
            "nul": b'{"prompt":"a\0"}\n',
        },
    }
    for form, faults in texts.items():
        for name, content in faults.items():
            file = place / f"{name}.{form}"
            file.write_bytes(content)
            yield "prompts", ["suites", str(file)]
            yield "prompts", ["eval", "shapes", "--suite", str(file), "--dry-run", *SHORT]
    for key, value in itertools.product(("prompt", "id", "tag", "task"), WRONG):
        harmless = key != "prompt" and (value is None or isinstance(value, str))
        harmless |= key == "id" and value == -1
        if not (harmless or (key == "prompt" and value == "text")):
            file = place / f"{key}-{WRONG.index(value)}.jsonl"
            record = {"prompt": "a", "id": "x", key: value}
            file.write_text(json.dumps(record) + "\n")
            yield "prompts", ["suites", str(file)]
    asked: dict[str, Any] = {
        "class": "star",
        "count": 1,
        "color": "red",
        "position": ["left of", 0],
    }
    for key, value in itertools.product(asked, WRONG):
        file = place / f"asked-{key}-{WRONG.index(value)}.jsonl"
        second = {**asked, key: value}
        if key == "color" and value == "text":
            continue
        include = [{"class": "circle", "count": 1}, second]
        file.write_text(json.dumps({"prompt": "a", "tag": "position", "include": include}) + "\n")
        yield "rules", ["eval", "shapes", "--suite", str(file), "--dry-run", "--steps", "1"]


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


def tensors(file: Path, header: Any, size: int = 8) -> Path:
    """Write a safetensors file with this header and as many bytes of values."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + bytes(size))
    return file


def checkpoints(place: Path) -> Iterator[Bad]:
    from soar_bench.pipelines import EMBEDDED

    on = ["--base", "shapes", "--suite", "one.txt", "--dry-run", *SHORT]
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    headers: dict[str, Any] = {
        "deep": b"[" * 200_000,
        "list": [],
        "none": {},
        "text": b"no json",
        "half": b'{"a"',
        "other": {"a": entry},
        "meta": {"__metadata__": 5, "a": entry},
        "wrapped": {"module.a": entry},
        "nul": b"\0" * 50,
        "latin1": b'{"\xfc": 1}',
    }
    for key, value in itertools.product(entry, WRONG):
        headers[f"{key}-{WRONG.index(value)}"] = {"a": {**entry, key: value}}
    for name, header in headers.items():
        yield "weights", ["eval", str(tensors(place / f"{name}.safetensors", header)), *on]
    for name in ("a.bin", "a.ckpt", "a.pt", "a.gguf", "a.txt", "a.zip", "a"):
        (place / name).write_bytes(b"GGUF" + bytes(100))
        yield "weights", ["eval", str(place / name), *on]
    for size in (0, 1, 7, 8, 100):
        (place / f"{size}.safetensors").write_bytes(bytes(size))
        yield "weights", ["eval", str(place / f"{size}.safetensors"), *on]
    files = {
        "model_index.json": ("_class_name", "scheduler", "transformer", "vae", "tokenizer"),
        "transformer/config.json": ("num_layers", "attention_head_dim", "quantization_config"),
        "text_encoder_3/config.json": ("d_model", "_attn_implementation"),
        "scheduler/scheduler_config.json": ("num_train_timesteps",),
        "tokenizer/tokenizer_config.json": ("tokenizer_class",),
        "vae/config.json": ("latent_channels", "block_out_channels"),
    }
    for file, keys in files.items():
        for number, text in enumerate(("", "[", "5", "null", "[" * 100_000, "\0", "{}")):
            if (
                text != "{}"
                or "config" not in file
                or (file[0] in "tv" and "tokenizer" not in file)
            ):
                folder = place / f"text-{file.partition('/')[0]}-{number}"
                shutil.copytree(EMBEDDED["shapes"], folder)
                (folder / file).write_text(text)
                yield "pipelines", ["eval", str(folder), *on[2:]]
        for key, value in itertools.product(keys, WRONG):
            harmless = "quant" in key or "_attn" in key or "tokenizer_class" in key
            if (harmless and value is None) or "tokenizer_class" in key:
                continue
            if (
                "timesteps" in key
                and value is not None
                and not isinstance(value, list | dict | str)
            ):
                continue
            folder = place / f"value-{file.partition('/')[0]}-{key}-{WRONG.index(value)}"
            shutil.copytree(EMBEDDED["shapes"], folder)
            content = json.loads((folder / file).read_text())
            (folder / file).write_text(json.dumps({**content, key: value}))
            yield "pipelines", ["eval", str(folder), *on[2:]]
    trained = place / "trained"
    (trained / "transformer").mkdir(parents=True)
    shutil.copytree(EMBEDDED["shapes"] / "transformer", trained / "transformer", dirs_exist_ok=True)
    good = {"schema": 1, "weights": "w", "name": "n", "method": "sft", "step": 1, "seed": 0}
    good |= {"base": {"name": "shapes", "digest": "d"}, "data": {"digest": "d"}, "config": {}}
    odd = [{**good, key: value} for key in good for value in WRONG]
    for number, story in enumerate((*odd, *WRONG, {"base": "shapes"}, {"base": {}, "weights": 5})):
        folder = shutil.copytree(trained, place / f"story-{number}")
        (folder / "checkpoint.json").write_text(json.dumps(story))
        yield "stories", ["eval", str(folder), *on]
    for name in (
        "",
        " ",
        "nowhere",
        "a/b/c",
        "../x",
        "org/name@",
        "-",
        "a\nb",
        "~nouser/x",
        "a" * 5000,
    ):
        yield "names", ["eval", "--suite", "one.txt", "--dry-run", "--", name]


def settings(place: Path) -> Iterator[Bad]:
    from soar_bench.trainer.config import Config
    from soar_bench.trainer.settings import settings_of

    texts = (
        "",
        "5",
        "[1]",
        "a: [",
        "\0",
        "a: b: c",
        "method: 5",
        "unknown: 1",
        "{",
        "- a\n- b",
        "steps: !!python/object:os.system x",
        "&a [*a]",
        "\ud800",
    )
    for number, text in enumerate(texts):
        file = place / f"{number}.yaml"
        file.write_bytes(text.encode("utf-8", "surrogatepass"))
        yield "configs", ["train", "sft", "--config", str(file), "--dry-run"]
    names = [setting.name for setting in settings_of(Config)]
    for name, value in itertools.product(names, ("{a: 1}", "[[1]]")):
        yield (
            "settings",
            ["train", "sft", "--base", "shapes", "--dry-run", "--set", f"{name}={value}"],
        )
    for word in (
        "steps",
        "=5",
        "steps=",
        "steps=-1",
        "steps=x",
        "lora.rank=-1",
        "nothing.at=1",
        "soar.x=1",
        "steps=.nan",
        "optimizer.lr=.inf",
        "optimizer.lr=-1",
        "batch_size=0",
        "resolution=7",
        "precision=fp8",
        "seed=1e99",
        "images.on_broken=perhaps",
        "steps={",
        "a.b.c.d=1",
    ):
        yield "settings", ["train", "soar", "--base", "shapes", "--dry-run", "--set", word]


def records(place: Path) -> Iterator[Bad]:
    committed = sorted((Path(__file__).parents[1] / "results" / "shapes").rglob("run.json"))[0]
    whole = json.loads(committed.read_text())
    contents: dict[str, bytes] = {
        "empty": b"",
        "text": b"no json",
        "list": b"[]",
        "deep": b"[" * 100_000,
        "nul": b"\0",
        "schema": b'{"schema": 99}',
        "none": b"{}",
        "latin1": b'{"a": "\xfc"}',
    }
    for key in whole:
        if key != "made":
            for value in (None, 5, "text", [1]):
                contents[f"{key}-{value}"] = json.dumps({**whole, key: value}).encode()
    for number, content in enumerate(contents.values()):
        run = place / str(number) / "shapes" / "shapes" / "base-00000000"
        run.mkdir(parents=True)
        shutil.copy(committed.with_name("scores.parquet"), run)
        (run / "run.json").write_bytes(content)
        at = ["--results", str(place / str(number))]
        yield "records", ["runs", "show", "00000000", *at]
        yield "records", ["compare", "00000000", *at]
        yield "records", ["export", "csv", "00000000", "--output", str(place / "x.csv"), *at]
    for name, content in (("scores.parquet", b"no parquet"), ("scores.parquet", b"")):
        run = place / f"{name}-{len(content)}" / "shapes" / "shapes" / "base-00000000"
        run.mkdir(parents=True)
        shutil.copy(committed, run)
        (run / name).write_bytes(content)
        yield "records", ["compare", "00000000", "--results", str(run.parents[2])]
    for name, text in (
        ("a", ""),
        ("b", "no json"),
        ("c", "{}"),
        ("d", "[1]"),
        ("e", "[" * 100_000),
    ):
        (place / f"{name}.jsonl").write_text(text)
        yield "imports", ["import", str(place / f"{name}.jsonl"), "--label", "x"]
        (place / f"{name}.csv").write_text(text)
        yield "drift", ["report", str(place), "--drift", str(place / f"{name}.csv")]


def arguments(place: Path) -> Iterator[Bad]:
    one = ["eval", "shapes", "--suite", "one.txt", "--dry-run"]
    for option, values in {
        "--steps": ("0", "-1", "x", "1,x", ",", "1e9", "nan"),
        "--guidance": ("-1", "x", "nan", "inf", "1,,x"),
        "--resolution": ("0", "7", "63", "x", "1.5", "99999999"),
        "--images": ("0", "-1", "x", "1.5", "10000000000"),
        "--seed": ("-1", "x", "1.5"),
        "--batch-size": ("0", "-1", "x", "1.5"),
        "--dtype": ("float8", "x", ""),
        "--evaluator-dtype": ("float8", ""),
        "--device": ("gpu", "cuda:99", "x", ""),
        "--evaluators": (
            "nothing",
            "a.py",
            "/nowhere/a.py",
            "os:path",
            "json:",
            ":X",
            "os:nothing",
            "shapes-clip",
        ),
        "--suite": ("nothing", "nowhere.txt", "a.csv", "/", "", "one"),
        "--protocol": (
            "nothing",
            "shapes+",
            "shapes+steps=x",
            "shapes+nothing=1",
            "+",
            "shapes+steps=-1",
        ),
        "--max-sequence-length": ("0", "-1", "x"),
        "--results": ("/proc/x", "/dev/null/x", "one.txt"),
        "--cache": ("/proc/x", "/dev/null/x", "one.txt"),
        "--nothing": ("1",),
    }.items():
        for value in values:
            yield "arguments", [*one, option, value]
    for words in (
        ["nothing"],
        ["eval"],
        ["train"],
        ["train", "nothing"],
        ["score"],
        ["compare"],
        ["rerun"],
        ["import"],
        ["rerun", "nowhere"],
        ["compare", "nowhere"],
        ["compare", "a", "b", "--level", "2"],
        ["compare", ".", "--level", "0"],
        ["compare", ".", "--detect", "-1"],
        ["compare", ".", "--margin", "1"],
        ["compare", ".", "--format", "pdf"],
        ["runs"],
        ["runs", "show"],
        ["runs", "show", ""],
        ["runs", "show", "nowhere"],
        ["runs", "delete", "nowhere"],
        ["runs", "list", "--results", "nowhere"],
        ["runs", "verify", "--results", "nowhere"],
        ["leaderboard", "--results", "nowhere"],
        ["leaderboard", "--format", "pdf"],
        ["report", "nowhere"],
        ["drift"],
        ["drift", "nowhere"],
        ["drift", "shapes", "--steps", "0"],
        ["suites", "nothing"],
        ["suites", "nowhere.jsonl"],
        ["evaluators", "show", "nothing"],
        ["evaluators", "show"],
        ["evaluators", "new"],
        ["fetch", "nothing"],
        ["fetch", "--checkpoint", "a"],
        ["fetch", "--suite", "nothing"],
        ["fetch", "--mirror", "x"],
        ["export", "csv", "nowhere", "--output", "x.csv"],
        ["export", "card", "nowhere"],
        ["import", "nowhere.jsonl", "--label", "x"],
        ["data", "check"],
        ["data", "stats", "nowhere"],
        ["data", "check", "shapes-clean:4", "--base", "nothing"],
        ["shapes", "render", "nothing", "x"],
        ["train", "sft", "--seeds", "x"],
        ["train", "sft", "--seeds", "1", "--seed", "2"],
        ["train", "sft", "--config", "nowhere.yaml"],
        ["train", "sft", "--base", "nothing", "--dry-run"],
        ["quickstart", "--steps", "0"],
        ["--nothing"],
        ["eval", "shapes", "shapes", "--base"],
        ["score", "nowhere", "--evaluators", "ocr"],
    ):
        yield "arguments", words


KINDS: tuple[Callable[[Path], Iterator[Bad]], ...] = (
    prompt_files,
    image_folders,
    checkpoints,
    settings,
    records,
    arguments,
)

# How it ended

_VERDICT = re.compile(
    r"\d+ broken$|^(Usage|Try)|^$|^plan|^checkpoint  |^\S+ +\S+ +\S+ +\d+ of|: \d+/\d+|^\t"
)


def run(words: list[str]) -> tuple[int, str]:
    """Run a command by its entry point; return the exit code and what it printed."""
    from soar_bench.cli import main

    printed = io.StringIO()
    sys.argv = ["soar-bench", *words]
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException as error:
            return 1, f"Traceback: {type(error).__name__}: {error}"
    return code, printed.getvalue()


def fault(code: int, text: str) -> str:
    """Return what is wrong with how a command ended; empty if it is one clear sentence."""
    lines = [line for line in text.splitlines() if not _VERDICT.search(line)]
    if "Traceback" in text:
        return "a traceback"
    if code == 0:
        return "taken for good"
    if "--debug" in text:
        return "not foreseen"
    if len(lines) != 1:
        return f"{len(lines)} lines"
    if re.search(r"\b[A-Z]\w+(Error|Exception)\b|<class |object at 0x", lines[0]):
        return "a word of the code's"
    return "" if len(lines[0]) < 1000 else "too long a sentence"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", help="names of kinds with a comma between them")
    parser.add_argument("--show", action="store_true", help="print every sentence")
    options = parser.parse_args()
    counts: Counter[str] = Counter()
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ["SOAR_BENCH_HOME"] = f"{folder}/home"
        Path("one.txt").write_text("a red star\n")
        for make in KINDS:
            if options.only and make.__name__ not in options.only.split(","):
                continue
            place = Path(folder) / make.__name__
            place.mkdir()
            for kind, words in make(place):
                code, text = run(words)
                counts[kind] += 1
                shown = " ".join(words)[:150].encode("unicode_escape").decode()
                if reason := fault(code, text):
                    wrong += 1
                    print(f"{reason}: {shown}\n    {code}: {text.strip()[-400:]}", flush=True)
                elif options.show:
                    print(f"{shown}\n    {text.strip()[-300:]}", flush=True)
        os.chdir("/")
    print(f"{counts.total()} bad inputs ({dict(counts)}), {wrong} wrong")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
