"""Processes of their own, forked from one that has done the imports.

Importing torch, diffusers and transformers takes eight seconds of a core. Here one process per
pytest worker imports them, computes nothing, and forks: each fork starts clean, runs as ``python``
would, and can be killed anywhere.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
import types
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parents[1]
_ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


class Process:
    """A fork that runs as ``python ARGUMENTS...`` would, in the folder ``cwd``.

    ``env`` is its whole environment, as for ``subprocess.Popen``. With ``merged``, its error stream
    goes into ``stdout`` too.
    """

    def __init__(
        self,
        arguments: Sequence[object],
        cwd: object = ".",
        env: Mapping[str, str] | None = None,
        merged: bool = False,
    ) -> None:
        self.args = [str(argument) for argument in arguments]
        self._out = TemporaryFile()  # noqa: SIM115
        self._err = self._out if merged else TemporaryFile()  # noqa: SIM115
        self._socket, theirs = socket.socketpair()
        with theirs:
            streams = [theirs.fileno(), self._out.fileno(), self._err.fileno()]
            socket.send_fds(_master(), [b"."], streams)
        self._line = self._socket.makefile("rw")
        environment = {**_ENVIRONMENT, **(os.environ if env is None else env)}
        self._tell([self.args, str(Path(str(cwd)).resolve()), environment])
        self.pid = int(self._line.readline())

    def _tell(self, order: object) -> None:
        self._line.write(json.dumps(order) + "\n")
        self._line.flush()

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code, or minus the number of the signal that ended it."""
        self._socket.settimeout(timeout)
        self._tell("wait")  # until then, its number is nobody else's
        code = int(self._line.readline())
        self._line.close()
        self._socket.close()
        return code

    @property
    def stdout(self) -> str:
        """Its output so far."""
        return _read(self._out)

    @property
    def stderr(self) -> str:
        """Its error stream so far."""
        return _read(self._err)


def _read(file: Any) -> str:
    size = os.fstat(file.fileno()).st_size
    return os.pread(file.fileno(), size, 0).decode("utf-8", errors="replace")


def run(
    arguments: Sequence[object],
    cwd: object = ".",
    env: Mapping[str, str] | None = None,
    timeout: float = 300,
) -> subprocess.CompletedProcess[str]:
    """Run ``python ARGUMENTS...`` in a fork to its end."""
    process = Process(arguments, cwd, env)
    code = process.wait(timeout)
    return subprocess.CompletedProcess(process.args, code, process.stdout, process.stderr)


def launch(code: Sequence[object], count: int = 2, **environment: str) -> list[str]:
    """Run ``python CODE...`` in each of several processes, as torchrun or accelerate would start
    them; return their error streams, once all ended well.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = [
        Process(
            code,
            cwd=ROOT,
            env=os.environ
            | {
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(count),
                "LOCAL_WORLD_SIZE": str(count),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "ACCELERATE_USE_CPU": "true",
                "OMP_NUM_THREADS": "1",
                "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
            }
            | environment,
        )
        for rank in range(count)
    ]
    # Long enough to compile on a busy machine.
    codes = [process.wait(timeout=600) for process in started]
    assert codes == [0] * count, [(p.stdout, p.stderr) for p in started]
    return [process.stderr for process in started]


class Server:
    """Runs ``soar-bench`` commands one after another, each in a fork."""

    def __init__(self, place: Path) -> None:
        self._environment = {
            **os.environ,
            "SOAR_BENCH_HOME": str(place / "home"),
            "COLUMNS": "200",
        }
        #: what the last command printed, both streams
        self.printed = ""

    def run(
        self,
        *arguments: object,
        cwd: object = ".",
        kill_after: float | None = None,
        by: int = signal.SIGKILL,
    ) -> int:
        """Run a command in the folder ``cwd`` and return its exit code.

        With ``kill_after``, the signal ``by`` is sent after so many seconds; the code is then minus
        the signal's number if the signal ended the command.
        """
        command = ["-m", "soar_bench", *arguments]
        process = Process(command, cwd, self._environment, merged=True)
        if kill_after is not None:
            time.sleep(kill_after)
            os.kill(process.pid, by)
        code = process.wait()
        self.printed = process.stdout
        return code


@contextmanager
def serve(place: Path) -> Iterator[Server]:
    """A server whose commands compute on one thread and keep what they remember in ``place``."""
    yield Server(place)


# ---- the process that forks ------------------------------------------------------------------


@cache
def _master() -> socket.socket:
    """Start the process that forks; it ends when the socket to it is closed."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, __file__], stdin=theirs, stdout=subprocess.DEVNULL, env=_ENVIRONMENT
        )
    atexit.register(process.wait, timeout=60)
    atexit.register(ours.close)  # which comes first
    assert ours.recv(1) == b".", "the process that forks did not start"
    return ours


#: What commands and trainings import; a signal on the way would break it.
_MODULES = """
    diffusers.guiders diffusers.pipelines.onnx_utils pandas peft pyarrow.dataset pyarrow.parquet
    rich.progress scipy.stats tensorboard.summary.writer torch.distributed.fsdp
    torch.utils.tensorboard
    evaluators.geneval.shapes evaluators.scorer evaluators.shapes.clipscore
    soar_bench.boards soar_bench.cli.commands soar_bench.cli.compare soar_bench.cli.evaluate
    soar_bench.cli.train soar_bench.evaluation soar_bench.output soar_bench.sampling.generate
    soar_bench.sampling.sampler soar_bench.trainer.run soar_bench.trainer.watch
    training.encoders training.loop
""".split()


def _import() -> None:
    """Import what takes long, and compute nothing of it."""
    from soar_bench.core.torchvision import mend_torchvision

    mend_torchvision()
    import diffusers
    import transformers

    for name in _MODULES:
        import_module(name)
    for name in ("AutoencoderKL", "SD3Transformer2DModel", "StableDiffusion3Pipeline"):
        getattr(diffusers, name)
    for name in ("CLIPModel", "CLIPTextModelWithProjection", "T5EncoderModel"):
        getattr(transformers, name)


def _serve() -> NoReturn:
    sys.path[:1] = ["", str(ROOT), str(ROOT / "tests")]  # the first is a fork's own
    _import()
    gc.collect()
    gc.freeze()  # what is never collected stays shared with the forks
    control = socket.socket(fileno=os.dup(0))
    control.send(b".")
    while True:
        message, streams, *_ = socket.recv_fds(control, 1, 3)
        if not message:
            os._exit(0)
        if os.fork() == 0:
            try:
                control.close()
                _keep(*streams)
            finally:  # also where whoever asked for it has gone
                os._exit(1)
        for stream in streams:
            os.close(stream)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _keep(connection: int, out: int, err: int) -> NoReturn:
    """Fork the process, and tell of its number and its end."""
    with socket.socket(fileno=connection) as line, line.makefile("rw") as told:
        arguments, folder, environment = json.loads(told.readline())
        child = os.fork()
        if child == 0:
            for stream, number in ((os.open(os.devnull, os.O_RDONLY), 0), (out, 1), (err, 2)):
                os.dup2(stream, number)
                os.close(stream)
            os.close(connection)
            os.chdir(folder)
            os.environ.clear()
            os.environ.update(environment)
            _become(arguments)
        told.write(f"{child}\n")
        told.flush()
        if not told.readline():  # whoever asked for it has gone
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        told.write(f"{os.waitstatus_to_exitcode(status)}\n")
        told.flush()
    os._exit(0)


def _become(arguments: list[str]) -> NoReturn:
    """Run as ``python ARGUMENTS...`` and end."""
    sys.stdin = os.fdopen(0)
    code = 1
    try:
        first, *rest = arguments
        sys.path[:1] = [str(Path(first).parent) if first[0] != "-" else ""]
        sys.path[1:1] = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
        if first == "-c":
            sys.argv = ["-c", *rest[1:]]
            main = sys.modules["__main__"] = types.ModuleType("__main__")
            exec(compile(rest[0], "<string>", "exec"), main.__dict__)
        elif first == "-m":
            sys.argv = rest
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        else:
            sys.argv = arguments
            runpy.run_path(first, run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
