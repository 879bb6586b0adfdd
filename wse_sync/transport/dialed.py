"""The client's end of a WebSocket: websocket-client.

Only the client's thread dials and reads; any thread may abort, also while dialing. What the library
sends on its own account (pongs, the answer to a close) goes to ``write``. ``encode…`` keeps no
state.
"""

from __future__ import annotations

import os
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import websocket

from ..constants import WSE_REASON
from ..protocol import Data
from ..target import shown
from . import framing
from .allowance import Allowance
from .base import Glance, LinkLost, Stream, Transport
from .bounded import Bounded, TooLong
from .bucket import Bucket
from .dialing import Dialer, DialFailed, refused
from .stream import open_stream
from .tls import client_context, distrust

__all__ = ["DialedTransport", "NetworkDialer"]

_RECEIVE_BYTES = 64 * 1024
_FIN, _OPCODE, _MASKED = 0, 4, 5  # where they stand in the library's tuple of a frame's header
_MAX_CONTROL_BYTES = 125  # RFC 6455, 5.5
_NO_CODE, _ABNORMAL = 1005, 1006
_PROTOCOL_ERROR, _BAD_DATA, _POLICY, _TOO_BIG = 1002, 1007, 1008, 1009

_SWITCHING_PROTOCOLS = 101

# With these options of the library, opening the socket is its own affair.
_LIBRARYS_OWN = frozenset({"http_proxy_host", "sockopt", "socket", "sslopt"})


class _GivenUp(Exception):
    """The attempt was aborted."""


class _TooBig(Exception):
    """A message over the limit is coming."""


class _NoText(Exception):
    """A close whose reason is not UTF-8 has come."""


class NetworkDialer(Dialer):
    """One attempt to open a WebSocket over the network. ``_lock`` guards all of it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sock: socket.socket | None = None
        self._ws: Any = None
        self._aborted = False

    def dial(
        self,
        url: str,
        subprotocol: str,
        timeout: float | None,
        ssl_context: ssl.SSLContext | None,
        options: Mapping[str, Any],
    ) -> DialedTransport:
        given = dict(options)
        given.setdefault("suppress_origin", "origin" not in given)
        given.setdefault("subprotocols", [subprotocol])
        given.update(
            timeout=timeout,
            class_=self._make,
            fire_cont_frame=True,  # joining fragments is ours: the library has no limit
            skip_utf8_validation=True,  # in pure Python there; ours is a strict decode
            enable_multithread=False,
        )
        try:
            if not _LIBRARYS_OWN.intersection(given) and not _has_proxy(url):
                given["socket"] = self._open(url, timeout, ssl_context)
            if ssl_context is None and "sslopt" not in given and url.startswith("wss:"):
                ssl_context = client_context()
            given["sslopt"] = _ssl_options(ssl_context, given.get("sslopt"))
            ws = websocket.create_connection(url, **given)
            if ws.getstatus() != _SWITCHING_PROTOCOLS:  # one redirect too many
                ws.shutdown()
                raise DialFailed(f"{shown(url)} answered with HTTP status {ws.getstatus()}")
        except DialFailed:
            raise
        except websocket.WebSocketBadStatusException as error:
            body = getattr(error, "resp_body", None) or b""
            raise refused(url, error.status_code or 0, body) from error
        except TooLong as error:
            raise refused(url, error.status, str(error).encode()) from error
        except ssl.SSLCertVerificationError as error:
            raise DialFailed(
                f"the certificate of {shown(url)} is not trusted: {distrust(error)}",
                final=True,
            ) from error
        except Exception as error:  # the library lets others out, like those of http.cookies
            raise DialFailed(f"cannot reach {shown(url)}: {error}") from error
        finally:
            with self._lock:
                self._sock = self._ws = None
        return DialedTransport(ws, url)

    def abort(self) -> None:
        # Behind a proxy it ends at the next timeout.
        with self._lock:
            self._aborted = True
            # After a redirect the library has a socket of its own.
            for sock in (self._sock, self._ws and self._ws.plain):
                if sock is not None:
                    _shut_down(sock)

    def _open(
        self, url: str, timeout: float | None, ssl_context: ssl.SSLContext | None
    ) -> socket.socket:
        """A connected socket: the library's own could not be aborted before it is open."""
        parts = urlsplit(url)
        assert parts.hostname is not None
        port = parts.port or (443 if parts.scheme == "wss" else 80)
        failure: OSError | None = None
        for family, kind, number, _, address in socket.getaddrinfo(
            parts.hostname, port, type=socket.SOCK_STREAM
        ):
            sock = socket.socket(family, kind, number)
            try:
                self._hold(sock)
                sock.settimeout(timeout)
                sock.connect(address)
                if parts.scheme == "wss":
                    context = ssl_context or client_context()
                    sock = context.wrap_socket(
                        sock, server_hostname=parts.hostname, do_handshake_on_connect=False
                    )
                    self._hold(sock)
                    sock.do_handshake()
                return sock
            except BaseException as error:
                sock.close()
                if not isinstance(error, OSError) or isinstance(error, ssl.SSLError):
                    raise
                failure = error
        try:
            raise failure or OSError(f"{parts.hostname} has no address")
        finally:
            # It and its traceback would hold each other, and the socket that ssl made and gave up.
            failure = None

    def _make(self, **options: Any) -> Any:
        """Makes the library's object."""
        with self._lock:
            self._ws = _WebSocket(**options)
        return self._ws

    def _hold(self, sock: socket.socket) -> None:
        with self._lock:
            if self._aborted:
                raise _GivenUp("given up")
            self._sock = sock


class DialedTransport(Transport):
    """A WebSocket that we opened."""

    def __init__(self, ws: Any, url: str) -> None:
        self.stream: Stream = open_stream(ws.plain)
        self.peer = shown(url)
        self.max_message_bytes = 0
        self._ws = ws
        self._pieces: list[bytes] = []
        self._collected = 0
        self._in_fragments = False
        self._bucket = Bucket()
        buffer = ws.frame_buffer
        self._recv_length = buffer.recv_length
        buffer.recv_length = self._check_header
        self._recv_frame = ws.recv_frame
        ws.recv_frame = self._check_frame
        self._input = framing.Input(self.stream, masked=False, least=_RECEIVE_BYTES)
        buffer.recv_strict = self._input.take

    def attach(self, write: Callable[[bytes], object]) -> None:
        self.write = write
        self._ws.sock = _Socket(write)

    def _receive_from(self, source: Stream | Allowance) -> None:
        self._input.source = source

    def read(self) -> Data:
        text = True
        while True:
            if not self._in_fragments and framing.FAST:
                whole = self._input.take_text(self.max_message_bytes)
                if whole is not None:
                    return whole
            frame = self._next_frame()
            opcode = frame.opcode
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                raise _closed(frame.data)
            if not self._bucket.admits(opcode, bool(frame.fin), len(frame.data)):
                raise self._fail(_POLICY, str(WSE_REASON.RATE_LIMIT))
            if opcode in (websocket.ABNF.OPCODE_PING, websocket.ABNF.OPCODE_PONG):
                continue
            if opcode != websocket.ABNF.OPCODE_CONT:
                text = opcode == websocket.ABNF.OPCODE_TEXT
            if frame.data:  # of empty fragments there is no end
                self._pieces.append(frame.data)
            self._collected += len(frame.data)
            self._in_fragments = not frame.fin
            if frame.fin:
                return self._join(text)

    @property
    def can_glance(self) -> bool:
        return self.stream.can_gather and framing.FAST

    def glance(self, seconds: float) -> Glance | None:
        if not self.can_glance or self._in_fragments:
            return None
        return self._input.glance(self.max_message_bytes, seconds)

    def _next_frame(self) -> Any:
        try:
            return self._ws.recv_data_frame(True)[1]
        except _TooBig:
            raise self._fail(_TOO_BIG, "message too big") from None
        except _NoText as error:
            raise self._fail(_BAD_DATA, "not UTF-8") from error
        except websocket.WebSocketException as error:
            raise self._fail(_PROTOCOL_ERROR, str(error)) from error

    def _join(self, text: bool) -> Data:
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._collected = 0
        if not text:
            return data
        try:
            return str(data, "utf-8")
        except UnicodeDecodeError as error:
            raise self._fail(_BAD_DATA, "not UTF-8") from error

    def _check_header(self) -> None:
        """Stands in for the step of the library that reads how long a frame is."""
        self._recv_length()
        buffer = self._ws.frame_buffer
        if buffer.header[_MASKED]:
            raise websocket.WebSocketProtocolException("a server does not mask")
        if buffer.header[_OPCODE] >= websocket.ABNF.OPCODE_CLOSE:
            if buffer.length > _MAX_CONTROL_BYTES or not buffer.header[_FIN]:
                raise websocket.WebSocketProtocolException("no control frame is so long, or a part")
        elif self._collected + buffer.length > self.max_message_bytes:
            raise _TooBig

    def _check_frame(self) -> Any:
        """Stands in for the step that reads a frame: what the library leaves out is a close."""
        frame = self._recv_frame()
        if frame.opcode == websocket.ABNF.OPCODE_CLOSE:
            try:
                str(frame.data[2:], "utf-8")
            except UnicodeDecodeError as error:
                raise _NoText from error
        return frame

    @staticmethod
    def encode(data: Data) -> bytes:
        return framing.encode_masked(data)

    @staticmethod
    def encode_ping() -> bytes:
        return framing.encode_masked(b"", framing.PING)

    @staticmethod
    def encode_close(code: int, reason: str) -> bytes:
        return framing.encode_masked(framing.close_body(code, reason), framing.CLOSE)

    @staticmethod
    def is_close(frame: bytes) -> bool:
        return framing.is_close(frame)


class _WebSocket(websocket.WebSocket):
    """Reads answers of a bounded length, whichever socket the library has opened.

    Attributes:
        plain: The socket itself.
    """

    plain: Any = None
    _bounded: Any = None

    @property
    def sock(self) -> Any:
        return self._bounded

    @sock.setter
    def sock(self, sock: Any) -> None:
        self.plain = sock
        self._bounded = None if sock is None else Bounded(sock)


class _Socket:
    """What websocket-client takes for its socket, to send pongs and closes."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write

    def send(self, data: bytes) -> int:
        self._write(data)
        return len(data)

    def gettimeout(self) -> None:
        """The library asks; there is none."""


def _shut_down(sock: socket.socket) -> None:
    try:
        # Not its own method: that of TLS drops the state under the thread that is in recv.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
    except OSError:
        return  # the other side was first, or the attempt has just failed


def _closed(body: bytes) -> LinkLost:
    if len(body) < 2:
        return LinkLost(_NO_CODE)
    return LinkLost(struct.unpack("!H", body[:2])[0], body[2:].decode())


def _ssl_options(context: ssl.SSLContext | None, given: Any) -> dict[str, Any]:
    """The library would set these two on the context that it is given; say what stands there."""
    if context is None:
        return dict(given or {})
    kept = {"cert_reqs": context.verify_mode, "check_hostname": context.check_hostname}
    return {**kept, **(given or {}), "context": context}


def _has_proxy(url: str) -> bool:
    """Whether the environment names a proxy for this URL; the library looks there as well."""
    parts = urlsplit(url)
    variable = "https_proxy" if parts.scheme == "wss" else "http_proxy"
    if not os.environ.get(variable, os.environ.get(variable.upper())):
        return False
    # Here, since it brings a client for HTTP: a third of what importing this library would take.
    from urllib.request import proxy_bypass

    return not proxy_bypass(parts.hostname or "")
