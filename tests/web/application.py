"""The application that these tests have served: a page, and WebSockets at /ws and /other."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from typing import Any, Callable

from wse_sync import AuthRequest, WseConnection, WseServer

Environ = dict[str, Any]
StartResponse = Callable[..., Any]

HEARTBEAT = float(os.environ.get("HEARTBEAT", "20"))

log = logging.getLogger("tests")


def identify(auth: AuthRequest) -> None:
    auth.accept(auth.identity, f"hello {auth.identity}")


def page(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{len(server.clients)} users are here".encode()]


other = WseServer(identify, path="/other", http_app=page)
server = WseServer(
    identify,
    path="/ws",
    http_app=other.wsgi_app,
    conn_per_user=2,
    max_queue_bytes=2**20,
    # A test of the heartbeat does not wait for long.
    ping_interval=HEARTBEAT,
    ping_timeout=HEARTBEAT,
    # More than 20 dial at a time, all of them from this machine.
    max_unauthenticated_per_address=None,
)


@server.register("add")
def add(conn: WseConnection, numbers: list[float]) -> float:
    return sum(numbers)


@server.register("echo")
def echo(conn: WseConnection, payload: Any) -> Any:
    return payload


@server.register("ask back")
def ask_back(conn: WseConnection, question: Any) -> Any:
    return conn.call("answer", question)


@server.register("process")
def process(conn: WseConnection, payload: Any) -> int:
    return os.getpid()


@server.register("tell all")
def tell_all(conn: WseConnection, payload: Any) -> int:
    return server.broadcast("news", payload)


@server.register("flood")
def flood(conn: WseConnection, payload: Any) -> int:
    return min(server.broadcast("news", payload) for _ in range(100))


@server.channel.on("spread")
def spread(conn: WseConnection, payload: Any) -> None:
    server.broadcast("news", payload)


@server.when.left
def left(client: Any, code: int, reason: str) -> None:
    log.warning("%s left: %d %s", client.cid, code, reason)


app = server.wsgi_app


def wrapped(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """The same behind a middleware that puts itself before start_response."""

    def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
        return start_response(status, [*headers, ("X-Wrapped", "yes")], *rest)

    return app(environ, start)
