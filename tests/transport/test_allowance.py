"""How much may come of a restricted transport: so many bytes of whatever kind, to the byte."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from tests.support import Thread
from tests.transport.ends import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    TEXT,
    TRANSPORTS,
    Certificates,
    Ends,
    closing,
    socket_ends,
)
from wse_sync.transport.base import LinkLost

LIMIT = 3000
BODY = b"x" * 100
SIZES = {"memory": 5 + 100, "accepted": 6 + 100, "accepted-tls": 6 + 100, "dialed": 2 + 100}
"""What a frame of that body takes of the allowance."""


@pytest.fixture(params=SIZES)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def ends(kind: str, certificates: Certificates, loop_at_rest: None) -> Iterator[Ends]:
    with closing(TRANSPORTS[kind](certificates)) as made:
        yield made


def failed(ends: Ends) -> bool:
    """Whether the end gives up, maybe after some messages, and says why."""
    with pytest.raises(LinkLost) as caught:
        ends.near.read(LIMIT)
    lost = caught.value
    *_, goodbye = ends.near.answers()
    assert goodbye.opcode == CLOSE
    assert goodbye.body.startswith(struct.pack("!H", lost.code))
    assert "before the welcome" in lost.reason
    return (lost.code, lost.drain) == (1009, True)


def test_all_that_is_allowed_comes_and_not_a_byte_more(ends: Ends, kind: str) -> None:
    ends.near.transport.restrict(3 * SIZES[kind])
    ends.far.send(*["x" * 100] * 3)
    assert ends.near.read(3) == ["x" * 100] * 3
    ends.far.send("")
    assert failed(ends)


@pytest.mark.parametrize("opcode", [BINARY, PING, PONG])
def test_every_kind_of_frame_counts(ends: Ends, kind: str, opcode: int) -> None:
    ends.near.transport.restrict(LIMIT)
    for _ in range(LIMIT // SIZES[kind] + 1):
        ends.far.send_frame(opcode, BODY)
    assert failed(ends)


def test_fragments_count_before_their_message_is_whole() -> None:
    with closing(socket_ends()) as ends:
        ends.near.transport.restrict(LIMIT)
        ends.far.send_frame(TEXT, BODY, fin=False)
        for _ in range(LIMIT // 100):
            ends.far.send_frame(CONT, BODY, fin=False)
        assert failed(ends)


def test_nothing_counts_once_it_is_lifted(ends: Ends) -> None:
    ends.near.transport.restrict(LIMIT)
    ends.far.send("hi")
    assert ends.near.read() == ["hi"]
    ends.near.transport.lift()
    ends.near.transport.lift()
    ends.far.send(*["x" * LIMIT] * 10)
    assert ends.near.read(10) == ["x" * LIMIT] * 10


def test_it_may_be_lifted_while_somebody_waits_for_what_would_be_too_much(
    ends: Ends, kind: str
) -> None:
    ends.near.transport.restrict(SIZES[kind])
    ends.far.send("x" * 100)
    assert ends.near.read() == ["x" * 100]
    reading = Thread(lambda: ends.near.read(1))
    ends.near.transport.lift()
    ends.far.send("welcome")
    assert reading.result() == ["welcome"]


def test_the_end_of_the_stream_is_no_byte(ends: Ends, kind: str) -> None:
    ends.near.transport.restrict(SIZES[kind])
    ends.far.send("x" * 100)
    assert ends.near.read() == ["x" * 100]
    ends.far.transport.stream.abort()
    lost = ends.near.lost()
    assert isinstance(lost, LinkLost)
    assert lost.code == 1006


def test_whoever_reads_ahead_gets_what_is_allowed_first(ends: Ends, kind: str) -> None:
    ends.near.transport.restrict(10 * SIZES[kind] + 1)
    ends.far.send(*["x" * 100] * 20)
    assert ends.near.read(10) == ["x" * 100] * 10
    assert failed(ends)
