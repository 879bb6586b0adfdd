"""One port for WebSocket and for plain HTTP."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Callable
from urllib.request import urlopen

from wse_sync import AuthRequest, WseClient, WseServer


def identify(auth: AuthRequest) -> None:
    auth.accept(auth.identity, "hello")


def pages(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Any WSGI application: Flask, Django, or a function like this."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"you asked for {environ['PATH_INFO']}\n".encode()]


with WseServer(identify, port=0, path="/ws", http_app=pages) as server:
    with urlopen(f"http://127.0.0.1:{server.port}/about") as response:
        print(response.read().decode().strip())
    with WseClient(server.url) as client:
        print(server.url.rpartition("/")[2], client.connect("ann"))
