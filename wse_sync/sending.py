"""What goes out over one link after another, and what waits for the next one.

Any thread sends. ``_lock`` guards every attribute, and of the session what goes out. Frames are
written under it, so that their order on the wire is the order in which they were numbered; those
writes do not block. Under it the locks of the callers, the registry, the outbox, the lane and the
loop may be taken. Futures are settled, and signals run, without it.

Every message and call comes through here, and a broadcast once for each of thousands of
connections. More of their memory than any cache holds is then what takes the time; so a frame that
can go out at once touches few objects, and those are small.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable
from functools import partial
from threading import Condition, Lock
from typing import Any

from . import clock
from .constants import WSE_ERROR
from .core.delivery import Delivery, Outgoing
from .dispatch import Lane
from .endpoint import Endpoint
from .errors import WseError, error_of
from .link import Link
from .outbox import Outbox
from .protocol import Data

__all__ = ["Packed", "Sender"]

Encode = Callable[[Data], bytes]

# As Outgoing(…), without its step through Python.
_outgoing: Callable[[tuple[Any, ...]], Outgoing] = partial(tuple.__new__, Outgoing)


class Packed:
    """A message for many: packed once, and framed once for each way to frame."""

    def __init__(self, data: Data, type: Any) -> None:
        self.message = Outgoing(data, type)
        #: What it is to send, by what framed it.
        self.frames: dict[Encode, bytes] = {}

    def frame(self, encode: Encode) -> bytes:
        """Frames it in a way that is not among ``frames`` yet."""
        frame = self.frames[encode] = encode(self.message.data)
        return frame


class Sender(abc.ABC):
    """The frames of one connection that go out.

    ``state`` goes from "new" to "open" with a link, from there to "suspended" when the link is lost
    and another is expected, and to "closed" when it is not.

    Args:
        endpoint: Whose it is.
        waits_for_room: Whether sending blocks while too much is on its way (a client), or the
            connection is lost as a slow consumer (a server).
    """

    __slots__ = (
        "_counts",
        "_encode",
        "_link",
        "_lock",
        "_max_unsent_bytes",
        "_outbox",
        "_room",
        "_state",
        "_waits_for_room",
        "endpoint",
        "lane",
        "peer",
        "session",
    )

    def __init__(self, endpoint: Endpoint, *, waits_for_room: bool) -> None:
        self.endpoint = endpoint
        self.lane = Lane(endpoint.workers, endpoint.max_queue_bytes)
        self.peer = endpoint.peer
        self._waits_for_room = waits_for_room
        self._max_unsent_bytes = math.inf if waits_for_room else None
        self._lock = Lock()
        self._room: Condition | None = None  # made by the first who waits for acknowledgements
        self._state = "new"
        self._link: Link | None = None
        # Set while frames go out at once: the link is there, and nothing waits before them.
        self._outbox: Outbox | None = None
        # For these, and for as long: how they are framed, and whether there is a session.
        self._encode: Encode
        self._counts: bool
        #: What went out and came in since the welcome, as far as it is not settled.
        self.session = Delivery()

    @property
    def link(self) -> Link | None:
        """The link that it has at the moment."""
        return self._link

    def _open(self, link: Link, welcome: Data | None = None) -> None:
        """Begins on a link: with the welcome, if that is ours to give, and what has been waiting.

        The lock is held, so nobody else is faster. But the other side may be: it has to find the
        state that its welcome promises.
        """
        self._link = link
        self._state = "open"
        if welcome is not None:
            link.send(welcome, bounded=False)
        self.session.write_waiting(lambda data: link.send(data, bounded=False), self._is_wanted)
        link.outbox.make_exception()
        self._encode = link.transport.encode
        self._counts = self.session.is_session
        self._outbox = None if self.session.waiting else link.outbox
        self._notify()

    def _leave(self, state: str) -> None:
        """The end of the link, or of the wait for another one; the lock is held."""
        self._link = self._outbox = None
        self._state = state
        self._notify()

    @abc.abstractmethod
    def _is_wanted(self, frame: Outgoing) -> bool:
        """Not a call that nobody waits for any more."""

    def _make_room(self, size: int, deadline: float | None) -> None:
        """A client waits until there is room for one more frame."""
        link = self._link
        if not self._waits_for_room or link is None or not link.outbox.waiting_bytes:
            return
        if not link.outbox.wait_for_room(size, _until(deadline)):
            raise _full()

    def _await_acks(self, size: int, deadline: float | None, *, is_answer: bool = False) -> None:
        """A client waits until its session may keep one more frame; the lock is held.

        Without a link only answers wait: others are refused, which an answer cannot be.
        """
        link, session = self._link, self.session
        if not self._waits_for_room or not session.is_session or session.has_room(size):
            return
        if self.lane.is_here:
            # The acknowledgement may stand behind messages that wait for this handler. It may keep
            # more than others; how much is bounded by what is in the lane.
            return
        if self._room is None:
            self._room = Condition(self._lock)

        def may_go_on() -> bool:
            over = self.session is not session or self._state == "closed"
            refused = self._link is not link or link is None
            return over or session.has_room(size) or (refused and not is_answer)

        if not clock.wait_for(self._room, may_go_on, _until(deadline)):
            raise _full()

    def _notify(self) -> None:
        if self._room is not None:
            self._room.notify_all()

    def _send(self, data: Data, type: Any, stamp: str | None = None) -> None:
        """Sends a message or call, or keeps it until there is a link; the lock is held.

        Raises:
            WseConnectionError: Neither is possible (CONNECTION_NOT_READY).
        """
        if not self._put(data, type, stamp, False):
            raise error_of(WSE_ERROR.CONNECTION_NOT_READY, message=self._why_not_ready())

    def _put(self, data: Data, type: Any, stamp: str | None, is_answer: bool) -> bool:
        """Sends what would make an :class:`Outgoing`, or keeps it; whether that was possible."""
        outbox = self._outbox
        if outbox is None:
            return self._wait(Outgoing(data, type, stamp, is_answer))
        frame = self._encode(data)
        if self._counts:
            return self._put_counted(outbox, _outgoing((data, type, stamp, is_answer)), frame)
        if outbox.write(frame, self._max_unsent_bytes):
            return True
        return self._wait(Outgoing(data, type, stamp, is_answer))

    def _put_counted(self, outbox: Outbox, outgoing: Outgoing, frame: bytes) -> bool:
        """Sends a frame of a session, encoded as ``frame``; otherwise as :meth:`_put`."""
        session, link = self.session, self._link
        assert link is not None
        try:
            # Counted first: what the other side may have must have its number.
            crowded = session.wrote(outgoing)
            if session.ack_rides:
                frame += self._encode(self.peer.pack_ack(session.tell()))
            if outbox.write(frame, self._max_unsent_bytes):
                if crowded:
                    self._crowded(link)
                return True
        except BaseException:  # Ctrl-C
            link.cut()  # nobody knows what of it has gone: the next link is told
            raise
        session.take_back()
        return self._wait(outgoing)

    def send_packed(self, packed: Packed) -> bool:
        """Sends what was packed for many; False if this connection is closed."""
        with self._lock:
            outbox = self._outbox
            if outbox is None:
                return self._wait(packed.message)
            frame = packed.frames.get(self._encode) or packed.frame(self._encode)
            if self._counts:
                return self._put_counted(outbox, packed.message, frame)
            return outbox.write(frame, self._max_unsent_bytes) or self._wait(packed.message)

    def _wait(self, outgoing: Outgoing) -> bool:
        """Keeps a frame for the next link; whether that is possible."""
        if not self._may_wait(outgoing):
            return False
        self.session.wait(outgoing)
        self._outbox = None  # what comes later must not come before it
        return True

    def _may_wait(self, frame: Outgoing) -> bool:
        """Whether a frame may wait for the next link."""
        if frame.is_answer and not self.session.is_session:
            return False  # nobody waits for it there
        if self._state == "open":
            assert self._link is not None
            if not self._outlives(self._link.verdict):
                return False
        elif self._state != "suspended":
            return False
        if self._has_queue_room(frame):
            return True
        self.session.sweep(self._is_wanted)
        if self._has_queue_room(frame):
            return True
        self._overrun()
        return False

    @abc.abstractmethod
    def _crowded(self, link: Link) -> None:
        """More is kept than may be, although the link is up; the lock is held."""

    @abc.abstractmethod
    def _outlives(self, verdict: tuple[int, str] | None) -> bool:
        """Whether another link will come when this one has ended so; None: it has not ended yet."""

    @abc.abstractmethod
    def _has_queue_room(self, frame: Outgoing) -> bool:
        """Whether one more frame may wait for a link; the lock is held."""

    @abc.abstractmethod
    def _overrun(self) -> None:
        """More is to wait for a link than may; the lock is held."""

    def _why_not_ready(self) -> str:
        return f"{self!r} has no link"


def _until(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - clock.monotonic())


def _full() -> WseError:
    return error_of(WSE_ERROR.RP_TIMEOUT, message="the other side does not read")
