"""Figures against a reference set: against their packages' numbers, and their intervals."""

from __future__ import annotations

import os
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import linalg

from evaluators import EvaluatorError, catalogue, check_evaluator, registry
from evaluators.golden import clip as tiny
from evaluators.golden.sets import write_dinov2
from evaluators.sets import figures
from evaluators.sets.reference import Cmmd, DinoFidelity, ReferenceSet
from evaluators.types import Sample
from soar_bench.core.torchvision import mend_torchvision
from soar_bench.stats import estimate

DRAW = np.random.default_rng(3)
RUN, REFERENCE = DRAW.normal(0.3, 1.2, (60, 6)), DRAW.normal(size=(80, 6))


def jackknife(figure, run):
    """Pseudo-values by leaving out each row in turn."""
    whole, n = figure(run), len(run)
    left = np.array([figure(np.delete(run, i, 0)) for i in range(n)])
    return n * whole - (n - 1) * left


def frechet_by_definition(run):
    s, r = np.cov(run, rowvar=False), np.cov(REFERENCE, rowvar=False)
    shift = run.mean(0) - REFERENCE.mean(0)
    return shift @ shift + np.trace(s) + np.trace(r) - 2 * np.trace(linalg.sqrtm(s @ r).real)


def mmd_by_definition(run, kernel, unbiased):
    xx, yy, xy = (kernel(a, b) for a, b in ((run, run), (REFERENCE, REFERENCE), (run, REFERENCE)))
    if not unbiased:
        return xx.mean() + yy.mean() - 2 * xy.mean()
    n, m = len(run), len(REFERENCE)
    return ((xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1))
            - 2 * xy.mean())  # fmt: skip


def test_frechet_is_its_definition_and_its_rows_follow_the_jackknife():
    rows = figures.frechet(RUN, REFERENCE)
    assert rows.mean() == pytest.approx(frechet_by_definition(RUN))
    pseudo = jackknife(frechet_by_definition, RUN)
    assert np.corrcoef(rows, pseudo)[0, 1] > 0.99
    assert rows.std() == pytest.approx(pseudo.std(), rel=0.05)


def test_frechet_of_fewer_images_than_dimensions():
    few = RUN[:5]
    rows = figures.frechet(few, REFERENCE)
    assert np.isfinite(rows).all() and rows.mean() == pytest.approx(
        frechet_by_definition(few), rel=1e-4
    )
    assert figures.frechet(REFERENCE, REFERENCE).mean() == pytest.approx(0, abs=1e-8)


def gaussian_case(images, seed, features=8):
    """A run of N(m, 1.3 C), a reference whose mean is 0 and covariance C to the last digit, and
    their Frechet distance |m|^2 + tr C (sqrt(1.3) - 1)^2.
    """
    scale = np.sqrt(1 / np.arange(1, features + 1))
    rows = np.random.default_rng(9).normal(size=(40, features))
    rows -= rows.mean(0)
    rows = rows @ np.linalg.inv(np.linalg.cholesky(np.cov(rows, rowvar=False)).T) * scale
    run = 0.3 * scale + np.random.default_rng(seed).normal(size=(images, features)) * scale * (
        np.sqrt(1.3)
    )
    return run, rows, (scale**2).sum() * (0.09 + (np.sqrt(1.3) - 1) ** 2)


def test_frechet_infinity_has_no_bias_where_frechet_has():
    few, covered = [], 0
    for seed in range(150):
        run, reference, truth = gaussian_case(80, seed)
        rows = figures.frechet_infinity(run, reference)
        few.append((figures.frechet(run, reference).mean(), rows.mean()))
        covered += abs(rows.mean() - truth) < 1.99 * rows.std(ddof=1) / np.sqrt(len(rows))
    biased, unbiased = np.mean(few, 0)
    error = np.std(few, 0)[1] / np.sqrt(150)
    assert biased > 1.35 * truth and unbiased == pytest.approx(truth, abs=3 * error)
    assert 0.9 <= covered / 150 <= 0.98
    run, reference, truth = gaussian_case(20_000, 1)
    assert figures.frechet_infinity(run, reference).mean() == pytest.approx(truth, rel=0.05)


def test_frechet_infinity_is_a_line_through_frechet_whatever_the_order():
    run, reference, _ = gaussian_case(24, 0)
    rows, whole = figures.frechet_infinity(run, reference), figures.frechet(run, reference)
    assert rows - rows.mean() == pytest.approx(whole - whole.mean())
    order = np.random.default_rng(2).permutation(24)
    assert figures.frechet_infinity(run[order], reference) == pytest.approx(rows[order], rel=1e-9)
    # by hand: least squares over 1 / N of the means over leaving out a part
    drawn = run[np.lexsort(run.T)][np.random.default_rng(0).permutation(24)]
    points = [(1 / 24, whole.mean())]
    for parts in (2, 3, 4):
        left = [np.concatenate([p for j, p in enumerate(np.split(drawn, parts)) if j != i])
                for i in range(parts)]  # fmt: skip
        distances = [figures.frechet(rest, reference).mean() for rest in left]
        points.append((1 / len(left[0]), np.mean(distances)))
    x, y = np.array(points).T
    slope = ((x - x.mean()) @ (y - y.mean())) / ((x - x.mean()) @ (x - x.mean()))
    assert rows.mean() == pytest.approx(y.mean() - slope * x.mean())


def test_frechet_infinity_needs_two_images_per_feature(references, tmp_path):
    evaluator = evaluator_over("fidelity-dinov2", references, tmp_path)
    draw = np.random.default_rng(0)
    evaluator._rows = draw.normal(size=(30, 4))
    for images, reason in ((8, "8 images, and 4 features need more than 8"), (9, "")):
        scores = evaluator.score_set(list(draw.normal(size=(images, 4))))
        assert reason in scores[0]["fid_infinity_dinov2_faces"].unscored
        assert scores[0]["fid_dinov2_faces"].value is not None


def test_figures_of_many_images_fit_in_memory(monkeypatch):
    """No array has the square of the number of images: of 3,000 that is 36 MB and more."""
    monkeypatch.setattr(figures, "_AT_ONCE", 2**17)
    draw = np.random.default_rng(0)
    run, reference = draw.normal(size=(3000, 3)), draw.normal(size=(200, 3))
    tracemalloc.start()
    figures.manifold(run, reference)
    figures.unbiased_mmd(run, reference, figures.cubic)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 15e6


def test_mmd_is_its_definition_and_unbiased_rows_are_the_jackknifes():
    rows = figures.unbiased_mmd(RUN, REFERENCE, figures.cubic)
    pseudo = jackknife(lambda run: mmd_by_definition(run, figures.cubic, True), RUN)
    assert rows == pytest.approx(pseudo)
    assert rows.mean() == pytest.approx(mmd_by_definition(RUN, figures.cubic, True))
    rows = figures.biased_mmd(RUN, REFERENCE, figures.gaussian)
    assert rows.mean() == pytest.approx(mmd_by_definition(RUN, figures.gaussian, False))


def test_numbers_of_torch_fidelity():
    mend_torchvision()
    fid = pytest.importorskip("torch_fidelity.metric_fid")
    import torch
    from torch_fidelity import metric_kid

    statistics = [fid.fid_features_to_statistics(torch.from_numpy(x)) for x in (RUN, REFERENCE)]
    (value,) = fid.fid_statistics_to_metric(*statistics, False).values()
    assert figures.frechet(RUN, REFERENCE).mean() == pytest.approx(value, rel=1e-6)
    settings = {"kid_subsets": 1, "kid_subset_size": 60, "verbose": False}
    features = map(torch.from_numpy, (RUN, REFERENCE[:60]))
    values = metric_kid.kid_features_to_metric(*features, **settings)
    ours = figures.unbiased_mmd(RUN, REFERENCE[:60], figures.cubic).mean()
    assert ours == pytest.approx(values["kernel_inception_distance_mean"], rel=1e-6)


def test_cmmd_is_its_definition_and_its_packages():
    """Two rows against one: k(x, x) = 1 on the diagonals, exp(-d^2 / 200) elsewhere."""
    x, y = np.array([[0.0, 0.0], [0.0, 10.0]]), np.array([[10.0, 0.0]])
    by_hand = (1 + np.exp(-0.5)) / 2 + 1 - (np.exp(-0.5) + np.exp(-1))
    assert figures.biased_mmd(x, y, figures.gaussian).mean() == pytest.approx(by_hand)
    package = pytest.importorskip("clip_mmd.calculation")
    expected = float(package.mmd(RUN, REFERENCE))
    ours = 1000 * figures.biased_mmd(RUN, REFERENCE, figures.gaussian).mean()
    assert ours == pytest.approx(expected, rel=1e-9)


def test_features_are_torch_fidelitys(tmp_path, monkeypatch):
    mend_torchvision()
    package = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    import torch

    from evaluators.sets.inception import Encoder

    torch.manual_seed(0)
    with monkeypatch.context() as untrained:
        untrained.setattr(package.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        untrained.setattr(package, "load_state_dict_from_url", lambda *_, **__: {})
        network = package.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
    weights = catalogue.INCEPTION.at(tmp_path)
    torch.save(network.state_dict(), tmp_path / weights.files[0].path)
    images = [DRAW.integers(0, 256, (40, w, 3), dtype=np.uint8) for w in (40, 52, 40)]
    rows = Encoder(weights, "cpu")(images)
    for image, row in zip(images, rows, strict=True):
        (expected,) = network(torch.from_numpy(image).permute(2, 0, 1)[None])
        assert row == pytest.approx(expected[0].numpy(), rel=1e-4, abs=1e-5)


def manifold_by_definition(run, reference=REFERENCE, k=5):
    def distances(a, b):
        return np.sqrt(((a[:, None] - b) ** 2).sum(-1))

    balls, radii = (np.sort(distances(x, x), 1)[:, k] for x in (reference, run))
    between = distances(reference, run)
    return {
        "precision": (between < balls[:, None]).any(0).mean(),
        "recall": (between < radii).any(1).mean(),
        "density": (between < balls[:, None]).sum(0).mean() / k,
        "coverage": (between.min(1) < balls).mean(),
    }


def test_the_manifold_is_its_definition_and_follows_the_jackknife(monkeypatch):
    monkeypatch.setattr(figures, "_AT_ONCE", 33 * 60)  # several blocks
    rows, expected = figures.manifold(RUN, REFERENCE), manifold_by_definition(RUN)
    assert {name: column.mean() for name, column in rows.items()} == pytest.approx(expected)
    for name in ("recall", "coverage"):
        pseudo = jackknife(lambda run, name=name: manifold_by_definition(run)[name], RUN)
        assert rows[name] == pytest.approx(pseudo - pseudo.mean() + expected[name]), name


def test_the_manifold_is_its_packages():
    package = pytest.importorskip("prdc")
    expected = package.compute_prdc(REFERENCE, RUN, nearest_k=5)
    rows = figures.manifold(RUN, REFERENCE)
    assert {name: column.mean() for name, column in rows.items()} == pytest.approx(expected)


def test_intervals_of_kid_cover_the_truth():
    """50 prompts of 2 images that share a part; the truth by a large sample of the same.

    The figure is skewed: benchmarks/coverage_sets.py has this case and others, with more runs.
    """
    draw = np.random.default_rng(7)
    reference = draw.normal(size=(150, 4))

    def images(prompts):
        shared = np.repeat(draw.normal(0.4, 0.7, (prompts, 4)), 2, axis=0)
        return shared + draw.normal(0, 0.7, shared.shape)

    alone = images(20_000)[::2]
    cross = figures._row_sums(alone, reference, figures.cubic).mean() / len(reference)
    # E k(x, x') of independent prompts, and of two images of one among the pairs of a sample
    other = images(20_000)[::2]
    apart = (1 + (alone * other).sum(1) / 4) ** 3
    both = images(20_000)
    within = (1 + (both[::2] * both[1::2]).sum(1) / 4) ** 3
    own = (98 * apart.mean() + within.mean()) / 99
    part = figures._row_sums(reference, reference, figures.cubic, True).sum() / (150 * 149)
    truth, covered = own + part - 2 * cross, 0
    for _ in range(400):
        rows = figures.unbiased_mmd(images(50), reference, figures.cubic)
        frame = pd.DataFrame({"task": "", "prompt_id": np.repeat(np.arange(50), 2).astype(str),
                              "index": np.tile(np.arange(2), 50), "value": rows})  # fmt: skip
        low, high = estimate(frame, skewed=True).interval()
        covered += low <= truth <= high
    assert 0.91 <= covered / 400 <= 0.975, covered / 400


@pytest.fixture()
def references(tmp_path):
    folder = tmp_path / "faces"
    folder.mkdir()
    for i in range(9):
        Image.fromarray(DRAW.integers(0, 256, (40, 40 + i, 3), dtype=np.uint8)).save(
            folder / f"{i}.png"
        )
    return folder


def evaluator_over(name, references, tmp_path):
    if name == "cmmd":
        tiny.write_clip(tmp_path / "clip")
        (tmp_path / "clip" / "model.safetensors").rename(tmp_path / "clip" / "kept")
        import torch
        from safetensors.torch import load_file

        torch.save(load_file(tmp_path / "clip" / "kept"), tmp_path / "clip" / "pytorch_model.bin")
        weights = catalogue.CLIP_VIT_L_14_336.at(tmp_path / "clip")
        return Cmmd(str(references), weights, embedding=tiny.EMBEDDING)
    write_dinov2(tmp_path / "dino")
    return DinoFidelity(str(references), catalogue.DINOV2.at(tmp_path / "dino"))


@pytest.mark.parametrize("name", ["cmmd", "fidelity-dinov2"])
def test_a_run_against_a_folder_keeps_the_contract(name, references, tmp_path):
    samples = [Sample(DRAW.integers(0, 256, (48, 48, 3), dtype=np.uint8), "a") for _ in range(8)]
    check_evaluator(lambda: evaluator_over(name, references, tmp_path), samples, processes=False)


def test_features_are_kept_and_follow_the_pictures_not_their_names(references, tmp_path):
    first = evaluator_over("fidelity-dinov2", references, tmp_path)
    assert first.name == "fidelity-dinov2-faces"
    assert first.metrics[0].name == "fid_dinov2_faces"
    first.load()
    kept, before = first._rows, first.reference.digest()
    (references / "0.png").rename(references / "zero.png")
    assert first.reference.digest() == before
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(references / "zero.png")
    assert first.reference.digest() != before
    second = evaluator_over("fidelity-dinov2", references, tmp_path)
    second.load()
    assert not np.array_equal(kept, second._rows) and len(kept) == len(second._rows)


class WithPackage(DinoFidelity):
    """The same weights, of which a package's version decides the features too."""

    def identity(self):
        return {**super().identity(), "package": "2"}

    def encoder(self, device, dtype):
        return lambda images: np.zeros((len(images), 4))


def test_kept_features_are_those_of_the_evaluators_whole_identity(references, tmp_path):
    evaluator_over("fidelity-dinov2", references, tmp_path).load()
    newer = WithPackage(str(references), catalogue.DINOV2.at(tmp_path / "dino"))
    newer.load()
    assert newer._rows.shape == (9, 4)


def test_bad_reference_sets_are_one_sentence(references, tmp_path):
    for name in ("fidelity:", "fidelity", "fidelity-dinov2", "cmmd"):
        with pytest.raises(EvaluatorError, match="name the folder of reference pictures after the"):
            registry.create(name)
    with pytest.raises(EvaluatorError, match="there is no folder"):
        ReferenceSet(str(tmp_path / "nowhere")).files()
    (tmp_path / "few").mkdir()
    with pytest.raises(EvaluatorError, match="has 0 pictures"):
        ReferenceSet(str(tmp_path / "few")).files()
    (references / "0.png").write_bytes(b"no picture")
    with pytest.raises(EvaluatorError, match="a reference picture cannot be read: "):
        evaluator_over("fidelity-dinov2", references, tmp_path).load()


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda file: os.mkfifo(file), "is no file"),
        (lambda file: file.symlink_to("nowhere"), "is no file"),
        (lambda file: file.with_suffix("").symlink_to(file.parent), "links are not followed"),
        (lambda file: file.write_bytes(b"no picture"), "a reference picture cannot be read"),
        (lambda file: Image.new("L", (8, 8)).save(file.with_suffix(".gif")), "z.gif is no PNG"),
    ],
)
def test_what_is_no_reference_picture_is_told_before_work(references, make, sentence):
    (references / "._0.png").write_bytes(b"hidden files are none")
    whole = ReferenceSet(str(references))
    whole.check()
    make(references / "z.png")
    with pytest.raises(EvaluatorError, match=sentence):
        whole.check()


def test_they_are_named_with_their_folder(references):
    for name in ("fidelity", "fidelity-dinov2", "cmmd"):
        evaluator = registry.create(f"{name}:{references}")
        assert evaluator.name == f"{name}-faces" and evaluator.together == "run"
        with pytest.raises(EvaluatorError):
            evaluator.check()
