"""Whose turn it is to read: the own thread serves or steps aside, stand-ins and callers read."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any, Callable

import pytest

from tests.interrupts import interrupted
from tests.runtime.test_dispatch import Gate, no_threads
from tests.support import PATIENCE, Recorder, Thread, wait_event, wait_until
from wse_sync import turn as turn_module
from wse_sync.loop import Timer
from wse_sync.loop import loop as process_loop
from wse_sync.transport.base import LinkLost
from wse_sync.turn import ANSWERS, Gift, Turn, _Watch
from wse_sync.workers import Workers

NEVER = 3600.0


class Desk:
    """A link that is nothing but its turn: what comes is put into ``incoming``."""

    def __init__(self, workers: Workers, *, may_serve: bool = True) -> None:
        self.turn = Turn(workers, self._stand_in, may_serve=may_serve)
        self.incoming: queue.Queue[Gift] = queue.Queue()
        self.stand_ins = Recorder()
        self.handled = Recorder()

    def _stand_in(self) -> None:
        self.stand_ins.add(threading.current_thread())
        while True:
            gift = self.incoming.get(timeout=PATIENCE)
            if self.turn.give_back(gift):
                return
            if isinstance(gift, LinkLost):
                self.turn.end()
                return
            self.handled.add(gift)

    def serve(self, task: Callable[[], Any]) -> Thread[None]:
        """The own thread, which serves a task and is done."""
        return Thread(lambda: self.turn.serve(task))

    def serve_and_come_back(self, task: Callable[[], Any]) -> Thread[Gift]:
        """The own thread, which serves a task that needs a stand-in, and waits for what comes."""

        def run() -> Gift:
            self.turn.serve(task)
            assert self.turn.is_away
            return self.turn.come_back()

        return Thread(run)

    def step_aside(self, is_over: Callable[[], bool] = lambda: False) -> Thread[bool]:
        """The own thread, which lets callers read, and says whether it may read itself."""
        self.turn.expect_calls()
        own = Thread(lambda: self.turn.step_aside(is_over))
        wait_until(lambda: self.is_free or not own.is_alive(), "it has stepped aside")
        return own

    @property
    def is_free(self) -> bool:
        """Whether nobody reads."""
        return self.turn._state is turn_module._FREE


@pytest.fixture
def desk(workers: Workers) -> Desk:
    return Desk(workers)


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Watch]:
    """A watch of this test only."""
    made = _Watch()
    monkeypatch.setattr(turn_module, "_watch", made)
    yield made
    made.rest()


@pytest.fixture
def blind(watch: _Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """The watch sees nothing."""
    monkeypatch.setattr(turn_module, "LOOK", NEVER)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The own thread does not come back by itself."""
    monkeypatch.setattr(turn_module, "GRACE", NEVER)


# The own thread serves


def test_a_call_is_served_by_the_thread_that_read_it(desk: Desk, blind: None) -> None:
    served: list[object] = []
    desk.turn.serve(lambda: served.append(threading.current_thread()))
    assert served == [threading.current_thread()]
    assert not desk.turn.is_away


def test_20_a_call_that_raises_is_logged_and_the_own_thread_goes_on(
    desk: Desk, blind: None, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise SystemExit("no")

    desk.turn.serve(fail)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    desk.turn.need_stand_in()
    assert not desk.turn.is_away


def test_only_whoever_may_serves(workers: Workers) -> None:
    assert Desk(workers).turn.may_serve
    assert not Desk(workers, may_serve=False).turn.may_serve


def test_nobody_stands_in_when_nothing_is_served(desk: Desk, blind: None) -> None:
    desk.turn.need_stand_in()
    desk.turn.serve(lambda: None)
    desk.turn.need_stand_in()
    assert not desk.turn.is_away
    assert desk.stand_ins.items == []


def test_19_a_call_that_blocks_gets_one_stand_in(desk: Desk, blind: None) -> None:
    gate = Gate()
    own = desk.serve_and_come_back(gate)
    gate.wait_entered()
    assert desk.turn.may_serve
    for _ in range(3):
        desk.turn.need_stand_in()
    assert desk.turn.is_away
    assert not desk.turn.may_serve
    desk.incoming.put("first")
    assert desk.handled.wait_for(1) == ["first"]
    gate.open()
    wait_until(lambda: desk.turn._serving is None, "the call is served")
    desk.incoming.put("second")
    assert own.result() == "second"
    assert desk.handled.items == ["first"]
    assert len(desk.stand_ins) == 1
    assert desk.turn.may_serve
    assert not desk.turn.is_away


def test_18_what_comes_while_a_call_is_served_is_handled_by_the_stand_in_in_order(
    desk: Desk, blind: None
) -> None:
    gate = Gate()
    own = desk.serve_and_come_back(gate)
    gate.wait_entered()
    desk.turn.need_stand_in()
    for number in range(100):
        desk.incoming.put(str(number))
    desk.handled.wait_for(100)
    gate.open()
    wait_until(lambda: desk.turn._serving is None, "the call is served")
    desk.incoming.put("100")
    assert [*desk.handled.items, own.result()] == [str(number) for number in range(101)]


def test_a_stand_in_is_needed_again_for_the_next_call(desk: Desk, blind: None) -> None:
    for round in range(1, 4):
        gate = Gate()
        own = desk.serve_and_come_back(gate)
        gate.wait_entered()
        desk.turn.need_stand_in()
        gate.open()
        wait_until(lambda: desk.turn._serving is None, "the call is served")
        desk.incoming.put("next")
        assert own.result() == "next"
        assert len(desk.stand_ins) == round


def test_the_end_of_a_link_is_given_back_like_a_message(desk: Desk, blind: None) -> None:
    gate, lost = Gate(), LinkLost(1006)
    own = desk.serve_and_come_back(gate)
    gate.wait_entered()
    desk.turn.need_stand_in()
    gate.open()
    wait_until(lambda: desk.turn._serving is None, "the call is served")
    desk.incoming.put(lost)
    assert own.result() is lost


def test_45_a_call_that_outlives_its_link_gets_no_other_stand_in(
    desk: Desk, watch: _Watch, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate()
    own = desk.serve_and_come_back(gate)
    desk.stand_ins.wait_for(1)
    desk.incoming.put(LinkLost(1006))
    wait_until(lambda: not desk.turn._wake.locked(), "the stand-in has seen the end")
    looks = [process_loop.call_later(0.0, watch._look) for _ in range(3)]
    wait_until(lambda: all(look.callback is None for look in looks), "the watch has looked")
    desk.turn.need_stand_in()
    assert not desk.turn.claim()
    gate.open()
    assert own.result() is None
    assert len(desk.stand_ins) == 1
    assert caplog.records == []


def test_without_a_thread_a_stand_in_comes_as_soon_as_there_is_one(desk: Desk, blind: None) -> None:
    gate = Gate()
    own = desk.serve_and_come_back(gate)
    gate.wait_entered()
    with no_threads():
        desk.turn.need_stand_in()
    assert not desk.turn.is_away
    desk.turn.need_stand_in()
    assert desk.turn.is_away
    gate.open()
    wait_until(lambda: desk.turn._serving is None, "the call is served")
    desk.incoming.put("next")
    assert own.result() == "next"


def test_45_workers_wait_for_a_call_that_the_own_thread_serves(desk: Desk, blind: None) -> None:
    gate = Gate()
    own = desk.serve_and_come_back(gate)
    gate.wait_entered()
    desk.turn.need_stand_in()
    desk.incoming.put(LinkLost(1006))
    wait_until(lambda: not desk.turn._wake.locked(), "the stand-in has seen the end")
    assert not desk.turn._workers.join(0.01)
    assert own in desk.turn._workers._guests
    gate.open()
    assert desk.turn._workers.join(PATIENCE)
    assert own.result() is None
    assert not desk.turn._workers._guests


def test_a_call_that_waits_for_an_answer_gets_a_stand_in_at_once(desk: Desk, blind: None) -> None:
    workers = desk.turn._workers
    gate = Gate()
    own = desk.serve_and_come_back(lambda: workers.wait(gate))
    gate.wait_entered()
    assert desk.turn.is_away
    gate.open()
    wait_until(lambda: desk.turn._serving is None, "the call is served")
    desk.incoming.put("next")
    assert own.result() == "next"


def test_a_thread_that_waits_elsewhere_needs_no_stand_in(desk: Desk, blind: None) -> None:
    workers, gate = desk.turn._workers, Gate()
    own = desk.serve(gate)
    gate.wait_entered()
    workers.wait(lambda: None)
    assert not desk.turn.is_away
    gate.open()
    own.result()
    workers.wait(lambda: None)
    assert not desk.turn.is_away


# The watch


class Clock:
    """Takes the place of the loop: timers go off when the test says so."""

    def __init__(self) -> None:
        self.timers: list[Timer] = []

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(process_loop, delay, callback)
        timer.epoch = object()  # cancel() has nothing to do there
        self.timers.append(timer)
        return timer

    def look(self) -> None:
        """The next timer goes off."""
        callback = self.timers.pop(0).callback
        assert callback is not None
        callback()


@pytest.fixture
def clock(watch: _Watch, monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(turn_module, "loop", made)
    return made


def test_21_a_call_that_the_watch_sees_twice_gets_a_stand_in(desk: Desk, clock: Clock) -> None:
    gate = Gate()
    own = desk.serve_and_come_back(gate)
    gate.wait_entered()
    clock.look()
    assert not desk.turn.is_away
    clock.look()
    assert desk.turn.is_away
    assert not clock.timers  # there is nothing more to look for
    assert len(desk.stand_ins.wait_for(1)) == 1
    gate.open()
    wait_until(lambda: desk.turn._serving is None, "the call is served")
    desk.incoming.put("next")
    assert own.result() == "next"


def test_one_quick_call_after_the_other_gets_no_stand_in(desk: Desk, clock: Clock) -> None:
    for _ in range(5):
        desk.turn.serve(clock.look)
    assert not desk.turn.is_away


def test_the_watch_looks_as_long_as_calls_are_served(desk: Desk, clock: Clock) -> None:
    for _ in range(3):
        desk.turn.serve(lambda: None)
        assert len(clock.timers) == 1
    clock.look()
    assert len(clock.timers) == 1  # there were calls since
    clock.look()
    assert clock.timers == []
    desk.turn.serve(lambda: None)
    assert len(clock.timers) == 1


def test_45_at_rest_the_watch_has_no_timer_and_keeps_nobody(
    desk: Desk, clock: Clock, watch: _Watch
) -> None:
    desk.turn.serve(clock.look)
    assert watch._timer is not None
    watch.rest()
    assert watch._timer is None
    assert desk.turn not in watch._seen
    assert desk.turn not in watch._served


def test_the_watch_does_not_rest_when_a_call_has_just_begun(
    desk: Desk, clock: Clock, watch: _Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is entered after rest() has looked, and finds a timer that is about to be cancelled."""
    gate = Gate()
    desk.turn.serve(lambda: None)
    assert watch._timer is not None

    def cancel(timer: Timer) -> None:
        own.append(desk.serve_and_come_back(gate))
        wait_until(lambda: desk.turn in watch._served, "the call is entered")

    own: list[Thread[Gift]] = []
    with monkeypatch.context() as patch:
        patch.setattr(Timer, "cancel", cancel)
        watch.rest()
    gate.wait_entered()
    assert watch._timer is not None
    for _ in range(3):
        clock.look()
    assert desk.turn.is_away
    gate.open()
    wait_until(lambda: desk.turn._serving is None, "the call is served")
    desk.incoming.put("next")
    assert own[0].result() == "next"


def test_the_watch_does_not_rest_while_a_call_is_served(
    desk: Desk, clock: Clock, watch: _Watch
) -> None:
    desk.turn.serve(watch.rest)
    assert watch._timer is not None
    watch.rest()
    assert watch._timer is None


def test_without_a_thread_the_watch_tries_again(desk: Desk, clock: Clock) -> None:
    gate = Gate()
    own = desk.serve_and_come_back(gate)
    gate.wait_entered()
    clock.look()
    with no_threads():
        clock.look()
        clock.look()
    assert not desk.turn.is_away
    clock.look()
    assert desk.turn.is_away
    gate.open()
    wait_until(lambda: desk.turn._serving is None, "the call is served")
    desk.incoming.put("next")
    assert own.result() == "next"


def test_the_watch_starts_afresh_in_the_child_of_a_fork(desk: Desk, clock: Clock) -> None:
    """The timer of the parent does not go off there."""
    desk.turn.serve(lambda: None)
    clock.timers.clear()
    turn_module._watch._lock.acquire()
    turn_module._watch._reset()
    desk.turn.serve(lambda: None)
    assert len(clock.timers) == 1


def test_a_watch_that_cannot_begin_leaves_the_thread_as_it_was(
    desk: Desk, watch: _Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no thread for the loop."""

    def fail(delay: float, callback: Callable[[], None]) -> Timer:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(process_loop, "call_later", fail)
        with pytest.raises(RuntimeError):
            desk.turn.serve(lambda: None)
    assert desk.turn._serving is None
    assert desk.turn._workers.here.turn is None
    assert watch._served == {}


# The own thread steps aside


def test_so_many_answers_in_a_row_tempt_the_own_thread(desk: Desk) -> None:
    for _ in range(ANSWERS - 1):
        desk.turn.count_answer(0)
        assert not desk.turn.is_tempted
    desk.turn.count_answer(0)
    assert desk.turn.is_tempted


@pytest.mark.parametrize("between", [lambda turn: turn.count_other(), lambda t: t.count_answer(1)])
def test_anything_else_between_the_answers_breaks_the_row(
    desk: Desk, between: Callable[[Turn], None]
) -> None:
    for _ in range(ANSWERS):
        desk.turn.count_answer(0)
    between(desk.turn)
    assert not desk.turn.is_tempted
    for _ in range(ANSWERS - 1):
        desk.turn.count_answer(0)
    assert not desk.turn.is_tempted


def test_nobody_takes_the_turn_of_the_own_thread(desk: Desk) -> None:
    assert not desk.turn.claim()
    desk.turn.abandon()
    desk.turn.recall()
    assert desk.turn.may_serve


def test_when_nobody_calls_the_own_thread_comes_back_by_itself(desk: Desk) -> None:
    for _ in range(ANSWERS):
        desk.turn.count_answer(0)
    desk.step_aside().result()
    assert not desk.turn.claim()
    assert not desk.turn.is_tempted


def test_one_caller_after_the_other_reads(desk: Desk, patient: None) -> None:
    own = desk.step_aside()
    for _ in range(3):
        assert desk.turn.claim()
        desk.turn.done()
        assert desk.is_free
    assert Thread(desk.turn.claim).result()
    desk.turn.recall()
    desk.turn.done()
    own.result()
    assert not desk.turn.claim()


def test_of_two_callers_one_reads_and_then_the_own_thread(desk: Desk, patient: None) -> None:
    """The answer to the other would wait for somebody to look."""
    own = desk.step_aside()
    assert desk.turn.claim()
    assert not Thread(desk.turn.claim).result()
    assert not desk.turn.may_serve
    desk.turn.done()
    own.result()
    assert desk.turn.may_serve


@pytest.mark.parametrize("call", [Turn.claim, Turn.recall])
def test_the_own_thread_stays_when_something_is_under_way(
    desk: Desk, patient: None, call: Callable[[Turn], object]
) -> None:
    """Since the last answer, and before the turn was free."""
    for _ in range(ANSWERS):
        desk.turn.expect_calls()
        desk.turn.count_answer(0)
    call(desk.turn)
    Thread(lambda: desk.turn.step_aside(lambda: False)).result()
    assert desk.turn.may_serve
    assert not desk.turn.is_tempted
    desk.turn.expect_calls()
    desk.step_aside()
    desk.turn.recall()


def are_alive(threads: list[Thread[None]], count: int) -> bool:
    return sum(thread.is_alive() for thread in threads) == count


def test_of_many_callers_one_reads(desk: Desk, patient: None) -> None:
    reading = Recorder()

    def call() -> None:
        if desk.turn.claim():
            reading.add(threading.get_ident())
            gate()
            desk.turn.done()

    for _ in range(20):
        own, gate = desk.step_aside(), Gate()
        callers = [Thread(call) for _ in range(4)]
        gate.wait_entered()
        wait_until(partial(are_alive, callers, 1), "the others go")
        gate.open()
        own.result()
    assert len(reading) == 20


def test_a_caller_that_gives_up_brings_the_own_thread_back(desk: Desk, patient: None) -> None:
    own = desk.step_aside()
    assert desk.turn.claim()
    desk.turn.abandon()
    own.result()
    assert desk.turn.may_serve
    desk.turn.abandon()
    desk.turn.done()
    assert desk.turn.may_serve


def test_nobody_gives_up_what_another_reads(desk: Desk, patient: None) -> None:
    own = desk.step_aside()
    assert desk.turn.claim()
    Thread(desk.turn.abandon).result()
    assert not desk.turn.may_serve
    assert own.is_alive()
    desk.turn.done()
    desk.turn.abandon()
    assert desk.is_free
    desk.turn.recall()
    own.result()


def test_the_own_thread_is_recalled_when_nobody_reads(desk: Desk, patient: None) -> None:
    own = desk.step_aside()
    desk.turn.recall()
    own.result()
    assert desk.turn.may_serve


def test_a_caller_that_reads_finishes_before_the_own_thread_is_back(
    desk: Desk, patient: None
) -> None:
    own = desk.step_aside()
    assert desk.turn.claim()
    desk.turn.recall()
    assert not desk.turn.may_serve
    desk.turn.done()
    own.result()
    assert desk.turn.may_serve


def test_a_recall_is_forgotten_when_an_answer_comes(desk: Desk, patient: None) -> None:
    for _ in range(2):
        own = desk.step_aside()
        assert desk.turn.claim()
        desk.turn.done()
        assert desk.is_free
        desk.turn.recall()
        own.result()


class Looks:
    """What the own thread waits for; its time runs out when the test says so."""

    def __init__(self) -> None:
        self._events: queue.Queue[bool] = queue.Queue()
        self._waits = Recorder()
        self._looks = 0

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if not blocking:
            return not self._events.empty() and self._events.get()
        self._waits.add(timeout)
        return self._events.get(timeout=PATIENCE)

    def release(self) -> None:
        self._events.put(True)

    def look(self) -> None:
        """Lets the own thread look once; returns when it has, and waits again."""
        self._looks += 1
        self._events.put(False)
        self._waits.wait_for(self._looks + 1)  # the first is before all looks

    def last(self) -> None:
        """The look after which the own thread reads again."""
        self._events.put(False)


@pytest.fixture
def looks(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Looks:
    made = Looks()
    monkeypatch.setattr(desk.turn, "_wake", made)
    return made


def test_the_own_thread_comes_back_at_the_second_look_without_a_call(
    desk: Desk, looks: Looks
) -> None:
    own = desk.step_aside()
    looks.look()
    assert own.is_alive()
    looks.last()
    assert own.result()
    assert desk.turn.may_serve


def test_calls_keep_the_own_thread_away(desk: Desk, looks: Looks) -> None:
    own = desk.step_aside()
    for _ in range(5):
        looks.look()
        assert desk.turn.claim()
        desk.turn.done()
    looks.look()
    looks.last()
    own.result()


def test_the_own_thread_does_not_come_back_while_a_caller_reads(desk: Desk, looks: Looks) -> None:
    """Unless the link is over: then nobody is left to do so."""
    over = threading.Event()
    own = desk.step_aside(over.is_set)
    assert desk.turn.claim()
    for _ in range(5):
        looks.look()
    assert not desk.turn.may_serve
    over.set()
    looks.last()
    assert not own.result()
    desk.turn.done()
    desk.turn.abandon()
    assert desk.turn.may_serve


def test_a_caller_may_be_slow_though_the_link_is_over(desk: Desk, looks: Looks) -> None:
    own = desk.step_aside(lambda: True)
    assert desk.turn.claim()
    looks.look()
    assert not desk.turn.may_serve
    desk.turn.done()
    desk.turn.recall()
    own.result()


def test_recalls_and_looks_that_meet_lose_no_wake(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What remained of one round would end the next one early, or never."""
    monkeypatch.setattr(turn_module, "GRACE", 0.0005)
    for _ in range(200):
        own = desk.step_aside()
        desk.turn.recall()
        own.result()
        assert desk.turn.may_serve
        assert desk.turn._wake.locked()


# The thread that serves looks for an answer


def test_a_served_call_reads_its_own_answer(desk: Desk, blind: None) -> None:
    claimed: list[bool] = []

    def call() -> None:
        claimed.append(desk.turn.claim())
        assert not desk.turn.may_serve
        desk.turn.need_stand_in()  # the watch, maybe: there is a reader
        assert not desk.turn.is_away
        assert not Thread(desk.turn.claim).result()
        desk.turn.recall()
        desk.turn.done()

    desk.turn.serve(call)
    assert claimed == [True]
    assert desk.turn.may_serve
    assert not desk.turn.is_away


def test_a_served_call_that_gives_up_gets_a_stand_in(desk: Desk, blind: None) -> None:
    def call() -> None:
        assert desk.turn.claim()
        desk.turn.abandon()
        assert desk.turn.is_away
        assert not desk.turn.claim()

    own = desk.serve_and_come_back(call)
    wait_until(lambda: desk.turn.is_away and desk.turn._serving is None, "the call is served")
    desk.incoming.put("next")
    assert own.result() == "next"


def test_nobody_else_reads_while_a_call_is_served(desk: Desk, blind: None) -> None:
    gate = Gate()
    own = desk.serve(gate)
    gate.wait_entered()
    assert not desk.turn.claim()
    gate.open()
    own.result()


# Ctrl-C


@pytest.mark.parametrize("recalled", [False, True])
@pytest.mark.parametrize("ending", ["done", "abandon"])
def test_29_ctrl_c_amid_a_turn_leaves_nobody_without_a_reader(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, ending: str, recalled: bool
) -> None:
    """As call() does: whatever is raised, the turn is abandoned."""
    monkeypatch.setattr(turn_module, "GRACE", 0.05)
    turn = desk.turn

    def call() -> None:
        if turn.claim():
            if recalled:
                turn.recall()
            getattr(turn, ending)()

    own = desk.step_aside()
    for _ in interrupted(call, turn.abandon):
        own.result()
        assert turn.may_serve
        own = desk.step_aside()
    own.result()
    assert turn.may_serve


def test_29_ctrl_c_amid_a_recall_leaves_nobody_without_a_reader(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turn_module, "GRACE", 0.05)
    own = desk.step_aside()
    for _ in interrupted(desk.turn.recall, lambda: None):
        own.result()
        assert desk.turn.may_serve
        own = desk.step_aside()
    own.result()
    assert desk.turn.may_serve


def test_29_ctrl_c_in_one_call_takes_nothing_from_the_next_caller(
    desk: Desk, patient: None
) -> None:
    own = desk.step_aside()
    turn = desk.turn
    assert turn.claim()
    turn.done()
    turn._reader = threading.get_ident()  # as after Ctrl-C before the last step of done()
    other, claimed = Gate(), threading.Event()

    def call() -> None:
        assert turn.claim()
        claimed.set()
        other()
        turn.done()

    caller = Thread(call)
    wait_event(claimed)
    turn.abandon()
    assert own.is_alive()
    assert not turn.may_serve
    other.open()
    caller.result()
    turn.recall()
    own.result()
