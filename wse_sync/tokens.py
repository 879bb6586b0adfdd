"""A token bucket: so many at once, and so many a second in the long run."""

from __future__ import annotations

from . import clock

__all__ = ["Tokens"]


class Tokens:
    """What somebody may still use up. One thread at a time.

    Args:
        most: How many there are at first, and at any time at the most.
        per_second: How many come back.
    """

    __slots__ = ("_filled_at", "_left", "_most", "_per_second")

    def __init__(self, most: float, per_second: float) -> None:
        self._most = self._left = most
        self._per_second = per_second
        self._filled_at = clock.monotonic()

    def take(self, amount: float = 1.0) -> bool:
        """Uses up so much; whether there was enough."""
        now = clock.monotonic()
        refilled = self._left + (now - self._filled_at) * self._per_second
        self._left = min(self._most, refilled) - amount
        self._filled_at = now
        return self._left >= 0.0
