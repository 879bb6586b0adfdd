"""xmlrpc of the standard library, over a connection that is kept, without compression."""

from __future__ import annotations

from socketserver import ThreadingMixIn
from threading import Lock
from typing import Any
from xmlrpc.client import ServerProxy, Transport
from xmlrpc.server import SimpleXMLRPCRequestHandler, SimpleXMLRPCServer

from .base import Client, Contestant, Served
from .work import Payload

__all__ = ["Xmlrpc"]


class Xmlrpc(Contestant):
    """xmlrpc."""

    name = "xmlrpc"
    modules = ("xmlrpc.client", "xmlrpc.server")

    def __init__(self) -> None:
        super().__init__()
        self.cannot.update(
            submit="one request at a time",
            send="every request is answered",
            bounce="a server cannot call a client",
            broadcast="a server cannot reach a client",
            connect="a connection is only there for a request",
            heartbeat="a connection is only there for a request",
        )

    def serve(self, ping_interval: float | None) -> Served:
        return _XmlrpcServed()

    def connect(self, url: str) -> Client:
        return _XmlrpcClient(url)


class _Handler(SimpleXMLRPCRequestHandler):
    rpc_paths = ("/",)
    protocol_version = "HTTP/1.1"  # or each call would open a connection
    disable_nagle_algorithm = True


class _Listener(ThreadingMixIn, SimpleXMLRPCServer):
    daemon_threads = True


class _XmlrpcServed(Served):
    def __init__(self) -> None:
        super().__init__()
        server = _Listener(("127.0.0.1", 0), requestHandler=_Handler, logRequests=False)
        procedures: dict[str, Any] = {"add": self.work.add, "echo": self.work.echo}
        for name, procedure in procedures.items():
            server.register_function(procedure, name)
        self.start_thread(server.serve_forever)
        self.url = f"http://127.0.0.1:{server.server_address[1]}/"


class _Transport(Transport):
    accept_gzip_encoding = False


class _XmlrpcClient(Client):
    """A proxy is not for several threads at a time, so there is a lock."""

    def __init__(self, url: str) -> None:
        self._proxy: Any = ServerProxy(url, transport=_Transport())
        self._lock = Lock()

    def add(self, payload: Payload) -> int:
        with self._lock:
            return int(self._proxy.add(payload))

    def echo(self, text: str) -> str:
        with self._lock:
            return str(self._proxy.echo(text))

    def close(self) -> None:
        self._proxy("close")()
