"""The next step's draws are made while this one runs, and are the same."""

from __future__ import annotations

import threading

import pytest

from training.prefetch import Ahead


def test_the_next_is_made_while_this_one_runs():
    begun = [threading.Event() for _ in range(3)]
    threads = []

    def make(step):
        begun[step].set()
        threads.append(threading.current_thread().name)
        return 10 * step

    ahead = Ahead(3)
    for step in range(3):
        assert ahead(step, make) == 10 * step
        if step < 2:
            assert begun[step + 1].wait(10)  # before it is asked for
    assert threads[0] == threading.current_thread().name
    assert all(name.startswith("prefetch") for name in threads[1:])
    assert len(threads) == 3  # nothing after the last


def test_a_run_may_begin_anywhere_and_errors_come_at_their_step():
    def make(step):
        if step == 6:
            raise ValueError("gone")
        return step

    ahead = Ahead(9)
    assert ahead(5, make) == 5
    with pytest.raises(ValueError, match="gone"):
        ahead(6, make)
    assert ahead(7, make) == 7
