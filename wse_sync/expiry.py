"""Users who were let in until some time: their connections end then.

That time is one of the system's clock. It may be set, and other than that of the timers it
goes on while the machine sleeps. So each look is at the system's clock, and the next comes soon.

Threads: whoever lets in or ends a connection comes to :meth:`Expiries.set`, maybe with the lock of
that connection; the loop looks. ``_lock`` guards the table; under it only the lock of the loop is
taken.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from . import clock
from .checks import bad_type, bad_value, check_finite
from .constants import WSE_REASON
from .loop import Timer, loop

if TYPE_CHECKING:
    from .sessions import WseConnection

__all__ = ["Expiries", "parse_expiry"]

_LOOK = 60.0  # s between looks at the most: so late it may be when the clock is set forward
_POLICY = 1008


class _Entry(NamedTuple):
    """When a connection ends, and who looks after it; ``links`` is how many it has had so far."""

    ends_at: float
    links: int
    timer: Timer


class Expiries:
    """The connections that end at some time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[WseConnection, _Entry] = {}

    def set(self, connection: WseConnection, ends_at: float | None) -> None:
        """Has a connection end then, whatever was said before; None: it does not."""
        with self._lock:
            before = self._entries.pop(connection, None)
            if before is not None:
                before.timer.cancel()
            if ends_at is not None:
                self._enter(connection, ends_at, connection.links)

    def _enter(self, connection: WseConnection, ends_at: float, links: int) -> None:
        delay = min(_LOOK, max(0.0, ends_at - clock.wall()))
        timer = loop.call_later(delay, partial(self._look, connection))
        self._entries[connection] = _Entry(ends_at, links, timer)

    def _look(self, connection: WseConnection) -> None:
        with self._lock:
            entry = self._entries.pop(connection, None)
            if entry is None:
                return
            # Another one may have been set just now: then its timer looks once more than it need.
            entry.timer.cancel()
            if clock.wall() < entry.ends_at:
                self._enter(connection, entry.ends_at, entry.links)
                return
        # Not if it has come back just now, and was let in for longer.
        connection.end(_POLICY, WSE_REASON.NOT_AUTHORIZED, links=entry.links)

    def __len__(self) -> int:
        return len(self._entries)


def parse_expiry(expires_at: Any) -> float | None:
    """A time of the system's clock, as one of ``clock.wall()``; None is a value of its own.

    Raises:
        WseTypeError, WseValueError: It is neither seconds since the epoch nor a datetime with a
            time zone.
    """
    if expires_at is None:
        return None
    if hasattr(expires_at, "timestamp"):  # datetime itself is not needed here
        if expires_at.tzinfo is None:
            raise bad_value("expires_at must say its time zone: datetime.now(timezone.utc) + …")
        expires_at = expires_at.timestamp()
    elif isinstance(expires_at, bool) or not isinstance(expires_at, (int, float)):
        raise bad_type(
            "expires_at must be seconds since the epoch, as time.time() gives them, or a datetime,"
            f" not {type(expires_at).__name__}"
        )
    check_finite(0, expires_at=expires_at)
    return clock.wall_of(expires_at)
