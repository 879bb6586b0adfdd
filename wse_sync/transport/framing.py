"""The fast path: whole frames by hand (RFC 6455, 5.2), which is nearly all that travels.

The libraries take longer to frame and to parse than everything else of a call together. So whole
frames are encoded here, and whole text messages are taken out of the stream here. Everything else
that comes (fragments, binary messages, pings, closes, whatever is wrong) stays where it is, for the
library: its answers and its errors are the only ones.

With ``WSE_SYNC_FRAMING=library`` in the environment all of receiving is left to the libraries.
"""

from __future__ import annotations

import os
import struct

from ..protocol import Data
from .allowance import Allowance
from .base import Glance, LinkLost, Stream, assign, cut_reason

__all__ = [
    "BINARY",
    "CLOSE",
    "CONTINUATION",
    "FAST",
    "PING",
    "TEXT",
    "Input",
    "close_body",
    "encode",
    "encode_masked",
    "is_close",
]

#: Whether text messages are taken out of the stream here.
FAST = os.environ.get("WSE_SYNC_FRAMING") != "library"

CONTINUATION, TEXT, BINARY, CLOSE, PING = 0x0, 0x1, 0x2, 0x8, 0x9

_FIN = 0x80
_MASKED = 0x80
_SHORT, _MEDIUM = 125, 0xFFFF  # the longest bodies whose length takes no, and two, bytes more
_LENGTH_2, _LENGTH_8 = 126, 127  # say that the length takes two, or eight, bytes more
_MASK_BYTES = 4
_LARGE = 64 * 1024  # bytes; from there on translate() masks faster than exclusive-or
_WHOLE_TEXT = _FIN | TEXT
_MOST_BYTES = 1024 * 1024  # to read at once
_GLANCE_BYTES = 64 * 1024  # likewise, by a glance, which reads once
_ABNORMAL = 1006


class Input:
    """What a stream has brought and nobody has taken yet. One thread at a time.

    Args:
        stream: Where it comes from.
        masked: Whether frames of the other side are masked: those of clients are.
        least: Bytes to read at once; a read that came back full doubles the next one.
    """

    __slots__ = ("_arrived", "_buffer", "_least", "_mask", "_size", "_start", "_stream", "source")

    def __init__(self, stream: Stream, *, masked: bool, least: int) -> None:
        self._stream = stream
        #: What is read from: the stream, or as much of it as may come.
        self.source: Stream | Allowance = stream
        self._mask = _MASKED if masked else 0
        self._least = self._size = least
        self._buffer = b""  # taken up to _start
        self._start = 0
        self._arrived: list[bytes] | None = None  # what glance() has read since

    def take_text(self, max_bytes: int) -> str | None:
        """Waits for the next frame, and takes it if it is a whole text message.

        Args:
            max_bytes: A longer message is not taken.

        Returns:
            The text; None if the next frame is for the library.

        Raises:
            LinkLost: The stream has ended.
        """
        self._fill(2)
        body, size = self._measure_text()
        if size > max_bytes or body < 0:
            return None
        try:
            self._fill(body + size)
        except LinkLost:
            return None  # what has come may be wrong already; if it is not, the end comes again
        text = self._text(body, size)
        if text is not None:
            self._advance(body + size)
        return text

    def glance(self, max_bytes: int, seconds: float) -> Glance | None:
        """Looks whether the next frame is a whole text message and comes soon; takes nothing.

        When a signal handler raises (Ctrl-C), everything stays as it is.

        Args:
            max_bytes: A longer message does not count.
            seconds: What "soon" is.

        Returns:
            The text, and how to take it; None if there is none or not all of it, if it is for the
            library, or if the stream has ended: whoever reads next will see.
        """
        if not self._is_whole() and not (self._gather(seconds) and self._is_whole()):
            return None
        body, size = self._measure_text()
        if size > max_bytes or body < 0:
            return None
        text = self._text(body, size)
        if text is None:
            return None
        return Glance(text, (self, "_start", self._start + body + size))

    def _is_whole(self) -> bool:
        """Whether all of the next frame is there."""
        there = len(self._buffer) - self._start
        if there < 2:
            return False
        length = self._buffer[self._start + 1] & ~_MASKED
        if there < (2 if length <= _SHORT else 4 if length == _LENGTH_2 else 10):
            return False
        size, body, _ = self._measure(length)
        return there >= body + size

    def _gather(self, seconds: float) -> bool:
        """Adds what comes soon to the buffer; False if nothing did."""
        if self._arrived is None:
            self._arrived = []
        if not self._arrived and not self._stream.gather(self._arrived, _GLANCE_BYTES, seconds):
            return False
        self._join()
        return True

    def _join(self) -> None:
        """Puts what has arrived behind what was there; in one step, whoever is interrupted."""
        assert self._arrived is not None
        whole = self._buffer[self._start :] + b"".join(self._arrived)
        assign((self, "_buffer", whole), (self, "_start", 0), (self, "_arrived", None))

    def peek(self) -> tuple[int, bool, int]:
        """Waits for the next frame; says its opcode, whether it is final, and its bytes in all."""
        self._fill(2)
        first, second = self._buffer[self._start : self._start + 2]
        size, body, _ = self._measure(second & ~_MASKED)
        if self._mask != second & _MASKED:
            body += -_MASK_BYTES if self._mask else _MASK_BYTES
        return first & 0x0F, bool(first & _FIN), body + size

    def take(self, size: int) -> bytes:
        """Waits for so many bytes, and takes them."""
        self._fill(size)
        data = self._buffer[self._start : self._start + size]
        self._advance(size)
        return data

    def take_some(self, size: int) -> bytes:
        """Takes what is there, at most so many bytes; waits if nothing is."""
        self._fill(1)
        data = self._buffer[self._start : self._start + size]
        self._advance(len(data))
        return data

    def _measure(self, length: int) -> tuple[int, int, bool]:
        """How long a body is, where it begins, and whether that is said as briefly as it must."""
        body = 2
        least = 0
        size = length
        if length == _LENGTH_2:
            body, least = 4, _SHORT + 1
        elif length == _LENGTH_8:
            body, least = 10, _MEDIUM + 1
        if body > 2:
            self._fill(body)
            start = self._start
            size = int.from_bytes(self._buffer[start + 2 : start + body], "big")
        if self._mask:
            body += _MASK_BYTES
        return size, body, size >= least

    def _measure_text(self) -> tuple[int, int]:
        """Where the body of a whole text message begins and how long it is; or where is -1."""
        length = self._buffer[self._start + 1] ^ self._mask
        if self._buffer[self._start] != _WHOLE_TEXT or length > _LENGTH_8:
            return -1, 0
        if length <= _SHORT:
            return 2 + _MASK_BYTES if self._mask else 2, length
        size, body, is_minimal = self._measure(length)
        return (body if is_minimal else -1), size

    def _text(self, body: int, size: int) -> str | None:
        """The text of the frame at the front; None if it is none."""
        buffer, start = self._buffer, self._start + body
        data = buffer[start : start + size]
        try:
            if self._mask:
                return str(_mask(data, buffer[start - _MASK_BYTES : start]), "utf-8")
            return str(data, "utf-8")
        except UnicodeDecodeError:
            return None

    def _fill(self, size: int) -> None:
        """Waits until so many bytes are there."""
        if self._arrived:  # a glance was interrupted
            self._join()
        missing = size - (len(self._buffer) - self._start)
        if missing <= 0:
            return
        left = self._buffer[self._start :]
        self._buffer, self._start = left, 0  # likewise, of one that was taken after a glance
        piece = self._receive(missing)
        if len(piece) >= missing:
            self._buffer, self._start = left + piece if left else piece, 0
            return
        # Not a list of pieces: they may be tiny, and each has its price.
        gathered = bytearray(left)
        try:
            while True:
                gathered += piece
                missing -= len(piece)
                if missing <= 0:
                    return
                piece = self._receive(missing)
        finally:
            self._buffer, self._start = bytes(gathered), 0

    def _receive(self, missing: int) -> bytes:
        wanted = max(self._size, min(missing, _MOST_BYTES))  # much is read in large pieces
        piece = self.source.receive(wanted)
        if not piece:
            raise LinkLost(_ABNORMAL)
        if len(piece) == wanted:
            self._size = min(self._size * 2, _MOST_BYTES // 4)
        elif self._size > self._least:
            self._size //= 2
        return piece

    def _advance(self, size: int) -> None:
        self._start += size
        if self._start == len(self._buffer):
            self._buffer, self._start = b"", 0  # or an idle link would keep its last message


def encode(data: Data, opcode: int | None = None) -> bytes:
    """A frame of a server: a text message of ``str``, a binary one of ``bytes``."""
    if isinstance(data, str):
        body = data.encode()
        if len(body) <= _SHORT:
            return _TEXT_HEADERS[len(body)] + body
        return _header(TEXT, len(body), 0) + body
    body, opcode = _body(data, opcode)
    return _header(opcode, len(body), 0) + body


def encode_masked(data: Data, opcode: int | None = None) -> bytes:
    """A frame of a client: masked with four random bytes (RFC 6455, 5.3)."""
    body, opcode = _body(data, opcode)
    key = os.urandom(_MASK_BYTES)
    return _header(opcode, len(body), _MASKED) + key + _mask(body, key)


def close_body(code: int, reason: str) -> bytes:
    """The body of a close frame (RFC 6455, 5.5.1); the reason is cut to what it holds."""
    return struct.pack("!H", code) + cut_reason(reason).encode()


def is_close(frame: bytes) -> bool:
    """Whether a frame of ours is a close."""
    return frame[0] == _FIN | CLOSE


def _body(data: Data, opcode: int | None) -> tuple[bytes, int]:
    if isinstance(data, str):
        return data.encode(), TEXT
    return data, BINARY if opcode is None else opcode


def _mask(data: bytes, key: bytes) -> bytes | bytearray:
    """Masks and unmasks (RFC 6455, 5.3)."""
    size = len(data)
    if size > _LARGE:
        masked = bytearray(size)
        for place, byte in enumerate(key):
            table = bytes(map(byte.__xor__, range(256)))
            masked[place::_MASK_BYTES] = data[place::_MASK_BYTES].translate(table)
        return masked
    # As one number each: the fastest exclusive-or that plain Python has, up to that size.
    keys = int.from_bytes((key * (size // _MASK_BYTES + 1))[:size], "big")
    return (int.from_bytes(data, "big") ^ keys).to_bytes(size, "big")


_TEXT_HEADERS = [bytes((_WHOLE_TEXT, size)) for size in range(_SHORT + 1)]


def _header(opcode: int, size: int, masked: int) -> bytes:
    if size <= _SHORT:
        return bytes((_FIN | opcode, masked | size))
    if size <= _MEDIUM:
        return struct.pack("!BBH", _FIN | opcode, masked | 126, size)
    return struct.pack("!BBQ", _FIN | opcode, masked | 127, size)
