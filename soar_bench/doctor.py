"""Examination of a machine, for ``soar-bench doctor``."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path

from evaluators import catalogue, registry
from evaluators.types import EvaluatorError
from evaluators.weights import Weights, WeightsMissing
from soar_bench.core.errors import SoarBenchError
from soar_bench.core.files import home
from soar_bench.core.packages import install, installed, python
from soar_bench.core.text import count, printable
from soar_bench.core.torchvision import mend_torchvision


class State(StrEnum):
    """State of one line of the report."""

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
    ("hpsv3", "hpsv3, for its instruction alone: pip install --no-deps hpsv3==1.0.0", ""),
    ("torch-fidelity", "fidelity:FOLDER", "fidelity"),
    ("torchvision", "hpsv21-package, openclip:, fidelity: and geneval-mmdet", ""),
    ("wandb", "figures and images to Weights & Biases", "wandb"),
    ("torchao", "AdamW in 8 bits", "adamw8bit"),
    ("deepspeed", "ZeRO in training", "deepspeed"),
    ("image-reward", "nothing (it does not import beside transformers 5)", ""),
)
#: Modules of packages that may be installed and yet not import.
_MODULES = {"open-clip-torch": "open_clip"} | {n: n for n in ("wandb", "torchao", "deepspeed")}
_CV2 = ("opencv-python", "opencv-python-headless", "opencv-contrib-python")


def examine(
    device: str = "cpu",
    golden: bool = True,
    observe: Callable[[str], None] = lambda name: None,
    names: Sequence[str] = (),
) -> Iterator[Finding]:
    """Yield the findings, of evaluators and weights only those of ``names``, if there are any.

    ``observe`` is called with the name of what is examined next. EvaluatorError for a name that is
    none.
    """
    forms = {form.partition(":")[0]: form for form in registry.FORMS}
    names = [forms.get(name, name) for name in names]
    for name in names:
        registry.find(name)
    observe("the machine")
    for finding in _machine(device):
        golden = golden and finding.state is not State.broken  # on no device nothing is computed
        yield finding
    observe("packages")
    yield from _packages()
    observe("weights")
    for weights in _all_weights(names):
        yield _weights(weights)
    for name in names or (*registry.names(), *registry.FORMS):
        observe(printable(name))
        yield from _named(name, device, golden)


def _named(name: str, device: str, golden: bool) -> Iterator[Finding]:
    """Yield the findings of an evaluator, or of a form of names over a folder of its own."""
    from evaluators.golden.sets import write_reference

    prefix, colon, _ = name.partition(":")
    if name not in registry.FORMS:
        yield from _evaluator(name, device, golden)
    elif prefix + colon in registry.REFERENCED:
        with tempfile.TemporaryDirectory() as folder:
            reference = write_reference(Path(folder))
            yield from _evaluator(f"{prefix}:{reference}", device, golden, name)
    elif golden:  # whether a model of open_clip can run is only known by its name
        yield Finding("golden", name, *_golden(prefix, device))


def _machine(device: str) -> Iterator[Finding]:
    import torch

    finding = partial(Finding, "machine")
    yield finding("python", State.ok, f"{platform.python_version()} ({sys.executable})")
    yield finding(
        "torch", State.ok, f"{torch.__version__}, {count(torch.get_num_threads(), 'thread')}"
    )
    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        yield finding("cuda", State.ok, names)
    else:
        yield finding("cuda", State.absent, "no GPU that this torch can use")
    if device != "cpu":
        from soar_bench.core.devices import choose

        try:
            choose(device)
            yield finding("device", State.ok, device)
        except SoarBenchError as error:
            yield finding("device", State.broken, str(error))
    yield finding("home", State.ok, f"{home()} (SOAR_BENCH_HOME)")


def _packages() -> Iterator[Finding]:
    for package, use, extra in _PACKAGES:
        number = installed(package)
        if number is None:
            command = f": {install(extra)}" if extra else ""
            yield Finding("packages", package, State.absent, f"for {use}{command}")
        else:
            yield Finding("packages", package, *_installed(package, number, use, extra))
    opencv = {name: number for name in _CV2 if (number := installed(name))}
    if opencv and (fault := _opencv_fault(opencv)):
        yield Finding("packages", "opencv", State.broken, fault)


def _opencv_fault(wheels: Mapping[str, str]) -> str:
    """Return what is wrong with the wheels that share the module cv2, by name and version.

    Of one version each has what is used here, whichever was installed last. Uninstalling one takes
    files of the others away, so the advice is to install all of them again.
    """
    oldest = min(wheels.values(), key=lambda number: [int(n) for n in re.findall(r"\d+", number)])
    again = " ".join(f"{name}=={oldest}" for name in wheels)
    advice = f"pip install --force-reinstall --no-deps {again}"
    if len(set(wheels.values())) > 1:
        listed = ", ".join(f"{name} {number}" for name, number in wheels.items())
        return f"{listed} overwrite each other's cv2; bring all to one version: {advice}"
    if reason := _import_error("cv2; cv2.imread"):
        return f"cv2 does not import ({reason}), as after a wheel is uninstalled: {advice}"
    return ""


def _installed(package: str, number: str, use: str, extra: str) -> tuple[State, str]:
    """Return the state of a package that is installed, and the text that says so."""
    if package == "torchvision":
        try:
            mended = mend_torchvision()
        except SoarBenchError as error:
            return State.broken, f"{number}: {error}"
        text = "built for another torch; mended for what is needed" if mended else "imports"
        return State.ok, f"{number}; {text}"
    if package == "mmcv" and tuple(map(int, number.split(".")[:2])) >= (2, 2):
        return State.broken, f"{number}: mmdet 3.3.0 needs one below 2.2"
    if package in _MODULES and (reason := _import_error(_MODULES[package])):
        return State.broken, f"{number} does not import ({reason}): {install(extra)}"
    return State.ok, f"{number}; for {use}"


def _import_error(module: str) -> str:
    """Import a module in a process of its own and return its error; empty if it imports.

    Some packages print, start threads or end the process when they are imported. Many jobs or a
    slow disk make minutes of an import that takes seconds: only one that hangs is stopped.
    """
    code = "from soar_bench.core.torchvision import mend_torchvision; mend_torchvision(); "
    command = python(f"{code}import {module}")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    except subprocess.TimeoutExpired:
        return "it does not end in a quarter of an hour"
    return (done.stderr.strip().splitlines() or ["no reason given"])[-1] if done.returncode else ""


def _all_weights(names: Sequence[str]) -> Iterable[Weights]:
    """Return the weights of the named evaluators, or of the catalogue and all, each once."""
    by_name = {} if names else {weights.name: weights for weights in catalogue.ALL}
    for name in names or registry.names():
        with suppress(EvaluatorError):  # its own finding says what is wrong
            by_name |= {weights.name: weights for weights in registry.create(name).weights}
    return by_name.values()


def _weights(weights: Weights) -> Finding:
    finding = partial(Finding, "weights", weights.name)
    if missing := weights.missing():
        some = "" if len(missing) == len(weights.files) else " in part"
        return finding(State.absent, f"not here{some}: soar-bench fetch {weights.name}")
    try:
        digest = weights.digest()
    except EvaluatorError as error:
        return finding(State.broken, str(error))
    size = sum((weights.folder / f.path).stat().st_size for f in weights.files)
    return finding(State.ok, f"{size / 1e6:,.1f} MB, digest {digest[:12]}")


def _evaluator(name: str, device: str, golden: bool, label: str = "") -> Iterator[Finding]:
    """Yield whether an evaluator can run here, and whether it computes its recorded values.

    ``label`` is shown in place of a name with a folder.
    """
    label = label or name
    finding = partial(Finding, "evaluators", label)
    try:
        evaluator = registry.create(name)
        try:
            evaluator.check()
            yield finding(State.ok, "can run here")
        except WeightsMissing:  # one command for all its sets, or for what its package brings
            missing = [weights.name for weights in evaluator.weights if weights.missing()]
            yield finding(State.absent, f"soar-bench fetch {' '.join(missing) or name}")
    except EvaluatorError as error:
        yield finding(State.absent, str(error))
    except Exception as error:  # a plug-in may fail in any way, and stops nothing else
        yield finding(State.broken, f"its check() fails: {type(error).__name__}: {error}")
    if golden:
        from evaluators.golden.cases import TINY

        if (key := label.partition(":")[0]) in TINY and not registry.is_local(name):
            yield Finding("golden", label, *_golden(key, device))


def _golden(name: str, device: str) -> tuple[State, str]:
    from evaluators.golden.cases import difference, expected, measure, tiny_evaluator

    recorded = expected().get(name)
    if recorded is None:
        return State.absent, "no values are recorded"
    try:
        with tiny_evaluator(name) as evaluator:
            try:
                evaluator.check()
            except EvaluatorError as error:  # a package that is not here is no fault
                return State.absent, str(error)
            values = measure(evaluator, device)
    except Exception as error:  # whatever a broken library does is a finding
        reason = (str(error).splitlines() or [""])[0]
        return State.broken, f"does not run: {type(error).__name__}: {reason}"
    if wrong := difference(evaluator.metrics, values, recorded):
        return State.broken, f"{wrong}: this machine computes otherwise"
    return State.ok, "gives the recorded values"
