"""How many lines others can make us log: some at once, then one now and then, the rest as DEBUG.

A client that calls a procedure with what that cannot take gets a traceback into the log; one that
does so a thousand times a second must not fill the disk.

Any thread writes. There is no lock: of two that write in the same moment both may be let through.
"""

from __future__ import annotations

import logging
from typing import Any

from . import clock

__all__ = ["LogLimit"]

#: Lines of one kind at once; and seconds until there may be one more.
BURST, PAUSE = 30.0, 5.0


class _Kind:
    """The lines of one kind: how many there may be, as of when; and how many were left out."""

    __slots__ = ("at", "left_out", "room")

    def __init__(self) -> None:
        self.at = clock.monotonic()
        self.room = BURST
        self.left_out = 0

    def admits(self) -> bool:
        """Whether there may be one more."""
        now = clock.monotonic()
        self.room = min(BURST, self.room + (now - self.at) / PAUSE)
        self.at = now
        if self.room < 1.0:
            self.left_out += 1
            return False
        self.room -= 1.0
        return True


class LogLimit:
    """Writes to a logger what others may cause as often as they like.

    Args:
        log: The logger.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._kinds: dict[str, _Kind] = {}  # by text, of which there are as many as calls of write

    def write(self, level: int, text: str, *values: object, exc_info: Any = None) -> None:
        """Logs a line, at DEBUG if there were too many with the same text lately.

        Args:
            level: At which it is logged otherwise; below WARNING there is no limit.
            text: A literal, with places for the values.
            values: For these places.
            exc_info: Whose traceback follows.
        """
        if level >= logging.WARNING:
            kind = self._kinds.setdefault(text, _Kind())
            if not kind.admits():
                level = logging.DEBUG
            elif kind.left_out:
                count, kind.left_out = kind.left_out, 0
                self._log.log(level, "%d lines like the next are logged at DEBUG only", count)
        self._log.log(level, text, *values, exc_info=exc_info, stacklevel=2)
