"""Many clients in one thread: raw sockets that say hi, and then count bytes."""

from __future__ import annotations

import selectors
import socket
from urllib.parse import urlsplit

from wse_sync import JsonProtocol

__all__ = ["Crowd", "frame_size"]

_PATIENCE = 60.0  # s without a byte before a figure is given up
_PROTOCOL = JsonProtocol()
_UPGRADE = (
    "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    "Sec-WebSocket-Protocol: {protocol}\r\n\r\n"
)


class Crowd:
    """Clients whose cids are "0", "1", and so on. They read only when told to, and never write."""

    def __init__(self, url: str) -> None:
        self._host = urlsplit(url).netloc
        self._socks: list[socket.socket] = []
        self._selector = selectors.DefaultSelector()

    def grow(self, size: int) -> None:
        """Connects until there are ``size``."""
        while len(self._socks) < size:
            sock = _connect(self._host, str(len(self._socks)))
            self._socks.append(sock)
            self._selector.register(sock, selectors.EVENT_READ)

    def receive(self, size: int) -> None:
        """Reads until each that has not stopped has got ``size`` bytes."""
        left = {key.fd: size for key in self._selector.get_map().values()}
        while left:
            ready = self._selector.select(_PATIENCE)
            if not ready:
                raise TimeoutError(f"{len(left)} connections did not get what was sent")
            for key, _ in ready:
                assert isinstance(key.fileobj, socket.socket)
                left[key.fd] -= len(key.fileobj.recv(size))
                if not left[key.fd]:
                    del left[key.fd]

    def stop_first(self) -> None:
        """Has the first client read no more."""
        self._selector.unregister(self._socks[0])

    def resume_first(self, size: int) -> None:
        """Has it read what it missed, ``size`` bytes, and go on with the others."""
        while size:
            size -= len(self._socks[0].recv(min(size, 2**20)))
        self._selector.register(self._socks[0], selectors.EVENT_READ)

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()
        for sock in self._socks:
            sock.close()


def frame_size(payload: str) -> int:
    """How many bytes a message with this payload is on the wire (RFC 6455, 5.2)."""
    size = len(_PROTOCOL.pack("news", payload))
    return size + (2 if size < 126 else 4 if size < 65536 else 10)


def _connect(host: str, identity: str) -> socket.socket:
    name, port = host.split(":")
    sock = socket.create_connection((name, int(port)), _PATIENCE)
    sock.sendall(_UPGRADE.format(host=host, protocol=_PROTOCOL.name).encode())
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += sock.recv(1)
    types = _PROTOCOL.internal_types
    hi = _PROTOCOL.pack(types["hi"], {"identity": identity}).encode()
    # A text frame, masked with zeros: short enough for a length of seven bits.
    sock.sendall(bytes((0x81, 0x80 | len(hi), 0, 0, 0, 0)) + hi)
    _, length = sock.recv(2, socket.MSG_WAITALL)
    welcome = sock.recv(length, socket.MSG_WAITALL)
    if _PROTOCOL.unpack(welcome).type != types["welcome"]:
        raise ConnectionError(f"{identity} is not welcome")
    return sock
