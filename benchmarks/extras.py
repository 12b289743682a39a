"""Install every extra, alone and beside ``ocr``, each in a fresh environment, and run the doctor.

    python -m benchmarks.extras --output outputs/extras.jsonl [EXTRA,EXTRA+ocr,...]

One line per environment: seconds and size of the install, how `pip check` and the doctor ended.
Interrupted, the same command goes on with what is not in the file. `--python` names another
interpreter, such as python3.12; `--uv` installs with uv, which takes a tenth of the time;
`--golden` runs all of the doctor's golden checks, not those of the extras' evaluators alone.
An environment is deleted before the next is made.
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
#: Packages that an extra needs without their own dependencies: docs/install.md says why.
_WITHOUT_DEPENDENCIES = {"hpsv2": "hpsv2x==1.2.0"}
#: Evaluators that an extra brings.
_EVALUATORS = {
    "ocr": ["ocr"],
    "paddleocr": ["ocr-paddle", "ocr-paddle-flow-grpo"],
    "hpsv2": ["hpsv21-package"],
    "openclip": ["openclip"],
    "fidelity": ["fidelity"],
    "mmdet": ["geneval-mmdet"],
}


def cases() -> list[str]:
    """Return every extra alone, and every other beside the default one, as ``NAME+ocr``."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = [name for name in project["optional-dependencies"] if name not in _NOT_TRIED]
    return [*extras, *(f"{name}+{_BESIDE}" for name in extras if name != _BESIDE)]


def install(case: str, python: str, uv: bool, golden: bool, place: Path) -> dict[str, Any]:
    """Install a case in a new environment; return what was seen."""
    environment = place / "environment"
    interpreter = environment / "bin" / "python"
    if uv:
        subprocess.run(["uv", "venv", "-q", "--python", python, environment], check=True)
        pip = ["uv", "pip"]
        to = ["--python", interpreter]
    else:
        subprocess.run([python, "-m", "venv", environment], check=True)
        pip = [interpreter, "-m", "pip"]
        to = []
    extras = case.split("+")
    lines = [["-c", "constraints.txt", f".[{','.join(extras)}]"]]  # as docs/install.md says it
    lines += [["--no-deps", _WITHOUT_DEPENDENCIES[e]] for e in extras if e in _WITHOUT_DEPENDENCIES]
    seen: dict[str, Any] = {"extra": case, "python": python, "installer": "uv" if uv else "pip"}
    clock = time.monotonic()
    for line in lines:
        done = subprocess.run(
            [*pip, "install", "-q", *to, *line],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            return {**seen, "failed": done.stderr.strip()[-500:]}
    seen["seconds"] = round(time.monotonic() - clock)
    files = (file for file in environment.rglob("*") if file.is_file() and not file.is_symlink())
    seen["gigabytes"] = round(sum(file.stat().st_size for file in files) / 1e9, 1)
    checked = subprocess.run([*pip, "check", *to], capture_output=True, text=True, check=False)
    seen["pip check"] = (checked.stdout + checked.stderr).strip().splitlines()[-1]
    evaluators = [name for extra in extras for name in _EVALUATORS.get(extra, ())]
    doctor = subprocess.run(
        [environment / "bin" / "soar-bench", "doctor", "--json",
         *([] if golden else evaluators or ["--no-golden"])],
        cwd=place, capture_output=True, text=True, check=False,
    )  # fmt: skip
    findings = json.loads(doctor.stdout)
    broken = [
        f"{f['section']} {f['name']}: {f['text']}" for f in findings if f["state"] == "broken"
    ]
    right = [f["name"] for f in findings if f["section"] == "golden" and f["state"] == "ok"]
    return {**seen, "doctor": doctor.returncode, "broken": broken, "golden": right}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="?", default=",".join(cases()))
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--uv", action="store_true")
    parser.add_argument("--golden", action="store_true")
    parser.add_argument("--output", type=Path, default=Path("outputs/extras.jsonl"))
    arguments = parser.parse_args()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    lines = arguments.output.read_text("utf-8").splitlines() if arguments.output.exists() else []
    installer = "uv" if arguments.uv else "pip"
    finished = {(r["extra"], r["python"], r["installer"]) for r in map(json.loads, lines)}
    for case in arguments.cases.split(","):
        if (case, arguments.python, installer) in finished:
            continue
        with tempfile.TemporaryDirectory(dir=arguments.output.parent) as place:
            row = install(case, arguments.python, arguments.uv, arguments.golden, Path(place))
        with arguments.output.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
