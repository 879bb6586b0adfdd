"""What the tests share: waiting for conditions, recording handlers, and raw WebSocket ends.

The raw ends speak WebSocket and nothing of WSE, so that a test can play a peer that is older,
odder or ruder than ours.
"""

from __future__ import annotations

import json
import os
import queue
import socket
import struct
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Callable, Generic, TypeVar, Union

import websocket
import wsproto
from wsproto import events
from wsproto.connection import ConnectionState

from tests.faults import FaultProxy
from wse_sync import WSE_STATUS, AuthRequest, Backoff, WseClient, WseConnection, WseServer, clock
from wse_sync.loop import loop
from wse_sync.testing import TestServer

PATIENCE = 10.0
"""Seconds after which a test that waits gives up. It only bounds failure."""

QUICK = Backoff(initial=0.01, factor=1.0, maximum=0.01)
# The waits are drawn from all between nothing and this.
NEVER = Backoff(initial=1e9, factor=1.0, maximum=1e9)

SUBPROTOCOL = "wse-default-json"

HI = "~wse:hi"
CHALLENGE = "~wse:challenge"
WELCOME = "~wse:welcome"
RESPONSE = "~wse:response"
RESPONSE_ERR = "~wse:response-err"
ACK = "~wse:ack"

Data = Union[str, bytes]
T = TypeVar("T")


def accept_all(auth: AuthRequest) -> None:
    """Let everybody in; the identity is the cid."""
    auth.accept(auth.identity, {"hello": auth.identity})


def wait_until(
    condition: Callable[[], object], what: object = "", patience: float = PATIENCE
) -> None:
    """Return once the condition holds; fail with `what` (a callable is asked) if it never does.

    For conditions that nothing announces. Where there is a handler, a Recorder waits better.
    """
    pause = threading.Event()
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {patience} s: {what() if callable(what) else what}")
        pause.wait(0.005)


def wait_event(event: threading.Event, what: str = "event") -> None:
    """Wait for an event that must come."""
    assert event.wait(PATIENCE), f"not within {PATIENCE} s: {what}"


def pass_time(seconds: float) -> None:
    """Let time pass for all of the library, at once; return when the timers that are due have run.

    For tests at whose other end is a socket. `TestServer.advance()` does more, in memory.
    """
    clock.advance(seconds)
    loop.look_again()
    wait_until(lambda: not loop.is_busy, "the timers have run")


class Recorder:
    """A handler that keeps what it was called with, in order.

    One positional argument is kept as it is, more of them as a tuple, keywords as a dict at
    the end of the tuple. `result` is what the handler returns (so that it can be a procedure).
    """

    def __init__(self, result: Any = None) -> None:
        self._changed = threading.Condition()
        self._items: list[Any] = []
        self._result = result

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        values = (*args, keywords) if keywords else args
        self.add(values[0] if len(values) == 1 else values)
        return self._result

    def add(self, item: Any) -> None:
        with self._changed:
            self._items.append(item)
            self._changed.notify_all()

    @property
    def items(self) -> list[Any]:
        """A copy of what came so far."""
        with self._changed:
            return list(self._items)

    def __len__(self) -> int:
        return len(self.items)

    def wait_until(
        self, predicate: Callable[[list[Any]], object], patience: float = PATIENCE
    ) -> list[Any]:
        """Wait until the predicate holds for the list of items; return a copy of the list."""
        with self._changed:
            done = self._changed.wait_for(lambda: predicate(self._items), patience)
            items = list(self._items)
        assert done, f"not within {patience} s; recorded {len(items)}: {items!r}"
        return items

    def wait_for(self, count: int, patience: float = PATIENCE) -> list[Any]:
        """Wait until there are at least `count` items; return a copy of the list."""
        return self.wait_until(lambda items: len(items) >= count, patience)


class Thread(threading.Thread, Generic[T]):
    """Runs a function in a thread of its own; `result()` returns or raises what it did."""

    def __init__(self, run: Callable[[], T]) -> None:
        super().__init__(name="test-helper", daemon=True)
        self._job = run
        self._returned: list[T] = []
        self._raised: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._returned.append(self._job())
        except BaseException as error:  # handed to whoever asks for the result
            self._raised = error

    def result(self, patience: float = PATIENCE) -> T:
        self.join(patience)
        assert not self.is_alive(), f"still running after {patience} s"
        if self._raised is not None:
            raise self._raised
        return self._returned[0]


def frame(type: Any, payload: Any = None, stamp: Any = None) -> str:
    """A frame as the base protocol writes it."""
    return json.dumps([type, payload, stamp])


class RawEnd:
    """What the two raw ends have in common; `_receive` and `send` differ."""

    def send(self, data: Data) -> None:
        """Send one message: str as text, bytes as binary."""
        raise NotImplementedError

    def recv(self) -> tuple[str, Any]:
        """The next message: ("text", str), ("binary", bytes) or ("close", (code, reason)).

        1005 is a close frame without a code, 1006 the end of the connection without one.
        """
        raise NotImplementedError

    def sync(self) -> None:
        """Return once the other side has read all that was sent: ping, and wait for the pong.

        Fails if a message or the close comes instead.
        """
        raise NotImplementedError

    def send_frame(self, type: Any, payload: Any = None, stamp: Any = None) -> None:
        self.send(frame(type, payload, stamp))

    def recv_frame(self) -> list[Any]:
        """The next message as the three items of a frame; fails on anything else."""
        kind, data = self.recv()
        assert kind == "text", f"expected a text message, got {kind}: {data!r}"
        items = json.loads(data)
        assert isinstance(items, list), f"expected an array, got {data!r}"
        return [*items, None, None, None][:3]

    def recv_close(self) -> tuple[int, str]:
        """The code and reason of the close; messages on the way to it are dropped."""
        while True:
            kind, data = self.recv()
            if kind == "close":
                code, reason = data
                return code, reason


class RawClient(RawEnd):
    """A WebSocket client that knows nothing of WSE."""

    def __init__(
        self,
        url: str,
        subprotocols: Iterable[str] | None = (SUBPROTOCOL,),
        **options: Any,
    ) -> None:
        headers = list(options.pop("header", []))
        if subprotocols is not None:
            # Its own option for this refuses a server that selects none of them.
            headers.append(f"Sec-WebSocket-Protocol: {', '.join(subprotocols)}")
        self.socket: websocket.WebSocket = websocket.create_connection(
            url,
            timeout=options.pop("timeout", PATIENCE),
            header=headers,
            skip_utf8_validation=True,
            **options,
        )

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of the server's answer to the upgrade, names in lower case."""
        return self.socket.getheaders() or {}

    @property
    def subprotocol(self) -> str | None:
        """What the server selected."""
        return self.headers.get("sec-websocket-protocol")

    def hi(self, identity: Any = "", meta: Any = None, **more: Any) -> None:
        self.send_frame(HI, {"identity": identity, "meta": {} if meta is None else meta, **more})

    def login(self, identity: Any = "", meta: Any = None) -> Any:
        """Say hi, expect the welcome at once, and return its payload."""
        self.hi(identity, meta)
        type, payload, _ = self.recv_frame()
        assert type == WELCOME, f"expected a welcome, got {type!r}"
        return payload

    def begin(self, identity: Any = "", session: Any = None) -> Any:
        """Say hi as a client that wants a session, and expect the welcome at once.

        Args:
            identity: Who it is.
            session: The one to resume: its id and the count of what was received.

        Returns:
            The session in the third slot of the welcome.
        """
        self.hi(identity, wse={"v": 1, "session": session})
        type, _, grant = self.recv_frame()
        assert type == WELCOME, f"expected a welcome, got {type!r}"
        return grant["session"]

    def send(self, data: Data) -> None:
        if isinstance(data, bytes):
            self.socket.send(data, websocket.ABNF.OPCODE_BINARY)
        else:
            self.socket.send(data)

    def send_text_bytes(self, data: bytes) -> None:
        """Send a text message of these bytes, whether they are UTF-8 or not."""
        self.socket.send(data, websocket.ABNF.OPCODE_TEXT)

    def recv(self) -> tuple[str, Any]:
        while True:
            try:
                opcode, received = self.socket.recv_data_frame(True)
            except (websocket.WebSocketConnectionClosedException, ConnectionError):
                return "close", (1006, "")
            data = bytes(received.data) if received else b""
            if opcode == websocket.ABNF.OPCODE_TEXT:
                return "text", data.decode("utf-8")
            if opcode == websocket.ABNF.OPCODE_BINARY:
                return "binary", data
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                return "close", _close_of(data)

    def sync(self) -> None:
        # Twice: the first pong may overtake the messages that were read along with its ping.
        for _ in range(2):
            self.socket.ping("sync")
            opcode, received = self.socket.recv_data_frame(True)
            assert opcode == websocket.ABNF.OPCODE_PONG, f"got {received} instead of the pong"

    def send_close(self, code: int = 1000, reason: str = "wse.by-client") -> None:
        """Send a close frame and wait for nothing."""
        self.socket.send_close(code, reason.encode("utf-8"))

    def close(self, code: int = 1000, reason: str = "wse.by-client") -> None:
        """Send a close frame, wait for the other side's, and end the connection."""
        if self.socket.connected:
            # The other side may have been faster.
            with suppress(websocket.WebSocketException, OSError):
                self.socket.close(code, reason.encode("utf-8"), timeout=PATIENCE)
        self.abort()

    def abort(self) -> None:
        """End the TCP connection without a close frame."""
        self.socket.shutdown()

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _close_of(data: bytes) -> tuple[int, str]:
    if len(data) < 2:
        return 1005, ""
    return struct.unpack("!H", data[:2])[0], data[2:].decode("utf-8")


class ClientLeft(Exception):
    """A client connected and went without a request, as one does that is disconnected just then."""


class RawPeer(RawEnd):
    """The server's end of one connection of a RawServer."""

    def __init__(self, sock: socket.socket, number: int) -> None:
        sock.settimeout(PATIENCE)
        # Small frames in a row must not wait for each other's acknowledgement.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = sock
        self.number = number
        """0 for the first connection that the server accepted, 1 for the second, …"""
        self._ws = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
        self._parts: list[Any] = []
        self.request = self._read_request()

    def _read_request(self) -> events.Request:
        event = self._next_event()
        if event is None:
            raise ClientLeft
        assert isinstance(event, events.Request), f"expected an upgrade, got {event!r}"
        return event

    @property
    def path(self) -> str:
        return self.request.target

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of the upgrade, names in lower case."""
        pairs = self.request.extra_headers
        return {name.decode().lower(): value.decode() for name, value in pairs}

    def accept(self, subprotocol: str | None = SUBPROTOCOL) -> None:
        """Answer the upgrade with 101."""
        self._write(events.AcceptConnection(subprotocol=subprotocol))

    def reject(self, status: int) -> None:
        """Answer the upgrade with another HTTP status."""
        self._write(
            events.RejectConnection(status_code=status, headers=[(b"content-length", b"0")])
        )

    def welcome(self, payload: Any = None, grant: Any = None) -> Any:
        """Expect hi, answer with the welcome, and return the payload of hi."""
        type, hi, _ = self.recv_frame()
        assert type == HI, f"expected hi, got {type!r}"
        self.send_frame(WELCOME, payload, grant)
        return hi

    def grant(self, id: str = "secret", *, resumed: bool = False, received: int = 0) -> Any:
        """Welcome with a session, and return the payload of hi."""
        session = {"id": id, "resumed": resumed, "received": received, "window": 60.0}
        return self.welcome(None, {"v": 1, "cid": "ann", "session": session})

    def send(self, data: Data) -> None:
        if isinstance(data, bytes):
            self._write(events.BytesMessage(data=data))
        else:
            self._write(events.TextMessage(data=data))

    def send_bytes(self, data: bytes, as_text: bool) -> None:
        """Send one message of these bytes; as text also if they are not UTF-8."""
        head = bytes([0x81 if as_text else 0x82])
        if len(data) < 126:
            head += bytes([len(data)])
        elif len(data) < 65536:
            head += struct.pack("!BH", 126, len(data))
        else:
            head += struct.pack("!BQ", 127, len(data))
        self.socket.sendall(head + data)

    def ping(self) -> None:
        self._write(events.Ping())

    def sync(self) -> None:
        self.ping()
        event = self._next_event()
        assert isinstance(event, events.Pong), f"got {event!r} instead of the pong"

    def recv(self) -> tuple[str, Any]:
        while True:
            event = self._next_event()
            if event is None:
                return "close", (1006, "")
            if isinstance(event, events.CloseConnection):
                self._answer_close(event)
                return "close", (int(event.code), event.reason or "")
            if isinstance(event, events.Ping):
                self._write(event.response())
            elif isinstance(event, (events.TextMessage, events.BytesMessage)):
                self._parts.append(event.data)
                if event.message_finished:
                    return self._message(isinstance(event, events.TextMessage))

    def _message(self, is_text: bool) -> tuple[str, Any]:
        parts, self._parts = self._parts, []
        if is_text:
            return "text", "".join(parts)
        return "binary", b"".join(bytes(part) for part in parts)

    def _answer_close(self, event: events.CloseConnection) -> None:
        if self._ws.state is ConnectionState.REMOTE_CLOSING:
            with suppress(OSError):  # it did not wait for the answer
                self._write(event.response())

    def _next_event(self) -> events.Event | None:
        while True:
            for event in self._ws.events():
                return event
            try:
                data = self.socket.recv(65536)
            except ConnectionError:
                return None
            if not data:
                return None
            self._ws.receive_data(data)

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Send a close frame, wait for the other side's, and end the connection."""
        self._write(events.CloseConnection(code=code, reason=reason))
        self.recv_close()
        self.abort()

    def abort(self) -> None:
        """End the TCP connection without a close frame."""
        with suppress(OSError):  # it is down already
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()

    def _write(self, event: events.Event) -> None:
        self.socket.sendall(self._ws.send(event))


class RawServer:
    """A WebSocket server that plays a script, in a thread for each connection.

    The script gets a RawPeer, accepted already unless `accept` is False. When it returns, the
    TCP connection ends without a close frame; end it with `recv_close` or `close` for another end.
    An error of the script fails the test at `close()`.
    """

    def __init__(self, script: Callable[[RawPeer], None], *, accept: bool = True) -> None:
        self._script = script
        self._accept = accept
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._closing = False
        self.errors: list[BaseException] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"ws://127.0.0.1:{self.port}/"
        self._acceptor = threading.Thread(target=self._listen, name="raw-server", daemon=True)
        self._acceptor.start()

    @property
    def connections(self) -> int:
        """How many TCP connections were accepted so far."""
        with self._lock:
            return len(self._sockets)

    def _listen(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return  # closed
            with self._lock:
                if self._closing:
                    sock.close()
                    return
                number = len(self._sockets)
                thread = threading.Thread(
                    target=self._play, args=(sock, number), name="raw-peer", daemon=True
                )
                self._sockets.append(sock)
                self._threads.append(thread)
                thread.start()

    def _play(self, sock: socket.socket, number: int) -> None:
        try:
            peer = RawPeer(sock, number)
            if self._accept:
                peer.accept()
            self._script(peer)
        except ClientLeft:
            return
        except BaseException as error:  # raised again by close()
            if not self._closing:
                self.errors.append(error)
        finally:
            sock.close()

    def close(self) -> None:
        """Stop listening, end every connection, and raise the first error of the script."""
        with self._lock:
            self._closing = True
            sockets, threads = list(self._sockets), list(self._threads)
        for sock in [self._listener, *sockets]:
            with suppress(OSError):  # it is down already
                sock.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in [self._acceptor, *threads]:
            thread.join(PATIENCE)
        if self.errors:
            raise self.errors[0]

    def __enter__(self) -> RawServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class RawPeers:
    """A RawServer whose connections are played by the test itself."""

    def __init__(self) -> None:
        self._arrived: queue.Queue[RawPeer] = queue.Queue()
        self._released = threading.Event()
        self._server = RawServer(self._hand_over)
        self.url = self._server.url

    def _hand_over(self, peer: RawPeer) -> None:
        self._arrived.put(peer)
        self._released.wait()

    def next(self) -> RawPeer:
        """The peer of the next connection; waits for it."""
        return self._arrived.get(timeout=PATIENCE)

    def __enter__(self) -> RawPeers:
        return self

    def __exit__(self, *_: object) -> None:
        self._released.set()
        self._server.close()


def connection_of(server: WseServer, cid: Any = "ann") -> WseConnection:
    """The one connection of a user."""
    (conn,) = server.clients[cid].conns.values()
    return conn


def payloads(endpoint: WseServer | WseClient, type: Any = "number") -> Recorder:
    """Records the payloads of the messages of this type."""
    recorder = Recorder()
    endpoint.channel.on(type, lambda *arguments: recorder.add(arguments[-1]))
    return recorder


def story(server: WseServer, *names: str) -> Recorder:
    """Records what befalls users and connections; of an end also the code and the reason.

    Args:
        server: Whose signals are heard.
        names: Of the signals; by default all that tell of users and connections.
    """
    told = Recorder()

    def tell(name: str, about: object, *values: Any) -> None:
        told.add((name, *values) if name in ("disconnected", "left") else name)

    for name in names or ("joined", "connected", "suspended", "resumed", "disconnected", "left"):
        getattr(server.when, name)(partial(tell, name))
    return told


class Pair:
    """A server, a client of it that reconnects, and a proxy between them.

    Args:
        server: That of the test, started.
        make_client: The fixture.
        identity: As whom the client connects; the cid is "ann".
        options: For the client.
    """

    def __init__(
        self,
        server: WseServer,
        make_client: Callable[..., WseClient],
        identity: Any = "ann",
        **options: Any,
    ) -> None:
        self.server = server
        self.story = story(server)
        # Of this user alone: what befalls others may be told later.
        self._own = Recorder()
        for name in ("connected", "suspended", "resumed"):
            getattr(server.when, name)(partial(self._tell, name))
        self.proxy = FaultProxy(server.url)
        options.setdefault("backoff", QUICK)
        self.client = make_client(self.proxy.url, reconnect=True, **options)
        self.client.connect(identity)
        self.story.wait_for(2)
        self.conn = connection_of(server)

    def __enter__(self) -> Pair:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.disconnect()
        self.proxy.close()

    def _tell(self, name: str, conn: WseConnection) -> None:
        if conn.cid == "ann":
            self._own.add(name)

    def cut(self, *, reset: bool = False) -> None:
        """Cut the link, let none come after it, and wait until both ends know."""
        self.proxy.refuse()
        self.proxy.cut(reset=reset)
        self._own.wait_until(lambda items: items[-1:] == ["suspended"])
        wait_until(lambda: self.client.status == WSE_STATUS.RE_CONNECTING, self.client)

    def back(self) -> None:
        """Let links come again, and wait until the session goes on."""
        self.proxy.admit()
        self._own.wait_until(lambda items: items[-1:] == ["resumed"])
        wait_until(lambda: self.client.status == WSE_STATUS.READY, self.client)


def url_of(target: WseServer | TestServer | RawServer | str) -> str:
    """The URL of a server, or the URL itself."""
    return target if isinstance(target, str) else str(target.url)


def open_sockets() -> frozenset[str]:
    """The sockets that this process has open, by inode; empty where /proc does not tell."""
    found = set()
    try:
        numbers = os.listdir("/proc/self/fd")
    except OSError:
        return frozenset()
    for number in numbers:
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue  # the descriptor of the listing itself, or closed meanwhile
        if target.startswith("socket:"):
            found.add(target)
    return frozenset(found)
