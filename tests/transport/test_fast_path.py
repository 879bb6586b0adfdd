"""The fast path changes nothing: messages, answers and ends are those of the library alone.

The normal run takes a part of the examples. ``WSE_FRAMING_EXAMPLES`` says how many each test shall
take; then they are other ones each time, and a failure says how to repeat it.
"""

from __future__ import annotations

import itertools
import os
import struct
import subprocess
import sys
import tracemalloc
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Callable, NamedTuple

import pytest
import websocket
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wsproto import events
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.frame_protocol import FrameProtocol

from tests.transport.ends import (
    BINARY,
    CLOSE,
    CONT,
    LIMIT,
    PING,
    PONG,
    TEXT,
    UNKNOWN,
    WebSocketWire,
)
from tests.transport.scripts import (
    ACCEPTED,
    DIALED,
    FAST,
    KIBI,
    LIBRARY,
    Answer,
    Event,
    Lost,
    Message,
    Script,
    Side,
    plain,
    play,
)
from wse_sync.transport import framing
from wse_sync.transport.base import LinkLost
from wse_sync.transport.stream import open_stream

ASKED = os.environ.get("WSE_FRAMING_EXAMPLES")
MEBI = 2**20


def examples(normal: int) -> settings:
    """How many there are in the normal run."""
    return settings(
        max_examples=int(ASKED or normal),
        derandomize=ASKED is None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


both_sides = pytest.mark.parametrize("side", [ACCEPTED, DIALED], ids=["accepted", "dialed"])


def by_wsproto(pieces: Iterable[bytes]) -> list[Event]:
    """What wsproto makes of them, with nothing of ours."""
    connection = Connection(ConnectionType.SERVER)
    seen: list[Event] = []
    parts: list[Any] = []
    for begun, piece in enumerate(pieces, 1):
        connection.receive_data(piece)
        for event in connection.events():
            if isinstance(event, (events.TextMessage, events.BytesMessage)):
                parts.append(event.data)
                if event.message_finished:
                    whole: Any = parts[0][:0].join(parts)
                    seen.append(Message(whole, begun))
                    parts.clear()
            elif isinstance(event, events.Ping):
                seen.append(Answer(PONG, bytes(event.payload), begun))
            elif isinstance(event, events.CloseConnection):
                written = bytes(connection.send(event.response()))
                (answer,) = WebSocketWire(masked=False).parse(written)
                seen.append(Answer(CLOSE, answer.body[:2] + plain(answer.body[2:]), 0))
                ours = connection.state is ConnectionState.LOCAL_CLOSING
                reason = plain((event.reason or "").encode()).decode()
                return [*seen, Lost(int(event.code), reason, ours)]
    return [*seen, Lost(1006, "", False)]


# What comes


@dataclass(frozen=True)
class Sent:
    """A frame, right or wrong in any way."""

    opcode: int
    body: bytes
    fin: bool = True
    reserved: int = 0
    length: int = -1
    """Said in the header; -1: that of the body."""
    width: int = 0
    """Bytes of the length, beside those in the second one; 0: as few as will do."""
    key: bytes = b"\x12\x34\x56\x78"
    is_turned: bool = False
    """Masked where it must not be, and the reverse."""


def encode(frame: Sent, side: Side) -> bytes:
    """Written out here, because no encoder would write most of these."""
    size = frame.length if frame.length >= 0 else len(frame.body)
    least = 0 if size < 126 else 2 if size < 2**16 else 8
    width = max(frame.width, least)
    masked = side.is_masked is not frame.is_turned
    short = {0: size, 2: 126, 8: 127}[width]
    head = bytes([frame.fin << 7 | frame.reserved << 4 | frame.opcode, masked << 7 | short])
    head += size.to_bytes(width, "big") if width else b""
    if not masked:
        return head + frame.body
    keys = (frame.key * (len(frame.body) // 4 + 1))[: len(frame.body)]
    mixed = int.from_bytes(frame.body, "big") ^ int.from_bytes(keys, "big")
    return head + frame.key + mixed.to_bytes(len(keys), "big")


UNITS = [b"x", "€".encode(), "😀".encode(), b"a\xc3\xa9", b"\0", b"\xef\xbb\xbf"]
NO_UTF8 = [b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\xe2\x28\xa1", b"\x80"]
EDGES = [0, 1, 124, 125, 126, 127, 128, 65534, 65535, 65536, 65537]
LIMITS = st.lists(
    st.sampled_from([LIMIT, LIMIT, 1, 9, 10, 125, 126, 1000, 65535, 65536]), min_size=1, max_size=3
)
#: Sizes of the header and around every limit of the above.
SIZES = st.integers(0, 20) | st.sampled_from([*EDGES, 8, 9, 10, 11, 999, 1000, 1001])


def repeat(unit: bytes, size: int, is_whole: bool) -> bytes:
    """So many bytes of a unit; fewer if the last one is to be whole."""
    count = size // len(unit)
    return unit * count if is_whole else (unit * (count + 1))[:size]


TEXTS = (
    st.text().map(str.encode)
    | st.builds(repeat, st.sampled_from(UNITS), SIZES, st.just(True))
    # More bytes than the limit, and not more characters.
    | st.sampled_from([3, 9, 10, 125, 1000]).map(lambda count: "€".encode() * count)
)
BYTES = st.binary() | st.builds(repeat, st.sampled_from([b"\xff", b"ab"]), SIZES, st.booleans())
BAD_TEXTS = st.tuples(TEXTS, st.sampled_from(NO_UTF8), TEXTS).map(b"".join) | st.builds(
    repeat, st.sampled_from(UNITS + NO_UTF8), SIZES, st.booleans()
)
KEYS = st.sampled_from([b"\x12\x34\x56\x78", b"\0\0\0\0", b"\xff\xfe\xfd\xfc", b"\0\0\0\x01"])
CONTROL_BODIES = st.binary(max_size=10) | st.sampled_from([b"x" * 124, b"x" * 125])
CODES = st.sampled_from([0, 999, 1000, 1001, 1004, 1005, 1006, 1007, 1013, 1014, 1015, 1016, 2999])
CLOSE_BODIES = CONTROL_BODIES | st.tuples(
    (CODES | st.integers(3000, 5001)).map(lambda code: struct.pack("!H", code)),
    TEXTS.map(lambda body: body[:123]) | st.binary(max_size=5),
).map(b"".join)

WHOLE_TEXTS = st.builds(Sent, st.just(TEXT), TEXTS, key=KEYS)
CONTROLS = st.builds(Sent, st.sampled_from([PING, PONG]), CONTROL_BODIES, key=KEYS)


def in_fragments(
    opcode: int, body: bytes, cuts: list[int], controls: list[Sent], key: bytes
) -> list[Sent]:
    """A message in fragments, with control frames between them."""
    edges = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    bodies = [body[start:end] for start, end in zip(edges, edges[1:])]
    frames: list[Sent] = []
    for number, (part, control) in enumerate(itertools.zip_longest(bodies, controls)):
        if part is not None:
            is_last = number == len(bodies) - 1
            frames.append(Sent(CONT if number else opcode, part, fin=is_last, key=key))
        if control is not None:
            frames.insert(len(frames) - bool(number % 2), control)
    return frames


FRAGMENTS = st.builds(
    in_fragments,
    st.sampled_from([TEXT, TEXT, BINARY]),
    TEXTS | TEXTS | BYTES,
    st.lists(st.integers(0, 10) | st.integers(0, 70000), max_size=5),
    st.lists(CONTROLS, max_size=3),
    KEYS,
)
OPCODES = st.sampled_from([CONT, TEXT, TEXT, TEXT, BINARY, CLOSE, PING, PONG, UNKNOWN, 7, 11, 15])
SAID = st.sampled_from(
    [-1, 0, 1, 125, 126, 127, 2**16 - 1, 2**16, 2**32, 2**63 - 1, 2**63, 2**64 - 1]
)
ODD = st.one_of(
    st.builds(Sent, st.just(TEXT), BAD_TEXTS, key=KEYS),
    st.builds(Sent, st.just(CLOSE), CLOSE_BODIES, key=KEYS),
    st.builds(Sent, OPCODES, TEXTS | BYTES, fin=st.booleans(), key=KEYS),
    st.builds(Sent, OPCODES, TEXTS, reserved=st.integers(0, 7), key=KEYS),
    st.builds(Sent, OPCODES, TEXTS | BAD_TEXTS, width=st.sampled_from([0, 2, 8]), key=KEYS),
    st.builds(Sent, OPCODES, TEXTS, is_turned=st.booleans(), key=KEYS),
    st.builds(
        Sent,
        OPCODES,
        TEXTS | BYTES,
        fin=st.booleans(),
        reserved=st.sampled_from([0, 0, 0, 1, 4]),
        length=SAID | st.integers(0, 2**64 - 1),
        width=st.sampled_from([0, 2, 8]),
        key=KEYS,
        is_turned=st.sampled_from([False, False, False, True]),
    ),
)
STEPS = (
    WHOLE_TEXTS.map(lambda frame: [frame])
    | st.lists(WHOLE_TEXTS, max_size=5)
    | st.builds(Sent, st.just(BINARY), BYTES, key=KEYS).map(lambda frame: [frame])
    | CONTROLS.map(lambda frame: [frame])
    | FRAGMENTS
    | st.lists(ODD, min_size=1, max_size=2)
)
FRAMES = st.lists(STEPS, min_size=1, max_size=8).map(
    lambda steps: [frame for step in steps for frame in step]
)

GARBAGE = st.just(b"") | st.just(b"") | st.binary()


class Way(NamedTuple):
    """How the bytes travel."""

    sizes: list[int]
    """Of the pieces, over and over; what is left comes as the last one."""
    most: int
    """How many such pieces there are before it."""
    kept: int
    """In thousandths, or all but a few bytes if less than 0; what follows is lost."""
    reset: bool


WAYS = st.builds(
    Way,
    st.lists(
        st.integers(1, 8) | st.integers(1, 300) | st.integers(1, 70000), min_size=1, max_size=8
    ),
    st.sampled_from([0, 0, 5, 50, 500]),
    st.just(1000) | st.just(1000) | st.integers(-12, 1000),
    st.booleans(),
)


def cut(data: bytes, way: Way) -> list[bytes]:
    kept = len(data) * way.kept // 1000 if way.kept >= 0 else max(0, len(data) + way.kept)
    data = data[:kept]
    pieces = []
    for size in itertools.islice(itertools.cycle(way.sizes), way.most):
        pieces.append(data[:size])
        data = data[size:]
    return [piece for piece in (*pieces, data) if piece]


# The same


@both_sides
@examples(300)
@given(frames=FRAMES, garbage=GARBAGE, way=WAYS, limits=LIMITS, mixed=st.data())
def test_the_fast_path_gives_what_the_library_alone_gives(
    side: Side,
    frames: list[Sent],
    garbage: bytes,
    way: Way,
    limits: list[int],
    mixed: st.DataObject,
) -> None:
    pieces = cut(b"".join(encode(frame, side) for frame in frames) + garbage, way)
    alone = play(side, Script(pieces, reset=way.reset), LIBRARY, limits)
    assert play(side, Script(pieces, reset=way.reset), FAST, limits) == alone
    path = mixed.draw(st.lists(st.booleans(), min_size=2, max_size=5), label="path")
    assert play(side, Script(pieces, reset=way.reset), path, limits) == alone


@both_sides
@examples(200)
@given(garbage=st.binary(max_size=300), way=WAYS, limits=LIMITS)
def test_bytes_that_mean_nothing_end_it_likewise(
    side: Side, garbage: bytes, way: Way, limits: list[int]
) -> None:
    pieces = cut(garbage, way)
    alone = play(side, Script(pieces, reset=way.reset), LIBRARY, limits)
    assert play(side, Script(pieces, reset=way.reset), FAST, limits) == alone


@examples(200)
@given(frames=FRAMES, way=WAYS)
def test_an_accepted_end_gives_what_wsproto_gives(frames: list[Sent], way: Way) -> None:
    data = b"".join(encode(frame, ACCEPTED) for frame in frames)
    pieces = cut(data, way._replace(kept=1000))
    assert play(ACCEPTED, Script(pieces), FAST) == by_wsproto(pieces)


@both_sides
@pytest.mark.parametrize("unit", ["x", "€"])
@pytest.mark.parametrize("size", [125, 126, 4096, 65535, 65536, 256 * KIBI, MEBI, MEBI + 1])
def test_a_limit_is_the_same_to_the_byte(side: Side, size: int, unit: str) -> None:
    body = repeat(unit.encode(), size, True)
    data = encode(Sent(TEXT, body, key=bytes(4)), side) * 2
    for limit in (len(body) - 1, len(body), len(body) + 1):
        for way in (Way([1, 2, 3], 20, 1000, False), Way([5000], 1000, 1000, False)):
            pieces = cut(data, way)
            alone = play(side, Script(pieces), LIBRARY, [limit])
            assert play(side, Script(pieces), FAST, [limit]) == alone
            messages = [event.data for event in alone if isinstance(event, Message)]
            assert messages == ([body.decode()] * 2 if limit >= len(body) else [])
            assert alone[-1][0] == (1006 if messages else 1009)


def every_header() -> Iterator[Sent]:
    yes_no = (True, False)
    for opcode, fin, reserved, is_turned, body in itertools.product(
        range(16), yes_no, (0, 1, 2, 4), yes_no, (b"", b"\x03\xe8")
    ):
        yield Sent(opcode, body, fin, reserved, is_turned=is_turned)
    for opcode, fin, size, width, is_turned in itertools.product(
        (CONT, TEXT, BINARY, CLOSE, PING), yes_no, (0, 1, 125, 126, 65535, 65536), (2, 8), yes_no
    ):
        yield Sent(opcode, b"x" * size, fin, width=width, is_turned=is_turned)
    for opcode, length in itertools.product((TEXT, BINARY, PING), (1001, 2**32, 2**63, 2**64 - 1)):
        yield Sent(opcode, b"x", length=length)


@both_sides
def test_every_header_means_the_same(side: Side) -> None:
    different = []
    before, behind = (encode(Sent(TEXT, text), side) for text in (b"before", b"behind"))
    for frame in every_header():
        script = [before + encode(frame, side) + behind]
        alone = play(side, Script(script), LIBRARY, [65535])
        if play(side, Script(script), FAST, [65535]) != alone:
            different.append(replace(frame, body=frame.body[:10]))
    assert different == []


#: Each of these differed once, or is of a kind that is easily missed.
CASES = {
    "a length of 0 in two bytes": [Sent(TEXT, b"", width=2), Sent(TEXT, b"x")],
    "a length of 0 in eight bytes": [Sent(TEXT, b"", width=8), Sent(TEXT, b"x")],
    "a length of 125 in two bytes": [Sent(TEXT, b"x" * 125, width=2), Sent(TEXT, b"x")],
    "a length of 65535 in eight bytes": [Sent(TEXT, b"x" * 65535, width=8), Sent(TEXT, b"x")],
    "a length of a bit too many": [Sent(TEXT, b"x", length=2**63 + 1)],
    "bad bytes, and the rest never comes": [Sent(TEXT, b"\xff", length=2)],
    "bad bytes in the middle": [Sent(TEXT, b"ab\xffcd"), Sent(TEXT, b"x")],
    "half a character at the end": [Sent(TEXT, b"ab\xe2\x82"), Sent(TEXT, b"\xac")],
    "half a surrogate": [Sent(TEXT, b"\xed\xa0\x80"), Sent(TEXT, b"x")],
    "a message between fragments": [Sent(TEXT, b"a", fin=False), Sent(TEXT, b"b")],
    "a ping and a message between fragments": [
        Sent(TEXT, b"a", fin=False),
        Sent(PING, b"p"),
        Sent(TEXT, b"b"),
        Sent(CONT, b"c"),
    ],
    "a ping between fragments": [
        Sent(TEXT, b"\xe2\x82", fin=False),
        Sent(PING, b"p"),
        Sent(CONT, b"\xac"),
        Sent(TEXT, b"x"),
    ],
    "the end of fragments that never began": [Sent(TEXT, b"a"), Sent(CONT, b"b")],
    "more behind a close": [Sent(CLOSE, b"\x03\xe8"), Sent(TEXT, b"x")],
    "nothing": [],
}


@both_sides
@pytest.mark.parametrize("case", CASES)
def test_what_is_easily_missed_is_the_same(side: Side, case: str) -> None:
    data = b"".join(encode(frame, side) for frame in CASES[case])
    for way in (Way([1], 100, 1000, False), Way([], 0, 1000, False), Way([3, 7], 9, 1000, True)):
        pieces = cut(data, way)
        alone = play(side, Script(pieces, reset=way.reset), LIBRARY)
        assert play(side, Script(pieces, reset=way.reset), FAST) == alone


# Whether it is taken


@pytest.fixture
def entered(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Grows by one item each time that a library is given something to read."""
    steps: list[int] = []
    feed, frame = FrameProtocol.receive_bytes, websocket.WebSocket.recv_data_frame

    def count_feeds(protocol: FrameProtocol, data: bytes) -> None:
        steps.append(len(data))
        feed(protocol, data)

    def count_frames(ws: Any, control_frame: bool = False) -> Any:
        steps.append(0)
        return frame(ws, control_frame)

    monkeypatch.setattr(FrameProtocol, "receive_bytes", count_feeds)
    monkeypatch.setattr(websocket.WebSocket, "recv_data_frame", count_frames)
    yield steps


MESSAGES = ["", "x", "€" * 100, "x" * 70_000]


@both_sides
def test_the_library_sees_nothing_of_whole_texts(side: Side, entered: list[int]) -> None:
    texts = MESSAGES * 3
    data = b"".join(encode(Sent(TEXT, text.encode()), side) for text in texts)
    script = Script(cut(data, Way([1, 1000, 7], 100, 1000, False)))
    transport = side.open(script)
    transport.attach(lambda data: None)
    transport.max_message_bytes = LIMIT
    entered.clear()  # the upgrade is the library's
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(framing, "FAST", True)
        assert [transport.read() for _ in texts] == texts
    assert entered == []


@both_sides
def test_without_the_fast_path_the_library_sees_every_message(
    side: Side, entered: list[int]
) -> None:
    data = b"".join(encode(Sent(TEXT, text.encode()), side) for text in MESSAGES)
    script = Script([data])
    transport = side.open(script)
    transport.attach(lambda data: None)
    transport.max_message_bytes = LIMIT
    entered.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(framing, "FAST", False)
        for count, text in enumerate(MESSAGES, 1):
            assert transport.read() == text
            assert len(entered) >= count
    if side is ACCEPTED:
        assert sum(entered) == len(data)


@both_sides
def test_after_what_was_for_the_library_the_fast_path_is_taken_again(
    side: Side, entered: list[int]
) -> None:
    others = [
        Sent(BINARY, b"binary"),
        Sent(PING, b"ping"),
        Sent(TEXT, b"in ", fin=False),
        Sent(PING, b"ping"),
        Sent(CONT, b"two"),
    ]
    frames = [*others, *(Sent(TEXT, b"text") for _ in range(50))]
    transport = side.open(Script([b"".join(encode(frame, side) for frame in frames)]))
    transport.attach(lambda data: None)
    transport.max_message_bytes = LIMIT
    entered.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(framing, "FAST", True)
        assert [transport.read() for _ in range(52)] == [b"binary", "in two", *["text"] * 50]
    assert len(entered) == len(others)


@pytest.mark.parametrize(("said", "fast"), [(None, True), ("library", False), ("fast", True)])
def test_the_environment_turns_it_off(said: str | None, fast: bool) -> None:
    environment = {name: text for name, text in os.environ.items() if name != "WSE_SYNC_FRAMING"}
    if said is not None:
        environment["WSE_SYNC_FRAMING"] = said
    program = "from wse_sync.transport import framing; print(framing.FAST)"
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
    )
    assert ran.stdout.decode().strip() == str(fast)


# What is read, and kept


def open_input(pieces: Iterable[bytes], side: Side = ACCEPTED) -> tuple[framing.Input, Script]:
    script = Script(pieces)
    opened: Any = script
    stream = open_stream(opened)
    return framing.Input(stream, masked=side.is_masked, least=side.least), script


@both_sides
@pytest.mark.parametrize(
    "frame",
    [
        Sent(BINARY, b"abc"),
        Sent(CONT, b"abc"),
        Sent(TEXT, b"abc", fin=False),
        Sent(PING, b"abc"),
        Sent(PONG, b""),
        Sent(CLOSE, b"\x03\xe8abc"),
        Sent(UNKNOWN, b"abc"),
        Sent(TEXT, b"abc", reserved=4),
        Sent(TEXT, b"abc", is_turned=True),
        Sent(TEXT, b"ab\xff"),
        Sent(TEXT, b"ab\xe2\x82"),
        Sent(TEXT, b"x" * 11),
        Sent(TEXT, b"x" * 200),
        Sent(TEXT, b"x" * 70_000),
    ],
    ids=repr,
)
def test_what_is_not_a_whole_text_is_left_where_it_is(side: Side, frame: Sent) -> None:
    data = encode(frame, side)
    text = encode(Sent(TEXT, b"text"), side)
    for pieces in ([text + data + text], [bytes([byte]) for byte in text + data + text]):
        taker, _ = open_input(pieces, side)
        assert taker.take_text(10) == "text"
        for _ in range(2):
            assert taker.take_text(10) is None
        assert taker.take(len(data)) == data
        assert taker.take_text(10) == "text"


@both_sides
@pytest.mark.parametrize("size", [size for size in EDGES if size])
def test_a_text_is_taken_up_to_the_limit(side: Side, size: int) -> None:
    data = encode(Sent(TEXT, b"x" * size), side)
    for limit, expected in ((size - 1, None), (size, "x" * size)):
        taker, _ = open_input([data], side)
        assert taker.take_text(limit) == expected


@pytest.mark.parametrize("width", [2, 8])
@pytest.mark.parametrize("size", [0, 1, 125])
def test_a_length_that_takes_too_many_bytes_is_left_to_wsproto(size: int, width: int) -> None:
    """It refuses them (RFC 6455, 5.2)."""
    data = encode(Sent(TEXT, b"x" * size, width=width), ACCEPTED)
    taker, _ = open_input([data])
    assert taker.take_text(LIMIT) is None
    assert taker.take(len(data)) == data


@both_sides
def test_the_next_frame_is_measured_as_its_header_says(side: Side) -> None:
    for opcode, size, width in itertools.product((TEXT, CONT, PING), EDGES, (0, 2, 8)):
        for fin, is_turned in itertools.product((True, False), repeat=2):
            sent = Sent(opcode, b"x" * size, fin=fin, width=width, key=bytes(4))
            data = encode(replace(sent, is_turned=is_turned), side)
            taker, _ = open_input([data + b"more"], side)
            assert taker.peek() == (opcode, fin, len(data))
            assert taker.take_some(len(data)) == data[: side.least]


@both_sides
def test_what_is_taken_in_pieces_is_all_of_it(side: Side) -> None:
    data = bytes(index % 251 for index in range(100_000))
    taker, script = open_input([data[:3], data[3:70_000], data[70_000:]], side)
    assert taker.take_some(2) == data[:2]
    assert taker.take_some(5) == data[2:3]
    assert script.begun == 1
    assert taker.take(50_000) == data[3:50_003]
    rest = b""
    while len(rest) < len(data) - 50_003:
        rest += taker.take_some(10_000)
    assert rest == data[50_003:]
    assert taker.take(0) == b""


@both_sides
@pytest.mark.parametrize("kept", range(12))
def test_a_stream_that_ends_is_a_lost_link(side: Side, kept: int) -> None:
    data = encode(Sent(TEXT, b"x" * 200), side)[:kept]
    for take in (
        # A frame that is not whole is nothing to take; its beginning may be for the library.
        lambda taker: taker.take_text(LIMIT) or taker.take(300),
        lambda taker: taker.take(300),
        lambda taker: [taker.take_some(20) for _ in range(2)],
    ):
        taker, _ = open_input([data] if data else [], side)
        with pytest.raises(LinkLost) as caught:
            take(taker)
        assert (caught.value.code, caught.value.reason) == (1006, "")
        assert not caught.value.drain


class Piece(bytes):
    """Says when nobody keeps it any more."""

    gone: list[int]

    def __del__(self) -> None:
        self.gone.append(len(self))


@both_sides
def test_nothing_is_kept_of_what_was_taken(side: Side) -> None:
    """Or each idle link would keep its last message."""
    text = encode(Sent(TEXT, b"x" * 1000), side)
    other = encode(Sent(PING, b"x" * 100), side)
    taken: list[Callable[[framing.Input], object]] = [
        lambda taker: taker.take_text(LIMIT),
        lambda taker: (taker.peek(), taker.take(len(other))),
        lambda taker: (taker.peek(), taker.take_some(len(other))),
        lambda taker: [taker.take_text(LIMIT) for _ in range(2)],
    ]
    for data, take in zip((text, other, other, text * 2), taken):
        gone: list[int] = []
        pieces = [Piece(data)]
        pieces[0].gone = gone
        taker, _ = open_input(iter(pieces.pop, None), side)
        take(taker)
        assert gone == [len(data)]


@both_sides
def test_reads_grow_while_they_come_back_full_and_shrink_again(side: Side) -> None:
    least = side.least
    taker, script = open_input(itertools.chain([bytes(MEBI)], itertools.repeat(b"x")), side)
    while script.handed < MEBI:
        taker.take_some(MEBI)
    grown = script.asked[:]
    sizes = [least]
    while sizes[-1] < 256 * KIBI:
        sizes.append(sizes[-1] * 2)
    # The last one may come back half full.
    assert grown[: len(sizes)] == sizes
    assert set(grown[len(sizes) :]) <= {256 * KIBI}
    for _ in range(20):
        taker.take_some(1)
    shrunk = script.asked[len(grown) :]
    assert shrunk[-1] == least
    assert sorted(shrunk, reverse=True) == shrunk


@both_sides
def test_small_messages_are_read_with_small_reads(side: Side) -> None:
    data = encode(Sent(TEXT, b"x" * 40), side)
    taker, script = open_input([data] * 100, side)
    for _ in range(100):
        assert taker.take_text(LIMIT) == "x" * 40
    assert script.asked == [side.least] * 100


@both_sides
def test_no_more_is_read_ahead_than_one_read(side: Side) -> None:
    """Of a message that is to come: large pieces, and never more than is missing by much."""
    text = "x" * (3 * MEBI)
    data = encode(Sent(TEXT, text.encode(), key=bytes(4)), side)
    taker, script = open_input([data + bytes(4 * MEBI)], side)
    assert taker.take_text(LIMIT) == text
    assert script.handed <= len(data) + 256 * KIBI
    assert max(script.asked) <= MEBI
    assert len(script.asked) < 20


@both_sides
def test_a_length_alone_makes_nobody_read_ahead(side: Side) -> None:
    data = encode(Sent(TEXT, b"", length=2**62), side)
    taker, script = open_input([data + bytes(MEBI)], side)
    assert taker.take_text(LIMIT) is None
    assert script.asked == [side.least]


@both_sides
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_message_that_trickles_in_costs_no_more_memory(side: Side, opcode: int) -> None:
    """Than one that comes at once: a piece that is kept costs much more than its two bytes."""
    size = 16 * KIBI
    data = encode(Sent(opcode, b"x" * size, key=bytes(4)), side)

    def peak(step: int) -> int:
        starts = range(0, len(data), step)
        script = Script(data[start : start + step] for start in starts)
        script.asked = deque(maxlen=0)  # or it would cost most
        transport = side.open(script)
        transport.attach(lambda data: None)
        transport.max_message_bytes = LIMIT
        tracemalloc.start()
        try:
            assert len(transport.read()) == size
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(framing, "FAST", True)
        assert peak(2) <= 2 * max(peak(len(data)), 8 * size)
