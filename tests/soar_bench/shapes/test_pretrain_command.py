"""``python -m benchmarks.pretrain`` from the root of a clone."""

from __future__ import annotations

from pathlib import Path

import forks
import pytest

ROOT = Path(__file__).parents[3]


def pretrain(*arguments):
    return forks.run(["-m", "benchmarks.pretrain", *arguments], cwd=ROOT)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--config", "absent.yaml"], "no config file absent.yaml"),
        (["--config", "."], "cannot be read"),
        (["--stage", "vea"], "did you mean vae"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(arguments, words):
    done = pretrain(*arguments)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_small_recipe_makes_every_part_and_goes_on(tmp_path):
    """All stages at a few steps; the transformer's stage ends with a whole pipeline."""
    import yaml

    recipe = yaml.safe_load((ROOT / "configs" / "shapes_pretrain.yaml").read_text())
    for stage in ("vae", "text", "scorer"):
        recipe[stage] |= {"steps": 2, "batch_size": 2}
    recipe["architecture"] |= {"layers": 2, "heads": 2, "head_width": 16}
    recipe["transformer"] |= {
        "data": "shapes-broad:8", "steps": 2, "batch_size": 2, "compile": False, "log_every": 1,
        "save_every": 2, "trackers": [],
    }  # fmt: skip
    for lesson in recipe["lessons"]:
        lesson |= {"pictures": 4, "train": lesson["train"] | {"steps": 1}}
    config, output = tmp_path / "recipe.yaml", tmp_path / "out"
    config.write_text(yaml.safe_dump(recipe))
    done = pretrain("--config", config, "--output", output)
    assert done.returncode == 0, done.stderr
    from soar_bench.checkpoints import resolve

    assert resolve(str(output / "base")).form == "pipeline"
    assert (output / "scorer" / "model" / "config.json").is_file()
    weights = output / "transformer" / "checkpoint-000002" / "checkpoint.json"
    before = weights.read_bytes()
    again = pretrain("--config", config, "--output", output, "--stage", "transformer")
    assert again.returncode == 0, again.stderr
    assert weights.read_bytes() == before
