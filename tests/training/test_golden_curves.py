"""Loss curves that must not move: sft, soar and an adapter on the embedded base.

``python tests/training/test_golden_curves.py`` makes them anew, when they are meant to move.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import pytest

GOLDEN = Path(__file__).with_name("golden_curves.json")
FIGURES = ("loss", "loss_base", "loss_auxiliary", "grad_norm")
METHODS = {
    "sft": {"method": "sft"},
    "soar": {"method": "soar"},
    "soar-lora": {"method": "soar", "lora": {"rank": 4, "alpha": 8.0}},
}


def curve(name: str, output: Path) -> list[list[float]]:
    """The figures of 24 steps."""
    from soar_bench.trainer.config import load_config
    from soar_bench.trainer.run import train
    from training.run import METRICS_FILE

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
        "soar": {"points": 2},
        **METHODS[name],
    }
    train(load_config(None, settings))
    lines = (output / name / METRICS_FILE).read_text().splitlines()
    return [[json.loads(line)[figure] for figure in FIGURES] for line in lines]


@pytest.mark.parametrize("name", METHODS)
def test_the_loss_curve_is_the_one_that_was_recorded(name, tmp_path):
    """To 1 in 1,000: kernels of other processors round differently, and steps add that up."""
    expected = json.loads(GOLDEN.read_text())[name]
    found = curve(name, tmp_path)
    assert len(found) == len(expected) == 24
    for step, (here, there) in enumerate(zip(found, expected, strict=True), start=1):
        assert here == pytest.approx(there, rel=1e-3, abs=1e-6), f"step {step}"


def test_the_curves_tell_the_methods_apart():
    """A tolerance under which two methods were one curve would prove nothing."""
    curves = json.loads(GOLDEN.read_text())
    first = {name: lines[0] for name, lines in curves.items()}
    # The first base loss is the base's own: all methods see the same samples and noise.
    assert first["sft"][1] == pytest.approx(first["soar"][1], rel=1e-5)
    assert first["soar"][:3] == pytest.approx(first["soar-lora"][:3], rel=1e-5)
    last = [lines[-1][1] for lines in curves.values()]
    for number, one in enumerate(last):
        for other in last[number + 1 :]:
            assert one != pytest.approx(other, rel=2e-3)


if __name__ == "__main__":
    from soar_bench.core.torchvision import mend_torchvision

    mend_torchvision()
    with tempfile.TemporaryDirectory() as place:
        curves = {name: curve(name, Path(place)) for name in METHODS}
    text = json.dumps(curves).replace("], [", "],\n[")
    GOLDEN.write_text(text + "\n")
    sys.stdout.write(f"{GOLDEN}\n")
