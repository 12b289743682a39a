"""Folders of pictures with prompts, and an evaluator that counts what it judges."""

from __future__ import annotations

import json
import random

from PIL import Image

from evaluators.types import Evaluator, EvaluatorError, Metric, Score
from soar_bench.shapes.captions import colors, counting, single_object
from soar_bench.shapes.render import render
from soar_bench.shapes.world import scene_of

RECORDS = [single_object("star"), colors("ring", "red"), counting("cross", 2)]


def picture(record, seed=0):
    """uint8 RGB [64, 64, 3]: a picture that shows what the record asks for."""
    return render(scene_of(record, random.Random(f"{record['prompt']}/{seed}")))


def shown(prompt, index):
    """Which picture stands for image ``index`` of prompt ``prompt``: each prompt's second image
    shows what the next prompt asks for, and so is wrong.
    """
    return picture(RECORDS[(prompt + index) % len(RECORDS)], seed=10 * prompt + index)


def write_geneval(folder, suffix=".png"):
    for prompt, record in enumerate(RECORDS):
        (folder / f"{prompt:05d}" / "samples").mkdir(parents=True)
        (folder / f"{prompt:05d}" / "metadata.jsonl").write_text(json.dumps(record))
        for index in range(2):
            file = folder / f"{prompt:05d}" / "samples" / f"{index:04d}{suffix}"
            Image.fromarray(shown(prompt, index)).save(file)
    return folder


def by_sample(run, *columns):
    frame = run.scores()
    return frame.set_index(["metric", "prompt_id", "index"])[list(columns)].sort_index()


class Counting(Evaluator):
    """The mean brightness, and how many images were asked for."""

    name = "brightness"
    metrics = (
        Metric("brightness", "grey levels", (0.0, 255.0), True, "1", "this test", "the mean"),
    )
    judged = 0
    #: raises where this many were judged
    fails_after = 1_000_000

    def score(self, samples):
        scores = []
        for sample in samples:
            if Counting.judged >= Counting.fails_after:
                raise EvaluatorError("out of order")
            Counting.judged += 1
            scores.append({"brightness": Score(float(sample.image.mean()))})
        return scores
