"""A listener without sockets: clients of this process reach a WSGI app through memory.

Threads: each upgrade has a thread of its own, which runs the app and then is the reader of the
connection, as behind other listeners. Clients dial in theirs. ``Place._lock`` guards who has
dialed and the threads; nothing is taken under it.
"""

from __future__ import annotations

import base64
import io
import itertools
import logging
import secrets
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from .checks import bad_value
from .constants import WSE_ERROR
from .target import shown
from .transport import dialing, memory
from .transport.dialing import Dialer, DialFailed, refused
from .wsgi import LATER, TRANSPORT

__all__ = ["Place", "WsgiApp"]

_log = logging.getLogger("wse_sync.server")
_numbers = itertools.count(1)
_KEY_BYTES = 16  # of Sec-WebSocket-Key (RFC 6455, 4.1)
_SCHEMES = {"wss": "https"}  # of HTTP; all others are http
_PORTS = {"http": 80, "https": 443}

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Place:
    """Takes the place of a server.

    Args:
        url: What its URL begins with, up to the path.
        app: Answers the upgrades.
        subprotocol: The one that its connections speak.
        environ: What to add to the environ of each upgrade.
    """

    def __init__(self, url: str, app: WsgiApp, subprotocol: str, environ: dict[str, Any]) -> None:
        self.url = url
        self.app = app
        self.subprotocol = subprotocol
        self.environ = environ
        #: Whether clients find it.
        self.reachable = True
        self._lock = threading.Lock()
        self._dialed: list[Any] = []
        self._threads: list[threading.Thread] = []

    def open(self) -> None:
        """From now on clients come here.

        Raises:
            WseValueError: They go to another place (WS_CLIENT_ERROR).
        """
        if not dialing.take_place(self.url, self.make_dialer):
            raise bad_value(
                f"there is another TestServer at {shown(self.url)}", WSE_ERROR.WS_CLIENT_ERROR
            )

    def close(self) -> None:
        """From now on they do not; connections go on."""
        dialing.give_back(self.url, self.make_dialer)

    def join(self, timeout: float) -> None:
        """Waits for the threads of connections that have ended, and forgets who was here."""
        deadline = time.monotonic() + timeout
        with self._lock:
            threads, self._threads, self._dialed = self._threads, [], []
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))

    @property
    def dialed(self) -> list[Any]:
        """Who has dialed, each once: the lives of clients."""
        with self._lock:
            return list(self._dialed)

    def make_dialer(self, who: Any) -> Dialer:
        """For one attempt of a client."""
        with self._lock:
            if who not in self._dialed:
                self._dialed.append(who)
        return _MemoryDialer(self)

    def serve(self, upgrade: _Upgrade) -> None:
        """Runs an upgrade in a thread."""
        with self._lock:
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            self._threads.append(upgrade.thread)
            upgrade.thread.start()


class _MemoryDialer(Dialer):
    """One attempt to open a WebSocket in memory. ``_answered`` ends it."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._answered = threading.Event()
        self._aborted = False

    def dial(
        self,
        url: str,
        subprotocol: str,
        timeout: float | None,
        ssl_context: ssl.SSLContext | None,
        options: Mapping[str, Any],
    ) -> memory.MemoryTransport:
        if not self._place.reachable:
            raise DialFailed(f"cannot reach {shown(url)}: the test does not let anybody through")
        ours, theirs = memory.pair()
        ours.peer = shown(url)
        offered = list(options.get("subprotocols", [subprotocol]))
        environ = _environ_of(url, offered, options)
        environ.update(self._place.environ)
        theirs.peer = str(environ["REMOTE_ADDR"])
        if self._place.subprotocol in offered:
            theirs.subprotocol = self._place.subprotocol
        upgrade = _Upgrade(self._place.app, environ, theirs, self._answered.set)
        self._place.serve(upgrade)
        # The life of the client sees to it that this ends.
        self._answered.wait()
        failure = self._failure(url, upgrade, theirs.subprotocol)
        if failure is not None:
            ours.stream.cut()
            raise failure
        return ours

    def _failure(self, url: str, upgrade: _Upgrade, agreed: str | None) -> DialFailed | None:
        if self._aborted:
            return DialFailed(f"cannot reach {shown(url)}: given up")
        if not upgrade.later:
            return refused(url, upgrade.status, upgrade.body)
        if agreed is None:
            return DialFailed(f"{shown(url)} speaks {self._place.subprotocol}, and we do not")
        return None

    def abort(self) -> None:
        self._aborted = True
        self._answered.set()


class _Upgrade:
    """A request for an upgrade, and the connection that becomes of it; in one thread."""

    def __init__(
        self,
        app: WsgiApp,
        environ: dict[str, Any],
        transport: memory.MemoryTransport,
        on_answer: Callable[[], None],
    ) -> None:
        self.status = 500
        self.body = b""
        self._app = app
        self._environ = environ
        #: What serves the connection that the request has become.
        self.later: list[Callable[[], None]] = []
        self._on_answer = on_answer
        environ[TRANSPORT] = transport
        environ[LATER] = self.later
        self.thread = threading.Thread(
            target=self._run, name=f"wse-test-{next(_numbers)}", daemon=True
        )

    def _run(self) -> None:
        try:
            self._ask()
        except Exception:
            _log.exception("the WSGI app raised")
        finally:
            self._on_answer()
        for serve in self.later:
            serve()

    def _ask(self) -> None:
        chunks = self._app(self._environ, self._start_response)
        try:
            self.body = b"".join(chunks)
        finally:
            close = getattr(chunks, "close", None)
            if close is not None:
                close()

    def _start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], object]:
        self.status = int(status.split()[0])
        return lambda data: None  # the old way to send a body: nobody reads it here


def _environ_of(url: str, offered: list[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """The WSGI environ of an upgrade (PEP 3333), as a listener would make it.

    Args:
        url: Where to.
        offered: The subprotocols.
        options: As ``websocket.create_connection`` takes them: headers, cookie, origin, host.
    """
    parts = urlsplit(url)
    scheme = _SCHEMES.get(parts.scheme, "http")
    in_memory = parts.scheme == dialing.MEMORY
    host = "localhost" if in_memory else parts.netloc.rpartition("@")[2]
    return {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote(parts.path or "/", "latin-1"),
        "QUERY_STRING": parts.query,
        "SERVER_NAME": "localhost" if in_memory else parts.hostname or "",
        "SERVER_PORT": str(parts.port or _PORTS[scheme]),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": host,
        "HTTP_UPGRADE": "websocket",
        "HTTP_CONNECTION": "Upgrade",
        "HTTP_SEC_WEBSOCKET_VERSION": "13",
        "HTTP_SEC_WEBSOCKET_KEY": base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode(),
        "HTTP_SEC_WEBSOCKET_PROTOCOL": ", ".join(offered),
        **_headers_of(options),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scheme,
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }


def _headers_of(options: Mapping[str, Any]) -> dict[str, str]:
    """The headers that the options bring, by their names in an environ."""
    found: dict[str, str] = {}
    for name, value in _header_lines(options):
        key = f"HTTP_{name.strip().upper().replace('-', '_')}"
        # Several of one name are one (RFC 9110, 5.2; for cookies RFC 6265, 4.2.1).
        joint = "; " if key == "HTTP_COOKIE" else ", "
        found[key] = f"{found[key]}{joint}{value.strip()}" if key in found else value.strip()
    return found


def _header_lines(options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    headers = options.get("header") or ()
    if isinstance(headers, Mapping):
        yield from ((name, value) for name, value in headers.items() if value is not None)
    else:
        for line in headers:
            name, _, value = line.partition(":")
            yield name, value
    for name in ("cookie", "origin", "host"):
        if options.get(name):
            yield name, options[name]
