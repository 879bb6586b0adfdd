"""No identity, token, session id or payload is in a log, a ``repr`` or the text of an error.

Everything that happens is done with marked texts, with logging at DEBUG for all of the process.
"""

from __future__ import annotations

import contextlib
import json
import logging
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import websocket

from tests.conftest import MakeClient, MakeRawClient, MakeServer
from tests.faults import FaultProxy
from tests.support import (
    ACK,
    CHALLENGE,
    QUICK,
    RESPONSE,
    RESPONSE_ERR,
    WELCOME,
    Recorder,
    frame,
)
from wse_sync import AuthRequest, JsonProtocol, WseClient, WseConnection, WseError, WseServer
from wse_sync.auth import Challenge
from wse_sync.target import Target, check_url

MARK = "s3cr3t"


class Watched(JsonProtocol):
    """Learns the ids of sessions, which nobody else is told."""

    def __init__(self) -> None:
        self.ids: set[str] = set()

    def unpack(self, data: str | bytes) -> Any:
        unpacked = super().unpack(data)
        if unpacked.type == WELCOME and isinstance(unpacked.stamp, dict):
            session = unpacked.stamp["session"]
            if session is not None:
                self.ids.add(session["id"])
        return unpacked


class Eyes:
    """Everything that anybody can see."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog
        self._shown: list[str] = []
        self.protocol = Watched()

    def see(self, *things: Any) -> None:
        """Looks at objects: their repr, and at errors their text and those of their causes."""
        for thing in things:
            self._shown.append(repr(thing))
            seen: BaseException | None = thing if isinstance(thing, BaseException) else None
            while seen is not None:
                self._shown += [repr(seen), str(seen)]
                seen = seen.__cause__ or seen.__context__

    def leaks(self) -> list[str]:
        """The texts that say more than they should."""
        secrets = {MARK, *self.protocol.ids}
        texts = [*self._shown, *self._caplog.text.splitlines()]
        for record in self._caplog.records:
            texts += [record.getMessage(), str(record.args), str(record.threadName)]
        return [text for text in texts if any(secret in text for secret in secrets)]


@pytest.fixture
def eyes(caplog: pytest.LogCaptureFixture) -> Iterator[Eyes]:
    caplog.set_level(logging.DEBUG)
    for name in ("websocket", "wse_sync", "wsproto"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    yield Eyes(caplog)
    for name in ("websocket", "wse_sync", "wsproto"):
        logging.getLogger(name).setLevel(logging.NOTSET)


def identify(auth: AuthRequest) -> None:
    if auth.identity == f"{MARK}-wrong":
        auth.refuse()
    elif auth.identity == f"{MARK}-raises":
        raise RuntimeError("the handler itself says nothing")
    else:
        auth.accept("ann", {"welcome": MARK})


def make_pair(
    make_server: MakeServer, eyes: Eyes, handler: Any = identify, **options: Any
) -> WseServer:
    server = make_server(handler, protocol=eyes.protocol, resume_window=5.0, **options)
    server.when.error(lambda error, conn: eyes.see(error, conn))
    server.when.ignored(lambda conn, type, payload: eyes.see(conn))
    for name in ("joined", "left", "connected", "disconnected", "suspended", "resumed"):
        getattr(server.when, name)(lambda *values: eyes.see(values[0]))

    @server.register("fail")
    def fail(conn: WseConnection, payload: Any) -> None:
        raise ZeroDivisionError

    @server.register("deny")
    def deny(conn: WseConnection, payload: Any) -> None:
        raise WseError("shop.denied", {"basket": payload}, "not today")

    @server.register("unsendable")
    def unsendable(conn: WseConnection, payload: Any) -> Any:
        return {"result": [MARK, object()]}

    return server


def test_a_conversation_and_its_failures(
    make_server: MakeServer, make_client: MakeClient, eyes: Eyes
) -> None:
    requests = Recorder()

    def ask(auth: AuthRequest) -> Any:
        eyes.see(auth, auth.challenge)
        return {"quest": MARK}

    def decide(auth: AuthRequest) -> None:
        eyes.see(auth, auth.challenge)
        requests.add(auth)
        identify(auth)

    server = make_pair(make_server, eyes, decide)
    server.use_challenge(ask)
    with FaultProxy(server.url) as proxy:
        url = proxy.url.replace("://", f"://user:{MARK}@") + f"?token={MARK}"
        client = make_client(url, protocol=eyes.protocol, reconnect=True, backoff=QUICK)
        client.challenge(lambda quest: {"solution": MARK})
        client.when.error(lambda error: eyes.see(error))
        client.register("fail", lambda payload: 1 / 0)
        ready = Recorder()
        client.when.ready(ready)
        client.connect({"token": MARK}, {"note": MARK})
        (conn,) = server.clients["ann"].conns.values()
        client.send("nobody listens", MARK)
        for name in ("fail", "deny", "unsendable", "no such procedure"):
            with pytest.raises(WseError) as caught:
                client.call(name, {"payload": MARK})
            eyes.see(caught.value)
        with pytest.raises(WseError) as caught:
            conn.call("fail", MARK)
        future = client.submit("fail", MARK)
        eyes.see(caught.value, future, future.exception(10.0), server.clients, conn.client)
        for bad in (object(), float("nan")):
            with pytest.raises(WseError) as caught:
                client.send("x", [MARK, bad])
            eyes.see(caught.value)
        eyes.see(client, server, conn, client.connection, server.when, client.channel)
        eyes.see(*requests.items)
        proxy.cut()
        ready.wait_for(2)
        eyes.see(conn, client)
        # Its session is gone before it comes back, so both have something to report.
        proxy.stall()
        client.send("lost", MARK)
        server.send("ann", "lost", MARK)
        conn.drop()
        proxy.cut()
        ready.wait_for(3)
        client.disconnect()
    eyes.see(client, server, conn)
    assert eyes.protocol.ids
    assert eyes.leaks() == []


@pytest.mark.parametrize("identity", [f"{MARK}-wrong", f"{MARK}-raises"])
def test_who_is_refused(
    make_server: MakeServer, make_client: MakeClient, eyes: Eyes, identity: str
) -> None:
    server = make_pair(make_server, eyes)
    client = make_client(server, protocol=eyes.protocol)
    with pytest.raises(PermissionError) as caught:
        client.connect(identity, {"note": MARK})
    eyes.see(caught.value, client)
    client.disconnect()
    server.close()
    assert eyes.leaks() == []


BAD_FRAMES = [
    MARK,
    f'["{MARK}"',
    json.dumps({"token": MARK}),
    json.dumps([[MARK], MARK]),
    json.dumps(["m", MARK, [MARK]]),
    f'["m", "{MARK}", 1e999]',
    f'["m", NaN, "{MARK}"]',
    f'["m", "{MARK}\n"]',
    frame(WELCOME, MARK),
    frame(CHALLENGE, MARK),
    frame(ACK, MARK),
    frame(ACK, {MARK: MARK}),
    frame(RESPONSE, MARK, MARK),
    frame(RESPONSE_ERR, {"code": MARK, "message": MARK, "details": {MARK: MARK}}, MARK),
    frame("~wse:hi", {"identity": MARK, "meta": {}}),
    frame("m", MARK * 200_000),
]


@pytest.mark.parametrize("welcomed", [False, True])
@pytest.mark.parametrize("bad", BAD_FRAMES, ids=range(len(BAD_FRAMES)))
def test_bad_frames(
    make_server: MakeServer, make_raw_client: MakeRawClient, eyes: Eyes, bad: str, welcomed: bool
) -> None:
    server = make_pair(make_server, eyes, max_message_bytes=2**20)
    raw = make_raw_client(server)
    if welcomed:
        eyes.protocol.ids.add(raw.begin(MARK)["id"])
    with contextlib.suppress(ConnectionError):
        raw.send(bad)
        raw.send(bad.encode())
        raw.send_text_bytes(MARK.encode() + b"\xff")
    raw.recv_close()
    raw.abort()
    server.close()
    assert eyes.leaks() == []


def test_a_session_that_cannot_be_resumed(
    make_server: MakeServer, make_raw_client: MakeRawClient, eyes: Eyes
) -> None:
    server = make_pair(make_server, eyes)
    known = MARK
    for received in (0, 99):
        raw = make_raw_client(server)
        known = raw.begin(MARK, {"id": known, "received": received})["id"]
        eyes.protocol.ids.add(known)
        server.send("ann", "news", MARK)
        raw.abort()
    for bad in (-1, MARK, None):
        raw = make_raw_client(server)
        raw.hi(MARK, wse={"v": 1, "session": {"id": known, "received": bad}})
        assert raw.recv_close() == (1000, "wse.protocol-error")
        raw.abort()
    server.close()
    assert eyes.leaks() == []


def test_requests_of_http(make_server: MakeServer, eyes: Eyes) -> None:
    server = make_pair(make_server, eyes, path="/ws")
    header = [f"Authorization: Bearer {MARK}", f"Cookie: session={MARK}"]
    for path, more in ((f"/other?token={MARK}", []), (f"/ws?token={MARK}", ["Origin: http://x"])):
        url = server.url.replace("/ws", path)
        with pytest.raises(websocket.WebSocketBadStatusException):
            websocket.create_connection(url, header=[*header, *more], suppress_origin=bool(more))
    for line in (
        f"GET /page?token={MARK} HTTP/1.1",
        f"GET /ws?token={MARK}",
        f"{MARK}",
        f"GET /{MARK} HTTP/9.9",
        f"GET  {MARK}  x",
    ):
        raw_request(server, f"{line}\r\n\r\n".encode())
    server.close()
    assert eyes.leaks() == []


def raw_request(server: WseServer, data: bytes) -> None:
    """Sends what is no request, maybe, and hears the answer out."""
    with socket.create_connection(("127.0.0.1", server.port or 0), 10.0) as sock:
        sock.sendall(data)
        with contextlib.suppress(ConnectionError):
            while sock.recv(65536):
                continue


@pytest.mark.parametrize(
    "url",
    [
        f"http://ann:{MARK}@host/",
        f"ann:{MARK}@host",
        f"ws://ann:{MARK}@host:port/",
        f"//ann:{MARK}@host/?q={MARK}",
        f"host?token={MARK}",
        f"ws://ann:{MARK}@[::1/",
    ],
)
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(ValueError) as caught:
        check_url(url)
    assert MARK not in str(caught.value)
    assert MARK not in repr(caught.value)
    assert "host" in str(caught.value) or "::1" in str(caught.value)


@pytest.mark.parametrize("path", ["/", "/answers-404"])
def test_urls_that_cannot_be_reached(
    make_server: MakeServer, make_client: MakeClient, eyes: Eyes, path: str
) -> None:
    server = make_pair(make_server, eyes, path="/ws")
    url = f"ws://user:{MARK}@127.0.0.1:{server.port}{path}?token={MARK}"
    options = {"header": {"X-Token": MARK}, "cookie": f"session={MARK}"}
    client = make_client(url, ws_options=options)
    with pytest.raises(ConnectionError) as caught:
        client.connect(MARK)
    eyes.see(client, caught.value)
    server.close()
    with pytest.raises(ConnectionError) as caught:
        client.connect(MARK)
    eyes.see(client, caught.value)
    assert eyes.leaks() == []


def test_things_that_hold_secrets_do_not_show_them() -> None:
    error = WseError("shop.denied", {"basket": MARK, "payload": MARK, "rp": "buy"}, "no")
    shown = [
        Challenge(MARK, MARK),
        Target(f"ws://user:{MARK}@host/?{MARK}", MARK, {"note": MARK}),
        WseClient(f"ws://user:{MARK}@host/?{MARK}"),
        error,
    ]
    assert [repr(thing) for thing in shown if MARK in repr(thing)] == []
    assert "'rp': 'buy'" in repr(error)


def test_a_leak_is_noticed(eyes: Eyes) -> None:
    logging.getLogger("wse_sync.server").debug("a token: %s", MARK)
    assert len(eyes.leaks()) >= 1


def test_a_leak_in_a_traceback_is_noticed(eyes: Eyes) -> None:
    try:
        raise RuntimeError(MARK)
    except RuntimeError:
        logging.getLogger("wse_sync.client").info("failed", exc_info=True)
    assert eyes.leaks()
