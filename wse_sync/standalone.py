"""A listener for the WSGI entry: a thread that accepts, and a thread for each connection.

The listener's thread only accepts. TLS and the HTTP request happen in the connection's thread,
within ``auth_timeout``, so that nobody who is slow keeps others waiting. Threads are bounded. When
few are left, whoever has been sending his request for the longest gives his up for the newcomer: a
client that means it has sent all of it within a moment. When nobody sends headers any more, the
requests that the app has been answering for the longest go, as those whose bodies never end. So
however many strangers are slow, they keep nobody out, unless they come by the thousand in each
second. ``Listener._lock`` guards who has been accepted; nothing is taken under it.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import selectors
import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from http.client import LineTooLong
from time import monotonic
from types import SimpleNamespace
from typing import IO, Any, cast
from wsgiref.headers import Headers
from wsgiref.simple_server import ServerHandler, WSGIRequestHandler

from .forks import keep_from_children
from .leaving import Leaving
from .loglimit import LogLimit
from .loop import loop
from .wsgi import LATER, OWN_SOCKET, UPGRADED

__all__ = ["Listener"]

_log = logging.getLogger("wse_sync.server")
_limit = LogLimit(_log)
_numbers = itertools.count(1)
_BACKLOG = 1024
_BUFFER_BYTES = 1024  # for reading the request
_MAX_HEADERS_BYTES = 64 * 1024  # of one request; http.client would take a hundred times as much
_LEAVING = 50  # threads that may still be about to end when others take their places
_PAUSE = 0.1  # s without accepting when the system has no descriptor or thread left

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Listener:
    """Listens on one address.

    Args:
        app: Answers the requests.
        host: Where to listen.
        port: Likewise; 0 is a free one.
        ssl_context: For TLS.
        request_timeout: For TLS and the headers, in seconds; None: no limit. Also for each read and
            write of the app's.
        max_visitors: How many connections may be open; one more is closed without a word. From 50
            fewer on, slow requests are.

    Raises:
        OSError: The address is taken, or not ours to take.
    """

    def __init__(
        self,
        app: WsgiApp,
        host: str,
        port: int,
        ssl_context: ssl.SSLContext | None,
        request_timeout: float | None,
        max_visitors: int,
    ) -> None:
        self.app = app
        self.ssl_context = ssl_context
        self.request_timeout = request_timeout
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        self._socket.setblocking(False)
        self.port = int(self._socket.getsockname()[1])
        #: What every environ of this listener begins with.
        self.base_environ = {
            "SERVER_NAME": host,
            "SERVER_PORT": str(self.port),
            "GATEWAY_INTERFACE": "CGI/1.1",
            "REMOTE_HOST": "",
            "CONTENT_LENGTH": "",
            "SCRIPT_NAME": "",
            **({} if ssl_context is None else {"HTTPS": "on"}),
        }
        self._max_visitors = max_visitors
        self._few = False
        self._stopped = threading.Event()
        self._wake, self._woken = socket.socketpair()
        for sock in (self._socket, self._wake, self._woken):
            keep_from_children(sock)
        self._lock = threading.Lock()
        self._visitors: dict[_Visitor, threading.Thread] = {}
        self._leaving = Leaving()
        # Those of them that send a request, and those who have: the oldest first.
        self._reading: dict[_Visitor, None] = {}
        self._answered: dict[_Visitor, None] = {}
        self._thread = threading.Thread(
            target=self._accept_all, name=f"wse-listener-{self.port}", daemon=True
        )

    def start(self) -> None:
        """Begins to accept.

        Raises:
            OSError: The system gives us no thread for it.
        """
        try:
            self._thread.start()
        except RuntimeError as error:
            for sock in (self._socket, self._wake, self._woken):
                sock.close()
            raise OSError(str(error)) from error

    def stop_accepting(self) -> None:
        """Closes the port, and cuts those who do not speak WebSocket yet."""
        self._stopped.set()
        self._wake.close()
        with contextlib.suppress(RuntimeError):  # it has not begun, since Ctrl-C came before
            self._thread.join()
        with self._lock:
            visitors = list(self._visitors)
        for visitor in visitors:
            visitor.cut()

    def join(self, timeout: float) -> None:
        """Waits for the threads of the connections; they end with their links."""
        deadline = monotonic() + timeout
        with self._lock:
            threads = {*self._visitors.values(), *self._leaving.alive()}
        for thread in threads - {threading.current_thread()}:
            thread.join(max(0.0, deadline - monotonic()))

    def _accept_all(self) -> None:
        with selectors.DefaultSelector() as selector, self._socket, self._woken:
            selector.register(self._socket, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while not self._stopped.is_set():
                selector.select()
                try:
                    self._accept()
                except (OSError, RuntimeError) as error:
                    text = "cannot accept connections for the moment: %s"
                    _limit.write(logging.WARNING, text, error)
                    self._give_up_slowest(len(self._reading) // 2 + 1)
                    self._stopped.wait(_PAUSE)

    def _accept(self) -> None:
        try:
            sock, address = self._socket.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        if not self._has_room():
            sock.close()
            return
        visitor = _Visitor(self, sock, str(address[0]))
        thread = threading.Thread(
            target=self._serve, args=(visitor,), name=f"wse-reader-{next(_numbers)}", daemon=True
        )
        with self._lock:
            self._visitors[visitor] = thread
            self._reading[visitor] = None
        try:
            thread.start()
        except RuntimeError:
            self._forget(visitor)
            raise

    def _has_room(self) -> bool:
        """Whether there is a thread for one more; says once each time that they become few."""
        count = len(self._visitors)
        few = count >= self._max_visitors - _LEAVING
        if few:
            self._give_up_slowest()
        if few and not self._few:
            _log.warning(
                "%d connections are open: slow requests are given up, and with %d of them newcomers"
                " are turned away",
                count,
                self._max_visitors,
            )
        self._few = few
        return count < self._max_visitors

    def _give_up_slowest(self, count: int = 1) -> None:
        """Cuts those whose requests have been under way for the longest, so many or all."""
        with self._lock:
            requests = itertools.chain(self._reading, self._answered)
            slowest = list(itertools.islice(requests, count))
            for visitor in slowest:
                self._reading.pop(visitor, None)
                self._answered.pop(visitor, None)
        for visitor in slowest:
            visitor.cut()

    def has_read(self, visitor: _Visitor) -> bool:
        """Notes that a request is there; False if it was given up just before."""
        with self._lock:
            if visitor not in self._reading:
                return False
            del self._reading[visitor]
            self._answered[visitor] = None
            return True

    def has_upgraded(self, visitor: _Visitor) -> None:
        """Notes that a request has become a WebSocket, which is for its link to end."""
        with self._lock:
            self._answered.pop(visitor, None)

    def _serve(self, visitor: _Visitor) -> None:
        """The thread of one connection."""
        try:
            visitor.run()
        except OSError as error:
            _log.debug("lost %s before its request: %s", visitor.address, error)
        except Exception:
            text = "a request of %s failed"
            _limit.write(logging.ERROR, text, visitor.address, exc_info=True)
        finally:
            self._forget(visitor)

    def _forget(self, visitor: _Visitor) -> None:
        visitor.close()
        with self._lock:
            self._leaving.add(self._visitors.pop(visitor))
            for table in (self._reading, self._answered):
                table.pop(visitor, None)


class _Visitor:
    """One accepted socket. ``cut`` comes from other threads, the rest is the connection's own."""

    def __init__(self, listener: Listener, sock: socket.socket, address: str) -> None:
        self.address = address
        self.environ: dict[str, Any] = {}
        self.sock = sock
        self._listener = listener
        #: What serves the connection that the request has become.
        self.later: list[Callable[[], None]] = []
        # A WebSocket has none; an app that waits for the rest of a request, or for somebody to read
        # its answer, does not do so for ever.
        sock.settimeout(listener.request_timeout)
        keep_from_children(sock)

    def run(self) -> None:
        """Reads the request and has it answered; then serves what it has become, if anything."""
        try:
            self._read_request().answer()
        finally:
            if self.later:
                self._listener.has_upgraded(self)
            for serve in self.later:
                # A connection may last for days, and needs neither the request nor its files.
                self.environ["wsgi.input"] = io.BytesIO()
                serve()

    def _read_request(self) -> _Request:
        timeout = self._listener.request_timeout
        late = None if timeout is None else loop.call_later(timeout, self.cut)
        try:
            if self._listener.ssl_context is not None:
                self.sock = self._listener.ssl_context.wrap_socket(
                    self.sock, server_side=True, do_handshake_on_connect=False
                )
                keep_from_children(self.sock)
                self.sock.do_handshake()
            return _Request(self, self._listener)
        finally:
            if late is not None:
                late.cancel()

    def cut(self) -> None:
        """Ends a request that is under way; a WebSocket is for its link to end."""
        if UPGRADED not in self.environ:
            try:
                socket.socket.shutdown(self.sock, socket.SHUT_RDWR)
            except OSError:
                return  # it has gone by itself

    def close(self) -> None:
        """Gives the socket back."""
        self.sock.close()


class _Request(WSGIRequestHandler):
    """Reads the request when it is made, and answers it with ``answer``."""

    rbufsize = _BUFFER_BYTES

    def __init__(self, visitor: _Visitor, listener: Listener) -> None:
        self._visitor = visitor
        self._listener = listener
        self._parsed = False
        super().__init__(
            visitor.sock,
            (visitor.address, 0),
            cast(Any, SimpleNamespace(base_environ=listener.base_environ)),
        )

    def handle(self) -> None:
        self.raw_requestline = self.rfile.readline(65537)
        lines = _Lines(self.rfile)
        self.rfile = cast(Any, lines)
        try:
            parsed = bool(self.raw_requestline) and self.parse_request()
        finally:
            self.rfile = lines.file
        # http.client takes the end of the stream for that of the headers. What has been cut is no
        # request (RFC 9112, 8): nobody is there for an answer, or somebody would get a wrong one.
        whole = parsed and lines.last in (b"\r\n", b"\n")
        self._parsed = whole and self._listener.has_read(self._visitor)

    def finish(self) -> None:
        """Not yet: the files are needed for the answer."""

    def answer(self) -> None:
        """Runs the app."""
        try:
            if self._parsed:
                environ = self.get_environ()
                environ[OWN_SOCKET] = self._visitor.sock
                environ[LATER] = self._visitor.later
                self._visitor.environ = environ
                del self.headers  # the environ has them
                files = cast("tuple[IO[bytes], IO[bytes]]", (self.rfile, self.wfile))
                handler = _Handler(*files, self.get_stderr(), environ)
                handler.request_handler = self
                handler.run(self._listener.app)
        finally:
            super().finish()

    def log_request(self, code: object = "-", size: object = "-") -> None:
        # Without the query: it may be a token.
        path = str(getattr(self, "path", "")).partition("?")[0]
        _log.debug("%s asked for %.200r: %s", self._visitor.address, path, code)

    def log_error(self, format: str, *args: Any) -> None:
        # Of a request that cannot be read: the base class would quote it.
        _log.debug("a request of %s cannot be read", self._visitor.address)


class _Lines:
    """Reads the lines of headers from a file, so many bytes at most, and knows the last one."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self.last = b""
        self._left = _MAX_HEADERS_BYTES

    def readline(self, size: int) -> bytes:
        if not self._left:
            raise LineTooLong("headers")  # answered with 431
        self.last = self.file.readline(min(size, self._left))
        self._left -= len(self.last)
        return self.last


class _Handler(ServerHandler):
    """Runs a WSGI app. The environment of the process is none of its business."""

    os_environ: dict[str, str] = {}  # noqa: RUF012  (an instance variable to the base class)
    environ: dict[str, Any]
    headers: Headers
    request_handler: _Request
    status: str

    def setup_environ(self) -> None:
        super().setup_environ()
        # The one that wsgi.py marks must be the one that the visitor looks at.
        self.base_env.update(self.environ)
        self.environ = cast("dict[str, Any]", self.base_env)

    def finish_response(self) -> None:
        if UPGRADED in self.environ:
            self.close()
        else:
            super().finish_response()

    def cleanup_headers(self) -> None:
        super().cleanup_headers()
        if self.status.startswith("304"):
            # That would be of what the browser has, and not nothing (RFC 9110, 8.6).
            del self.headers["Content-Length"]

    def log_exception(self, exc_info: Any) -> None:
        _limit.write(logging.ERROR, "the WSGI app raised", exc_info=exc_info)
