"""A whole server, and whoever comes to it with any sequence of frames.

An input is lines, as ``feed.py`` has them. ``$ID`` stands for the latest session that was granted.
An input that begins with ``?`` meets a server with a challenge.
"""

from __future__ import annotations

import contextlib
import threading
from typing import Any

from tests.fuzz.feed import CAPACITY, WIRE, feed, links_of, received
from tests.fuzz.watch import CODES, watched
from tests.support import CHALLENGE, PATIENCE, WELCOME
from tests.transport.ends import CLOSE, TEXT
from wse_sync import AuthRequest, JsonProtocol, WseConnection, WseError, WseServer
from wse_sync.transport import memory

PROTOCOL = JsonProtocol()


def run(data: bytes) -> None:
    try:
        with watched():
            _visit.play(data)
    except BaseException:
        _visit.end()
        raise


class Visit:
    """One server, for input after input. Created with the first, since it starts threads."""

    def __init__(self) -> None:
        self._server: WseServer | None = None
        self._granted = "none"

    def play(self, data: bytes) -> None:
        server = self._server = self._server or make_server()
        challenged = data[:1] == b"?"
        server.generator = (lambda auth: "quest") if challenged else None
        self._granted = "none"
        for lines in links_of(data[challenged:]):
            self._link(server, lines, challenged)
        self._rest(server)

    def end(self) -> None:
        """After a failure: the next input gets a server that knows nothing of it."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def _link(self, server: WseServer, lines: list[bytes], challenged: bool) -> None:
        """One link, from its first frame to its end."""
        near, far = memory.pair(CAPACITY)
        lines = [line.replace(b"$ID", self._granted.encode()) for line in lines]
        connection = server.admit(lambda: WseConnection(server, {}, near))
        assert connection is not None
        connection.arrival.attach()
        # Not in the main thread: there readers serve nothing.
        reader = threading.Thread(target=connection.run, args=(PROTOCOL.name,))
        reader.start()
        feed(lines, far, near, connection.lane)
        reader.join(PATIENCE)
        assert not reader.is_alive(), "a reader does not end"
        server.dismiss(connection)
        self._check(far, challenged)

    def _check(self, far: memory.MemoryTransport, challenged: bool) -> None:
        """Looks at what the server has sent over one link."""
        frames = WIRE.parse(received(far))
        closes = [number for number, frame in enumerate(frames) if frame.opcode == CLOSE]
        assert closes in ([], [len(frames) - 1]), "something behind a close"
        if closes:
            assert int.from_bytes(frames[-1].body[:2], "big") in CODES
        messages = [PROTOCOL.unpack(frame.body) for frame in frames if frame.opcode == TEXT]
        types = [message.type for message in messages]
        before = types.index(WELCOME) if WELCOME in types else len(types)
        assert set(types[:before]) <= ({CHALLENGE} if challenged else set())
        assert types.count(WELCOME) <= 1
        for message in messages:
            if message.type == WELCOME and message.stamp and message.stamp["session"]:
                self._granted = message.stamp["session"]["id"]

    def _rest(self, server: WseServer) -> None:
        """Ends what is left, and looks whether that was all."""
        for cid in list(server.clients):
            server.drop_client(cid)
        assert server.workers.join(PATIENCE), "a handler does not end"
        assert not server.clients
        assert not server.workers._calls and not server.workers._backlog


def make_server() -> WseServer:
    server = WseServer(
        identify,
        auth_timeout=None,
        ping_interval=None,
        conn_per_user=2,
        max_suspended=3,
        resume_buffer_frames=30,
        max_message_bytes=2**16,
        max_queue_bytes=2**16,
        max_workers=4,
    )
    server.channel.on("say", lambda conn, payload: say(conn, 1))
    server.channel.on("many", lambda conn, payload: say(conn, 20))
    server.channel.on("bye", lambda conn, payload: conn.drop())
    server.register("echo", lambda conn, payload: payload)
    server.register("fail", fail)
    server.when.error(check_error)
    return server


def identify(auth: AuthRequest) -> None:
    """Whoever says anything is let in, but for one; and whoever has an answer to the quest."""
    assert type(auth.meta) is dict
    if auth.identity == "nobody" or (auth.challenge and auth.challenge.response is None):
        auth.refuse()
    else:
        auth.accept(repr(auth.identity)[:20], "welcome")


def say(conn: WseConnection, times: int) -> None:
    with contextlib.suppress(ConnectionError):  # it may be gone
        for _ in range(times):
            conn.send("said")


def fail(conn: WseConnection, payload: Any) -> None:
    raise WseError("failed", {"payload": payload}, "on purpose")


def check_error(error: BaseException, conn: WseConnection) -> None:
    assert isinstance(error, WseError), repr(error)
    assert isinstance(conn, WseConnection)


_visit = Visit()
