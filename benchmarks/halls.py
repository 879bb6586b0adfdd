"""A server in a process of its own, and its many clients in another."""

from __future__ import annotations

from time import monotonic, sleep
from typing import Any, NamedTuple

from .contestants import CONTESTANTS, serve
from .crowd import Crowd, attend
from .machine import file_limit, thread_limit
from .measure import WrongResult
from .processes import Remote

__all__ = ["Hall", "Times", "too_many"]

_PATIENCE = 30.0  # s for a server to count its clients
_SPARE = 200  # descriptors and threads for what else there is
_MILLI = 1e3


class Times(NamedTuple):
    """Of a broadcast, in milliseconds."""

    returned: float
    arrived: float


class Hall:
    """A server and a crowd; ``with`` ends both.

    Args:
        name: Of the contestant.
        ping_interval: Of its heartbeat, in seconds; None: it has none.
    """

    def __init__(self, name: str, ping_interval: float | None = None) -> None:
        self.contestant = CONTESTANTS[name]
        self.server = Remote(serve, name, ping_interval)
        self.crowd: Remote
        self._remotes = [self.server]

    def open(self) -> None:
        """Waits for the server, and starts the process of the crowd."""
        self.server.ready()
        self.crowd = Remote(Crowd, self.server.do("where"), self.contestant.dialect, run=attend)
        self._remotes.append(self.crowd)
        self.crowd.ready()

    def grow(self, size: int) -> None:
        """Connects more, until the server counts so many clients."""
        self.crowd.do("grow", size)
        end = monotonic() + _PATIENCE
        while (count := self.server.do("count")) != size:
            if monotonic() > end:
                raise WrongResult(f"{self.contestant.name} counts {count} of {size} clients")
            sleep(0.001)

    def broadcast(self, payload: Any, order: str = "broadcast") -> Times:
        """One of them; it is over when everybody has got it."""
        self.crowd.order("receive", self.contestant.frame(payload))
        start, end = self.server.do(order, payload)
        arrived = self.crowd.outcome()
        return Times((end - start) * _MILLI, (arrived - start) * _MILLI)

    def __enter__(self) -> Hall:
        return self

    def __exit__(self, *_: object) -> None:
        # The server first: its threads shall not all wake up because their clients go. And the
        # clients before they notice.
        for remote in self._remotes:
            remote.kill()
        for remote in self._remotes:
            remote.__exit__()


def too_many(name: str, connections: int, taken: int = 0) -> str:
    """Why this machine cannot hold so many; empty if it can.

    Args:
        name: Of the contestant.
        connections: To one server.
        taken: Threads that others have at the same time.
    """
    contestant = CONTESTANTS[name]
    files = connections * contestant.descriptors + _SPARE
    if files > file_limit():
        return f"not with {connections:,}: {files:,} open files, and {file_limit():,} are allowed"
    # What else runs on the machine needs threads, too.
    if taken + connections * contestant.threads + _SPARE > thread_limit() * 5 // 6:
        return f"not with {connections:,}: more threads than there may be"
    return ""
