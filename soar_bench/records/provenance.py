"""When, where and with what a record was made."""

from __future__ import annotations

import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from soar_bench.core.devices import describe
from soar_bench.core.packages import installed
from soar_bench.records.model import MadeRecord

_PACKAGES = (
    *("python", "soar-bench", "torch", "diffusers", "transformers", "accelerate", "peft", "numpy"),
    "pillow",
)


def made_by(
    started: datetime,
    device: str,
    *,
    memory: int | None = None,
    cut_prompts: Any = None,
    **fields: Any,
) -> MadeRecord:
    """Return when, where and with what a record was made, now that it is finished.

    ``fields`` are the other fields of :class:`~soar_bench.records.model.MadeRecord`; ``memory`` and
    ``cut_prompts`` stand in a record only where they are not None.
    """
    optional = {"memory": memory, "cut_prompts": cut_prompts}
    fields |= {name: value for name, value in optional.items() if value is not None}
    fields |= {
        "started": started.isoformat(timespec="seconds"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": describe(device),
        "machine": f"{platform.system()} {platform.machine()}",
        "versions": {name: installed(name) or "unknown" for name in _PACKAGES},
        "commit": _commit(),
    }
    return MadeRecord.model_validate(fields)


def _commit() -> str | None:
    """Return the git commit of this project's own checkout, with + where it has local changes.

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
