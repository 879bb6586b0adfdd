"""Links without sockets, that are fed the lines of an input.

Each line is the data of a message. One that begins with ``!`` is something else: ``!`` alone loses
the link and opens another one, ``!c`` closes it in order first, ``!p`` is a ping, and what follows
``!b`` is a binary message.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from tests.support import PATIENCE
from tests.transport.ends import CLOSE, PING, TEXT, MemoryWire
from wse_sync.dispatch import Lane
from wse_sync.transport import memory

__all__ = ["CAPACITY", "WIRE", "feed", "links_of", "received"]

WIRE = MemoryWire()
CAPACITY = 2**24  # no input is as long
_PAUSE = 0.0001  # s
_FIRST = 3  # lines: the handshake, and what comes first after it


def links_of(data: bytes) -> Iterator[list[bytes]]:
    """The lines of an input, link by link."""
    lines: list[bytes] = []
    for line in data.split(b"\n"):
        lines.append(line)
        if line in (b"!", b"!c"):
            yield lines
            lines = []
    yield lines


def feed(lines: list[bytes], far: memory.MemoryTransport, near: Any, lane: Lane) -> None:
    """Sends what the lines say, and ends the link.

    The first ones are handled one by one, or all the others would come before the welcome.
    """
    for number, line in enumerate(lines):
        far.stream.send(_encode(line))
        if number < _FIRST:
            _settle(near, lane)
    far.stream.finish()


def _encode(line: bytes) -> bytes:
    if line == b"!c":
        return WIRE.frame(CLOSE, b"\x03\xe8bye")
    if line == b"!p":
        return WIRE.frame(PING, line)
    if line[:2] == b"!b":
        return memory.MemoryTransport.encode(line[2:])
    return b"" if line == b"!" else WIRE.frame(TEXT, line)


def _settle(near: Any, lane: Lane) -> None:
    """Waits until nothing is under way, as far as can be seen; or the link is cut."""
    pipe, deadline, calm = near.stream._incoming, time.monotonic() + PATIENCE, 0
    while calm < 3 and not pipe._is_over and time.monotonic() < deadline:
        time.sleep(_PAUSE)
        is_busy = pipe._bytes or near._buffer or lane._items or lane._running
        calm = 0 if is_busy else calm + 1


def received(far: memory.MemoryTransport) -> bytes:
    """All that came over a link that has ended."""
    sent = b""
    while True:
        piece = far.stream.receive(2**20)
        if not piece:
            return sent
        sent += piece
