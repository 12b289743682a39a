"""``soar-bench doctor``: what this machine can run, on one screen."""

from __future__ import annotations

import platform
import subprocess
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
    """State that a line of the report tells."""

    ok = "ok"
    #: not here, which stops only what needs it
    absent = "absent"
    #: here, but does not work
    broken = "broken"


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    section: str
    name: str
    state: State
    text: str


#: Packages, their uses and known conflicts, and the extra that brings them where there is one.
_PACKAGES: tuple[tuple[str, str, str], ...] = (
    ("diffusers", "generation and training", ""),
    ("transformers", "the learned evaluators", ""),
    ("rapidocr", "ocr", "ocr"),
    ("onnxruntime", "ocr", "ocr"),
    ("paddleocr", "ocr-paddle (published numbers: 2.9.1)", "paddleocr"),
    ("paddlepaddle", "ocr-paddle", "paddleocr"),
    ("mmdet", "geneval-mmdet", "mmdet"),
    ("mmcv", "geneval-mmdet (below 2.2), or mmcv-lite", ""),
    ("mmcv-lite", "geneval-mmdet", "mmdet"),
    ("hpsv2", "hpsv21-package (1.2.0 lacks its vocabulary: take hpsv2x)", ""),
    ("hpsv2x", "hpsv21-package", ""),
    ("open-clip-torch", "openclip:MODEL/PRETRAINED", "openclip"),
    ("torchvision", "hpsv21-package, openclip: and geneval-mmdet", ""),
    ("wandb", "figures and images to Weights & Biases", "wandb"),
    ("torchao", "AdamW in 8 bits", "adamw8bit"),
    ("deepspeed", "ZeRO in training", "deepspeed"),
    ("image-reward", "nothing (it does not import beside transformers 5)", ""),
)
#: Modules of packages that may be installed and yet not import.
_MODULES = {
    "open-clip-torch": "open_clip",
    "wandb": "wandb",
    "torchao": "torchao",
    "deepspeed": "deepspeed",
}
_CV2 = ("opencv-python", "opencv-python-headless", "opencv-contrib-python")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def examine(
    device: str = "cpu", golden: bool = True, observe: Callable[[str], None] = lambda what: None
) -> Iterator[Finding]:
    """Yield the findings. ``observe`` is called with the name of what is examined next."""
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
    for package, use, extra in _PACKAGES:
        number = _version(package)
        if number is None:
            install = f": pip install 'soar-bench[{extra}]'" if extra else ""
            yield Finding(section, package, State.absent, f"for {use}{install}")
        elif package == "torchvision":
            yield _torchvision(number)
        elif package == "mmcv" and _at_least(number, (2, 2)):
            text = f"{number}: mmdet 3.3.0 needs one below 2.2"
            yield Finding(section, package, State.broken, text)
        elif package in _MODULES and (error := _import_error(_MODULES[package])):
            text = f"{number} does not import ({error}): pip install -U 'soar-bench[{extra}]'"
            yield Finding(section, package, State.broken, text)
        else:
            yield Finding(section, package, State.ok, f"{number}; for {use}")
    opencv = {name: number for name in _CV2 if (number := _version(name))}
    if len(set(opencv.values())) > 1:  # of one version, each has what is used here
        wheels = ", ".join(f"{name} {number}" for name, number in opencv.items())
        text = f"{wheels} overwrite each other's cv2: keep one of them, or all at one version"
        yield Finding(section, "opencv", State.broken, text)


def _import_error(module: str) -> str:
    """Import a module in a process of its own and return its error; empty if it imports.

    Some packages print, start threads or end the process when they are imported.
    """
    code = "from soar_bench.core.torchvision import mend_torchvision; mend_torchvision(); "
    command = [sys.executable, "-c", f"{code}import {module}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        return "it takes over two minutes"
    return (done.stderr.strip().splitlines() or ["no reason given"])[-1] if done.returncode else ""


def _at_least(number: str, least: tuple[int, int]) -> bool:
    major, minor = (int(part) for part in number.split(".")[:2])
    return (major, minor) >= least


def _torchvision(number: str) -> Finding:
    from soar_bench.core.errors import SoarBenchError
    from soar_bench.core.torchvision import mend_torchvision

    try:
        mended = mend_torchvision()
    except SoarBenchError as error:
        return Finding("packages", "torchvision", State.broken, f"{number}: {error}")
    text = "built for another torch; mended for what is needed" if mended else "imports"
    return Finding("packages", "torchvision", State.ok, f"{number}; {text}")


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
    """Yield whether an evaluator can run here, and whether it computes its recorded values."""
    try:
        evaluator = registry.create(name)
        try:
            evaluator.check()
            yield Finding("evaluators", name, State.ok, "can run here")
        except WeightsMissing:  # one command for all its sets
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
