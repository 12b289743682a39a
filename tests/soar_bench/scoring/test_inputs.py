"""Evaluators of two pictures: the second is a file in the suite's folder, named by metadata."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

import soar_bench as sb
from evaluators import Evaluator, EvaluatorError, Metric, Sample, Score
from evaluators.inputs import read_input
from soar_bench.core.errors import SoarBenchError
from soar_bench.suites import get_suite

SEEN = []


class Difference(Evaluator):
    """Mean difference to the reference."""

    name = "difference"
    inputs = ("reference",)
    metrics = (Metric("difference", "levels", (0.0, 255.0), False, "1", "test", "test"),)

    def score(self, samples):
        SEEN.append(len(samples))
        pictures = [read_input(sample, "reference") for sample in samples]
        return [
            {"difference": Score(float(np.abs(s.image.astype(float) - p).mean()))}
            for s, p in zip(samples, pictures, strict=True)
        ]


@pytest.fixture()
def folder(tmp_path):
    """Two images with a list that names a reference of each, in a folder below."""
    folder = tmp_path / "pictures"
    (folder / "references").mkdir(parents=True)
    lines = []
    for number, level in enumerate((10, 50)):
        Image.new("RGB", (8, 8), (100,) * 3).save(folder / f"{number}.png")
        Image.new("RGB", (8, 8), (level,) * 3).save(folder / "references" / f"{number}.png")
        lines.append({"file": f"{number}.png", "prompt": f"picture {number}",
                      "reference": f"references/{number}.png"})  # fmt: skip
    (folder / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def score(folder, tmp_path):
    return sb.score(folder, folder / "prompts.jsonl", evaluators=[Difference()],
                    results=tmp_path / "results", cache=tmp_path / "cache")  # fmt: skip


def test_the_second_picture_is_found_in_the_folder_from_anywhere(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frame = score(folder, tmp_path).scores()
    assert sorted(frame["value"]) == [50, 90]
    SEEN.clear()
    score(folder, tmp_path)
    assert not SEEN
    Image.new("RGB", (8, 8), (70,) * 3).save(folder / "references" / "0.png")
    assert sorted(score(folder, tmp_path).scores()["value"]) == [30, 50]


class Darkest(Difference):
    """Mean difference to the darkest of several pictures, which it opens by itself."""

    inputs = ()

    def score(self, samples):
        SEEN.append(len(samples))
        darkest = [min(np.asarray(Image.open(file)).mean() for file in s.metadata["masks"]["all"])
                   for s in samples]  # fmt: skip
        return [{"difference": Score(float(s.image.mean() - d))}
                for s, d in zip(samples, darkest, strict=True)]  # fmt: skip


@pytest.mark.parametrize("place", ["references", "elsewhere"])
def test_pictures_in_lists_of_the_metadata_decide_a_score(folder, tmp_path, place):
    if place == "elsewhere":
        (folder / "references").rename(tmp_path / place)
    at = folder if place == "references" else tmp_path
    files = [str(at / place / f"{number}.png") for number in range(2)]
    lines = [
        {"file": f"{n}.png", "prompt": f"picture {n}", "masks": {"all": files}} for n in (0, 1)
    ]
    lines[0]["near"] = ["references/0.png", "references/1.png"]  # pictures of metadata, not images
    (folder / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    values = []
    for level in (10, 70):
        Image.new("RGB", (8, 8), (level,) * 3).save(files[0])
        frame = sb.score(folder, folder / "prompts.jsonl", evaluators=[Darkest()],
                         results=tmp_path / "r", cache=tmp_path / "c").scores()  # fmt: skip
        values.append(sorted(frame["value"]))
    assert values == [[90, 90], [50, 50]]


def test_a_suite_is_another_one_when_a_picture_in_a_list_changes(folder):
    file = folder / "suite.jsonl"
    file.write_text(json.dumps({"prompt": "a", "masks": ["references/0.png"]}) + "\n")
    before = get_suite(str(file)).digest()
    Image.new("RGB", (8, 8), (70,) * 3).save(folder / "references" / "0.png")
    assert get_suite(str(file)).digest() != before


@pytest.mark.parametrize(
    "value", ["references/9.png", "../secret.png", "references/l.ink", "ABSOLUTE.png", 5, None]
)
def test_a_reference_that_is_not_there_is_refused_before_anything(folder, tmp_path, value):
    (tmp_path / "secret.png").write_bytes(b"x")
    (folder / "references" / "l.ink").symlink_to(tmp_path / "secret.png")
    file = folder / "prompts.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    lines[1]["reference"] = str(tmp_path / "secret.png") if value == "ABSOLUTE.png" else value
    (folder / "references" / "1.png").unlink()
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    SEEN.clear()
    with pytest.raises(SoarBenchError, match="difference reads the file") as caught:
        score(folder, tmp_path)
    assert "picture 1" in str(caught.value) and not SEEN
    assert len(str(caught.value).splitlines()) == 1


def test_a_suites_digest_follows_the_files_that_it_names(tmp_path):
    (tmp_path / "mask.png").write_bytes(b"one")
    suite = tmp_path / "masks.jsonl"
    suite.write_text('{"prompt": "a", "mask": "mask.png"}\n{"prompt": "b", "mask": "none.png"}\n')
    before = get_suite(str(suite)).digest()
    assert get_suite(str(suite)).prompts[0].file("mask") == (tmp_path / "mask.png").resolve()
    assert get_suite(str(suite)).prompts[1].file("mask") is None
    (tmp_path / "mask.png").write_bytes(b"another")
    assert get_suite(str(suite)).digest() != before


def test_sizes_that_differ_and_missing_files_are_one_sentence(tmp_path):
    Image.new("RGB", (9, 8)).save(tmp_path / "wide.png")
    image = np.zeros((8, 8, 3), np.uint8)
    sample = Sample(image, "a", {"reference": str(tmp_path / "wide.png"), "gone": "nowhere.png"})
    with pytest.raises(EvaluatorError, match="has 9x8 pixels and the image 8x8"):
        read_input(sample, "reference")
    assert read_input(sample, "reference", same_size=False).shape == (8, 9, 3)
    for name in ("gone", "none"):
        with pytest.raises(EvaluatorError):
            read_input(sample, name)
