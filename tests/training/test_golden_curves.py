"""Loss curves that must not move: of every objective, 24 steps.

sft, soar and an adapter run on the embedded base, the others on the tiny pipeline.
``python tests/training/test_golden_curves.py [NAME ...]`` makes them anew, when they are meant to
move.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

GOLDEN = Path(__file__).with_name("golden_curves.json")
FIGURES = ("loss", "loss_base", "loss_auxiliary", "grad_norm")
METHODS: dict[str, dict[str, Any]] = {
    "sft": {"method": "sft"},
    "soar": {"method": "soar"},
    "soar-lora": {"method": "soar", "lora": {"rank": 4, "alpha": 8.0}},
}
#: On the tiny pipeline: the settings, and the figures that are recorded.
TINY: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "defar": ({"method": "defar"}, ("loss", "loss_base", "loss_direction", "grad_norm")),
    "reflexflow": (
        {"method": "defar", "defar": {"form": "reflexflow", "direction_weight": 10.0}},
        ("loss", "loss_base", "loss_direction", "grad_norm"),
    ),
    "nft": (
        {"method": "nft", "nft": {"group": 4, "updates": 2, "steps": 3, "guidance": 2.0}},
        ("loss", "drift", "reward_brightness", "grad_norm"),
    ),
    "flow-grpo": (
        {"method": "flow-grpo", "flow_grpo": {"group": 4, "steps": 3, "clip": 1e-3}},
        ("loss", "kl", "reward_brightness", "grad_norm"),
    ),
    "flow-grpo-fast": (
        {
            "method": "flow-grpo",
            "flow_grpo": {
                "group": 4, "steps": 4, "guidance": 1.0, "step": "cps", "noise_scale": 0.8,
                "window": 2, "kl_weight": 0.0, "clip": 1e-3,
            },
        },
        ("loss", "kl", "reward_brightness", "grad_norm"),
    ),
    "d-opsd": (
        {"method": "d-opsd", "d_opsd": {"steps": 2, "teacher_decay": 0.9}},
        ("loss", "grad_norm"),
    ),
}  # fmt: skip
NAMES = [*METHODS, *TINY]


class Rewards:
    """An image's place in its batch, and beside it the mean of its pixels.

    The pixels are rounded to whole numbers: as the whole reward they would pass rounding on.
    """

    names = ("place", "brightness")
    identity: ClassVar = {"place": {}, "brightness": {}}

    def __call__(self, images, prompts, metadata):
        place = np.arange(len(images)) % 3.0
        return {"place": place, "brightness": images.mean(axis=(1, 2, 3)) / 255}

    def reason(self, name):
        return ""


def curve(name: str, output: Path, tiny_pipeline: Path) -> list[list[float]]:
    """The figures of 24 steps."""
    from soar_bench.trainer.config import load_config
    from soar_bench.trainer.run import train
    from training.run import METRICS_FILE
    from training.types import REWARDED

    settings = {
        "base": "shapes",
        "data": "shapes-clean:32",
        "output": output / name,
        "seed": 0,
        "steps": 24,
        "batch_size": 4,
        "log_every": 1,
        "save_every": 100,
        "cache": None,
        "trackers": [],
    }
    rewards = None
    if name in METHODS:
        settings, figures = {**settings, "soar": {"points": 2}, **METHODS[name]}, FIGURES
    else:
        changes, figures = TINY[name]
        settings.update(
            base=str(tiny_pipeline), data="shapes-clean:8", resolution=32, max_sequence_length=14,
            precision="fp32", optimizer={"lr": 1e-3}, **changes,
        )  # fmt: skip
        if changes["method"] in REWARDED:
            rewards = Rewards()
            settings["rewards"] = {"place": 1.0, "brightness": 1e-3}
    train(load_config(None, settings), rewards=rewards)
    lines = (output / name / METRICS_FILE).read_text().splitlines()
    return [[json.loads(line)[figure] for figure in figures] for line in lines]


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_curve_is_the_one_that_was_recorded(name, tmp_path, tiny_pipeline):
    """To 1 in 1,000: kernels of other processors round differently, and steps add that up."""
    expected = json.loads(GOLDEN.read_text())[name]
    losses = curve(name, tmp_path, tiny_pipeline)
    assert len(losses) == len(expected) == 24
    for step, (loss, expected_loss) in enumerate(zip(losses, expected, strict=True), start=1):
        assert loss == pytest.approx(expected_loss, rel=1e-3, abs=1e-6), f"step {step}"


def test_the_curves_tell_the_methods_apart():
    """A tolerance under which two methods were one curve would prove nothing."""
    recorded = json.loads(GOLDEN.read_text())
    curves = {name: recorded[name] for name in METHODS}
    first = {name: lines[0] for name, lines in curves.items()}
    # The first base loss is the base's own: all methods see the same samples and noise.
    assert first["sft"][1] == pytest.approx(first["soar"][1], rel=1e-5)
    assert first["soar"][:3] == pytest.approx(first["soar-lora"][:3], rel=1e-5)
    last = [lines[-1][1] for lines in curves.values()]
    for number, layer in enumerate(last):
        for other in last[number + 1 :]:
            assert layer != pytest.approx(other, rel=2e-3)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from conftest import make_tiny_pipeline

    from soar_bench.core.torchvision import mend_torchvision

    mend_torchvision()
    recorded = json.loads(GOLDEN.read_text())
    with tempfile.TemporaryDirectory() as place:
        tiny = make_tiny_pipeline(Path(place) / "pipeline")
        for name in sys.argv[1:] or NAMES:
            recorded[name] = curve(name, Path(place), tiny)
    text = json.dumps({name: recorded[name] for name in NAMES}).replace("], [", "],\n[")
    GOLDEN.write_text(text + "\n")
    sys.stdout.write(f"{GOLDEN}\n")
