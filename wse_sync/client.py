"""The client: the handle on one conversation with a server, over one link after another.

Threads: everything here may be called from any thread. The thread of the client's own is in
``life.py``. ``_state`` (a condition) guards the status and the current life. Under it the locks of
the channel, the lane and the workers are taken, when a life begins.
"""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from time import monotonic
from typing import Any, TypeVar

from . import clock
from .backoff import Backoff
from .checks import check_seconds
from .connection import DEFAULT, KEEP, Connection
from .constants import WSE_ERROR, WSE_REASON, WSE_STATUS
from .conversation import ClientConnection
from .core.peer import Message
from .endpoint import Endpoint
from .errors import WseConnectionError, WseError
from .forks import renew_in_children
from .interrupts import aside
from .life import Life
from .loop import loop
from .protocol import Protocol
from .signals import ClientSignals
from .stats import Stats
from .target import Target, check_meta, check_url, shown
from .transport.tls import examined

__all__ = ["WseClient"]

_GIVE_UP = 1.0  # s to say goodbye after Ctrl-C

SolverT = TypeVar("SolverT", bound=Callable[[Any], Any])


class WseClient(Endpoint):
    """Talks to a WSE server.

    Args:
        url: ``ws://…`` or ``wss://…``.
        reconnect: Whether to dial again when the link is lost, and when the server cannot be
            reached to begin with.
        backoff: How long to wait before dialing again.
        connect_timeout: For one attempt (TCP, TLS, upgrade), in seconds; None: no limit.
        call_timeout: Default of ``call()``, in seconds; None: no limit.
        ping_interval: Silence before a ping, in seconds; None: no heartbeat.
        ping_timeout: Silence after the ping before the link is lost, in seconds; None: for ever.
        protocol: How frames are packed; None: :class:`wse_sync.JsonProtocol`.
        max_message_bytes: A longer message ends the link with 1009.
        max_queue_bytes: What may wait to be sent, also while the link is down; and what may wait to
            be handled before reading pauses.
        resume_buffer_bytes: What was sent is kept until the server has it, up to so much; then
            ``send`` waits. Only with ``reconnect=True``.
        resume_buffer_frames: Likewise, so many messages, calls and answers.
        ssl_context: For ``wss``; None checks with the authorities of the system.
        ws_options: For ``websocket.create_connection``: ``header``, ``cookie``,
            ``http_proxy_host``…
        debug: Sends tracebacks of failed procedures to the other side.

    Raises:
        WseTypeError, WseValueError: An option makes no sense.
    """

    #: Our id at the server, as it told us last; None if it did not.
    cid: str | None

    def __init__(
        self,
        url: str,
        *,
        reconnect: bool = False,
        backoff: Backoff | None = None,
        connect_timeout: float | None = 10.0,
        call_timeout: float | None = 20.0,
        ping_interval: float | None = 20.0,
        ping_timeout: float | None = 20.0,
        protocol: Protocol | None = None,
        max_message_bytes: int = 16 * 2**20,
        max_queue_bytes: int = 16 * 2**20,
        resume_buffer_bytes: int = 8 * 2**20,
        resume_buffer_frames: int = 10_000,
        ssl_context: ssl.SSLContext | None = None,
        ws_options: Mapping[str, Any] | None = None,
        debug: bool = False,
    ) -> None:
        super().__init__(
            protocol=protocol,
            call_timeout=call_timeout,
            ping_interval=ping_interval,
            ping_timeout=ping_timeout,
            max_message_bytes=max_message_bytes,
            max_queue_bytes=max_queue_bytes,
            max_workers=64,
            resume_buffer_bytes=resume_buffer_bytes,
            resume_buffer_frames=resume_buffer_frames,
            debug=debug,
            log=logging.getLogger("wse_sync.client"),
        )
        check_seconds(connect_timeout=connect_timeout)
        self.reconnect = reconnect
        self.backoff = backoff or Backoff()
        self.connect_timeout = connect_timeout
        self.ssl_context = examined(ssl_context, self.log, checks_host=True)
        self.ws_options = dict(ws_options or {})
        #: The signals.
        self.when = ClientSignals(self.report, self.last_resort)
        #: Answers the server's quest.
        self.solver: Callable[[Any], Any] | None = None
        self._target = Target(check_url(url), "", {})
        self._begin_idle()
        renew_in_children(self)

    def _begin_idle(self) -> None:
        """The state of a client that has not connected yet."""
        self.connection = ClientConnection(self)
        self._state = threading.Condition()
        self._status = WSE_STATUS.IDLE
        self.cid = None
        self._life: Life | None = None

    def renew(self) -> None:
        """In the child of a fork: what it is connected to, only the parent is."""
        super().renew()
        self.when.renew()
        self.connection.disown()
        self._begin_idle()

    # Life

    def connect(
        self,
        identity: Any = "",
        meta: dict[str, Any] | None = None,
        *,
        timeout: float | None = None,
    ) -> Any:
        """Connects, and blocks until the server has let us in.

        With ``reconnect=True`` it goes on trying until then, until the server refuses, or until the
        time is over.

        Args:
            identity: Who we are, for the server's identify handler. A callable is called before
                each attempt, and what it returns is sent: for tokens that run out.
            meta: What to add.
            timeout: For all of it, in seconds; None: no limit.

        Returns:
            The payload of the welcome.

        Raises:
            WsePermissionError: The server refused (NOT_AUTHORIZED).
            WseTimeoutError: The time is over (CONNECTION_CLOSED).
            WseConnectionError: No link (WS_CLIENT_ERROR), or it was closed before the welcome
                (CONNECTION_CLOSED).
            WseError: It is connected already (CLIENT_ALREADY_CONNECTED), or the server asked for a
                solution and there is no solver (INVALID_CRA_HANDLER).
        """
        check_seconds(timeout=timeout)
        target = Target(self.url, identity, check_meta(meta))
        before = self._life
        try:
            life = self._begin(target)
            if life is not None:
                return life.welcome(timeout)
        except KeyboardInterrupt:  # before the wait, maybe
            if self._life is not before:
                self.disconnect(timeout=_GIVE_UP)
            raise
        raise WseError(
            WSE_ERROR.CLIENT_ALREADY_CONNECTED,
            message=f"it is {self._status}: disconnect() first, or jump() elsewhere",
        )

    def jump(
        self, url: str, identity: Any = KEEP, meta: Any = KEEP, *, timeout: float | None = None
    ) -> Any:
        """Leaves for another server, and blocks until that has let us in.

        Open calls fail with RP_DISCONNECT. Handlers and procedures stay. On a client that is not
        connected it is :meth:`connect`.

        Args:
            url: Of the other server.
            identity: As in :meth:`connect`; by default the one of before.
            meta: Likewise.
            timeout: For all of it, in seconds; None: no limit.

        Returns:
            The payload of the welcome.

        Raises:
            WseError: As :meth:`connect`.
        """
        check_seconds(timeout=timeout)
        before = self._target
        target = Target(
            check_url(url),
            before.identity if identity is KEEP else identity,
            before.meta if meta is KEEP else check_meta(meta),
        )
        try:
            return self._jump(target, timeout)
        except KeyboardInterrupt:  # at any step: what is left of the jump ends here
            self.disconnect(timeout=_GIVE_UP)
            raise

    def _jump(self, target: Target, timeout: float | None) -> Any:
        while True:
            life = self._begin(target)
            if life is not None:
                return life.welcome(timeout)
            life = self._life
            attempt = None if life is None else life.turn(target)
            if life is not None and attempt is not None:
                self._target = target
                return life.welcome(timeout, attempt)
            # It has just ended: from the start, then.

    def disconnect(self, reason: str = WSE_REASON.BY_CLIENT, *, timeout: float = 5.0) -> None:
        """Sends what waits, says goodbye with 1000 and ``reason``, and ends the threads.

        Any thread, in any state; again: no effect. Nothing reconnects afterwards. In a handler of
        the :mod:`signal` module that has interrupted this library at a bad moment, it returns when
        its time is over, and the client is disconnected when the handler has returned.

        Args:
            reason: For the server.
            timeout: In seconds. What has not been sent or has not ended by then is left behind.
        """
        check_seconds(timeout=timeout)
        aside(partial(self._disconnect, str(reason), timeout), timeout)

    def _disconnect(self, reason: str, timeout: float) -> None:
        deadline = monotonic() + timeout
        life = self._life
        if life is not None:
            life.stop(reason, timeout)
        self.workers.join(max(0.0, deadline - monotonic()))
        loop.rest(max(0.0, deadline - monotonic()))

    def wait(self, timeout: float | None = None) -> bool:
        """Blocks until it is offline for good; False after ``timeout`` seconds (None: no limit)."""
        check_seconds(timeout=timeout)
        with self._state:
            return clock.wait_for(self._state, lambda: self._status is WSE_STATUS.OFFLINE, timeout)

    def __enter__(self) -> WseClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.disconnect()

    @property
    def status(self) -> WSE_STATUS:
        """What the client is doing."""
        return self._status

    @property
    def url(self) -> str:
        """Where to."""
        return self._target.url

    # Talking

    def send(self, type: Any, payload: Any = None) -> None:
        """Sends a message. Any thread.

        Blocks while more than ``max_queue_bytes`` are on their way. While a reconnecting client is
        between links, the message waits for the next one.

        Args:
            type: Chooses the handler at the server.
            payload: Whatever the protocol can pack.

        Raises:
            WseConnectionError: There is no link, and none is expected, or too much waits for it
                (CONNECTION_NOT_READY).
            WseTypeError, WseValueError: The protocol cannot pack this; nothing was sent.
        """
        self.connection.send(type, payload)

    def call(self, name: Any, payload: Any = None, *, timeout: float | None = DEFAULT) -> Any:
        """Calls a procedure of the server, and blocks until it has answered. Any thread.

        With ``reconnect=True`` and a server that knows sessions the call survives the loss of a
        link, and a new one waits for the next link; its time goes on running meanwhile. Otherwise
        it fails when the link is lost.

        Args:
            name: Of the procedure.
            payload: Its argument.
            timeout: In seconds; None waits for ever. By default ``call_timeout``.

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
        return self.connection.call(name, payload, timeout=timeout)

    def submit(
        self, name: Any, payload: Any = None, *, timeout: float | None = DEFAULT
    ) -> Future[Any]:
        """Calls a procedure without waiting: :meth:`call` as a future.

        ``cancel()`` forgets the call. Callbacks of the future run on a worker thread.
        """
        return self.connection.submit(name, payload, timeout=timeout)

    def stats(self) -> Stats:
        """What this client has done since it was made; see :meth:`wse_sync.WseServer.stats`."""
        return self.read_stats(Stats, [self.connection])

    def challenge(self, solver: SolverT) -> SolverT:
        """Sets who answers the server's quest; decorates.

        Args:
            solver: Gets the quest and returns the solution. Runs in the client's thread.

        Raises:
            WseError: It is not callable (INVALID_CRA_HANDLER).
        """
        if not callable(solver):
            raise WseError(
                WSE_ERROR.INVALID_CRA_HANDLER,
                message="the solver is a function that gets the quest and returns the solution",
            )
        self.solver = solver
        return solver

    # What the other modules need

    def set_status(self, status: WSE_STATUS) -> None:
        """Sets the status, and has the signal sent behind what is waiting to be handled."""
        with self._state:
            if self._status is status:
                return
            self._status = status
            self._state.notify_all()
            self.connection.lane.post(partial(self.when.updated.settle, self, status))

    def arguments(self, connection: Connection) -> tuple[Any, ...]:
        return ()

    def settle_error(self, error: BaseException, connection: Connection | None) -> None:
        self.when.error.settle(self, error)

    def settle_ignored(self, connection: Connection, message: Message) -> None:
        self.when.ignored.settle(self, message.type, message.payload)

    def _begin(self, target: Target) -> Life | None:
        """A new life, if there is none."""
        before = self._life
        if before is not None and before.over:
            before.join()  # it is done, but for its last words: they must not fall into the next
        with self._state:
            if self._life is not before or (before is not None and not before.over):
                return None
            self._target = target
            self.channel.resume()
            self._life = life = Life(self, target)
            try:
                life.start()
            except RuntimeError as error:  # the system gives us no thread
                self._life = before
                self.set_status(WSE_STATUS.OFFLINE)
                raise WseConnectionError(WSE_ERROR.WS_CLIENT_ERROR, message=str(error)) from error
            return life

    def __repr__(self) -> str:
        return f"<WseClient {self.status} {shown(self.url)}>"
