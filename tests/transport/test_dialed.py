"""The client's end: what websocket-client would do if it were let."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from tests.support import wait_until
from tests.transport.ends import (
    BINARY,
    CLOSE,
    CONT,
    PONG,
    TEXT,
    Ends,
    Frame,
    WebSocketWire,
    closing,
    socket_ends,
)
from wse_sync.transport.base import LinkLost
from wse_sync.transport.dialed import DialedTransport


@pytest.fixture
def ends(loop_at_rest: None) -> Iterator[Ends]:
    """The dialed end is near."""
    accepted, dialed = socket_ends()
    with closing(Ends(dialed, accepted)) as made:
        yield made


@pytest.mark.parametrize("opcode", [TEXT, BINARY, CONT])
@pytest.mark.parametrize("length", [1001, 65535, 65536, 2**40, 2**63 - 1, 2**64 - 1])
def test_43_a_length_is_refused_from_its_header_alone(ends: Ends, opcode: int, length: int) -> None:
    ends.near.transport.max_message_bytes = 1000
    if opcode == CONT:
        ends.far.send_frame(TEXT, b"x", fin=False)
    ends.far.send_frame(opcode, length=length)
    lost = ends.near.lost()
    assert (lost.code, lost.drain) == (1009, True)
    (answer,) = ends.near.answers()
    assert answer.opcode == CLOSE
    assert answer.body[:2] == struct.pack("!H", 1009)


def test_43_the_limit_is_refused_in_the_middle_of_fragments(ends: Ends) -> None:
    ends.near.transport.max_message_bytes = 1000
    ends.far.send_frame(TEXT, b"x" * 600, fin=False)
    ends.far.send_frame(CONT, b"x", fin=False, length=401)
    assert ends.near.lost().code == 1009


def test_what_follows_the_upgrade_at_once_is_not_lost(ends: Ends) -> None:
    """The library reads the head of the answer byte by byte, and no further."""
    sent = [str(number) for number in range(100)]
    ends.far.send(*sent)
    assert ends.near.read(100) == sent


def test_close_code_1014_is_heard(ends: Ends) -> None:
    """On which a client tries again, although RFC 6455 does not know it."""
    ends.far.send_frame(CLOSE, struct.pack("!H", 1014) + b"bad gateway")
    lost = ends.near.lost()
    assert (lost.code, lost.reason, lost.drain) == (1014, "bad gateway", False)


@pytest.mark.parametrize(
    ("code", "data"),
    [
        (1007, b"\x88\x03\x03\xe8\xff"),  # a close, its reason is not UTF-8 (RFC 6455, 5.5.1)
        (1002, b"\x81\x81\0\0\0\0x"),  # a text, masked (5.1)
        (1002, b"\x89\x80\0\0\0\0"),  # a ping, masked
        (1002, b"\x0a\x00"),  # a pong in fragments (5.4)
        (1002, b"\x08\x02\x03\xe8"),  # a close in fragments
    ],
)
def test_6_what_the_library_lets_pass_ends_the_link(ends: Ends, code: int, data: bytes) -> None:
    ends.far.send_bytes(data)
    lost = ends.near.lost()
    assert (lost.code, lost.drain) == (code, True)
    (answer,) = ends.near.answers()
    assert (answer.opcode, answer.body[:2]) == (CLOSE, struct.pack("!H", code))


def test_every_frame_has_a_mask_of_its_own() -> None:
    wire = WebSocketWire(masked=True)
    frames = {DialedTransport.encode("the same") for _ in range(50)}
    assert len(frames) > 1
    for data in frames:
        assert wire.parse(data) == [Frame(TEXT, b"the same")]


def test_what_the_library_writes_goes_through_write(ends: Ends) -> None:
    """Also when its lock or its socket are of no use any more."""
    ends.far.send_ping()
    ends.far.send_close(1000, "bye")
    assert ends.near.lost().code == 1000
    assert [frame.opcode for frame in ends.near.answers()] == [PONG, CLOSE]


def test_the_end_is_told_as_often_as_it_is_asked(ends: Ends) -> None:
    ends.far.flush()
    ends.far.abort()
    for _ in range(3):
        with pytest.raises(LinkLost):
            ends.near.read()


def test_a_socket_without_a_timeout_is_left(ends: Ends) -> None:
    """The one of the attempt would end links that are merely idle."""
    seen: list[object] = []
    stream = ends.near.transport.stream
    ends.far.send("x")
    assert ends.near.read() == ["x"]
    seen.append(getattr(stream, "_sock").gettimeout())  # noqa: B009  (it is private)
    wait_until(lambda: seen)
    assert seen == [None]
