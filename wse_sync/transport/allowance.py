"""How much a transport takes of somebody who has not been let in: so many bytes in all, no matter
what they are. Messages, their headers, pings and fragments count alike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .base import LinkLost, Stream

__all__ = ["Allowance"]


class Allowance:
    """Stands between a stream and whoever reads it.

    Only the reader receives. Whoever lifts it may be another thread: ``is_lifted`` is set in one
    step, and what is received just then is let through.

    Args:
        stream: Where the bytes come from.
        max_bytes: How many may come.
        give_up: Says goodbye when there are more, and makes the error.
    """

    __slots__ = ("_give_up", "_left", "_stream", "is_lifted")

    def __init__(self, stream: Stream, max_bytes: int, give_up: Callable[[], LinkLost]) -> None:
        self._stream = stream
        self._left = max_bytes
        self._give_up = give_up
        #: Whether anything may come from now on.
        self.is_lifted = False

    def receive(self, size: int) -> bytes:
        """As that of the stream. Raises LinkLost with the first byte too many."""
        # Not that one along with others: who reads ahead shall get all that is allowed before.
        data = self._stream.receive(min(size, self._left or 1))
        if not self._left and data and not self.is_lifted:
            raise self._give_up()
        self._left = max(0, self._left - len(data))
        return data
