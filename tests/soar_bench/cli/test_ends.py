"""How a command ends that is interrupted, or meets an error that nobody expected."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest
from PIL import Image

from soar_bench.cli import main
from soar_bench.core.errors import SoarBenchError
from training.types import Diverged, Stopped

GO_ON = "soar-bench: interrupted; the same command goes on where it stopped\n"


class PanicException(BaseException):
    """As Rust libraries raise: no Exception."""


def a_codec_error(text):
    try:
        text()
    except UnicodeError as error:
        return error


UNEXPECTED = [
    (KeyError("step"), "this is a fault of soar-bench, or of a package or plug-in: report it"),
    (PanicException("called unwrap on\n a None value"), "this is a fault of soar-bench"),
    (AssertionError(), "(AssertionError; add --debug"),
    (OSError("connection lost"), "(OSError: connection lost; add --debug to see where)"),
    (RecursionError("maximum recursion depth exceeded"), "an input is nested too deeply"),
    (MemoryError(), "there is not enough memory"),
    (a_codec_error(b"\xff".decode), "a text is not UTF-8"),
    (a_codec_error("\ud800".encode), "holds characters that cannot be written"),
    (ImportError("libcudart.so: cannot open shared object file"), "package is missing or broken"),
    (ModuleNotFoundError("No module named 'x'"), "No module named 'x'"),
    (Image.DecompressionBombError("Image size (9e9 pixels)"), "an image has too many pixels"),
    (ExceptionGroup("two", [ValueError("a"), KeyError("b")]), "ExceptionGroup: two"),
]


def end(error, capsys, monkeypatch, *arguments):
    """The exit code and what is on the error stream of a command that raises an error."""

    def command(prog_name):
        assert sys.argv == ["soar-bench", *(a for a in arguments if a != "--debug")]
        raise error

    monkeypatch.setattr(sys, "argv", ["soar-bench", *arguments])
    with pytest.raises(SystemExit) as ended:
        main(command)
    return ended.value.code, capsys.readouterr().err


@pytest.mark.parametrize(("error", "words"), UNEXPECTED, ids=lambda e: type(e).__name__)
def test_an_error_that_nobody_expected_is_one_sentence(error, words, capsys, monkeypatch):
    code, printed = end(error, capsys, monkeypatch, "eval", "shapes")
    assert code == 1
    assert words in printed
    assert printed.startswith("soar-bench: ") and printed.count("\n") == 1, printed
    assert printed.strip().endswith("add --debug to see where)")


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (SoarBenchError("the base is gone: name it"), 2, "the base is gone: name it"),
        (Diverged("the loss is inf"), 1, "the loss is inf"),
        (Stopped(7), 130, "stopped at step 7; the same command goes on from there"),
        (FileNotFoundError(2, "No such file", "a b.png"), 1, "a b.png: no such file"),
        (KeyboardInterrupt(), 130, GO_ON[12:-1]),
    ],
)
def test_with_debug_the_traceback_comes_before_the_sentence(
    error, code, sentence, capsys, monkeypatch
):
    assert end(error, capsys, monkeypatch, "a") == (code, f"soar-bench: {sentence}\n")
    for arguments in (("--debug", "a"), ("a", "--debug")):
        got, printed = end(error, capsys, monkeypatch, *arguments)
        assert got == code
        assert printed.startswith("Traceback (most recent call last)")
        assert "test_ends.py" in printed
        assert printed.endswith(f"soar-bench: {sentence}\n")


def test_the_end_of_a_command_is_its_own(capsys, monkeypatch):
    for code in (0, 1, 2, 3, None):
        assert end(SystemExit(code), capsys, monkeypatch) == (code, "")


def test_in_a_thread_a_command_runs_too():
    """Signals are the main thread's."""
    ends = []
    thread = threading.Thread(target=lambda: ends.append(main(lambda prog_name: None)))
    thread.start()
    thread.join()
    assert ends == [None]


#: Sends a signal where $MODULE is imported, whatever it is imported by.
AT_IMPORT = """
import os, sys
class Signals:
    def find_spec(self, name, path, target=None):
        if name == os.environ["MODULE"]:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), NUMBER)
sys.meta_path.insert(0, Signals())
from soar_bench.cli import main
main()
"""


CTRL_C, SIGTERM = 2, 15


@pytest.mark.parametrize(
    ("number", "module", "command"),
    [
        (CTRL_C, "typer", "--help"),
        (SIGTERM, "typer", "--help"),
        (CTRL_C, "soar_bench.cli.train", "--help"),
        (CTRL_C, "soar_bench.fetch", "fetch"),
        (CTRL_C, "soar_bench.report.page", "report ."),
        (CTRL_C, "soar_bench.evaluation", "score ."),
        (CTRL_C, "soar_bench.boards", "compare a b"),
        (CTRL_C, "torch", "train sft --base shapes --data shapes-clean:2"),
        (SIGTERM, "torch", "train sft --base shapes --data shapes-clean:2"),
    ],
)
def test_interrupted_anywhere_a_command_says_so(number, module, command, tmp_path):
    (tmp_path / "run.json").write_text("{}")
    code = AT_IMPORT.replace("NUMBER", str(number))
    done = subprocess.run(
        [sys.executable, "-c", code, *command.split()], env={**os.environ, "MODULE": module},
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr.strip()) == (130, GO_ON.strip())


def test_an_interruption_is_heard_before_anything_heavy_is_imported():
    code = "import sys, soar_bench.cli; print(sys.modules.keys() & {'typer', 'pathlib', 'torch'})"
    isolated = {**os.environ, "PYTHONPATH": ":".join(p for p in sys.path if p)}
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], env=isolated, capture_output=True, text=True, check=True
    )  # without the site's own imports
    assert done.stdout == "set()\n"


def test_interrupted_within_generated_code_it_still_ends_by_its_exit_code():
    """As dataclasses and named tuples make while a module is imported."""
    code = (
        "from soar_bench.cli import main\n"
        "main(lambda prog_name: exec('import os; os.kill(os.getpid(), 2)'))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, GO_ON)
