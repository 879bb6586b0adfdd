"""What comes in over one link after another, and what the end of one makes of a session.

Threads: links come and go in any thread; the reader of the current link brings those that come in;
acknowledgements that are due come from the loop.

``_lock`` guards what goes out and the links; ``sending.py`` says more of it.

``_receiving`` guards what came in: a frame is counted and put into the lane in one step, so that a
link which takes over, or whoever closes, knows of all that were. It is taken before ``_lock``,
never after. What of it the other side was told is guarded by ``_lock``: acknowledgements are
written, in order, under that.
"""

from __future__ import annotations

import abc
from threading import Lock
from typing import Any, NamedTuple

from . import clock
from .callers import Callers
from .constants import WSE_ERROR, WSE_REASON
from .core.calls import OpenCall
from .core.delivery import Delivery, Limits, Outgoing
from .endpoint import Endpoint
from .errors import WseError, error_of
from .futures import Reply
from .link import Link
from .loop import Timer, loop
from .sending import Sender
from .tally import Load
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


class Exchange(Sender):
    """The frames of one connection, in both directions, over one link after another."""

    __slots__ = ("_ack_timer", "_callers", "_receiving")

    def __init__(self, endpoint: Endpoint, *, waits_for_room: bool) -> None:
        super().__init__(endpoint, waits_for_room=waits_for_room)
        self._receiving = Lock()
        self._callers = Callers(endpoint.tally)
        self._ack_timer: Timer | None = None

    @property
    def load(self) -> Load:
        """What waits here; each figure is read in one step, no lock is taken."""
        link, session = self._link, self.session
        unsent = 0 if link is None else link.outbox.waiting_bytes
        return Load(
            len(self._callers),
            unsent + session.waiting_bytes,
            session.kept_bytes,
            self.lane.waiting_bytes,
        )

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
        self._callers.disconnect(calls, _ABNORMAL, WSE_REASON.SESSION_EXPIRED)
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

    def _is_wanted(self, frame: Outgoing) -> bool:
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
        self._callers.disconnect(calls, code, reason)
        return Loss(was_open, lost)

    def _detach(
        self, *, suspend: bool, resume: bool
    ) -> tuple[list[OpenCall[Reply]], dict[Any, int]]:
        """See :meth:`detach`; the lock is held."""
        self._leave("suspended" if suspend else "closed")
        session = self.session
        if suspend and resume and session.is_session:
            return [], {}
        if suspend:
            self.session = session.successor()
            return self._callers.take_all(session.unwritten_stamps()), session.lost_messages()
        self.session = Delivery()
        return self._callers.take_all(), session.lost_messages(unwritten=True)

    def disown(self) -> None:
        """In the child of a fork: the link is that of the parent, and nothing can be sent here.

        The locks may be held by threads that are not in the child.
        """
        self._lock = Lock()
        self._receiving = Lock()
        self._callers = Callers(self.endpoint.tally)
        self._room = None
        self._leave("closed")

    def report_lost(self, messages: dict[Any, int]) -> None:
        """Tells the application which messages may not have arrived."""
        if messages:
            shown = ", ".join(f"{count} of {type!r:.80}" for type, count in messages.items())
            message = f"the session is over; these messages may be lost: {shown}"
            self.report(error_of(WSE_ERROR.CONNECTION_CLOSED, {"messages": messages}, message))

    @abc.abstractmethod
    def report(self, error: WseError, link: Link | None = None) -> None:
        """Logs an error and has the signal sent in its turn; if ``link`` still counts."""

    # In; the reader's thread

    def shut(self) -> None:
        """Takes no more messages and calls, but still answers; any thread.

        What was taken until then has a thread or a place in the lane when this returns. What the
        other side sends from now on is not counted, so it knows that it was not taken.
        """
        with self._receiving:
            self.lane.shut()

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
            False if this is not the link any more, and another one brings the frame again; or if
            nothing is taken any more.
        """
        with self._receiving:
            is_session = self.session.is_session
            if handle is not None:
                taken = self.lane.post(handle, size, source=link, is_call=is_call)
            else:
                taken = not is_session or self.lane.source is link
            if taken and is_session and not self.lane.is_shut:
                # A message may be all that comes. Where there are calls and answers, a frame of
                # ours is about to go out, and takes the acknowledgement along.
                self._count(link, size, at_once=handle is not None and not is_call)
            return taken

    def _count(self, link: Link, size: int, *, at_once: bool) -> None:
        """Counts a frame of the session; ``_receiving`` is held."""
        if self.session.receive(size, clock.monotonic, at_once=at_once):
            self._send_ack(link)
        elif self._ack_timer is None:
            self._arm_ack()

    def _arm_ack(self) -> None:
        due = self.session.ack_due  # None if one has just ridden along
        if due is not None:
            self._ack_timer = loop.call_at(due, self._send_late_ack)

    def _acknowledge(self, link: Link, count: Any) -> bool:
        """Takes an acknowledgement of the other side; False if it says nothing new."""
        with self._lock:
            if link is not self._link:
                return True
            before = self.session.acknowledged
            self.session.acknowledge(count)
            self._notify()
            return self.session.acknowledged != before

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
            if due <= clock.monotonic():
                self._send_ack(link)
            else:
                self._ack_timer = loop.call_at(due, self._send_late_ack)

    def _stop_acks(self) -> None:
        with self._receiving:
            timer, self._ack_timer = self._ack_timer, None
        if timer is not None:
            timer.cancel()
