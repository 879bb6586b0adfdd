"""What a server and a client have in common: settings, tables of handlers, workers, reports.

Any thread comes here; nothing is written after the constructor, and the tables have their own
locks.
"""

from __future__ import annotations

import abc
import logging
from collections.abc import Callable, Iterable
from threading import Thread, current_thread, main_thread
from typing import TYPE_CHECKING, Any, TypeVar, overload

from .channel import Channel
from .checks import bad_type, bad_value, check_counts, check_flags, check_periods, check_seconds
from .constants import WSE_ERROR
from .core.delivery import Limits
from .core.peer import Message, Peer
from .link import Link
from .loglimit import LogLimit
from .loop import loop
from .procedures import Procedures
from .protocol import Data, JsonProtocol, Protocol
from .stats import Stats
from .tally import Tally
from .transport.base import Transport
from .workers import Task, Workers

if TYPE_CHECKING:
    from .connection import Connection

__all__ = ["Endpoint"]

HandlerT = TypeVar("HandlerT", bound=Callable[..., Any])
StatsT = TypeVar("StatsT", bound=Stats)


class Endpoint(abc.ABC):
    """What a server and a client have in common."""

    #: Whether calls may be served by the threads that read links. That of a client also dials.
    readers_serve = False

    def __init__(
        self,
        *,
        protocol: Protocol | None,
        call_timeout: float | None,
        ping_interval: float | None,
        ping_timeout: float | None,
        max_message_bytes: int,
        max_queue_bytes: int,
        max_workers: int,
        resume_buffer_bytes: int,
        resume_buffer_frames: int,
        debug: bool,
        log: logging.Logger,
    ) -> None:
        if protocol is not None and not isinstance(protocol, Protocol):
            raise bad_type(f"protocol must be a wse_sync.Protocol, not {type(protocol).__name__}")
        check_seconds(call_timeout=call_timeout)
        check_periods(ping_interval=ping_interval, ping_timeout=ping_timeout)
        check_counts(
            max_message_bytes=max_message_bytes,
            max_queue_bytes=max_queue_bytes,
            max_workers=max_workers,
            resume_buffer_bytes=resume_buffer_bytes,
            resume_buffer_frames=resume_buffer_frames,
        )
        check_flags(debug=debug)
        #: How frames are packed.
        self.protocol = protocol or JsonProtocol()
        #: Seconds that a call may take unless it says otherwise; None: for ever.
        self.call_timeout = call_timeout
        self.ping_interval = ping_interval
        self.ping_timeout = ping_timeout
        self.max_message_bytes = max_message_bytes
        self.max_queue_bytes = max_queue_bytes
        #: What a session may keep of what was sent.
        self.limits = Limits(resume_buffer_bytes, resume_buffer_frames)
        self.debug = debug
        self.log = log
        self._max_workers = max_workers
        #: For what the other side may cause as often as it likes.
        self.log_limit = LogLimit(log)
        self.workers = Workers(max_workers)
        #: What was done so far.
        self.tally = Tally()
        #: Packs and routes the frames of every connection.
        self.peer = Peer(self.protocol)
        #: Messages of the other side.
        self.channel = Channel(self.peer.check_type)
        self.procedures = Procedures(self.peer.check_type)

    def running(self) -> dict[Thread, Task | None]:
        """The threads that handlers have, and what they run; only tests look at it."""
        return self.workers.running()

    def renew(self) -> None:
        """In the child of a fork: its threads are those of the parent. Handlers stay."""
        self.workers.retire()
        self.workers = Workers(self._max_workers)
        self.tally = Tally()
        self.channel.renew()
        self.procedures.renew()

    @overload
    def register(self, name: Any, handler: HandlerT) -> HandlerT: ...
    @overload
    def register(self, name: Any) -> Callable[[HandlerT], HandlerT]: ...
    def register(self, name: Any, handler: Callable[..., Any] | None = None) -> Callable[..., Any]:
        """Offers a procedure to the other side; without a handler, returns a decorator.

        The handler runs beside others: on a worker thread, or, at a server and as long as it is
        quick, on the thread that reads the connection. What it returns is the result; what it
        raises fails the call.

        Args:
            name: What the other side calls.
            handler: Gets ``(payload)`` on a client and ``(conn, payload)`` on a server.

        Raises:
            WseValueError: The name is taken (RP_ALREADY_REGISTERED), empty or internal.
        """
        if handler is None:
            return self.procedures.register(name)
        return self.procedures.register(name, handler)

    def unregister(self, name: Any) -> None:
        """Withdraws a procedure; calls that run go on.

        Raises:
            WseLookupError: There is none of that name (RP_NOT_REGISTERED).
        """
        self.procedures.unregister(name)

    @abc.abstractmethod
    def arguments(self, connection: Connection) -> tuple[Any, ...]:
        """What handlers get before the payload."""

    @abc.abstractmethod
    def settle_error(self, error: BaseException, connection: Connection | None) -> None:
        """Sends the error signal."""

    @abc.abstractmethod
    def settle_ignored(self, connection: Connection, message: Message) -> None:
        """Sends the signal of a message without a handler."""

    def run_handler(
        self, connection: Connection, handler: Callable[..., Any], *arguments: Any, **values: Any
    ) -> Any:
        """Calls code of users that has to do with a connection.

        The one place for all of it: who serves inside a framework puts its context around it here.
        """
        return handler(*arguments, **values)

    def check_size(self, data: Data) -> None:
        """Refuses what the other side would refuse, if its limit is the same as ours."""
        limit = self.max_message_bytes
        size = len(data)
        if isinstance(data, str) and size * 4 > limit and not data.isascii():
            size = len(data.encode())
        if size > limit:
            raise bad_value(
                f"{size} bytes are more than max_message_bytes ({limit})", WSE_ERROR.RP_SEND_FAILED
            )

    def read_stats(
        self, make: Callable[..., StatsT], talks: Iterable[Connection], **more: int
    ) -> StatsT:
        """What was done, and what there is to do in these connections.

        Args:
            make: The class of the result.
            talks: The connections.
            more: What else the class has.
        """
        running, waiting = self.workers.count_calls()
        loads = [connection.load for connection in talks]
        return self.tally.read(make, loads, calls_running=running, calls_waiting=waiting, **more)

    def report(self, error: BaseException, connection: Connection | None = None) -> None:
        """Logs what a handler raised, with its traceback, and sends the error signal."""
        name = type(error).__name__
        self.log_limit.write(logging.ERROR, "a handler raised %s", name, exc_info=error)
        self.tally.report(error)
        self.settle_error(error, connection)

    def last_resort(self, error: BaseException, connection: Connection | None = None) -> None:
        """Logs what a handler of the error signal raised: there is nobody else to tell."""
        text = "a handler of the error signal raised"
        self.log_limit.write(logging.ERROR, text, exc_info=error)
        self.tally.report(error)

    def open_link(
        self,
        transport: Transport,
        on_data: Callable[[Data], None],
        on_lost: Callable[[int, str], None],
        on_fault: Callable[[int, str], None],
    ) -> Link:
        """Binds a transport with the settings of this endpoint."""
        return Link(
            transport,
            loop,
            self.workers,
            # In the main thread handlers would meet what signal handlers raise (Ctrl-C).
            readers_serve=self.readers_serve and current_thread() is not main_thread(),
            max_queue_bytes=self.max_queue_bytes,
            ping_interval=self.ping_interval,
            ping_timeout=self.ping_timeout,
            on_data=on_data,
            on_lost=on_lost,
            on_fault=on_fault,
        )
