"""A protocol of one's own: binary frames, whole numbers as types, bytes without base64.

Run it with ``python examples/binary_protocol.py``. A frame is a head of six bytes (type, kind of
the payload, length of the stamp), the stamp, and the payload: JSON, or bytes as they are.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from typing import Any

from wse_sync import AuthRequest, Protocol, WseClient, WseConnection, WseServer

HEAD = struct.Struct("!IBB")
JSON, BYTES = 0, 1  # kinds of payload

# Types of this application. Those below 16 are the protocol's own.
PHOTO, THUMBNAIL, CHECKSUM, ROTATE = range(16, 20)


class BinaryProtocol(Protocol):
    """Packs frames as bytes. Both ends need it; the name makes sure of that."""

    name = "example-binary"
    internal_types: Mapping[str, int] = {
        "hi": 1,
        "challenge": 2,
        "welcome": 3,
        "call": 4,
        "response": 5,
        "response_error": 6,
    }

    def pack(self, type: Any, payload: Any = None, stamp: Any = None) -> bytes:
        if type not in range(2**32):
            raise ValueError(f"the type must be a number from 0 to 2**32 - 1, not {type!r}")
        if isinstance(payload, bytes):
            kind, body = BYTES, payload
        else:
            kind, body = JSON, json.dumps(payload, allow_nan=False).encode()
        mark = (stamp or "").encode()
        return HEAD.pack(type, kind, len(mark)) + mark + body

    def unpack(self, data: str | bytes) -> tuple[int, Any, str | None]:
        if isinstance(data, str):
            raise ValueError("a frame of this protocol is binary")
        type, kind, length = HEAD.unpack_from(data)
        body_at = HEAD.size + length
        stamp, body = data[HEAD.size : body_at].decode(), data[body_at:]
        if kind not in (JSON, BYTES):
            raise ValueError(f"there is no kind {kind} of payload")
        return type, body if kind == BYTES else json.loads(body), stamp or None


def identify(auth: AuthRequest) -> None:
    auth.accept(auth.identity, {"hello": auth.identity})


def main() -> None:
    with WseServer(identify, port=0, protocol=BinaryProtocol()) as server:

        @server.channel.on(PHOTO)
        def photo(conn: WseConnection, pixels: bytes) -> None:
            conn.send(THUMBNAIL, pixels[::4])

        @server.register(CHECKSUM)
        def checksum(conn: WseConnection, pixels: bytes) -> int:
            return zlib.crc32(pixels)

        with WseClient(server.url, protocol=BinaryProtocol()) as client:
            client.register(ROTATE, lambda pixels: pixels[::-1])
            inbox = client.channel.listen(THUMBNAIL)
            print("welcome:", client.connect("camera"))
            client.send(PHOTO, bytes(range(16)))
            print("message:", next(inbox))
            print("call to the server:", client.call(CHECKSUM, bytes(range(16))))
            [conn] = server.clients["camera"].conns.values()
            print("call to the client:", conn.call(ROTATE, b"\x01\x02\x03"))


if __name__ == "__main__":
    main()
