"""The open calls of one connection: each ends once, and one timer watches over their deadlines."""

from __future__ import annotations

import random
import threading
from contextlib import suppress
from functools import partial

import pytest

from tests.interrupts import ctrl_c
from tests.support import PATIENCE, Recorder, Thread, pass_time, wait_until
from wse_sync import WSE_ERROR, WseConnectionError, WseError, WseLookupError, WseTimeoutError, clock
from wse_sync.callers import Callers
from wse_sync.core.peer import Answer
from wse_sync.loop import loop as process_loop
from wse_sync.tally import Tally

NEVER = 3600.0


class Waiting:
    """Somebody who waits for an answer; keeps whatever it gets."""

    def __init__(self) -> None:
        self.stamp = ""
        self.got = Recorder()

    def set_result(self, result: object) -> None:
        self.got.add(result)

    def set_exception(self, exception: BaseException) -> None:
        self.got.add(exception)

    def error(self) -> WseError:
        """Waits for the error that ends the call."""
        (error,) = self.got.wait_for(1)
        assert isinstance(error, WseError)
        return error


@pytest.fixture
def callers() -> Callers:
    return Callers(Tally())


def enter(callers: Callers, name: str = "add", timeout: float | None = None) -> Waiting:
    """Opens a call whose deadline is so many seconds away."""
    reply = Waiting()
    reply.stamp = callers.new_stamp()
    deadline = None if timeout is None else clock.monotonic() + timeout
    callers.open(reply.stamp, name, clock.monotonic(), deadline, reply)
    return reply


def timers() -> int:
    """How many timers of the process are waiting."""
    return process_loop._live


# The table


def test_stamps_that_many_threads_make_are_unique(callers: Callers) -> None:
    made = [Thread(lambda: [callers.new_stamp() for _ in range(500)]) for _ in range(8)]
    assert len({stamp for thread in made for stamp in thread.result()}) == 4000


def test_a_call_is_open_until_it_is_answered(callers: Callers) -> None:
    reply = enter(callers)
    assert len(callers) == 1
    assert reply.stamp in callers
    callers.settle(Answer(reply.stamp, "result", failed=False))
    assert reply.got.items == ["result"]
    assert len(callers) == 0
    assert reply.stamp not in callers


def test_22_a_failure_is_an_error_of_the_code_that_came(callers: Callers) -> None:
    reply = enter(callers, "add")
    payload = {"code": WSE_ERROR.RP_NOT_REGISTERED, "message": "no such procedure"}
    callers.settle(Answer(reply.stamp, payload, failed=True))
    error = reply.error()
    assert isinstance(error, WseLookupError)
    assert (error.code, error.details) == (WSE_ERROR.RP_NOT_REGISTERED, {"rp": "add"})


def test_26_a_broken_failure_ends_the_call_too(callers: Callers) -> None:
    reply = enter(callers)
    callers.settle(Answer(reply.stamp, None, failed=True))
    assert reply.error().code == WSE_ERROR.RP_EXECUTION_FAILED


def test_an_answer_settles_the_call_with_its_stamp_and_no_other(callers: Callers) -> None:
    first, second = enter(callers), enter(callers)
    callers.settle(Answer(second.stamp, 2, failed=False))
    assert (first.got.items, second.got.items) == ([], [2])
    assert first.stamp in callers


@pytest.mark.parametrize("stamp", ["nobody", "", None, 1, ("a",)])
def test_23_an_answer_to_no_open_call_is_dropped(callers: Callers, stamp: object) -> None:
    reply = enter(callers)
    for failed in (False, True):
        callers.settle(Answer(stamp, "whatever", failed))
    assert len(callers) == 1
    assert len(reply.got) == 0


def test_of_two_answers_the_first_counts(callers: Callers) -> None:
    reply = enter(callers)
    callers.settle(Answer(reply.stamp, 1, failed=False))
    callers.settle(Answer(reply.stamp, 2, failed=False))
    assert reply.got.items == [1]


def test_29_a_call_is_forgotten_once_and_hears_nothing(callers: Callers) -> None:
    reply = enter(callers)
    assert callers.forget(reply.stamp)
    assert not callers.forget(reply.stamp)
    assert not callers.forget("nobody")
    callers.settle(Answer(reply.stamp, "late", failed=False))
    assert len(reply.got) == len(callers) == 0


def test_29_a_call_that_was_answered_cannot_be_forgotten(callers: Callers) -> None:
    reply = enter(callers)
    callers.settle(Answer(reply.stamp, "result", failed=False))
    assert not callers.forget(reply.stamp)


def test_24_all_calls_are_taken_out_and_end_with_the_link(callers: Callers) -> None:
    replies = [enter(callers, name, timeout) for name, timeout in (("a", None), ("b", NEVER))]
    calls = callers.take_all()
    assert len(callers) == 0
    callers.disconnect(calls, 4000, "jump")
    for name, reply in zip("ab", replies):
        error = reply.error()
        assert isinstance(error, WseConnectionError)
        assert error.code == WSE_ERROR.RP_DISCONNECT
        assert error.details == {"rp": name, "disconnected": [4000, "jump"]}
        assert "(4000 jump)" in str(error)
    assert callers.take_all() == []


def test_a_lost_link_without_a_reason_leaves_no_blank_for_it(callers: Callers) -> None:
    reply = enter(callers)
    callers.disconnect(callers.take_all(), 1006, "")
    assert "(1006)" in str(reply.error())


def test_24_those_that_are_kept_stay_open(callers: Callers) -> None:
    first, kept, last = enter(callers, "a"), enter(callers, "b"), enter(callers, "c")
    assert [call.name for call in callers.take_all({kept.stamp, "nobody"})] == ["a", "c"]
    assert kept.stamp in callers
    assert first.stamp not in callers and last.stamp not in callers
    callers.settle(Answer(kept.stamp, "result", failed=False))
    assert kept.got.items == ["result"]


# Deadlines


def test_23_a_call_ends_at_its_deadline(callers: Callers) -> None:
    reply = enter(callers, "slow", 0.01)
    error = reply.error()
    assert isinstance(error, WseTimeoutError)
    assert (error.code, error.details) == (WSE_ERROR.RP_TIMEOUT, {"rp": "slow"})
    assert len(callers) == 0
    callers.settle(Answer(reply.stamp, "late", failed=False))
    assert len(reply.got) == 1


def test_23_a_deadline_that_has_passed_already_ends_the_call(callers: Callers) -> None:
    assert enter(callers, timeout=-1.0).error().code == WSE_ERROR.RP_TIMEOUT


def test_23_each_call_ends_at_its_own_deadline(callers: Callers) -> None:
    """Also one that comes before those of the calls that are open already, or after."""
    patient, late = enter(callers), enter(callers, timeout=NEVER)
    for reply in (enter(callers, timeout=0.05), enter(callers, timeout=0.01)):
        assert reply.error().code == WSE_ERROR.RP_TIMEOUT
    assert enter(callers, timeout=0.01).error().code == WSE_ERROR.RP_TIMEOUT
    assert len(callers) == 2
    assert len(patient.got) == len(late.got) == 0
    assert timers() == 1
    callers.take_all()


def test_a_kept_call_keeps_its_deadline(callers: Callers) -> None:
    enter(callers)
    kept = enter(callers, timeout=0.05)
    callers.take_all({kept.stamp})
    assert kept.error().code == WSE_ERROR.RP_TIMEOUT


def test_one_timer_watches_over_all_calls(callers: Callers) -> None:
    assert timers() == 0
    enter(callers)
    assert timers() == 0  # it may take for ever
    for number in range(50):
        enter(callers, timeout=NEVER - number)
        enter(callers, timeout=NEVER + number)
    assert timers() == 1
    callers.take_all()


def test_the_timer_is_cancelled_when_the_last_call_is_forgotten(callers: Callers) -> None:
    first, last = enter(callers, timeout=NEVER), enter(callers, timeout=NEVER)
    callers.forget(first.stamp)
    assert timers() == 1
    callers.forget(last.stamp)
    assert timers() == 0


def test_the_timer_is_cancelled_when_all_calls_are_taken_out(callers: Callers) -> None:
    enter(callers, timeout=NEVER)
    kept = enter(callers, timeout=NEVER)
    callers.take_all({kept.stamp})
    assert timers() == 1
    callers.take_all()
    assert timers() == 0


def test_a_timer_that_was_cancelled_is_set_again(callers: Callers) -> None:
    callers.forget(enter(callers, timeout=NEVER).stamp)
    assert enter(callers, timeout=0.01).error().code == WSE_ERROR.RP_TIMEOUT
    wait_until(lambda: timers() == 0)
    assert enter(callers, timeout=0.01).error().code == WSE_ERROR.RP_TIMEOUT
    wait_until(lambda: timers() == 0)


@pytest.mark.parametrize("step", ["open", "forget"])
def test_29_ctrl_c_amid_a_step_leaves_no_call_without_its_deadline(step: str) -> None:
    place, came = 0, True
    while came:
        place += 1
        callers = Callers(Tally())
        call = enter(callers, timeout=NEVER)
        with ctrl_c(place) as has_come, suppress(KeyboardInterrupt):
            if step == "open":
                enter(callers, timeout=NEVER / 2)
            else:
                callers.forget(call.stamp)
        came = has_come()
        later = enter(callers, timeout=NEVER + 1)
        pass_time(NEVER + 1)
        assert later.error().code == WSE_ERROR.RP_TIMEOUT
        if step == "open":
            assert call.error().code == WSE_ERROR.RP_TIMEOUT
    assert place > 5


# At the same time


def test_every_call_ends_exactly_once_whoever_ends_it(callers: Callers) -> None:
    """Answers, cancellations, deadlines and lost links, all at once."""
    ends = Recorder()
    done = threading.Event()

    class Counting(Waiting):
        def set_result(self, result: object) -> None:
            ends.add(self.stamp)

        def set_exception(self, exception: BaseException) -> None:
            ends.add(self.stamp)

    def call_all(caller: int) -> list[str]:
        rng = random.Random(caller)
        stamps = []
        for _ in range(300):
            reply = Counting()
            reply.stamp = callers.new_stamp()
            stamps.append(reply.stamp)
            deadline = None if rng.random() < 0.3 else clock.monotonic() + rng.random() * 0.005
            callers.open(reply.stamp, "x", clock.monotonic(), deadline, reply)
            if rng.random() < 0.5:
                callers.settle(Answer(reply.stamp, "result", failed=False))
            elif rng.random() < 0.5 and callers.forget(reply.stamp):
                ends.add(reply.stamp)
        return stamps

    def lose_links() -> None:
        while not done.is_set():
            callers.disconnect(callers.take_all(), 1006, "")

    losing = Thread(lose_links)
    calling = [Thread(partial(call_all, caller)) for caller in range(4)]
    stamps = [stamp for thread in calling for stamp in thread.result(6 * PATIENCE)]
    done.set()
    losing.result()
    callers.disconnect(callers.take_all(), 1006, "")
    assert sorted(ends.wait_for(1200)) == sorted(stamps)
    wait_until(lambda: timers() == 0)


def test_settling_says_how_many_others_are_open(callers: Callers) -> None:
    first, second, third = (enter(callers) for _ in range(3))
    assert callers.settle(Answer(first.stamp, 1, False)) == 2
    assert callers.settle(Answer(second.stamp, {"code": "no"}, True)) == 1
    assert callers.settle(Answer(third.stamp, 1, False)) == 0


def test_settling_says_what_answers_no_open_call(callers: Callers) -> None:
    done = enter(callers)
    enter(callers)
    callers.settle(Answer(done.stamp, 1, False))
    assert callers.settle(Answer(done.stamp, 1, False)) == -1
    assert callers.settle(Answer("unknown", 1, False)) == -1
