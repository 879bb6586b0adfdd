"""Threads of others among the workers: they take places for calls, and are waited for."""

from __future__ import annotations

import threading
from functools import partial
from typing import Callable

import pytest

from tests.runtime.test_dispatch import Gate, no_threads
from tests.support import PATIENCE, Recorder, Thread, wait_event, wait_until
from wse_sync.workers import Workers


def test_a_thread_of_others_takes_a_place_among_the_calls() -> None:
    workers, ran = Workers(2), Recorder()
    assert workers.enter()
    assert workers.enter()
    assert not workers.enter()
    workers.call(lambda: ran.add("waits"))
    assert ran.items == []
    workers.leave()
    ran.wait_for(1)
    workers.leave()
    assert workers.join(PATIENCE)


def test_a_place_that_was_given_back_can_be_taken_again() -> None:
    workers = Workers(1)
    for _ in range(5):
        assert workers.enter()
        workers.leave()
    ran = threading.Event()
    workers.call(ran.set)
    wait_event(ran)
    assert workers.join(PATIENCE)


def test_there_is_no_place_while_calls_run() -> None:
    workers, gate = Workers(1), Gate()
    workers.call(gate)
    gate.wait_entered()
    assert not workers.enter()
    gate.open()
    assert workers.join(PATIENCE)
    assert workers.enter()


def test_a_place_goes_to_the_call_that_has_waited_longest() -> None:
    workers, ran = Workers(1), Recorder()

    def call(number: int) -> None:
        ran.add((number, workers.enter()))

    assert workers.enter()
    for number in range(3):
        workers.call(partial(call, number))
    workers.leave()
    assert ran.wait_for(3) == [(0, False), (1, False), (2, False)]
    assert workers.join(PATIENCE)


def test_19_a_thread_of_others_gives_its_place_away_while_it_waits() -> None:
    workers, other = Workers(1), threading.Event()
    assert workers.enter()
    workers.call(other.set)
    workers.wait(lambda: wait_event(other, "the call that had no place"))
    workers.leave()
    gates = [Gate(), Gate()]
    for gate in gates:
        workers.call(gate)
    gates[0].wait_entered()
    assert not gates[1].entered.is_set()
    for gate in gates:
        gate.open()
    assert workers.join(PATIENCE)


def test_a_thread_without_a_place_gives_none_away() -> None:
    workers, gate = Workers(1), Gate()
    assert workers.enter()
    workers.leave()
    workers.call(gate)
    gate.wait_entered()
    ran = Recorder()
    workers.call(lambda: ran.add("behind it"))
    workers.wait(lambda: None)
    assert ran.items == []
    gate.open()
    ran.wait_for(1)
    assert workers.join(PATIENCE)


def test_without_a_thread_no_call_is_lost_when_a_place_is_given_back() -> None:
    workers, ran = Workers(1), Recorder()
    assert workers.enter()
    workers.call(lambda: ran.add("waits"))
    with no_threads():
        workers.leave()
    workers.call(lambda: ran.add("later"))
    assert sorted(ran.wait_for(2)) == ["later", "waits"]
    assert workers.join(PATIENCE)
    assert workers.enter()


def test_without_a_thread_a_call_that_waits_for_the_same_place_is_not_lost() -> None:
    workers, ran = Workers(1), Recorder()

    def refuse(task: object) -> None:
        # Each time just then another one comes, and has to wait.
        Thread(lambda: workers.call(lambda: ran.add("waits"))).result()
        raise RuntimeError("can't start new thread")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "run", refuse)
        with pytest.raises(RuntimeError):
            workers.call(lambda: ran.add("refused"))
    assert ran.items == ["waits"] * 2
    assert workers.enter()
    workers.leave()


def test_45_somebody_is_busy_while_a_place_changes_hands() -> None:
    """Or the end of a server would not wait for the call that gets it."""
    workers, ran, busy = Workers(1), Recorder(), Recorder()

    def run(task: Callable[[], None]) -> None:
        busy.add(workers.is_busy)
        workers_run(task)

    workers_run = workers.run
    assert workers.enter()
    workers.call(lambda: ran.add("waits"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "run", run)
        workers.leave()
    assert busy.items == [True]
    ran.wait_for(1)
    assert workers.join(PATIENCE)
    assert not workers.is_busy


def test_45_a_thread_of_others_is_waited_for_until_it_is_released() -> None:
    workers, gate = Workers(1), Gate()
    adopted = Thread(gate)
    workers.adopt(adopted)
    assert not workers.join(0.01)
    joining = Thread(lambda: workers.join(PATIENCE))
    workers.release(adopted)
    assert joining.result()
    assert adopted.is_alive()
    gate.open()
    adopted.result()


def test_45_a_thread_of_others_that_has_ended_is_waited_for_no_more() -> None:
    workers, gate = Workers(1), Gate()

    def run() -> None:
        gate()
        workers.release(threading.current_thread())

    workers.adopt(Thread(run))
    joining = Thread(lambda: workers.join(PATIENCE))
    gate.open()
    assert joining.result()


def test_a_thread_of_others_does_not_wait_for_itself() -> None:
    workers = Workers(1)
    workers.adopt(threading.current_thread())
    assert workers.join(PATIENCE)
    workers.release(threading.current_thread())


def test_a_thread_may_be_released_that_was_not_adopted() -> None:
    workers = Workers(1)
    workers.release(threading.current_thread())
    assert workers.join(PATIENCE)


def test_what_runs_can_be_seen() -> None:
    workers, gate = Workers(1), Gate()
    assert workers.running() == {}
    workers.run(gate)
    gate.wait_entered()
    [(thread, task)] = workers.running().items()
    assert thread.name.startswith("wse-worker-")
    assert task is gate
    workers.adopt(threading.current_thread())
    assert workers.running() == {thread: gate, threading.current_thread(): None}
    workers.release(threading.current_thread())
    gate.open()
    wait_until(lambda: workers.running() == {}, "the worker is idle")
    assert workers.join(PATIENCE)
