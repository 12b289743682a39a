"""Trackers of figures and images besides metrics.jsonl: TensorBoard, Weights & Biases.

A run that is stopped and resumed is one curve in both. The libraries are imported when a run that
names them begins.
"""

from __future__ import annotations

import json
import os
import secrets
import time
import typing
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from soar_bench.core.files import write_text
from soar_bench.core.packages import install
from training.types import TrainingError

#: Commands that install a tracker.
_INSTALLED_WITH = {
    "tensorboard": "pip install tensorboard",
    "wandb": install("wandb"),
}


class Tracked(typing.Protocol):
    """Folder whose figures are tracked, and the trackers' names; a training's settings are one."""

    @property
    def output(self) -> Path: ...

    @property
    def trackers(self) -> Sequence[str]: ...


def check_trackers(config: Tracked) -> None:
    """Raise TrainingError if a tracker is not installed, or nobody is logged in."""
    for name in config.trackers:
        if find_spec(name) is None:
            raise TrainingError(
                f"the tracker {name} is not installed: {_INSTALLED_WITH[name]}, or leave it out "
                "of trackers"
            )
    # Of several processes the first alone, which opens them.
    if "wandb" in config.trackers and os.environ.get("RANK", "0") == "0":
        _check_login()


class Trackers:
    """The trackers a run names, in the main process."""

    def __init__(self, config: Tracked, first: int, identity: Mapping[str, Any]) -> None:
        """Open the trackers. Their figures of steps after ``first`` are about to be sent again.

        ``identity`` are the settings to show, once per run. A tracker that cannot be opened raises
        its own error, and so does one that fails later: a full disk, for example.
        """
        with ExitStack() as opened:
            self._trackers: list[_Tracker] = [
                opened.enter_context(_KINDS[name](config.output, first, identity))
                for name in config.trackers
            ]
            self._opened = opened.pop_all()

    def figures(self, step: int, figures: Mapping[str, float]) -> None:
        """Figures after ``step`` steps, by names such as train/loss."""
        for tracker in self._trackers:
            tracker.figures(step, figures)

    def images(self, step: int, images: Mapping[str, Path]) -> None:
        """Images of the weights after ``step`` steps: PNG files by prompt."""
        if images:
            for tracker in self._trackers:
                tracker.images(step, images)

    def close(self) -> None:
        """Flush and close the trackers. As a context manager, they also see an error inside."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._opened.__exit__(kind, error, traceback)


class _Tracker(typing.Protocol):
    def figures(self, step: int, figures: Mapping[str, float]) -> None: ...

    def images(self, step: int, images: Mapping[str, Path]) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None: ...


class _TensorBoard:
    """Event files in the run's folder: ``tensorboard --logdir OUTPUT``."""

    def __init__(self, output: Path, first: int, identity: Mapping[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = output / "tensorboard"
        begun = [int(file.name.split(".")[3]) for file in folder.glob("events.out.tfevents.*")]
        # Files are read in the order of their names, which hold the second they were begun in.
        time.sleep(min(max(max(begun, default=0) + 1 - time.time(), 0), 1))
        # Readers leave out what stands before this file of that step and later ones.
        self._writer: Any = SummaryWriter(str(folder), purge_step=first + 1)
        if not begun:
            # Indented by four, it is shown as it stands.
            lines = json.dumps(identity, indent=2, sort_keys=True).splitlines()
            self._writer.add_text("settings", "\n".join(f"    {line}" for line in lines), 0)
        self._writer.flush()

    def figures(self, step: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)
        # Now: a state that is saved later says that everything up to its step is in the files.
        self._writer.flush()

    def images(self, step: int, images: Mapping[str, Path]) -> None:
        from soar_bench.core.images import read_pixels

        for name, file in images.items():
            pixels, _ = read_pixels(file)  # [H, W, 3]
            self._writer.add_image(f"images/{name}", pixels, step, dataformats="HWC")
        self._writer.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        try:
            self._writer.flush()  # which raises what closing alone would not
        finally:
            self._writer.close()


def _check_login() -> None:
    """Raise TrainingError if Weights & Biases would refuse the run, or ask for a key."""
    import wandb

    if wandb.setup().settings.mode in ("offline", "dryrun", "disabled"):
        return
    try:
        logged_in = wandb.login(prompt=False)
    except wandb.errors.AuthenticationError as error:
        raise TrainingError(f"{_LOGIN[0]}: {error}; {_LOGIN[1]}") from None
    if not logged_in:
        raise TrainingError(f"{_LOGIN[0]}: nobody is logged in; {_LOGIN[1]}")


_LOGIN = (
    "the tracker wandb cannot be used",
    "run `wandb login`, or set WANDB_MODE=offline and send the run later with `wandb sync`",
)


class _Wandb:
    """One run of Weights & Biases for an output folder.

    Its library sends in the background, and tries again where that fails. WANDB_PROJECT,
    WANDB_ENTITY and WANDB_MODE are its own settings; with WANDB_MODE=offline the
    run stays in ``OUTPUT/wandb`` until ``wandb sync``.
    """

    def __init__(self, output: Path, first: int, identity: Mapping[str, Any]) -> None:
        import wandb

        # Its own counter of steps never goes back, as a resumed run does, so ours is an axis
        # beside it. Steps that were sent before a run was killed stay: they are sent again with
        # the same figures, since they train the same weights.
        self._library = wandb
        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or "soar-bench",
            name=output.name,
            id=_run_id(output / "wandb" / "id.txt"),
            resume="allow",
            dir=str(output.resolve()),
            config=dict(identity),
        )
        self._run.define_metric("step", hidden=True)
        self._run.define_metric("*", step_metric="step")

    def figures(self, step: int, figures: Mapping[str, float]) -> None:
        self._run.log({**figures, "step": step})

    def images(self, step: int, images: Mapping[str, Path]) -> None:
        pictures = [self._library.Image(str(file), caption=name) for name, file in images.items()]
        self._run.log({"images": pictures, "step": step})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        self._run.finish(exit_code=0 if kind is None else 1)


def _run_id(file: Path) -> str:
    """The folder's, drawn once: an id that followed from the settings would name the same run after
    the folder is deleted, or in a copy of the experiment elsewhere.
    """
    if not file.exists():
        write_text(file, secrets.token_hex(6) + "\n")
    return file.read_text("utf-8").strip()


_KINDS: Mapping[str, Callable[[Path, int, Mapping[str, Any]], _Tracker]] = {
    "tensorboard": _TensorBoard,
    "wandb": _Wandb,
}
