"""Sockets as streams.

Threads: one receives, any may send and abort; only the receiver closes. ``_lock`` guards the file
descriptor against a close between its lookup and its use; :class:`WaitingStream` also holds it
around ``recv`` and ``send``, which do not block there. Taken last, under any other lock.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any

from .. import clock
from ..forks import keep_from_children
from .base import AT_ONCE, Bytes, LinkLost, Stream

__all__ = ["SocketStream", "WaitingStream", "open_stream"]

_ABNORMAL = 1006
# TLS takes a piece whole or not at all, and says nothing of its progress: so, pieces.
_PIECE_BYTES = 64 * 1024


def open_stream(sock: socket.socket, *, owned: bool = True) -> Stream:
    """Makes the stream that fits a connected socket.

    Args:
        sock: A plain socket or an ``SSLSocket`` after its handshake.
        owned: False if somebody else closes it (a WSGI server).
    """
    # gevent's sockets wait in send() unless they are non-blocking, whatever the flags say.
    is_gevent = type(sock).__module__.startswith("gevent")
    plain = hasattr(socket, "MSG_DONTWAIT") and not isinstance(sock, ssl.SSLSocket)
    return SocketStream(sock, owned) if plain and not is_gevent else WaitingStream(sock, owned)


class SocketStream(Stream):
    """A plain socket: blocking to receive, ``MSG_DONTWAIT`` to send."""

    can_gather = hasattr(select, "poll")
    sends_in_one_step = True

    def __init__(self, sock: socket.socket, owned: bool = True) -> None:
        self._sock = sock
        self._owned = owned
        self._lock = threading.Lock()
        self._closed = False
        self._poll: Any = None  # made by the first who looks whether something has come
        self.last_received = clock.monotonic()
        keep_from_children(sock)
        self._prepare()

    def _prepare(self) -> None:
        # A timeout would make sends partial and end links that are merely idle.
        self._sock.settimeout(None)
        if self._sock.family in (socket.AF_INET, socket.AF_INET6):
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def receive(self, size: int) -> bytes:
        try:
            data = self._sock.recv(size)
        except OSError as error:
            raise LinkLost(_ABNORMAL) from error
        self.last_received = clock.monotonic()
        return data

    def gather(self, pieces: list[bytes], size: int, seconds: float) -> bool:
        if not self.can_gather:
            return False
        if self._poll is None:
            poll = select.poll()
            poll.register(self._sock, select.POLLIN)
            self._poll = poll
        if not self._poll.poll(1000.0 * seconds):
            return False
        try:
            pieces.extend(map(self._sock.recv, (size,), (AT_ONCE,)))  # in one step, for Ctrl-C
        except OSError:
            return False
        self.last_received = clock.monotonic()
        return any(pieces)

    @property
    def offer(self) -> Callable[[Bytes, int], int]:
        return self._sock.send

    def send(self, data: Bytes) -> int:
        try:
            return self._sock.send(data, AT_ONCE)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise LinkLost(_ABNORMAL) from error

    def watch(self, loop: Any, flush: Callable[[], None]) -> None:
        loop.watch(self._sock, flush)

    def unwatch(self, loop: Any) -> None:
        loop.unwatch(self._sock)

    def finish(self) -> None:
        with self._lock:
            self._shut_down(socket.SHUT_WR)

    def abort(self) -> None:
        with self._lock:
            self._shut_down()

    def close(self) -> None:
        with self._lock:
            self._shut_down()
            self._closed = True
            if self._owned:
                self._sock.close()

    def _shut_down(self, how: int = socket.SHUT_RDWR) -> None:
        if self._closed:
            return
        try:
            # Not SSLSocket.shutdown: it drops the TLS state under a thread that is in recv.
            socket.socket.shutdown(self._sock, how)
        except OSError:
            return  # the other side was first


class WaitingStream(SocketStream):
    """A non-blocking socket: waits until it is readable, then reads and writes under one lock.

    For TLS, where two threads must never be inside one object, for gevent, and for platforms
    without ``MSG_DONTWAIT``.
    """

    can_gather = False  # what TLS has read ahead would have to be asked for as well
    sends_in_one_step = False  # that of TLS is many

    def _prepare(self) -> None:
        super()._prepare()
        self._sock.setblocking(False)

    @property
    def offer(self) -> Callable[[Bytes, int], int]:
        return self._offer

    def receive(self, size: int) -> bytes:
        while True:
            try:
                with self._lock:
                    data = self._sock.recv(size)
                self.last_received = clock.monotonic()
                return data
            except (BlockingIOError, ssl.SSLWantReadError):
                to_write = False
            except ssl.SSLWantWriteError:
                to_write = True
            except ssl.SSLEOFError:
                return b""
            except (OSError, ValueError) as error:
                raise LinkLost(_ABNORMAL) from error
            self._wait(to_write)

    def send(self, data: Bytes) -> int:
        try:
            with self._lock:
                return self._sock.send(data[:_PIECE_BYTES])
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0
        except (OSError, ValueError) as error:
            raise LinkLost(_ABNORMAL) from error

    def _wait(self, to_write: bool) -> None:
        """Until the socket is ready, or shut down by ``abort``."""
        if hasattr(select, "poll"):
            poll = select.poll()
            poll.register(self._sock, select.POLLOUT if to_write else select.POLLIN)
            poll.poll()
        else:
            idle: list[socket.socket] = []
            waiting = [self._sock]
            select.select(*((idle, waiting) if to_write else (waiting, idle)), idle)
