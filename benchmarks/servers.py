"""The server process: a WseServer, and the plain servers that it is compared with.

The client process drives: it sends the name of a method of :class:`_Servers` through a pipe and
gets what that returns.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from threading import Thread
from time import perf_counter
from typing import Any

import simple_websocket
import wsproto
import wsproto.connection
from wsproto.events import TextMessage

from wse_sync import WseConnection, WseServer
from wse_sync.wsgi import OWN_SOCKET

__all__ = ["ServerProcess"]


class ServerProcess:
    """Starts the process; ``with`` ends it.

    Attributes:
        pid: Of the process.
        urls: Where ``wse``, ``echo`` and ``add`` are.

    Args:
        settings: For the WseServer.
    """

    def __init__(self, **settings: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_run, args=(theirs, settings), daemon=True)
        self._process.start()
        theirs.close()
        self.pid = self._process.pid
        self.urls: dict[str, str] = self._pipe.recv()

    def order(self, name: str, *arguments: Any) -> None:
        """Has something done; ``outcome`` gets what comes of it."""
        self._pipe.send((name, arguments))

    def outcome(self) -> Any:
        """Waits until the order is carried out."""
        return self._pipe.recv()

    def do(self, name: str, *arguments: Any) -> Any:
        """``order`` and ``outcome``."""
        self.order(name, *arguments)
        return self.outcome()

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.close()
        self._process.join()


class _Servers:
    """What the server process can do."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.wse = WseServer(lambda auth: auth.accept(auth.identity), port=0, **settings).start()
        self.wse.register("add", lambda _conn, payload: payload["a"] + payload["b"])
        self.wse.channel.on("reading", lambda _conn, _payload: None)
        self._plain: dict[str, wsproto.connection.Connection] = {}
        self.urls = {
            "wse": self.wse.url,
            "echo": _start_plain(lambda text: text),
            "add": _start_plain(_add),
        }

    def count(self) -> int:
        """How many users are there."""
        return len(self.wse.clients)

    def broadcast(self, payload: str) -> float:
        """Seconds until ``broadcast`` returned."""
        start = perf_counter()
        self.wse.broadcast("news", payload)
        return perf_counter() - start

    def send_to_each(self, payload: str) -> float:
        """Seconds until everybody was sent the same, one by one."""
        start = perf_counter()
        for client in self.wse.clients.values():
            for connection in client.conns.values():
                connection.send("news", payload)
        return perf_counter() - start

    def send_plainly(self, payload: str) -> float:
        """Seconds until everybody was sent the same, packed and framed by the libraries for each.

        What a loop over ``simple_websocket.Server.send`` does, on the sockets of the same
        connections.
        """
        for conn_id, _ in self._connections():
            if conn_id not in self._plain:
                self._plain[conn_id] = wsproto.connection.Connection(wsproto.ConnectionType.SERVER)
        targets = [(self._plain[i], conn.environ[OWN_SOCKET]) for i, conn in self._connections()]
        start = perf_counter()
        for ws, sock in targets:
            # Without blanks, so that the bytes are those of a broadcast.
            text = json.dumps(["news", payload, None], separators=(",", ":"))
            sock.send(ws.send(TextMessage(data=text)))
        return perf_counter() - start

    def _connections(self) -> list[tuple[str, WseConnection]]:
        return [item for client in self.wse.clients.values() for item in client.conns.items()]

    def flood(self, cid: str, payload: str, times: int) -> None:
        """Sends more to one user than the buffers of the system hold."""
        connection: WseConnection
        (connection,) = self.wse.clients[cid].conns.values()
        for _ in range(times):
            connection.send("news", payload)


def _run(pipe: Connection, settings: dict[str, Any]) -> None:
    servers = _Servers(settings)
    pipe.send(servers.urls)
    with suppress(EOFError):
        while True:
            name, arguments = pipe.recv()
            pipe.send(getattr(servers, name)(*arguments))


def _add(text: str) -> str:
    name, payload, stamp = json.loads(text)
    assert name == "add"
    return json.dumps(["~wse:response", payload["a"] + payload["b"], stamp])


def _start_plain(answer: Callable[[str], str]) -> str:
    """simple-websocket used plainly: a thread for each connection that receives and sends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            names = {name: f"HTTP_{name.upper().replace('-', '_')}" for name in self.headers}
            environ = {names[name]: value for name, value in self.headers.items()}
            ws = simple_websocket.Server({**environ, "werkzeug.socket": self.connection})
            with suppress(simple_websocket.ConnectionClosed):
                while True:
                    ws.send(answer(ws.receive()))

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    return f"ws://127.0.0.1:{server.server_port}"
