"""Which thread runs what, and in which order: workers, and the lane of a connection."""

from __future__ import annotations

import random
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Callable

import pytest

from tests.support import PATIENCE, Recorder, Thread, wait_event, wait_until
from wse_sync.dispatch import _ITEM_BYTES, Lane
from wse_sync.workers import _WAITING_FACTOR, Workers, _Worker

NEVER = 3600.0
A_MOMENT = 0.05
"""How long a test looks whether something happens that must not."""


class Gate:
    """A task that runs until it is opened."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self._open = threading.Event()

    def __call__(self) -> None:
        self.entered.set()
        wait_event(self._open, "the gate is opened")

    def wait_entered(self) -> None:
        wait_event(self.entered, "somebody is in the gate")

    def open(self) -> None:
        self._open.set()


class Crowd:
    """Counts how many are inside at the same time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self.most = 0

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            self.most = max(self.most, self._inside)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1


def workers_alive() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("wse-worker-")]


def handle_nothing(payload: object) -> None:
    """A task that has got something."""


def is_gone(reference: weakref.ref[Any]) -> bool:
    return reference() is None


def pause() -> None:
    """Lets other threads get on; nothing depends on how far."""
    threading.Event().wait(0.001)


# Workers


def test_nothing_runs_before_there_is_work(workers: Workers) -> None:
    assert workers_alive() == []


def test_a_task_runs_in_a_daemon_thread(workers: Workers) -> None:
    ran = Recorder()
    workers.run(lambda: ran.add(threading.current_thread()))
    (thread,) = ran.wait_for(1)
    assert thread.daemon
    assert thread.name.startswith("wse-worker-")


def test_every_task_has_a_thread_of_its_own_at_once(workers: Workers) -> None:
    """A handler that blocks delays no other; only calls are limited."""
    gates = [Gate() for _ in range(50)]
    for gate in gates:
        workers.run(gate)
    for gate in gates:
        gate.wait_entered()
        gate.open()


def test_idle_threads_are_used_again(workers: Workers) -> None:
    names = Recorder()
    for count in range(1, 50):
        workers.run(lambda: names.add(threading.current_thread().name))
        names.wait_for(count)
        wait_until(lambda: len(workers._idle) == 1)
    assert len(set(names.items)) == 1


def test_idle_threads_end(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wse_sync.workers._IDLE", 0.01)
    ran = Recorder()
    for _ in range(10):
        workers.run(lambda: ran.add(1))
    ran.wait_for(10)
    wait_until(lambda: not workers_alive())
    workers.run(lambda: ran.add(1))
    ran.wait_for(11)


def test_no_task_is_lost_while_threads_come_and_go(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads that are about to end at the moment in which somebody counts on them."""
    monkeypatch.setattr("wse_sync.workers._IDLE", 0.0005)
    ran = Recorder()

    def give(giver: int) -> None:
        rng = random.Random(giver)
        for number in range(300):
            task = (giver, number)
            (workers.run if rng.random() < 0.5 else workers.call)(partial(ran.add, task))
            if rng.random() < 0.3:
                pause()

    givers = [Thread(partial(give, giver)) for giver in range(4)]
    for thread in givers:
        thread.result(6 * PATIENCE)
    assert len(set(ran.wait_for(1200, 6 * PATIENCE))) == 1200
    assert workers.join(PATIENCE)
    assert len(ran) == 1200


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt()])
def test_a_task_that_raises_is_logged_and_ends_nothing(
    workers: Workers, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    def fail() -> None:
        raise error

    for give in (workers.run, workers.call):
        caplog.clear()
        ran = threading.Event()
        give(fail)
        wait_until(lambda: caplog.records)
        assert caplog.records[0].exc_info is not None
        assert caplog.records[0].exc_info[1] is error
        give(ran.set)
        wait_event(ran)


def test_an_idle_thread_keeps_nothing_alive(workers: Workers) -> None:
    class Payload:
        """Something big."""

    payload = Payload()
    gone = weakref.ref(payload)
    workers.run(partial(handle_nothing, payload))
    workers.call(partial(handle_nothing, payload))
    del payload
    wait_until(partial(is_gone, gone))


# Calls


def test_calls_run_at_the_same_time_up_to_the_limit(workers: Workers) -> None:
    gates = [Gate() for _ in range(6)]
    for gate in gates:
        workers.call(gate)
    for gate in gates[:4]:
        gate.wait_entered()
    assert not gates[4].entered.wait(A_MOMENT)
    gates[0].open()
    gates[4].wait_entered()
    assert not gates[5].entered.wait(A_MOMENT)
    for gate in gates:
        gate.open()
    gates[5].wait_entered()


def test_calls_take_their_places_in_order() -> None:
    workers = Workers(1)
    ran = Recorder()
    gate = Gate()
    workers.call(gate)
    for number in range(100):
        workers.call(partial(ran.add, number))
    gate.open()
    assert ran.wait_for(100) == list(range(100))
    assert workers.join(PATIENCE)


def test_calls_do_not_hold_up_other_tasks() -> None:
    workers = Workers(1)
    gate = Gate()
    workers.call(gate)
    gate.wait_entered()
    ran = threading.Event()
    workers.run(ran.set)
    wait_event(ran)
    gate.open()
    assert workers.join(PATIENCE)


def test_a_call_that_raises_gives_its_place_back() -> None:
    workers = Workers(1)

    def fail() -> None:
        raise ValueError("no")

    ran = Recorder()
    for number in range(5):
        workers.call(fail)
        workers.call(partial(ran.add, number))
    assert ran.wait_for(5) == [0, 1, 2, 3, 4]
    assert workers.join(PATIENCE)


def test_wait_returns_and_raises_what_it_ran(workers: Workers) -> None:
    assert workers.wait(lambda: 5) == 5
    with pytest.raises(ZeroDivisionError):
        workers.wait(lambda: 1 / 0)
    results = Recorder()

    def in_a_call() -> None:
        results.add(workers.wait(lambda: 6))
        with suppress(ZeroDivisionError):
            workers.wait(lambda: 1 / 0)
        results.add("raised")

    workers.call(in_a_call)
    assert results.wait_for(2) == [6, "raised"]


def test_19_calls_that_wait_for_calls_do_not_block_each_other() -> None:
    """Ten deep, with a single place."""
    workers = Workers(1)
    done = threading.Event()

    def nest(depth: int) -> None:
        if depth == 10:
            done.set()
            return
        inner = threading.Event()

        def run() -> None:
            nest(depth + 1)
            inner.set()

        workers.call(run)
        workers.wait(lambda: wait_event(inner))

    workers.call(lambda: nest(0))
    wait_event(done)
    assert workers.join(PATIENCE)


def test_a_call_that_comes_back_from_waiting_goes_on_at_once() -> None:
    workers = Workers(1)
    waiting, other = Gate(), Gate()
    back = threading.Event()

    def call() -> None:
        workers.wait(waiting)
        back.set()

    workers.call(call)
    waiting.wait_entered()
    workers.call(other)
    other.wait_entered()
    waiting.open()
    wait_event(back)
    other.open()
    assert workers.join(PATIENCE)


def test_the_limit_holds_again_when_a_call_that_waited_has_ended() -> None:
    workers = Workers(1)
    waiting, other = Gate(), Gate()
    third = threading.Event()
    workers.call(lambda: workers.wait(waiting))
    waiting.wait_entered()
    workers.call(other)
    other.wait_entered()
    workers.call(third.set)
    waiting.open()
    assert not third.wait(A_MOMENT)
    other.open()
    wait_event(third)
    assert workers.join(PATIENCE)


def test_the_limit_holds_under_load() -> None:
    workers = Workers(3)
    crowd, ran = Crowd(), Recorder()

    def call(number: int) -> None:
        with crowd:
            pause()
        ran.add(number)

    for number in range(300):
        workers.call(partial(call, number))
    ran.wait_for(300)
    assert crowd.most <= 3
    assert workers.join(PATIENCE)


def test_places_are_not_multiplied_by_calls_that_wait() -> None:
    """Each of many calls waits once; no more run at a time than places and those coming back."""
    workers = Workers(2)
    ran = Recorder()
    gates = [Gate() for _ in range(20)]
    for number, gate in enumerate(gates):

        def call(number: int = number, gate: Gate = gate) -> None:
            workers.wait(gate)
            ran.add(number)

        workers.call(call)
    for gate in gates:
        gate.wait_entered()
        gate.open()
    ran.wait_for(20)
    wait_until(lambda: workers._calls == 0)
    crowd = Crowd()

    def crowded() -> None:
        with crowd:
            pause()
        ran.add("crowded")

    for _ in range(100):
        workers.call(crowded)
    ran.wait_for(120)
    assert crowd.most <= 2
    assert workers.join(PATIENCE)


def test_not_everybody_may_wait_without_a_place() -> None:
    """Or each call that waits would be one more thread, without bound."""
    workers = Workers(1)
    entered, ran = Recorder(), Recorder()
    opened = threading.Event()

    def call() -> None:
        entered.add(1)
        workers.wait(lambda: wait_event(opened))
        ran.add(1)

    for _ in range(100):
        workers.call(call)
    entered.wait_for(_WAITING_FACTOR + 1)
    threading.Event().wait(A_MOMENT)
    assert len(entered) == _WAITING_FACTOR + 1
    opened.set()
    ran.wait_for(100)
    assert workers.join(PATIENCE)


# A system that has no more threads


@contextmanager
def no_threads() -> Iterator[None]:
    """No thread can be started meanwhile."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        yield


def test_without_a_thread_a_task_raises_and_later_ones_run(workers: Workers) -> None:
    for give in (workers.run, workers.call):
        with no_threads(), pytest.raises(RuntimeError):
            give(pause)
        ran = threading.Event()
        give(ran.set)
        wait_event(ran)
        assert workers.join(PATIENCE)


def test_without_a_thread_no_place_is_lost() -> None:
    workers = Workers(2)
    with no_threads():
        for _ in range(10):
            with pytest.raises(RuntimeError):
                workers.call(pause)
    gates = [Gate(), Gate()]
    for gate in gates:
        workers.call(gate)
    for gate in gates:
        gate.wait_entered()
        gate.open()
    assert workers.join(PATIENCE)


def test_without_a_thread_a_call_that_waits_loses_none_of_those_behind_it() -> None:
    """The place that it gives up needs a thread."""
    workers = Workers(1)
    first, ran = Gate(), Recorder()

    def call() -> None:
        first()
        with no_threads(), suppress(RuntimeError):
            workers.wait(lambda: None)
        ran.add("first")

    workers.call(call)
    first.wait_entered()
    workers.call(lambda: ran.add("second"))
    workers.call(lambda: ran.add("third"))
    first.open()
    assert sorted(ran.wait_for(3)) == ["first", "second", "third"]
    assert workers.join(PATIENCE)


# Join


def test_join_ends_idle_threads_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wse_sync.workers._IDLE", NEVER)
    workers = Workers(4)
    gates = [Gate() for _ in range(10)]
    for gate in gates:
        workers.run(gate)
    for gate in gates:
        gate.wait_entered()
        gate.open()
    assert workers.join(PATIENCE)
    assert workers_alive() == []


def test_join_waits_for_threads_that_have_done_their_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wse_sync.workers._IDLE", 0.0)
    go, run = threading.Event(), _Worker.run

    def linger(worker: _Worker) -> None:
        run(worker)
        wait_event(go)

    monkeypatch.setattr(_Worker, "run", linger)
    workers = Workers(4)
    workers.run(lambda: None)
    wait_until(lambda: not workers._threads)
    assert not workers.join(0.01)
    go.set()
    assert workers.join(PATIENCE)
    assert workers_alive() == []


def test_join_without_threads_is_done() -> None:
    assert Workers(4).join(0.0)


def test_join_waits_for_busy_threads() -> None:
    workers = Workers(4)
    gate = Gate()
    workers.run(gate)
    gate.wait_entered()
    assert not workers.join(0.01)
    joining = Thread(lambda: workers.join(PATIENCE))
    gate.open()
    assert joining.result() is True


def test_join_in_a_worker_waits_for_the_others_only() -> None:
    workers = Workers(4)
    gate, joined = Gate(), Recorder()
    workers.run(gate)
    gate.wait_entered()
    workers.run(lambda: joined.add(workers.join(PATIENCE)))
    assert len(joined) == 0
    gate.open()
    assert joined.wait_for(1) == [True]
    assert workers.join(PATIENCE)


def test_two_workers_may_join_each_other() -> None:
    """Both leave when their time is over, at the latest; here each in a handler."""
    workers = Workers(4)
    joined = Recorder()
    both = threading.Barrier(2)

    def join() -> None:
        both.wait(PATIENCE)
        joined.add(workers.join(0.1))

    workers.run(join)
    workers.run(join)
    joined.wait_for(2)
    assert workers.join(PATIENCE)


def test_work_that_comes_during_and_after_join_is_done() -> None:
    workers = Workers(4)
    ran = Recorder()
    joining = [Thread(lambda: workers.join(PATIENCE)) for _ in range(3)]
    for number in range(300):
        workers.run(partial(ran.add, number))
        workers.call(partial(ran.add, number))
    for thread in joining:
        thread.result()
    ran.wait_for(600)
    assert workers.join(PATIENCE)
    workers.run(lambda: ran.add("after"))
    ran.wait_for(601)
    assert workers.join(PATIENCE)
    assert workers_alive() == []


# Lanes

BOUND = 10_000


def lane_of(workers: Workers, max_bytes: int = BOUND) -> Lane:
    return Lane(workers, max_bytes)


def stuck(lane: Lane, cost: int = 0) -> Gate:
    """A message that is being handled, until its gate is opened."""
    gate = Gate()
    lane.post(gate, cost)
    gate.wait_entered()
    return gate


def test_18_messages_run_one_at_a_time_and_in_order(workers: Workers) -> None:
    lane = lane_of(workers)
    crowd, ran = Crowd(), Recorder()

    def handle(number: int) -> None:
        with crowd:
            ran.add(number)

    for number in range(1000):
        lane.post(partial(handle, number))
    assert ran.wait_for(1000) == list(range(1000))
    assert crowd.most == 1


def test_18_messages_that_many_threads_post_keep_the_order_of_each(workers: Workers) -> None:
    lane = lane_of(workers)
    crowd, ran = Crowd(), Recorder()

    def handle(item: tuple[int, int]) -> None:
        with crowd:
            ran.add(item)

    def post_all(poster: int) -> None:
        for number in range(200):
            lane.post(partial(handle, (poster, number)))

    posters = [Thread(partial(post_all, poster)) for poster in range(4)]
    for thread in posters:
        thread.result()
    items = ran.wait_for(800)
    assert crowd.most == 1
    for poster in range(4):
        assert [number for who, number in items if who == poster] == list(range(200))


def test_21_a_lane_that_is_stuck_delays_no_other(workers: Workers) -> None:
    gates = [stuck(lane_of(workers)) for _ in range(20)]
    ran = threading.Event()
    lane_of(workers).post(ran.set)
    wait_event(ran)
    for gate in gates:
        gate.open()


def test_18_a_call_starts_after_the_messages_before_it(workers: Workers) -> None:
    lane = lane_of(workers)
    first, ran = stuck(lane), Recorder()
    lane.post(lambda: ran.add("message"))
    called = threading.Event()
    lane.post(called.set, is_call=True)
    assert not called.wait(A_MOMENT)
    first.open()
    wait_event(called)
    assert ran.items == ["message"]


def test_18_calls_run_at_the_same_time_as_each_other_and_as_later_messages(
    workers: Workers,
) -> None:
    lane = lane_of(workers)
    calls = [Gate(), Gate(), Gate()]
    for call in calls:
        lane.post(call, is_call=True)
    for call in calls:
        call.wait_entered()
    message = threading.Event()
    lane.post(message.set)
    wait_event(message)
    for call in calls:
        call.open()


def test_18_the_order_of_messages_and_calls_does_not_depend_on_timing(workers: Workers) -> None:
    """At the start of each call, every message before it has ended."""
    lane = lane_of(workers)
    handled = Recorder()
    starts = Recorder()
    rng = random.Random(3)
    sent = 0

    def call(before: int) -> None:
        starts.add(len(handled) >= before)

    for _ in range(1000):
        if rng.random() < 0.5:
            lane.post(lambda: handled.add(1))
            sent += 1
        else:
            lane.post(partial(call, sent), is_call=True)
    handled.wait_for(sent)
    assert all(starts.wait_for(1000 - sent))


def test_20_a_message_that_raises_is_logged_and_the_lane_goes_on(
    workers: Workers, caplog: pytest.LogCaptureFixture
) -> None:
    lane = lane_of(workers)

    def fail() -> None:
        raise SystemExit(1)

    ran = threading.Event()
    lane.post(fail)
    lane.post(fail, is_call=True)
    lane.post(ran.set)
    wait_event(ran)
    wait_until(lambda: len(caplog.records) == 2)
    assert lane.has_room


def test_an_idle_lane_keeps_nothing_alive(workers: Workers) -> None:
    class Payload:
        """Something big."""

    lane = lane_of(workers)
    for is_call in (False, True):
        payload = Payload()
        gone = weakref.ref(payload)
        lane.post(partial(handle_nothing, payload), is_call=is_call)
        del payload
        wait_until(partial(is_gone, gone))


def test_an_idle_lane_keeps_no_thread(workers: Workers) -> None:
    lanes = [lane_of(workers) for _ in range(20)]
    ran = Recorder()
    for lane in lanes:
        lane.post(lambda: ran.add(1))
        ran.wait_for(len(ran.items))
    ran.wait_for(20)
    wait_until(lambda: len(workers._idle) == len(workers_alive()))
    assert workers.join(PATIENCE)


# Hold and release


def test_a_held_lane_finishes_what_it_runs_and_stops(workers: Workers) -> None:
    lane = lane_of(workers)
    first, ran = stuck(lane), Recorder()
    lane.post(lambda: ran.add("message"))
    lane.post(lambda: ran.add("call"), is_call=True)
    lane.hold()
    first.open()
    threading.Event().wait(A_MOMENT)
    assert len(ran) == 0
    lane.release()
    assert sorted(ran.wait_for(2)) == ["call", "message"]


def test_a_held_lane_starts_nothing(workers: Workers) -> None:
    lane = lane_of(workers)
    lane.hold()
    ran = Recorder()
    lane.post(lambda: ran.add("message"))
    lane.post(lambda: ran.add("call"), is_call=True)
    threading.Event().wait(A_MOMENT)
    assert len(ran) == 0
    lane.release()
    ran.wait_for(2)


def test_18_what_a_release_brings_comes_before_all_that_waits(workers: Workers) -> None:
    """So `joined` and `connected` run before the first message."""
    lane = lane_of(workers)
    lane.hold()
    ran = Recorder()
    for number in range(5):
        lane.post(partial(ran.add, number))
    lane.release(lambda: ran.add("joined"), lambda: ran.add("connected"))
    assert ran.wait_for(7) == ["joined", "connected", 0, 1, 2, 3, 4]


def test_a_handler_may_hold_and_release_its_own_lane(workers: Workers) -> None:
    lane = lane_of(workers)
    ran = Recorder()

    def decide() -> None:
        lane.hold()
        lane.post(lambda: ran.add("later"))
        lane.release(lambda: ran.add("first"))
        ran.add("decided")

    lane.post(decide)
    assert ran.wait_for(3) == ["decided", "first", "later"]


def test_a_release_that_comes_again_changes_nothing(workers: Workers) -> None:
    lane = lane_of(workers)
    ran = Recorder()
    lane.release()
    lane.post(lambda: ran.add(1))
    lane.release()
    lane.release(lambda: ran.add(2))
    ran.wait_for(2)


# Links


def test_what_no_link_or_another_link_brings_is_dropped(workers: Workers) -> None:
    lane = lane_of(workers)
    link, other = object(), object()
    ran = Recorder()
    assert not lane.post(lambda: ran.add("early"), source=link)
    lane.enter(link)
    assert lane.post(lambda: ran.add("ours"), source=link)
    assert not lane.post(lambda: ran.add("foreign"), source=other)
    assert lane.post(lambda: ran.add("own"))
    lane.enter(other)
    assert not lane.post(lambda: ran.add("late"), source=link)
    assert lane.post(lambda: ran.add("new"), source=other)
    assert ran.wait_for(3) == ["ours", "own", "new"]


def test_18_what_a_leave_brings_comes_last_and_nothing_follows(workers: Workers) -> None:
    """So `disconnected` and `left` run after the last message."""
    lane = lane_of(workers)
    link = object()
    lane.enter(link)
    first, ran = stuck(lane), Recorder()
    lane.post(lambda: ran.add("message"), source=link)
    lane.leave(link, lambda: ran.add("disconnected"), lambda: ran.add("left"))
    assert not lane.post(lambda: ran.add("too late"), source=link)
    assert not lane.post(lambda: ran.add("too late"), source=link, is_call=True)
    first.open()
    assert ran.wait_for(3) == ["message", "disconnected", "left"]


def test_the_leave_of_an_old_link_does_not_turn_out_the_new_one(workers: Workers) -> None:
    lane = lane_of(workers)
    old, new = object(), object()
    lane.enter(old)
    lane.enter(new)
    ran = Recorder()
    lane.leave(old, lambda: ran.add("closed"))
    assert lane.post(lambda: ran.add("message"), source=new)
    assert ran.wait_for(2) == ["closed", "message"]


@pytest.mark.parametrize("is_call", [False, True])
def test_without_a_thread_a_lane_takes_nothing(workers: Workers, is_call: bool) -> None:
    """So whoever posts knows that it will not run, and may bring it again."""
    lane = lane_of(workers, 10)
    link, ran = object(), Recorder()
    lane.enter(link)
    with no_threads(), pytest.raises(RuntimeError):
        lane.post(lambda: ran.add("refused"), BOUND, source=link, is_call=is_call)
    assert lane.has_room
    assert lane.post(lambda: ran.add("taken"), source=link, is_call=is_call)
    assert ran.wait_for(1) == ["taken"]
    assert lane.post(lambda: ran.add("last"), source=link)
    assert ran.wait_for(2) == ["taken", "last"]
    wait_until(lambda: lane._bytes == 0)


def test_a_lane_that_runs_takes_messages_without_another_thread(workers: Workers) -> None:
    lane = lane_of(workers)
    first, ran = stuck(lane), Recorder()
    with no_threads():
        assert lane.post(lambda: ran.add("message"))
    first.open()
    assert ran.wait_for(1) == ["message"]


def test_what_was_dropped_weighs_nothing(workers: Workers) -> None:
    lane = lane_of(workers, 10)
    assert not lane.post(lambda: None, BOUND, source=object())
    assert lane.has_room


# Room


def test_what_waits_is_weighed(workers: Workers) -> None:
    lane = lane_of(workers)
    assert lane.has_room
    gate = stuck(lane, BOUND - 2 * _ITEM_BYTES)
    lane.post(lambda: None)
    assert lane.has_room
    lane.post(lambda: None)
    assert not lane.has_room
    gate.open()
    wait_until(lambda: lane.has_room)


def test_a_call_is_weighed_until_it_has_a_place(workers: Workers) -> None:
    """So that calls cannot pile up behind the bound."""
    lane = lane_of(workers)
    gates = [Gate() for _ in range(5)]
    for gate in gates[:4]:
        lane.post(gate, BOUND, is_call=True)
        gate.wait_entered()
    wait_until(lambda: lane.has_room)
    lane.post(gates[4], BOUND, is_call=True)
    assert not lane.has_room
    gates[0].open()
    gates[4].wait_entered()
    wait_until(lambda: lane.has_room)
    for gate in gates:
        gate.open()


def test_the_weights_come_out_even(workers: Workers) -> None:
    """Whatever way an item takes: message or call, direct or waiting, held, released, left."""
    lane = lane_of(workers)
    rng = random.Random(11)
    link = object()
    ran = Recorder()
    posted = 0
    for _ in range(2000):
        step = rng.random()
        if step < 0.7:
            is_call = rng.random() < 0.5
            lane.enter(link)
            lane.post(lambda: ran.add(1), rng.randrange(5000), source=link, is_call=is_call)
            posted += 1
        elif step < 0.8:
            lane.hold()
        elif step < 0.9:
            lane.release(lambda: ran.add(1))
            posted += 1
        else:
            lane.leave(link, lambda: ran.add(1))
            posted += 1
    lane.release()
    ran.wait_for(posted)
    wait_until(lambda: lane._bytes == 0)


def reader(lane: Lane, link: object, reads_on: Callable[[], bool]) -> Thread[bool]:
    return Thread(lambda: lane.wait_for_room(link, reads_on))


def is_waiting(thread: Thread[bool]) -> bool:
    thread.join(A_MOMENT)
    return thread.is_alive()


def test_a_reader_does_not_wait_when_there_is_room(workers: Workers) -> None:
    lane = lane_of(workers)
    lane.enter(lane)
    assert reader(lane, lane, lambda: False).result() is True


def test_a_reader_waits_until_there_is_room(workers: Workers) -> None:
    lane = lane_of(workers)
    lane.enter(lane)
    first = stuck(lane, BOUND)
    reading = reader(lane, lane, lambda: False)
    assert is_waiting(reading)
    first.open()
    assert reading.result() is True


def test_a_reader_that_awaits_answers_reads_on_to_twice_the_bound(workers: Workers) -> None:
    lane = lane_of(workers)
    lane.enter(lane)
    first = stuck(lane, BOUND)
    assert reader(lane, lane, lambda: True).result() is True
    lane.post(lambda: None, BOUND - 2 * _ITEM_BYTES)
    assert reader(lane, lane, lambda: True).result() is True
    lane.post(lambda: None)
    assert reader(lane, lane, lambda: True).result() is False
    first.open()


def test_a_reader_that_awaits_nothing_does_not_come_to_the_second_bound(workers: Workers) -> None:
    """It waits, however much one message has brought."""
    lane = lane_of(workers)
    lane.enter(lane)
    first = stuck(lane, 5 * BOUND)
    reading = reader(lane, lane, lambda: False)
    assert is_waiting(reading)
    first.open()
    assert reading.result() is True


def test_a_reader_that_waits_is_asked_again_when_a_call_goes_out(workers: Workers) -> None:
    lane = lane_of(workers)
    lane.look_again()
    lane.enter(lane)
    first = stuck(lane, BOUND)
    answers_awaited = threading.Event()
    reading = reader(lane, lane, answers_awaited.is_set)
    assert is_waiting(reading)
    lane.look_again()
    assert is_waiting(reading)
    answers_awaited.set()
    lane.look_again()
    assert reading.result() is True
    first.open()


def test_a_reader_whose_link_is_over_waits_no_longer(workers: Workers) -> None:
    lane = lane_of(workers)
    link = object()
    lane.enter(link)
    first = stuck(lane, 5 * BOUND)
    reading = reader(lane, link, lambda: False)
    assert is_waiting(reading)
    lane.leave(link)
    assert reading.result() is True
    assert reader(lane, link, lambda: False).result() is True
    first.open()


def test_a_reader_whose_link_is_replaced_waits_no_longer(workers: Workers) -> None:
    """That of the new link waits, for what the old one brought."""
    lane = lane_of(workers)
    old, new = object(), object()
    lane.enter(old)
    first = stuck(lane, 5 * BOUND)
    reading = reader(lane, old, lambda: False)
    assert is_waiting(reading)
    lane.enter(new)
    assert reading.result() is True
    reading = reader(lane, new, lambda: False)
    assert is_waiting(reading)
    first.open()
    assert reading.result() is True


# A handler in a lane that awaits an answer


def test_19_calls_pass_a_handler_that_awaits_an_answer(workers: Workers) -> None:
    """The answer may wait for one of them: the other side calls back before it answers."""
    lane = lane_of(workers)
    answer, waiting = Gate(), threading.Event()
    ran = Recorder()

    def handle() -> None:
        wait_event(waiting)
        workers.wait(answer, lane)
        ran.add("handled")

    lane.post(handle)
    lane.post(lambda: ran.add("call before"), is_call=True)
    lane.post(lambda: ran.add("message"))
    waiting.set()
    answer.wait_entered()
    assert ran.wait_for(1) == ["call before"]
    lane.post(lambda: ran.add("call after"), is_call=True)
    assert ran.wait_for(2) == ["call before", "call after"]
    answer.open()
    assert ran.wait_for(4)[2:] == ["handled", "message"]


def test_18_calls_pass_only_while_the_answer_is_awaited(workers: Workers) -> None:
    lane = lane_of(workers)
    answer, after = Gate(), Gate()

    def handle() -> None:
        workers.wait(answer, lane)
        after()

    lane.post(handle)
    answer.wait_entered()
    answer.open()
    after.wait_entered()
    called = threading.Event()
    lane.post(called.set, is_call=True)
    assert not called.wait(A_MOMENT)
    after.open()
    wait_event(called)


def test_18_a_wait_that_raises_ends_the_passing_too(workers: Workers) -> None:
    lane = lane_of(workers)
    after = Gate()

    def handle() -> None:
        with suppress(ZeroDivisionError):
            workers.wait(lambda: 1 / 0, lane)
        after()

    lane.post(handle)
    after.wait_entered()
    called = threading.Event()
    lane.post(called.set, is_call=True)
    assert not called.wait(A_MOMENT)
    after.open()
    wait_event(called)


def test_18_calls_do_not_pass_a_handler_that_awaits_the_answer_of_another_connection(
    workers: Workers,
) -> None:
    """That answer waits for none of them."""
    lane, other = lane_of(workers), lane_of(workers)
    answer = Gate()
    lane.post(lambda: workers.wait(answer, other))
    answer.wait_entered()
    called = threading.Event()
    lane.post(called.set, is_call=True)
    assert not called.wait(A_MOMENT)
    answer.open()
    wait_event(called)


def test_a_worker_that_has_left_a_lane_is_in_none(workers: Workers) -> None:
    """The same thread runs other things later; those have no lane to let calls pass in."""
    lane = lane_of(workers)
    ran = Recorder()
    lane.post(lambda: ran.add(1))
    ran.wait_for(1)
    wait_until(lambda: len(workers._idle) == 1)
    gate = Gate()
    first = stuck(lane)
    workers.run(lambda: workers.wait(gate, lane))
    gate.wait_entered()
    called = threading.Event()
    lane.post(called.set, is_call=True)
    assert not called.wait(A_MOMENT)
    first.open()
    wait_event(called)
    gate.open()


def test_18_a_call_may_start_at_once_when_nothing_is_before_it(workers: Workers) -> None:
    lane, gate, link = Lane(workers, 1000), Gate(), object()
    assert not lane.lets_start(link)
    lane.enter(link)
    assert lane.lets_start(link)
    assert not lane.lets_start(object())
    lane.post(gate, source=link)
    gate.wait_entered()
    assert not lane.lets_start(link)
    gate.open()
    wait_until(lambda: lane.lets_start(link))
    lane.hold()
    assert not lane.lets_start(link)
    lane.post(pause, source=link)
    lane.release()
    wait_until(lambda: lane.lets_start(link))
    lane.leave(link)
    assert not lane.lets_start(link)


def test_19_a_call_may_start_at_once_while_a_message_awaits_an_answer(workers: Workers) -> None:
    lane, gate, link = Lane(workers, 1000), Gate(), object()
    lane.enter(link)
    lane.post(lambda: workers.wait(gate, lane), source=link)
    gate.wait_entered()
    assert lane.lets_start(link)
    assert not lane.lets_start(object())
    gate.open()


def test_18_a_call_may_not_start_while_messages_wait_behind_a_call(workers: Workers) -> None:
    """The lane is held, and has a call and a message."""
    lane, ran, link = Lane(workers, 1000), Recorder(), object()
    lane.enter(link)
    lane.hold()
    lane.post(lambda: ran.add("call"), source=link, is_call=True)
    lane.post(lambda: ran.add("message"), source=link)
    assert not lane.lets_start(link)
    lane.release()
    ran.wait_for(2)
    wait_until(lambda: lane.lets_start(link))
