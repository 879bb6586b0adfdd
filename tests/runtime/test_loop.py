"""The background thread of the process: timers, and sockets that wait to be written to."""

from __future__ import annotations

import contextlib
import math
import random
import socket
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from tests.programs import Program
from tests.support import PATIENCE, Recorder, Thread, wait_event, wait_until
from wse_sync import clock
from wse_sync.loop import Loop

FAR = 3600.0


@contextlib.contextmanager
def paused(loop: Loop) -> Iterator[None]:
    """Keeps the loop busy, so that what is set meanwhile is all there when it looks."""
    busy, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        busy.set()
        go_on.wait(PATIENCE)

    loop.call_later(0.0, wait)
    wait_event(busy)
    try:
        yield
    finally:
        go_on.set()


def run_all(loop: Loop) -> None:
    """Waits until everything that is due has run."""
    done = threading.Event()
    loop.call_later(0.0, done.set)
    wait_event(done)


def full_socket() -> tuple[socket.socket, socket.socket]:
    """A socket that takes nothing more, and its other end."""
    here, there = socket.socketpair()
    here.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            here.send(b"x" * 65536)
    return here, there


def empty(sock: socket.socket) -> None:
    """Reads what there is."""
    sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while sock.recv(65536):
            continue


# Timers


def test_a_timer_runs_at_its_time_and_not_before(loop: Loop) -> None:
    ran = Recorder()
    deadline = clock.monotonic() + 0.05
    timer = loop.call_at(deadline, lambda: ran.add(clock.monotonic()))
    assert timer.deadline == deadline
    assert ran.wait_for(1)[0] >= deadline


def test_timers_run_in_the_order_of_their_deadlines(loop: Loop) -> None:
    numbers = list(range(200))
    random.Random(7).shuffle(numbers)
    ran = Recorder()
    now = clock.monotonic()
    with paused(loop):
        for number in numbers:
            loop.call_at(now + number / 1e6, partial(ran.add, number))
    assert ran.wait_for(200) == list(range(200))


def test_a_timer_runs_when_the_clock_was_moved_and_the_loop_was_told(loop: Loop) -> None:
    ran = Recorder()
    loop.call_later(FAR, lambda: ran.add("far"))
    loop.call_later(2 * FAR, lambda: ran.add("farther"))
    clock.advance(FAR)
    loop.look_again()
    assert ran.wait_for(1) == ["far"]
    clock.advance(FAR)
    loop.look_again()
    assert ran.wait_for(2) == ["far", "farther"]


def test_a_loop_without_a_thread_has_nothing_to_look_at(loop: Loop) -> None:
    loop.look_again()
    assert loop._thread is None
    assert loop.next_deadline() == math.inf


def test_the_next_deadline_is_that_of_the_first_timer_that_still_counts(loop: Loop) -> None:
    first, second = (loop.call_later(delay, lambda: None) for delay in (FAR, 2 * FAR))
    assert loop.next_deadline() == first.deadline
    first.cancel()
    assert loop.next_deadline() == second.deadline
    second.cancel()
    assert loop.next_deadline() == math.inf


def test_it_is_busy_while_a_timer_is_due_or_runs(loop: Loop) -> None:
    runs = loop.runs
    with paused(loop):
        assert loop.is_busy
        assert loop.runs == runs + 1
        loop.call_later(0.0, lambda: None)
    wait_until(lambda: not loop.is_busy)
    assert loop.runs == runs + 2
    far = loop.call_later(FAR, lambda: None)
    assert not loop.is_busy
    far.cancel()


def test_timers_of_one_deadline_run_in_the_order_in_which_they_were_set(loop: Loop) -> None:
    ran = Recorder()
    deadline = clock.monotonic()
    with paused(loop):
        for number in range(100):
            loop.call_at(deadline, partial(ran.add, number))
    assert ran.wait_for(100) == list(range(100))


def test_a_timer_that_comes_later_may_be_due_earlier(loop: Loop) -> None:
    """The thread sleeps until the first deadline that it knows of."""
    late = loop.call_later(FAR, lambda: None)
    ran = threading.Event()
    loop.call_later(0.01, ran.set)
    wait_event(ran)
    late.cancel()


def test_a_deadline_in_the_past_is_due_at_once(loop: Loop) -> None:
    ran = threading.Event()
    loop.call_at(clock.monotonic() - FAR, ran.set)
    wait_event(ran)


def test_a_callback_may_set_and_cancel_timers(loop: Loop) -> None:
    ran = Recorder()

    def first() -> None:
        other.cancel()
        loop.call_later(0.0, lambda: ran.add("second"))
        ran.add("first")

    with paused(loop):
        loop.call_later(0.0, first)
        other = loop.call_later(0.0, lambda: ran.add("never"))
    assert ran.wait_for(2) == ["first", "second"]
    run_all(loop)
    assert len(ran) == 2


def test_a_cancelled_timer_does_not_run(loop: Loop) -> None:
    ran = Recorder()
    with paused(loop):
        timer = loop.call_later(0.0, lambda: ran.add(1))
        timer.cancel()
        timer.cancel()
    run_all(loop)
    assert len(ran) == 0


def test_a_timer_may_be_cancelled_when_it_has_run(loop: Loop) -> None:
    ran = threading.Event()
    timer = loop.call_later(0.0, ran.set)
    wait_event(ran)
    timer.cancel()
    run_all(loop)


def test_cancelled_timers_do_not_pile_up(loop: Loop) -> None:
    """Each call sets one and takes it back; their deadlines are far away."""
    kept = loop.call_later(FAR, lambda: None)
    for _ in range(10_000):
        loop.call_later(FAR, lambda: None).cancel()
    assert len(loop._heap) < 500
    kept.cancel()


def test_a_callback_that_raises_is_logged_and_the_next_one_runs(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ValueError("broken")

    with paused(loop):
        loop.call_later(0.0, fail)
        ran = threading.Event()
        loop.call_later(0.0, ran.set)
    wait_event(ran)
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert record.exc_info is not None and isinstance(record.exc_info[1], ValueError)


def test_many_threads_may_set_and_cancel(loop: Loop) -> None:
    ran = Recorder()

    def use(thread: int) -> int:
        rng = random.Random(thread)
        kept = 0
        for number in range(500):
            timer = loop.call_later(rng.random() / 100, partial(ran.add, (thread, number)))
            if rng.random() < 0.5 and timer.deadline > clock.monotonic() + 0.005:
                timer.cancel()
            kept += 1
        return kept

    threads = [Thread(partial(use, thread)) for thread in range(4)]
    for thread in threads:
        thread.result()
    wait_until(lambda: not loop._live)
    run_all(loop)
    assert len(ran.items) == len(set(ran.items)) <= 2000


# Sockets


def test_a_watched_socket_is_flushed_when_it_can_take_bytes(loop: Loop) -> None:
    here, there = full_socket()
    with here, there:
        flushed = Recorder()

        def flush() -> None:
            loop.unwatch(here)
            flushed.add("here")

        loop.watch(here, flush)
        run_all(loop)
        assert len(flushed) == 0
        empty(there)
        assert flushed.wait_for(1) == ["here"]
        run_all(loop)
        assert len(flushed) == 1


def test_it_is_flushed_again_and_again_until_it_is_unwatched(loop: Loop) -> None:
    here, there = socket.socketpair()
    with here, there:
        flushed = Recorder()
        loop.watch(here, lambda: flushed.add(1))
        flushed.wait_for(5)
        loop.unwatch(here)
        loop.unwatch(here)
        run_all(loop)
        count = len(flushed)
        run_all(loop)
        assert len(flushed) == count


def test_one_full_socket_delays_no_other(loop: Loop) -> None:
    with contextlib.ExitStack() as stack:
        slow, fast = full_socket(), full_socket()
        for sock in (*slow, *fast):
            stack.enter_context(sock)
        flushed = Recorder()
        loop.watch(slow[0], lambda: flushed.add("slow"))

        def flush() -> None:
            loop.unwatch(fast[0])
            flushed.add("fast")

        loop.watch(fast[0], flush)
        empty(fast[1])
        assert flushed.wait_for(1) == ["fast"]
        loop.unwatch(slow[0])


def test_watching_twice_is_watching_once(loop: Loop) -> None:
    here, there = full_socket()
    with here, there:
        loop.watch(here, lambda: None)
        loop.watch(here, lambda: None)
        loop.unwatch(here)
        loop.rest(PATIENCE)


def test_a_flush_that_raises_is_logged_and_others_go_on(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    here, there = socket.socketpair()
    with here, there:

        def fail() -> None:
            loop.unwatch(here)
            raise ValueError("broken")

        loop.watch(here, fail)
        wait_until(lambda: caplog.records)
        run_all(loop)
        assert len(caplog.records) == 1


def test_a_socket_whose_other_end_is_gone_is_flushed(loop: Loop) -> None:
    """Its owner learns of it by trying to send."""
    here, there = full_socket()
    with here:
        flushed = threading.Event()

        def flush() -> None:
            loop.unwatch(here)
            flushed.set()

        loop.watch(here, flush)
        there.close()
        wait_event(flushed)


# The thread


def loop_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "wse-loop"]


def test_nothing_runs_before_there_is_something_to_do(loop: Loop) -> None:
    assert loop_threads() == []
    loop.rest(PATIENCE)


def test_its_one_thread_is_a_daemon(loop: Loop) -> None:
    timers = [loop.call_later(FAR, lambda: None) for _ in range(10)]
    (thread,) = loop_threads()
    assert thread.daemon
    for timer in timers:
        timer.cancel()


def test_the_thread_ends_when_there_is_nothing_to_do_and_starts_again(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wse_sync.loop._LINGER", 0.01)
    for _ in range(5):
        run_all(loop)
        wait_until(lambda: not loop_threads())


def test_the_thread_lingers_for_a_busy_program(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wse_sync.loop._LINGER", FAR)  # however long the test is held up
    run_all(loop)
    threads = loop_threads()
    for _ in range(20):
        run_all(loop)
        assert loop_threads() == threads


def test_rest_waits_for_the_end_of_an_idle_thread(loop: Loop) -> None:
    for _ in range(50):
        run_all(loop)
        loop.rest(PATIENCE)
        assert loop_threads() == []


def test_45_rest_waits_for_a_thread_that_has_done_its_work(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has given up its place, and the system holds it up before it ends."""
    monkeypatch.setattr("wse_sync.loop._LINGER", 0.01)
    go, end_after = threading.Event(), Loop._end_after

    def end_late(*arguments: Any) -> bool:
        ends = end_after(*arguments)
        if ends:
            wait_event(go)
        return ends

    monkeypatch.setattr(Loop, "_end_after", end_late)
    run_all(loop)
    wait_until(lambda: loop._thread is None)
    loop.rest(0.01)
    assert len(loop_threads()) == 1
    resting = Thread(lambda: loop.rest(PATIENCE))
    resting.join(0.05)
    assert resting.is_alive()
    go.set()
    resting.result()
    assert loop_threads() == []


def test_rest_does_not_wait_while_there_is_something_to_do(loop: Loop) -> None:
    timer = loop.call_later(FAR, lambda: None)
    Thread(lambda: loop.rest(FAR)).result()
    timer.cancel()
    here, there = full_socket()
    with here, there:
        loop.watch(here, lambda: None)
        Thread(lambda: loop.rest(FAR)).result()
        loop.unwatch(here)


@pytest.mark.parametrize("miscounted", [-1, 0, 1])
def test_45_the_thread_ends_soon_after_the_last_timer_was_cancelled(
    loop: Loop, miscounted: int
) -> None:
    """Not at the time when that would have run, which may be long after."""
    timers = [loop.call_later(FAR, lambda: None) for _ in range(3)]
    loop._live += miscounted  # Ctrl-C came in the middle of a step
    thread = loop._thread
    assert thread is not None
    wait_until(lambda: loop._wakes_at > clock.monotonic() + FAR / 2, "it sleeps until then")
    for timer in timers:
        assert thread.is_alive()
        timer.cancel()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_rest_in_the_thread_itself_returns(loop: Loop) -> None:
    rested = threading.Event()

    def rest() -> None:
        loop.rest(FAR)
        rested.set()

    loop.call_later(0.0, rest)
    wait_event(rested)


def test_rest_and_new_timers_do_not_get_in_each_others_way(loop: Loop) -> None:
    """What is set while the thread is about to end runs all the same."""
    ran = Recorder()
    ended = threading.Event()

    def rest() -> None:
        while not ended.is_set():
            loop.rest(PATIENCE)

    resting = [Thread(rest) for _ in range(2)]
    for number in range(300):
        loop.call_later(0.0, partial(ran.add, number))
        ran.wait_for(number + 1)
    ended.set()
    for thread in resting:
        thread.result()
    assert ran.items == list(range(300))


def test_cancelling_the_last_timer_lets_the_thread_end(loop: Loop) -> None:
    loop.call_later(FAR, lambda: None).cancel()
    loop.rest(PATIENCE)
    assert loop_threads() == []


# Forks


FORK = """
import os, threading
from wse_sync.loop import loop

def run_all():
    done = threading.Event()
    loop.call_later(0.0, done.set)
    assert done.wait(10)

run_all()
before = loop.call_later(3600.0, lambda: None)
child = os.fork()
if child == 0:
    run_all()
    before.cancel()
    loop.rest(10)
    left = [thread.name for thread in threading.enumerate() if thread.name == "wse-loop"]
    run_all()
    print("child", left, flush=True)
    os._exit(0)
_, status = os.waitpid(child, 0)
run_all()
before.cancel()
loop.rest(10)
left = [thread.name for thread in threading.enumerate() if thread.name == "wse-loop"]
print("parent", status, left)
"""


def test_a_child_of_a_fork_has_a_loop_of_its_own() -> None:
    """The thread is not forked; the locks and timers of the parent are not the child's."""
    with Program(FORK) as program:
        assert program.line() == "child []"
        assert program.line() == "parent 0 []"
        status, _, _ = program.end()
        assert status == 0


FORK_WHILE_LOCKED = """
import os, threading
from wse_sync.loop import loop

stop = threading.Event()
def hammer():
    while not stop.is_set():
        loop.call_later(3600.0, lambda: None).cancel()
thread = threading.Thread(target=hammer)
thread.start()
for _ in range(20):
    child = os.fork()
    if child == 0:
        done = threading.Event()
        loop.call_later(0.0, done.set)
        os._exit(0 if done.wait(10) else 1)
    assert os.waitpid(child, 0)[1] == 0
stop.set()
thread.join()
print("fine")
"""


def test_a_fork_in_the_middle_of_things_leaves_no_lock_behind() -> None:
    with Program(FORK_WHILE_LOCKED) as program:
        assert program.line() == "fine"
        status, _, _ = program.end()
        assert status == 0
