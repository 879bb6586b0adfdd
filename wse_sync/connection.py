"""The handle that users hold, for both ends: messages and calls, out and in.

Threads: users send and call from any thread; the reader of the current link comes in through
:meth:`Connection.receive`; handlers run on workers. The locks are those of ``sending.py`` and
``exchange.py``.
"""

from __future__ import annotations

from concurrent.futures import Future
from functools import partial
from typing import Any

from . import clock
from .checks import check_seconds
from .constants import WSE_ERROR, WSE_REASON
from .core.delivery import Delivery
from .core.peer import Ack, Answer, Call, Message
from .errors import WseError
from .exchange import Exchange
from .futures import BlockedCall, CallFuture, Reply
from .link import Link
from .protocol import Data
from .rates import Meter
from .service import answer
from .transport.base import Change, assign
from .workers import Task

__all__ = ["DEFAULT", "KEEP", "Connection"]

_NORMAL, _PROTOCOL_ERROR, _POLICY = 1000, 1002, 1008


class _Stand:
    """Stands for a value that was not given; says which in signatures."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


DEFAULT: Any = _Stand("the default")
KEEP: Any = _Stand("as before")


class Connection(Exchange):
    """One conversation."""

    __slots__ = ()

    #: Counts what comes in; None: nobody does.
    meter: Meter | None = None

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
        data = self.peer.pack_message(type, payload)
        self.endpoint.check_size(data)
        self._make_room(len(data), None)
        with self._lock:
            self._await_acks(len(data), None)
            self._send(data, type)
        self.endpoint.tally.send()
        self._recall_reader()

    def call(self, name: Any, payload: Any = None, *, timeout: float | None = DEFAULT) -> Any:
        """Calls a procedure of the other side, and blocks until it has answered.

        Any thread, handlers included. With a session the call survives the loss of a link; its
        time goes on running meanwhile. Without one it fails then.

        Args:
            name: Of the procedure.
            payload: Its argument.
            timeout: In seconds; None waits for ever. By default that of the endpoint.

        Returns:
            What the procedure returned.

        Raises:
            WseTimeoutError: No answer in time (RP_TIMEOUT).
            WseConnectionError: The link was lost for good (RP_DISCONNECT, with
                ``details["disconnected"] == [code, reason]``), or there is none
                (CONNECTION_NOT_READY).
            WseLookupError: There is no such procedure (RP_NOT_REGISTERED).
            WseError: The procedure failed: RP_EXECUTION_FAILED, or the code that it raised.
            WseTypeError, WseValueError: The protocol cannot pack this; nothing was sent.
        """
        blocked = BlockedCall()
        link: Link | None = None
        try:
            self._call(blocked, name, payload, timeout)
            link = self._link
            if link is not None and link.turn.claim() and self._find_answer(link, blocked):
                return blocked.wait()
            return self.endpoint.workers.wait(blocked.wait, self.lane)
        except BaseException:
            if link is not None:
                link.turn.abandon()
            self.forget(blocked.stamp)  # Ctrl-C: nobody waits for the answer any more
            raise

    def submit(
        self, name: Any, payload: Any = None, *, timeout: float | None = DEFAULT
    ) -> Future[Any]:
        """Calls a procedure of the other side without waiting: :meth:`call` as a future.

        ``cancel()`` forgets the call. Callbacks of the future run on a worker thread.
        """
        future = CallFuture(name, self.endpoint.workers, self.lane, self.forget)
        try:
            self._call(future, name, payload, timeout)
        except BaseException:
            self.forget(future.stamp)
            raise
        self._recall_reader()
        return future

    def _call(self, reply: Reply, name: Any, payload: Any, timeout: float | None) -> None:
        """Opens a call and sends it; whatever it raises, the caller has to forget the call."""
        self.peer.check_type(name)
        if timeout is DEFAULT:
            timeout = self.endpoint.call_timeout
        else:
            check_seconds(timeout=timeout)
        begun = clock.monotonic()
        deadline = None if timeout is None else begun + timeout
        stamp = reply.stamp = self._callers.new_stamp()
        data = self.peer.pack_call(name, payload, stamp)
        self.endpoint.check_size(data)
        self._make_room(len(data), deadline)
        with self._lock:
            self._await_acks(len(data), deadline)
            # In one step: an open call is one whose frame was sent, or waits for a link.
            self._callers.open(stamp, name, begun, deadline, reply)
            self._send(data, name, stamp)
        self.lane.look_again()

    def forget(self, stamp: str) -> bool:
        """Takes out an open call; False if it has ended already."""
        return self._callers.forget(stamp)

    def _recall_reader(self) -> None:
        """What comes next may be no answer to a call that waits for it."""
        link = self._link
        if link is not None:
            link.turn.recall()

    # A call reads its own answer; the caller's thread

    def _find_answer(self, link: Link, blocked: BlockedCall) -> bool:
        """Takes the answer to a call if it comes next and soon; else others read on."""
        # Unless the own thread has read it, and stepped aside, before there was somebody to look.
        answer = self._glance(link, blocked.stamp) if blocked.is_open() else None
        if answer is None:
            link.turn.abandon()
            return False
        link.turn.done()
        self._callers.settle(answer)
        return True

    def _glance(self, link: Link, stamp: str) -> Answer | None:
        seen = link.glance()
        if seen is None:
            return None
        try:
            event = self.peer.receive(seen.data)
        except WseError:
            return None  # whoever reads next gets it as well
        if isinstance(event, Ack):
            link.turn.count_ack()
        if not isinstance(event, Answer) or event.stamp != stamp:
            return None
        return event if self._take_answer(link, len(seen.data), seen.taking) else None

    def _take_answer(self, link: Link, size: int, taking: Change) -> bool:
        """Takes and counts a frame that was only seen so far, in one step."""
        with self._receiving:
            session = self.session
            if self.lane.source is not link:
                return False
            if self.lane.is_shut or not session.is_session:
                assign(taking)
                return True
            received = session.expect(size, clock.monotonic)
            if received is None:
                return False
            assign(taking, (session, "received", received))
            if self._ack_timer is None:
                self._arm_ack()
            return True

    def tell(self) -> int:
        """How many frames of the session are here; from now on the other side knows."""
        with self._receiving, self._lock:
            return self.session.tell()

    # What comes in; the reader's thread

    def receive(self, link: Link, data: Data) -> None:
        """Takes a frame that ``link`` brought."""
        try:
            event = self.peer.receive(data)
            if isinstance(event, Ack):
                if not self._acknowledge(link, event.count):
                    self._admits(link)
                return
        except WseError as error:
            self.violated(link, error)
            return
        if isinstance(event, Answer):
            if self._take(link, len(data)):
                link.turn.expect_calls()
                others = self._callers.settle(event)
                link.turn.count_answer(others)
                if others < 0:
                    self._admits(link)
            return
        link.turn.count_other()
        if self.meter is not None and not self._admits(link):
            return
        if isinstance(event, Call):
            handle = partial(answer, self, self.session, event, clock.monotonic())
            if self._serve(link, len(data), event.name, handle):
                return  # a stand-in may be reading by now, so there is nothing to wait for
            self._take(link, len(data), handle, is_call=True)
        elif self._take(link, len(data), partial(self._handle, event)):
            self.endpoint.tally.receive()
        self.await_room(link)

    def _admits(self, link: Link) -> bool:
        """Whether one more frame may come; else its link is closed, and so is the connection."""
        if self.meter is None or self.meter.admits():
            return True
        if link.verdict is None:  # what came before the welcome comes here to the last frame
            self.faulted(_POLICY, WSE_REASON.RATE_LIMIT)
            link.close(_POLICY, WSE_REASON.RATE_LIMIT)
        return False

    def _serve(self, link: Link, size: int, name: Any, handle: Task) -> bool:
        """Serves a call in this thread, if it is a quick one and need not wait for anything."""
        procedure = self.endpoint.procedures.find(name)
        if procedure is None or not procedure.is_quick or not link.turn.may_serve:
            return False
        workers = self.endpoint.workers
        if not workers.enter():
            return False
        try:
            with self._receiving:
                if not self.lane.lets_start(link):
                    return False
                if self.session.is_session:
                    self._count(link, size, at_once=False)
            link.turn.serve(handle)
            return True
        finally:
            workers.leave()

    def receive_late(self, link: Link, data: Data) -> None:
        """Takes a frame that waited in the lane for the welcome; the lane's thread.

        It was sent before the welcome, so it is not counted.
        """
        try:
            event = self.peer.receive(data)
        except WseError as error:
            self.violated(link, error)
            return
        if not self._admits(link):
            return
        if isinstance(event, Call):
            received = clock.monotonic()
            self.endpoint.workers.call(partial(answer, self, self.session, event, received))
        elif isinstance(event, Message):
            self.endpoint.tally.receive()
            self._handle(event)

    def await_room(self, link: Link) -> None:
        """Holds the reader back while too much waits in the lane."""
        if self.lane.has_room:
            return
        link.pause()
        try:
            if not self.lane.wait_for_room(link, lambda: len(self._callers) > 0):
                link.overflow()
        finally:
            link.resume()

    def violated(self, link: Link, error: WseError) -> None:
        """Closes a link that brought what it must not."""
        self.report(error, link)
        link.close(_NORMAL, WSE_REASON.PROTOCOL_ERR)

    def faulted(self, code: int, reason: str) -> None:
        """Reports that a link brought what is no WebSocket message; the link closes itself."""
        kind = WSE_ERROR.MESSAGE_PROCESSING_ERROR
        if code == _PROTOCOL_ERROR:
            kind = WSE_ERROR.PROTOCOL_VIOLATION
        self.report(WseError(kind, {"closed": [code, str(reason)]}, f"closed with {code} {reason}"))

    def report(self, error: WseError, link: Link | None = None) -> None:
        self.endpoint.log.info("%r: %s", self, error)
        self.endpoint.tally.report(error)
        self.lane.post(partial(self.endpoint.settle_error, error, self), source=link)

    def _handle(self, message: Message) -> None:
        """Runs the code of users for a message; a worker."""
        arguments = (*self.endpoint.arguments(self), message.payload)
        report = partial(self.endpoint.report, connection=self)
        run = partial(self.endpoint.run_handler, self)
        if not self.endpoint.channel.deliver(message.type, arguments, report, run):
            self.endpoint.settle_ignored(self, message)

    def respond(self, session: Delivery, data: Data) -> None:
        """Answers within the session of the call; if that is over, so is whoever waited."""
        if self.session is session:
            self._make_room(len(data), None)
        with self._lock:
            if self.session is session:
                self._await_acks(len(data), None, is_answer=True)
            if self.session is session:
                self._put(data, None, None, True)
