"""The one way in: a WSGI request that becomes a connection.

Runs in the thread of the request, which is the reader of the connection until it ends.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterable
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from . import script
from .addresses import address_of
from .checks import bad_type, bad_value
from .hosts import Host, find_host, is_patched_late, places
from .sessions import WseConnection
from .transport.accepted import AcceptedTransport, HandshakeFailed
from .transport.stream import open_stream

if TYPE_CHECKING:
    from .server import WseServer
    from .transport.memory import MemoryTransport

__all__ = ["LATER", "OWN_SOCKET", "TRANSPORT", "UPGRADED", "answer", "parse_origins"]

#: Set in the environ by our own listener: the socket.
OWN_SOCKET = "wse_sync.socket"
#: Set in the environ by our own listener: a list for what serves the connection, to be called when
#: the request is over.
LATER = "wse_sync.later"
#: Set in the environ by whoever has no socket: the transport.
TRANSPORT = "wse_sync.transport"
#: Set in the environ when the socket is to speak WebSocket: then its link ends it.
UPGRADED = "wse_sync.upgraded"

_NOT_OURS = (HTTPStatus.UPGRADE_REQUIRED, HTTPStatus.NOT_FOUND)
_VERSION = "13"  # of the WebSocket protocol (RFC 6455, 4.1)
_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


class _Refusal(NamedTuple):
    """Why a request does not become a connection, as an HTTP response."""

    status: HTTPStatus
    text: str
    headers: tuple[tuple[str, str], ...] = ()


_FULL = _Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "No more connections here; try later.")


def answer(
    server: WseServer, environ: dict[str, Any], start_response: Callable[..., Any]
) -> Iterable[bytes]:
    """Answers a request: with a connection, the script, the HTTP app, or a reason why not."""
    refusal = _examine(server, environ)
    if refusal is None:
        refusal = _serve(server, environ)
    if refusal is None:
        # The socket has been shut down: what the WSGI server sends now goes nowhere. Our own
        # listener sends nothing.
        start_response("200 OK", [("Content-Length", "0")])
        return []
    if refusal.status is HTTPStatus.UPGRADE_REQUIRED and script.is_asked_for(server.path, environ):
        return script.answer(environ, start_response)
    if refusal.status in _NOT_OURS and server.http_app is not None:
        return server.http_app(environ, start_response)
    body = f"{refusal.text}\n".encode()
    start_response(
        f"{refusal.status.value} {refusal.status.phrase}",
        [
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Length", str(len(body))),
            *refusal.headers,
        ],
    )
    return [body]


def _examine(server: WseServer, environ: dict[str, Any]) -> _Refusal | None:
    """Why this request cannot become a connection; None if it can."""
    if not _is_upgrade(environ):
        return _Refusal(
            HTTPStatus.UPGRADE_REQUIRED, "This is a WebSocket server: connect with a WSE client."
        )
    inner = environ.get("PATH_INFO", "")
    path = environ.get("SCRIPT_NAME", "") + inner
    if server.path is not None and server.path not in (path, inner):
        return _Refusal(HTTPStatus.NOT_FOUND, f"There is no WebSocket at {path}.")
    if environ.get("HTTP_SEC_WEBSOCKET_VERSION") != _VERSION:
        return _Refusal(
            HTTPStatus.BAD_REQUEST,
            f"This server speaks version {_VERSION} of the WebSocket protocol.",
            (("Sec-WebSocket-Version", _VERSION),),
        )
    if environ["REQUEST_METHOD"] != "GET" or not environ.get("HTTP_SEC_WEBSOCKET_KEY"):
        return _Refusal(HTTPStatus.BAD_REQUEST, "An upgrade is a GET with a Sec-WebSocket-Key.")
    origin = environ.get("HTTP_ORIGIN")
    if origin is not None and not _is_allowed(server.origins, origin, environ):
        server.log_limit.write(
            logging.WARNING,
            "refused a page from %.200r: add it to origins=[…] of WseServer if it may connect",
            origin,
        )
        return _Refusal(HTTPStatus.FORBIDDEN, f"Pages from {origin} may not connect here.")
    return None


def _serve(server: WseServer, environ: dict[str, Any]) -> _Refusal | None:
    """Serves the connection until it ends, or has it served later; or why it could not begin."""
    transport = environ.pop(TRANSPORT, None)
    if transport is not None:
        return _enter(server, environ, transport, is_here=True)
    own = environ.get(OWN_SOCKET)
    if own is not None:
        return _enter(server, environ, _accept(server, environ, own))
    host = find_host(environ)
    obstacle = _obstacle(host)
    if obstacle is not None:
        text, cure = obstacle
        server.log_limit.write(logging.ERROR, "%s %s", text, cure)
        return _Refusal(HTTPStatus.NOT_IMPLEMENTED, text)
    assert host.socket is not None
    if not places.take(server, host):
        return _FULL
    try:
        return _enter(server, environ, _accept(server, environ, host.socket))
    finally:
        if places.give_back(server):
            server.close()


def _obstacle(host: Host) -> tuple[str, str] | None:
    """Why a WSGI server can carry no WebSocket at all, and what to do."""
    if host.socket is None:
        return (
            f"{host.name} exposes no socket that a WebSocket could take over.",
            "Use gunicorn's gthread workers, the development servers of Flask or Django, or"
            " WseServer(port=…).start()",
        )
    if is_patched_late():
        return (
            "gevent has patched the threads of this process after wse_sync was imported.",
            "Patch first, before any other import; with gunicorn, leave --preload out",
        )
    return None


def _enter(
    server: WseServer,
    environ: dict[str, Any],
    transport: AcceptedTransport | MemoryTransport,
    *,
    is_here: bool = False,
) -> _Refusal | None:
    transport.peer = address_of(environ, server.trusted_hops)
    # Clients in this process are from nowhere else, whatever the environ says.
    if not server.strangers.enter(transport, "" if is_here else transport.peer):
        return _FULL
    # Before it is admitted: whoever closes the server after that leaves the end to its link.
    environ[UPGRADED] = True
    connection = server.admit(lambda: WseConnection(server, environ, transport))
    if connection is None:
        del environ[UPGRADED]
        server.strangers.leave(transport)
        server.log_limit.write(
            logging.WARNING,
            "refused a connection: max_connections=%d of WseServer is reached, or it is closing",
            server.max_connections,
        )
        return _FULL
    try:
        connection.arrival.attach()
    except BaseException as error:
        del environ[UPGRADED]
        server.dismiss(connection)
        if not isinstance(error, HandshakeFailed):
            raise
        return _Refusal(HTTPStatus.BAD_REQUEST, f"This is no valid upgrade: {error}")
    later: list[Callable[[], None]] | None = environ.pop(LATER, None)
    if later is None:
        _run(server, connection, transport.subprotocol)
    else:
        later.append(partial(_run, server, connection, transport.subprotocol))
    return None


def _accept(server: WseServer, environ: dict[str, Any], sock: socket.socket) -> AcceptedTransport:
    # Whoever accepted the socket closes it; to shut it down is enough for both ends.
    stream = open_stream(sock, owned=False)
    return AcceptedTransport(environ, stream, server.protocol.name, server.max_message_bytes)


def _run(server: WseServer, connection: WseConnection, subprotocol: str | None) -> None:
    try:
        connection.run(subprotocol)
    finally:
        server.dismiss(connection)


def _is_upgrade(environ: dict[str, Any]) -> bool:
    tokens = environ.get("HTTP_CONNECTION", "").lower().split(",")
    upgrade = environ.get("HTTP_UPGRADE", "").strip().lower()
    return upgrade == "websocket" and "upgrade" in (token.strip() for token in tokens)


def parse_origins(origins: Iterable[str] | None) -> frozenset[str] | None:
    """The option of that name."""
    if origins is None:
        return None
    if isinstance(origins, str):
        if origins != "*":
            raise bad_value(f'origins must be None, a list, or "*": [{origins!r}], maybe?')
        return frozenset({"*"})
    if not isinstance(origins, Iterable):
        raise bad_type(f'origins must be None, a list, or "*", not {origins!r}')
    return frozenset(_parse_origin(origin) for origin in origins)


def _parse_origin(origin: str) -> str:
    """One of them, as browsers write it. ``null`` is a page that has none, such as a file."""
    if not isinstance(origin, str):
        raise bad_type(f"origins must be texts such as 'https://chat.example', not {origin!r}")
    if "://" not in origin and origin not in ("*", "null"):
        raise bad_value(f"origins begin with a scheme: 'https://{origin}', maybe, not {origin!r}")
    return origin.rstrip("/").lower()


def _is_allowed(origins: frozenset[str] | None, origin: str, environ: dict[str, Any]) -> bool:
    """Whether a page may connect (RFC 6455, 10.2): browsers tell where it came from."""
    if origins is None:
        # The scheme of the page, not ours: TLS may have ended in a proxy before us.
        here = _host_and_port(f"{origin.partition(':')[0]}://{environ.get('HTTP_HOST', '')}")
        return here is not None and here == _host_and_port(origin)
    return "*" in origins or origin.rstrip("/").lower() in origins


def _host_and_port(url: str) -> tuple[str, int | None] | None:
    try:
        parts = urlsplit(url)
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return None
    return None if parts.hostname is None else (parts.hostname, port)
