"""When, where and with what a record was made."""

from __future__ import annotations

import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from soar_bench.core.devices import describe
from soar_bench.records.model import MadeRecord


def made_by(
    started: datetime,
    device: str,
    *,
    seconds: dict[str, float],
    generated: int,
    scored: dict[str, int],
    failed: dict[str, int],
    processes: int,
    batch_size: int | None,
    memory: int | None = None,
) -> MadeRecord:
    """Return when, where and with what a record was made, now that it is finished.

    The arguments are the fields of :class:`~soar_bench.records.model.MadeRecord`.
    """
    made = {
        "started": started.isoformat(timespec="seconds"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": seconds,
        "generated": generated,
        "scored": scored,
        "failed": failed,
        "processes": processes,
        "batch_size": batch_size,
        "device": describe(device),
        "machine": f"{platform.system()} {platform.machine()}",
        "versions": _versions(),
        "commit": _commit(),
    }
    return MadeRecord.model_validate(made if memory is None else {**made, "memory": memory})


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in (
        "soar-bench",
        "torch",
        "diffusers",
        "transformers",
        "accelerate",
        "peft",
        "numpy",
        "pillow",
    ):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found


def _commit() -> str | None:
    """The git commit of this project's own checkout, with + where it has local changes.

    None where the package is installed elsewhere, also inside another project's checkout.
    """
    root = Path(__file__).resolve().parents[2]

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root:
            return None
        changes = git("status", "--porcelain", "--", "soar_bench", "evaluators", "training")
        return git("rev-parse", "HEAD") + ("+" if changes else "")
    except (OSError, subprocess.CalledProcessError):
        return None
