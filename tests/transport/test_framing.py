"""Frames that are encoded by hand are those of the libraries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto import ConnectionType
from wsproto.connection import Connection
from wsproto.events import BytesMessage, CloseConnection, Event, Message, Ping, TextMessage
from wsproto.frame_protocol import FrameProtocol

from wse_sync.transport import framing

#: Around the places where the length takes more bytes, and a large one.
SIZES = [0, 1, 124, 125, 126, 127, 0xFFFE, 0xFFFF, 0x10000, 0x10001, 1_000_003]


def read(frame: bytes, by: ConnectionType) -> list[Event]:
    """What wsproto makes of a frame."""
    connection = Connection(by)
    connection.receive_data(frame)
    return list(connection.events())


def message(events: list[Event]) -> object:
    """The one message that was read, whole."""
    messages = [event for event in events if isinstance(event, Message)]
    assert messages == events
    assert messages[-1].message_finished
    return type(messages[0].data)().join(event.data for event in messages)


@given(st.text() | st.binary())
def test_a_server_sends_what_wsproto_would(data: str | bytes) -> None:
    expected = FrameProtocol(client=False, extensions=[]).send_data(data, fin=True)
    assert framing.encode(data) == expected


@pytest.mark.parametrize("size", SIZES)
def test_a_server_sends_what_wsproto_would_at_every_size(size: int) -> None:
    for data in ("x" * size, b"x" * size):
        expected = FrameProtocol(client=False, extensions=[]).send_data(data, fin=True)
        assert framing.encode(data) == expected


@given(st.text() | st.binary())
def test_a_client_sends_what_a_server_reads(data: str | bytes) -> None:
    events = read(framing.encode_masked(data), ConnectionType.SERVER)
    kind = TextMessage if isinstance(data, str) else BytesMessage
    assert [type(event) for event in events] == [kind]
    assert message(events) == data


@pytest.mark.parametrize("size", SIZES)
def test_a_client_sends_what_a_server_reads_at_every_size(size: int) -> None:
    data = bytes(index % 251 for index in range(size))
    assert message(read(framing.encode_masked(data), ConnectionType.SERVER)) == data


def test_every_frame_of_a_client_has_a_mask_of_its_own() -> None:
    frames = {framing.encode_masked("the same") for _ in range(100)}
    assert len(frames) == 100


@given(st.sampled_from([1000, 1001, 1013, 4000]), st.text())
def test_a_close_is_read_by_both_ends(code: int, reason: str) -> None:
    body = framing.close_body(code, reason)
    assert len(body) <= 125
    for frame, by in (
        (framing.encode(body, framing.CLOSE), ConnectionType.CLIENT),
        (framing.encode_masked(body, framing.CLOSE), ConnectionType.SERVER),
    ):
        (event,) = read(frame, by)
        assert isinstance(event, CloseConnection)
        assert event.code == code
        assert reason.startswith(event.reason or "")


def test_a_ping_is_read_by_both_ends() -> None:
    for frame, by in (
        (framing.encode(b"", framing.PING), ConnectionType.CLIENT),
        (framing.encode_masked(b"", framing.PING), ConnectionType.SERVER),
    ):
        (event,) = read(frame, by)
        assert isinstance(event, Ping)
