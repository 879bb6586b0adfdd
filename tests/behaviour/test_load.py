"""Promises 42 to 45: readers that stop, messages that are too large, strangers, and the end."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import struct
import threading
from functools import partial
from typing import Any, Callable

import pytest
import websocket

from tests.conftest import (
    Connect,
    MakeClient,
    MakeRawClient,
    MakeRawServer,
    MakeServer,
    MakeTestServer,
)
from tests.programs import SAY_INSIDE, Program
from tests.support import (
    CHALLENGE,
    HI,
    PATIENCE,
    QUICK,
    RESPONSE,
    SUBPROTOCOL,
    WELCOME,
    RawClient,
    RawPeer,
    Recorder,
    Thread,
    accept_all,
    frame,
    open_sockets,
    wait_event,
    wait_until,
)
from wse_sync import (
    WSE_ERROR,
    WSE_STATUS,
    AuthRequest,
    WseClient,
    WseConnection,
    WseError,
    WseServer,
    WseTypeError,
    WseValueError,
    workers,
)
from wse_sync.link import Link
from wse_sync.standalone import Listener

KB, MB = 2**10, 2**20
KERNEL_BYTES = 16 * MB
"""More than the kernel keeps of one connection that nobody reads, both ends together."""
SLOW = (1013, "wse.slow-consumer")
LONG_HEADER, SHORT_HEADER = 8, 6
"""Of frames of a client (RFC 6455, 5.2): up to 64 KB, and up to 125 bytes."""


def small_window() -> dict[str, Any]:
    """Options of a raw client whose kernel takes little that is not read."""
    return {"sockopt": [(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)]}


def ends_of(server: WseServer) -> Recorder:
    """(cid, code, reason) of each connection that ends."""
    ends = Recorder()
    server.when.disconnected(lambda conn, code, reason: ends.add((conn.cid, code, reason)))
    return ends


def settled(count: Callable[[], int]) -> int:
    """The count, once it has grown and grows no more."""
    pause = threading.Event()
    before = 0
    while True:
        pause.wait(0.3)
        now = count()
        if now == before and now:
            return now
        before = now


# 42


def test_42_a_reader_that_stops_is_closed_and_delays_nobody(
    make_server: MakeServer, make_raw_client: MakeRawClient, connect: Connect
) -> None:
    server = make_server(max_queue_bytes=MB)
    ends, left = ends_of(server), Recorder()
    server.when.left(lambda client, code, reason: left.add((client.cid, code, reason)))
    received = [Recorder() for _ in range(3)]
    for number, recorder in enumerate(received):
        reader = connect(server, f"reader-{number}")
        reader.channel.on("blob", lambda payload, recorder=recorder: recorder.add(payload[0]))
    stopped = make_raw_client(server, **small_window())
    stopped.login("stopped")
    blob = "x" * (64 * KB)
    sent, reached = 0, 4
    while reached == 4:  # as long as it is not found out, it counts
        assert sent * len(blob) < MB + KERNEL_BYTES, "what nobody reads is kept without bound"
        reached = server.broadcast("blob", [sent, blob])
        sent += 1
        for recorder in received:
            recorder.wait_for(sent)
    assert reached == 3
    assert ends.wait_for(1) == [("stopped", *SLOW)]
    assert left.wait_for(1) == [("stopped", *SLOW)]
    assert server.broadcast("blob", [sent, blob]) == 3
    for recorder in received:
        assert recorder.wait_for(sent + 1) == list(range(sent + 1))
    assert sorted(server.clients) == ["reader-0", "reader-1", "reader-2"]


@pytest.mark.parametrize("how", ["send", "user", "conn", "handler"])
def test_42_however_it_is_sent_to_a_stopped_reader_the_sender_never_blocks(
    make_server: MakeServer, make_raw_client: MakeRawClient, how: str
) -> None:
    server = make_server(max_queue_bytes=256 * KB)
    ends, connected = ends_of(server), Recorder()
    server.when.connected(connected)
    stopped = make_raw_client(server, **small_window())
    stopped.login("stopped")
    conn = connected.wait_for(1)[0]
    user = server.clients["stopped"]
    blob = "x" * (64 * KB)
    ways: dict[str, Callable[[], object]] = {
        "send": lambda: server.send("stopped", "blob", blob),
        "user": lambda: user.send("blob", blob),
        "conn": lambda: conn.send("blob", blob),
        "handler": lambda: conn.send("blob", blob),
    }

    def flood() -> None:
        sent = 0
        with contextlib.suppress(ConnectionError):
            while not ends.items:
                assert sent < KERNEL_BYTES
                if ways[how]() != 0:  # to no connection: that is over, and its end on the way
                    sent += len(blob)

    if how == "handler":
        finished = threading.Event()

        def handle(conn: WseConnection, payload: Any) -> None:
            flood()
            finished.set()

        server.channel.on("flood", handle)
        stopped.send_frame("flood")
        wait_event(finished)
    else:
        Thread(flood).result()
    assert ends.wait_for(1) == [("stopped", *SLOW)]


def test_42_the_open_calls_of_a_stopped_reader_end_with_it(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    server = make_server(max_queue_bytes=256 * KB, call_timeout=None)
    ends, connected = ends_of(server), Recorder()
    server.when.connected(connected)
    make_raw_client(server, **small_window()).login("stopped")
    conn = connected.wait_for(1)[0]
    future = conn.submit("question")
    sent = 0
    while not ends.items:
        assert sent < KERNEL_BYTES
        with contextlib.suppress(ConnectionError):  # it is over, and its end on the way
            conn.send("blob", "x" * (64 * KB))
            sent += 64 * KB
    error = future.exception(PATIENCE)
    assert isinstance(error, WseError)
    assert error.code == WSE_ERROR.RP_DISCONNECT
    assert error.details["disconnected"] == list(SLOW)


def test_42_one_message_larger_than_the_room_does_not_count_as_slow(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server(max_queue_bytes=4 * MB)
    ends = ends_of(server)
    client = connect(server)
    blobs = Recorder()
    client.channel.on("blob", lambda payload: blobs.add(len(payload)))
    for count in range(1, 6):
        assert server.send("ann", "blob", "x" * (3 * MB)) == 1
        blobs.wait_for(count)
    assert blobs.items == [3 * MB] * 5
    assert ends.items == []


def test_42_a_client_whose_handler_is_blocked_is_a_stopped_reader_in_the_end(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server(max_queue_bytes=256 * KB)
    ends = ends_of(server)
    release = threading.Event()
    other = connect(server, "bob")
    heard = Recorder()
    other.channel.on("blob", lambda payload: heard.add(len(payload)))
    client = connect(server, "ann", max_queue_bytes=256 * KB)
    client.channel.on("blob", lambda payload: wait_event(release))
    sent, reached = 0, 2
    try:
        while reached == 2:
            assert sent * 64 * KB < KERNEL_BYTES
            reached = server.broadcast("blob", "x" * (64 * KB))
            sent += 1
            heard.wait_for(sent)
        assert reached == 1
        assert ends.wait_for(1) == [("ann", *SLOW)]
    finally:
        release.set()


class StoppedServer:
    """The script of a raw server that welcomes, and reads only when it is told to."""

    def __init__(self) -> None:
        self.read = threading.Event()
        self.numbers = Recorder()

    def __call__(self, peer: RawPeer) -> None:
        peer.welcome()
        self.read.wait()
        while True:
            kind, data = peer.recv()
            if kind == "close":
                return
            self.numbers.add(json.loads(data)[1][0])


def test_42_a_clients_send_waits_for_room(connect: Connect, make_raw_server: MakeRawServer) -> None:
    script = StoppedServer()
    sent: list[int] = []
    total = 2 * KERNEL_BYTES // (64 * KB)

    def flood() -> None:
        for number in range(total):
            client.send("blob", [number, "x" * (64 * KB)])
            sent.append(number)

    try:
        client = connect(make_raw_server(script), max_queue_bytes=256 * KB)
        flooding = Thread(flood)
        assert settled(lambda: len(sent)) * 64 * KB < KERNEL_BYTES
        assert flooding.is_alive()
        assert client.status == WSE_STATUS.READY
        script.read.set()
        flooding.result(60)
        assert script.numbers.wait_for(total, 60) == list(range(total))
    finally:
        script.read.set()


@pytest.mark.parametrize("end", ["disconnect", "lost"])
def test_42_a_send_that_waits_for_room_is_woken_by_the_end(
    connect: Connect, make_raw_server: MakeRawServer, end: str
) -> None:
    script = StoppedServer()
    sent: list[int] = []

    def flood() -> None:
        for number in range(2 * KERNEL_BYTES // (64 * KB)):
            client.send("blob", [number, "x" * (64 * KB)])
            sent.append(number)

    try:
        server = make_raw_server(script)
        client = connect(server, max_queue_bytes=256 * KB)
        flooding = [Thread(flood) for _ in range(3)]
        settled(lambda: len(sent))
        if end == "disconnect":
            Thread(lambda: client.disconnect(timeout=0.5)).result()
        else:
            script.read.set()
            server.close()
        for thread in flooding:
            with pytest.raises(ConnectionError) as caught:
                thread.result()
            assert isinstance(caught.value, WseError)
        assert client.wait(PATIENCE)
    finally:
        script.read.set()


def test_42_a_call_that_waits_for_room_has_its_timeout(
    connect: Connect, make_raw_server: MakeRawServer
) -> None:
    script = StoppedServer()
    sent: list[int] = []

    def flood() -> None:
        for number in range(2 * KERNEL_BYTES // (64 * KB)):
            client.send("blob", [number, "x" * (64 * KB)])
            sent.append(number)

    try:
        client = connect(make_raw_server(script), max_queue_bytes=256 * KB)
        flooding = Thread(flood)
        settled(lambda: len(sent))
        with pytest.raises(TimeoutError) as caught:
            client.call("question", "x" * (64 * KB), timeout=0.2)
        assert isinstance(caught.value, WseError)
        assert caught.value.code == WSE_ERROR.RP_TIMEOUT
        script.read.set()
        flooding.result(60)
    finally:
        script.read.set()


def test_42_a_server_whose_handler_is_blocked_pushes_back_and_loses_nothing(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server(max_queue_bytes=256 * KB)
    ends = ends_of(server)
    release, numbers, sent = threading.Event(), Recorder(), Recorder()
    total = 2 * KERNEL_BYTES // (64 * KB)

    def slow(conn: WseConnection, payload: Any) -> None:
        release.wait()
        numbers.add(payload[0])

    server.channel.on("blob", slow)
    server.register("echo", lambda conn, payload: payload)
    other = connect(server, "bob")
    client = connect(server, "ann", max_queue_bytes=256 * KB)

    def flood() -> None:
        for number in range(total):
            client.send("blob", [number, "x" * (64 * KB)])
            sent.add(number)

    try:
        flooding = Thread(flood)
        assert settled(lambda: len(sent)) * 64 * KB < KERNEL_BYTES
        assert other.call("echo", "not delayed") == "not delayed"
        release.set()
        flooding.result(60)
        assert numbers.wait_for(total, 60) == list(range(total))
        assert ends.items == []
    finally:
        release.set()


def test_42_the_silence_of_a_peer_that_is_not_read_is_no_sign_of_death(
    make_test_server: MakeTestServer,
) -> None:
    test = make_test_server(max_queue_bytes=64 * KB)
    server = test.server
    ends = ends_of(server)
    release, numbers = threading.Event(), Recorder()

    def slow(conn: WseConnection, payload: Any) -> None:
        release.wait()
        numbers.add(payload[0])

    server.channel.on("blob", slow)
    client = test.connect("ann", ping_interval=None)
    try:
        for number in range(20):
            client.send("blob", [number, "x" * (16 * KB)])
        wait_until(lambda: [link for link in server.links() if link.paused])
        # A connection that is read, and is silent, would be lost by then.
        test.advance(600.0, settle=False)
        assert ends.items == []
        release.set()
        assert numbers.wait_for(20) == list(range(20))
        assert client.status == WSE_STATUS.READY
    finally:
        release.set()


def asking_server(make_server: MakeServer) -> tuple[WseServer, Recorder]:
    """A server whose handler of "ask" waits for an answer of the client; what came of it."""
    server = make_server(max_queue_bytes=64 * KB, call_timeout=None)
    outcomes = Recorder()

    def ask(conn: WseConnection, payload: Any) -> None:
        try:
            outcomes.add(conn.call("question"))
        except WseError as error:
            outcomes.add(error)

    server.channel.on("ask", ask)
    return server, outcomes


def test_42_an_answer_behind_more_than_may_wait_is_still_read(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    server, outcomes = asking_server(make_server)
    numbers = Recorder()
    server.channel.on("blob", lambda conn, payload: numbers.add(payload[0]))
    peer = make_raw_client(server)
    peer.login("ann")
    peer.send_frame("ask")
    name, _, stamp = peer.recv_frame()
    assert name == "question"
    for number in range(24):
        peer.send_frame("blob", [number, "x" * (4 * KB)])
    peer.send_frame(RESPONSE, "answer", stamp)
    assert outcomes.wait_for(1) == ["answer"]
    assert numbers.wait_for(24) == list(range(24))


def test_42_but_not_behind_any_amount(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    server, outcomes = asking_server(make_server)
    ends = ends_of(server)
    peer = make_raw_client(server)
    peer.login("ann")
    peer.send_frame("ask")
    assert peer.recv_frame()[0] == "question"
    with contextlib.suppress(OSError, websocket.WebSocketException):
        for number in range(KERNEL_BYTES // (16 * KB)):
            peer.send_frame("blob", [number, "x" * (16 * KB)])
    (error,) = outcomes.wait_for(1)
    assert isinstance(error, WseError)
    assert error.code == WSE_ERROR.RP_DISCONNECT
    ((cid, *_),) = ends.wait_for(1)
    assert cid == "ann"


def test_42_two_ends_that_both_stop_reading_do_not_deadlock(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server(max_queue_bytes=64 * MB)
    client = connect(server, max_queue_bytes=64 * MB)
    blob = "x" * (64 * KB)
    echoes, numbers = Recorder(), Recorder()

    @server.channel.on("down")
    def down(conn: WseConnection, number: list[Any]) -> None:
        conn.send("up", number)

    client.channel.on("up", lambda payload: echoes.add(payload[0]))
    server.channel.on("number", lambda conn, payload: numbers.add(payload))
    for number in range(300):
        client.send("down", [number, blob])
        server.send("ann", "up", [-1, blob])
    received = echoes.wait_for(600, 60)
    assert [number for number in received if number >= 0] == list(range(300))


# 43

LIMIT = 10_000


def padded(size: int, type: str = "pad", stamp: str | None = None) -> str:
    """A frame of exactly so many bytes."""
    empty = frame(type, "", stamp)
    return frame(type, "x" * (size - len(empty)), stamp)


def send_fragments(peer: RawClient, data: bytes, size: int, *, finish: bool = True) -> None:
    """Sends a text message in pieces; a server that has had enough may be gone meanwhile."""
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    with contextlib.suppress(OSError, websocket.WebSocketException):
        for number, piece in enumerate(pieces):
            opcode = websocket.ABNF.OPCODE_CONT if number else websocket.ABNF.OPCODE_TEXT
            last = finish and number == len(pieces) - 1
            peer.socket.send_frame(websocket.ABNF.create_frame(piece, opcode, int(last)))


def test_43_a_message_over_the_limit_closes_with_1009_that_connection_only(
    make_server: MakeServer, make_raw_client: MakeRawClient, connect: Connect
) -> None:
    server = make_server(max_message_bytes=LIMIT)
    server.register("echo", lambda conn, payload: payload)
    ends, pads = ends_of(server), Recorder()
    server.channel.on("pad", pads)
    other = connect(server, "bob")
    peer = make_raw_client(server)
    peer.login("ann")
    peer.send(padded(LIMIT + 1))
    assert peer.recv_close()[0] == 1009
    ((cid, code, _),) = ends.wait_for(1)
    assert (cid, code) == ("ann", 1009)
    assert pads.items == []
    assert other.call("echo", 1) == 1
    assert list(server.clients) == ["bob"]


def test_43_a_message_of_exactly_the_limit_is_fine(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    server = make_server(max_message_bytes=LIMIT)
    ends, pads = ends_of(server), Recorder()
    server.channel.on("pad", lambda conn, payload: pads.add(len(payload)))
    peer = make_raw_client(server)
    peer.login("ann")
    peer.send(padded(LIMIT))
    peer.send(padded(LIMIT).encode())
    send_fragments(peer, padded(LIMIT).encode(), 100)
    size = LIMIT - len(frame("pad", ""))
    assert pads.wait_for(3) == [size] * 3
    assert ends.items == []


def test_43_bytes_count_not_characters(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    server = make_server(max_message_bytes=LIMIT)
    peer = make_raw_client(server)
    peer.login("ann")
    text = '["pad","' + "é" * (LIMIT // 2) + '"]'
    assert len(text) < LIMIT < len(text.encode())
    peer.send(text)
    assert peer.recv_close()[0] == 1009


@pytest.mark.parametrize("finish", [True, False], ids=["finished", "endless"])
@pytest.mark.parametrize("size", [7, 100, LIMIT])
def test_43_fragments_count_together(
    make_server: MakeServer, make_raw_client: MakeRawClient, size: int, finish: bool
) -> None:
    server = make_server(max_message_bytes=LIMIT)
    ends = ends_of(server)
    peer = make_raw_client(server)
    peer.login("ann")
    send_fragments(peer, padded(2 * LIMIT).encode(), size, finish=finish)
    ((cid, code, _),) = ends.wait_for(1)
    assert (cid, code) == ("ann", 1009)
    assert peer.recv_close()[0] in {1009, 1006}


@pytest.mark.parametrize("announced", [2**16, 2**31, 2**40, 2**62])
def test_43_a_message_that_is_not_complete_yet_is_over_the_limit_already(
    make_server: MakeServer, make_raw_client: MakeRawClient, announced: int
) -> None:
    server = make_server(max_message_bytes=LIMIT)
    ends = ends_of(server)
    peer = make_raw_client(server)
    peer.login("ann")
    header = bytes([0x81, 0x80 | 127]) + struct.pack("!Q", announced) + b"mask"
    assert peer.socket.sock is not None
    peer.socket.sock.sendall(header + b"x" * (LIMIT + 1))
    assert peer.recv_close()[0] in {1009, 1006}
    ((cid, code, _),) = ends.wait_for(1)
    assert (cid, code) == ("ann", 1009)


@pytest.mark.parametrize("challenged", [False, True])
def test_43_before_the_welcome_the_limit_is_64_kb(
    make_server: MakeServer, make_raw_client: MakeRawClient, challenged: bool
) -> None:
    asked = Recorder()

    def identify(auth: AuthRequest) -> None:
        asked.add(auth.identity)
        auth.accept("ann")

    server = make_server(identify)
    if challenged:
        server.use_challenge(lambda auth: "quest")
    pads = Recorder()
    server.channel.on("pad", lambda conn, payload: pads.add(len(payload)))

    def arrive() -> RawClient:
        peer = make_raw_client(server)
        if challenged:
            peer.hi("ann")
            assert peer.recv_frame()[0] == CHALLENGE
        return peer

    def last(size: int) -> str:
        """The frame that brings what has come to so many bytes, as the wire counts them."""
        size -= LONG_HEADER
        if challenged:
            return padded(size - SHORT_HEADER - len(hi), CHALLENGE)
        return frame(HI, {"identity": "x" * (size - len(frame(HI, {"identity": ""})))})

    hi = frame(HI, {"identity": "ann", "meta": {}})
    large = arrive()
    large.send(last(64 * KB + 1))
    assert large.recv_close()[0] == 1009
    assert asked.items == []
    fitting = arrive()
    fitting.send(last(64 * KB))
    assert fitting.recv_frame()[0] == WELCOME
    fitting.send(padded(MB))
    assert pads.wait_for(1) == [MB - len(frame("pad", ""))]


def test_43_a_smaller_limit_holds_before_the_welcome_too(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    peer = make_raw_client(make_server(max_message_bytes=1000))
    peer.hi("x" * 1000)
    assert peer.recv_close()[0] == 1009


def test_43_a_client_closes_with_1009_too_and_for_good(
    make_client: MakeClient, make_raw_server: MakeRawServer
) -> None:
    closes = Recorder()

    def script(peer: RawPeer) -> None:
        peer.welcome()
        peer.send(padded(LIMIT))
        peer.send(padded(LIMIT + 1))
        closes.add(peer.recv_close()[0])

    server = make_raw_server(script)
    client = make_client(server, max_message_bytes=LIMIT, reconnect=True, backoff=QUICK)
    pads, closed = Recorder(), Recorder()
    client.channel.on("pad", lambda payload: pads.add(len(payload)))
    client.when.closed(lambda code, reason: closed.add(code))
    client.connect("ann")
    assert closes.wait_for(1) == [1009]
    assert client.wait(PATIENCE)
    assert closed.wait_for(1) == [1009]
    assert pads.wait_for(1) == [LIMIT - len(frame("pad", ""))]
    assert server.connections == 1


def test_43_the_server_sees_which_client_could_not_take_it(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server()
    ends = ends_of(server)
    small, large = connect(server, "small", max_message_bytes=LIMIT), connect(server, "large")
    pads = Recorder()
    large.channel.on("pad", lambda payload: pads.add(len(payload)))
    server.broadcast("pad", "x" * LIMIT)
    ((cid, code, _),) = ends.wait_for(1)
    assert (cid, code) == ("small", 1009)
    assert pads.wait_for(1) == [LIMIT]
    assert small.wait(PATIENCE)


def test_43_sending_over_the_own_limit_raises_at_the_sender_and_sends_nothing(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server(max_message_bytes=LIMIT)
    client = connect(server, max_message_bytes=LIMIT)
    ends = ends_of(server)
    (conn,) = server.clients["ann"].conns.values()
    up, down = Recorder(), Recorder()
    server.channel.on("pad", lambda conn, payload: up.add(payload))
    client.channel.on("pad", down)
    server.register("echo", lambda conn, payload: payload)
    client.register("echo", lambda payload: payload)
    large = "x" * LIMIT
    attempts: list[Callable[[], object]] = [
        lambda: client.send("pad", large),
        lambda: client.call("echo", large),
        lambda: client.submit("echo", large).result(PATIENCE),
        lambda: conn.send("pad", large),
        lambda: conn.call("echo", large),
        lambda: conn.submit("echo", large).result(PATIENCE),
        lambda: server.clients["ann"].send("pad", large),
        lambda: server.send("ann", "pad", large),
        lambda: server.broadcast("pad", large),
    ]
    for attempt in attempts:
        with pytest.raises(ValueError) as caught:
            attempt()
        assert isinstance(caught.value, WseError)
        assert caught.value.code == WSE_ERROR.RP_SEND_FAILED
        assert "max_message_bytes" in str(caught.value) or str(LIMIT) in str(caught.value)
    client.send("pad", "last")
    conn.send("pad", "last")
    assert up.wait_for(1) == ["last"]
    assert down.wait_for(1) == ["last"]
    assert client.call("echo", 1) == conn.call("echo", 1) == 1
    assert ends.items == []


def test_43_a_result_over_the_own_limit_fails_the_call(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server(max_message_bytes=LIMIT)
    client = connect(server, max_message_bytes=LIMIT)
    (conn,) = server.clients["ann"].conns.values()
    server.register("large", lambda conn, payload: "x" * LIMIT)
    client.register("large", lambda payload: "x" * LIMIT)
    for call in (client.call, conn.call):
        with pytest.raises(WseError) as caught:
            call("large")
        assert caught.value.code == WSE_ERROR.RP_EXECUTION_FAILED
    assert client.status == WSE_STATUS.READY


# 44


def origin_status(server: WseServer, origin: str | None, **options: Any) -> int:
    """The HTTP status of an upgrade with this Origin header."""
    suppressed = {"suppress_origin": True} if origin is None else {"origin": origin}
    try:
        peer = RawClient(server.url, **suppressed, **options)
    except websocket.WebSocketBadStatusException as error:
        return error.status_code
    peer.abort()
    return 101


def test_44_the_same_origin_and_no_origin_at_all_are_let_in(make_server: MakeServer) -> None:
    server = make_server()
    assert origin_status(server, f"http://127.0.0.1:{server.port}") == 101
    assert origin_status(server, f"https://127.0.0.1:{server.port}") == 101
    assert origin_status(server, None) == 101
    named = {"host": "chat.example.org"}
    assert origin_status(server, "https://chat.example.org", **named) == 101


def foreign(server: WseServer) -> list[str]:
    """Origins that are not the server's, however alike they look."""
    port = server.port
    assert port is not None
    return [
        "http://evil.example",
        f"http://evil.example:{port}",
        f"http://127.0.0.1:{port}.evil.example",
        f"http://evil.example/127.0.0.1:{port}",
        f"http://127.0.0.1:{port}@evil.example",
        f"http://127.0.0.1:{port + 1}",
        f"http://127.0.0.2:{port}",
        "http://127.0.0.1",
        "null",
        "junk",
    ]


def test_44_a_page_of_another_origin_is_refused_with_403(
    make_server: MakeServer, connect: Connect
) -> None:
    asked = Recorder()

    def identify(auth: AuthRequest) -> None:
        asked.add(auth.identity)
        accept_all(auth)

    server = make_server(identify)
    client = connect(server, "ann")
    for origin in foreign(server):
        assert origin_status(server, origin) == 403, origin
    server.register("echo", lambda conn, payload: payload)
    assert client.call("echo", 1) == 1
    assert asked.items == ["ann"]


def test_44_the_log_line_names_the_setting_to_change(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server()
    with caplog.at_level(logging.WARNING, "wse_sync.server"):
        assert origin_status(server, "http://evil.example") == 403
        wait_until(lambda: caplog.records, "a log line")
    (record,) = [each for each in caplog.records if each.name == "wse_sync.server"]
    assert "origins" in record.getMessage()
    assert "http://evil.example" in record.getMessage()
    assert record.levelno >= logging.WARNING


def test_44_a_refused_origin_cannot_break_the_log_line(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server()
    with caplog.at_level(logging.WARNING, "wse_sync.server"):
        assert origin_status(server, "http://evil\x1b[2J\x08" + "x" * 5000) == 403
        wait_until(lambda: caplog.records, "a log line")
    message = caplog.records[0].getMessage()
    assert "\x1b" not in message
    assert "\x08" not in message


def test_44_a_list_of_origins_lets_in_what_it_lists(make_server: MakeServer) -> None:
    server = make_server(origins=["https://chat.example.org", "http://localhost:8080"])
    assert origin_status(server, "https://chat.example.org") == 101
    assert origin_status(server, "http://localhost:8080") == 101
    assert origin_status(server, None) == 101
    for origin in (
        "http://chat.example.org",
        "https://chat.example.org:8443",
        "https://chat.example.org.evil.example",
        "https://evil.example",
        "http://localhost",
        "null",
    ):
        assert origin_status(server, origin) == 403, origin


@pytest.mark.parametrize("origins", [5, True, ["https://chat.example.org", 5], [None], [b"*"]])
def test_44_what_is_no_list_of_texts_is_no_list_of_origins(origins: Any) -> None:
    with pytest.raises(WseTypeError, match="origins must be"):
        WseServer(accept_all, origins=origins)


def test_44_an_origin_without_a_scheme_is_refused_since_no_page_has_it() -> None:
    with pytest.raises(WseValueError, match=r"'https://chat\.example\.org'"):
        WseServer(accept_all, origins=["chat.example.org"])
    with pytest.raises(WseValueError, match="maybe"):
        WseServer(accept_all, origins="https://chat.example.org")


def test_44_pages_without_an_origin_are_let_in_when_listed(make_server: MakeServer) -> None:
    server = make_server(origins=["null", "app://chat"])
    assert [origin_status(server, origin) for origin in ("null", "app://chat")] == [101, 101]
    assert origin_status(server, "https://evil.example") == 403


def test_44_a_star_lets_in_every_origin(make_server: MakeServer) -> None:
    server = make_server(origins="*")
    for origin in [*foreign(server), None]:
        assert origin_status(server, origin) == 101


def test_44_a_client_of_ours_learns_that_its_origin_was_refused(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    client = make_client(
        make_server(), ws_options={"origin": "http://evil.example"}, reconnect=True, backoff=QUICK
    )
    with pytest.raises(ConnectionError) as caught:
        client.connect("ann")
    assert isinstance(caught.value, WseError)
    assert caught.value.code == WSE_ERROR.WS_CLIENT_ERROR
    assert "403" in str(caught.value)


# 45


class Sockets:
    """The threads and sockets that the process had, to compare with later."""

    def __init__(self) -> None:
        self._threads = set(threading.enumerate())
        self._sockets = open_sockets()

    def settle(self, sockets: int = 0) -> None:
        """Waits until no thread and only so many sockets are more than there were."""
        wait_until(self._no_thread, lambda: f"threads left: {threading.enumerate()}")
        wait_until(
            lambda: len(open_sockets() - self._sockets) == sockets,
            lambda: f"sockets: {sorted(open_sockets() - self._sockets)}, expected {sockets}",
        )

    def _no_thread(self) -> bool:
        return not set(threading.enumerate()) - self._threads


def half_open(server: WseServer, request: bytes) -> socket.socket:
    """A connection that has sent part of an HTTP request, or nothing."""
    sock = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
    sock.sendall(request)
    return sock


def refused(url: str) -> bool:
    """Whether nobody listens there."""
    try:
        RawClient(url).abort()
    except ConnectionError:
        return True
    return False


@pytest.fixture
def brief_idleness(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that come after close() has joined the others end soon: the tests wait for them."""
    monkeypatch.setattr(workers, "_IDLE", 0.1)


@pytest.mark.usefixtures("brief_idleness")
def test_45_close_with_clients_in_every_state_leaves_nothing(make_server: MakeServer) -> None:
    before = Sockets()

    def identify(auth: AuthRequest) -> None:
        # The undecided one: not accepted, not refused, the handler has returned.
        if auth.identity != "undecided":
            auth.accept(auth.identity)

    server = make_server(identify, conn_per_user=10)
    ends, left = ends_of(server), Recorder()
    server.when.left(lambda client, code, reason: left.add((client.cid, code, reason)))
    url = server.url
    silent = half_open(server, b"")
    halfway = half_open(server, b"GET / HTTP/1.1\r\nHost: x\r\nUpgr")
    live = [RawClient(server.url) for _ in range(3)]
    for number, peer in enumerate(live):
        peer.login(f"user-{number}")
    stranger = RawClient(server.url)
    undecided = RawClient(server.url)
    undecided.hi("undecided")
    server.use_challenge(lambda auth: "quest")
    challenged = RawClient(server.url)
    challenged.hi("challenged")
    assert challenged.recv_frame()[0] == CHALLENGE
    # Nobody answers the goodbye.
    Thread(lambda: server.close(timeout=0.5)).result()
    for peer in [*live, stranger, undecided, challenged]:
        assert peer.recv_close() == (1012, "wse.by-server")
    for sock in (silent, halfway):
        received = b""
        with contextlib.suppress(ConnectionError):
            while data := sock.recv(4096):
                received += data
        assert not received.startswith(b"HTTP/1.1 101")
    before.settle(sockets=8)
    for peer in [*live, stranger, undecided, challenged]:
        peer.abort()
    silent.close()
    halfway.close()
    assert sorted(ends.wait_for(3)) == [(f"user-{n}", 1012, "wse.by-server") for n in range(3)]
    assert sorted(left.wait_for(3)) == [(f"user-{n}", 1012, "wse.by-server") for n in range(3)]
    assert not server.clients
    assert refused(url)
    before.settle()


def test_45_close_flushes_what_was_sent(make_server: MakeServer, connect: Connect) -> None:
    server = make_server()
    client = connect(server)
    numbers, closed = Recorder(), Recorder()
    client.channel.on("number", lambda payload: numbers.add(payload[0]))
    client.when.closed(closed)
    for number in range(500):
        server.broadcast("number", [number, "x" * 10_000])
    server.close(timeout=PATIENCE)
    assert numbers.wait_for(500) == list(range(500))
    assert closed.wait_for(1) == [(1012, "wse.by-server")]


def test_45_close_fails_open_calls_and_ends_their_deadlines(
    make_server: MakeServer, connect: Connect
) -> None:
    before = Sockets()
    server = make_server()
    client = connect(server)
    release = threading.Event()
    client.register("slow", lambda payload: wait_event(release))
    (conn,) = server.clients["ann"].conns.values()
    futures = [conn.submit("slow", timeout=timeout) for timeout in (3600.0, None)]
    server.close()
    for future in futures:
        error = future.exception(PATIENCE)
        assert isinstance(error, WseError)
        assert error.code == WSE_ERROR.RP_DISCONNECT
        assert error.details["disconnected"] == [1012, "wse.by-server"]
    release.set()
    client.disconnect()
    before.settle()


@pytest.mark.usefixtures("brief_idleness")
def test_45_close_is_bounded_when_handlers_are_blocked(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    before = Sockets()
    release = threading.Event()
    entered = Recorder()

    def block(*args: Any) -> None:
        entered.add(args)
        wait_event(release)

    def identify(auth: AuthRequest) -> None:
        if auth.identity == "blocked":
            block()
        auth.accept(auth.identity)

    try:
        server = make_server(identify)
        server.channel.on("block", block)
        server.register("block", block)
        peers = [make_raw_client(server) for _ in range(3)]
        for number, peer in enumerate(peers[:2]):
            peer.login(f"user-{number}")
        peers[0].send_frame("block")
        peers[1].send_frame("block", None, "STAMP")
        peers[2].hi("blocked")
        entered.wait_for(3)
        Thread(lambda: server.close(timeout=0.5)).result()
        for peer in peers:
            assert peer.recv_close() == (1012, "wse.by-server")
    finally:
        release.set()
    for peer in peers:
        peer.abort()
    before.settle()


def test_45_close_is_bounded_when_a_reader_has_stopped(make_server: MakeServer) -> None:
    before = Sockets()
    server = make_server(max_queue_bytes=64 * MB)
    stopped = RawClient(server.url, **small_window())
    stopped.login("stopped")
    for _ in range(16):
        server.broadcast("blob", "x" * MB)
    Thread(lambda: server.close(timeout=0.5)).result()
    before.settle(sockets=1)
    stopped.abort()
    before.settle()


def test_45_close_is_bounded_when_a_peer_never_answers_the_close(make_server: MakeServer) -> None:
    before = Sockets()
    server = make_server()
    mute = RawClient(server.url)
    mute.login("mute")
    Thread(lambda: server.close(timeout=0.3)).result()
    # Not a byte was read since, so nothing was answered; the server is through with it.
    before.settle(sockets=1)
    assert mute.recv_close() == (1012, "wse.by-server")
    mute.abort()


def test_45_close_again_has_no_effect(make_server: MakeServer, connect: Connect) -> None:
    server = make_server()
    ends = ends_of(server)
    client = connect(server)
    server.close()
    server.close()
    assert client.wait(PATIENCE)
    assert ends.wait_for(1) == [("ann", 1012, "wse.by-server")]
    server.close(timeout=0.0)


def test_45_close_from_many_threads_at_once(make_server: MakeServer, connect: Connect) -> None:
    before = Sockets()
    server = make_server()
    ends = ends_of(server)
    client = connect(server)
    for thread in [Thread(server.close) for _ in range(10)]:
        thread.result()
    assert client.wait(PATIENCE)
    client.disconnect()
    assert ends.wait_for(1) == [("ann", 1012, "wse.by-server")]
    before.settle()


def test_45_closing_a_server_that_never_started_has_no_effect() -> None:
    before = Sockets()
    server = WseServer(accept_all, port=0)
    server.close()
    before.settle()


@pytest.mark.parametrize("where", ["message", "procedure", "joined", "connected", "left"])
@pytest.mark.usefixtures("brief_idleness")
def test_45_a_handler_may_close_the_server(
    make_server: MakeServer, make_client: MakeClient, where: str
) -> None:
    before = Sockets()
    server = make_server()
    returned = Recorder()

    def close(*args: Any) -> None:
        server.close()
        returned.add("returned")

    if where == "message":
        server.channel.on("close", close)
    elif where == "procedure":
        server.register("close", close)
    else:
        getattr(server.when, where)(close)
    client = make_client(server)
    with contextlib.suppress(WseError):
        client.connect("ann")
        if where == "message":
            client.send("close")
        elif where == "procedure":
            client.submit("close")
        elif where == "left":
            client.disconnect()
    assert returned.wait_for(1) == ["returned"]
    assert client.wait(PATIENCE)
    client.disconnect()
    before.settle()


def test_45_the_context_manager_starts_and_closes(make_client: MakeClient) -> None:
    before = Sockets()
    with WseServer(accept_all, port=0) as server:
        client = make_client(server)
        assert client.connect("ann") == {"hello": "ann"}
    assert client.wait(PATIENCE)
    client.disconnect()
    before.settle()


def test_45_a_closed_server_may_start_again(make_server: MakeServer, connect: Connect) -> None:
    before = Sockets()
    server = make_server()
    server.register("echo", lambda conn, payload: payload)
    for number in range(3):
        client = connect(server, f"user-{number}")
        assert client.call("echo", number) == number
        server.close()
        assert client.wait(PATIENCE)
        client.disconnect()
        before.settle()
        server.start()
    server.close()
    before.settle()


def test_45_clients_that_come_while_it_closes_are_not_left_hanging(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    before = Sockets()
    server = make_server()
    clients = [make_client(server) for _ in range(8)]
    go = threading.Barrier(len(clients) + 1)

    def come(client: WseClient) -> None:
        go.wait(PATIENCE)
        with contextlib.suppress(WseError):
            client.connect("ann", timeout=PATIENCE)

    coming = [Thread(partial(come, client)) for client in clients]
    go.wait(PATIENCE)
    server.close()
    for thread in coming:
        thread.result(2 * PATIENCE)
    for client in clients:
        assert client.wait(PATIENCE)
        client.disconnect()
    before.settle()


UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    b"Sec-WebSocket-Protocol: " + SUBPROTOCOL.encode() + b"\r\n\r\n"
)


def test_45_close_amid_upgrades_leaves_nothing(make_server: MakeServer) -> None:
    before = Sockets()
    server = make_server(start=False)
    for _ in range(150):
        server.start()
        with contextlib.ExitStack() as stack:
            for _ in range(5):
                stack.enter_context(half_open(server, UPGRADE))
            server.close(timeout=0.1)
    # A time limit that was set too late, and that nobody cancels, would still be running.
    before.settle()


@pytest.mark.parametrize("held_up", ["before the upgrade", "after it"])
def test_45_close_says_goodbye_behind_an_upgrade_or_instead_of_it(
    make_server: MakeServer, monkeypatch: pytest.MonkeyPatch, held_up: str
) -> None:
    """Whoever is told that this is a WebSocket now is told of its end, too."""
    entered, go_on, attach = threading.Event(), threading.Event(), Link.attach

    def be_held_up() -> None:
        entered.set()
        wait_event(go_on)

    def attach_slowly(self: Link) -> None:
        if held_up == "before the upgrade":
            be_held_up()
        attach(self)
        if held_up == "after it":
            be_held_up()

    monkeypatch.setattr(Link, "attach", attach_slowly)
    server = make_server()
    with half_open(server, UPGRADE) as peer:
        wait_event(entered)
        closing = Thread(server.close)
        received = b""
        with contextlib.suppress(ConnectionError):
            while not received.endswith(b"wse.by-server") and (data := peer.recv(4096)):
                received += data
        go_on.set()
        peer.close()
        closing.result()
    if held_up == "after it":
        assert received.startswith(b"HTTP/1.1 101 ")
        assert received.endswith(b"\r\n\r\n\x88\x0f\x03\xf4wse.by-server")
    else:
        assert received == b""


def test_45_answers_and_messages_of_a_closed_server_raise_not_ready(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server()
    connect(server)
    (conn,) = server.clients["ann"].conns.values()
    server.close()
    assert server.broadcast("any") == 0
    assert server.send("ann", "any") == 0
    with pytest.raises(WseError) as caught:
        conn.send("any")
    assert caught.value.code == WSE_ERROR.CONNECTION_NOT_READY
    assert conn.state == "closed"


def test_45_close_waits_for_the_thread_of_a_connection_that_has_just_left(
    make_server: MakeServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in no table any more, and the system holds it up before it ends."""
    leaving, go_on, forget = threading.Event(), threading.Event(), Listener._forget

    def forget_and_be_held_up(self: Listener, visitor: object) -> None:
        forget(self, visitor)  # type: ignore[arg-type]
        leaving.set()
        wait_event(go_on)

    monkeypatch.setattr(Listener, "_forget", forget_and_be_held_up)
    server = make_server()
    connect(server).disconnect()
    wait_event(leaving)
    closing = Thread(server.close)
    closing.join(0.3)
    assert closing.is_alive()
    go_on.set()
    closing.result()
    assert not [each for each in threading.enumerate() if each.name.startswith("wse-reader-")]


SERVE_FOREVER = (
    SAY_INSIDE
    + """
import signal
import threading

from wse_sync import WseServer

signal.signal(signal.SIGINT, signal.default_int_handler)
server = WseServer(lambda auth: auth.accept("ann"), port=0)
server.when.left(lambda client, code, reason: print("left", code, reason))
server.register("hold", lambda conn, payload: payload)
print(server.start().url)
saying = say_inside("serve_forever", "wait")
server.serve_forever()
saying.join()
print("threads", [thread.name for thread in threading.enumerate()])
"""
)


def test_45_ctrl_c_ends_serve_forever_in_order(make_client: MakeClient) -> None:
    with Program(SERVE_FOREVER) as program:
        client = make_client(program.line())
        closed = Recorder()
        client.when.closed(closed)
        client.connect()
        assert client.call("hold", 1) == 1
        assert program.line() == "inside"
        program.interrupt()
        assert closed.wait_for(1) == [(1012, "wse.by-server")]
        assert program.line() == "left 1012 wse.by-server"
        assert program.line() == "threads ['MainThread']"
        assert program.end() == (0, [], [])
