"""The server: its settings, its life, and who may come in.

Threads: everything here may be called from any thread. ``_lock`` guards the set of arrivals, the
listener and the flags. Under it, the lock of the channel is taken, and those of objects that nobody
else knows yet.
"""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Callable, Iterable
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from . import turn
from .addresses import check_hops
from .audience import Audience
from .auth import AuthRequest
from .checks import bad_value, check_counts, check_finite, check_path, check_seconds
from .constants import WSE_ERROR
from .errors import WseError
from .expiry import Expiries
from .farewell import LAST_WAIT, part, part_later
from .forks import renew_in_children
from .interrupts import aside, sigterm_noted
from .link import Link
from .loop import loop
from .protocol import Protocol
from .rates import check_rate
from .registry import Registry
from .sessions import WseConnection
from .signals import ServerSignals
from .strangers import Strangers
from .transport.tls import examined
from .wsgi import answer, parse_origins

if TYPE_CHECKING:
    from .standalone import Listener

__all__ = ["WseServer"]

GeneratorT = TypeVar("GeneratorT", bound=Callable[[AuthRequest], Any])

# What the listener accepts: connections, those that get a 503, requests for the HTTP app.
_VISITORS_FACTOR, _VISITORS_MORE = 2, 100
_SLICE = 0.1  # s between looks whether SIGTERM has come, or a Ctrl-C just before the wait


class WseServer(Audience):
    """Serves WSE: on a port of its own, inside a WSGI app, or both.

    Args:
        identify: Decides who comes in, with ``auth.accept(cid, welcome)`` or ``auth.refuse()``.
        host: Where to listen.
        port: Likewise; 0 is a free one, None for a server that is only mounted in a WSGI app.
        path: The only URL path on which upgrades are accepted; None: any.
        http_app: A WSGI app for plain HTTP requests; None answers them with 426.
        ssl_context: For ``wss``.
        protocol: How frames are packed; None: :class:`wse_sync.JsonProtocol`.
        conn_per_user: With one more, the oldest connection of the user is closed.
        call_timeout: Default of ``call()``, in seconds; None: no limit.
        auth_timeout: From the upgrade to the welcome, in seconds; None: no limit.
        ping_interval: Silence before a ping, in seconds; None: no heartbeat.
        ping_timeout: Silence after the ping before the link is lost, in seconds; None: for ever.
        resume_window: How long a session outlives its link, in seconds; 0: sessions are off.
        resume_buffer_bytes: What was sent is kept until the client has it. With more the session is
            ended: 1013 ``wse.slow-consumer``.
        resume_buffer_frames: Likewise, so many messages, calls and answers.
        max_suspended: How many sessions may be without a link; with one more the oldest is ended.
        max_message_bytes: A longer message closes its connection with 1009. Until the welcome it
            is 64 KiB, for all that comes together.
        max_queue_bytes: Unsent bytes of one connection; with more it is closed with 1013
            ``wse.slow-consumer``. Also the bound of what is received and not handled yet.
        max_connections: One more gets HTTP 503. Whoever is gone counts until all that came from
            there is handled.
        max_unauthenticated: Likewise, of those who have not been let in yet; None: no limit.
        max_unauthenticated_per_address: Likewise, from one address; None: no limit.
        trusted_hops: How many proxies every connection comes through. The address of a client is
            that which the first of them has seen (``X-Forwarded-For``); 0: that of the socket.
        rate_limit: ``(messages, seconds)``: a connection that brings more messages and calls in
            that time is closed with 1008 ``wse.rate-limit``; None: no limit.
        max_workers: How many calls may run at the same time.
        origins: Pages that browsers may connect from: None is the same origin only, a list, or
            ``"*"``. Clients that are no browsers send no origin.
        debug: Sends tracebacks of failed procedures to the other side.

    Raises:
        WseError: There is no identify handler (IDENTIFY_HANDLER_MISSING).
        WseTypeError, WseValueError: An option makes no sense.
    """

    readers_serve = True

    def __init__(
        self,
        identify: Callable[[AuthRequest], object],
        *,
        host: str = "127.0.0.1",
        port: int | None = None,
        path: str | None = None,
        http_app: Callable[..., Iterable[bytes]] | None = None,
        ssl_context: ssl.SSLContext | None = None,
        protocol: Protocol | None = None,
        conn_per_user: int = 1,
        call_timeout: float | None = 20.0,
        auth_timeout: float | None = 20.0,
        ping_interval: float | None = 20.0,
        ping_timeout: float | None = 20.0,
        resume_window: float = 60.0,
        resume_buffer_bytes: int = 8 * 2**20,
        resume_buffer_frames: int = 10_000,
        max_suspended: int = 1000,
        max_message_bytes: int = 16 * 2**20,
        max_queue_bytes: int = 16 * 2**20,
        max_connections: int = 1000,
        max_unauthenticated: int | None = 200,
        max_unauthenticated_per_address: int | None = 20,
        trusted_hops: int = 0,
        rate_limit: tuple[int, float] | None = None,
        max_workers: int = 64,
        origins: Iterable[str] | None = None,
        debug: bool = False,
    ) -> None:
        if not callable(identify):
            raise WseError(
                WSE_ERROR.IDENTIFY_HANDLER_MISSING,
                message="WseServer needs identify, a function that gets an AuthRequest",
            )
        super().__init__(
            protocol=protocol,
            call_timeout=call_timeout,
            ping_interval=ping_interval,
            ping_timeout=ping_timeout,
            max_message_bytes=max_message_bytes,
            max_queue_bytes=max_queue_bytes,
            max_workers=max_workers,
            resume_buffer_bytes=resume_buffer_bytes,
            resume_buffer_frames=resume_buffer_frames,
            debug=debug,
            log=logging.getLogger("wse_sync.server"),
        )
        check_seconds(auth_timeout=auth_timeout)
        check_finite(0, resume_window=resume_window)
        check_counts(
            conn_per_user=conn_per_user,
            max_connections=max_connections,
            max_suspended=max_suspended,
        )
        self.identify = identify
        self.generator: Callable[[AuthRequest], Any] | None = None
        self.host = host
        self.path = check_path(path)
        self.http_app = http_app
        self.ssl_context = examined(ssl_context, self.log)
        #: How many devices a user may have; with one more the oldest has to go.
        self.conn_per_user = conn_per_user
        self.auth_timeout = auth_timeout
        self.resume_window = float(resume_window)
        self.max_suspended = max_suspended
        self.max_connections = max_connections
        self.trusted_hops = check_hops(trusted_hops)
        #: What each connection may bring.
        self.rate_limit = check_rate(rate_limit)
        self._most_strangers = max_unauthenticated, max_unauthenticated_per_address
        self.origins = parse_origins(origins)
        #: The signals.
        self.when = ServerSignals(self.report_from_signal, self.last_resort)
        self._asked_port = port
        self._begin()
        renew_in_children(self)

    def _begin(self) -> None:
        """The state of a server that has not started yet."""
        self.registry = Registry(self)
        self.strangers = Strangers(self.log_limit, *self._most_strangers)
        self.expiries = Expiries()
        self._lock = threading.Lock()
        self._arrivals: set[WseConnection] = set()
        self._listener: Listener | None = None
        self._closing = False
        self._closed = threading.Event()

    def renew(self) -> None:
        """In the child of a fork: its connections are those of the parent, and closed here."""
        super().renew()
        self.when.renew()
        for connection in self._arrivals.union(self.registry.known):
            connection.disown()
        self._begin()

    # Life

    def start(self) -> WseServer:
        """Listens in background threads and returns the server; again: no effect.

        Raises:
            WseValueError: It has no port.
            OSError: The port is taken, or not ours to take; or the system is short of threads.
        """
        if self._asked_port is None:
            raise bad_value(
                "this server has no port: give it one (0 is a free one), or mount server.wsgi_app"
                " in a WSGI app"
            )
        # Here, since it brings a server for HTTP, which neither clients nor mounted servers need.
        from .standalone import Listener

        with self._lock:
            if self._listener is None:
                self._listener = Listener(
                    self.wsgi_app,
                    self.host,
                    self._asked_port,
                    self.ssl_context,
                    self.auth_timeout,
                    _VISITORS_FACTOR * self.max_connections + _VISITORS_MORE,
                )
                self._open()
                try:
                    self._listener.start()
                except OSError:
                    self._listener = None
                    raise
        return self

    def _open(self) -> None:
        """The end of ``close``; the lock is held."""
        self.channel.resume()
        self._closing = False
        self._closed.clear()

    def serve_forever(self) -> None:
        """Starts and blocks until :meth:`close`; Ctrl-C and SIGTERM close in order and return.

        SIGTERM only in the main thread, and only if the program has no handler of its own for it.
        Another Ctrl-C meanwhile raises, and the server goes on closing.
        """
        self.start()
        with sigterm_noted() as noted:
            try:
                while not noted and not self._closed.wait(_SLICE):
                    continue
                if noted:
                    self.log.info("SIGTERM, closing")
            except KeyboardInterrupt:
                self.log.info("interrupted, closing")
            finally:
                self.close()

    def close(self, timeout: float = 5.0) -> None:
        """Stops listening and ends everything; again: no effect.

        Handlers that run finish, and their answers go out. What clients send meanwhile is not taken
        any more: those calls fail at the client, and have not run. Then every connection is closed
        with 1012 ``wse.by-server``, behind what waits to be sent. Blocks until every thread has
        ended, except the caller's own and handlers that do not return in time. Any thread. A
        handler of the :mod:`signal` module should set an event instead: if it has interrupted this
        library at a bad moment, it waits until the time is over, and the server is closed after it
        has returned.

        Args:
            timeout: In seconds, for handlers to end and for clients to take what is theirs. A
                second more is for the goodbye.
        """
        check_seconds(timeout=timeout)
        aside(partial(self._close, timeout), timeout)

    def _close(self, timeout: float) -> None:
        with self._lock:
            self._closing = True
            listener, self._listener = self._listener, None
        if listener is not None:
            listener.stop_accepting()
        deadline = part(*self._everybody(), self.workers, timeout)
        if listener is not None:
            listener.join(LAST_WAIT)
        with self._lock:
            started_again = not self._closing
        if started_again:
            return
        self.channel.interrupt("the server is closed")
        if not self.workers.join(max(0.0, deadline - monotonic())):
            self.log.warning("closed, but handlers are still running")
        turn.rest()
        loop.rest(LAST_WAIT)
        self._closed.set()

    def __enter__(self) -> WseServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def port(self) -> int | None:
        """Where it listens; before ``start``, what it was given."""
        listener = self._listener
        return self._asked_port if listener is None else listener.port

    @property
    def url(self) -> str:
        """What clients on this machine connect to.

        Raises:
            WseValueError: There is no port, or none yet.
        """
        if not self.port:
            raise bad_value("without a port there is no url; with port=0, not before start()")
        scheme = "ws" if self.ssl_context is None else "wss"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}{self.path or '/'}"

    def wsgi_app(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """The server as a WSGI callable (PEP 3333): an upgrade blocks until the connection ends.

        The WSGI server must expose its socket (werkzeug, gunicorn) and have a thread for each
        connection.
        """
        return answer(self, environ, start_response)

    def use_challenge(self, generator: GeneratorT) -> GeneratorT:
        """Has every client answer a quest before identify decides; decorates.

        Args:
            generator: Gets the AuthRequest and returns the quest. It may refuse at once.

        Raises:
            WseError: It is not callable (INVALID_CRA_GENERATOR).
        """
        if not callable(generator):
            raise WseError(
                WSE_ERROR.INVALID_CRA_GENERATOR,
                message="the generator is a function that gets an AuthRequest and returns a quest",
            )
        self.generator = generator
        return generator

    # What the other modules need

    def reopen(self) -> None:
        """Lets clients in again after ``close``, without a listener."""
        with self._lock:
            self._open()

    def links(self) -> list[Link]:
        """All that there are, also of those who have not been let in."""
        with self._lock:
            return [connection.arrival for connection in self._arrivals]

    def admit(self, make: Callable[[], WseConnection]) -> WseConnection | None:
        """Makes a connection and enters it, or returns None if there is no place for one more."""
        with self._lock:
            gone = sum(other not in self._arrivals for other in self.registry.lingering())
            if self._closing or len(self._arrivals) + gone >= self.max_connections:
                return None
            connection = make()
            self._arrivals.add(connection)
            return connection

    def dismiss(self, connection: WseConnection) -> None:
        """The end of ``admit``: the link is over, though the connection may live on."""
        with self._lock:
            self._arrivals.discard(connection)
        connection.admission.end()

    def end_connections(self, timeout: float) -> None:
        """The first half of ``close``, which does not block: lets nobody in, and says goodbye."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
        connections, _ = self._everybody()
        part_later(connections, self.workers, timeout)

    def _everybody(self) -> tuple[set[WseConnection], list[Link]]:
        """The connections and links of a server that is closing."""
        # No session is suspended any more: those that are, are in the registry.
        with self._lock:
            arrivals = list(self._arrivals)
        links = [connection.arrival for connection in arrivals]
        return {*arrivals, *self.registry.connections()}, links

    @property
    def is_closing(self) -> bool:
        """Whether sessions end with their links."""
        return self._closing

    def __repr__(self) -> str:
        where = self.url if self._listener is not None else "not listening"
        return f"<WseServer {where}, {len(self.clients)} users>"
