"""Evaluators by name: built in, plugged in by an installed package, or in a file of the user's.

A name is one of

- a built-in evaluator's;
- the name of an entry point of the group ``soar_bench.evaluators`` of an installed package;
- ``path/to/file.py:Class``, or ``path/to/file.py`` if it defines one evaluator;
- ``package.module:Class``, looked for in the current folder too;
- ``openclip:MODEL/PRETRAINED``, see :mod:`evaluators.openclip_package`;
- ``fidelity:FOLDER``, ``fidelity-dinov2:FOLDER`` or ``cmmd:FOLDER``, the folder of reference
  pictures, see :mod:`evaluators.sets.reference`.

A name refers to an :class:`~evaluators.types.Evaluator` subclass or a function that returns an
evaluator, called without arguments; an object can stand in its place (:func:`source`). A plug-in
that does not work is an error only where it is named. Imports no torch.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial, reduce
from importlib import import_module, invalidate_caches, metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from evaluators.code import digest_class, digest_code, digest_settings
from evaluators.declaration import NAME, NAME_RULE, fault, know_code
from evaluators.types import Evaluator, EvaluatorError
from soar_bench.core.errors import unknown_name
from soar_bench.core.files import expanded

GROUP = "soar_bench.evaluators"

BUILT_IN: dict[str, str] = {
    "geneval": "evaluators.geneval.evaluator:geneval",
    "geneval-mmdet": "evaluators.geneval.evaluator:geneval_mmdet",
    "geneval-flow-grpo": "evaluators.geneval.evaluator:geneval_flow_grpo",
    "ocr": "evaluators.ocr.evaluator:OcrAccuracy",
    "ocr-paddle": "evaluators.ocr.evaluator:ocr_paddle",
    "ocr-paddle-flow-grpo": "evaluators.ocr.evaluator:ocr_paddle_flow_grpo",
    "ocr-tesseract": "evaluators.ocr.evaluator:ocr_tesseract",
    "pickscore": "evaluators.pickscore:PickScore",
    "hpsv21": "evaluators.hpsv2:HpsV21",
    "hpsv21-no-antialias": "evaluators.hpsv2:hpsv21_no_antialias",
    "hpsv21-package": "evaluators.hpsv2_package:HpsV21Package",
    "image-reward": "evaluators.imagereward.evaluator:ImageReward",
    "blip-vqa": "evaluators.blip_vqa.evaluator:BlipVqa",
    "aesthetic": "evaluators.aesthetic:Aesthetic",
    "clipscore": "evaluators.clipscore:ClipScore",
    "clipscore-no-antialias": "evaluators.clipscore:clipscore_no_antialias",
    "clipscore-processor": "evaluators.clipscore:clipscore_processor",
    "diversity-clip": "evaluators.sets.diversity:ClipDiversity",
    "diversity-dinov2": "evaluators.sets.diversity:DinoDiversity",
    "diversity-lpips": "evaluators.sets.lpips:LpipsDiversity",
    "dpg": "evaluators.dpg:DpgBench",
    "geneval-vlm": "evaluators.geneval.vlm:GenEvalVlm",
    "geneval2": "evaluators.geneval2:GenEval2",
    "unified-reward-1.5": "evaluators.unified_reward:unified_reward_1_5",
    "unified-reward-1.5-flow-grpo": "evaluators.unified_reward:unified_reward_1_5_flow_grpo",
    "unified-reward-2.0": "evaluators.unified_reward:unified_reward_2_0",
    "hpsv3": "evaluators.hpsv3:HpsV3",
    "vqascore": "evaluators.vqascore:VqaScore",
    "near-duplicates": "evaluators.sets.near_duplicates:NearDuplicates",
    "picture-statistics": "evaluators.statistics:PictureStatistics",
    "shapes-geneval": "evaluators.geneval.shapes:ShapesGenEval",
    "shapes-clipscore": "evaluators.shapes.clipscore:ShapesClipScore",
}

#: Begins the name of a model of the open_clip package, unless it is a ``module:Class``.
_OPEN_CLIP = "openclip:"
#: Class of each evaluator that is named with a folder of reference pictures.
REFERENCED = {
    "fidelity:": "evaluators.sets.reference:InceptionFidelity",
    "fidelity-dinov2:": "evaluators.sets.reference:DinoFidelity",
    "cmmd:": "evaluators.sets.reference:Cmmd",
}
#: Evaluators whose names say what they use, by the form of the name: what they measure.
FORMS = {
    "fidelity:FOLDER": "a run against the pictures in a folder, by Inception",
    "fidelity-dinov2:FOLDER": "a run against the pictures in a folder, by DINOv2",
    "cmmd:FOLDER": "a run against the pictures in a folder, by CLIP",
    "openclip:MODEL/PRETRAINED": "CLIPScore in a model of open_clip",
}
_BUILT_IN = "built in"
_LOCAL = "local"
_TARGET = re.compile(r"[^\W\d]\w*(\.\w+)*:[^\W\d]\w*(\.\w+)*")


@dataclass(frozen=True)
class Entry:
    """An evaluator's name and origin."""

    name: str
    #: ``module:attribute``, ``file.py:attribute`` or ``file.py``
    target: str
    #: ``built in``, ``package NAME`` or ``local``
    origin: str
    #: why it cannot be used, whatever its code does; empty if it may be
    problem: str = ""

    def __str__(self) -> str:
        where = {_BUILT_IN: f" ({self.target})", _LOCAL: ""}
        return f"the evaluator {self.name!r}" + where.get(
            self.origin, f" ({self.origin}, {self.target})"
        )

    @property
    def version(self) -> str:
        """Version of the package that it comes from; empty for a file."""
        package = "soar-bench" if self.origin == _BUILT_IN else self.origin.removeprefix("package ")
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            return ""


def entries() -> list[Entry]:
    """Return all evaluators, built-in ones first, broken ones too. Never fails."""
    plugged_in = sorted(_plugged_in(), key=lambda entry: (entry.name, entry.origin, entry.target))
    return [
        *(Entry(name, target, _BUILT_IN) for name, target in BUILT_IN.items()),
        *(replace(entry, problem=_problem(entry, plugged_in)) for entry in plugged_in),
    ]


def names() -> list[str]:
    """Return all names, built-in ones first. Never fails."""
    return list(dict.fromkeys(entry.name for entry in entries()))


def find(name: str) -> Entry:
    """Return the entry of an evaluator's name. EvaluatorError if there is none."""
    if name.startswith(_OPEN_CLIP) and not _TARGET.fullmatch(name):
        return Entry(name, "evaluators.openclip_package:OpenClipScore", _BUILT_IN)
    for prefix, target in REFERENCED.items():
        if f"{name}:".startswith(prefix):
            return Entry(name if ":" in name else prefix, target, _BUILT_IN)
    if ":" in name or name.endswith(".py"):
        return Entry(name, name, _LOCAL)
    if name in BUILT_IN:  # also where a plug-in takes its name
        return Entry(name, BUILT_IN[name], _BUILT_IN)
    entry = next((entry for entry in entries() if entry.name == name), None)
    if entry is None:
        raise unknown_name("evaluator", name, names(), EvaluatorError)
    return entry


def is_local(name: str) -> bool:
    """Whether a name is that of a file or a module. EvaluatorError if there is none."""
    return find(name).origin == _LOCAL


def resolve(evaluator: str | Evaluator) -> Evaluator:
    """Return an evaluator by its name, or the object itself; EvaluatorError if it is broken."""
    if isinstance(evaluator, str):
        return create(evaluator)
    if wrong := fault(evaluator):
        raise EvaluatorError(f"the evaluator {wrong}")
    return evaluator


def create(name: str) -> Evaluator:
    """Return an evaluator by its name, not loaded. EvaluatorError if there is none that works."""
    return make(find(name))


def source(evaluator: str | Evaluator) -> tuple[Entry, Callable[[], Evaluator]]:
    """Return the entry of a name or an object, and a function that returns an evaluator to load.

    An object is copied, so that the caller's is not loaded. EvaluatorError if it is broken.
    """
    if isinstance(evaluator, str):
        entry = find(evaluator)
        return entry, partial(make, entry)
    kind = type(resolve(evaluator))
    target = f"{kind.__module__}:{kind.__qualname__}"
    entry = Entry(target, target, _LOCAL)
    for other in entries():
        of_ours = other.origin == _BUILT_IN and kind.__module__.startswith("evaluators.")
        if other.name == evaluator.name and (of_ours or other.target == target):
            return other, partial(copy.copy, evaluator)
    if wrong := _wrong_name(entry, evaluator):
        raise EvaluatorError(f"{entry} {wrong}")
    own = copy.copy(evaluator)
    know_code(own, source=digest_class(kind), settings=digest_settings(evaluator))
    return entry, partial(copy.copy, own)


def make(entry: Entry) -> Evaluator:
    """Return the entry's evaluator, not loaded. EvaluatorError if making it fails in any way."""
    if entry.problem:
        raise EvaluatorError(f"{entry} {entry.problem}")
    factory, digest = _factory(entry)
    if not callable(factory) or (inspect.isclass(factory) and not issubclass(factory, Evaluator)):
        raise EvaluatorError(
            f"{entry} is no evaluators.types.Evaluator subclass and no function that makes one"
        )
    with _reported(entry, "cannot be made"):
        evaluator = factory()
    with _reported(entry, "cannot say what it measures"):
        wrong = fault(evaluator) or _wrong_name(entry, evaluator)
    if wrong:
        raise EvaluatorError(f"{entry} {wrong}")
    if digest:
        know_code(evaluator, file=digest)
        named = (replace(weights, of_file=entry.target) for weights in evaluator.weights)
        vars(evaluator)["weights"] = tuple(named)
    elif entry.origin != _BUILT_IN:
        know_code(evaluator, source=digest_class(type(evaluator), factory))
    return evaluator


def cannot_run(evaluator: Evaluator) -> str:
    """Return why an evaluator cannot run here and what to do; empty if it can. Never fails."""
    try:
        evaluator.check()
    except EvaluatorError as error:
        return str(error)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a plug-in may fail in any way
        return f"its check() fails: {describe_error(error)}"
    return ""


def _plugged_in() -> list[Entry]:
    """Return the entries that installed packages declare."""
    try:
        points = list(metadata.entry_points(group=GROUP))
    except Exception:  # one package's damaged file hides those of all others
        return _one_by_one()
    return list(dict.fromkeys(_entry(point) for point in points))


def _one_by_one() -> list[Entry]:
    plugged_in = []
    for distribution in metadata.distributions():
        try:
            text = distribution.read_text("entry_points.txt") or ""
        except Exception:  # unreadable: nobody can tell whether it is a plug-in
            continue
        if GROUP not in text:
            continue
        try:
            plugged_in += [_entry(p) for p in distribution.entry_points.select(group=GROUP)]
        except Exception as error:
            name = str(distribution.name)
            problem = f"cannot be found: its entry_points.txt is damaged ({describe_error(error)})"
            plugged_in.append(Entry(name, "entry_points.txt", f"package {name}", problem))
    return list(dict.fromkeys(plugged_in))


def _entry(point: metadata.EntryPoint) -> Entry:
    package = point.dist.name if point.dist is not None else None
    target = re.sub(r"\s*\[.*\]\s*$", "", point.value).strip()
    return Entry(point.name, target, f"package {package or 'unknown'}")


def _problem(entry: Entry, plugged_in: list[Entry]) -> str:
    if entry.problem:
        return entry.problem
    if not NAME.fullmatch(entry.name) or entry.name.endswith(".py"):
        return f"must have a name of {NAME_RULE} that does not end in .py"
    if entry.name in BUILT_IN:
        return "takes the name of a built-in evaluator: its package must give it another"
    if not _TARGET.fullmatch(entry.target):
        return "cannot be found: its entry point must be of the form module:attribute"
    same_name = [other for other in plugged_in if other.name == entry.name]
    rivals = [other.origin.removeprefix("package ") for other in same_name]
    if len(rivals) > 1:
        return f"is given more than once (by {' and '.join(rivals)}): uninstall all but one"
    return ""


def _split(target: str) -> tuple[Path | None, str]:
    """Return the file, if the target names one, and the attribute."""
    head, colon, attribute = target.rpartition(":")
    if colon and head.endswith(".py"):
        return expanded(head), attribute
    if target.endswith(".py"):
        return expanded(target), ""
    return None, target.partition(":")[2]


def _read(file: Path) -> bytes:
    if not file.is_file():
        raise EvaluatorError(f"there is no file {file} to take an evaluator from")
    try:
        return file.read_bytes()
    except OSError as error:
        raise EvaluatorError(f"{file} cannot be read: {error.strerror}") from None


def _import_file(file: Path, source: bytes, digest: str) -> ModuleType:
    """Import a file, once as long as it does not change, under a module name of its own."""
    place = hashlib.sha256(str(file.resolve()).encode()).hexdigest()
    name = f"soar_bench_local_{place[:12]}_{digest[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    module = ModuleType(name)
    module.__file__ = str(file.resolve())
    sys.modules[name] = module  # dataclasses look their module up
    _reach(file.resolve().parent)
    try:
        # not Python's own loader, whose cached bytecode may be older than what was just read
        exec(compile(source, str(file), "exec", dont_inherit=True), vars(module))
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _reach(folder: Path) -> None:
    """Make the folder's modules importable; last in the path, so that they hide no others."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
        invalidate_caches()


def _factory(entry: Entry) -> tuple[Any, str]:
    """Return the entry's class or function, and the SHA-256 of its file if it names one."""
    file, attribute = _split(entry.target)
    if file is None:
        if not _TARGET.fullmatch(entry.target):
            raise EvaluatorError(
                f"{entry.name!r} names no evaluator: write FILE.py:CLASS or MODULE:CLASS"
            )
        if entry.origin == _LOCAL:
            _reach(Path.cwd())
        with _reported(entry, "does not import"):
            module = import_module(entry.target.partition(":")[0])
        digest = ""
    else:
        source = _read(file)
        digest = digest_code({file.resolve(): source}, reloaded=True)
        with _reported(entry, "does not import"):
            module = _import_file(file, source, digest)
        if not attribute:
            return _only_evaluator(module, file), digest
    with _reported(entry, f"has no {attribute}"):
        factory: Any = reduce(getattr, attribute.split("."), module)
    if entry.origin == _BUILT_IN and entry.name.startswith((_OPEN_CLIP, *REFERENCED)):
        factory = partial(factory, entry.name.partition(":")[2])
    return factory, digest


def _only_evaluator(module: ModuleType, file: Path) -> type[Evaluator]:
    classes = filter(inspect.isclass, vars(module).values())
    own = [c for c in classes if issubclass(c, Evaluator) and c.__module__ == module.__name__]
    choices = list(dict.fromkeys(c for c in own if not inspect.isabstract(c))) or own
    if not choices:
        raise EvaluatorError(
            f"{file} defines no subclass of evaluators.types.Evaluator; "
            f"if a function makes one, name it: {file}:function"
        )
    if len(choices) > 1:
        names = " or ".join(f"{file}:{c.__name__}" for c in choices)
        raise EvaluatorError(f"{file} defines {len(choices)} evaluators: choose {names}")
    return choices[0]


def _wrong_name(entry: Entry, evaluator: Evaluator) -> str:
    name = evaluator.name
    if entry.origin == _LOCAL and BUILT_IN.get(name, entry.target) != entry.target:
        return f"takes the name of the built-in evaluator {name}: give it another"
    if entry.origin not in (_BUILT_IN, _LOCAL) and name != entry.name:
        return f"calls itself {name!r}: its name must be that of its entry point"
    return ""


@contextmanager
def _reported(entry: Entry, what: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise
    except EvaluatorError as error:
        raise EvaluatorError(f"{entry}: {error}") from error
    except BaseException as error:  # a plug-in may fail in any way, with SystemExit too
        raise EvaluatorError(f"{entry} {what}: {describe_error(error)}") from error


def describe_error(error: BaseException) -> str:
    """Return the error in one line, with the place in the plug-in's code where it was raised."""
    text = " ".join(str(error).split())
    line = f"{type(error).__name__}: {text}" if text else type(error).__name__
    stack = traceback.extract_tb(error.__traceback__)
    frames = [f for f in stack if f.filename != __file__ and "importlib" not in f.filename]
    if frames and not isinstance(error, SyntaxError):  # whose text has the place already
        line += f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})"
    return line
