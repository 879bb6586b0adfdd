"""Messages by type: handlers, wait() and listen()."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any, Callable

import pytest

from tests.support import PATIENCE, Recorder, Thread, wait_until
from wse_sync import (
    WSE_ERROR,
    JsonProtocol,
    WseConnectionError,
    WseTimeoutError,
    WseTypeError,
    WseValueError,
)
from wse_sync.channel import Channel, Inbox
from wse_sync.core.peer import Peer

A_MOMENT = 0.05


class Lane:
    """Delivers, as the lane of a connection would, and keeps what handlers raised."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.raised: list[BaseException] = []

    def __call__(self, type: Any, *arguments: Any) -> bool:
        return self._channel.deliver(type, arguments, self.raised.append, call)


def call(handler: Callable[..., Any], *arguments: Any) -> Any:
    return handler(*arguments)


def made() -> tuple[Channel, Lane]:
    channel = Channel(Peer(JsonProtocol()).check_type)
    return channel, Lane(channel)


def waiting(channel: Channel, type: Any = "x") -> Thread[Any]:
    """A thread that waits for a message."""
    thread = Thread(lambda: channel.wait(type))
    wait_until(lambda: channel._handlers.get(type))
    return thread


# Handlers


def test_a_handler_gets_the_messages_of_its_type() -> None:
    channel, deliver = made()
    got = Recorder()
    assert channel.on("x", got) is got
    assert deliver("x", 1)
    assert deliver("x", None)
    assert not deliver("y", 2)
    assert got.items == [1, None]


def test_a_handler_of_a_server_gets_the_connection_too() -> None:
    channel, deliver = made()
    got = Recorder()
    channel.on("x", got)
    deliver("x", "conn", 1)
    assert got.items == [("conn", 1)]


def test_on_and_once_decorate() -> None:
    channel, deliver = made()
    got = Recorder()

    @channel.on("x")
    def every(payload: Any) -> None:
        got.add(("every", payload))

    @channel.once("x")
    def single(payload: Any) -> None:
        got.add(("single", payload))

    deliver("x", 1)
    deliver("x", 2)
    every(3)
    single(3)
    assert got.items == [
        ("every", 1),
        ("single", 1),
        ("every", 2),
        ("every", 3),
        ("single", 3),
    ]


def test_handlers_run_in_the_order_in_which_they_were_bound() -> None:
    channel, deliver = made()
    got = Recorder()
    for number in range(20):
        bind = channel.once if number % 3 else channel.on
        bind("x", lambda payload, number=number: got.add(number))
    deliver("x", None)
    assert got.items == list(range(20))
    deliver("x", None)
    assert got.items[20:] == list(range(0, 20, 3))


def test_a_handler_that_is_bound_twice_runs_twice() -> None:
    channel, deliver = made()
    got = Recorder()
    channel.on("x", got)
    channel.on("x", got)
    deliver("x", 1)
    assert got.items == [1, 1]


def test_off_unbinds() -> None:
    channel, deliver = made()
    got, other = Recorder(), Recorder()
    for handler in (got, other, got):
        channel.on("x", handler)
    channel.once("x", got)
    channel.off("x", got)
    deliver("x", 1)
    assert (got.items, other.items) == ([], [1])
    channel.off("x", other)
    assert not deliver("x", 2)


def test_off_of_what_is_not_bound_is_no_error() -> None:
    channel, _ = made()
    channel.off("x", print)
    channel.on("x", print)
    channel.off("x", len)
    channel.off("y", print)


def test_a_method_is_unbound_like_a_function() -> None:
    channel, deliver = made()
    got = Recorder()
    channel.on("x", got.add)
    channel.off("x", got.add)
    assert not deliver("x", 1)


def test_20_a_handler_that_raises_is_reported_and_stops_no_other() -> None:
    channel, deliver = made()
    got = Recorder()
    errors = [ValueError("no"), KeyboardInterrupt(), SystemExit(2)]

    def fail_with(error: BaseException) -> Any:
        def fail(payload: Any) -> None:
            raise error

        return fail

    for error in errors:
        channel.on("x", fail_with(error))
    channel.on("x", got)
    with channel.listen("x") as inbox:
        assert deliver("x", 1)
        assert inbox.get(0) == ("x", 1)
    assert got.items == [1]
    assert deliver.raised == errors


def test_19_a_handler_may_bind_and_unbind() -> None:
    """It changes what happens from the next message on."""
    channel, deliver = made()
    got = Recorder()

    def first(payload: Any) -> None:
        channel.off("x", first)
        channel.off("x", second)
        channel.on("x", third)
        got.add("first")

    def second(payload: Any) -> None:
        got.add("second")

    def third(payload: Any) -> None:
        got.add("third")

    channel.on("x", first)
    channel.on("x", second)
    deliver("x", 1)
    assert got.items == ["first", "second"]
    deliver("x", 2)
    assert got.items[2:] == ["third"]


def test_once_runs_once_also_when_messages_come_on_many_lanes() -> None:
    channel, deliver = made()
    got = Recorder()
    for _ in range(100):
        channel.once("x", got)
        together = threading.Barrier(4)

        def deliver_one(together: threading.Barrier = together) -> bool:
            together.wait(PATIENCE)
            return deliver("x", 1)

        threads = [Thread(deliver_one) for _ in range(4)]
        assert sum(thread.result() for thread in threads) == 1
    assert len(got) == 100


@pytest.mark.parametrize("type", ["", "~wse:hi", "~wse:response", [], {}, set(), ([],)])
def test_types_that_cannot_be_handled_are_refused(type: Any) -> None:
    channel, _ = made()
    for run in (
        lambda: channel.on(type, print),
        lambda: channel.on(type),
        lambda: channel.once(type, print),
        lambda: channel.off(type, print),
        lambda: channel.wait(type, 0),
        lambda: channel.listen(type),
        lambda: channel.listen("x", type),
    ):
        with pytest.raises((WseTypeError, WseValueError)):
            run()
    assert repr(channel) == "<Channel >"
    assert not channel._inboxes and not channel._waiters


@pytest.mark.parametrize("handler", [5, "print", [print]])
def test_what_cannot_be_called_is_no_handler(handler: Any) -> None:
    channel, deliver = made()
    name = type(handler).__name__
    with pytest.raises(WseTypeError, match=name):
        channel.on("x", handler)
    with pytest.raises(WseTypeError, match=name):
        channel.once("x", handler)
    with pytest.raises(WseTypeError, match=name):
        channel.on("x")(handler)
    assert not deliver("x", 1)


def test_the_repr_names_the_types() -> None:
    channel, _ = made()
    channel.on("a", print)
    channel.on("b", print)
    assert repr(channel) == "<Channel a b>"


# wait()


@pytest.mark.parametrize("arguments", [(1,), (None,), ("conn", 1)])
def test_wait_returns_the_next_message(arguments: tuple[Any, ...]) -> None:
    channel, deliver = made()
    thread = waiting(channel)
    assert not deliver("y", *arguments)
    assert deliver("x", *arguments)
    assert thread.result() == (arguments[0] if len(arguments) == 1 else arguments)
    assert not deliver("x", *arguments)


def test_many_may_wait_for_one_message() -> None:
    channel, deliver = made()
    threads = [Thread(lambda: channel.wait("x")) for _ in range(5)]
    wait_until(lambda: len(channel._handlers.get("x", [])) == 5)
    deliver("x", 1)
    assert [thread.result() for thread in threads] == [1] * 5


def test_a_wait_stands_in_line_with_handlers() -> None:
    channel, deliver = made()
    got = Recorder()
    channel.on("x", got)
    thread = waiting(channel)
    wait_until(lambda: len(channel._handlers["x"]) == 2)
    deliver("x", 1)
    assert thread.result() == 1
    assert got.items == [1]


@pytest.mark.parametrize("timeout", [0, 0.01])
def test_a_wait_that_takes_too_long_raises_and_leaves_nothing(timeout: float) -> None:
    channel, deliver = made()
    with pytest.raises(WseTimeoutError, match="'x'"):
        channel.wait("x", timeout)
    assert channel._waiters == []
    assert not deliver("x", 1)


@pytest.mark.parametrize("timeout", [-1, float("nan"), "1"])
def test_a_timeout_that_makes_no_sense_is_refused(timeout: Any) -> None:
    channel, _ = made()
    with pytest.raises((WseTypeError, WseValueError)):
        channel.wait("x", timeout)
    with channel.listen() as inbox, pytest.raises((WseTypeError, WseValueError)):
        inbox.get(timeout)


def test_a_wait_ends_when_no_more_messages_will_come() -> None:
    channel, deliver = made()
    threads = [waiting(channel, "x"), waiting(channel, "y")]
    channel.interrupt("the client is offline")
    for thread in threads:
        with pytest.raises(WseConnectionError, match="offline") as caught:
            thread.result()
        assert caught.value.code == WSE_ERROR.CONNECTION_CLOSED
    with pytest.raises(WseConnectionError, match="offline"):
        channel.wait("x")
    assert not deliver("x", 1)
    assert channel._waiters == []


def test_messages_can_be_waited_for_again_after_a_resume() -> None:
    channel, deliver = made()
    channel.interrupt("the client is offline")
    channel.resume()
    thread = waiting(channel)
    deliver("x", 1)
    assert thread.result() == 1


def test_messages_that_come_while_nobody_waits_are_not_kept() -> None:
    channel, deliver = made()
    assert not deliver("x", 1)
    with pytest.raises(WseTimeoutError):
        channel.wait("x", 0.01)


# listen()


def test_an_inbox_collects_messages_of_its_types_in_order() -> None:
    channel, deliver = made()
    with channel.listen("a", "b") as inbox:
        assert deliver("a", 1)
        assert not deliver("c", 2)
        assert deliver("b", 3)
        assert deliver("a", None)
        assert [inbox.get() for _ in range(3)] == [("a", 1), ("b", 3), ("a", None)]


def test_an_inbox_without_types_collects_all() -> None:
    channel, deliver = made()
    with channel.listen() as inbox:
        deliver("a", 1)
        deliver("b", "conn", 2)
        assert inbox.get() == ("a", 1)
        assert inbox.get() == ("conn", "b", 2)


def test_handlers_and_many_inboxes_get_the_same_message() -> None:
    channel, deliver = made()
    got = Recorder()
    channel.on("x", got)
    with channel.listen() as first, channel.listen("x") as second:
        deliver("x", 1)
        assert first.get() == second.get() == ("x", 1)
    assert got.items == [1]


def test_a_message_in_an_inbox_counts_as_handled() -> None:
    channel, deliver = made()
    with channel.listen("x"):
        assert deliver("x", 1)
    assert not deliver("x", 2)


def test_an_inbox_can_be_iterated_over_until_it_is_closed() -> None:
    channel, deliver = made()
    with channel.listen() as inbox:
        for number in range(5):
            deliver("x", number)
        inbox.close()
        assert not deliver("x", 5)
        assert [payload for _, payload in inbox] == [0, 1, 2, 3, 4]
    assert list(inbox) == []


def test_the_iteration_waits_for_messages() -> None:
    channel, deliver = made()
    inbox = channel.listen()
    collecting = Thread(lambda: [payload for _, payload in inbox])
    for number in range(100):
        deliver("x", number)
    assert collecting.is_alive()
    channel.interrupt("offline")
    assert collecting.result() == list(range(100))


def test_leaving_the_block_stops_listening() -> None:
    channel, deliver = made()
    with pytest.raises(ZeroDivisionError), channel.listen() as inbox:
        deliver("x", 1)
        raise ZeroDivisionError
    assert not deliver("x", 2)
    assert inbox.get() == ("x", 1)
    with pytest.raises(WseConnectionError) as caught:
        inbox.get()
    assert caught.value.code == WSE_ERROR.CONNECTION_CLOSED
    inbox.close()


def test_get_waits_for_a_message() -> None:
    channel, deliver = made()
    with channel.listen() as inbox:
        getting = Thread(inbox.get)
        deliver("x", 1)
        assert getting.result() == ("x", 1)


@pytest.mark.parametrize("timeout", [0, 0.01])
def test_get_says_when_the_time_is_over(timeout: float) -> None:
    channel, deliver = made()
    with channel.listen() as inbox:
        with pytest.raises(WseTimeoutError):
            inbox.get(timeout)
        deliver("x", 1)
        assert inbox.get(timeout) == ("x", 1)


def test_a_full_inbox_holds_the_lane_back_and_drops_nothing() -> None:
    channel, deliver = made()
    with channel.listen(max_items=3) as inbox:
        delivering = Thread(lambda: [deliver("x", number) for number in range(10)])
        wait_until(lambda: repr(inbox) == "<Inbox open, 3 waiting>", inbox)
        delivering.join(A_MOMENT)
        assert delivering.is_alive()
        assert repr(inbox) == "<Inbox open, 3 waiting>"
        assert [inbox.get()[1] for _ in range(10)] == list(range(10))
        assert delivering.result() == [True] * 10


@pytest.mark.parametrize("end", ["close", "interrupt", "leave"])
def test_whatever_closes_a_full_inbox_lets_the_lane_go_on(end: str) -> None:
    channel, deliver = made()
    with channel.listen(max_items=1) as inbox:
        delivering = Thread(lambda: [deliver("x", number) for number in range(3)])
        wait_until(lambda: repr(inbox) == "<Inbox open, 1 waiting>", inbox)
        delivering.join(A_MOMENT)
        assert delivering.is_alive()
        if end == "close":
            inbox.close()
        elif end == "interrupt":
            channel.interrupt("offline")
    assert delivering.result() == [True, False, False]
    assert [payload for _, payload in inbox] == [0]


def test_a_full_inbox_does_not_hold_back_what_it_does_not_want() -> None:
    channel, deliver = made()
    got = Recorder()
    channel.on("y", got)
    with channel.listen("x", max_items=1):
        deliver("x", 1)
        assert Thread(lambda: deliver("y", 2)).result()
    assert got.items == [2]


def test_an_inbox_that_is_opened_offline_is_empty() -> None:
    channel, _ = made()
    channel.interrupt("offline")
    with channel.listen() as inbox:
        assert list(inbox) == []
    channel.resume()
    assert channel._inboxes == []


def test_no_inbox_is_kept_when_it_is_closed() -> None:
    channel, _ = made()
    for _ in range(10):
        with channel.listen() as inbox:
            assert isinstance(inbox, Inbox)
    assert channel._inboxes == []


@pytest.mark.parametrize("max_items", [0, -1, "1", None, 1.5])
def test_an_inbox_needs_room_for_one_item(max_items: Any) -> None:
    channel, _ = made()
    with pytest.raises((WseTypeError, WseValueError)):
        channel.listen("x", max_items=max_items)
    assert channel._inboxes == []


def test_many_lanes_may_fill_and_many_threads_may_empty_an_inbox() -> None:
    channel, deliver = made()
    inbox = channel.listen(max_items=5)
    emptying = [Thread(lambda: list(inbox)) for _ in range(3)]

    def fill(lane: int) -> None:
        for number in range(200):
            assert deliver("x", (lane, number))

    for thread in [Thread(partial(fill, lane)) for lane in range(3)]:
        thread.result()
    wait_until(lambda: not inbox._items)
    inbox.close()
    items = [payload for thread in emptying for _, payload in thread.result()]
    assert sorted(items) == [(lane, number) for lane in range(3) for number in range(200)]


def test_the_repr_says_what_state_it_is_in() -> None:
    channel, deliver = made()
    inbox = channel.listen()
    deliver("x", 1)
    assert repr(inbox) == "<Inbox open, 1 waiting>"
    inbox.close()
    assert repr(inbox) == "<Inbox closed, 1 waiting>"
