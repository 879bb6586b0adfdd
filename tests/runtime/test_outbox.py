"""What waits to be sent on one link."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from typing import Callable
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import PATIENCE, Recorder, Thread, wait_until
from wse_sync import clock
from wse_sync.loop import Loop
from wse_sync.outbox import Outbox
from wse_sync.transport import memory
from wse_sync.transport.base import LinkLost, Stream

CAPACITY = 100
BOUND = 1000


class Wire:
    """An outbox over a stream that takes little, and the other end of that stream."""

    def __init__(self, loop: Loop, capacity: int = CAPACITY, max_bytes: int = BOUND) -> None:
        here, there = memory.pair(capacity)
        self.stream: Stream = here.stream
        self.there: Stream = there.stream
        self.overflowed = Recorder()
        self.outbox = Outbox(
            here.stream,
            loop,
            max_bytes,
            lambda: self.overflowed.add(threading.current_thread().name),
        )

    def receive(self, count: int) -> bytes:
        """Takes exactly so many bytes at the other end."""

        def run() -> bytes:
            data = b""
            while len(data) < count:
                data += self.there.receive(count - len(data))
            return data

        return Thread(run).result()

    def receive_rest(self) -> bytes:
        """Takes what comes until nothing waits any more."""
        data = b""
        while self.outbox.waiting_bytes:
            data += self.there.receive(CAPACITY)
        self.stream.abort()
        while True:
            piece = self.there.receive(CAPACITY)
            if not piece:
                return data
            data += piece


@pytest.fixture
def wire(loop: Loop) -> Iterator[Wire]:
    made = Wire(loop)
    yield made
    made.outbox.close()


def fill(wire: Wire) -> bytes:
    """Makes the stream take nothing more."""
    assert wire.outbox.write(b"." * CAPACITY)
    assert wire.outbox.waiting_bytes == 0
    return b"." * CAPACITY


def blocked(run: Callable[[], bool]) -> Thread[bool]:
    """A thread that runs this and has not returned."""
    thread = Thread(run)
    thread.join(0.05)
    assert thread.is_alive()
    return thread


def test_what_fits_goes_at_once(wire: Wire) -> None:
    assert wire.outbox.write(b"one")
    assert wire.outbox.write(b"two")
    assert wire.outbox.waiting_bytes == 0
    assert wire.receive(6) == b"onetwo"


def test_what_does_not_fit_waits_and_goes_later(wire: Wire) -> None:
    frame = bytes(range(250))
    assert wire.outbox.write(frame)
    assert wire.outbox.waiting_bytes == len(frame) - CAPACITY
    assert wire.receive(250) == frame
    assert wire.outbox.wait_until_sent(PATIENCE)
    assert wire.outbox.waiting_bytes == 0


def test_a_frame_never_passes_one_that_waits(wire: Wire) -> None:
    sent = fill(wire)
    frames = [b"a" * 70, b"b", b"c" * 300, b"d"]
    for frame in frames:
        assert wire.outbox.write(frame)
    sent += b"".join(frames)
    assert wire.receive(len(sent)) == sent


def test_waiting_bytes_are_those_that_have_not_gone(wire: Wire) -> None:
    fill(wire)
    wire.outbox.write(b"x" * 60)
    wire.outbox.write(b"y" * 60)
    assert wire.outbox.waiting_bytes == 120
    wire.receive(50)
    wait_until(lambda: wire.outbox.waiting_bytes == 70)


def test_bytes_that_go_are_noted(wire: Wire) -> None:
    fill(wire)
    wire.outbox.write(b"x" * 60)
    before = clock.monotonic()
    wire.outbox.last_sent = 0.0
    wire.receive(10)
    wait_until(lambda: wire.outbox.last_sent)
    assert before <= wire.outbox.last_sent <= clock.monotonic()


def test_42_one_frame_too_many_is_refused_and_told_once_by_the_loop(wire: Wire) -> None:
    fill(wire)
    assert wire.outbox.write(b"x" * BOUND)
    assert not wire.outbox.write(b"y")
    assert not wire.outbox.write(b"y")
    assert wire.overflowed.wait_for(1) == ["wse-loop"]
    assert not wire.outbox.write(b"y")
    wire.receive(CAPACITY + BOUND)
    assert not wire.outbox.write(b"y")
    assert len(wire.overflowed) == 1


def test_42_the_bound_is_of_what_waits(wire: Wire) -> None:
    fill(wire)
    for _ in range(10):
        assert wire.outbox.write(b"x" * (BOUND // 10))
    assert wire.outbox.waiting_bytes == BOUND
    wire.receive(50)
    wait_until(lambda: wire.outbox.waiting_bytes == BOUND - 50)
    assert wire.outbox.write(b"x" * 50)
    assert not wire.outbox.write(b"x")
    wire.overflowed.wait_for(1)


def test_a_frame_that_is_longer_than_the_bound_goes_if_nothing_waits(wire: Wire) -> None:
    frame = b"x" * (3 * BOUND)
    assert wire.outbox.write(frame)
    assert wire.receive(len(frame)) == frame
    assert wire.outbox.write(frame)
    assert not wire.outbox.write(b"x")
    wire.overflowed.wait_for(1)


def test_a_frame_may_come_with_another_bound(wire: Wire) -> None:
    fill(wire)
    wire.outbox.write(b"x" * BOUND)
    assert wire.outbox.write(b"y" * BOUND, max_bytes=2 * BOUND)
    assert wire.outbox.write(b"z" * BOUND, max_bytes=float("inf"))
    assert wire.outbox.waiting_bytes == 3 * BOUND
    assert not wire.outbox.write(b"w", max_bytes=3 * BOUND)
    wire.overflowed.wait_for(1)


def test_control_frames_have_room_when_the_bound_is_reached_but_not_for_ever(wire: Wire) -> None:
    """A flood of pings is answered with pongs that nobody reads."""
    fill(wire)
    wire.outbox.write(b"x" * BOUND)
    count = 0
    while wire.outbox.write_control(b"pong"):
        count += 1
    assert count == BOUND // 4
    wire.overflowed.wait_for(1)


def test_finish_takes_the_last_frame(wire: Wire) -> None:
    sent = fill(wire)
    wire.outbox.write(b"x" * 50)
    wire.outbox.finish(b"bye")
    assert not wire.outbox.write(b"too late")
    assert not wire.outbox.write(b"too late", max_bytes=float("inf"))
    assert wire.receive_rest() == sent + b"x" * 50 + b"bye"


def test_finish_is_not_bounded(wire: Wire) -> None:
    fill(wire)
    wire.outbox.write(b"x" * BOUND)
    wire.outbox.finish(b"bye")
    assert wire.receive(CAPACITY + BOUND + 3).endswith(b"bye")
    assert len(wire.overflowed) == 0


def test_finish_at_once_drops_what_waits_but_for_the_frame_that_has_begun(wire: Wire) -> None:
    wire.outbox.write(b"a" * (CAPACITY + 50))
    wire.outbox.write(b"b" * 50)
    wire.outbox.write(b"c" * 50)
    wire.outbox.finish(b"bye", at_once=True)
    assert wire.outbox.waiting_bytes == 53
    assert wire.receive_rest() == b"a" * (CAPACITY + 50) + b"bye"


def test_finish_at_once_goes_at_once_if_nothing_waits(wire: Wire) -> None:
    wire.outbox.finish(b"bye", at_once=True)
    assert wire.receive(3) == b"bye"


def test_finish_after_an_overflow_still_says_goodbye(wire: Wire) -> None:
    wire.outbox.write(b"a" * (CAPACITY + 50))
    wire.outbox.write(b"b" * BOUND)
    wire.overflowed.wait_for(1)
    wire.outbox.finish(b"bye", at_once=True)
    assert wire.receive_rest() == b"a" * (CAPACITY + 50) + b"bye"


def test_6_of_two_last_frames_the_first_is_sent(wire: Wire) -> None:
    """Both sides may close at the same time; nothing goes out behind a close (RFC 6455, 5.5.1)."""
    wire.outbox.write_last(b"bye")
    wire.outbox.write_last(b"again")
    wire.outbox.finish(b"and again", at_once=True)
    assert not wire.outbox.write(b"late")
    assert wire.receive_rest() == b"bye"


def test_a_last_frame_waits_for_its_turn(wire: Wire) -> None:
    sent = fill(wire)
    assert wire.outbox.write(b"waits")
    wire.outbox.write_last(b"bye")
    assert wire.receive_rest() == sent + b"waits" + b"bye"


def test_a_sealed_outbox_takes_nothing_and_sends_what_waits(wire: Wire) -> None:
    wire.outbox.write(b"x" * (CAPACITY + 50))
    wire.outbox.seal()
    assert not wire.outbox.write(b"y")
    assert wire.receive_rest() == b"x" * (CAPACITY + 50)


def test_wait_for_room_returns_at_once_when_there_is_room(wire: Wire) -> None:
    assert wire.outbox.wait_for_room(BOUND * 100)
    fill(wire)
    wire.outbox.write(b"x" * 400)
    assert wire.outbox.wait_for_room(BOUND - 400)


def test_wait_for_room_waits_until_the_frame_fits(wire: Wire) -> None:
    fill(wire)
    wire.outbox.write(b"x" * BOUND)
    waiting = blocked(lambda: wire.outbox.wait_for_room(50))
    wire.receive(40)
    wait_until(lambda: wire.outbox.waiting_bytes == BOUND - 40)
    assert waiting.is_alive()
    wire.receive(10)
    assert waiting.result() is True
    assert wire.outbox.write(b"y" * 50)


def test_wait_for_room_lets_a_frame_that_is_too_long_in_when_nothing_waits(wire: Wire) -> None:
    fill(wire)
    wire.outbox.write(b"x" * 10)
    waiting = blocked(lambda: wire.outbox.wait_for_room(BOUND * 2))
    wire.receive(CAPACITY + 10)
    assert waiting.result() is True


def test_wait_for_room_says_when_the_time_is_over(wire: Wire) -> None:
    fill(wire)
    wire.outbox.write(b"x" * BOUND)
    assert not wire.outbox.wait_for_room(1, 0.01)
    assert not wire.outbox.wait_for_room(1, 0.0)


@pytest.mark.parametrize("end", ["seal", "finish", "close", "break", "overflow"])
def test_whatever_ends_the_outbox_wakes_those_who_wait_for_room(wire: Wire, end: str) -> None:
    fill(wire)
    wire.outbox.write(b"x" * BOUND)
    waiting = [blocked(lambda: wire.outbox.wait_for_room(1)) for _ in range(2)]
    if end == "seal":
        wire.outbox.seal()
    elif end == "finish":
        wire.outbox.finish(b"bye")
    elif end == "close":
        wire.outbox.close()
    elif end == "break":
        wire.stream.abort()
    else:
        wire.outbox.write(b"y")
    for thread in waiting:
        assert thread.result() is True
    assert not wire.outbox.write(b"y")


def test_wait_until_sent_says_whether_it_is(wire: Wire) -> None:
    assert wire.outbox.wait_until_sent(0.0)
    fill(wire)
    wire.outbox.write(b"x" * 10)
    assert not wire.outbox.wait_until_sent(0.01)
    waiting = blocked(lambda: wire.outbox.wait_until_sent(PATIENCE))
    wire.receive(CAPACITY)
    assert waiting.result() is True


def test_a_broken_stream_is_aborted_so_that_its_reader_notices(wire: Wire) -> None:
    reading = Thread(lambda: wire.stream.receive(10))
    wire.there.abort()
    assert not wire.outbox.write(b"x")
    assert not wire.outbox.write(b"x")
    assert reading.result() == b""


def test_a_stream_that_breaks_while_something_waits_empties_the_outbox(wire: Wire) -> None:
    fill(wire)
    wire.outbox.write(b"x" * 50)
    wire.there.abort()
    assert wire.outbox.wait_until_sent(PATIENCE)
    assert wire.outbox.waiting_bytes == 0
    assert not wire.outbox.write(b"x")


def test_ctrl_c_amid_a_frame_breaks_the_stream_and_not_the_next_frame(loop: Loop) -> None:
    """Nobody knows how much of it has gone; to go on would be to send the middle of a frame."""

    stream = memory.pair()[0].stream
    with patch.object(stream, "send", side_effect=KeyboardInterrupt):
        outbox = Outbox(stream, loop, 100, lambda: None)
        with pytest.raises(KeyboardInterrupt):
            outbox.write(b"a frame")
    assert outbox.write(b"another") is False
    outbox.close()


@pytest.mark.parametrize("taken", [0, 3])
def test_ctrl_c_amid_a_frame_keeps_the_link_if_it_is_known_how_much_has_gone(taken: int) -> None:
    stream = InterruptedStream(taken)
    stream.make_room(100)
    outbox = Outbox(stream, Loop(), 100, lambda: None)
    outbox.write(b"before ")
    stream.armed = True
    with pytest.raises(KeyboardInterrupt):
        outbox.write(b"a frame")
    stream.make_room(100)
    assert outbox.write(b" after")
    assert outbox.waiting_bytes == 0
    assert stream.sent == b"before " + (b"a frame" if taken else b"") + b" after"


def test_ctrl_c_amid_the_watching_of_a_stream_breaks_it(wire: Wire) -> None:
    """The system watches it then, and who has asked for it does not know."""
    errors = [KeyboardInterrupt, FileExistsError]
    with patch.object(wire.stream, "watch", side_effect=errors), pytest.raises(KeyboardInterrupt):
        wire.outbox.write(b"x" * 2 * CAPACITY)
    assert wire.outbox.waiting_bytes == 0
    assert not wire.outbox.write(b"x")


def test_ctrl_c_amid_an_overflow_leaves_it_to_the_next_frame(loop: Loop, wire: Wire) -> None:
    fill(wire)
    interrupted = patch.object(loop, "call_later", side_effect=KeyboardInterrupt)
    with interrupted, pytest.raises(KeyboardInterrupt):
        wire.outbox.write(b"x" * 2 * BOUND)
        wire.outbox.write(b"x")
    assert not wire.outbox.write(b"x")
    wire.overflowed.wait_for(1)


def test_close_drops_what_waits_and_closes_the_stream(wire: Wire) -> None:
    fill(wire)
    wire.outbox.write(b"x" * 50)
    wire.outbox.close()
    assert wire.outbox.waiting_bytes == 0
    assert not wire.outbox.write(b"y")
    wire.outbox.finish(b"bye")
    wire.outbox.seal()
    wire.outbox.close()
    with pytest.raises(LinkLost):
        wire.stream.send(b"x")


def test_threads_that_write_at_once_each_keep_their_order(loop: Loop) -> None:
    wire = Wire(loop, capacity=37, max_bytes=10**9)
    frames = 200

    def write_all(writer: int) -> None:
        for number in range(frames):
            body = bytes([writer]) * (number % 90)
            wire.outbox.write(bytes([writer, number, len(body)]) + body)

    writers = [Thread(partial(write_all, writer)) for writer in range(4)]
    following = [0] * 4
    for _ in range(4 * frames):
        writer, number, size = wire.receive(3)
        assert number == following[writer]
        following[writer] += 1
        assert wire.receive(size) == bytes([writer]) * size
    for thread in writers:
        thread.result()
    assert following == [frames] * 4
    wire.outbox.close()


class SlowStream(Stream):
    """Takes what there is room for; the test makes room."""

    def __init__(self) -> None:
        self.last_received = 0.0
        self.sent = b""
        self.room = 0
        self.flush: Callable[[], None] | None = None

    def receive(self, size: int) -> bytes:
        raise NotImplementedError

    def send(self, data: bytes | memoryview) -> int:
        count = min(self.room, len(data))
        self.sent += bytes(data[:count])
        self.room -= count
        return count

    def watch(self, loop: object, flush: Callable[[], None]) -> None:
        assert self.flush is None
        self.flush = flush

    def unwatch(self, loop: object) -> None:
        self.flush = None

    def finish(self) -> None:
        raise NotImplementedError

    def abort(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def make_room(self, count: int) -> None:
        self.room += count
        if self.flush is not None:
            self.flush()


class InterruptedStream(SlowStream):
    """Is interrupted once: before it has taken anything, or when it has taken so much."""

    sends_in_one_step = True

    def __init__(self, taken: int) -> None:
        super().__init__()
        self.armed = False
        self.taken = taken

    def send(self, data: bytes | memoryview) -> int:
        if self.armed:
            self.room = self.taken
            if not self.room:
                self._interrupt()
        return super().send(data)

    def watch(self, loop: object, flush: Callable[[], None]) -> None:
        self._interrupt()
        super().watch(loop, flush)

    def _interrupt(self) -> None:
        armed, self.armed = self.armed, False
        if armed:
            raise KeyboardInterrupt


STEPS = st.lists(
    st.tuples(st.sampled_from(["write", "make room"]), st.integers(1, 300)), max_size=60
)


@given(STEPS)
def test_whatever_is_taken_goes_whole_and_in_order(steps: list[tuple[str, int]]) -> None:
    stream = SlowStream()
    outbox = Outbox(stream, Loop(), 10**9, lambda: None)
    written = b""
    for step, count in steps:
        if step == "write":
            frame = bytes([len(written) % 256]) * count
            assert outbox.write(frame)
            written += frame
        else:
            stream.make_room(count)
        assert written.startswith(stream.sent)
        assert outbox.waiting_bytes == len(written) - len(stream.sent)
        # It waits for room only, and does not wait for nothing.
        assert (stream.flush is not None) == bool(outbox.waiting_bytes)
        assert not (stream.room and outbox.waiting_bytes)
    stream.make_room(len(written))
    assert stream.sent == written


@given(STEPS, st.integers(0, 300))
def test_finish_at_once_tears_no_frame(steps: list[tuple[str, int]], room: int) -> None:
    stream = SlowStream()
    outbox = Outbox(stream, Loop(), 10**9, lambda: None)
    frames: list[bytes] = []
    for step, count in steps:
        if step == "write":
            frames.append(bytes([len(frames)]) * count)
            outbox.write(frames[-1])
        else:
            stream.make_room(count)
    outbox.finish(b"bye", at_once=True)
    stream.make_room(10**6)
    assert stream.sent.endswith(b"bye")
    whole = [b"".join(frames[:count]) for count in range(len(frames) + 1)]
    assert stream.sent[:-3] in whole
