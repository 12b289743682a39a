"""The command ``soar-bench``: :func:`main` runs one of ``soar_bench.cli.commands``.

Every error is one sentence on the error stream: exit code 2 for bad input, 1 for work that failed,
130 for an interruption. Importing this imports nothing, so that an interruption is heard at once.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

_INTERRUPTED = 130
_GO_ON = "interrupted; the same command goes on where it stopped"
_DEBUG = "--debug"

#: Sentences for errors that may come from anywhere, by the name of their class.
_SENTENCES = {
    "MemoryError": "there is not enough memory: use smaller batches or images, or free some",
    "OutOfMemoryError": "there is not enough memory on the device: use smaller batches",
    "RecursionError": "an input is nested too deeply: make it flatter",
    "UnicodeDecodeError": "a text is not UTF-8: save it as UTF-8",
    "UnicodeEncodeError": "a text holds characters that cannot be written: take them out",
    "ImportError": "a package is missing or broken: install it",
    "DecompressionBombError": "an image has too many pixels: make it smaller, or leave it out",
    "BaseException": "this is a fault of soar-bench, or of a package or plug-in: report it",
}


def __getattr__(name: str) -> Any:
    if name == "app":
        from soar_bench.cli import commands

        return commands.app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def main(command: Any = None) -> None:
    """Run the command and turn every error into a sentence and an exit code.

    ``--debug``, anywhere among the arguments, shows the traceback as well.
    """
    debug = _DEBUG in sys.argv[1:]
    try:
        _hear_terminate()
        for stream in (sys.stdout, sys.stderr):  # a name may hold what the terminal cannot show
            if reconfigure := getattr(stream, "reconfigure", None):
                reconfigure(errors="backslashreplace")
        sys.argv[1:] = [argument for argument in sys.argv[1:] if argument != _DEBUG]
        from soar_bench.core.packages import check_packages

        check_packages()
        if command is None:
            from soar_bench.cli.commands import app as command
        command(prog_name="soar-bench")
    except BaseException as error:
        if isinstance(error, SystemExit) and error.code != _INTERRUPTED:
            raise  # typer ends with one, always
        _end(error, debug)


def _hear_terminate() -> None:
    """Let SIGTERM, by which clusters reclaim a node, end a command in order, as Ctrl-C does."""
    import signal
    import threading

    main_thread = threading.current_thread() is threading.main_thread()
    if main_thread and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def _end(error: BaseException, debug: bool) -> NoReturn:
    """End the process with the error's sentence and exit code, after its traceback if asked to."""
    from soar_bench.core.text import printable

    message, code = _explain(error)
    if debug:
        import traceback

        traceback.print_exception(error)
    print(f"soar-bench: {printable(message)}", file=sys.stderr)
    exec("")  # else CPython, interrupted inside an exec, ends by the signal and not by the code
    sys.exit(code)


def _explain(error: BaseException) -> tuple[str, int]:
    """Return the sentence and the exit code of an error."""
    import errno

    if isinstance(error, SystemExit | KeyboardInterrupt):
        return _GO_ON, _INTERRUPTED
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f" ({error.filename})" if error.filename else ""
        return f"no space left on the disk{where}: free some and run the same command again", 1

    from soar_bench.core.errors import SoarBenchError

    training = sys.modules.get("training.types")
    if training and isinstance(error, training.Stopped):
        return f"stopped at step {error.step}; the same command goes on from there", _INTERRUPTED
    if training and isinstance(error, training.Diverged):
        return str(error), 1
    if isinstance(error, SoarBenchError):
        return str(error), 2
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror.lower()}", 1
    kinds = [kind.__name__ for kind in type(error).__mro__]
    sentence = next(_SENTENCES[kind] for kind in kinds if kind in _SENTENCES)
    reason = ": ".join(filter(None, (kinds[0], " ".join(str(error).split())[:300])))
    return f"{sentence} ({reason}; add {_DEBUG} to see where)", 1
