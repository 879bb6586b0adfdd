"""websockets, by its threaded client and server, with calls made by hand.

Compression is off, as with all contestants; ``broadcast`` is its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from .base import Client, Contestant, Dialect, Served, text_frame
from .by_hand import LockedClient, answer_all

__all__ = ["Websockets"]

_pack = json.JSONEncoder(separators=(",", ":")).encode
_MAX_MESSAGE_BYTES = 16 * 2**20


class Websockets(Contestant):
    """``websockets.sync``."""

    modules = ("websockets.sync.client", "websockets.sync.server")
    dialect = Dialect()
    descriptors = 4  # its socket, a pair to wake its thread, and a selector
    threads = 3

    def __init__(self, name: str, make: Callable[..., Client]) -> None:
        super().__init__()
        self.name = name
        self._make = make
        self.cannot["bounce"] = "calls made by hand go one way"
        if make is LockedClient:
            self.cannot["submit"] = "one call at a time"

    def serve(self, ping_interval: float | None) -> Served:
        return _WebsocketsServed(ping_interval)

    def connect(self, url: str) -> Client:
        import websockets.sync.client

        ws = websockets.sync.client.connect(
            url, compression=None, max_size=_MAX_MESSAGE_BYTES, proxy=None
        )
        return self._make(ws.recv, ws.send, ws.close)

    def frame(self, payload: Any) -> bytes:
        return text_frame(_pack(["news", payload, None]))


class _WebsocketsServed(Served):
    def __init__(self, ping_interval: float | None) -> None:
        import websockets.sync.server
        from websockets.exceptions import ConnectionClosed

        super().__init__()
        self._connections: set[Any] = set()

        def run(ws: Any) -> None:
            self._connections.add(ws)
            self.changed(1)
            with suppress(ConnectionClosed):
                answer_all(self.work, ws.recv, ws.send)
            self._connections.discard(ws)
            self.changed(-1)

        server = websockets.sync.server.serve(
            run,
            "127.0.0.1",
            0,
            compression=None,
            max_size=_MAX_MESSAGE_BYTES,
            ping_interval=ping_interval,
        )
        self._broadcast: Callable[..., None] = websockets.sync.server.broadcast
        self.start_thread(server.serve_forever)
        self.url = f"ws://127.0.0.1:{server.socket.getsockname()[1]}"

    def send_to_all(self, payload: Any) -> None:
        self._broadcast(self._connections, _pack(["news", payload, None]))
