"""One transport while it lives: how it reads, how it ends, and how its death is noticed."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import PATIENCE, Recorder, Thread, pass_time, wait_event, wait_until
from tests.transport.ends import LIMIT, UNKNOWN, Certificates, End, WebSocketWire, connect
from wse_sync.link import CLOSE_TIMEOUT, Link
from wse_sync.loop import Loop, Timer
from wse_sync.loop import loop as process_loop
from wse_sync.outbox import Outbox
from wse_sync.protocol import Data
from wse_sync.transport import memory
from wse_sync.transport.base import Stream, Transport
from wse_sync.workers import Workers

NEVER = 3600.0
ROOM = 10**6
A_MOMENT = 0.05


class Side:
    """A link, and what it told."""

    def __init__(
        self,
        transport: Transport,
        loop: Loop = process_loop,
        *,
        max_queue_bytes: int = ROOM,
        ping_interval: float | None = None,
        ping_timeout: float | None = None,
        on_data: Callable[[Data], None] | None = None,
        on_lost: Callable[[], None] | None = None,
    ) -> None:
        transport.max_message_bytes = LIMIT
        self.data = Recorder()
        self.told = Recorder()
        self._on_lost = on_lost
        self.link = Link(
            transport,
            loop,
            Workers(1),
            readers_serve=False,
            max_queue_bytes=max_queue_bytes,
            ping_interval=ping_interval,
            ping_timeout=ping_timeout,
            on_data=on_data or self.data.add,
            on_lost=self._lost,
            on_fault=lambda code, reason: self.told.add(("fault", code, reason)),
        )
        self.link.attach()
        self._reader: Thread[tuple[int, str]] | None = None

    def _lost(self, code: int, reason: str) -> None:
        if self._on_lost is not None:
            self._on_lost()
        self.told.add(("lost", code, reason))

    def start(self) -> Side:
        self._reader = Thread(self.link.run)
        return self

    @property
    def is_running(self) -> bool:
        return self._reader is not None and self._reader.is_alive()

    def verdict(self) -> tuple[int, str]:
        """Waits for the end of the reader; what it returned, which is what everybody was told."""
        assert self._reader is not None
        verdict = self._reader.result()
        assert self.link.verdict == verdict
        assert self.told.items[-1] == ("lost", *verdict)
        assert [item[0] for item in self.told.items].count("lost") == 1
        return verdict

    def end(self) -> None:
        self.link.fail()
        if self._reader is None:
            self.start()
        assert self._reader is not None
        self._reader.result()


class MakeSides:
    """Makes the two links of a pair, and ends them with the test."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack

    def __call__(
        self,
        near: dict[str, Any] | None = None,
        far: dict[str, Any] | None = None,
        *,
        capacity: int = 64 * 1024,
    ) -> tuple[Side, Side]:
        """Both are attached; who reads is started by the test."""
        here, there = memory.pair(capacity)
        sides = Side(here, **(near or {})), Side(there, **(far or {}))
        for side in sides:
            self._stack.callback(side.end)
        return sides


@pytest.fixture
def make_sides(loop_at_rest: None) -> Iterator[MakeSides]:
    with contextlib.ExitStack() as stack:
        yield MakeSides(stack)


def started(make_sides: MakeSides, **options: Any) -> tuple[Side, Side]:
    near, far = make_sides(**options)
    return near.start(), far.start()


# Upgrades


@pytest.mark.parametrize("when", ["before", "amid"])
def test_no_goodbye_goes_out_before_the_upgrade(
    make_sides: MakeSides, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """The other side would not know what to make of it."""
    near, _ = make_sides()
    link, stream = near.link, near.link.transport.stream
    entered, go_on, sent = threading.Event(), threading.Event(), Recorder()
    send = type(stream).send

    def attach(write: Callable[[bytes], object]) -> None:
        entered.set()
        wait_event(go_on)
        write(b"upgraded")

    def send_and_note(self: Stream, data: bytes | memoryview) -> int:
        sent.add(bytes(data))
        return send(self, data)

    link._attached = False
    monkeypatch.setattr(link.transport, "attach", attach)
    monkeypatch.setattr(type(stream), "send", send_and_note)
    if when == "before":
        link.close(1012)
        go_on.set()
        link.attach()
        assert sent.items == [b"upgraded"]
        assert near.start().verdict() == (1012, "")
        return
    attaching = Thread(link.attach)
    wait_event(entered)
    closing = Thread(lambda: link.close(1012))
    closing.join(0.05)
    go_on.set()
    for thread in (attaching, closing):
        thread.result()
    assert sent.items == [b"upgraded", link.transport.encode_close(1012, "")]


# Messages


def test_messages_go_both_ways_in_order(make_sides: MakeSides) -> None:
    near, far = started(make_sides, capacity=1000)
    sent: list[Data] = []
    for number in range(200):
        sent += ["x" * number, b"y" * number]
    for data in sent:
        assert near.link.send(data)
        assert far.link.send(data)
    assert near.data.wait_for(len(sent)) == far.data.wait_for(len(sent)) == sent


def test_a_link_that_is_not_read_yet_can_be_sent_to(make_sides: MakeSides) -> None:
    near, far = make_sides()
    far.start()
    near.link.send("early")
    assert far.data.wait_for(1) == ["early"]


# Handed over


def hand_over(side: Side) -> tuple[Recorder, Recorder, bool]:
    """Has others hear of the link; what they hear, and whether it could be done."""
    data, told = Recorder(), Recorder()
    done = side.link.hand_over(
        data.add,
        lambda code, reason: told.add(("lost", code, reason)),
        lambda code, reason: told.add(("fault", code, reason)),
    )
    return data, told, done


def test_a_link_that_is_handed_over_is_heard_by_the_others(make_sides: MakeSides) -> None:
    near, far = started(make_sides)
    far.link.send("before")
    near.data.wait_for(1)
    data, told, done = hand_over(near)
    assert done
    far.link.send("after")
    assert data.wait_for(1) == ["after"]
    near.link.close(4000, "jump", timeout=NEVER)
    assert far.verdict() == (4000, "jump")
    assert told.wait_for(1) == [("lost", 4000, "jump")]
    assert near.data.items == ["before"]
    assert len(near.told) == 0


def test_a_link_is_handed_over_by_who_gets_its_messages(make_sides: MakeSides) -> None:
    """From the next message on."""
    seen, others = Recorder(), Recorder()

    def take(data: Data) -> None:
        seen.add(data)
        assert near.link.hand_over(others.add, lambda *_: None, lambda *_: None)

    near, far = make_sides(near={"on_data": take})
    for number in range(20):
        far.link.send(f"{number}")
    near.start()
    far.start()
    assert others.wait_for(19) == [f"{number}" for number in range(1, 20)]
    assert seen.items == ["0"]


def test_a_fault_after_a_hand_over_is_told_to_the_others(make_sides: MakeSides) -> None:
    near, far = started(make_sides)
    _, told, done = hand_over(near)
    assert done
    far.link.send(b"x" * (LIMIT + 1))
    assert told.wait_for(2) == [(kind, 1009, "message too big") for kind in ("fault", "lost")]
    assert len(near.told) == 0


@pytest.mark.parametrize("end", ["close", "fail"])
def test_a_link_that_is_over_cannot_be_handed_over(make_sides: MakeSides, end: str) -> None:
    near, far = started(make_sides)
    if end == "close":
        near.link.close(4000, "jump", timeout=NEVER)
    else:
        near.link.fail(4000, "jump")
    data, told, done = hand_over(near)
    assert not done
    far.link.send("after")
    assert near.verdict() == (4000, "jump")
    assert len(data) == len(told) == 0
    assert near.told.items == [("lost", 4000, "jump")]


def test_of_a_hand_over_and_an_end_at_once_one_hears_of_the_end(make_sides: MakeSides) -> None:
    """Those who have the link hear of it, and nobody else."""
    for _ in range(50):
        near, far = started(make_sides)
        together = threading.Barrier(2)

        def end(link: Link = near.link, together: threading.Barrier = together) -> None:
            together.wait(PATIENCE)
            link.fail(4000, "jump")

        ending = Thread(end)
        together.wait(PATIENCE)
        _, told, done = hand_over(near)
        ending.result()
        heard, silent = (told, near.told) if done else (near.told, told)
        assert heard.wait_for(1) == [("lost", 4000, "jump")]
        assert len(silent) == 0
        far.verdict()


# Ends


def test_a_close_is_told_once_on_both_sides(make_sides: MakeSides) -> None:
    near, far = started(make_sides)
    near.link.close(4000, "jump", timeout=NEVER)
    assert near.verdict() == far.verdict() == (4000, "jump")


def test_who_closes_knows_it_at_once(make_sides: MakeSides) -> None:
    """Before the other side can have heard of it."""
    near, _ = make_sides()
    near.link.close(1000, "bye", timeout=NEVER)
    assert near.told.items == [("lost", 1000, "bye")]
    assert near.link.verdict == (1000, "bye")


def test_a_close_comes_behind_what_was_sent(make_sides: MakeSides) -> None:
    near, far = make_sides(capacity=100)
    sent = [f"{number} " + "x" * 500 for number in range(20)]
    for data in sent:
        near.link.send(data)
    near.link.close(1000, timeout=NEVER)
    near.start()
    far.start()
    assert far.verdict() == (1000, "")
    assert far.data.items == sent
    assert near.verdict() == (1000, "")


def test_a_close_at_once_drops_what_has_not_begun(make_sides: MakeSides) -> None:
    near, far = make_sides(capacity=100)
    for number in range(20):
        near.link.send(f"{number} " + "x" * 500)
    near.link.close(1000, "now", at_once=True, timeout=NEVER)
    near.start()
    far.start()
    assert far.verdict() == (1000, "now")
    assert len(far.data) == 1
    near.verdict()


def test_a_close_that_is_not_answered_is_cut(make_sides: MakeSides) -> None:
    near, far = make_sides()
    near.start()
    near.link.close(1000, "bye", timeout=0.01)
    assert near.verdict() == (1000, "bye")
    far.start()
    assert far.verdict() == (1000, "bye")


def test_a_close_that_cannot_even_be_sent_is_cut(make_sides: MakeSides) -> None:
    near, _ = make_sides(capacity=10)
    near.start()
    near.link.send("x" * 100)
    near.link.close(1000, "bye", timeout=0.01)
    assert near.verdict() == (1000, "bye")


def test_both_sides_may_close_at_once(make_sides: MakeSides) -> None:
    near, far = make_sides()
    near.link.close(4001, "near", timeout=NEVER)
    far.link.close(4002, "far", timeout=NEVER)
    near.start()
    far.start()
    assert near.verdict() == (4001, "near")
    assert far.verdict() == (4002, "far")


@pytest.mark.parametrize("first", ["close", "fail"])
def test_the_first_verdict_counts(make_sides: MakeSides, first: str) -> None:
    near, far = started(make_sides)
    if first == "close":
        near.link.close(4001, "first", timeout=NEVER)
        near.link.fail(4002, "second")
    else:
        near.link.fail(4001, "first")
        near.link.close(4002, "second", timeout=NEVER)
    near.link.close(4003, "third", timeout=NEVER)
    near.link.overflow()
    assert near.verdict() == (4001, "first")
    far.verdict()


def test_of_many_verdicts_at_once_everybody_hears_the_same(make_sides: MakeSides) -> None:
    near, far = started(make_sides)
    together = threading.Barrier(8)

    def close(number: int) -> None:
        together.wait(PATIENCE)
        near.link.close(4000 + number, f"{number}", timeout=NEVER)

    threads = [Thread(partial(close, number)) for number in range(8)]
    for thread in threads:
        thread.result()
    assert near.verdict() == far.verdict()


@pytest.mark.parametrize("end", ["close", "fail"])
def test_the_reader_does_not_end_before_everybody_was_told(make_sides: MakeSides, end: str) -> None:
    """Or the next link could be there when the loss of this one is told."""
    entered, release = threading.Event(), threading.Event()

    def slow() -> None:
        entered.set()
        wait_event(release)

    near, far = make_sides(near={"on_lost": slow})
    near.start()
    ending = Thread(
        lambda: near.link.close(4000, timeout=NEVER) if end == "close" else near.link.fail()
    )
    wait_event(entered)
    far.link.cut()
    assert not near.link.wait(A_MOMENT)
    assert near.is_running
    release.set()
    ending.result()
    near.verdict()


def test_fail_says_nothing_to_the_other_side(make_sides: MakeSides) -> None:
    near, far = started(make_sides)
    near.link.fail()
    assert near.verdict() == far.verdict() == (1006, "")


def test_fail_waits_for_nothing(make_sides: MakeSides, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for what has not been sent either."""
    monkeypatch.setattr("wse_sync.link.CLOSE_TIMEOUT", NEVER)
    near, _ = make_sides(capacity=10)
    near.start()
    near.link.send("x" * 1000)
    near.link.fail()
    assert near.verdict() == (1006, "")


def test_the_end_of_the_other_side_is_the_end(make_sides: MakeSides) -> None:
    near, far = make_sides()
    near.start()
    far.link.cut()
    assert near.verdict() == (1006, "")


def test_24_a_cut_does_not_change_the_verdict(make_sides: MakeSides) -> None:
    near, _ = make_sides()
    near.start()
    near.link.close(1012, "wse.by-server", timeout=NEVER)
    near.link.cut()
    assert near.verdict() == (1012, "wse.by-server")


def test_what_comes_after_the_verdict_is_dropped(make_sides: MakeSides) -> None:
    near, far = make_sides()
    far.link.send("before")
    near.start()
    near.data.wait_for(1)
    near.link.close(1000, timeout=NEVER)
    far.link.send("after")
    far.start()
    near.verdict()
    assert near.data.items == ["before"]


def test_an_ended_link_takes_nothing(make_sides: MakeSides) -> None:
    near, far = started(make_sides)
    assert not near.link.wait(0.0)
    near.link.close(1000)
    assert not near.link.send("x")
    far.verdict()
    near.verdict()
    assert near.link.wait(0.0)
    assert not near.link.send("x")
    near.link.close(1001)
    near.link.fail()
    near.link.cut()
    near.link.overflow()
    assert near.link.verdict == (1000, "")


def test_wait_is_woken_at_the_end(make_sides: MakeSides) -> None:
    near, _ = started(make_sides)
    waiting = Thread(lambda: near.link.wait(NEVER))
    near.link.fail()
    assert waiting.result() is True


def test_a_reader_that_raises_closes_with_1011(
    make_sides: MakeSides, caplog: pytest.LogCaptureFixture
) -> None:
    """It is ours and must not; if it does, nobody waits for ever, and the log says why."""

    def fail(data: Data) -> None:
        raise ZeroDivisionError("a bug")

    near, far = started(make_sides, near={"on_data": fail})
    far.link.send("x")
    assert near.verdict() == (1011, "")
    assert far.verdict() == (1011, "")
    assert "memory" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_no_timer_is_left_by_a_link_that_has_ended(make_sides: MakeSides) -> None:
    beating = {"ping_interval": NEVER, "ping_timeout": NEVER}
    near, far = started(make_sides, near=beating, far=beating)
    near.link.close(1000, timeout=NEVER)
    near.verdict()
    far.verdict()
    wait_until(lambda: not process_loop._live)


def test_a_goodbye_that_comes_after_the_end_sets_no_timer(make_sides: MakeSides) -> None:
    """Whoever closes has given the verdict, and then others are faster than it."""
    near, far = started(make_sides)
    ending, said = threading.Event(), threading.Event()
    encode_close, close = near.link.transport.encode_close, Outbox.close

    def encode_late(code: int, reason: str) -> bytes:
        far.link.fail()
        wait_event(ending)
        return encode_close(code, reason)

    def close_late(outbox: Outbox) -> None:
        if outbox is near.link.outbox:
            ending.set()
            wait_event(said)
        close(outbox)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(near.link.transport, "encode_close", encode_late)
        patch.setattr(Outbox, "close", close_late)
        near.link.close(1000, timeout=NEVER)
        said.set()
    assert near.verdict() == (1000, "")
    far.verdict()
    wait_until(lambda: not process_loop._live)


# What the transport cannot read


def test_a_fault_is_told_before_the_end(make_sides: MakeSides) -> None:
    near, far = started(make_sides)
    near.link.transport.max_message_bytes = 10
    far.link.send("x" * 11)
    assert near.verdict() == (1009, "message too big")
    assert far.verdict() == (1009, "message too big")
    assert [item[0] for item in near.told.items] == ["fault", "lost"]
    assert [item[0] for item in far.told.items] == ["lost"]


def test_a_fault_after_the_verdict_is_told_to_nobody(make_sides: MakeSides) -> None:
    near, far = make_sides()
    near.link.transport.max_message_bytes = 10
    near.link.close(1000, "bye", timeout=NEVER)
    far.link.send("x" * 11)
    near.start()
    far.start()
    assert near.verdict() == far.verdict() == (1000, "bye")
    assert len(near.told) == 1


every_socket = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
every_role = pytest.mark.parametrize("role", ["accepted", "dialed"])


@contextlib.contextmanager
def over_sockets(
    role: str, certificates: Certificates | None, **options: Any
) -> Iterator[tuple[Side, End]]:
    """A link in this role, and the bare end that it talks to."""
    near: Side
    far: End
    if role == "accepted":
        near, dialed = connect(lambda transport: Side(transport, **options), certificates)
        far = End(dialed, WebSocketWire(masked=True))
    else:
        far, dialed = connect(
            lambda transport: End(transport, WebSocketWire(masked=False)), certificates
        )
        near = Side(dialed, **options)
    try:
        yield near, far
    finally:
        far.close()
        near.end()


@every_role
@every_socket
def test_43_a_close_is_not_overtaken_by_a_reset(
    certificates: Certificates, tls: bool, role: str
) -> None:
    """The other side still sends a lot; a socket closed over unread input is reset (RFC 1122)."""
    with over_sockets(role, certificates if tls else None) as (near, far):
        near.link.transport.max_message_bytes = 1000
        near.start()
        for _ in range(50):
            far.send("x" * 100_000)
        lost = far.lost()
        assert (lost.code, lost.drain) == (1009, False)
        far.abort()
        assert near.verdict()[0] == 1009


@every_role
@pytest.mark.parametrize("closes", [True, False], ids=["close", "fault"])
def test_6_nothing_goes_out_behind_a_close_of_the_transport(role: str, closes: bool) -> None:
    """What workers send meanwhile would (RFC 6455, 5.5.1)."""
    sides: list[Side] = []
    taken = Recorder()

    def send_late() -> None:
        taken.add(sides[0].link.send("late"))

    with over_sockets(role, None, on_lost=send_late) as (near, far):
        sides.append(near)
        near.start()
        if closes:
            far.send_close(1000, "bye")
        else:
            far.send_frame(UNKNOWN)
        assert far.lost().code == (1000 if closes else 1002)
        assert taken.wait_for(1) == [False]
        assert Thread(lambda: far.transport.stream.receive(100)).result() == b""


@every_role
@every_socket
def test_6_one_who_waits_for_our_end_after_a_fault_sees_it_at_once(
    certificates: Certificates, tls: bool, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of both it is the server that has to close first (RFC 6455, 7.1.1)."""
    monkeypatch.setattr("wse_sync.link.CLOSE_TIMEOUT", NEVER)
    with over_sockets(role, certificates if tls else None) as (near, far):
        near.start()
        far.send_frame(UNKNOWN)
        assert far.lost().code == 1002
        assert Thread(lambda: far.transport.stream.receive(100)).result() == b""
        far.abort()
        assert near.verdict()[0] == 1002


def test_6_one_who_floods_after_a_fault_is_not_heard_out(
    make_sides: MakeSides, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wse_sync.link.CLOSE_TIMEOUT", NEVER)
    monkeypatch.setattr("wse_sync.link._MOST_DRAIN_BYTES", 10_000)
    near, far = make_sides()
    near.start()
    near.link.transport.max_message_bytes = 10
    for _ in range(100):
        far.link.send("x" * 1000)
    assert near.verdict() == (1009, "message too big")


@every_role
@every_socket
def test_a_close_over_sockets_is_answered_and_not_cut(
    certificates: Certificates, tls: bool, role: str
) -> None:
    with over_sockets(role, certificates if tls else None) as (near, far):
        near.start()
        near.link.send("last words")
        near.link.close(1000, "bye", timeout=NEVER)
        assert far.read() == ["last words"]
        lost = far.lost()
        assert (lost.code, lost.reason) == (1000, "bye")
        assert near.verdict() == (1000, "bye")


def test_one_who_does_not_stop_is_not_heard_out_for_ever(
    make_sides: MakeSides, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wse_sync.link.CLOSE_TIMEOUT", 0.01)
    near, far = make_sides()
    near.start()
    near.link.transport.max_message_bytes = 10
    far.link.send("x" * 11)
    assert near.verdict() == (1009, "message too big")


# Slow consumers


def test_42_a_reader_that_stops_is_given_up(
    make_sides: MakeSides, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wse_sync.link.CLOSE_TIMEOUT", NEVER)
    near, far = make_sides(near={"max_queue_bytes": 10_000}, capacity=1000)
    near.start()
    sent = 0
    while near.link.send("x" * 1000):
        sent += 1
        assert sent < 100
    near.told.wait_for(1)
    assert near.told.items == [("lost", 1013, "wse.slow-consumer")]
    wait_until(lambda: near.link._cutter is not None, "it has said goodbye")
    far.start()
    assert far.verdict() == (1013, "wse.slow-consumer")
    assert len(far.data) < sent
    near.verdict()


def test_42_one_who_never_reads_again_is_cut(make_sides: MakeSides) -> None:
    near, _ = make_sides(near={"max_queue_bytes": 10_000}, capacity=1000)
    near.start()
    while near.link.send("x" * 1000):
        continue
    wait_until(lambda: near.link._cutter is not None, "it has said goodbye")
    pass_time(CLOSE_TIMEOUT)
    assert near.verdict() == (1013, "wse.slow-consumer")


def test_what_keeps_the_conversation_going_is_sent_when_there_is_no_room(
    make_sides: MakeSides,
) -> None:
    """Behind what waits already, and without an end of the link."""
    near, far = make_sides(near={"max_queue_bytes": 500}, capacity=100)
    near.link.send("x" * 590)
    assert near.link.outbox.waiting_bytes <= 500
    assert near.link.send_control("important " * 10)
    assert near.link.outbox.waiting_bytes > 500
    assert near.link.verdict is None
    far.start()
    assert far.data.wait_for(2) == ["x" * 590, "important " * 10]
    near.start()
    near.link.close(1000, timeout=NEVER)
    assert not near.link.send_control("late")
    far.verdict()


def test_frames_without_a_bound_are_for_those_who_wait_for_room(make_sides: MakeSides) -> None:
    near, far = make_sides(near={"max_queue_bytes": 1000}, capacity=100)
    for _ in range(100):
        assert near.link.send("x" * 1000, bounded=False)
    near.start()
    far.start()
    far.data.wait_for(100)


# The heartbeat, in time that the test makes

INTERVALS = st.floats(0.5, 50.0)


class SteppedLoop(Loop):
    """A loop without a thread: time passes when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self._timers: list[Timer] = []

    def call_at(self, deadline: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(self, deadline, callback)
        self._timers.append(timer)
        return timer

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        return self.call_at(self.now + delay, callback)

    @property
    def has_timers(self) -> bool:
        return any(timer.callback is not None for timer in self._timers)

    def advance(self, to: float) -> None:
        """Runs what is due until then, each at its time."""
        while True:
            due = [timer for timer in self._timers if timer.callback and timer.deadline <= to]
            if not due:
                break
            timer = min(due, key=lambda each: each.deadline)
            callback, timer.callback = timer.callback, None
            # A clock never stands still, whatever the rounding of a deadline.
            self.now = max(self.now + 1e-9, timer.deadline)
            assert callback is not None
            callback()
        self.now = to


class Beating:
    """A link whose heart beats in the time of a stepped loop. The other end is the test."""

    def __init__(self, interval: float, timeout: float | None) -> None:
        self.loop = SteppedLoop()
        self._patch = pytest.MonkeyPatch()
        self._patch.setattr("wse_sync.clock.monotonic", lambda: self.loop.now)
        # Nothing is waited for that only a loop with a thread would do.
        self._patch.setattr("wse_sync.link.CLOSE_TIMEOUT", 0.0)
        here, self._there = memory.pair()
        self.side = Side(here, self.loop, ping_interval=interval, ping_timeout=timeout)
        self.lost_at: float | None = None
        self._stream = here.stream
        self._stream.last_received = self.loop.now

    def __enter__(self) -> Beating:
        self.side.start()
        wait_until(lambda: self.loop.has_timers)
        return self

    def __exit__(self, *_: object) -> None:
        self.side.end()
        self._patch.undo()

    def live(self) -> None:
        """Something came in now."""
        self._stream.last_received = self.loop.now

    def pass_time(self, seconds: float) -> None:
        """Time passes in silence."""
        start = self.loop.now
        for step in range(1, 21):
            self.loop.advance(start + seconds * step / 20)
            if self.lost_at is None and self.side.link.verdict is not None:
                self.lost_at = self.loop.now

    def pings(self) -> int:
        """How many were sent since the last question."""
        ping = self.side.link.transport.encode_ping()
        size = len(self._pending())
        assert size % len(ping) == 0
        return size // len(ping)

    def _pending(self) -> bytes:
        self.side.link.transport.stream.send(MARK)
        data = b""
        while not data.endswith(MARK):
            data += self._there.stream.receive(65536)
        return data[: -len(MARK)]


MARK = b"<here>"


@given(
    INTERVALS,
    INTERVALS,
    st.lists(st.floats(0.0, 0.99), max_size=8),
)
def test_35_silence_is_noticed_within_interval_and_timeout_and_not_before(
    interval: float, timeout: float, gaps: list[float]
) -> None:
    """Whatever came before, as long as it never was as silent as that."""
    with Beating(interval, timeout) as beating:
        for gap in gaps:
            beating.pass_time(gap * (interval + timeout))
            assert beating.lost_at is None
            beating.live()
        last = beating.loop.now
        beating.pass_time(interval + timeout + 0.001)
        assert beating.side.link.verdict == (1006, "")
        assert beating.lost_at is not None
        assert beating.lost_at >= last + timeout
        assert beating.side.verdict() == (1006, "")


@given(INTERVALS, INTERVALS)
def test_a_ping_is_sent_after_each_interval_of_silence(interval: float, timeout: float) -> None:
    with Beating(interval, timeout) as beating:
        for _ in range(5):
            beating.live()
            beating.pass_time(interval * 0.9)
            assert beating.pings() == 0
            beating.pass_time(interval * 0.1 + 0.001)
            assert beating.pings() == 1


@given(INTERVALS, INTERVALS)
def test_nobody_is_pinged_who_is_never_silent(interval: float, timeout: float) -> None:
    with Beating(interval, timeout) as beating:
        for _ in range(20):
            beating.pass_time(interval * 0.5)
            beating.live()
        assert beating.pings() == 0
        assert beating.lost_at is None


@given(INTERVALS)
def test_without_a_timeout_it_pings_and_waits_for_ever(interval: float) -> None:
    with Beating(interval, None) as beating:
        beating.pass_time(interval * 10 + 0.001)
        assert beating.pings() == 10
        assert beating.lost_at is None


@given(INTERVALS, INTERVALS)
def test_who_does_not_read_cannot_call_it_silence(interval: float, timeout: float) -> None:
    """It shows that it lives, though: its own pongs wait with what it does not read."""
    with Beating(interval, timeout) as beating:
        beating.side.link.paused = True
        beating.pass_time((interval + timeout) * 3)
        assert beating.lost_at is None
        assert beating.pings() >= 3
        beating.side.link.paused = False
        beating.live()
        beating.pass_time((interval + timeout) * 0.9)
        assert beating.lost_at is None
        beating.pass_time((interval + timeout) * 0.1 + 0.001)
        assert beating.lost_at is not None


@given(INTERVALS, INTERVALS)
def test_bytes_that_still_go_out_are_life(interval: float, timeout: float) -> None:
    """A pong cannot overtake them at the other side."""
    with Beating(interval, timeout) as beating:
        outbox = beating.side.link.outbox
        outbox.write(b"x" * 100_000)
        assert outbox.waiting_bytes
        for _ in range(10):
            beating.pass_time((interval + timeout) * 0.5)
            outbox.last_sent = beating.loop.now
        assert beating.lost_at is None
        beating.pass_time(interval + timeout + 0.001)
        assert beating.lost_at is not None


@pytest.mark.parametrize("paused", [False, True])
def test_a_heartbeat_does_not_cut_a_goodbye_that_has_just_begun(paused: bool) -> None:
    """It has looked whether the link is over, and then another thread closes it."""
    with Beating(1.0, 1.0) as beating:
        link = beating.side.link
        encode_ping = link.transport.encode_ping

        def close_first() -> bytes:
            link.close(1000, "bye", timeout=60.0)
            return encode_ping()

        with pytest.MonkeyPatch.context() as patch:
            cut = Recorder()
            patch.setattr(link, "cut", lambda: cut.add("cut"))
            patch.setattr(link.transport, "encode_ping", close_first)
            link.pause() if paused else beating.pass_time(1.001)
            assert link.verdict == (1000, "bye")
            assert cut.items == []


# The heartbeat, in real time


def test_35_a_link_whose_other_side_answers_stays(make_sides: MakeSides) -> None:
    near, far = started(make_sides, near={"ping_interval": 0.01, "ping_timeout": PATIENCE})
    transport = near.link.transport
    lives: set[float] = set()

    def lived_often() -> bool:
        lives.add(transport.stream.last_received)
        return len(lives) > 10

    wait_until(lived_often)
    assert near.is_running and far.is_running
    far.link.send("x")
    assert near.data.wait_for(1) == ["x"]


def test_35_a_link_whose_other_side_is_silent_is_given_up(make_sides: MakeSides) -> None:
    near, _ = make_sides(near={"ping_interval": 0.01, "ping_timeout": 0.01})
    near.start()
    assert near.verdict() == (1006, "")


def test_35_a_clock_on_the_wall_that_jumps_changes_nothing(
    make_sides: MakeSides, monkeypatch: pytest.MonkeyPatch
) -> None:
    jumps = iter(range(0, 2**40, 2**20))
    monkeypatch.setattr(time, "time", lambda: float(next(jumps)))
    near, far = started(make_sides, near={"ping_interval": 0.01, "ping_timeout": PATIENCE})
    born = near.link.transport.stream.last_received
    wait_until(lambda: near.link.transport.stream.last_received > born)
    assert near.is_running and far.is_running
    silent, _ = make_sides(near={"ping_interval": 0.01, "ping_timeout": 0.01})
    silent.start()
    assert silent.verdict() == (1006, "")


def test_without_an_interval_there_is_no_heartbeat(make_sides: MakeSides) -> None:
    near, _ = make_sides()
    near.start()
    threading.Event().wait(A_MOMENT)
    assert near.is_running
    assert not process_loop._live


@every_role
@every_socket
def test_35_a_heartbeat_over_sockets_is_answered_by_who_reads(
    certificates: Certificates, tls: bool, role: str
) -> None:
    with over_sockets(
        role, certificates if tls else None, ping_interval=0.01, ping_timeout=PATIENCE
    ) as (near, far):
        near.start()
        reading = Thread(far.transport.read)
        wait_until(lambda: len(far.written) > 5)
        assert near.is_running
        near.link.send("enough")
        assert reading.result() == "enough"


@every_role
@every_socket
def test_35_silence_over_sockets_is_noticed(
    certificates: Certificates, tls: bool, role: str
) -> None:
    with over_sockets(
        role, certificates if tls else None, ping_interval=0.01, ping_timeout=0.01
    ) as (near, _):
        near.start()
        assert near.verdict() == (1006, "")
