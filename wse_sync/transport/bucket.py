"""How many frames that bring little the other side may send: a token bucket.

A ping, a pong or a fragment of one byte takes as long to read as a whole message, and no bound of
bytes counts it. So each takes a token, and whoever has none left is given up.
"""

from __future__ import annotations

from ..tokens import Tokens
from .framing import BINARY, CLOSE

__all__ = ["Bucket"]

_MOST = 750.0  # tokens: less than 50 ms of our time
_PER_SECOND = 100.0  # come back, so that heartbeats and live streams of fragments never end
_FRAGMENT = 0.5  # tokens that an empty one takes: there is nothing to answer
_FREE_BYTES = 64.0  # a fragment of this size takes none


class Bucket(Tokens):
    """What one transport may still read of such frames; only its reader comes here."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(_MOST, _PER_SECOND)

    def admits(self, opcode: int, is_final: bool, size: int) -> bool:
        """Whether one more frame may come; a whole message and a close always may.

        Args:
            opcode: Of the frame.
            is_final: Whether it is the last of its message.
            size: In bytes.
        """
        if opcode == CLOSE or (is_final and 0 < opcode <= BINARY):
            return True
        if opcode > BINARY:
            return self.take()
        return self.take(_FRAGMENT * max(0.0, 1.0 - size / _FREE_BYTES))
