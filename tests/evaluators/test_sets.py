"""Evaluators of sets: formulas against hand-computed values and packages, and their contract."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import evaluators
from evaluators import EvaluatorError, SetEvaluator, check_evaluator, registry
from evaluators.golden.cases import TINY
from evaluators.scaffold import write_plug_in
from evaluators.sets import pairs
from evaluators.sets.near_duplicates import NearDuplicates
from evaluators.testing import sample_images
from evaluators.types import Metric, Sample, Score
from soar_bench.core.torchvision import mend_torchvision
from soar_bench.stats import estimate

ROOT = Path(__file__).parents[2]

RANDOM = np.random.default_rng(0)
NAMES = ("near-duplicates", "diversity-clip", "diversity-dinov2", "diversity-lpips")


def image(seed, height=64, width=64):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def scores(evaluator, images, prompts="a photo"):
    prompts = [prompts] * len(images) if isinstance(prompts, str) else prompts
    samples = [Sample(i, p) for i, p in zip(images, prompts, strict=True)]
    return evaluator.score(samples)


def test_distance_and_vendi_by_hand():
    """Two rows at a right angle, and a third equal to the first."""
    rows = np.array([[2.0, 0.0], [0.0, 5.0], [1.0, 0.0]])
    (name, values) = "d", pairs.scores_of_pairs("d", pairs.cosine_distances(rows))
    assert [s[name].value for s in values] == pytest.approx([2 / 3] * 3)
    assert [s[name].details["from_the_others"] for s in values] == pytest.approx([0.5, 1, 0.5])
    entropy = -(2 / 3 * np.log(2 / 3) + 1 / 3 * np.log(1 / 3))
    assert pairs.vendi(rows) == pytest.approx(np.exp(entropy))
    assert pairs.vendi(np.eye(4)) == pytest.approx(4)
    assert pairs.vendi(np.ones((4, 3))) == pytest.approx(1)


def test_vendi_is_its_packages():
    package = pytest.importorskip("vendi_score.vendi")
    rows = RANDOM.normal(size=(6, 5))
    assert pairs.vendi(rows) == pytest.approx(package.score_X(rows, normalize=True))


def test_near_duplicates_are_found_among_the_images_of_a_prompt():
    first, other = image(1), np.full((64, 64, 3), 200, np.uint8)
    nearly = np.clip(first.astype(int) + 3, 0, 255).astype(np.uint8)
    four = scores(NearDuplicates(), [first, nearly, other, image(2, 40, 90)])
    # one pair of six, by the thumbnails' difference; noise of another seed averages to grey too
    thumbnails = [n.reshape(-1) for n in NearDuplicates().embed([Sample(i, "") for i in
                  (first, nearly, other, image(2, 40, 90))])]  # fmt: skip
    close = sum(
        np.sqrt(np.mean((thumbnails[i] - thumbnails[j]) ** 2)) <= 0.05
        for i in range(4)
        for j in range(i)
    )
    assert four[0]["near_duplicates"].value == pytest.approx(close / 6) and close == 1


def test_sets_are_those_of_one_prompt_and_one_image_has_no_diversity():
    same = [image(1), image(1), image(2)]
    values = scores(NearDuplicates(), same, ["a", "a", "b"])
    assert [v["near_duplicates"].value for v in values] == [1, 1, None]
    assert values[2]["near_duplicates"].unscored == "the prompt has 1 image, fewer than 2"


def test_a_scorer_shows_a_set_evaluator_all_images_at_once():
    scorer = evaluators.load("near-duplicates", batch_size=1)
    assert scorer([image(1), image(1), image(3)], "a photo").tolist() == pytest.approx([1 / 3] * 3)


def test_lpips_needs_one_size(tmp_path):
    lpips = TINY["diversity-lpips"](tmp_path)
    lpips.load()
    differ = scores(lpips, [image(1), image(2, 64, 80)])
    assert "differ in size (64x64 and 80x64)" in differ[0]["lpips_distance"].unscored
    assert "32x32" in scores(lpips, [image(1, 8, 8), image(2, 8, 8)])[0]["lpips_distance"].unscored


def test_lpips_is_its_packages_with_the_real_heads(tmp_path):
    mend_torchvision()
    package = pytest.importorskip("lpips")
    import torch

    from evaluators import catalogue
    from evaluators.golden.sets import write_lpips
    from evaluators.sets.lpips import LpipsDiversity

    write_lpips(tmp_path)
    model = package.LPIPS(net="alex", pnet_rand=True, verbose=False)  # the package's own heads
    torch.manual_seed(0)
    state = {f"features.{k.rpartition('.')[0].rpartition('.')[2]}.{k.rpartition('.')[2]}": v
             for k, v in model.net.state_dict().items()}  # fmt: skip
    torch.save(state, tmp_path / "alexnet-owt-7be5be79.pth")
    heads = {k: v for k, v in model.state_dict().items() if k.startswith("lin") and "lins" not in k}
    torch.save(heads, tmp_path / "alex.pth")
    ours = LpipsDiversity(catalogue.ALEXNET.at(tmp_path), catalogue.LPIPS_HEADS.at(tmp_path))
    ours.load()
    images = [image(1, 96, 80), image(2, 96, 80)]
    tensors = [torch.from_numpy(i).permute(2, 0, 1)[None].float() / 127.5 - 1 for i in images]
    with torch.inference_mode():
        expected = float(model(*tensors))
    assert scores(ours, images)[0]["lpips_distance"].value == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_the_contract_of_sets_holds(name, tmp_path):
    check_evaluator(lambda: TINY[name](tmp_path), processes=False)


def test_the_contract_holds_in_another_process():
    square = [i for i in sample_images().values() if i.shape == (64, 64, 3)]
    check_evaluator("near-duplicates", [Sample(i, "a") for i in [*square, square[0]]])


class Leaky(SetEvaluator):
    """Its rows depend on the batch."""

    name = "leaky"
    metrics = (Metric("leaky", "share", (0.0, 1.0), True, "1", "nobody", "wrong on purpose"),)

    def embed(self, samples):
        return [np.array([len(samples)]) for _ in samples]

    def score_set(self, rows):
        return [{"leaky": Score(0.5)} for _ in rows]


class Ordered(Leaky):
    """Its scores depend on the order."""

    def embed(self, samples):
        return [np.array([s.image.mean()]) for s in samples]

    def score_set(self, rows):
        return [{"leaky": Score(i / len(rows))} for i in range(len(rows))]


class Nameless(Leaky):
    together = "suite"


@pytest.mark.parametrize(
    ("kind", "clause"),
    [(Leaky, "same row alone"), (Ordered, "in another order"), (Nameless, "'prompt' or a 'run'")],
)
def test_broken_clauses_are_named(kind, clause):
    with pytest.raises(AssertionError, match=clause):
        check_evaluator(kind, processes=False)


def test_the_scaffold_of_a_set_evaluator_passes_its_own_test(tmp_path):
    folder, module = write_plug_in("my-spread", tmp_path, "set")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", folder / "tests"],
        cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert registry.create(str(module)).together == "prompt"
    with pytest.raises(EvaluatorError, match="kind is sample or set, not 'sets'"):
        write_plug_in("other", tmp_path, "sets")


def test_intervals_of_diversity_cover_the_truth():
    """30 prompts of 4 images: a prompt's rows scatter by a factor of its own, mean 1.

    E |x - y|^2 / 2 = D E s^2, with the mean squared distance in place of the cosine's.
    """
    draw = np.random.default_rng(5)
    covered = 0
    for _ in range(400):
        spreads = draw.gamma(4, 1 / 4, 30)
        rows = draw.normal(size=(30, 4, 6)) * np.sqrt(spreads)[:, None, None]
        values = []
        for prompt in rows:
            squares = ((prompt[:, None] - prompt) ** 2).sum(-1) / 2
            values += [s["d"].value for s in pairs.scores_of_pairs("d", squares)]
        frame = pd.DataFrame({"task": "", "prompt_id": np.repeat(np.arange(30), 4).astype(str),
                              "index": np.tile(np.arange(4), 30), "value": values})  # fmt: skip
        low, high = estimate(frame, skewed=True).interval()
        covered += low <= 6 <= high
    assert 0.92 <= covered / 400 <= 0.975, covered / 400
