"""What goes out and what comes in over one link after another, and what a session makes of it.

Threads: frames go out from any thread; the reader of the current link brings those that come in;
acknowledgements that are due come from the loop.

``_lock`` guards the state, the link, and of the session what goes out. Frames are written under it,
so that their order on the wire is the order in which they were numbered; those writes do not block.
Under it the locks of the callers, the registry, the outbox, the lane and the loop may be taken.
Futures are settled, and signals run, without it.

``_receiving`` guards of the session what came in: a frame is counted and put into the lane in one
step, so that a link which takes over knows of all that were. It is taken before ``_lock``, never
after. What of it the other side was told is guarded by ``_lock``: acknowledgements are written, in
order, under that.
"""

from __future__ import annotations

import abc
import math
from threading import Condition, Lock
from time import monotonic
from typing import Any, NamedTuple

from .callers import Callers, disconnect_all
from .constants import WSE_ERROR, WSE_REASON
from .core.calls import OpenCall
from .core.delivery import Delivery, Limits, Outgoing
from .dispatch import Lane
from .endpoint import Endpoint
from .errors import WseError, error_of
from .futures import Reply
from .link import Link
from .loop import Timer, loop
from .protocol import Data
from .workers import Task

__all__ = ["Exchange", "Loss"]

_ABNORMAL = 1006


class Loss(NamedTuple):
    """What the end of a link means.

    Attributes:
        was_open: Whether the conversation went over this link.
        messages: That are lost: how many of which types.
    """

    was_open: bool
    messages: dict[Any, int]


class Exchange(abc.ABC):
    """The frames of one connection.

    ``state`` goes from "new" to "open" with a link, from there to "suspended" when the link is lost
    and another is expected, and to "closed" when it is not.

    Args:
        endpoint: Whose it is.
        waits_for_room: Whether sending blocks while too much is on its way (a client), or the
            connection is lost as a slow consumer (a server).
    """

    def __init__(self, endpoint: Endpoint, *, waits_for_room: bool) -> None:
        self.endpoint = endpoint
        self.lane = Lane(endpoint.workers, endpoint.max_queue_bytes)
        self._waits_for_room = waits_for_room
        self._max_unsent_bytes = math.inf if waits_for_room else None
        self.peer = endpoint.peer
        self._lock = Lock()
        self._receiving = Lock()
        self._room: Condition | None = None  # made by the first who waits for acknowledgements
        self._state = "new"
        self._link: Link | None = None
        self._callers = Callers()
        self._ack_timer: Timer | None = None
        #: What went out and came in since the welcome, as far as it is not settled.
        self.session = Delivery()

    # Links come and go

    def attach(self, link: Link, limits: Limits | None = None, session_id: str = "") -> bool:
        """Opens for business on a link, with a new session or none; False if the link is over.

        What no link has had goes out on it. What an earlier session has not settled is lost: open
        calls fail, messages are reported.

        Args:
            link: Which it is.
            limits: Of the session; None: there is none.
            session_id: Its secret.
        """
        with self._lock:
            # Who sets the verdict takes this lock next, in detach: the end is seen here or there.
            if link.verdict is not None:
                return False
            before = self.session
            calls = self._callers.take_all(before.unwritten_stamps())
            self.session = before.successor(limits, session_id)
            self._open(link)
        self.report_lost(before.lost_messages())
        disconnect_all(calls, _ABNORMAL, WSE_REASON.SESSION_EXPIRED)
        return True

    def resume(self, link: Link, received: int) -> bool:
        """Goes on with the session on a new link; False if the link is over.

        Raises:
            WseError: The other side cannot have received so much (PROTOCOL_VIOLATION).
        """
        with self._lock:
            if link.verdict is not None:
                return False
            self.session.resume(received)
            self._open(link)
            return True

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
        self._notify()

    def _is_wanted(self, frame: Outgoing) -> bool:
        """Not a call that nobody waits for any more."""
        return frame.stamp is None or frame.stamp in self._callers

    def detach(
        self, code: int, reason: str, *, suspend: bool = False, resume: bool = False
    ) -> Loss:
        """The end of the link, or of the wait for another one.

        Args:
            code: Why, for the callers.
            reason: Likewise.
            suspend: Whether another link is expected.
            resume: Whether it is to go on with the session, if there is one.

        Returns:
            What that ended.
        """
        with self._lock:
            was_open = self._state == "open"
            calls, lost = self._detach(suspend=suspend, resume=resume)
        self._stop_acks()
        disconnect_all(calls, code, reason)
        return Loss(was_open, lost)

    def _detach(
        self, *, suspend: bool, resume: bool
    ) -> tuple[list[OpenCall[Reply]], dict[Any, int]]:
        """See :meth:`detach`; the lock is held."""
        self._link = None
        self._state = "suspended" if suspend else "closed"
        self._notify()
        session = self.session
        if suspend and resume and session.is_session:
            return [], {}
        if suspend:
            self.session = session.successor()
            return self._callers.take_all(session.unwritten_stamps()), session.lost_messages()
        self.session = Delivery()
        return self._callers.take_all(), session.lost_messages(unwritten=True)

    def report_lost(self, messages: dict[Any, int]) -> None:
        """Tells the application which messages may not have arrived."""
        if messages:
            shown = ", ".join(f"{count} of {type!r:.80}" for type, count in messages.items())
            message = f"the session is over; these messages may be lost: {shown}"
            self.report(error_of(WSE_ERROR.CONNECTION_CLOSED, {"messages": messages}, message))

    @abc.abstractmethod
    def report(self, error: WseError, link: Link | None = None) -> None:
        """Logs an error and has the signal sent in its turn; if ``link`` still counts."""

    # Out

    def _make_room(self, data: Data, deadline: float | None) -> None:
        """Checks the size of what is to be sent; a client waits until there is room for it."""
        self.endpoint.check_size(data)
        if not self._waits_for_room:
            return
        link = self._link
        if link is None or not link.outbox.waiting_bytes:
            return
        if not link.outbox.wait_for_room(len(data), _until(deadline)):
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

        if not self._room.wait_for(may_go_on, _until(deadline)):
            raise _full()

    def _notify(self) -> None:
        if self._room is not None:
            self._room.notify_all()

    def _send(self, frame: Outgoing) -> None:
        """Sends a frame, or keeps it until there is a link; the lock is held.

        Raises:
            WseConnectionError: Neither is possible (CONNECTION_NOT_READY).
        """
        if not self._put(frame):
            raise error_of(WSE_ERROR.CONNECTION_NOT_READY, message=self._why_not_ready())

    def _put(self, frame: Outgoing, encoded: bytes | None = None) -> bool:
        """:meth:`_send`, which says whether it was possible."""
        session = self.session
        if self._state == "open" and not session.waiting:
            link = self._link
            assert link is not None
            if encoded is None:
                encoded = link.transport.encode(frame.data)
            if session.is_session:
                written = self._write_counted(link, frame, encoded)
            else:
                written = link.outbox.write(encoded, max_bytes=self._max_unsent_bytes)
            if written:
                return True
        if not self._may_wait(frame):
            return False
        session.wait(frame)
        return True

    def _write_counted(self, link: Link, frame: Outgoing, encoded: bytes) -> bool:
        session = self.session
        try:
            # Counted first: what the other side may have must have its number.
            crowded = session.wrote(frame)
            if session.ack_rides:
                encoded += link.transport.encode(self.peer.pack_ack(session.tell()))
            if link.outbox.write(encoded, max_bytes=self._max_unsent_bytes):
                if crowded:
                    self._crowded(link)
                return True
        except BaseException:  # Ctrl-C
            link.cut()  # nobody knows what of it has gone: the next link is told
            raise
        session.take_back()
        return False

    @abc.abstractmethod
    def _crowded(self, link: Link) -> None:
        """More is kept than may be, although the link is up; the lock is held."""

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

    # In; the reader's thread

    def _take(
        self, link: Link, size: int, handle: Task | None = None, *, is_call: bool = False
    ) -> bool:
        """Gives a frame its place in the lane and counts it.

        Args:
            link: Which brought it.
            size: Of its data, in bytes.
            handle: What to run; None for an answer, which the reader settles.
            is_call: Whether ``handle`` serves a call.

        Returns:
            False if this is not the link any more: another one brings the frame again.
        """
        session = self.session
        if not session.is_session:
            return handle is None or self.lane.post(handle, size, source=link, is_call=is_call)
        with self._receiving:
            if handle is None:
                taken = self.lane.source is link
            else:
                taken = self.lane.post(handle, size, source=link, is_call=is_call)
            if taken:
                # A message may be all that comes. Where there are calls and answers, a frame of
                # ours is about to go out, and takes the acknowledgement along.
                self._count(link, size, at_once=handle is not None and not is_call)
            return taken

    def _count(self, link: Link, size: int, *, at_once: bool) -> None:
        """Counts a frame of the session; ``_receiving`` is held."""
        if self.session.receive(size, monotonic, at_once=at_once):
            self._send_ack(link)
        elif self._ack_timer is None:
            self._arm_ack()

    def _arm_ack(self) -> None:
        due = self.session.ack_due  # None if one has just ridden along
        if due is not None:
            self._ack_timer = loop.call_at(due, self._send_late_ack)

    def _acknowledge(self, link: Link, count: Any) -> None:
        """Takes an acknowledgement of the other side."""
        with self._lock:
            if link is self._link:
                self.session.acknowledge(count)
                self._notify()

    def _send_ack(self, link: Link) -> None:
        with self._lock:  # or one might overtake another
            link.send_control(self.peer.pack_ack(self.session.tell()))

    def settle_acks(self, link: Link) -> None:
        """Before a goodbye: says what the other side would have to count as lost."""
        with self._receiving:
            if link is self._link and self.session.ack_due is not None:
                self._send_ack(link)

    def _send_late_ack(self) -> None:
        with self._receiving:
            self._ack_timer = None
            due, link = self.session.ack_due, self._link
            if due is None or link is None:
                return  # the other side knows, or will be told when it comes back
            if due <= monotonic():
                self._send_ack(link)
            else:
                self._ack_timer = loop.call_at(due, self._send_late_ack)

    def _stop_acks(self) -> None:
        with self._receiving:
            timer, self._ack_timer = self._ack_timer, None
        if timer is not None:
            timer.cancel()


def _until(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - monotonic())


def _full() -> WseError:
    return error_of(WSE_ERROR.RP_TIMEOUT, message="the other side does not read")
