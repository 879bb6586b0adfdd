"""The handle that users hold, for both ends: what outlives a link, and what becomes of its frames.

Threads: users send and call from any thread; the reader of the current link comes in through
:meth:`Connection.receive`; handlers run on workers; deadlines come from the loop.

``Connection._lock`` guards the state, the link, the open calls and the frames that wait for a link.
Frames are written under it, so that their order on the wire is the order in which they were given
their place; those writes do not block. Under it the locks of the registry, the outbox, the lane and
the loop may be taken. Futures are settled, and signals run, without it.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future
from functools import partial
from threading import Lock
from time import monotonic
from typing import Any

from .checks import check_seconds
from .constants import WSE_ERROR, WSE_REASON
from .core.calls import Calls
from .core.failures import error_from
from .core.peer import Answer, Call, Event, Message, Peer
from .dispatch import Lane
from .endpoint import Endpoint
from .errors import WseError, error_of
from .futures import BlockedCall, CallFuture, Reply
from .link import Link
from .loop import Timer, loop
from .protocol import Data
from .service import answer

__all__ = ["DEFAULT", "KEEP", "Connection"]

_NORMAL, _PROTOCOL_ERROR = 1000, 1002


class _Stand:
    """Stands for a value that was not given; says which in signatures."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


DEFAULT: Any = _Stand("the default")
KEEP: Any = _Stand("as before")


class Connection:
    """One conversation.

    ``state`` goes from "new" to "open" with a link, from there to "suspended" when the link is lost
    and another is expected, and to "closed" when it is not.

    Args:
        endpoint: Whose it is.
        waits_for_room: Whether ``send`` blocks while too much is waiting to be sent (a client), or
            the connection is lost as a slow consumer (a server).
    """

    def __init__(self, endpoint: Endpoint, *, waits_for_room: bool) -> None:
        self.endpoint = endpoint
        self.lane = Lane(endpoint.workers, endpoint.max_queue_bytes)
        self._waits_for_room = waits_for_room
        self.peer = Peer(endpoint.protocol)
        self._lock = Lock()
        self._state = "new"
        self._link: Link | None = None
        self._calls: Calls[Reply] = Calls()
        self._expiry: Timer | None = None
        self._waiting: deque[tuple[str | None, Data]] = deque()
        self._waiting_bytes = 0

    # What users do

    def send(self, type: Any, payload: Any = None) -> None:
        """Sends a message.

        Any thread. A client waits while more than ``max_queue_bytes`` are on their way; a server
        never waits, and gives up a connection that takes nothing any more.

        Args:
            type: Chooses the handler on the other side.
            payload: Whatever the protocol can pack.

        Raises:
            WseConnectionError: There is no link, and none is expected (CONNECTION_NOT_READY).
            WseTypeError, WseValueError: The protocol cannot pack this; nothing was sent.
        """
        self._transmit(self.peer.pack_message(type, payload), None, None)

    def call(self, name: Any, payload: Any = None, *, timeout: float | None = DEFAULT) -> Any:
        """Calls a procedure of the other side, and blocks until it has answered.

        Any thread, handlers included. When the link is lost, the call fails.

        Args:
            name: Of the procedure.
            payload: Its argument.
            timeout: In seconds; None waits for ever. By default that of the endpoint.

        Returns:
            What the procedure returned.

        Raises:
            WseTimeoutError: No answer in time (RP_TIMEOUT).
            WseConnectionError: The link was lost (RP_DISCONNECT, with
                ``details["disconnected"] == [code, reason]``), or there is none
                (CONNECTION_NOT_READY).
            WseLookupError: There is no such procedure (RP_NOT_REGISTERED).
            WseError: The procedure failed: RP_EXECUTION_FAILED, or the code that it raised.
            WseTypeError, WseValueError: The protocol cannot pack this; nothing was sent.
        """
        blocked = BlockedCall()
        self._call(blocked, name, payload, timeout)
        try:
            return self.endpoint.workers.wait(blocked.wait, self.lane)
        except BaseException:
            self.forget(blocked.stamp)  # Ctrl-C: nobody waits for the answer any more
            raise

    def submit(
        self, name: Any, payload: Any = None, *, timeout: float | None = DEFAULT
    ) -> Future[Any]:
        """Calls a procedure of the other side without waiting: :meth:`call` as a future.

        ``cancel()`` forgets the call. Callbacks of the future run on a worker thread.
        """
        future = CallFuture(name, self.endpoint.workers, self.lane, self.forget)
        self._call(future, name, payload, timeout)
        return future

    def _call(self, reply: Reply, name: Any, payload: Any, timeout: float | None) -> None:
        """Opens a call and sends it."""
        self.peer.check_type(name)
        if timeout is DEFAULT:
            timeout = self.endpoint.call_timeout
        else:
            check_seconds(timeout=timeout)
        deadline = None if timeout is None else monotonic() + timeout
        with self._lock:
            stamp = reply.stamp = self._calls.open(name, deadline, reply)
        try:
            self._transmit(self.peer.pack_call(name, payload, stamp), stamp, deadline)
        except BaseException:
            self.forget(stamp)
            raise
        self.lane.look_again()

    def forget(self, stamp: str) -> bool:
        """Takes out an open call; False if it has ended already."""
        with self._lock:
            return self._calls.close(stamp) is not None

    # What comes in; the reader's thread

    def receive(self, link: Link, data: Data) -> None:
        """Takes a frame that ``link`` brought."""
        try:
            event = self.peer.receive(data)
        except WseError as error:
            self.violated(link, error)
            return
        if isinstance(event, Answer):
            self._settle(event)
            return
        self.lane.post(
            partial(self._handle, link, event),
            len(data),
            source=link,
            is_call=isinstance(event, Call),
        )
        self.await_room(link)

    def receive_late(self, link: Link, data: Data) -> None:
        """Takes a frame that waited in the lane for the welcome; the lane's thread."""
        try:
            event = self.peer.receive(data)
        except WseError as error:
            self.violated(link, error)
            return
        if isinstance(event, Answer):
            self._settle(event)
        elif isinstance(event, Call):
            self.endpoint.workers.call(partial(self._handle, link, event))
        else:
            self._handle(link, event)

    def await_room(self, link: Link) -> None:
        """Holds the reader back while too much waits in the lane."""
        if self.lane.has_room:
            return
        link.pause()
        try:
            if not self.lane.wait_for_room(link, lambda: len(self._calls) > 0):
                link.overflow()
        finally:
            link.resume()

    def violated(self, link: Link, error: WseError) -> None:
        """Closes a link that brought what it must not."""
        self.endpoint.log.info("%r: %s", self, error)
        self.lane.post(partial(self.endpoint.settle_error, error, self), source=link)
        link.close(_NORMAL, WSE_REASON.PROTOCOL_ERR)

    def faulted(self, code: int, reason: str) -> None:
        """Reports that a link brought what is no WebSocket message; the link closes itself."""
        kind = WSE_ERROR.MESSAGE_PROCESSING_ERROR
        if code == _PROTOCOL_ERROR:
            kind = WSE_ERROR.PROTOCOL_VIOLATION
        error = WseError(kind, {"closed": [code, reason]}, f"closed with {code} {reason}")
        self.endpoint.log.info("%r: %s", self, error)
        self.lane.post(partial(self.endpoint.settle_error, error, self))

    # Links come and go

    def attach(self, link: Link) -> bool:
        """Opens for business on a link, and sends what has been waiting; False if it is over."""
        with self._lock:
            # Who sets the verdict takes this lock next, in detach: the end is seen here or there.
            if link.verdict is not None:
                return False
            self._open(link)
            return True

    def _open(self, link: Link) -> None:
        self._link = link
        self._state = "open"
        while self._waiting:
            stamp, data = self._waiting[0]
            if (stamp is None or stamp in self._calls) and not link.send(data, bounded=False):
                return  # it was lost just now: the rest is for the next one
            self._waiting.popleft()
            self._waiting_bytes -= len(data)

    def detach(self, code: int, reason: str, *, suspend: bool = False) -> None:
        """The end of the link, or of the wait for another one: open calls fail.

        Args:
            code: Why, for the callers.
            reason: Likewise.
            suspend: Whether another link is expected.
        """
        with self._lock:
            self._link = None
            self._state = "suspended" if suspend else "closed"
            if not suspend:
                self._waiting.clear()
                self._waiting_bytes = 0
            calls = self._calls.drain()
            if self._expiry is not None:
                self._expiry.cancel()
                self._expiry = None
        for call in calls:
            details = {"rp": call.name, "disconnected": [code, reason]}
            message = f"the link was lost ({code}{' ' * bool(reason)}{reason})"
            call.reply.set_exception(error_of(WSE_ERROR.RP_DISCONNECT, details, message))

    # Inside

    def _transmit(self, data: Data, stamp: str | None, deadline: float | None) -> None:
        """Sends a packed frame, or keeps it until there is a link."""
        self.endpoint.check_size(data)
        link = self._link
        if self._waits_for_room and link is not None and link.outbox.waiting_bytes:
            timeout = None if deadline is None else max(0.0, deadline - monotonic())
            if not link.outbox.wait_for_room(len(data), timeout):
                raise error_of(WSE_ERROR.RP_TIMEOUT, message="the other side does not read")
        with self._lock:
            self._write(data, stamp)
            if deadline is not None:
                self._arm(deadline)

    def _write(self, data: Data, stamp: str | None) -> None:
        if self._state == "open":
            assert self._link is not None
            if self._link.send(data, bounded=not self._waits_for_room):
                return
        if not self._may_wait(len(data)):
            raise error_of(WSE_ERROR.CONNECTION_NOT_READY, message=self._why_not_ready())
        self._waiting.append((stamp, data))
        self._waiting_bytes += len(data)

    def _may_wait(self, size: int) -> bool:
        """Whether a frame may wait for the next link."""
        expected = self._state == "suspended" or (self._state == "open" and self._reconnects())
        return expected and self._waiting_bytes + size <= self.endpoint.max_queue_bytes

    def _reconnects(self) -> bool:
        """Whether another link will come when this one is lost."""
        return False

    def _why_not_ready(self) -> str:
        if self._state == "suspended":
            return f"max_queue_bytes ({self.endpoint.max_queue_bytes}) wait for a link already"
        return f"{self!r} has no link"

    def _arm(self, deadline: float) -> None:
        """One timer for all calls: set to the earliest deadline there may be."""
        if self._expiry is not None:
            if self._expiry.deadline <= deadline:
                return
            self._expiry.cancel()
        self._expiry = loop.call_at(deadline, self._expire)

    def _expire(self) -> None:
        with self._lock:
            late = self._calls.expire(monotonic())
            if self._expiry is not None:
                self._expiry.cancel()  # not this one, if an earlier deadline came just now
                self._expiry = None
            following = self._calls.next_deadline()
            if following is not None:
                self._arm(following)
        for call in late:
            error = error_of(WSE_ERROR.RP_TIMEOUT, {"rp": call.name}, "no answer in time")
            call.reply.set_exception(error)

    def _settle(self, event: Answer) -> None:
        """Ends the call of ours that was answered; one that is not open is dropped."""
        with self._lock:
            call = self._calls.close(event.stamp)
        if call is None:
            return
        if event.failed:
            call.reply.set_exception(error_from(event.payload, call.name))
        else:
            call.reply.set_result(event.payload)

    def _handle(self, link: Link, event: Event) -> None:
        """Runs the code of users for a message or a call; a worker."""
        if isinstance(event, Call):
            answer(self, link, event)
            return
        assert isinstance(event, Message)
        arguments = (*self.endpoint.arguments(self), event.payload)
        report = partial(self.endpoint.report, connection=self)
        if not self.endpoint.channel.deliver(event.type, arguments, report):
            self.endpoint.settle_ignored(self, event)

    def respond(self, link: Link, data: Data) -> None:
        """Answers on the link of the call; if that is gone, so is whoever waited."""
        if self._waits_for_room:
            link.outbox.wait_for_room(len(data))
        with self._lock:
            if self._link is link:
                link.send(data, bounded=not self._waits_for_room)
