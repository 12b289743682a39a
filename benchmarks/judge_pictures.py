"""What it saves to see a picture once for all questions about it, as ratios in one run.

    python benchmarks/judge_pictures.py

A judge of Qwen3-VL-8B's shape, a quarter as wide and a ninth as deep in both towers, answers
questions about a picture of 512 pixels: once as it does, and once with an own copy of the picture
for each question, which it then sees each time. Processor time; the answers are the same. VQAScore
asks 1 question, GenEval 2 asks 8 and DPG-Bench 14, on average.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from evaluators.golden import vlm as tiny
from evaluators.vlm.judge import KINDS, Judge
from evaluators.vlm.question import Question
from soar_bench.core.markdown import table

_TEXT = {
    "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 4,
    "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 128,
}  # fmt: skip
_VISION = {
    "depth": 3, "hidden_size": 288, "intermediate_size": 1076, "num_heads": 4,
    "out_hidden_size": 1024, "num_position_embeddings": 2304, "deepstack_visual_indexes": [1],
}  # fmt: skip


def judge(folder: Path) -> Judge:
    """Return a judge with random weights."""
    config = tiny.tiny_config("qwen3_vl", tiny.write_tokenizer(folder))
    import torch
    import transformers
    from tokenizers import Tokenizer

    for part, sizes in ((config.text_config, _TEXT), (config.vision_config, _VISION)):
        for name, size in sizes.items():
            setattr(part, name, size)
    config.text_config.rope_parameters["mrope_section"] = [24, 20, 20]
    torch.manual_seed(0)
    model = getattr(transformers, f"{KINDS['qwen3_vl']}ForConditionalGeneration")(config)
    return Judge(model, Tokenizer.from_file(str(folder / "tokenizer.json")), "qwen3_vl", "cpu")


def seconds(judge: Judge, questions: list[Question]) -> tuple[float, np.ndarray]:
    """Return the processor time of answering questions, and the answers."""
    begun = time.process_time()
    rows = judge.first_token(questions)
    return time.process_time() - begun, rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--questions", type=int, nargs="+", default=[1, 8, 14])
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    picture = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        model = judge(Path(folder))
    seconds(model, [Question(picture, "Warm?")])
    lines = []
    for number in arguments.questions:
        texts = [f"A bird, {i:02d}?" for i in range(number)]
        once = [Question(picture, text) for text in texts]
        each = [Question(picture.copy(), text) for text in texts]
        ratios = []
        for _ in range(arguments.turns):
            (short, answers), (long, same) = seconds(model, once), seconds(model, each)
            if not np.allclose(answers, same, atol=1e-6):
                raise AssertionError("the answers differ")
            ratios.append(long / short)
        lines.append([str(number), f"{np.median(ratios):.2f}"])
    print(table(["questions per picture", "times as fast"], lines, right=range(2)))


if __name__ == "__main__":
    main()
