"""Waiting for something that happens once.

Any thread waits, one opens. The lock is held until then, and by each waiter for a moment after.
"""

from __future__ import annotations

from threading import Lock

__all__ = ["Gate"]


class Gate:
    """What :class:`threading.Event` is, without a way back: a bare lock, a tenth of the memory."""

    __slots__ = ("_is_open", "_shut")

    def __init__(self) -> None:
        self._is_open = False
        self._shut = Lock()
        self._shut.acquire()

    def is_set(self) -> bool:
        """Whether it has happened."""
        return self._is_open

    def set(self) -> None:
        """It has happened; once."""
        self._is_open = True
        self._shut.release()

    def wait(self, timeout: float) -> bool:
        """Blocks until it has happened; False after ``timeout`` seconds."""
        if not self._is_open and self._shut.acquire(timeout=timeout):
            self._shut.release()  # for the next who waits
        return self._is_open
