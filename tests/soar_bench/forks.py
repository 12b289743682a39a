"""Commands in processes of their own, forked from one that has done the imports.

A test can then start a real ``soar-bench`` dozens of times in seconds, and kill it anywhere.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

_SERVER = """
import json, os, sys
import diffusers, pandas, torch, transformers  # nothing of them is computed here: forks start clean
from diffusers import StableDiffusion3Pipeline
from transformers import CLIPTextModelWithProjection, CLIPModel, T5EncoderModel
import diffusers.pipelines.onnx_utils, peft  # else imported on the way, where a signal breaks it
import training.loop, training.encoders, soar_bench.trainer.watch
import soar_bench.evaluation, soar_bench.sampling.generate, soar_bench.sampling.sampler
import soar_bench.stats
from soar_bench.cli import main
print("ready", flush=True)
for line in sys.stdin:
    arguments, out, folder = json.loads(line)
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        file = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1); os.dup2(file, 2); os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdin = open(0)
        sys.argv = ["soar-bench", *arguments]
        code = 1
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            sys.stdout.flush(); sys.stderr.flush()
            os._exit(code)
    print(child, flush=True)
    sys.stdin.readline()  # until it is waited for, its number is nobody else's
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


class Server:
    """Runs ``soar-bench`` commands one after another, each in a fork."""

    def __init__(self, process: subprocess.Popen, place) -> None:
        self._process, self._place = process, place
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
        out = self._place / "printed.txt"
        self._tell(json.dumps([[str(a) for a in arguments], str(out.resolve()), str(cwd)]))
        child = int(self._process.stdout.readline())
        if kill_after is not None:
            time.sleep(kill_after)
            os.kill(child, by)
        self._tell("wait")
        code = int(self._process.stdout.readline())
        self.printed = out.read_text("utf-8", errors="replace")
        return code

    def _tell(self, line: str) -> None:
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()


@contextmanager
def serve(place, **environment: str) -> Iterator[Server]:
    """A server whose commands compute on one thread and keep what they remember in ``place``."""
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "SOAR_BENCH_HOME": str(place / "home"),
            "COLUMNS": "200",
            **environment,
        },
    )
    try:
        assert process.stdout.readline() == "ready\n"
        yield Server(process, place)
    finally:
        process.stdin.close()
        process.wait(timeout=60)
