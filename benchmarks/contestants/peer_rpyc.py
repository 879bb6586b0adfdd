"""RPyC, by its threaded server.

It passes numbers and texts by value and everything else by reference, so a procedure gets its two
numbers as arguments: that is how it is meant to be used. A client that writes ``conn.root.add(…)``,
as its documentation does, looks ``add`` up each time; one that keeps ``conn.root.add`` does not.
Its compression is off, as with all.
"""

from __future__ import annotations

from collections.abc import Callable
from socket import IPPROTO_TCP, TCP_NODELAY
from typing import Any

from .base import RESULT_TIMEOUT, Client, Contestant, Dialect, Served
from .work import Payload, Work

__all__ = ["Rpyc"]

_CONFIG = {"sync_request_timeout": RESULT_TIMEOUT}
_HUGE = 2**40  # bytes; nothing longer is sent, so nothing is compressed


class Rpyc(Contestant):
    """RPyC.

    Args:
        name: As it is shown.
        kept: Whether the client looks its procedures up once, or each time, which is another
            round trip.
    """

    modules = ("rpyc",)
    dialect = Dialect(path=None)

    def __init__(self, name: str, kept: bool) -> None:
        super().__init__()
        self.name = name
        self._kept = kept
        self.cannot.update(
            send="every call is answered",
            broadcast="has none; a loop over callbacks of the clients",
            heartbeat="has none",
        )

    def serve(self, ping_interval: float | None) -> Served:
        return _RpycServed()

    def connect(self, url: str) -> Client:
        return _RpycClient(url, self._kept)


class _RpycServed(Served):
    def __init__(self) -> None:
        import rpyc.utils.server

        super().__init__()
        rpyc.Channel.COMPRESSION_THRESHOLD = _HUGE
        server = rpyc.utils.server.ThreadedServer(
            _make_service(self.work, self.changed),
            hostname="127.0.0.1",
            port=0,
            protocol_config=_CONFIG,
        )
        server.logger.setLevel("ERROR")
        self.start_thread(server.start)
        self.url = f"rpyc://127.0.0.1:{server.port}"


def _make_service(work: Work, changed: Callable[[int], None]) -> Any:
    """The class of which rpyc makes one object for each connection."""
    import rpyc

    def on_connect(self: Any, conn: Any) -> None:
        self.conn = conn
        # A client can ask for it; a server has no option.
        conn._channel.stream.sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        changed(1)

    def on_disconnect(self: Any, conn: Any) -> None:
        changed(-1)

    def add(self: Any, first: int, second: int) -> int:
        return work.add({"first": first, "second": second})

    def bounce(self: Any, first: int, second: int, depth: int) -> int:
        if depth and not hasattr(self, "there"):
            self.there = self.conn.root.bounce

        return work.bounce(
            {"first": first, "second": second, "depth": depth},
            lambda less: self.there(less["first"], less["second"], less["depth"]),
        )

    return type(
        "Service",
        (rpyc.Service,),
        {
            "on_connect": on_connect,
            "on_disconnect": on_disconnect,
            "exposed_add": add,
            "exposed_echo": lambda self, text: work.echo(text),
            "exposed_sleep": lambda self, seconds: work.sleep(seconds),
            "exposed_bounce": bounce,
        },
    )


class _RpycClient(Client):
    def __init__(self, url: str, kept: bool) -> None:
        import rpyc

        rpyc.Channel.COMPRESSION_THRESHOLD = _HUGE
        host, port = url.rpartition("/")[2].split(":")
        stream = rpyc.SocketStream.connect(host, int(port), nodelay=True)
        service = _make_service(Work(), lambda by: None)
        self._conn = rpyc.connect_stream(stream, service=service, config=_CONFIG)
        root = self._conn.root
        self._add = root.add if kept else lambda first, second: root.add(first, second)
        self._echo, self._bounce = root.echo, root.bounce
        self._async = {"add": rpyc.async_(root.add), "sleep": rpyc.async_(root.sleep)}

    def add(self, payload: Payload) -> int:
        return int(self._add(payload["first"], payload["second"]))

    def echo(self, text: str) -> str:
        return str(self._echo(text))

    def submit(self, name: str, payload: Any) -> Callable[[], Any]:
        arguments = (payload,) if name == "sleep" else (payload["first"], payload["second"])
        result = self._async[name](*arguments)
        return lambda: result.value

    def bounce(self, payload: Payload) -> int:
        return int(self._bounce(payload["first"], payload["second"], payload["depth"]))

    def close(self) -> None:
        self._conn.close()
