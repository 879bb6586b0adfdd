"""Strangers who keep connections open and never finish, while a real client comes and goes.

    python -m tests.reliability.strangers [--strangers 1000] [--logins 50]

prints for each way to be slow how long the client takes to get in and to call, and the same in
peace.
"""

from __future__ import annotations

import argparse
import resource
import selectors
import socket
import ssl
import sys
import threading
import time
from contextlib import suppress
from statistics import median
from typing import Any, NamedTuple

import trustme

from tests.support import HI, QUICK, accept_all, frame
from wse_sync import WseClient, WseServer

__all__ = ["FEW", "WAYS", "Seen", "Siege", "Way", "besiege"]

# Not that of the client: who comes from the address of an attacker shares the places of that.
SOURCE = "127.0.0.2"
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: wse-default-json\r\n\r\n"
)
HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"  # how a TLS handshake begins
_TICK = 0.5  # s between two drips of each
_PACE, _BATCH = 0.1, 50  # s, and how many come then: a siege is no flood of connections
PATIENCE = 60.0  # s; only bounds a failure

FEW: dict[str, Any] = {"max_connections": 50, "max_unauthenticated": 25}
"""Options of a server that has fewer threads than there are strangers."""


class Way(NamedTuple):
    """A way to be slow: what comes at once, what drips, and whether the server speaks TLS."""

    opening: bytes
    drip: bytes
    tls: bool = False


WAYS = {
    "silence": Way(b"", b""),
    "slow headers": Way(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", b"a"),
    "half-open upgrades": Way(UPGRADE, b""),
    "slow logins": Way(UPGRADE + b"\x81\xfe\x10\x00\0\0\0\0" + frame(HI, {})[:-2].encode(), b" "),
    "silence under TLS": Way(b"", b"", tls=True),
    "slow TLS handshakes": Way(HELLO, b"\0", tls=True),
}


class Siege:
    """So many strangers; whoever is turned away comes back.

    One thread, ``siege``, does it for all of them.

    Args:
        port: Of the server, on 127.0.0.1.
        way: How they are slow.
        count: How many there are.
    """

    def __init__(self, port: int, way: Way, count: int) -> None:
        self._address = ("127.0.0.1", port)
        self._way = way
        self._count = count
        self._selector = selectors.DefaultSelector()
        self._over = threading.Event()
        self._came = 0
        #: Whether all of them have come, and are there unless they were turned away.
        self.complete = threading.Event()
        #: How often one was turned away, or cut.
        self.refused = 0
        self._thread = threading.Thread(target=self._run, name="siege", daemon=True)

    def __enter__(self) -> Siege:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(PATIENCE)
        for sock in self._sockets():
            sock.close()
        self._selector.close()

    def _sockets(self) -> list[socket.socket]:
        keys = (self._selector.get_map() or {}).values()
        return [key.fileobj for key in keys if isinstance(key.fileobj, socket.socket)]

    def _run(self) -> None:
        comes_at = drips_at = 0.0
        while not self._over.is_set():
            if time.monotonic() >= comes_at:
                comes_at = time.monotonic() + _PACE
                for _ in range(min(_BATCH, self._count - len(self._sockets()))):
                    self._come()
            if self._came >= self._count:
                self.complete.set()
            if time.monotonic() >= drips_at:
                drips_at = time.monotonic() + _TICK
                for sock in self._sockets():
                    self._send(sock, self._way.drip)
            for key, _ in self._selector.select(_PACE):
                assert isinstance(key.fileobj, socket.socket)
                self._hear(key.fileobj)

    def _come(self) -> None:
        sock = socket.create_connection(self._address, PATIENCE, source_address=(SOURCE, 0))
        sock.setblocking(False)
        self._came += 1
        self._selector.register(sock, selectors.EVENT_READ)
        self._send(sock, self._way.opening)

    @staticmethod
    def _send(sock: socket.socket, data: bytes) -> None:
        with suppress(OSError):  # its end is heard as well
            sock.send(data)

    def _hear(self, sock: socket.socket) -> None:
        try:
            heard = sock.recv(4096)
        except OSError:
            heard = b""
        if not heard:
            self.refused += 1
            self._selector.unregister(sock)
            sock.close()


class Seen(NamedTuple):
    """What the client has seen, in seconds, and how often strangers were turned away."""

    logins: list[float]
    calls: list[float]
    refused: int


def besiege(way: Way, strangers: int, logins: int, **options: Any) -> Seen:
    """Has a client come and go while so many strangers are there.

    Args:
        way: How those are slow.
        strangers: How many; 0: peace.
        logins: How often the client comes in. It calls ten times, and goes.
        options: Of the server.
    """
    authority = trustme.CA()
    for_server, for_client = None, None
    if way.tls:
        for_server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(for_server)
        for_client = ssl.create_default_context()
        authority.configure_trust(for_client)
    seen: tuple[list[float], list[float]] = ([], [])
    with WseServer(accept_all, port=0, ssl_context=for_server, **options) as server:
        server.register("echo", lambda conn, payload: payload)
        assert server.port is not None
        with Siege(server.port, way, strangers) as siege:
            assert siege.complete.wait(PATIENCE)
            for number in range(logins):
                _visit(server.url, for_client, number, *seen)
            return Seen(*seen, siege.refused)


def _visit(
    url: str,
    context: ssl.SSLContext | None,
    number: int,
    logins: list[float],
    calls: list[float],
) -> None:
    # It comes back as clients do, if it is taken for one of them.
    client = WseClient(url, reconnect=True, backoff=QUICK, ssl_context=context)
    with client:
        begun = time.perf_counter()
        client.connect(f"user-{number}", timeout=PATIENCE)
        logins.append(time.perf_counter() - begun)
        for payload in range(10):
            begun = time.perf_counter()
            assert client.call("echo", payload, timeout=PATIENCE) == payload
            calls.append(time.perf_counter() - begun)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--strangers", type=int, default=1000)
    parser.add_argument("--logins", type=int, default=50)
    given = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 4 * given.strangers:  # both ends are in this process
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(4 * given.strangers, hard), hard))
    scenes: list[tuple[str, dict[str, Any]]] = [("", {}), (", threads for 200", FEW)]
    for label, options in scenes:
        for name, way in WAYS.items():
            for count in (0, given.strangers):
                seen = besiege(way, count, given.logins, **options)
                sys.stdout.write(
                    f"{count} x {name}{label}: in after {1000 * median(seen.logins):.1f} ms, at the"
                    f" most {1000 * max(seen.logins):.1f}; a call {1000 * median(seen.calls):.2f},"
                    f" at the most {1000 * max(seen.calls):.1f}; {seen.refused} turned away\n"
                )


if __name__ == "__main__":
    main()
