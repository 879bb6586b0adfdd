"""Two ends of a transport of any kind, driven by a test.

The end that a test reads from is the one it is about; the other end sends, with its own transport
or with bytes that no transport would write.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from collections.abc import Iterator
from typing import Any, Callable, NamedTuple, TypeVar

import pytest
import trustme

from tests.support import PATIENCE, Thread
from wse_sync.loop import loop
from wse_sync.outbox import Outbox
from wse_sync.protocol import Data
from wse_sync.transport import memory
from wse_sync.transport.accepted import AcceptedTransport
from wse_sync.transport.base import LinkLost, Transport
from wse_sync.transport.dialed import DialedTransport, NetworkDialer
from wse_sync.transport.stream import open_stream

EndT = TypeVar("EndT")

SUBPROTOCOL = "test-protocol"
LIMIT = 16 * 2**20
CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
UNKNOWN = 3
"""An opcode that means nothing (RFC 6455, 5.2)."""


class Certificates:
    """A certificate authority, and contexts that use it."""

    def __init__(self) -> None:
        self.authority = trustme.CA()

    def server(self, *names: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(*(names or ("localhost", "127.0.0.1"))).configure_cert(context)
        return context

    def client(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context


class Frame(NamedTuple):
    """What is seen on the wire."""

    opcode: int
    body: bytes


class WebSocketWire:
    """Frames of RFC 6455, 5.2. A client masks what it writes, a server does not."""

    def __init__(self, *, masked: bool) -> None:
        self._masked = masked

    def frame(
        self, opcode: int, body: bytes = b"", *, fin: bool = True, rsv: int = 0, length: int = -1
    ) -> bytes:
        """A frame; `length` is what its header says, whatever the body."""
        size = len(body) if length < 0 else length
        mask_bit = 0x80 if self._masked else 0
        head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
        if size < 126:
            head += bytes([mask_bit | size])
        elif size < 65536:
            head += struct.pack("!BH", mask_bit | 126, size)
        else:
            head += struct.pack("!BQ", mask_bit | 127, size)
        if not self._masked:
            return head + body
        key = b"\x12\x34\x56\x78"
        return head + key + _masked(body, key)

    def parse(self, data: bytes) -> list[Frame]:
        """The frames that somebody wrote; all of them are whole."""
        found, rest = self.split(data)
        assert not rest, "a torn frame"
        return found

    def split(self, data: bytes) -> tuple[list[Frame], bytes]:
        """The whole frames at the beginning of what somebody wrote, and the rest."""
        found, end = [], 0
        while len(data) >= end + 2:
            fin_and_opcode, size = data[end], data[end + 1] & 0x7F
            assert fin_and_opcode & 0xF0 == 0x80, "not a frame of its own"
            assert bool(data[end + 1] & 0x80) == self._masked
            at = end + 2
            if size > 125:
                width = 2 if size == 126 else 8
                size, at = int.from_bytes(data[at : at + width], "big"), at + width
            key = b"\0\0\0\0"
            if self._masked:
                key, at = data[at : at + 4], at + 4
            if len(data) < at + size:
                break
            end = at + size
            found.append(Frame(fin_and_opcode & 0x0F, _masked(data[at:end], key)))
        return found, data[end:]


class MemoryWire:
    """Frames of the transport without sockets."""

    LETTERS = ((TEXT, b"t"), (BINARY, b"b"), (CLOSE, b"c"), (PING, b"p"), (PONG, b"o"))

    def frame(self, opcode: int, body: bytes = b"", *, length: int = -1) -> bytes:
        size = len(body) if length < 0 else length
        return struct.pack("!cI", dict(self.LETTERS).get(opcode, b"?"), size) + body

    def parse(self, data: bytes) -> list[Frame]:
        opcodes = {letter: opcode for opcode, letter in self.LETTERS}
        found = []
        while data:
            letter, size = struct.unpack("!cI", data[:5])
            found.append(Frame(opcodes[letter], data[5 : 5 + size]))
            data = data[5 + size :]
        return found


def _masked(body: bytes, key: bytes) -> bytes:
    size = len(body)
    repeated = (key * (size // 4 + 1))[:size]
    mixed = int.from_bytes(body, "big") ^ int.from_bytes(repeated, "big")
    return mixed.to_bytes(size, "big")


class End:
    """One end: a transport that is attached to an outbox, as a link would do it.

    Attributes:
        transport: The transport.
        wire: How this end frames what it writes.
        written: What the transport wrote on its own account, after the upgrade.
    """

    def __init__(self, transport: Transport, wire: WebSocketWire | MemoryWire) -> None:
        self.transport = transport
        self.wire = wire
        self.written: list[bytes] = []
        self.upgrade = b""
        self._outbox = Outbox(transport.stream, loop, 2**30, lambda: None)
        transport.attach(self._write)
        if isinstance(transport, AcceptedTransport):
            self.upgrade = self.written.pop()

    def _write(self, data: bytes) -> bool:
        self.written.append(bytes(data))
        return self._outbox.write(data)

    def send(self, *messages: Data) -> None:
        """Sends messages as this transport frames them; never blocks."""
        for data in messages:
            self.send_bytes(self.transport.encode(data))

    def send_ping(self) -> None:
        self.send_bytes(self.transport.encode_ping())

    def send_close(self, code: int, reason: str = "") -> None:
        self.send_bytes(self.transport.encode_close(code, reason))

    def send_bytes(self, data: bytes) -> None:
        """Sends bytes, whatever they are; never blocks."""
        assert self._outbox.write(data)

    def send_frame(self, opcode: int, body: bytes = b"", **details: Any) -> None:
        """Sends a frame that is made for the test."""
        self.send_bytes(self.wire.frame(opcode, body, **details))

    def read(self, count: int = 1) -> list[Data]:
        """The next messages."""
        return Thread(lambda: [self.transport.read() for _ in range(count)]).result()

    def lost(self) -> LinkLost:
        """How the link ends; there is no message before that."""
        with pytest.raises(LinkLost) as caught:
            self.read()
        return caught.value

    def answers(self) -> list[Frame]:
        """What the transport wrote on its own account."""
        return self.wire.parse(b"".join(self.written))

    def flush(self) -> None:
        """Waits until everything has gone out."""
        assert self._outbox.wait_until_sent(PATIENCE)

    def abort(self) -> None:
        """Cuts the link from this side."""
        self.transport.stream.abort()

    def reset(self) -> None:
        """Ends the TCP connection with a reset."""
        sock: socket.socket = getattr(self.transport.stream, "_sock")  # noqa: B009
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()

    def close(self) -> None:
        """Gives the stream back."""
        self._outbox.close()


class Ends(NamedTuple):
    """The end that reads, and the one that sends to it."""

    near: End
    far: End


def memory_ends() -> Ends:
    here, there = memory.pair()
    for transport in (here, there):
        transport.max_message_bytes = LIMIT
    return Ends(End(here, MemoryWire()), End(there, MemoryWire()))


def socket_ends(
    certificates: Certificates | None = None,
    *,
    send_buffer_bytes: int | None = None,
    header: tuple[str, ...] = (),
) -> Ends:
    """The accepted and the dialed end of a connection over 127.0.0.1."""
    near, dialed = connect(
        lambda transport: End(transport, WebSocketWire(masked=False)),
        certificates,
        send_buffer_bytes=send_buffer_bytes,
        header=header,
    )
    return Ends(near, End(dialed, WebSocketWire(masked=True)))


def connect(
    attach: Callable[[AcceptedTransport], EndT],
    certificates: Certificates | None = None,
    *,
    send_buffer_bytes: int | None = None,
    header: tuple[str, ...] = (),
) -> tuple[EndT, DialedTransport]:
    """Connects over 127.0.0.1; `attach` is to finish the upgrade of the accepted transport."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> EndT:
            sock, _ = listener.accept()
            if send_buffer_bytes is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer_bytes)
            if certificates is not None:
                sock = certificates.server().wrap_socket(sock, server_side=True)
            environ = environ_of(read_request(sock))
            return attach(AcceptedTransport(environ, open_stream(sock), SUBPROTOCOL, LIMIT))

        accepting = Thread(accept)
        scheme, context = "ws", None
        if certificates is not None:
            scheme, context = "wss", certificates.client()
        options: dict[str, Any] = {"header": list(header)}
        if send_buffer_bytes is not None:
            options["sockopt"] = [(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer_bytes)]
        url = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/"
        dialed = NetworkDialer().dial(url, SUBPROTOCOL, PATIENCE, context, options)
        dialed.max_message_bytes = LIMIT
        return accepting.result(), dialed


def read_request(sock: socket.socket) -> bytes:
    """An HTTP request, or the head of an answer, up to its empty line."""
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        piece = sock.recv(1)
        if not piece:
            raise ConnectionError(f"the request ended: {data!r}")
        data += piece
    return data


def environ_of(request: bytes) -> dict[str, Any]:
    """What a WSGI server makes of the head of a request."""
    first, *lines = request.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ")
    headers = dict(line.split(": ", 1) for line in lines if line)
    named = {"HTTP_" + name.upper().replace("-", "_"): text for name, text in headers.items()}
    return {"REQUEST_METHOD": method, "PATH_INFO": target, "REMOTE_ADDR": "127.0.0.1", **named}


MakeEnds = Callable[[Certificates], Ends]


def _turned(ends: Ends) -> Ends:
    return Ends(ends.far, ends.near)


#: Every end that a test may be about, by name.
WEBSOCKETS: dict[str, MakeEnds] = {
    "accepted": lambda certificates: socket_ends(),
    "dialed": lambda certificates: _turned(socket_ends()),
    "accepted-tls": lambda certificates: socket_ends(certificates),
    "dialed-tls": lambda certificates: _turned(socket_ends(certificates)),
}
TRANSPORTS: dict[str, MakeEnds] = {"memory": lambda certificates: memory_ends(), **WEBSOCKETS}


@contextlib.contextmanager
def closing(ends: Ends) -> Iterator[Ends]:
    """Ends that are given back at the end."""
    try:
        yield ends
    finally:
        for end in ends:
            end.close()
