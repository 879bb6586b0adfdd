"""The two libraries below wse_sync, used plainly: simple-websocket serves, websocket-client calls.

The bare echo is the least that a round trip through them costs: no JSON, no calls, a thread for
each connection that receives and sends. websocket-client checks the UTF-8 of texts in pure Python;
what is called unchecked has that check off, as wse_sync has, which lets CPython decode strictly.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import simple_websocket
import websocket

from .base import Client, Contestant, Dialect, Served
from .by_hand import FuturesClient, LockedClient, answer_all

__all__ = ["BareCalls", "BareEcho"]

_MAX_MESSAGE_BYTES = 16 * 2**20


class _Bare(Contestant):
    modules = ("simple_websocket", "websocket")
    dialect = Dialect()
    threads = 2

    def __init__(self, name: str, checked: bool) -> None:
        super().__init__()
        self.name = name
        self._checked = checked

    def dial(self, url: str) -> Any:
        return websocket.create_connection(url, skip_utf8_validation=not self._checked)


class BareEcho(_Bare):
    """Sends a text and gets it back."""

    def serve(self, ping_interval: float | None) -> Served:
        return _Echoes(ping_interval)

    def connect(self, url: str) -> Client:
        return _EchoClient(self.dial(url))


class BareCalls(_Bare):
    """Calls made by hand, in one of the two ways."""

    def __init__(self, name: str, make: Callable[..., Client], checked: bool) -> None:
        super().__init__(name, checked)
        self._make = make
        self.cannot["bounce"] = "calls made by hand go one way"
        if make is LockedClient:
            self.cannot["submit"] = "one call at a time"
        if make is FuturesClient:
            self.cannot["send"] = "as with one lock"

    def serve(self, ping_interval: float | None) -> Served:
        return _Calls(ping_interval)

    def connect(self, url: str) -> Client:
        ws = self.dial(url)
        return self._make(ws.recv, ws.send, ws.shutdown)


class _BareServed(Served):
    def __init__(self, ping_interval: float | None) -> None:
        super().__init__()
        served = self

        class Handler(BaseHTTPRequestHandler):
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                names = {name: f"HTTP_{name.upper().replace('-', '_')}" for name in self.headers}
                environ = {names[name]: value for name, value in self.headers.items()}
                ws = simple_websocket.Server(
                    {**environ, "werkzeug.socket": self.connection},
                    max_message_size=_MAX_MESSAGE_BYTES,
                    ping_interval=ping_interval,
                )
                served.changed(1)
                with suppress(simple_websocket.ConnectionClosed):
                    served.run(ws)
                served.changed(-1)

        server = _Listener(("127.0.0.1", 0), Handler)
        self.start_thread(server.serve_forever)
        self.url = f"ws://127.0.0.1:{server.server_port}"

    def run(self, ws: Any) -> None:
        raise NotImplementedError


class _Listener(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


class _Echoes(_BareServed):
    def run(self, ws: Any) -> None:
        while True:
            ws.send(ws.receive())


class _Calls(_BareServed):
    def run(self, ws: Any) -> None:
        answer_all(self.work, ws.receive, ws.send)


class _EchoClient(Client):
    def __init__(self, ws: Any) -> None:
        self._ws = ws
        self._receive: Callable[[], Any] = ws.recv

    def echo(self, text: str) -> str:
        self._ws.send(text)
        return str(self._receive())

    def close(self) -> None:
        self._ws.shutdown()
