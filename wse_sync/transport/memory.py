"""A WebSocket without a socket: two transports in one process.

It takes the place of the network in tests and keeps the same promises: bytes in order, a bound on
what is under way, messages of a limited size, closes that are answered. It can also fall silent as
they do, so that neither end hears of the other any more, not even of its end. Framing is an opcode,
a length and a body. ``_Pipe._changed`` guards each direction; nothing else is locked while it is
held, but for the lock of the loop.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable
from typing import Any

from .. import clock
from ..protocol import Data
from .allowance import Allowance
from .base import LinkLost, Stream, Transport, cut_reason

__all__ = ["MemoryStream", "MemoryTransport", "pair"]

_HEADER = struct.Struct("!cI")
_TEXT, _BINARY, _PING, _PONG, _CLOSE = b"t", b"b", b"p", b"o", b"c"
_NO_CODE, _ABNORMAL = 1005, 1006
_PROTOCOL_ERROR, _BAD_DATA, _TOO_BIG = 1002, 1007, 1009


def pair(capacity: int = 64 * 1024) -> tuple[MemoryTransport, MemoryTransport]:
    """Two transports that are each other's other end.

    Args:
        capacity: Bytes under way in one direction before the sender has to wait.
    """
    there, back = _Pipe(capacity), _Pipe(capacity)
    return (
        MemoryTransport(MemoryStream(back, there)),
        MemoryTransport(MemoryStream(there, back)),
    )


class _Pipe:
    """One direction."""

    def __init__(self, capacity: int) -> None:
        self._changed = threading.Condition()
        self._bytes = bytearray()
        self._capacity = capacity
        self._has_reader = False  # just now, waiting
        self._silent = False
        self._cut_for_reader = self._cut_for_writer = False
        self._finished = False
        #: How often something was put in.
        self.puts = 0
        self._flush: Callable[[], None] | None = None
        self._loop: Any = None

    def put(self, data: bytes | memoryview) -> int:
        with self._changed:
            if self._cut_for_writer:
                raise LinkLost(_ABNORMAL)
            if self._silent:
                return len(data)
            self.puts += 1
            taken = min(len(data), self._capacity - len(self._bytes))
            self._bytes += data[:taken]
            self._changed.notify_all()
        return taken

    def get(self, size: int) -> bytes:
        with self._changed:
            self._has_reader = True
            self._changed.wait_for(lambda: self._bytes or self._is_over)
            self._has_reader = False
            data = bytes(self._bytes[:size])
            del self._bytes[:size]
            flush = self._flush
        if flush is not None:
            flush()
        return data

    def watch(self, loop: Any, flush: Callable[[], None]) -> None:
        with self._changed:
            self._flush = flush
            self._loop = loop
            due = len(self._bytes) < self._capacity or self._cut_for_writer
        if due:  # it was read, or cut, before we came to wait for that
            loop.call_later(0.0, flush)

    def unwatch(self) -> None:
        with self._changed:
            self._flush = None

    @property
    def _is_over(self) -> bool:
        """Whether the reader has nothing more to wait for."""
        return self._cut_for_reader or self._finished

    @property
    def is_quiet(self) -> bool:
        """Whether the reader waits, and in vain so far."""
        with self._changed:
            return self._has_reader and not self._bytes and not self._is_over

    def finish(self) -> None:
        """The end of what goes in; the reader hears of it, unless there is silence."""
        with self._changed:
            self._finished = not self._silent
            self._changed.notify_all()

    def silence(self) -> None:
        with self._changed:
            self._silent = True
            self._bytes.clear()

    def cut(self, *, by_reader: bool = False, by_writer: bool = False) -> None:
        """Ends it; the other end hears of that, unless there is silence."""
        with self._changed:
            self._cut_for_reader |= by_reader or not self._silent
            self._cut_for_writer |= by_writer or not self._silent
            if self._cut_for_writer and self._flush is not None:
                # As a socket that is shut down turns writable: the sender shall notice.
                self._loop.call_later(0.0, self._flush)
                self._flush = None
            self._changed.notify_all()


class MemoryStream(Stream):
    """One end of a pair, as bytes."""

    def __init__(self, incoming: _Pipe, outgoing: _Pipe) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self.last_received = clock.monotonic()

    def receive(self, size: int) -> bytes:
        data = self._incoming.get(size)
        self.last_received = clock.monotonic()
        return data

    def send(self, data: bytes | memoryview) -> int:
        return self._outgoing.put(data)

    def watch(self, loop: Any, flush: Callable[[], None]) -> None:
        self._outgoing.watch(loop, flush)

    def unwatch(self, loop: Any) -> None:
        self._outgoing.unwatch()

    @property
    def is_quiet(self) -> bool:
        return self._incoming.is_quiet

    @property
    def puts(self) -> int:
        """How often one of the ends sent something."""
        return self._incoming.puts + self._outgoing.puts

    def silence(self) -> None:
        """From now on nothing of what either end sends arrives, and no end of the other."""
        self._incoming.silence()
        self._outgoing.silence()

    def finish(self) -> None:
        self._outgoing.finish()

    def abort(self) -> None:
        self._incoming.cut(by_reader=True)
        self._outgoing.cut(by_writer=True)

    def cut(self) -> None:
        """Cuts the pipe for both ends, whatever silence there is."""
        for pipe in (self._incoming, self._outgoing):
            pipe.cut(by_reader=True, by_writer=True)

    def close(self) -> None:
        self.abort()


class MemoryTransport(Transport):
    """One end of a pair, as messages."""

    stream: MemoryStream
    subprotocol: str | None = None

    def __init__(self, stream: MemoryStream) -> None:
        self.stream = stream
        self.max_message_bytes = 16 * 2**20
        self.peer = "memory"
        self._source: Stream | Allowance = stream
        self._buffer = bytearray()

    def attach(self, write: Callable[[bytes], object]) -> None:
        self.write = write

    def _receive_from(self, source: Stream | Allowance) -> None:
        self._source = source

    def read(self) -> Data:
        while True:
            opcode, length = _HEADER.unpack(self._take(_HEADER.size))
            if opcode in (_TEXT, _BINARY) and length > self.max_message_bytes:
                raise self._fail(_TOO_BIG, "message too big")
            body = self._take(length)
            if opcode == _TEXT:
                return self._text(body)
            if opcode == _BINARY:
                return body
            if opcode == _PING:
                self.write(_frame(_PONG, body))
            elif opcode == _CLOSE:
                self.write(_frame(_CLOSE, body))
                code = struct.unpack("!H", body[:2])[0] if body else _NO_CODE
                raise LinkLost(code, body[2:].decode("utf-8", "replace"))
            elif opcode != _PONG:
                raise self._fail(_PROTOCOL_ERROR, "unknown opcode")

    def _text(self, body: bytes) -> str:
        try:
            return body.decode()
        except UnicodeDecodeError as error:
            raise self._fail(_BAD_DATA, "not UTF-8") from error

    def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            data = self._source.receive(64 * 1024)
            if not data:
                raise LinkLost(_ABNORMAL)
            self._buffer += data
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    @staticmethod
    def encode(data: Data) -> bytes:
        return _frame(_TEXT, data.encode()) if isinstance(data, str) else _frame(_BINARY, data)

    @staticmethod
    def encode_ping() -> bytes:
        return _frame(_PING, b"")

    @staticmethod
    def encode_close(code: int, reason: str) -> bytes:
        return _frame(_CLOSE, struct.pack("!H", code) + cut_reason(reason).encode())

    @staticmethod
    def is_close(frame: bytes) -> bool:
        return frame[:1] == _CLOSE


def _frame(opcode: bytes, body: bytes) -> bytes:
    return _HEADER.pack(opcode, len(body)) + body
