"""Work in processes: answers, order, and what goes wrong."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
import time
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import pytest

from evaluators import pool
from evaluators.pool import Pool, processes
from evaluators.types import EvaluatorError


def work(item):
    """Doubles a number; names of faults have them."""
    if item == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if item == "exit":
        sys.exit(0)
    if item == "sentence":
        raise EvaluatorError("the picture is torn")
    if item == "pid":
        return os.getpid()
    if item == "threads":
        return os.environ["OMP_NUM_THREADS"], os.environ["OPENCV_FOR_THREADS_NUM"]
    return item * 2 if isinstance(item, int) else 1 / 0


def make(log: Path | None = None):
    """Gives ``work``, and leaves a line in a file each time it is called."""
    if log is not None:
        with log.open("a", encoding="utf-8") as stream:
            stream.write(f"{os.getpid()}\n")
    return work


def make_nothing():
    raise EvaluatorError("the engine needs fuel")


def names(items):
    return [f"item {i}" for i in range(len(items))]


def run(some_pool, items):
    return some_pool.map(items, names(items))


def test_little_work_is_done_in_this_process(monkeypatch):
    monkeypatch.setenv("SOAR_BENCH_PROCESSES", "8")
    assert run(Pool(make, "the work"), ["pid"] * 7) == [os.getpid()] * 7


def test_one_process_is_this_one(monkeypatch):
    monkeypatch.setenv("SOAR_BENCH_PROCESSES", "1")
    assert run(Pool(make, "the work"), ["pid"] * 50) == [os.getpid()] * 50


def test_nothing_to_do_loads_nothing(tmp_path):
    log = tmp_path / "log"
    assert run(Pool(partial(make, log), "the work"), []) == []
    assert not log.exists()


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("sentence", "the picture is torn"),
        ("unknown", "ZeroDivisionError"),
        ("exit", "SystemExit"),  # never an end in silence
    ],
)
def test_a_failure_names_its_item(item, message):
    with pytest.raises(EvaluatorError, match=f"the work failed on item 1: .*{message}"):
        run(Pool(make, "the work"), [1, item, 2])


def test_a_failure_to_load_is_said_as_it_is():
    with pytest.raises(EvaluatorError, match=r"^the engine needs fuel$"):
        run(Pool(make_nothing, "the work"), [1])


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def all_end(pids, seconds=120.0):
    end = time.monotonic() + seconds
    while any(alive(pid) for pid in pids) and time.monotonic() < end:
        time.sleep(0.05)
    return not any(alive(pid) for pid in pids)


def test_a_pool_of_processes_from_start_to_end(monkeypatch, tmp_path):
    """One test, because starting processes takes seconds."""
    monkeypatch.setenv("SOAR_BENCH_PROCESSES", "2")
    log = tmp_path / "log"
    shared = Pool(partial(make, log), "the work")

    assert run(shared, list(range(40))) == [2 * i for i in range(40)]
    pids = set(run(shared, ["pid"] * 40))
    assert os.getpid() not in pids
    assert set(run(shared, ["threads"] * 8)) == {("1", "1")}
    assert run(shared, [5]) == [10]  # now that there are processes, they do little work too
    loaded = log.read_text("utf-8").split()
    assert len(loaded) == len(set(loaded)) <= 2, "each process loads once"
    assert pids <= {int(pid) for pid in loaded}

    for item, message in (("sentence", "the picture is torn"), ("exit", "SystemExit")):
        with pytest.raises(EvaluatorError, match=f"the work failed on item 2: .*{message}"):
            run(shared, [1, 2, item, *range(20)])

    with pytest.raises(
        EvaluatorError, match=r"a process of the work died .*SOAR_BENCH_PROCESSES to a smaller"
    ):
        run(shared, ["kill", *range(20)])
    assert run(shared, list(range(20))) == [2 * i for i in range(20)]  # it goes on

    workers = {int(pid) for pid in log.read_text("utf-8").split()}
    del shared
    gc.collect()
    assert all_end(workers), "processes end with their pool"


def test_processes_end_with_the_program(tmp_path):
    script = tmp_path / "script.py"
    log = tmp_path / "log"
    script.write_text(
        textwrap.dedent(
            f"""
            import sys
            from functools import partial
            from pathlib import Path
            sys.path.insert(0, {str(Path(__file__).parent)!r})
            from evaluators.pool import Pool
            from test_pool import make
            if __name__ == "__main__":
                kept = Pool(partial(make, Path({str(log)!r})), "the work")
                print(kept.map(list(range(8)), [""] * 8))
            """
        ),
        encoding="utf-8",
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "SOAR_BENCH_PROCESSES": "2"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, str([2 * i for i in range(8)]))
    assert not done.stderr
    assert all_end({int(pid) for pid in log.read_text("utf-8").split()})


def test_the_number_of_processes_is_what_the_user_says(monkeypatch):
    monkeypatch.setenv("SOAR_BENCH_PROCESSES", "5")
    assert processes(memory_each=1 << 60) == 5


@pytest.mark.parametrize("named", ["0", "-2", "two", "1.5"])
def test_a_number_of_processes_that_is_none_is_refused(monkeypatch, named):
    monkeypatch.setenv("SOAR_BENCH_PROCESSES", named)
    with pytest.raises(EvaluatorError, match="SOAR_BENCH_PROCESSES must be a whole number from 1"):
        processes()


@pytest.mark.parametrize(
    ("cpus", "free", "expected"),
    [(4, None, 4), (4, 100, 4), (4, 25, 2), (4, 3, 1), (1, 100, 1)],
)
def test_processes_are_bounded_by_processors_and_memory(monkeypatch, cpus, free, expected):
    monkeypatch.delenv("SOAR_BENCH_PROCESSES", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(cpus)), raising=False)
    monkeypatch.setattr(pool, "_free_memory", lambda: free)
    assert processes(memory_each=10) == expected


def test_free_memory_is_read_from_the_system(tmp_path):
    file = tmp_path / "meminfo"
    file.write_text("MemTotal:  100 kB\nMemFree: 7 kB\nMemAvailable:   42 kB\n", encoding="ascii")
    assert pool._free_memory(file) == 42 * 1024
    file.write_text("MemTotal:  100 kB\n", encoding="ascii")
    assert pool._free_memory(file) is None
    assert pool._free_memory(tmp_path / "absent") is None


def _length(text: str) -> int:
    return len(text)


def _make_length():
    return _length


_kept = []


def _use_a_pool_and_end(answers) -> None:
    pool = Pool(_make_length, "counting")
    _kept.append(pool)  # not collected before this process ends
    answers.put(pool.map(["a", "bb"] * 8, ["word"] * 16))


def test_a_process_of_multiprocessing_ends_although_it_keeps_a_pool(monkeypatch):
    monkeypatch.setenv("SOAR_BENCH_PROCESSES", "2")
    context = get_context("spawn")
    answers = context.SimpleQueue()
    process = context.Process(target=_use_a_pool_and_end, args=(answers,))
    process.start()
    assert answers.get() == [1, 2] * 8
    process.join(240)
    assert process.exitcode == 0


def run_script(folder, text):
    """Run a script in a process of its own, which may start two; return what became of it."""
    (folder / "script.py").write_text(text)
    root = str(Path(__file__).parents[2])
    variables = {**os.environ, "PYTHONPATH": root, "SOAR_BENCH_PROCESSES": "2"}
    return subprocess.run(
        [sys.executable, "script.py"], cwd=folder, env=variables, capture_output=True, text=True,
        timeout=240, check=False,
    )  # fmt: skip


def test_a_script_without_a_main_guard_is_run_once(tmp_path):
    """Processes that are started do not run the script again, which would start more of them."""
    (tmp_path / "engine.py").write_text(
        "def make():\n    import os\n    return lambda item: os.getpid()\n"
    )
    done = run_script(
        tmp_path,
        "import os\nfrom evaluators.pool import Pool\nfrom engine import make\n"
        "print('began')\n"
        "pids = Pool(make, 'the work').map(list(range(32)), [str(i) for i in range(32)])\n"
        "assert os.getpid() not in pids\nprint('ended')\n",
    )
    assert (done.returncode, done.stdout) == (0, "began\nended\n"), done.stderr


def test_work_of_the_script_itself_still_needs_its_guard(tmp_path):
    done = run_script(
        tmp_path,
        "import os\nfrom evaluators.pool import Pool\n"
        "def work(item):\n    return item + 1\n"
        "def make():\n    return work\n"
        "if __name__ == '__main__':\n"
        "    print(Pool(make, 'the work').map(list(range(8)), ['x'] * 8))\n",
    )
    assert done.stdout == "[1, 2, 3, 4, 5, 6, 7, 8]\n", done.stderr
