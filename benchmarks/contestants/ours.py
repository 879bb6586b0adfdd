"""wse_sync, and on the connections of its server the libraries used plainly."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from typing import Any

import wsproto.connection
from wsproto.events import TextMessage

from wse_sync import JsonProtocol, WseClient, WseServer
from wse_sync.wsgi import OWN_SOCKET

from .base import RESULT_TIMEOUT, Client, Contestant, Dialect, Served, text_frame
from .work import Payload, Work

__all__ = ["WseSync"]

_PROTOCOL = JsonProtocol()
_TYPES = _PROTOCOL.internal_types
_MAX_CONNECTIONS = 6000


class WseSync(Contestant):
    """This library."""

    name = "wse_sync"
    modules = ("wse_sync", "wse_sync.standalone")
    dialect = Dialect(
        subprotocol=_PROTOCOL.name,
        steps=(
            (
                str(_PROTOCOL.pack(_TYPES["hi"], {"identity": "{number}"})),
                str(_PROTOCOL.pack(_TYPES["welcome"]))[:-1].partition(",")[0],
            ),
        ),
    )
    settle = 5.5  # workers that are not needed end after five seconds

    def serve(self, ping_interval: float | None) -> Served:
        return WseServed(ping_interval)

    def connect(self, url: str, reconnect: bool = False) -> Client:
        return _WseCaller(url, reconnect)

    def frame(self, payload: Any) -> bytes:
        return text_frame(str(_PROTOCOL.pack("news", payload)))


class WseServed(Served):
    """Its server."""

    def __init__(self, ping_interval: float | None) -> None:
        super().__init__()
        work = self.work
        self.server = WseServer(
            lambda auth: auth.accept(auth.identity),
            port=0,
            ping_interval=ping_interval,
            max_connections=_MAX_CONNECTIONS,
            max_unauthenticated_per_address=None,  # all come from this machine, many at a time
        ).start()
        self.server.register("add", lambda _conn, payload: work.add(payload))
        self.server.register("echo", lambda _conn, text: work.echo(text))
        self.server.register("sleep", lambda _conn, seconds: work.sleep(seconds))
        self.server.register("noted", lambda _conn, count: work.noted(count))
        self.server.register(
            "bounce",
            lambda conn, payload: work.bounce(payload, lambda less: conn.call("bounce", less)),
        )
        self.server.channel.on("note", lambda _conn, payload: work.note(payload))
        self.url = self.server.url
        self._plain: dict[str, wsproto.connection.Connection] = {}

    def count(self) -> int:
        return len(self.server.clients)

    def send_to_all(self, payload: Any) -> None:
        self.server.broadcast("news", payload)

    def send_to_each(self, payload: Any) -> tuple[float, float]:
        """Sends the same to everybody, one by one."""
        start = time.monotonic()
        for client in self.server.clients.values():
            for connection in client.conns.values():
                connection.send("news", payload)
        return start, time.monotonic()

    def send_plainly(self, payload: Any) -> tuple[float, float]:
        """Sends the same to everybody, packed and framed by the libraries for each.

        What a loop over ``simple_websocket.Server.send`` does, on the sockets of the same
        connections.
        """
        sockets = self._sockets()
        for conn_id in sockets:
            if conn_id not in self._plain:
                self._plain[conn_id] = wsproto.connection.Connection(wsproto.ConnectionType.SERVER)
        targets = [(self._plain[conn_id], sock) for conn_id, sock in sockets.items()]
        pack = json.JSONEncoder(separators=(",", ":")).encode
        # The frame that a broadcast sends, so that the bytes are the same.
        rest = json.loads(str(_PROTOCOL.pack("news")))[2:]
        start = time.monotonic()
        for ws, sock in targets:
            sock.send(ws.send(TextMessage(data=pack(["news", payload, *rest]))))
        return start, time.monotonic()

    def send_ready(self, payload: Any) -> tuple[float, float]:
        """Sends the same bytes to everybody, packed and framed before: what is left is the system.

        No broadcast over these sockets can take less.
        """
        sockets = list(self._sockets().values())
        data = text_frame(str(_PROTOCOL.pack("news", payload)))
        start = time.monotonic()
        for sock in sockets:
            sock.send(data)
        return start, time.monotonic()

    def _sockets(self) -> dict[str, socket.socket]:
        """Of all connections, by their ids."""
        return {
            conn_id: connection.environ[OWN_SOCKET]
            for client in self.server.clients.values()
            for conn_id, connection in client.conns.items()
        }

    def flood(self, cid: str, payload: str, times: int) -> None:
        """Sends more to one user than the buffers of the system hold."""
        (connection,) = self.server.clients[cid].conns.values()
        for _ in range(times):
            connection.send("news", payload)


class _WseCaller(Client):
    def __init__(self, url: str, reconnect: bool) -> None:
        self._client = WseClient(url, reconnect=reconnect)
        self.call = self._client.call
        work = Work()
        self._client.register(
            "bounce",
            lambda payload: work.bounce(payload, lambda less: self.call("bounce", less)),
        )
        self._client.connect(f"caller-{id(self)}")

    def add(self, payload: Payload) -> int:
        return int(self.call("add", payload))

    def echo(self, text: str) -> str:
        return str(self.call("echo", text))

    def submit(self, name: str, payload: Any) -> Callable[[], Any]:
        future = self._client.submit(name, payload, timeout=RESULT_TIMEOUT)
        return future.result

    def send(self, payload: Payload) -> None:
        self._client.send("note", payload)

    def noted(self, count: int) -> list[int]:
        return list(self.call("noted", count))

    def bounce(self, payload: Payload) -> int:
        return int(self.call("bounce", payload))

    def close(self) -> None:
        self._client.disconnect()
