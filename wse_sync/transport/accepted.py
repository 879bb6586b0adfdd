"""The server's end of a WebSocket: simple-websocket, and the socket that it reads from.

Whole text messages are taken out of the stream before it (``framing.py``); the rest is its own.
simple-websocket wants to start a thread that reads, and to write to the socket from it. Here its
read loop runs in the thread that calls :meth:`AcceptedTransport.read`: it is given a thread class
that only remembers what to run, and a socket whose ``recv`` brings one piece of input and then ends
the loop. What it sends goes to ``write``. No thread of its own, no lock needed: only the reader
comes here, except for ``encode…``, which keeps no state.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import simple_websocket
from wsproto.connection import ConnectionState
from wsproto.utilities import ProtocolError

from ..constants import WSE_REASON
from ..protocol import Data
from . import framing
from .allowance import Allowance
from .base import Glance, LinkLost, Stream, Transport
from .bucket import Bucket

__all__ = ["AcceptedTransport", "HandshakeFailed"]

_RECEIVE_BYTES = 1024  # what small frames need; each idle connection has so many
_NO_CODE, _POLICY, _TOO_BIG = 1005, 1008, 1009


class HandshakeFailed(Exception):
    """The request is no upgrade that can be accepted."""


class AcceptedTransport(Transport):
    """A WebSocket that came in as a WSGI request.

    Args:
        environ: Of the request.
        stream: The socket of the request.
        subprotocol: The one to select, if the client offers it.
        max_message_bytes: A longer message ends the link with 1009.
    """

    def __init__(
        self, environ: dict[str, Any], stream: Stream, subprotocol: str, max_message_bytes: int
    ) -> None:
        self.stream = stream
        self.peer = str(environ.get("REMOTE_ADDR", ""))
        self._environ = environ
        self._subprotocol = subprotocol
        self._max_message_bytes = max_message_bytes
        self._input = framing.Input(stream, masked=True, least=_RECEIVE_BYTES)
        self._owed = 0  # so many bytes are for simple-websocket
        self._in_fragments = False
        self._bucket = Bucket()
        self._ws: Any = None

    @property
    def max_message_bytes(self) -> int:
        return self._max_message_bytes

    @max_message_bytes.setter
    def max_message_bytes(self, limit: int) -> None:
        self._max_message_bytes = limit
        if self._ws is not None:
            self._ws.max_message_size = limit

    @property
    def subprotocol(self) -> str | None:
        """What was agreed on; None if the client did not offer it."""
        agreed = self._ws.subprotocol
        return None if agreed is None else str(agreed)

    def attach(self, write: Callable[[bytes], object]) -> None:
        self.write = write
        self._socket = _Socket(self)
        environ = dict(self._environ)
        # No permessage-deflate: 280 KB more a connection, and a small frame inflates past any
        # limit.
        environ.pop("HTTP_SEC_WEBSOCKET_EXTENSIONS", None)
        environ["werkzeug.socket"] = self._socket
        try:
            self._ws = simple_websocket.Server(
                environ,
                subprotocols=[self._subprotocol],
                max_message_size=self._max_message_bytes,
                thread_class=_Remembered,
                event_class=_NoEvent,
            )
        except (ProtocolError, simple_websocket.ConnectionError) as error:
            raise HandshakeFailed(str(error)) from error
        self._ws.environ = self._environ
        self._step = self._ws.thread.target
        self._messages: list[Data] = self._ws.input_buffer
        # The upgrade is done: without the HTTP half of wsproto, and the request in it.
        self._ws.ws = self._ws.ws.handshake.connection

    def _receive_from(self, source: Stream | Allowance) -> None:
        self._input.source = source

    def read(self) -> Data:
        while not self._messages:
            if not self._ws.connected:
                raise self._end()
            if self._is_between and framing.FAST:
                text = self._input.take_text(self._max_message_bytes)
                if text is not None:
                    return text
            self._pass_on()
        data = self._messages.pop(0)
        if self._exceeds(data):
            raise self._fail(_TOO_BIG, "message too big")
        return data

    @property
    def can_glance(self) -> bool:
        return self.stream.can_gather and framing.FAST

    def glance(self, seconds: float) -> Glance | None:
        if not self.can_glance or not self._is_between:
            return None
        if self._messages or not self._ws.connected:
            return None
        return self._input.glance(self._max_message_bytes, seconds)

    @property
    def _is_between(self) -> bool:
        """Whether what comes next is the beginning of a message."""
        return not (self._owed or self._in_fragments)

    def _pass_on(self) -> None:
        """Lets simple-websocket take what comes next, to the end of a frame and no further."""
        if not self._owed:
            opcode, is_final, self._owed = self._input.peek()
            if not self._bucket.admits(opcode, is_final, self._owed):
                raise self._fail(_POLICY, str(WSE_REASON.RATE_LIMIT))
            if opcode <= framing.BINARY:
                self._in_fragments = not is_final
        piece = self._input.take_some(self._owed)
        self._owed -= len(piece)
        self._socket.piece = piece
        try:
            self._step()
        except _Pause:
            self._ws.connected = True

    def _exceeds(self, data: Data) -> bool:
        """simple-websocket counts characters; the limit is of bytes."""
        if isinstance(data, str) and len(data) * 4 > self._max_message_bytes:
            return len(data.encode()) > self._max_message_bytes
        return False

    def _end(self) -> LinkLost:
        """Why simple-websocket stopped: it says so in several places."""
        code, reason = int(self._ws.close_reason), self._ws.close_message or ""
        # Closed from here: by wsproto, which says why, or by simple-websocket for one reason only.
        ours = self._ws.ws.state is ConnectionState.LOCAL_CLOSING
        if ours and code == _NO_CODE:
            code, reason = _TOO_BIG, "message too big"
        return LinkLost(code, reason, drain=ours)

    @staticmethod
    def encode(data: Data) -> bytes:
        return framing.encode(data)

    @staticmethod
    def encode_ping() -> bytes:
        return framing.encode(b"", framing.PING)

    @staticmethod
    def encode_close(code: int, reason: str) -> bytes:
        return framing.encode(framing.close_body(code, reason), framing.CLOSE)

    @staticmethod
    def is_close(frame: bytes) -> bool:
        return framing.is_close(frame)


class _Pause(Exception):
    """Leaves simple-websocket's read loop. No OSError: those mean a lost link to it."""


class _Socket:
    """What simple-websocket takes for its socket."""

    def __init__(self, transport: AcceptedTransport) -> None:
        self._transport = transport
        self.piece = b""

    def recv(self, _size: int) -> bytes:
        piece, self.piece = self.piece, b""
        if not piece:
            raise _Pause
        return piece

    def send(self, data: bytes) -> int:
        self._transport.write(data)
        return len(data)

    def close(self) -> None:
        """The stream closes the socket, at the end of the link."""


class _Remembered:
    """A thread that is not started; ``target`` is what it would run."""

    name = ""

    def __init__(self, target: Callable[[], None]) -> None:
        self.target = target

    def start(self) -> None:
        """Its work is done by whoever calls ``read``."""


class _NoEvent:
    """Nobody waits: messages are taken by the thread that read them."""

    def set(self) -> None:
        """Nobody to wake."""
