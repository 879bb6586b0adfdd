"""Threads that have done their work, and may still be ending.

Whoever gives up its place in a table is in none any more, but the system may hold it up before it
ends. Who promises that every thread has ended waits for these, too. Its owner's lock guards it.
"""

from __future__ import annotations

import threading

__all__ = ["Leaving"]


class Leaving:
    """Those of one owner."""

    def __init__(self) -> None:
        self._threads: set[threading.Thread] = set()

    def add(self, thread: threading.Thread) -> None:
        """Notes one that has nothing more to do; most often it is the calling one."""
        self._threads = {thread, *self.alive()}

    def alive(self) -> set[threading.Thread]:
        """Those that have not ended yet."""
        return {thread for thread in self._threads if thread.is_alive()}
