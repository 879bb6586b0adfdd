"""Whole frames, encoded by hand (RFC 6455, 5.2): nearly all that is sent.

The libraries' own encoders take longer than the rest of sending together. Everything else,
fragments and all of receiving, is theirs.
"""

from __future__ import annotations

import os
import struct

from ..protocol import Data
from .base import cut_reason

__all__ = ["BINARY", "CLOSE", "PING", "TEXT", "close_body", "encode", "encode_masked"]

TEXT, BINARY, CLOSE, PING = 0x1, 0x2, 0x8, 0x9

_FIN = 0x80
_MASKED = 0x80
_SHORT, _MEDIUM = 125, 0xFFFF  # the longest bodies whose length takes no, and two, bytes more


def encode(data: Data, opcode: int | None = None) -> bytes:
    """A frame of a server: a text message of ``str``, a binary one of ``bytes``."""
    body, opcode = _body(data, opcode)
    return _header(opcode, len(body), 0) + body


def encode_masked(data: Data, opcode: int | None = None) -> bytes:
    """A frame of a client: masked with four random bytes (RFC 6455, 5.3)."""
    body, opcode = _body(data, opcode)
    size = len(body)
    mask = os.urandom(4)
    # As one number each: the fastest exclusive-or that plain Python has, at every size.
    masks = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
    masked = (int.from_bytes(body, "big") ^ masks).to_bytes(size, "big")
    return _header(opcode, size, _MASKED) + mask + masked


def close_body(code: int, reason: str) -> bytes:
    """The body of a close frame (RFC 6455, 5.5.1); the reason is cut to what it holds."""
    return struct.pack("!H", code) + cut_reason(reason).encode()


def _body(data: Data, opcode: int | None) -> tuple[bytes, int]:
    if isinstance(data, str):
        return data.encode(), TEXT
    return data, BINARY if opcode is None else opcode


def _header(opcode: int, size: int, masked: int) -> bytes:
    if size <= _SHORT:
        return bytes((_FIN | opcode, masked | size))
    if size <= _MEDIUM:
        return struct.pack("!BBH", _FIN | opcode, masked | 126, size)
    return struct.pack("!BBQ", _FIN | opcode, masked | 127, size)
