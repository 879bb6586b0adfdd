"""A look at the next message: it takes nothing, and whoever reads next finds all as it was."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import FrameType
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import PATIENCE, Thread, wait_until
from tests.transport.ends import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    TEXT,
    WEBSOCKETS,
    Certificates,
    Ends,
    WebSocketWire,
    closing,
    memory_ends,
)
from wse_sync.transport import framing
from wse_sync.transport.base import Glance, LinkLost, Stream, assign

LIMIT = 300
SOON = 0.01


class Line(Stream):
    """A stream of prepared pieces; to whoever only looks, some of them come too late."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.last_received = 0.0
        self.pieces = pieces
        self.asked: list[tuple[int, float]] = []
        self.come = True
        self.before_receive: Callable[[], object] = str

    def receive(self, size: int) -> bytes:
        self.before_receive()
        return self._next(size)

    def gather(self, pieces: list[bytes], size: int, seconds: float) -> bool:
        self.asked.append((size, seconds))
        if not self.come:
            return False
        pieces.append(self._next(size))
        return any(pieces)

    def _next(self, size: int) -> bytes:
        if not self.pieces:
            return b""
        piece = self.pieces[0]
        self.pieces[:1] = [piece[size:]] if len(piece) > size else []
        return piece[:size]

    def send(self, data: bytes | memoryview) -> int:
        return len(data)

    def watch(self, loop: Any, flush: Callable[[], None]) -> None:
        """It takes all at once."""

    def unwatch(self, loop: Any) -> None:
        """It takes all at once."""

    def finish(self) -> None:
        """It takes all at once."""

    def abort(self) -> None:
        """It ends by itself."""

    def close(self) -> None:
        """There is nothing to give back."""


class Taken(NamedTuple):
    """What was taken: a text, or the bytes of a frame for the library."""

    text: str | None
    frame: bytes


def take(source: framing.Input) -> Taken:
    text = source.take_text(LIMIT)
    if text is not None:
        return Taken(text, b"")
    return Taken(None, source.take(source.peek()[2]))


def take_all(source: framing.Input) -> list[Taken]:
    taken = []
    with suppress(LinkLost):
        while True:
            taken.append(take(source))
    return taken


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    """The data in pieces of these sizes, and the rest."""
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    return [piece for piece in (*pieces, data) if piece]


def interrupted_at(place: int, act: Callable[[], object]) -> object:
    """Does something, with Ctrl-C at one of the places where the interpreter looks for signals."""
    events = iter(range(-place, 1))

    def interrupt(frame: FrameType, event: str, argument: Any) -> None:
        ours = "wse_sync" in frame.f_code.co_filename
        if ours and event in ("call", "c_return") and next(events, None) == 0:
            raise KeyboardInterrupt

    sys.setprofile(interrupt)
    try:
        with suppress(KeyboardInterrupt):
            return act()
    finally:
        sys.setprofile(None)
    return None


bodies = st.one_of(
    st.text(max_size=20).map(str.encode),
    st.sampled_from([b"", b"\xff", b"x" * 124, b"x" * 126, b"x" * 127, b"x" * (LIMIT + 1)]),
)
kinds = st.sampled_from([TEXT, TEXT, TEXT, TEXT, BINARY, CONT, PING, CLOSE])
frames = st.lists(st.tuples(kinds, bodies, st.booleans()), max_size=8)


class Look(NamedTuple):
    """A glance: whether anything comes soon, whether what is seen is taken, and Ctrl-C."""

    comes: bool
    takes: bool
    interrupted_at: int | None


looks = st.lists(
    st.builds(Look, st.booleans(), st.booleans(), st.none() | st.integers(0, 20)), max_size=4
)


@pytest.mark.parametrize("masked", [True, False])
@given(frames, st.lists(st.integers(0, 40), max_size=20), st.lists(looks, max_size=20))
def test_29_whoever_reads_after_a_glance_finds_what_was_there(
    masked: bool,
    frames: list[tuple[int, bytes, bool]],
    sizes: list[int],
    rounds: list[list[Look]],
) -> None:
    """Wherever the stream is cut, whatever comes, and wherever Ctrl-C does."""
    wire = WebSocketWire(masked=masked)
    data = b"".join(wire.frame(kind, body, fin=fin or kind != TEXT) for kind, body, fin in frames)
    expected = take_all(framing.Input(Line([data]), masked=masked, least=16))
    line = Line(cut(data, sizes))
    source = framing.Input(line, masked=masked, least=16)
    taken: list[Taken] = []
    with suppress(LinkLost):
        for round in rounds:
            taken.extend(look_around(source, line, round))
            taken.append(take(source))
    assert [*taken, *take_all(source)] == expected


def look_around(source: framing.Input, line: Line, round: list[Look]) -> list[Taken]:
    taken: list[Taken] = []
    for look in round:
        line.come = look.comes

        def glance() -> object:
            return source.glance(LIMIT, SOON)

        at = look.interrupted_at
        seen = glance() if at is None else interrupted_at(at, glance)
        if isinstance(seen, Glance) and look.takes:
            assign(seen.taking)
            assert isinstance(seen.data, str)
            taken.append(Taken(seen.data, b""))
    line.come = True
    return taken


@pytest.mark.parametrize("masked", [True, False])
@given(st.text(max_size=LIMIT // 4), st.data())
def test_a_whole_text_message_is_seen_once_all_of_it_is_there(
    masked: bool, text: str, data: st.DataObject
) -> None:
    frame = WebSocketWire(masked=masked).frame(TEXT, text.encode())
    place = data.draw(st.integers(0, len(frame)))
    source = framing.Input(Line(cut(frame, [place])), masked=masked, least=16)
    glances = [source.glance(LIMIT, SOON) for _ in range(3)]
    seen = [glance.data for glance in glances if glance is not None]
    assert seen and set(seen) == {text}
    last = glances[-1]
    assert last is not None
    assign(last.taking)
    assert source.glance(LIMIT, SOON) is None


def test_a_message_over_the_limit_is_not_seen() -> None:
    wire = WebSocketWire(masked=False)
    source = framing.Input(Line([wire.frame(TEXT, b"x" * 11)]), masked=False, least=16)
    assert source.glance(10, SOON) is None
    assert source.glance(11, SOON) is not None


def test_23_a_glance_reads_once_whatever_is_still_to_come() -> None:
    """Or the time of the call would be over long before the last byte of its answer comes."""
    wire = WebSocketWire(masked=False)
    line = Line(cut(wire.frame(TEXT, b"x" * LIMIT), [1] * LIMIT))
    source = framing.Input(line, masked=False, least=16)
    for number in range(1, 20):
        assert source.glance(LIMIT, SOON) is None
        assert len(line.asked) <= 2 * number
        assert sum(seconds for _, seconds in line.asked) <= SOON * number * 1.001
    assert take(source).text == "x" * LIMIT


def test_a_glance_at_what_is_there_asks_for_nothing() -> None:
    wire = WebSocketWire(masked=False)
    line = Line([wire.frame(TEXT, b"one") + wire.frame(TEXT, b"two")])
    source = framing.Input(line, masked=False, least=100)
    assert source.take_text(LIMIT) == "one"
    seen = source.glance(LIMIT, SOON)
    assert seen is not None and seen.data == "two"
    assert line.asked == []


def test_an_idle_link_keeps_nothing_of_a_message_that_was_taken_after_a_glance() -> None:
    wire = WebSocketWire(masked=False)
    line = Line([wire.frame(TEXT, b"x" * LIMIT)])
    source = framing.Input(line, masked=False, least=16)
    seen = source.glance(LIMIT, SOON)
    assert seen is not None
    assign(seen.taking)
    kept = []
    line.before_receive = lambda: kept.append(source._buffer + b"".join(source._arrived or []))
    with pytest.raises(LinkLost):
        source.take_text(LIMIT)
    assert kept == [b""]


# Transports

PLAIN, TLS = ["accepted", "dialed"], ["accepted-tls", "dialed-tls"]


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the whole suite runs without the fast path."""
    monkeypatch.setattr(framing, "FAST", True)


@pytest.fixture(params=PLAIN)
def plain(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator[Ends]:
    with closing(WEBSOCKETS[request.param](certificates)) as made:
        yield made


def test_a_message_is_seen_and_read(plain: Ends) -> None:
    plain.far.send("one")
    seen = plain.near.transport.glance(PATIENCE)
    assert seen is not None and seen.data == "one"
    assert plain.near.read() == ["one"]
    plain.far.send("two")
    seen = plain.near.transport.glance(PATIENCE)
    assert seen is not None and seen.data == "two"
    assign(seen.taking)
    plain.far.send("three")
    assert plain.near.read() == ["three"]


def test_what_does_not_come_soon_is_not_seen(plain: Ends) -> None:
    assert plain.near.transport.glance(SOON) is None
    plain.far.send("late")
    assert plain.near.read() == ["late"]


def test_amid_fragments_nothing_is_seen(plain: Ends) -> None:
    """A text frame there is an error, which is for the library to answer."""
    plain.far.send_frame(TEXT, b"one", fin=False)
    plain.far.send_frame(PING, b"p")
    reading = Thread(plain.near.lost)
    wait_until(lambda: plain.near.written, "the pong, after which it reads on amid fragments")
    assert plain.near.transport.glance(0.0) is None
    plain.far.send_frame(TEXT, b"two")
    assert reading.result().code == 1002
    assert plain.near.transport.glance(SOON) is None


@pytest.mark.parametrize("opcode", [BINARY, PING, CLOSE])
def test_what_is_for_the_library_is_left_to_it(plain: Ends, opcode: int) -> None:
    plain.far.send_frame(opcode)
    plain.far.send("behind it")
    assert plain.near.transport.glance(SOON) is None
    if opcode == CLOSE:
        assert plain.near.lost().code == 1005
    elif opcode == BINARY:
        assert plain.near.read(2) == [b"", "behind it"]
    else:
        assert plain.near.read() == ["behind it"]


def test_after_the_end_nothing_is_seen(plain: Ends) -> None:
    plain.far.abort()
    assert plain.near.transport.glance(SOON) is None
    assert plain.near.lost().code == 1006


def test_whoever_can_look_says_so(plain: Ends) -> None:
    assert plain.near.transport.can_glance
    assert plain.far.transport.can_glance


@pytest.mark.parametrize("name", PLAIN)
def test_where_the_libraries_read_nobody_can_look(
    name: str, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(framing, "FAST", False)
    with closing(WEBSOCKETS[name](certificates)) as made:
        assert not made.near.transport.can_glance


@pytest.mark.parametrize("name", TLS)
def test_over_tls_nobody_can_look(name: str, certificates: Certificates) -> None:
    with closing(WEBSOCKETS[name](certificates)) as made:
        assert not made.near.transport.can_glance


def test_a_transport_need_not_be_able_to_look() -> None:
    with closing(memory_ends()) as made:
        made.far.send("one")
        assert not made.near.transport.can_glance
        assert made.near.transport.glance(SOON) is None
        assert made.near.read() == ["one"]
