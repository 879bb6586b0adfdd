"""How a server parts from its clients: handlers finish, everybody is told, what is left is cut.

Any thread. Nothing is kept here, and no lock is held.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from time import monotonic

from .constants import WSE_REASON
from .link import CLOSE_TIMEOUT, Link
from .loop import loop
from .sessions import WseConnection
from .workers import Workers

__all__ = ["LAST_WAIT", "part", "part_later"]

#: For threads to end when their links have been cut, in seconds.
LAST_WAIT = 2.0

_SERVICE_RESTART = 1012
_GOODBYE = 1.0  # s, or all the time there is if that is less: for what handlers have left to send
_LOOK = 0.05  # s between looks whether handlers are done


def part(
    connections: Collection[WseConnection],
    links: Collection[Link],
    workers: Workers,
    timeout: float,
) -> float:
    """Ends connections with 1012 ``wse.by-server``, and waits until their links are over.

    Args:
        connections: All there are, those without a link included.
        links: Of theirs, and of strangers.
        workers: Who runs their handlers.
        timeout: For the handlers, and in what is left of it for the goodbye, in seconds.

    Returns:
        When the time is over, a time of ``time.monotonic()``.
    """
    deadline = monotonic() + timeout
    _shut(connections)
    workers.finish(timeout)
    deadline = max(deadline, monotonic() + min(timeout, _GOODBYE))
    _end(connections, max(0.0, deadline - monotonic()))
    for link in links:
        if not link.wait(max(0.0, deadline - monotonic())):
            link.cut()
    for link in links:
        link.wait(LAST_WAIT)
    return deadline


def part_later(connections: Collection[WseConnection], workers: Workers, timeout: float) -> None:
    """Ends connections likewise, but does not block: the loop looks after the handlers."""
    _shut(connections)
    _look(connections, workers, monotonic() + timeout)


def _look(connections: Collection[WseConnection], workers: Workers, deadline: float) -> None:
    if workers.is_busy and monotonic() < deadline:
        loop.call_later(_LOOK, partial(_look, connections, workers, deadline))
    else:
        _end(connections, CLOSE_TIMEOUT)


def _shut(connections: Collection[WseConnection]) -> None:
    """Before the handlers end: what was taken is answered, what was not is not begun."""
    for connection in connections:
        connection.shut()


def _end(connections: Collection[WseConnection], timeout: float) -> None:
    for connection in connections:
        connection.end(_SERVICE_RESTART, WSE_REASON.BY_SERVER, timeout=timeout)
