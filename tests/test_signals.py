"""Signals: blinker's, in order, isolated from each other, and easy to bind."""

from __future__ import annotations

import gc
import random
import threading
from functools import partial
from typing import Any, Callable

import blinker
import pytest

from tests.interrupts import interrupted
from tests.support import Recorder, Thread, wait_event
from wse_sync import WseTypeError
from wse_sync.signals import ClientSignals, ServerSignals, Signal


class Endpoint:
    """Whatever sends a signal."""


def made(*names: str, sticky: bool = False) -> tuple[Signal, list[BaseException]]:
    """A signal, and what its receivers raised."""
    raised: list[BaseException] = []
    return Signal(names or ("code", "reason"), into(raised), sticky=sticky), raised


def into(raised: list[BaseException]) -> Callable[[BaseException, Any], None]:
    """A report that notes the errors."""
    return lambda error, connection: raised.append(error)


def test_a_plain_handler_gets_the_values_in_order() -> None:
    signal, _ = made()
    got = Recorder()
    assert signal(got) is got
    signal.settle(Endpoint(), 1000, "bye")
    assert got.items == [(1000, "bye")]


def test_calling_a_signal_decorates() -> None:
    signal, _ = made("value")
    got: list[Any] = []

    @signal
    def handler(value: Any) -> None:
        got.append(value)

    signal.settle(Endpoint(), 1)
    handler(2)
    assert got == [1, 2]


def test_a_receiver_gets_the_endpoint_and_the_values_by_name() -> None:
    signal, _ = made()
    endpoint, got = Endpoint(), Recorder()
    assert signal.connect(got) is got
    signal.settle(endpoint, 1000, "bye")
    assert got.items == [(endpoint, {"code": 1000, "reason": "bye"})]


def test_a_signal_may_have_no_values() -> None:
    raised: list[BaseException] = []
    signal = Signal((), into(raised))
    got = Recorder()
    signal(lambda: got.add("happened"))
    signal.settle(Endpoint())
    assert got.items == ["happened"]


def test_it_is_a_signal_of_blinker() -> None:
    signal, _ = made("value")
    assert isinstance(signal, blinker.Signal)
    got = Recorder()

    def receiver(sender: Any, value: Any) -> None:
        got.add(value)

    with signal.connected_to(receiver):
        signal.settle(Endpoint(), 1)
    signal.settle(Endpoint(), 2)
    assert got.items == [1]


def test_handlers_run_in_the_order_in_which_they_were_bound() -> None:
    signal, _ = made("value")
    got = Recorder()
    kept = []
    for number in range(100):
        if number % 2:
            signal(lambda value, number=number: got.add(number))
        else:

            def receiver(sender: Any, value: Any, number: int = number) -> None:
                got.add(number)

            kept.append(signal.connect(receiver))
    signal.settle(Endpoint(), None)
    assert got.items == list(range(100))


def test_the_order_holds_for_receivers_of_one_endpoint_too() -> None:
    signal, _ = made("value")
    endpoint, got = Endpoint(), Recorder()

    def receiver(number: int) -> Any:
        return lambda sender, value: got.add(number)

    for number in range(10):
        sender = endpoint if number % 2 else blinker.ANY
        signal.connect(receiver(number), sender, weak=False)
    signal.settle(endpoint, None)
    assert sorted(got.items) == list(range(10))
    assert [number for number in got.items if number % 2] == [1, 3, 5, 7, 9]
    signal.settle(Endpoint(), None)
    assert got.items[10:] == [0, 2, 4, 6, 8]


def test_20_one_that_raises_stops_no_other_and_is_reported() -> None:
    signal, raised = made("value")
    got = Recorder()
    errors = [ValueError("no"), KeyboardInterrupt(), SystemExit(1)]

    def fail_with(error: BaseException) -> Any:
        def fail(value: Any) -> None:
            raise error

        return fail

    for error in errors:
        signal(fail_with(error))
        signal(got)
    signal.settle(Endpoint(), 1)
    assert got.items == [1, 1, 1]
    assert raised == errors


def test_a_handler_with_other_arguments_is_reported() -> None:
    signal, raised = made("value")
    signal(lambda: None)
    signal.settle(Endpoint(), 1)
    assert isinstance(raised[0], TypeError)


@pytest.mark.parametrize("handler", [5, None, "print"])
def test_what_cannot_be_called_is_refused(handler: Any) -> None:
    signal, _ = made()
    with pytest.raises(WseTypeError, match=type(handler).__name__):
        signal(handler)
    assert not signal.receivers


# Weak and strong


def test_a_plain_handler_is_held() -> None:
    signal, _ = made("value")
    got = Recorder()
    signal(lambda value: got.add(value))
    gc.collect()
    signal.settle(Endpoint(), 1)
    assert got.items == [1]


def test_a_receiver_is_held_weakly_unless_told_otherwise() -> None:
    signal, _ = made("value")
    got = Recorder()

    def bind(weak: bool) -> None:
        def receiver(sender: Any, value: Any) -> None:
            got.add("weak" if weak else "strong")

        signal.connect(receiver, weak=weak)

    bind(True)
    bind(False)
    gc.collect()
    signal.settle(Endpoint(), 1)
    assert got.items == ["strong"]


def test_a_method_is_held_weakly_with_its_object() -> None:
    class Listener:
        def on_value(self, sender: Any, value: Any) -> None:
            got.add(value)

    signal, _ = made("value")
    got = Recorder()
    listener = Listener()
    signal.connect(listener.on_value)
    signal.settle(Endpoint(), 1)
    del listener
    gc.collect()
    signal.settle(Endpoint(), 2)
    assert got.items == [1]


def test_receivers_that_die_while_a_signal_runs_harm_nothing() -> None:
    signal, raised = made("value")
    got = Recorder()
    others: list[Any] = []

    def clear(value: Any) -> None:
        others.clear()
        gc.collect()

    signal(clear)
    for _ in range(10):

        def receiver(sender: Any, value: Any) -> None:
            got.add(value)

        others.append(signal.connect(receiver))
    del receiver
    signal.settle(Endpoint(), 1)
    signal.settle(Endpoint(), 2)
    assert raised == []
    assert 2 not in got.items


# Unbinding


def test_disconnect_unbinds_plain_handlers_and_receivers() -> None:
    signal, _ = made("value")
    plain, receiver = Recorder(), Recorder()
    signal(plain)
    signal.connect(receiver)
    signal.disconnect(plain)
    signal.disconnect(receiver)
    signal.settle(Endpoint(), 1)
    assert len(plain) == len(receiver) == 0
    assert not signal.receivers


def test_disconnect_unbinds_methods() -> None:
    signal, _ = made("value")
    got = Recorder()
    signal(got.add)
    signal.disconnect(got.add)
    signal.settle(Endpoint(), 1)
    assert len(got) == 0


def test_a_handler_that_is_bound_twice_is_unbound_one_by_one() -> None:
    signal, _ = made("value")
    got = Recorder()
    signal(got)
    signal(got)
    signal.settle(Endpoint(), 1)
    signal.disconnect(got)
    signal.settle(Endpoint(), 2)
    signal.disconnect(got)
    signal.settle(Endpoint(), 3)
    assert got.items == [1, 1, 2]


def test_disconnecting_what_is_not_bound_is_no_error() -> None:
    signal, _ = made()
    signal.disconnect(print)
    signal(print)
    signal.disconnect(len)
    signal.disconnect(print)
    signal.disconnect(print)


def test_a_handler_may_unbind_itself_and_bind_others() -> None:
    signal, raised = made("value")
    got = Recorder()

    def first(value: Any) -> None:
        signal.disconnect(first)
        signal(got)

    signal(first)
    signal.settle(Endpoint(), 1)
    signal.settle(Endpoint(), 2)
    assert got.items == [2]
    assert raised == []


# Latest values


def test_a_late_handler_of_a_sticky_signal_is_called_at_once() -> None:
    signal, _ = made("status", sticky=True)
    endpoint = Endpoint()
    signal.settle(endpoint, "CONNECTING")
    signal.settle(endpoint, "READY")
    plain, receiver, named = Recorder(), Recorder(), Recorder()
    signal(plain)
    signal.connect(receiver)
    signal.connect(named, endpoint)
    assert plain.items == ["READY"]
    assert receiver.items == named.items == [(endpoint, {"status": "READY"})]
    signal.settle(endpoint, "OFFLINE")
    assert plain.items == ["READY", "OFFLINE"]
    assert len(receiver) == len(named) == 2


def test_a_late_handler_waits_until_something_has_happened() -> None:
    signal, _ = made("status", sticky=True)
    got = Recorder()
    signal(got)
    assert len(got) == 0
    signal.settle(Endpoint(), "READY")
    assert got.items == ["READY"]


def test_a_late_receiver_of_another_endpoint_is_not_called() -> None:
    signal, _ = made("status", sticky=True)
    signal.settle(Endpoint(), "READY")
    got = Recorder()
    other = Endpoint()
    signal.connect(got, other)
    assert len(got) == 0


def test_a_late_handler_of_another_signal_is_not_called() -> None:
    signal, _ = made("code", "reason")
    signal.settle(Endpoint(), 1000, "bye")
    got = Recorder()
    signal(got)
    assert len(got) == 0


def test_20_a_late_handler_that_raises_is_reported() -> None:
    signal, raised = made("status", sticky=True)
    signal.settle(Endpoint(), "READY")
    error = ValueError("no")

    def fail(status: Any) -> None:
        raise error

    assert signal(fail) is fail
    assert raised == [error]


def test_every_handler_hears_the_latest_value_however_late_it_comes() -> None:
    """Bound at the same moment in which the value changes: by the one way or the other."""
    for _ in range(200):
        signal, _ = made("status", sticky=True)
        got = Recorder()
        settling = Thread(partial(signal.settle, Endpoint(), "READY"))
        signal(got)
        settling.result()
        assert got.items == ["READY"]


def test_a_late_handler_hears_the_latest_value_last() -> None:
    """It is called with that of before when the next one comes."""
    signal, raised = made("status", sticky=True)
    endpoint = Endpoint()
    signal.settle(endpoint, "CONNECTING")
    got, go_on, other = Recorder(), threading.Event(), Recorder()

    def handler(status: str) -> None:
        got.add(status)
        if status == "CONNECTING":
            wait_event(go_on)
        if status == "READY":
            raise ValueError("no")

    binding = Thread(lambda: signal(handler))
    got.wait_for(1)
    signal(other)
    signal.settle(endpoint, "READY")
    signal.settle(endpoint, "OFFLINE")
    assert got.items == ["CONNECTING"]
    go_on.set()
    binding.result()
    assert got.items == ["CONNECTING", "READY", "OFFLINE"]
    assert [str(error) for error in raised] == ["no"]
    signal.settle(endpoint, "CONNECTING")
    assert got.items[3:] == ["CONNECTING"]
    assert other.items == ["CONNECTING", "READY", "OFFLINE", "CONNECTING"]


def test_29_after_ctrl_c_a_late_handler_is_called_like_all_others() -> None:
    signal, _ = made("status", sticky=True)
    endpoint = Endpoint()
    signal.settle(endpoint, "CONNECTING")
    got = Recorder()

    def handler(status: str) -> None:
        got.add(status)
        if len(got) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        signal(handler)
    signal.settle(endpoint, "READY")
    assert got.items == ["CONNECTING", "READY"]


def test_29_ctrl_c_amid_binding_leaves_a_handler_that_is_called_or_is_not_bound() -> None:
    signal, _ = made("status", sticky=True)
    endpoint = Endpoint()
    signal.settle(endpoint, "CONNECTING")
    got = Recorder()
    bound = set()
    for _ in interrupted(lambda: signal(got), lambda: None):
        before = len(got)
        signal.settle(endpoint, "READY")
        called = len(list(signal.receivers_for(endpoint)))
        assert len(got) - before == called
        bound.add(called)
        signal.disconnect(got)
    assert bound == {0, 1}


def test_the_child_of_a_fork_waits_for_no_late_handler() -> None:
    """The thread that called it is not there."""
    signal, _ = made("status", sticky=True)
    endpoint = Endpoint()
    signal.settle(endpoint, "CONNECTING")
    got, go_on = Recorder(), threading.Event()

    def handler(status: str) -> None:
        got.add(status)
        if status == "CONNECTING":
            wait_event(go_on)

    binding = Thread(lambda: signal(handler))
    got.wait_for(1)
    signal.renew()
    signal.settle(endpoint, "READY")
    assert got.items == ["CONNECTING", "READY"]
    go_on.set()
    binding.result()


# Muting


def test_a_muted_signal_calls_nobody_and_remembers_the_latest() -> None:
    signal, _ = made("status", sticky=True)
    got, late = Recorder(), Recorder()
    signal(got)
    with signal.muted():
        signal.settle(Endpoint(), "READY")
    assert len(got) == 0
    signal(late)
    assert late.items == ["READY"]
    signal.settle(Endpoint(), "OFFLINE")
    assert got.items == ["OFFLINE"]


# Threads


def test_many_threads_may_bind_unbind_and_settle() -> None:
    """Receivers that are collected meanwhile included."""
    signal, raised = made("value")
    endpoint = Endpoint()
    steady = Recorder()
    signal(steady)
    stopped = threading.Event()

    def bind(seed: int) -> None:
        rng = random.Random(seed)
        while not stopped.is_set():

            def receiver(sender: Any, value: Any) -> None:
                return None

            step = rng.random()
            if step < 0.4:
                signal.connect(receiver)
            elif step < 0.6:
                signal.connect(receiver, Endpoint())
            else:
                plain = signal(lambda value: None)
                signal.disconnect(plain)

    binders = [Thread(partial(bind, seed)) for seed in range(3)]
    for number in range(500):
        signal.settle(endpoint, number)
    stopped.set()
    for thread in binders:
        thread.result()
    assert steady.items == list(range(500))
    assert raised == []
    gc.collect()
    signal.settle(endpoint, 500)
    assert len(signal.receivers) == 1


# The signals of the two ends


def test_the_signals_of_a_server() -> None:
    signals = ServerSignals(into([]), into([]))
    assert {name: signal.names for name, signal in vars(signals).items()} == {
        "joined": ("client", "meta"),
        "left": ("client", "code", "reason"),
        "connected": ("conn",),
        "disconnected": ("conn", "code", "reason"),
        "suspended": ("conn",),
        "resumed": ("conn",),
        "error": ("error", "conn"),
        "ignored": ("conn", "type", "payload"),
    }


def test_the_signals_of_a_client() -> None:
    signals = ClientSignals(into([]), into([]))
    assert {name: signal.names for name, signal in vars(signals).items()} == {
        "connected": (),
        "ready": ("welcome",),
        "closed": ("code", "reason"),
        "error": ("error",),
        "updated": ("status",),
        "ignored": ("type", "payload"),
    }


@pytest.mark.parametrize("kind", [ServerSignals, ClientSignals])
def test_an_error_in_a_handler_of_the_error_signal_does_not_go_round(
    kind: type[ServerSignals] | type[ClientSignals],
) -> None:
    reported: list[BaseException] = []
    last: list[BaseException] = []
    signals = kind(into(reported), into(last))
    error = ValueError("no")

    def fail(*values: Any) -> None:
        raise error

    signals.error(fail)
    signals.error.settle(Endpoint(), RuntimeError("first"), None)
    signals.ignored(fail)
    signals.ignored.settle(Endpoint(), None, "type", None)
    assert last == [error]
    assert reported == [error]


def test_the_repr_helps_at_a_prompt() -> None:
    signals = ClientSignals(into([]), into([]))
    assert "ready" in repr(signals) and "closed" in repr(signals)
    assert repr(signals.closed) == "<Signal (code, reason), 0 receivers>"
    signals.closed(print)
    assert repr(signals.closed) == "<Signal (code, reason), 1 receiver>"


def test_a_signal_knows_whether_anybody_listens() -> None:
    signal, _ = made()
    assert not signal
    signal(print)
    assert signal
    sticky, _ = made(sticky=True)
    assert sticky
