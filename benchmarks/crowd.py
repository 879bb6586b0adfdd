"""Many clients in one thread of a process of their own: raw sockets that say hello and count bytes.

They speak as much of each contestant's protocol as it takes to be connected, compare every byte of
a broadcast with what it must be, and answer heartbeats.
"""

from __future__ import annotations

import selectors
import socket
import time
from multiprocessing.connection import Connection
from typing import Any
from urllib.parse import urlsplit

from .contestants.base import Dialect
from .measure import WrongResult
from .processes import obey

__all__ = ["Crowd", "attend"]

_PATIENCE = 60.0  # s without a byte before a figure is given up
_IN_FLIGHT = 32  # clients that say hello at the same time
_RECEIVE_BYTES = 2**18
_TEXT, _PING, _PONG = 0x81, 0x89, 0x8A
_UPGRADE = (
    "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{more}\r\n"
)


class Crowd:
    """Clients whose numbers are 0, 1, and so on.

    Args:
        url: Of the server.
        dialect: What it wants to hear.
    """

    def __init__(self, url: str, dialect: Dialect) -> None:
        self._host = urlsplit(url).netloc
        self._dialect = dialect
        self._members: list[_Member] = []
        self.selector = selectors.DefaultSelector()
        self._pings = 0

    def grow(self, size: int) -> float:
        """Connects until there are ``size``, some at a time; how many seconds that took."""
        start = time.perf_counter()
        arriving: set[_Member] = set()
        while len(self._members) < size or arriving:
            while len(self._members) < size and len(arriving) < _IN_FLIGHT:
                member = _Member(self._host, self._dialect, len(self._members))
                self._members.append(member)
                self.selector.register(member.sock, selectors.EVENT_READ, member)
                if not member.arrived:
                    arriving.add(member)
            if arriving:
                for member in self._ready():
                    self._take(member)
                    if member.arrived:
                        arriving.discard(member)
        return time.perf_counter() - start

    def receive(self, expected: bytes) -> float:
        """Reads until each that has not stopped has got these bytes, and no others.

        Returns:
            When the last one had them, by the clock that all processes share.
        """
        left = {key.data: 0 for key in self.selector.get_map().values() if key.data is not None}
        while left:
            for member in self._ready():
                if member not in left:
                    raise WrongResult("a client got more than was sent")
                data = member.sock.recv(_RECEIVE_BYTES)
                start = left[member]
                end = start + len(data)
                if not data or data != expected[start:end]:
                    raise WrongResult("a client got something else than what was sent")
                left[member] = end
                if end == len(expected):
                    del left[member]
        return time.monotonic()

    def stop_first(self) -> None:
        """Has the first client read no more."""
        self.selector.unregister(self._members[0].sock)

    def resume_first(self, expected: bytes) -> None:
        """Has it read what it missed, and go on with the others."""
        sock = self._members[0].sock
        sock.settimeout(_PATIENCE)
        got = bytearray()
        while len(got) < len(expected):
            data = sock.recv(2**20)
            if not data:
                break
            got += data
        if got != expected:
            raise WrongResult("the client that had stopped missed something")
        sock.setblocking(False)
        self.selector.register(sock, selectors.EVENT_READ, self._members[0])

    def pings(self) -> int:
        """How many heartbeats were answered since it was last asked."""
        pings, self._pings = self._pings, 0
        return pings

    def answer(self, member: _Member) -> None:
        """Takes what a client got while nobody asked, which are heartbeats."""
        self._take(member)

    def close(self) -> None:
        """Hangs up, all at once."""
        self.selector.close()
        for member in self._members:
            member.sock.close()

    def _ready(self) -> list[_Member]:
        ready = self.selector.select(_PATIENCE)
        members = [key.data for key, _ in ready if key.data is not None]
        if not ready:
            raise TimeoutError("nothing came")
        return members

    def _take(self, member: _Member) -> None:
        self._pings += member.take(member.sock.recv(_RECEIVE_BYTES))


class _Member:
    """One client."""

    def __init__(self, host: str, dialect: Dialect, number: int) -> None:
        self._dialect = dialect
        self._number = number
        self._buffer = b""
        self._upgraded = dialect.path is None
        self._steps = list(dialect.steps)
        name, port = host.split(":")
        self.sock = socket.create_connection((name, int(port)), _PATIENCE)
        self.sock.setblocking(False)
        if dialect.path is not None:
            protocol = dialect.subprotocol
            more = f"Sec-WebSocket-Protocol: {protocol}\r\n" if protocol else ""
            request = _UPGRADE.format(path=dialect.path, host=host, more=more)
            self.sock.sendall(request.encode())

    @property
    def arrived(self) -> bool:
        """Whether everything has been said."""
        return self._upgraded and not self._steps

    def take(self, data: bytes) -> int:
        """Takes input; returns how many pings were in it."""
        if not data:
            raise WrongResult(f"the server has closed the connection of client {self._number}")
        self._buffer += data
        if not self._upgraded and not self._take_upgrade():
            return 0
        pings = 0
        while (frame := self._next_frame()) is not None:
            pings += self._handle(*frame)
        return pings

    def _take_upgrade(self) -> bool:
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return False
        if b" 101 " not in head.partition(b"\r\n")[0]:
            raise WrongResult(f"client {self._number} was not let in: {head!r}")
        self._buffer = rest
        self._upgraded = True
        self._speak()
        return True

    def _speak(self) -> None:
        """Says what comes next."""
        if self._steps and self._steps[0][0] is not None:
            # No format(): the texts are JSON.
            self._send(_TEXT, self._steps[0][0].replace("{number}", str(self._number)).encode())

    def _handle(self, opcode: int, body: bytes) -> int:
        """Returns 1 for a ping."""
        if opcode == _PING:
            self._send(_PONG, body)
            return 1
        if opcode == _TEXT and not self._steps and body == self._dialect.ping.encode() != b"":
            self._send(_TEXT, self._dialect.pong.encode())
            return 1
        if opcode != _TEXT or not self._steps:
            raise WrongResult(f"client {self._number} did not expect {body!r}")
        expected = self._steps.pop(0)[1]
        if not body.startswith(expected.encode()):
            raise WrongResult(f"client {self._number} is not welcome: {body!r}")
        self._speak()
        return 0

    def _next_frame(self) -> tuple[int, bytes] | None:
        """A short frame; hellos and heartbeats are no others."""
        if len(self._buffer) < 2:
            return None
        size, start = self._buffer[1], 2
        if size == 126:
            size, start = int.from_bytes(self._buffer[2:4], "big"), 4
        if len(self._buffer) < start + size:
            return None
        frame = self._buffer[0], self._buffer[start : start + size]
        self._buffer = self._buffer[start + size :]
        return frame

    def _send(self, opcode: int, body: bytes) -> None:
        # Masked with zeros, and short enough for a length of seven bits.
        self.sock.sendall(bytes((opcode, 0x80 | len(body), 0, 0, 0, 0)) + body)


def attend(pipe: Connection, crowd: Any) -> None:
    """Carries out orders, and answers heartbeats meanwhile."""
    selector = crowd.selector
    selector.register(pipe, selectors.EVENT_READ)
    while True:
        members = [key.data for key, _ in selector.select()]
        # Orders first: what has come may be what an order waits for.
        if None in members:
            if not obey(pipe, crowd):
                return
        else:
            for member in members:
                crowd.answer(member)
