"""Ways to compute scores, compared by ``evaluator_speed.py``: the straightforward ones and ours.

Each takes the bench, the samples and the evaluators' names, and returns all values.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.evaluator_weights import SIZE, Bench, values
from evaluators import catalogue
from evaluators.types import Evaluator, Sample

Way = Callable[[Bench, list[Sample], Sequence[str]], list[float]]
_alive: list[Evaluator] = []


def one_at_a_time(bench: Bench, samples: list[Sample], names: Sequence[str]) -> list[float]:
    """A model an evaluator, a picture at a time; nothing is shared, nothing kept."""
    scores: list[float] = []
    for name in names:
        evaluator = bench.evaluator(name)
        evaluator.load(bench.device)
        for sample in samples:
            # a copy: the same array would be recognised
            scores += values(evaluator, [Sample(sample.image.copy(), sample.prompt)])
        del evaluator  # and with it the tower, which another would otherwise share
    return scores


def all_pairs(bench: Bench, samples: list[Sample], names: Sequence[str]) -> list[float]:
    """Every prompt with every picture, a pair at a time, for the diagonal's sake."""
    evaluator = bench.evaluator(names[0])
    evaluator.load(bench.device)
    return [
        [values(evaluator, [Sample(s.image, sample.prompt)])[0] for s in samples][i]
        for i, sample in enumerate(samples)
    ]


def inference_rank(bench: Bench, samples: list[Sample], names: Sequence[str]) -> list[float]:
    """Call what the family does: each picture once through the ViT, every prompt with it."""
    import torch

    from evaluators.imagereward.model import REWARD_MEAN, REWARD_STD
    from evaluators.images import pillow_view

    evaluator: Any = bench.evaluator(names[0])
    evaluator.load(bench.device)
    network = evaluator._model._network
    tokens = evaluator._tokenizer([s.prompt for s in samples])
    ids, mask = tokens.ids.to(bench.device), tokens.mask.to(bench.device)
    scores = []
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
        scores.append(float((raw - REWARD_MEAN) / REWARD_STD))
    return scores


def together(bench: Bench, samples: list[Sample], names: Sequence[str]) -> list[float]:
    """As soar-bench does: evaluators that share a model side by side, whole batches."""
    scores: dict[str, list[float]] = {}
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(bench.evaluator(name).shares or name, []).append(name)
    for members in groups.values():
        evaluators = [bench.evaluator(name) for name in members]
        for evaluator in evaluators:
            evaluator.load(bench.device)
        for evaluator in evaluators:
            scores[evaluator.name] = values(evaluator, samples)
        del evaluators, evaluator
    return [value for name in names for value in scores[name]]


def cutouts(samples: list[Sample]) -> list[list[Any]]:
    """Four objects per picture, of four classes."""
    from evaluators.geneval.colors import Cutout

    names = ("bird", "cup", "kite", "vase")
    scores = []
    for sample in samples:
        objects = []
        for index, name in enumerate(names):
            mask = np.zeros((SIZE, SIZE), bool)
            left = 20 + 120 * index
            mask[100:300, left : left + 100] = True
            objects.append(Cutout(sample.image, (left, 100, left + 100, 300), mask, name))
        scores.append(objects)
    return scores


def colour_tower(bench: Bench) -> Any:
    from evaluators.clip import tower

    clip = catalogue.CLIP_VIT_L_14.at(bench.folder / "clip")
    return tower(clip, clip, bench.device, "float32", "CLIP ViT-L/14")


class _Crops:
    """Data set of the published script's loader: the objects of one class on one picture."""

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
    scores = []
    for objects in cutouts(samples):
        for cutout in objects:
            crops: Any = _Crops([cutout], tower.image_size)
            count = int(workers[0])
            context = "fork" if count else None  # what a script on Linux gets
            for batch in DataLoader(
                crops, batch_size=16, num_workers=count, multiprocessing_context=context
            ):
                row = tower.embed_pixels(batch)[0]
                scores.append(float((classifier.texts(cutout.name) @ row).argmax()))
    assert all(0 <= index < len(COLORS) for index in scores)
    return scores


def crops_together(bench: Bench, samples: list[Sample], _names: Sequence[str]) -> list[float]:
    from evaluators.geneval.colors import COLORS, ColorClassifier

    objects = [cutout for picture in cutouts(samples) for cutout in picture]
    names = ColorClassifier(colour_tower(bench)).classify(objects)
    return [float(COLORS.index(str(name))) for name in names]


def plain_family(bench: Bench, samples: list[Sample], names: Sequence[str]) -> list[float]:
    return one_at_a_time(bench, samples, names) + a_loader_an_object(bench, samples, ("4",))


def our_family(bench: Bench, samples: list[Sample], names: Sequence[str]) -> list[float]:
    """All that needs a CLIP in an evaluation: the scorers, and GenEval's colours on their tower."""
    group = [name for name in names if bench.evaluator(name).shares]
    kept = bench.evaluator(group[0])  # as in a group, the tower stays for all of it
    kept.load(bench.device)
    scores = dict(zip(group, _split(together(bench, samples, group), len(group)), strict=True))
    colours = crops_together(bench, samples, ())
    del kept
    alone = [name for name in names if name not in group]
    scores |= zip(alone, _split(together(bench, samples, alone), len(alone)), strict=True)
    return [value for name in names for value in scores[name]] + colours


def _split(scores: list[float], parts: int) -> list[list[float]]:
    size = len(scores) // parts
    return [scores[i * size : (i + 1) * size] for i in range(parts)]


def signs(count: int) -> list[Sample]:
    """Pictures with a word to read."""
    from PIL import Image, ImageDraw, ImageFont

    scores = []
    for index in range(count):
        picture = Image.new("RGB", (SIZE, SIZE), (230, 220, 200))
        word = f"SIGN {index}"
        ImageDraw.Draw(picture).text((60, 200), word, fill="black", font=ImageFont.load_default(72))
        scores.append(Sample(np.asarray(picture), f'a sign that says "{word}"'))
    return scores


def read_in_one_process(_bench: Bench, samples: list[Sample], _names: Sequence[str]) -> list[float]:
    os.environ["SOAR_BENCH_PROCESSES"] = "1"
    return read_in_several(_bench, samples, _names)


def read_in_several(_bench: Bench, samples: list[Sample], _names: Sequence[str]) -> list[float]:
    from evaluators.ocr.evaluator import OcrAccuracy

    evaluator = OcrAccuracy()
    _alive.append(evaluator)  # its processes are counted before they end
    evaluator.load()
    return values(evaluator, signs(len(samples)))
