"""The golden check: every evaluator that can run here, on packaged pictures, in any process."""

import json
from functools import cache
from pathlib import Path

import forks
import numpy as np
import pytest

from evaluators import catalogue, registry
from evaluators.geneval.detectors.mask2former import Mask2FormerSwinS
from evaluators.golden import cases
from evaluators.golden.fill import fill
from evaluators.golden.geneval import TINY, write_mask2former
from evaluators.testing import check_evaluator, sample_images
from evaluators.types import EvaluatorError, Sample, SetEvaluator

#: Evaluators over tiny weights that need nothing but the core.
CORE = tuple(name for name in cases.TINY if not name.startswith("ocr") and "package" not in name
             and "mmdet" not in name and name not in ("fidelity", "openclip"))  # fmt: skip


def test_the_fill_is_the_same_everywhere():
    matrix = fill("a", (3, 4))
    assert matrix.dtype == np.float32
    # written down once; Philox's stream is fixed by its definition
    assert matrix[0].tolist() == pytest.approx([0.4410794, -0.2232158, 0.5872558, -0.0894667])
    assert fill("b.weight", (3,)).tolist() == pytest.approx([1.0597081, 1.0246838, 0.9600381])


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """measured(name) -> the evaluator's metrics and values in this process, computed once."""

    @cache
    def measure(name):
        evaluator = cases.TINY[name](tmp_path_factory.mktemp(name))
        try:
            evaluator.check()
        except EvaluatorError as error:
            pytest.skip(str(error))
        return evaluator.metrics, cases.measure(evaluator)

    return measure


@pytest.mark.parametrize("name", list(cases.TINY))
def test_an_evaluator_gives_the_recorded_values(name, measured):
    assert cases.difference(*measured(name), cases.expected()[name]) == ""


def test_every_evaluator_has_a_golden_check():
    families = {form.partition(":")[0] for form in registry.FORMS}
    assert set(registry.BUILT_IN) | families == set(cases.TINY)


def test_nothing_of_a_golden_check_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("SOAR_BENCH_HOME", str(tmp_path / "home"))
    with cases.tiny_evaluator("cmmd") as evaluator:
        cases.measure(evaluator)
        folder = evaluator.weights[0].folder
        assert folder.is_dir()
    assert not folder.exists() and not (tmp_path / "home").exists()


def test_mmdets_recorded_values_are_those_of_its_preprocessing_in_transformers(tmp_path):
    write_mask2former(tmp_path)
    weights = catalogue.MASK2FORMER.at(tmp_path)
    ours = cases.geneval_of(Mask2FormerSwinS("bgr", "mmdet3", weights, TINY), tmp_path)
    recorded = cases.expected()["geneval-mmdet"]
    assert cases.difference(ours.metrics, cases.measure(ours), recorded) == ""


def test_another_value_is_found(measured):
    metrics, values = measured("clipscore")
    recorded = json.loads(json.dumps(values))
    recorded["clipscore"][2] += 0.01
    assert "clipscore of shapes.png is" in cases.difference(metrics, values, recorded)
    recorded["clipscore"][2] = None
    assert "not unscored" in cases.difference(metrics, values, recorded)


def scores_of(folder: str, part: int) -> dict[str, dict[str, list[float | None]]]:
    """Return the scores of every second sample, by every evaluator; a set's as a whole."""
    values = {}
    for name in CORE:
        evaluator = cases.TINY[name](Path(folder) / f"{name}-{part}")
        if isinstance(evaluator, SetEvaluator):
            values[name] = cases.measure(evaluator)
            continue
        evaluator.load()
        scores = evaluator.score(cases.samples(name)[part::2])
        values[name] = {m.name: [s[m.name].value for s in scores] for m in evaluator.metrics}
    return values


def test_two_processes_give_what_one_gives(tmp_path, measured):
    code = (
        "import json, sys; sys.path[:0] = [sys.argv[1]]; from test_golden import scores_of;"
        "print(json.dumps(scores_of(sys.argv[2], int(sys.argv[3]))))"
    )
    processes = [forks.Process(["-c", code, Path(__file__).parent, tmp_path, i]) for i in (0, 1)]
    for process in processes:
        assert process.wait(300) == 0, process.stderr
    halves = [json.loads(process.stdout.splitlines()[-1]) for process in processes]
    for name in CORE:
        for metric, values in measured(name)[1].items():
            if len(halves[0][name][metric]) == len(values):  # of a set
                assert [half[name][metric] for half in halves] == [pytest.approx(values)] * 2
                continue
            merged = [halves[i % 2][name][metric][i // 2] for i in range(len(values))]
            assert merged == pytest.approx(values, abs=1e-5), name


@pytest.mark.parametrize(
    "name",  # the Flow-GRPO family's rules are over the same detector, which takes long
    [pytest.param(n, marks=pytest.mark.slow) if n == "geneval-flow-grpo" else n for n in CORE],
)
def test_it_keeps_the_contract(name, tmp_path):
    """Processes apart, which the test above looks at for all at once."""
    varied = [Sample(image, f"a photo of {what}") for what, image in sample_images().items()]
    # a detector makes every image the same size first, and takes long
    samples = cases.samples(name) + ([] if name.startswith("geneval") else varied)
    check_evaluator(lambda: cases.TINY[name](tmp_path), samples, processes=False)
