"""``soar-bench doctor``: what this machine can run, in one screen."""

from __future__ import annotations

import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from evaluators import catalogue, registry
from evaluators.types import EvaluatorError
from evaluators.weights import Weights, WeightsMissing
from soar_bench.core.files import home


class State(StrEnum):
    """What a line of the report says."""

    ok = "ok"
    #: not here, which stops nothing but what needs it
    absent = "absent"
    #: here, and will not work as it is
    broken = "broken"


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    section: str
    name: str
    state: State
    text: str


#: Packages that change what can run: what needs them, and what is known not to go with them.
_PACKAGES: tuple[tuple[str, str], ...] = (
    ("diffusers", "generation and training"),
    ("transformers", "the learned evaluators"),
    ("rapidocr", "ocr"),
    ("onnxruntime", "ocr"),
    ("paddleocr", "ocr-paddle (published numbers: 2.9.1)"),
    ("paddlepaddle", "ocr-paddle"),
    ("mmdet", "geneval-mmdet"),
    ("mmcv", "geneval-mmdet (below 2.2), or mmcv-lite"),
    ("mmcv-lite", "geneval-mmdet"),
    ("hpsv2", "hpsv21-package (1.2.0 lacks its vocabulary: take hpsv2x)"),
    ("hpsv2x", "hpsv21-package"),
    ("torchvision", "hpsv21-package and geneval-mmdet"),
    ("image-reward", "nothing (it does not import beside transformers 5)"),
)
_CV2 = ("opencv-python", "opencv-python-headless", "opencv-contrib-python")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def examine(
    device: str = "cpu", golden: bool = True, observe: Callable[[str], None] = lambda what: None
) -> Iterator[Finding]:
    """Every finding, as it is made. ``observe`` hears what is being looked at."""
    observe("the machine")
    yield from _machine(device)
    observe("packages")
    yield from _packages()
    observe("weights")
    for weights in catalogue.ALL:
        yield _weights(weights)
    for name in registry.names():
        observe(name)
        yield from _evaluator(name, device, golden)


def _machine(device: str) -> Iterator[Finding]:
    section = "machine"
    yield Finding(section, "python", State.ok, f"{platform.python_version()} ({sys.executable})")
    import torch

    yield Finding(
        section, "torch", State.ok, f"{torch.__version__}, {torch.get_num_threads()} threads"
    )
    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        yield Finding(section, "cuda", State.ok, names)
    else:
        yield Finding(section, "cuda", State.absent, "no GPU that this torch can use")
    if device != "cpu":
        from soar_bench.core.devices import choose
        from soar_bench.core.errors import SoarBenchError

        try:
            choose(device)
            yield Finding(section, "device", State.ok, device)
        except SoarBenchError as error:
            yield Finding(section, "device", State.broken, str(error))
    yield Finding(section, "home", State.ok, f"{home()} (SOAR_BENCH_HOME)")


def _packages() -> Iterator[Finding]:
    section = "packages"
    for package, use in _PACKAGES:
        found = _version(package)
        if found is None:
            yield Finding(section, package, State.absent, f"for {use}")
        elif package == "torchvision":
            yield _torchvision(found)
        elif package == "mmcv" and _at_least(found, (2, 2)):
            yield Finding(
                section, package, State.broken, f"{found}: mmdet 3.3.0 needs one below 2.2"
            )
        else:
            yield Finding(section, package, State.ok, f"{found}; for {use}")
    opencv = {name: number for name in _CV2 if (number := _version(name))}
    if len(set(opencv.values())) > 1:  # of one version, each has what is used here
        wheels = ", ".join(f"{name} {number}" for name, number in opencv.items())
        text = f"{wheels} overwrite each other's cv2: keep one of them, or all at one version"
        yield Finding(section, "opencv", State.broken, text)


def _at_least(found: str, wanted: tuple[int, int]) -> bool:
    major, minor = (int(part) for part in found.split(".")[:2])
    return (major, minor) >= wanted


def _torchvision(found: str) -> Finding:
    from soar_bench.core.errors import SoarBenchError
    from soar_bench.core.torchvision import mend_torchvision

    try:
        mended = mend_torchvision()
    except SoarBenchError as error:
        return Finding("packages", "torchvision", State.broken, f"{found}: {error}")
    text = "built for another torch; mended for what is needed" if mended else "imports"
    return Finding("packages", "torchvision", State.ok, f"{found}; {text}")


def _weights(weights: Weights) -> Finding:
    missing = weights.missing()
    if missing:
        some = "" if len(missing) == len(weights.files) else " in part"
        text = f"not here{some}: soar-bench fetch {weights.name}"
        return Finding("weights", weights.name, State.absent, text)
    try:
        digest = weights.digest()
    except EvaluatorError as error:
        return Finding("weights", weights.name, State.broken, str(error))
    size = sum((weights.folder / f.path).stat().st_size for f in weights.files)
    return Finding("weights", weights.name, State.ok, f"{size / 1e6:,.1f} MB, digest {digest[:12]}")


def _evaluator(name: str, device: str, golden: bool) -> Iterator[Finding]:
    """Whether an evaluator can run here, and whether it computes what it should."""
    try:
        evaluator = registry.create(name)
        try:
            evaluator.check()
            yield Finding("evaluators", name, State.ok, "can run here")
        except WeightsMissing:  # said for all its sets at once, and shorter
            lacking = [weights.name for weights in evaluator.weights if weights.missing()]
            text = f"soar-bench fetch {' '.join(lacking)}"
            yield Finding("evaluators", name, State.absent, text)
    except EvaluatorError as error:
        yield Finding("evaluators", name, State.absent, str(error))
    except Exception as error:  # a plug-in may fail in any way, and stops nothing else
        text = f"its check() fails: {type(error).__name__}: {error}"
        yield Finding("evaluators", name, State.broken, text)
    if golden:
        yield from _golden(name, device)


def _golden(name: str, device: str) -> Iterator[Finding]:
    from evaluators.golden.cases import TINY, difference, expected, measure

    if name not in TINY:
        return
    recorded = expected().get(name)
    if recorded is None:
        yield Finding("golden", name, State.absent, "no values are recorded")
        return
    with tempfile.TemporaryDirectory() as folder:
        try:
            evaluator = TINY[name](Path(folder))
            try:
                evaluator.check()
            except EvaluatorError as error:  # a package that is not here is no fault
                yield Finding("golden", name, State.absent, str(error))
                return
            values = measure(evaluator, device)
        except Exception as error:  # whatever a broken library does is a finding
            reason = (str(error).splitlines() or [""])[0]
            text = f"does not run: {type(error).__name__}: {reason}"
            yield Finding("golden", name, State.broken, text)
            return
    wrong = difference(evaluator.metrics, values, recorded)
    if wrong:
        yield Finding("golden", name, State.broken, f"{wrong}: this machine computes otherwise")
    else:
        yield Finding("golden", name, State.ok, "gives the recorded values")
