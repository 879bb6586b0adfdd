"""Who has not been let in yet: how many there may be, from where, and what they may send."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest
import websocket

from tests.conftest import Connect, MakeClient, MakeRawClient, MakeServer, MakeTestServer
from tests.hosts import werkzeug_serving
from tests.support import (
    QUICK,
    RawClient,
    Recorder,
    accept_all,
    pass_time,
    wait_event,
    wait_until,
)
from wse_sync import AuthRequest, WseConnection, WseConnectionError, WseServer
from wse_sync.auth import Admission

KB = 2**10


def decide_later(auth: AuthRequest) -> None:
    """Lets in whoever has a name at once, and leaves the rest waiting."""
    if auth.identity:
        auth.accept(auth.identity)


def status_of(server: WseServer, **options: Any) -> int:
    """What one more upgrade is answered with."""
    try:
        RawClient(server.url, **options).abort()
    except websocket.WebSocketBadStatusException as error:
        return int(error.status_code)
    return 101


def forwarded(*addresses: str) -> dict[str, Any]:
    """Options of a client whose connection came through proxies that say this."""
    return {"header": [f"X-Forwarded-For: {', '.join(addresses)}"]}


# How many


def test_44_one_address_has_room_for_so_many_strangers(
    make_server: MakeServer, make_raw_client: MakeRawClient, caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server(decide_later)
    waiting = [make_raw_client(server) for _ in range(20)]
    assert [status_of(server) for _ in range(5)] == [503] * 5
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert ["max_unauthenticated_per_address=20" in line for line in lines] == [True] * 5
    assert waiting[0].login("ann") is None
    make_raw_client(server)
    assert status_of(server) == 503


def test_44_all_together_have_room_for_so_many_strangers(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    server = make_server(
        decide_later, max_unauthenticated=3, max_unauthenticated_per_address=2, trusted_hops=1
    )
    first = make_raw_client(server, **forwarded("192.0.2.1"))
    make_raw_client(server, **forwarded("192.0.2.1"))
    assert status_of(server, **forwarded("192.0.2.1")) == 503
    assert status_of(server, **forwarded("192.0.2.9", "192.0.2.1")) == 503
    make_raw_client(server, **forwarded("192.0.2.2"))
    assert status_of(server, **forwarded("192.0.2.3")) == 503
    first.login("ann")
    make_raw_client(server, **forwarded("192.0.2.3"))


@pytest.mark.parametrize("end", ["welcome", "refusal", "junk", "close", "reset", "timeout"])
def test_44_a_place_is_given_back_however_it_ends(
    make_server: MakeServer, make_raw_client: MakeRawClient, end: str
) -> None:
    server = make_server(
        lambda auth: auth.accept("ann") if auth.identity == "ann" else auth.refuse(),
        max_unauthenticated=1,
    )
    stranger = make_raw_client(server)
    assert status_of(server) == 503
    if end in ("welcome", "refusal"):
        stranger.hi("ann" if end == "welcome" else "bob")
    elif end == "junk":
        stranger.send("junk")
    elif end == "timeout":
        stranger.sync()
        pass_time(20.0)
    if end in ("close", "reset"):
        stranger.close() if end == "close" else stranger.abort()
    elif end != "welcome":
        assert stranger.recv_close()[0] == 1000
        stranger.close()
    wait_until(lambda: len(server.strangers) == 0, "the place is free")
    assert make_raw_client(server).login("ann") is None


def test_44_whoever_is_refused_has_a_place_until_he_is_gone(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    refused = Recorder()

    def identify(auth: AuthRequest) -> None:
        auth.refuse()
        refused.add(auth.identity)

    server = make_server(identify, max_unauthenticated=1)
    stranger = make_raw_client(server)
    stranger.hi("bob")
    refused.wait_for(1)
    # It has not answered the close: else one could have any number of these.
    assert status_of(server) == 503
    assert stranger.recv_close() == (1000, "wse.not-authorized")
    wait_until(lambda: status_of(server) == 101, "the place is free")


@pytest.mark.parametrize("step", ["challenge", "identify"])
def test_44_whoever_leaves_while_he_is_identified_has_a_place_until_that_returns(
    make_server: MakeServer, make_raw_client: MakeRawClient, step: str
) -> None:
    begun, returns = Recorder(), threading.Event()

    def block(auth: AuthRequest) -> str:
        begun.add(auth.identity)
        wait_event(returns)
        return "quest"

    server = make_server(block if step == "identify" else accept_all, max_unauthenticated=2)
    if step == "challenge":
        server.use_challenge(block)
    for name in ("ann", "bob"):
        stranger = make_raw_client(server)
        stranger.hi(name)
        begun.wait_for(1 + (name == "bob"))
        stranger.abort()
    # Else one host could have any number of threads here.
    wait_until(lambda: not server.links(), "they are gone")
    assert status_of(server) == 503
    returns.set()
    wait_until(lambda: status_of(server) == 101, "the places are free")


def test_44_a_bad_upgrade_and_a_full_server_leave_no_place_taken(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    server = make_server(max_connections=1)
    assert status_of(server, header=["Sec-WebSocket-Protocol: \x7f,,"]) in (101, 400)
    wait_until(lambda: len(server.strangers) == 0, "the place is free")
    make_raw_client(server).login("ann")
    assert status_of(server) == 503
    assert len(server.strangers) == 0


def test_44_a_client_that_found_no_place_gets_in_later(
    make_server: MakeServer,
    make_raw_client: MakeRawClient,
    make_client: MakeClient,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = make_server(decide_later, max_unauthenticated_per_address=1)
    stranger = make_raw_client(server)
    client = make_client(server, reconnect=True, backoff=QUICK)
    turned_away = threading.Thread(target=client.connect, args=("ann",))
    turned_away.start()
    wait_until(lambda: "per_address" in caplog.text)
    stranger.abort()
    turned_away.join()
    assert client.cid == "ann"


def test_44_a_crowd_from_one_address_comes_in(make_server: MakeServer, connect: Connect) -> None:
    server = make_server(max_unauthenticated_per_address=2)
    for number in range(30):
        connect(server, f"user-{number}")
    assert len(server.clients) == 30
    assert len(server.strangers) == 0


def test_44_in_memory_nobody_has_an_address(make_test_server: MakeTestServer) -> None:
    deciding, decide = Recorder(), threading.Event()

    def identify(auth: AuthRequest) -> None:
        deciding.add(auth.identity)
        wait_event(decide)
        auth.accept(auth.identity)

    test = make_test_server(identify, max_unauthenticated_per_address=1)
    threads = [threading.Thread(target=test.connect, args=(f"user-{n}",)) for n in range(5)]
    for thread in threads:
        thread.start()
    deciding.wait_for(5)
    decide.set()
    for thread in threads:
        thread.join()
    assert len(test.server.clients) == 5


# From where


def test_remote_addr_is_that_of_the_socket_whatever_a_header_says(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    asked, connected = Recorder(), Recorder()

    def identify(auth: AuthRequest) -> None:
        asked.add(auth.remote_addr)
        auth.accept("ann")

    server = make_server(identify)
    server.when.connected(lambda conn: connected.add(conn.remote_addr))
    make_raw_client(server, **forwarded("192.0.2.1")).login("ann")
    assert asked.items == ["127.0.0.1"]
    assert connected.wait_for(1) == ["127.0.0.1"]


def test_remote_addr_is_what_trusted_proxies_say(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    asked, connected = Recorder(), Recorder()

    def identify(auth: AuthRequest) -> None:
        asked.add(auth.remote_addr)
        auth.accept("ann")

    server = make_server(identify, trusted_hops=2)
    server.when.connected(lambda conn: connected.add(conn.remote_addr))
    hops = forwarded("192.0.2.66", "[2001:db8::1]:4711", "192.0.2.2")
    make_raw_client(server, **hops).login("ann")
    assert asked.items == ["2001:db8::1"]
    assert connected.wait_for(1) == ["2001:db8::1"]


def test_remote_addr_is_where_it_came_back_from(
    make_test_server: MakeTestServer,
) -> None:
    test = make_test_server(trusted_hops=1)
    test.environ["HTTP_X_FORWARDED_FOR"] = "192.0.2.1"
    client = test.connect("ann", reconnect=True)
    (conn,) = test.server.clients["ann"].conns.values()
    assert conn.remote_addr == "192.0.2.1"
    test.environ["HTTP_X_FORWARDED_FOR"] = "192.0.2.2"
    test.cut(client)
    test.advance(1.0)
    assert conn.state == "open"
    assert conn.remote_addr == "192.0.2.2"


# What one may send and hear


def test_44_a_stranger_is_sent_nothing(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    reported = Recorder()

    def identify(auth: AuthRequest) -> None:
        if auth.identity == "late":
            raise ZeroDivisionError

    server = make_server(identify)
    tried = Recorder()

    @server.when.error
    def talk(error: BaseException, conn: WseConnection) -> None:
        for say in (
            lambda: conn.send("hello"),
            lambda: conn.call("hello"),
            lambda: conn.submit("x"),
        ):
            try:
                say()
            except WseConnectionError as refused:
                tried.add(refused.code)
        reported.add(error)

    stranger = make_raw_client(server)
    stranger.hi("late")
    reported.wait_for(1)
    assert server.broadcast("news") == 0
    assert server.send("late", "news") == 0
    assert stranger.recv() == ("close", (1000, "wse.not-authorized"))
    assert tried.items == ["wse.client.not-ready"] * 3


@pytest.mark.parametrize("frame", [("evil", 1), ("evil", 1, "s1")], ids=["message", "call"])
def test_44_nobody_hears_what_a_stranger_says_while_he_is_turned_away(
    make_server: MakeServer,
    make_raw_client: MakeRawClient,
    monkeypatch: pytest.MonkeyPatch,
    frame: tuple[Any, ...],
) -> None:
    """The reader has a frame in hand, and another thread ends the connection."""
    inside, ended, taken = threading.Event(), threading.Event(), threading.Event()
    receive, abandon = WseConnection._receive, Admission.abandon

    def receive_late(conn: WseConnection, data: Any) -> None:
        if "evil" in data:
            inside.set()
            wait_event(ended)
        receive(conn, data)
        if "evil" in data:
            taken.set()

    def abandon_late(admission: Admission) -> None:
        ended.set()
        wait_event(taken)
        abandon(admission)

    monkeypatch.setattr(WseConnection, "_receive", receive_late)
    monkeypatch.setattr(Admission, "abandon", abandon_late)
    asked, heard = Recorder(), Recorder()
    server = make_server(asked)
    server.channel.on("evil", lambda conn, payload: heard.add(payload))
    server.register("evil", lambda conn, payload: heard.add(payload))
    stranger = make_raw_client(server)
    stranger.hi("bob")
    (auth,) = asked.wait_for(1)
    stranger.send_frame(*frame)
    wait_event(inside)
    auth.refuse()
    assert stranger.recv_close() == (1000, "wse.not-authorized")
    stranger.close()
    server.close()
    assert heard.items == []


@pytest.mark.parametrize("kind", ["pings", "fragments"])
def test_44_a_stranger_may_send_64_kb_of_whatever_kind(
    make_server: MakeServer, make_raw_client: MakeRawClient, kind: str
) -> None:
    server = make_server(decide_later)
    errors = Recorder()
    server.when.error(lambda error, conn: errors.add(error))
    stranger = make_raw_client(server)
    if kind == "pings":
        stranger.hi("")
    with_header = 1000 + 8
    for number in range(64 * KB // with_header + 1):
        if kind == "pings":
            for _ in range(8):
                stranger.socket.ping("x" * 125)
        else:
            opcode = websocket.ABNF.OPCODE_CONT if number else websocket.ABNF.OPCODE_TEXT
            stranger.socket.send_frame(websocket.ABNF(0, 0, 0, 0, opcode, 1, b"x" * 1000))
    assert stranger.recv_close() == (1009, "too much before the welcome")
    errors.wait_for(1)


def test_44_what_waits_for_the_welcome_is_not_read_on_and_not_lost(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    asked, numbers = Recorder(), Recorder()
    server = make_server(asked)
    server.channel.on("number", lambda conn, payload: numbers.add(payload[0]))
    stranger = make_raw_client(server)
    stranger.hi("ann")
    for number in range(200):
        stranger.send_frame("number", [number, "x" * 1000])
    (auth,) = asked.wait_for(1)
    (link,) = server.links()
    wait_until(lambda: link.paused, "it is not read on")
    auth.accept("ann")
    assert numbers.wait_for(200) == list(range(200))


def test_07_a_silent_stranger_is_closed_in_an_app_too(make_server: MakeServer) -> None:
    server = make_server(accept_all, port=None, start=False)
    with werkzeug_serving(server.wsgi_app) as url:
        stranger = RawClient(url)
        stranger.sync()
        pass_time(20.0)
        assert stranger.recv_close() == (1000, "wse.auth-timeout")
        stranger.close()
        server.close()
