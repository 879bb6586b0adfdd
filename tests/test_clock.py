"""The time of the library: what moves it, what follows it, and what it costs nobody else."""

from __future__ import annotations

import math
import os
import threading
import time

import pytest

from tests.programs import Program
from tests.support import PATIENCE, Recorder, Thread, wait_until
from wse_sync import clock

HOUR = 3600.0


class Waiter:
    """A thread that waits in the time of the library, with a condition of its own."""

    def __init__(self, timeout: float | None) -> None:
        self.changed = threading.Condition()
        self.happened = False
        self._thread = Thread(lambda: self._wait(timeout))
        wait_until(self._is_waiting)

    def _wait(self, timeout: float | None) -> bool:
        with self.changed:
            return clock.wait_for(self.changed, lambda: self.happened, timeout)

    def _is_waiting(self) -> bool:
        return any(changed is self.changed for _, changed in clock._waits.copy().values())

    @property
    def is_over(self) -> bool:
        return not self._thread.is_alive()

    def happen(self) -> bool:
        """What it waits for; says what the wait returned."""
        with self.changed:
            self.happened = True
            self.changed.notify_all()
        return self.result()

    def result(self) -> bool:
        return self._thread.result()


def test_advance_adds_to_the_monotonic_clock() -> None:
    before = clock.monotonic()
    clock.advance(HOUR)
    assert HOUR <= clock.monotonic() - before < HOUR + PATIENCE


def test_it_never_goes_back_whoever_looks_and_advances() -> None:
    looks = threading.Event()

    def look() -> bool:
        seen = [clock.monotonic()]
        while not looks.is_set():
            seen.append(clock.monotonic())
        return all(earlier <= later for earlier, later in zip(seen, seen[1:]))

    watchers = [Thread(look) for _ in range(2)]
    before = clock.monotonic()

    def move() -> None:
        for _ in range(500):
            clock.advance(1.0)

    movers = [Thread(move) for _ in range(2)]
    for mover in movers:
        mover.result()
    assert clock.monotonic() - before >= 1000.0
    looks.set()
    assert all(watcher.result() for watcher in watchers)


def test_a_wait_is_over_when_its_time_has_been_added() -> None:
    waiter = Waiter(HOUR)
    clock.advance(HOUR / 2)
    assert not waiter.is_over
    clock.advance(HOUR / 2)
    assert waiter.result() is False


def test_a_wait_is_over_when_its_condition_holds() -> None:
    assert Waiter(HOUR).happen() is True


@pytest.mark.parametrize("timeout", [0.0, HOUR, None])
def test_a_condition_that_holds_already_is_not_waited_for(timeout: float | None) -> None:
    changed = threading.Condition()
    with changed:
        assert clock.wait_for(changed, lambda: True, timeout)


def test_a_wait_ends_in_real_time_as_well() -> None:
    changed = threading.Condition()
    began = time.monotonic()
    with changed:
        assert not clock.wait_for(changed, lambda: False, 0.05)
    assert time.monotonic() - began >= 0.05


def test_a_wait_without_a_limit_goes_on_whatever_time_passes() -> None:
    waiter = Waiter(None)
    clock.advance(HOUR)
    assert not waiter.is_over
    assert waiter.happen() is True


def test_threads_that_wait_for_the_same_are_all_woken() -> None:
    first, second = Waiter(HOUR), Waiter(HOUR)
    clock.advance(HOUR)
    assert (first.result(), second.result()) == (False, False)


def test_next_wait_is_the_end_of_the_next_one_that_is_not_over() -> None:
    assert clock.next_wait() == math.inf
    late, early = Waiter(2 * HOUR), Waiter(HOUR)
    assert clock.next_wait() == pytest.approx(clock.monotonic() + HOUR, abs=PATIENCE)
    clock.advance(HOUR)
    early.result()
    assert clock.next_wait() == pytest.approx(clock.monotonic() + HOUR, abs=PATIENCE)
    late.happen()
    assert clock.next_wait() == math.inf


def test_a_wait_that_begins_while_time_is_added_is_not_overlooked() -> None:
    over = Recorder()
    for _ in range(50):
        changed = threading.Condition()

        def wait(changed: threading.Condition = changed) -> None:
            with changed:
                over.add(clock.wait_for(changed, lambda: False, HOUR))

        waiting = Thread(wait)
        while waiting.is_alive():
            clock.advance(HOUR)
            waiting.join(0.0001)
        waiting.result()
    assert over.items == [False] * 50


UNTOUCHED = """
import time
from wse_sync import clock
import wse_sync
assert clock.monotonic is time.monotonic
"""


def test_until_it_is_moved_it_is_that_of_the_system() -> None:
    with Program(UNTOUCHED) as program:
        assert program.end() == (0, [], [])


FORKED = """
import os, threading, time, warnings
from wse_sync import clock

warnings.simplefilter("ignore", DeprecationWarning)  # of fork() where there are threads
clock.advance(1000.0)
changed = threading.Condition()

def wait():
    with changed:
        clock.wait_for(changed, lambda: False, 50.0)

threading.Thread(target=wait, daemon=True).start()
while clock.next_wait() > clock.monotonic() + 100.0:
    time.sleep(0.001)
with changed, clock._lock:
    child = os.fork()
    if not child:
        before = time.monotonic()
        assert clock.monotonic() - before >= 1000.0
        assert clock.next_wait() == float("inf")
        clock.advance(1000.0)
        assert clock.monotonic() - before >= 2000.0
        os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_the_child_of_a_fork_goes_on_from_there_and_waits_for_nobody_of_its_parent() -> None:
    with Program(FORKED) as program:
        assert program.end() == (0, [], [])
