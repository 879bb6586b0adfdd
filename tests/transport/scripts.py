"""Both ends of a WebSocket over scripts instead of sockets, with the fast path and without it.

A script is what the other side sends, in which pieces, and how it ends.
"""

from __future__ import annotations

import itertools
import re
import socket
from collections.abc import Iterable, MutableSequence, Sequence
from typing import Any, Callable, NamedTuple, Union
from unittest.mock import patch

from wsproto.utilities import generate_accept_token

from tests.support import PATIENCE
from tests.transport.ends import CLOSE, LIMIT, SUBPROTOCOL, WebSocketWire, environ_of
from wse_sync.transport import framing
from wse_sync.transport.accepted import AcceptedTransport
from wse_sync.transport.base import LinkLost, Transport
from wse_sync.transport.dialed import NetworkDialer
from wse_sync.transport.stream import open_stream

KIBI = 2**10

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
REQUEST = (
    "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    f"Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n"
    f"Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n"
)
ENVIRON = environ_of(REQUEST.encode())


class Script:
    """A socket on which the other side sends pieces, and is gone.

    Attributes:
        begun: How many pieces have been handed out, or a part of them.
        handed: How many bytes that was.
        asked: The sizes that ``recv`` was asked for.
    """

    family = socket.AF_UNSPEC

    def __init__(self, pieces: Iterable[bytes], *, reset: bool = False) -> None:
        self._pieces = iter(pieces)
        self._rest = b""
        self._reset = reset
        self._request = b""
        self.begun = self.handed = 0
        self.asked: MutableSequence[int] = []

    def recv(self, size: int) -> bytes:
        if self._request:
            answer, self._request = self._request[:size], self._request[size:]
            return answer
        self.asked.append(size)
        if not self._rest:
            self._rest = next(self._pieces, b"")
            self.begun += bool(self._rest)
        if not self._rest and self._reset:
            raise ConnectionResetError
        data = self._rest
        if len(data) > size:
            data = data[:size]
        self._rest = self._rest[size:]
        self.handed += len(data)
        return data

    def send(self, data: bytes) -> int:
        """The request of a client; it is accepted."""
        (key,) = re.findall(rb"(?i)\r\nsec-websocket-key: *(\S+)\r\n", data)
        self._request = (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Protocol: %s\r\nSec-WebSocket-Accept: %s\r\n\r\n"
        ) % (SUBPROTOCOL.encode(), generate_accept_token(key))
        return len(data)

    def settimeout(self, timeout: float | None) -> None:
        """It never waits."""

    def gettimeout(self) -> None:
        """It never waits."""

    def setblocking(self, flag: bool) -> None:
        """It never waits."""


def accept(script: Any) -> Transport:
    return AcceptedTransport(ENVIRON, open_stream(script), SUBPROTOCOL, LIMIT)


def dial(script: Any) -> Transport:
    options = {"socket": script}
    return NetworkDialer().dial("ws://localhost/", SUBPROTOCOL, PATIENCE, None, options)


class Side(NamedTuple):
    """One of the two ends."""

    open: Callable[[Any], Transport]
    is_masked: bool
    """Whether the frames that come to it are."""
    least: int
    """It reads so many bytes at once, or more."""


ACCEPTED, DIALED = Side(accept, True, 4 * KIBI), Side(dial, False, 64 * KIBI)


class Message(NamedTuple):
    """One that was read."""

    data: str | bytes
    begun: int


class Answer(NamedTuple):
    """One frame that was written."""

    opcode: int
    body: bytes
    begun: int


class Lost(NamedTuple):
    """How it ended."""

    code: int
    reason: str
    drain: bool


Event = Union[Message, Answer, Lost]
Path = Sequence[bool]
FAST, LIBRARY = [True], [False]


def play(side: Side, script: Script, path: Path, limits: Sequence[int] = (LIMIT,)) -> list[Event]:
    """All that comes of a script; path and limits of each read are taken in turn, over and over."""
    seen: list[Event] = []
    wire = WebSocketWire(masked=not side.is_masked)

    def write(data: bytes) -> None:
        if data.startswith(b"HTTP/"):
            return
        for frame in wire.parse(bytes(data)):
            is_close = frame.opcode == CLOSE
            body = frame.body[:2] + plain(frame.body[2:]) if is_close else frame.body
            # Bad data may be noticed at once, or with the end of its frame.
            seen.append(Answer(frame.opcode, body, 0 if is_close else script.begun))

    transport = side.open(script)
    transport.attach(write)
    for fast, limit in zip(itertools.cycle(path), itertools.cycle(limits)):
        transport.max_message_bytes = limit
        try:
            with patch.object(framing, "FAST", fast):
                data = transport.read()
        except LinkLost as lost:
            seen.append(Lost(lost.code, plain(lost.reason.encode()).decode(), lost.drain))
            break
        seen.append(Message(data, script.begun))
    return seen


def plain(reason: bytes) -> bytes:
    """Python says where in the piece that it was given the bad bytes are; pieces differ."""
    return re.sub(rb"in position [0-9-]+", b"in some position", reason)
