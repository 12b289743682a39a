"""Time and peak memory of the evaluators against the straightforward way, as ratios in one run.

    python benchmarks/evaluator_speed.py                 # minutes on a laptop
    python benchmarks/evaluator_speed.py --scale official --device cuda

The straightforward way is what the published scripts do: one picture at a time, one loaded model
an evaluator, ImageReward over all N x N pairs for the diagonal's sake, a data loader an object for
GenEval's colours. Both ways compute the same scores, which is checked. Weights are made by a
formula and written in the published file layouts; speed does not depend on their values. Each way
runs in a process of its own, loading included, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from evaluators import catalogue
from evaluators.golden import clip as tiny
from evaluators.golden.fill import fill
from evaluators.types import Evaluator, Sample

SIZE = 512
ROWS = ("single", "clip", "family", "pairs", "colours", "ocr")
#: As in the suites of papers.
_PER_PROMPT = 4
#: values of a large matrix that are drawn
_DRAWN = 99991


@dataclass(frozen=True)
class Scale:
    """How large the stand-ins are."""

    clip_l: tiny.Architecture
    clip_h: tiny.Architecture
    image_reward: dict[str, int]


_WORDS = len(tiny.vocabulary())
SCALES = {
    "small": Scale(
        clip_l=tiny.Architecture(
            embedding=256,
            vision_width=256,
            vision_layers=4,
            vision_heads=4,
            text_width=128,
            text_layers=4,
            text_heads=4,
            vocabulary=_WORDS,
        ),
        clip_h=tiny.Architecture(
            embedding=256,
            vision_width=320,
            vision_layers=6,
            vision_heads=4,
            text_width=128,
            text_layers=4,
            text_heads=4,
            vocabulary=_WORDS,
        ),
        image_reward={
            "vision_width": 256,
            "vision_layers": 4,
            "vision_heads": 4,
            "text_width": 192,
            "text_layers": 4,
            "text_heads": 4,
        },
    ),
    "official": Scale(
        clip_l=tiny.Architecture(
            embedding=768,
            vision_width=1024,
            vision_layers=24,
            text_width=768,
            text_layers=12,
            text_heads=12,
            vocabulary=_WORDS,
        ),
        clip_h=tiny.Architecture(vocabulary=_WORDS),
        image_reward={},
    ),
}


def repeated(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return what ``fill`` does, with few values again and again where there are many."""
    if math.prod(shape) <= _DRAWN:
        return fill(name, shape)
    noise = np.resize(fill(name, (_DRAWN, 1)), shape)
    noise /= np.float32(math.sqrt(math.prod(shape[1:])))
    return noise


class Bench:
    """Weights in a folder, and evaluators over them."""

    def __init__(self, folder: Path, scale: Scale, device: str) -> None:
        self.folder, self.scale, self.device = folder, scale, device

    @property
    def image_size(self) -> int:
        return int(self._image_reward().image_size)

    def write(self) -> None:
        from evaluators.golden.imagereward import write_image_reward

        # Billions of values drawn one by one would take minutes.
        with (
            mock.patch("evaluators.golden.clip.fill", repeated),
            mock.patch("evaluators.golden.imagereward.fill", repeated),
        ):
            tiny.write_clip(self.folder / "clip", architecture=self.scale.clip_l)
            tiny.write_clip(self.folder / "pickscore", "gelu", self.scale.clip_h)
            tiny.write_hps(self.folder / "hps", self.scale.clip_h)
            tiny.write_aesthetic_head(self.folder / "head", self.scale.clip_l.embedding)
            write_image_reward(self.folder / "image-reward", self._image_reward())

    def _image_reward(self) -> Any:
        from evaluators.golden.imagereward import VOCABULARY_SIZE
        from evaluators.imagereward.layout import Architecture

        return Architecture(**self.scale.image_reward, vocabulary=VOCABULARY_SIZE)

    def evaluator(self, name: str) -> Evaluator:
        from evaluators.aesthetic import Aesthetic
        from evaluators.clipscore import ClipScore
        from evaluators.hpsv2 import HpsV21
        from evaluators.imagereward.evaluator import ImageReward
        from evaluators.pickscore import PickScore

        clip = catalogue.CLIP_VIT_L_14.at(self.folder / "clip")
        words = catalogue.CLIP_TOKENIZER.at(self.folder / "clip")
        width = self.scale.clip_l.embedding
        if name.startswith("clipscore"):
            return ClipScore(name, clip, embedding=width)
        if name == "aesthetic":
            return Aesthetic(catalogue.AESTHETIC.at(self.folder / "head"), clip, embedding=width)
        if name == "pickscore":
            weights = catalogue.PICKSCORE.at(self.folder / "pickscore")
            return PickScore(weights, words, embedding=self.scale.clip_h.embedding)
        if name == "hpsv21":
            weights = catalogue.HPS_V2_1.at(self.folder / "hps")
            return HpsV21(name, weights, words, architecture=self.scale.clip_h)
        weights = catalogue.IMAGE_REWARD.at(self.folder / "image-reward")
        vocabulary = catalogue.BERT_TOKENIZER.at(self.folder / "image-reward")
        return ImageReward(weights, vocabulary, self._image_reward())

    def samples(self, count: int) -> list[Sample]:
        random = np.random.default_rng(0)
        return [
            Sample(
                random.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8),
                f"a photo of a red bird on the mat, number {index // _PER_PROMPT}",
            )
            for index in range(count)
        ]


def values(evaluator: Evaluator, samples: Sequence[Sample]) -> list[float]:
    (metric,) = evaluator.metrics
    return [float(s[metric.name].value or 0) for s in evaluator.score(samples)]


# Each way takes the bench, the samples and the evaluators' names, and returns all values.


def one_at_a_time(bench: Bench, samples: list[Sample], names: Sequence[str]) -> list[float]:
    """A model an evaluator, a picture at a time; nothing is shared, nothing kept."""
    found: list[float] = []
    for name in names:
        evaluator = bench.evaluator(name)
        evaluator.load(bench.device)
        for sample in samples:
            # a copy: the same array would be recognised
            found += values(evaluator, [Sample(sample.image.copy(), sample.prompt)])
        del evaluator  # and with it the tower, which another would otherwise share
    return found


def all_pairs(bench: Bench, samples: list[Sample], names: Sequence[str]) -> list[float]:
    """Every prompt with every picture, a pair at a time, for the diagonal's sake."""
    evaluator = bench.evaluator(names[0])
    evaluator.load(bench.device)
    return [
        [values(evaluator, [Sample(s.image, one.prompt)])[0] for s in samples][i]
        for i, one in enumerate(samples)
    ]


def inference_rank(bench: Bench, samples: list[Sample], names: Sequence[str]) -> list[float]:
    """What the family calls: each picture once through the ViT, every prompt with it."""
    import torch

    from evaluators.imagereward.model import REWARD_MEAN, REWARD_STD
    from evaluators.images import pillow_view

    evaluator: Any = bench.evaluator(names[0])
    evaluator.load(bench.device)
    network = evaluator._model._network
    tokens = evaluator._tokenizer([s.prompt for s in samples])
    ids, mask = tokens.ids.to(bench.device), tokens.mask.to(bench.device)
    found = []
    for index, sample in enumerate(samples):
        pixels = pillow_view("round")(sample.image, bench.image_size)[None].to(bench.device)
        with torch.inference_mode():
            patches = network["blip"]["visual_encoder"](pixel_values=pixels).last_hidden_state
            words = network["blip"]["text_encoder"](
                input_ids=ids,
                attention_mask=mask,
                encoder_hidden_states=patches.expand(len(samples), -1, -1),
                is_decoder=False,
            ).last_hidden_state
            raw = network["mlp"]["layers"](words[:, 0])[index, 0]
        found.append(float((raw - REWARD_MEAN) / REWARD_STD))
    return found


def together(bench: Bench, samples: list[Sample], names: Sequence[str]) -> list[float]:
    """As soar-bench does: evaluators that share a model side by side, whole batches."""
    found: dict[str, list[float]] = {}
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(bench.evaluator(name).shares or name, []).append(name)
    for members in groups.values():
        evaluators = [bench.evaluator(name) for name in members]
        for evaluator in evaluators:
            evaluator.load(bench.device)
        for evaluator in evaluators:
            found[evaluator.name] = values(evaluator, samples)
        del evaluators, evaluator
    return [value for name in names for value in found[name]]


def cutouts(samples: list[Sample]) -> list[list[Any]]:
    """Four objects a picture, of four classes."""
    from evaluators.geneval.colors import Cutout

    names = ("bird", "cup", "kite", "vase")
    found = []
    for sample in samples:
        objects = []
        for index, name in enumerate(names):
            mask = np.zeros((SIZE, SIZE), bool)
            left = 20 + 120 * index
            mask[100:300, left : left + 100] = True
            objects.append(Cutout(sample.image, (left, 100, left + 100, 300), mask, name))
        found.append(objects)
    return found


def colour_tower(bench: Bench) -> Any:
    from evaluators.clip import tower

    clip = catalogue.CLIP_VIT_L_14.at(bench.folder / "clip")
    return tower(clip, clip, bench.device, "float32", "CLIP ViT-L/14")


class _Crops:
    """What the published script gives its data loader: the objects of one class on one picture."""

    def __init__(self, objects: list[Any], size: int) -> None:
        self.objects, self.size = objects, size

    def __len__(self) -> int:
        return len(self.objects)

    def __getitem__(self, index: int) -> Any:
        from evaluators.images import pillow_view

        return pillow_view("round")(self.objects[index].pixels(), self.size)


def a_loader_an_object(bench: Bench, samples: list[Sample], workers: Sequence[str]) -> list[float]:
    from torch.utils.data import DataLoader

    from evaluators.geneval.colors import COLORS, ColorClassifier

    tower = colour_tower(bench)
    classifier = ColorClassifier(tower)
    found = []
    for objects in cutouts(samples):
        for one in objects:
            crops: Any = _Crops([one], tower.image_size)
            count = int(workers[0])
            context = "fork" if count else None  # what a script on Linux gets
            for batch in DataLoader(
                crops, batch_size=16, num_workers=count, multiprocessing_context=context
            ):
                row = tower.embed_pixels(batch)[0]
                found.append(float((classifier.texts(one.name) @ row).argmax()))
    assert all(0 <= index < len(COLORS) for index in found)
    return found


def crops_together(bench: Bench, samples: list[Sample], _names: Sequence[str]) -> list[float]:
    from evaluators.geneval.colors import COLORS, ColorClassifier

    objects = [one for picture in cutouts(samples) for one in picture]
    names = ColorClassifier(colour_tower(bench)).classify(objects)
    return [float(COLORS.index(str(name))) for name in names]


def plain_family(bench: Bench, samples: list[Sample], names: Sequence[str]) -> list[float]:
    return one_at_a_time(bench, samples, names) + a_loader_an_object(bench, samples, ("4",))


def our_family(bench: Bench, samples: list[Sample], names: Sequence[str]) -> list[float]:
    """All that needs a CLIP in an evaluation: the scorers, and GenEval's colours on their tower."""
    group = [name for name in names if bench.evaluator(name).shares]
    kept = bench.evaluator(group[0])  # as in a group, the tower stays for all of it
    kept.load(bench.device)
    found = dict(zip(group, _split(together(bench, samples, group), len(group)), strict=True))
    colours = crops_together(bench, samples, ())
    del kept
    alone = [name for name in names if name not in group]
    found |= zip(alone, _split(together(bench, samples, alone), len(alone)), strict=True)
    return [value for name in names for value in found[name]] + colours


def _split(found: list[float], parts: int) -> list[list[float]]:
    size = len(found) // parts
    return [found[i * size : (i + 1) * size] for i in range(parts)]


def signs(count: int) -> list[Sample]:
    """Pictures with a word to read."""
    from PIL import Image, ImageDraw, ImageFont

    found = []
    for index in range(count):
        picture = Image.new("RGB", (SIZE, SIZE), (230, 220, 200))
        word = f"SIGN {index}"
        ImageDraw.Draw(picture).text((60, 200), word, fill="black", font=ImageFont.load_default(72))
        found.append(Sample(np.asarray(picture), f'a sign that says "{word}"'))
    return found


def read_in_one_process(_bench: Bench, samples: list[Sample], _names: Sequence[str]) -> list[float]:
    os.environ["SOAR_BENCH_PROCESSES"] = "1"
    return read_in_several(_bench, samples, _names)


def read_in_several(_bench: Bench, samples: list[Sample], _names: Sequence[str]) -> list[float]:
    from evaluators.ocr.evaluator import OcrAccuracy

    evaluator = OcrAccuracy()
    _alive.append(evaluator)  # its processes are counted before they end
    evaluator.load()
    return values(evaluator, signs(len(samples)))


_alive: list[Evaluator] = []
Way = Callable[[Bench, list[Sample], Sequence[str]], list[float]]


def _run(way: Way, bench: Bench, count: int, names: Sequence[str], pipe: Any) -> None:
    import torch  # noqa: F401  # its import is not what is measured
    from transformers import CLIPModel  # noqa: F401

    samples = bench.samples(count)
    before = _now()
    clock = time.perf_counter()
    found = way(bench, samples, names)
    seconds = time.perf_counter() - clock
    pipe.send((seconds, _peak() - before, found))


def _peak() -> float:
    """The most memory that this process and those it has started have held, in MB."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    others = 0.0
    for process in multiprocessing.active_children():
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                others += int(line.split()[1]) / 1024
    return (own + others) * 1.048576


def _now() -> float:
    """The memory this process holds, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def measure(
    way: Way, bench: Bench, count: int, names: Sequence[str]
) -> tuple[float, float, list[float]]:
    """Seconds, MB and values of one way in a fresh process."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(way, bench, count, names, theirs))
    process.start()
    theirs.close()
    result = ours.recv()
    process.join()
    return result


def compare(
    what: str, bench: Bench, count: int, plain: Way, plain_names: Sequence[str], ours: Way,
    names: Sequence[str], tolerance: float,
) -> None:  # fmt: skip
    slow, slow_memory, expected = measure(plain, bench, count, plain_names)
    fast, fast_memory, found = measure(ours, bench, count, names)
    worst = max(abs(a - b) for a, b in zip(expected, found, strict=True))
    if worst > tolerance:
        raise SystemExit(f"{what}: the two ways differ by {worst:g}")
    print(
        f"| {what} | {count} | {slow:.2f} | {fast:.2f} | **{slow / fast:.1f}** | "
        f"{slow_memory:.0f} | {fast_memory:.0f} | {fast_memory / max(slow_memory, 1):.2f} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--scale", choices=SCALES, default="small")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS)
    options = parser.parse_args()
    count = options.images
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), SCALES[options.scale], options.device)
        bench.write()
        print(f"{options.scale} models on {options.device}, {count} pictures of {SIZE}x{SIZE}\n")
        print("| what | N | plain, s | ours, s | times faster | plain, MB | ours, MB | memory |")
        print("|---|---|---|---|---|---|---|---|")
        if "single" in options.rows:
            for name in ("pickscore", "hpsv21", "clipscore", "aesthetic", "image-reward"):
                compare(name, bench, count, one_at_a_time, (name,), together, (name,), 1e-3)
        scorers = ("pickscore", "hpsv21", "clipscore", "clipscore-processor", "aesthetic")
        if "clip" in options.rows:
            compare("CLIP scorers", bench, count, one_at_a_time, scorers, together, scorers, 1e-3)
        if "family" in options.rows:
            what = "CLIP scorers and colours"
            compare(what, bench, count, plain_family, scorers, our_family, scorers, 1e-3)
        pairs = ("image-reward",)
        if "pairs" in options.rows:
            compare("ImageReward, N x N", bench, count, all_pairs, pairs, together, pairs, 1e-3)
            what = "ImageReward, its inference_rank"
            compare(what, bench, count, inference_rank, pairs, together, pairs, 1e-3)
        if "ocr" in options.rows:
            compare("ocr", bench, count, read_in_one_process, (), read_in_several, (), 0)
        for workers in ("4", "0") if "colours" in options.rows else ():
            what = f"colours, a loader an object, {workers} workers"
            compare(what, bench, count, a_loader_an_object, (workers,), crops_together, (), 0)


if __name__ == "__main__":
    main()
