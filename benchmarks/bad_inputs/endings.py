"""How a command ends: in one clear sentence, or how else."""

from __future__ import annotations

import contextlib
import io
import re
import sys

#: Lines that a refused command may print beside its sentence.
_VERDICT = re.compile(
    r"\d+ broken$|^(Usage|Try)|^$|^plan|^checkpoint  |^\S+ +\S+ +\S+ +\d+ of|: \d+/\d+|^\t"
)


def run(words: list[str]) -> tuple[int, str]:
    """Run a command by its entry point; return the exit code and what it printed."""
    from soar_bench.cli import main

    printed = io.StringIO()
    sys.argv = ["soar-bench", *words]
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException as error:
            return 1, f"Traceback: {type(error).__name__}: {error}"
    return code, printed.getvalue()


def fault(code: int, text: str) -> str:
    """Return what is wrong with how a command ended; empty if it is one clear sentence."""
    lines = [line for line in text.splitlines() if not _VERDICT.search(line)]
    if "Traceback" in text:
        return "a traceback"
    if code == 0:
        return "taken for good"
    if "--debug" in text:
        return "not foreseen"
    if code != 2 and not re.search(r"^\S.*: .*\d+ broken$", text, re.MULTILINE):  # of `data check`
        return f"exit code {code}"
    if len(lines) != 1:
        return f"{len(lines)} lines"
    if re.search(r"\b[A-Z]\w+(Error|Exception)\b|<class |object at 0x", lines[0]):
        return "a word of the code's"
    return "" if len(lines[0]) < 1000 else "too long a sentence"
