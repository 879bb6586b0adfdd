"""Inputs that are made to cost much, what each has to lead to, and what it costs.

    python -m tests.hostile

prints the time of the processor that each takes at either end, next to that of a plain message.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from typing import Callable, NamedTuple, Union

from tests.support import RawClient, RawPeers, Thread, accept_all, payloads
from tests.transport.ends import BINARY, CLOSE, CONT, PING, PONG, TEXT, Frame, WebSocketWire
from wse_sync import WseClient, WseServer

__all__ = ["ENDS", "INPUTS", "MEBI", "PLAIN", "End", "Input", "cost", "peak", "server_end"]

MEBI = 2**20
END = b"the end of the input"

Endpoint = Union[WseServer, WseClient]


class Input(NamedTuple):
    """What is sent after the welcome.

    Attributes:
        make: Makes the bytes, framed as the wire says.
        code: With which the link has to be closed; None: it is a message.
    """

    make: Callable[[WebSocketWire], bytes]
    code: int | None = None


def message(before: str, unit: str, size: int, after: str) -> Callable[[WebSocketWire], bytes]:
    """A text message ``["x",…]`` that repeats something up to so many bytes."""
    body = f'["x",{before}{unit * (size // len(unit.encode()))}{after}]'.encode()
    return lambda wire: wire.frame(TEXT, body)


def nested(opening: str, closing: str, depth: int) -> Callable[[WebSocketWire], bytes]:
    body = f'["x",{opening * depth}1{closing * depth}]'.encode()
    return lambda wire: wire.frame(TEXT, body)


def in_fragments(body: bytes, count: int) -> Callable[[WebSocketWire], bytes]:
    """A message whose payload comes in so many fragments with this body."""

    def make(wire: WebSocketWire) -> bytes:
        first, last = wire.frame(TEXT, b'["x","', fin=False), wire.frame(CONT, b'"]')
        return first + wire.frame(CONT, body, fin=False) * count + last

    return make


def flood(opcode: int, body: bytes = b"") -> Callable[[WebSocketWire], bytes]:
    return lambda wire: wire.frame(opcode, body) * 100_000


def bomb(opcode: int) -> Callable[[WebSocketWire], bytes]:
    """100 MB of nothing, as permessage-deflate sends them (RFC 7692)."""
    packer = zlib.compressobj(9, wbits=-15)
    packed = packer.compress(bytes(100 * MEBI)) + packer.flush(zlib.Z_SYNC_FLUSH)
    return lambda wire: wire.frame(opcode, packed[:-4], rsv=4)


#: What all others are compared with: it takes 40 ms where the figures of the docs are from.
PLAIN = Input(message('"', "a", 10 * MEBI, '"'))

_PROTOCOL = 1000  # wse.protocol-error

INPUTS: dict[str, Input] = {
    "arrays, 100,000 deep": Input(nested("[", "]", 100_000), _PROTOCOL),
    "objects, 100,000 deep": Input(nested('{"a":', "}", 100_000), _PROTOCOL),
    "arrays that do not end": Input(message("", "[", 100_000, ""), _PROTOCOL),
    "an integer of 10 MB": Input(message("", "9", 10 * MEBI, ""), _PROTOCOL),
    "a negative integer of 10 MB": Input(message("-", "9", 10 * MEBI, ""), _PROTOCOL),
    "a float of 10 MB": Input(message("0.", "1", 10 * MEBI, "")),
    "a float of 10 MB that is none": Input(message("", "9", 10 * MEBI, ".5"), _PROTOCOL),
    "an exponent of 10 MB": Input(message("1e", "9", 10 * MEBI, ""), _PROTOCOL),
    "a number beyond all floats": Input(message("1e999", " ", 1, ""), _PROTOCOL),
    "a key, 100,000 times": Input(message('{"a":1', ',"a":1', 600_000, "}")),
    "100,000 keys": Input(
        message("{" + ",".join(f'"{number}":1' for number in range(100_000)), " ", 1, "}")
    ),
    "1 MB of lone surrogates": Input(message('"', "\\ud800", MEBI, '"')),
    "1 MB of escapes": Input(message('"', "\\\\", MEBI, '"')),
    "10 MB that are not UTF-8 at last": Input(
        lambda wire: wire.frame(TEXT, b'["x","' + b"a" * (10 * MEBI) + b'\xff"]'), 1007
    ),
    "10 MB that are not JSON at last": Input(message('"', "a", 10 * MEBI, '"}'), _PROTOCOL),
    "20,000 fragments of a byte": Input(in_fragments(b"x", 20_000), 1008),
    "20,000 empty fragments": Input(in_fragments(b"", 20_000), 1008),
    "20,000 fragments of 2 bytes, binary": Input(
        lambda wire: (
            wire.frame(BINARY, b"[", fin=False) + wire.frame(CONT, b"  ", fin=False) * 20_000
        ),
        1008,
    ),
    "100,000 pings": Input(flood(PING), 1008),
    "100,000 pings of 125 bytes": Input(flood(PING, b"x" * 125), 1008),
    "100,000 pongs": Input(flood(PONG), 1008),
    "a compressed bomb": Input(bomb(TEXT), 1002),
    "a compressed bomb, binary": Input(bomb(BINARY), 1002),
}


class End(NamedTuple):
    """An end after its welcome, and the connection to it.

    Attributes:
        endpoint: The server or the client.
        sock: The other side of its connection.
        there: How the other side frames.
        back: How the endpoint does.
    """

    endpoint: Endpoint
    sock: socket.socket
    there: WebSocketWire
    back: WebSocketWire

    def feed(self, data: bytes) -> int | None:
        """Sends an input; returns the code of the close that it led to, or None.

        Then all of it was read. What goes to handlers may still be on its way there.
        """
        # The end may have had enough, and be gone.
        with contextlib.suppress(ConnectionError):
            self.sock.sendall(data + self.there.frame(PING, END))
        last = self._read()
        if last.opcode == PONG:
            return None
        with contextlib.suppress(ConnectionError):
            self.sock.sendall(self.there.frame(CLOSE, last.body[:2]))
        while self._received():
            continue
        return int(struct.unpack("!H", last.body[:2])[0])

    def _read(self) -> Frame:
        """The close, or the pong of our ping."""
        torn = b""
        while True:
            piece = self._received()
            assert piece, f"an end without a close, behind {torn[-200:]!r}"
            frames, torn = self.back.split(torn + piece)
            for last in frames[-1:]:
                if last.opcode == CLOSE or last == Frame(PONG, END):
                    return last

    def _received(self) -> bytes:
        try:
            return self.sock.recv(MEBI)
        except ConnectionError:
            return b""


@contextlib.contextmanager
def server_end(server: WseServer | None = None) -> Iterator[End]:
    """A server that has welcomed somebody."""
    with contextlib.ExitStack() as stack:
        if server is None:
            server = stack.enter_context(WseServer(accept_all, port=0))
        raw = RawClient(server.url)
        stack.callback(raw.abort)
        raw.login("ann")
        assert raw.socket.sock is not None
        there, back = WebSocketWire(masked=True), WebSocketWire(masked=False)
        yield End(server, raw.socket.sock, there, back)


@contextlib.contextmanager
def client_end() -> Iterator[End]:
    """A client that was welcomed."""
    with RawPeers() as peers:
        client = WseClient(peers.url)
        connecting = Thread(lambda: client.connect("ann"))
        peer = peers.next()
        peer.welcome()
        connecting.result()
        try:
            there, back = WebSocketWire(masked=False), WebSocketWire(masked=True)
            yield End(client, peer.socket, there, back)
        finally:
            peer.abort()
            client.disconnect()


ENDS: dict[str, Callable[[], contextlib.AbstractContextManager[End]]] = {
    "server": server_end,
    "client": client_end,
}


def cost(end: str, tried: Input) -> float:
    """Seconds of the processor that an input takes at an end, without those of who sends it."""
    with ENDS[end]() as opened:
        received = payloads(opened.endpoint, "x")
        data = tried.make(opened.there)
        before = spent_elsewhere()
        code = opened.feed(data)
        if code is None:
            received.wait_for(1)
        spent = spent_elsewhere() - before
        assert code == tried.code
    return spent


def spent_elsewhere() -> float:
    """Seconds of the processor that the other threads of this process have taken."""
    return time.process_time() - time.thread_time()


def peak(end: str, tried: Input) -> tuple[int, int]:
    """The most bytes of Python that an input takes at an end at a time, and its own bytes."""
    with ENDS[end]() as opened:
        data = tried.make(opened.there)
        tracemalloc.start()
        try:
            opened.feed(data)
            return tracemalloc.get_traced_memory()[1], len(data)
        finally:
            tracemalloc.stop()


def main() -> None:
    for name, tried in {"a plain message of 10 MB": PLAIN, **INPUTS}.items():
        told = [name]
        for end in ENDS:
            memory, size = peak(end, tried)
            least = min(cost(end, tried) for _ in range(5))
            told.append(f"{1000 * least:.1f} ms, {memory / MEBI:.1f} MB at a {end}")
        told.append(f"{size} bytes")
        sys.stdout.write("; ".join(told) + "\n")


if __name__ == "__main__":
    main()
