"""The time of the library: the monotonic clock, and what a test has added to it.

Everything here goes by ``clock.monotonic()``. Until the first :func:`advance` that is
:func:`time.monotonic` itself, so it costs nothing; :mod:`wse_sync.testing` is who advances it. Time
is that of the process, never stands still and never goes back: every server and client in it sees
the same. The child of a fork goes on from where its parent was.

What follows it: the timers of the loop (heartbeat, limits of calls, of authentication, of attempts
to connect and of goodbyes, windows of sessions, ends of logins, acknowledgements), and what waits
through :func:`wait_for`: the pause before a reconnect, and every ``timeout`` for a welcome, a
result, a message, for room to send or for the end of a client.

What stays in real time, because it bounds or measures what threads and systems really do: how long
``close()`` and ``disconnect()`` wait for threads, when idle threads end, the short waits in which
threads take turns to read, how quick a procedure is, and the timeouts of sockets.

Any thread comes here. ``_lock`` guards the sum; nothing is taken under it. A wait is entered and
taken out in one step of the interpreter. What waits is woken without ``_lock``.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable
from threading import Condition

__all__ = ["advance", "monotonic", "next_wait", "wait_for", "wall", "wall_of"]

_SLICE = 1.0  # s

_lock = threading.Lock()
_added = 0.0
_waits: dict[object, tuple[float, Condition]] = {}

#: Seconds, of no meaning but for their differences. To be called by its full name, since
#: :func:`advance` replaces it.
monotonic: Callable[[], float] = time.monotonic


def _moved() -> float:
    return time.monotonic() + _added


def wall() -> float:
    """Seconds since the epoch by the system's clock, and what a test has added.

    To be compared with what :func:`wall_of` gives, and with nothing else.
    """
    return time.time() + _added


def wall_of(epoch: float) -> float:
    """A time of the system's clock as one of :func:`wall`.

    As far away as it is now: whoever says it knows nothing of what was added so far.
    """
    return epoch + _added


def advance(seconds: float) -> None:
    """Lets so much time pass at once, and wakes what waits here; the loop has to be told."""
    global _added, monotonic
    with _lock:
        _added += seconds
        monotonic = _moved
    for _, changed in _waits.copy().values():
        with changed:
            changed.notify_all()


def next_wait() -> float:
    """When the next wait is over, of those that are not yet; infinity if there is none."""
    now = monotonic()
    return min((end for end, _ in _waits.copy().values() if end > now), default=math.inf)


def wait_for(changed: Condition, condition: Callable[[], object], timeout: float | None) -> bool:
    """``changed.wait_for(condition, timeout)`` in this time; the caller holds ``changed``."""
    deadline = math.inf if timeout is None else monotonic() + timeout
    this = object()
    try:
        # Before the look at the clock: whoever advances it after that finds this.
        _waits[this] = (deadline, changed)
        while not condition():
            left = deadline - monotonic()
            if left <= 0.0:
                return False
            # In slices: a Ctrl-C between the last look of the interpreter and the system call that
            # waits is noticed only after it.
            changed.wait(min(left, _SLICE))
        return True
    finally:
        _waits.pop(this, None)


def _reset() -> None:
    """The child of a fork: those who wait, or hold the lock, are not in it."""
    global _lock
    _lock = threading.Lock()
    _waits.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset)
