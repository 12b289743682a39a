"""Install every extra, alone and beside ``ocr``, each in a fresh environment, and run the doctor.

    python -m benchmarks.extras --output outputs/extras.jsonl [EXTRA,EXTRA+ocr,...]

One line per environment: seconds and size of the install, how `pip check` and the doctor ended.
Interrupted, the same command goes on with what is not in the file. `--python` names another
interpreter, such as python3.12. An environment is deleted before the next is made.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
#: Tools of those who work on the project, not of those who use it.
_NOT_TRIED = ("dev",)
_BESIDE = "ocr"


def cases() -> list[str]:
    """Return every extra alone, and every other beside the default one, as ``NAME+ocr``."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = [name for name in project["optional-dependencies"] if name not in _NOT_TRIED]
    return [*extras, *(f"{name}+{_BESIDE}" for name in extras if name != _BESIDE)]


def install(case: str, python: str, place: Path) -> dict[str, Any]:
    """Install a case in a new environment; return what was seen."""
    requirement = f"{ROOT}[{case.replace('+', ',')}]"
    environment = place / "environment"
    subprocess.run([python, "-m", "venv", environment], check=True)
    pip = [environment / "bin" / "python", "-m", "pip"]
    clock = time.monotonic()
    command = [*pip, "install", "-q", "-c", ROOT / "constraints.txt", requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = round(time.monotonic() - clock)
    seen: dict[str, Any] = {"extra": case, "python": python, "seconds": seconds}
    if done.returncode:
        return {**seen, "failed": done.stderr.strip()[-500:]}
    files = (file for file in environment.rglob("*") if file.is_file() and not file.is_symlink())
    seen["gigabytes"] = round(sum(file.stat().st_size for file in files) / 1e9, 1)
    checked = subprocess.run([*pip, "check"], capture_output=True, text=True, check=False)
    seen["pip check"] = checked.stdout.strip().splitlines()[-1]
    doctor = subprocess.run(
        [environment / "bin" / "soar-bench", "doctor", "--json"],
        cwd=place, capture_output=True, text=True, check=False,
    )  # fmt: skip
    findings = json.loads(doctor.stdout)
    broken = [
        f"{f['section']} {f['name']}: {f['text']}" for f in findings if f["state"] == "broken"
    ]
    golden = [f["name"] for f in findings if f["section"] == "golden" and f["state"] == "ok"]
    return {**seen, "doctor": doctor.returncode, "broken": broken, "golden": golden}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="?", default=",".join(cases()))
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--output", type=Path, default=Path("outputs/extras.jsonl"))
    arguments = parser.parse_args()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    lines = arguments.output.read_text("utf-8").splitlines() if arguments.output.exists() else []
    finished = {(row["extra"], row["python"]) for row in map(json.loads, lines)}
    for case in arguments.cases.split(","):
        if (case, arguments.python) in finished:
            continue
        with tempfile.TemporaryDirectory(dir=arguments.output.parent) as place:
            row = install(case, arguments.python, Path(place))
        with arguments.output.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
