"""A socket from which an answer to an upgrade is read: so many bytes, and no more.

websocket-client would read headers and bodies for as long as they come, the headers byte by byte.
"""

from __future__ import annotations

import re
from typing import Any

__all__ = ["MAX_ANSWER_BYTES", "Bounded", "TooLong"]

#: Headers and body together. A proxy like nginx takes no longer headers of a server behind it.
MAX_ANSWER_BYTES = 8 * 1024

_STATUS_BYTES = 20  # hold the status: HTTP/1.1 101


class TooLong(Exception):
    """More of an answer is coming than an upgrade needs.

    Args:
        status: The HTTP status that it began with; 0 if there was none.
    """

    def __init__(self, status: int) -> None:
        super().__init__(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
        self.status = status


class Bounded:
    """Stands for a socket; one thread, that of the attempt."""

    __slots__ = ("_head", "_left", "_sock", "gettimeout")

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._left = MAX_ANSWER_BYTES
        self._head = b""
        self.gettimeout = sock.gettimeout  # asked for each byte

    def recv(self, size: int) -> bytes:
        """As that of the socket. Raises TooLong."""
        if not self._left:
            found = re.match(rb"HTTP/\S+ +(\d{3})\b", self._head)
            raise TooLong(int(found[1]) if found else 0)
        data: bytes = self._sock.recv(min(size, self._left))
        self._left -= len(data)
        if len(self._head) < _STATUS_BYTES:
            self._head += data
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)
