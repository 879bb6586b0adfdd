"""Promises 23 to 29: calls that time out, lose their link, are cancelled or interrupted.

What is said of calls holds for both ends, so most tests run twice: with the client as the
caller, and with a connection of the server.
"""

from __future__ import annotations

import concurrent.futures
import json
import math
import queue
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Callable, Union

import pytest

from tests.conftest import Connect, MakeClient, MakeRawClient, MakeRawServer, MakeServer
from tests.faults import FaultProxy
from tests.programs import Program
from tests.support import (
    PATIENCE,
    QUICK,
    RESPONSE,
    RESPONSE_ERR,
    RawClient,
    RawEnd,
    RawPeer,
    Recorder,
    Thread,
    pass_time,
    wait_event,
    wait_until,
)
from wse_sync import (
    WSE_ERROR,
    WseClient,
    WseConnection,
    WseError,
    WseServer,
)

Caller = Union[WseClient, WseConnection]

CLOSE_WITHOUT_CODE = b"\x88\x00"


@dataclass(frozen=True)
class Pair:
    """Two ends of ours: one calls, the other has the procedures."""

    caller: Caller
    register: Callable[[str, Callable[[Any], Any]], object]
    caller_errors: Recorder
    """The error signal of the end that calls."""
    errors: Recorder
    """The error signal of the end that has the procedures."""


@dataclass(frozen=True)
class Played:
    """A caller of ours, and another end that the test plays."""

    caller: Caller
    peer: RawClient | RawPeer
    errors: Recorder
    ignored: Recorder


MakePlayed = Callable[..., "AbstractContextManager[Played]"]


def without_conn(handler: Callable[[Any], Any]) -> Callable[[WseConnection, Any], Any]:
    return lambda conn, payload: handler(payload)


def make_pair(
    side: str, make_server: MakeServer, connect: Connect, **options: Any
) -> tuple[Pair, WseServer, WseClient]:
    """A server and a client; the options go to the side that calls."""
    server = make_server(**(options if side == "server" else {}))
    connected = Recorder()
    server.when.connected(connected)
    client = connect(server, **(options if side == "client" else {}))
    conn = connected.wait_for(1)[0]
    server_errors, client_errors = Recorder(), Recorder()
    server.when.error(server_errors)
    client.when.error(client_errors)
    if side == "client":

        def register(name: str, handler: Callable[[Any], Any]) -> object:
            return server.register(name, without_conn(handler))

        return Pair(client, register, client_errors, server_errors), server, client
    return Pair(conn, client.register, server_errors, client_errors), server, client


@pytest.fixture(params=["client", "server"])
def side(request: pytest.FixtureRequest) -> str:
    """Which end calls."""
    return str(request.param)


@pytest.fixture
def pair(side: str, make_server: MakeServer, connect: Connect) -> Pair:
    return make_pair(side, make_server, connect)[0]


@pytest.fixture
def make_played(
    side: str,
    make_server: MakeServer,
    connect: Connect,
    make_raw_client: MakeRawClient,
    make_raw_server: MakeRawServer,
) -> MakePlayed:
    """Makes a Played whose caller has the given options."""

    @contextmanager
    def played_server(**options: Any) -> Iterator[Played]:
        peers: queue.Queue[RawPeer] = queue.Queue()
        over = threading.Event()

        def script(peer: RawPeer) -> None:
            peer.welcome()
            peers.put(peer)
            over.wait()

        errors, ignored = Recorder(), Recorder()
        try:
            client = connect(make_raw_server(script), **options)
            client.when.error(errors)
            client.when.ignored(ignored)
            yield Played(client, peers.get(timeout=PATIENCE), errors, ignored)
        finally:
            over.set()

    @contextmanager
    def played_client(**options: Any) -> Iterator[Played]:
        server = make_server(**options)
        connected, errors, ignored = Recorder(), Recorder(), Recorder()
        server.when.connected(connected)
        server.when.error(errors)
        server.when.ignored(ignored)
        peer = make_raw_client(server)
        peer.login("ann")
        yield Played(connected.wait_for(1)[0], peer, errors, ignored)

    return played_server if side == "client" else played_client


@pytest.fixture
def played(make_played: MakePlayed) -> Iterator[Played]:
    with make_played() as made:
        yield made


def failure(future: Future[Any]) -> WseError:
    """The WseError with which a call ends."""
    with pytest.raises(WseError) as caught:
        future.result(PATIENCE)
    return caught.value


def stamp_of(peer: RawEnd, name: str) -> str:
    """The stamp of the call that is the next frame."""
    type, _, stamp = peer.recv_frame()
    assert type == name
    assert isinstance(stamp, str)
    assert stamp
    return stamp


def answers_as_ever(played: Played) -> None:
    """The next frame is the call made here, its answer counts, and nothing was reported."""
    future = played.caller.submit("next", 1)
    stamp = stamp_of(played.peer, "next")
    played.peer.send_frame(RESPONSE, "fine", stamp)
    assert future.result(PATIENCE) == "fine"
    assert played.errors.items == []
    assert played.ignored.items == []


# 23


def test_23_timeout_raises_rp_timeout_in_time(played: Played) -> None:
    started = time.monotonic()
    with pytest.raises(WseError) as caught:
        played.caller.call("slow", timeout=0.2)
    elapsed = time.monotonic() - started
    assert caught.value.code == WSE_ERROR.RP_TIMEOUT
    assert isinstance(caught.value, TimeoutError)
    assert "slow" in str(caught.value)
    assert 0.15 < elapsed < PATIENCE


def test_23_the_late_answer_is_dropped_and_answered_by_nothing(played: Played) -> None:
    with pytest.raises(WseError):
        played.caller.call("slow", timeout=0.05)
    stamp = stamp_of(played.peer, "slow")
    played.peer.send_frame(RESPONSE, "late", stamp)
    answers_as_ever(played)


def test_23_a_late_error_is_dropped_and_answered_by_nothing(played: Played) -> None:
    with pytest.raises(WseError):
        played.caller.call("slow", timeout=0.05)
    stamp = stamp_of(played.peer, "slow")
    played.peer.send_frame(RESPONSE_ERR, {"code": "late"}, stamp)
    answers_as_ever(played)


def test_23_an_answer_to_no_call_at_all_is_dropped(played: Played) -> None:
    played.peer.send_frame(RESPONSE, "what", "NEVERMADE1")
    played.peer.send_frame(RESPONSE_ERR, {"code": "what"}, "NEVERMADE2")
    answers_as_ever(played)


def test_23_a_second_answer_is_dropped(played: Played) -> None:
    future = played.caller.submit("once")
    stamp = stamp_of(played.peer, "once")
    played.peer.send_frame(RESPONSE, 1, stamp)
    played.peer.send_frame(RESPONSE, 2, stamp)
    assert future.result(PATIENCE) == 1
    answers_as_ever(played)


def test_23_the_late_answer_of_our_own_end_harms_nothing(pair: Pair) -> None:
    release, returned = threading.Event(), threading.Event()

    def slow(payload: Any) -> str:
        wait_event(release)
        returned.set()
        return "late"

    pair.register("slow", slow)
    pair.register("echo", lambda payload: payload)
    with pytest.raises(TimeoutError):
        pair.caller.call("slow", timeout=0.05)
    release.set()
    wait_event(returned)
    assert pair.caller.call("echo", 5) == 5
    assert pair.errors.items == []
    assert pair.caller_errors.items == []


def test_23_the_timeout_of_the_endpoint_is_the_default(make_played: MakePlayed) -> None:
    with make_played(call_timeout=0.05) as played:
        with pytest.raises(WseError) as caught:
            played.caller.call("slow")
        assert caught.value.code == WSE_ERROR.RP_TIMEOUT
        assert failure(played.caller.submit("slow")).code == WSE_ERROR.RP_TIMEOUT


def test_23_a_timeout_of_none_waits_for_ever(make_played: MakePlayed) -> None:
    with make_played(call_timeout=0.05) as played:
        patient = Thread(lambda: played.caller.call("patient", timeout=None))
        stamp = stamp_of(played.peer, "patient")
        # This one began later, with the same default, and is over before the patient one.
        assert failure(played.caller.submit("impatient")).code == WSE_ERROR.RP_TIMEOUT
        assert patient.is_alive()
        played.peer.send_frame(RESPONSE, "worth it", stamp)
        assert patient.result() == "worth it"


def test_23_the_endpoint_may_be_made_without_a_limit(make_played: MakePlayed) -> None:
    with make_played(call_timeout=None) as played:
        patient = played.caller.submit("patient")
        stamp = stamp_of(played.peer, "patient")
        assert failure(played.caller.submit("impatient", timeout=0.05)).code == WSE_ERROR.RP_TIMEOUT
        assert not patient.done()
        played.peer.send_frame(RESPONSE, "worth it", stamp)
        assert patient.result(PATIENCE) == "worth it"


def test_23_each_call_has_its_own_deadline(played: Played) -> None:
    ended: queue.Queue[str] = queue.Queue()

    def put_name(name: str, future: Future[Any]) -> None:
        ended.put(name)

    timeouts = {"third": 15.0, "first": 5.0, "second": 10.0}
    for name, timeout in timeouts.items():
        future = played.caller.submit(name, timeout=timeout)
        future.add_done_callback(partial(put_name, name))
    for name in ("first", "second", "third"):
        assert ended.empty()
        pass_time(5.0)
        assert ended.get(timeout=PATIENCE) == name
    for _ in timeouts:
        played.peer.recv_frame()
    answers_as_ever(played)


# 24

Loss = Callable[[RawPeer], None]


def close_with(code: int, reason: str) -> Loss:
    return lambda peer: peer.close(code, reason)


def close_without_code(peer: RawPeer) -> None:
    peer.socket.sendall(CLOSE_WITHOUT_CODE)
    peer.recv_close()


def assert_disconnected(error: WseError, code: int, reason: str) -> None:
    assert error.code == WSE_ERROR.RP_DISCONNECT
    assert isinstance(error, ConnectionError)
    assert error.details["disconnected"] == [code, reason]


LOSSES = {
    "custom": (close_with(1000, "custom"), 1000, "custom"),
    "no-reason": (close_with(1000, ""), 1000, ""),
    "evicted": (close_with(1000, "wse.clients-concurrency"), 1000, "wse.clients-concurrency"),
    "restart": (close_with(1012, "wse.by-server"), 1012, "wse.by-server"),
    "own-code": (close_with(4001, "größer"), 4001, "größer"),
    "no-code": (close_without_code, 1005, ""),
    "no-frame": (RawPeer.abort, 1006, ""),
}


@pytest.mark.parametrize("reconnect", [False, True])
@pytest.mark.parametrize(("loss", "code", "reason"), LOSSES.values(), ids=LOSSES)
def test_24_losing_the_link_fails_every_open_call_of_a_client(
    connect: Connect,
    make_raw_server: MakeRawServer,
    loss: Loss,
    code: int,
    reason: str,
    reconnect: bool,
) -> None:
    lose, over = threading.Event(), threading.Event()

    def script(peer: RawPeer) -> None:
        if peer.number:
            over.wait()
            return
        peer.welcome()
        wait_event(lose)
        loss(peer)

    server = make_raw_server(script)
    try:
        # The call's own timeout must not be what ends it.
        client = connect(server, reconnect=reconnect, backoff=QUICK, call_timeout=None)
        blocked = Thread(lambda: client.call("blocked"))
        futures = [client.submit(f"open-{number}", number) for number in range(10)]
        wait_until(lambda: len(client.connection._callers) == 11)
        lose.set()
        for future in futures:
            assert_disconnected(failure(future), code, reason)
        with pytest.raises(WseError) as caught:
            blocked.result()
        assert_disconnected(caught.value, code, reason)
    finally:
        over.set()


def test_24_the_clients_own_disconnect_fails_its_open_calls(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server()
    release = threading.Event()
    server.register("slow", lambda conn, payload: wait_event(release))
    client = connect(server, call_timeout=None)
    futures = [client.submit("slow") for _ in range(3)]
    client.disconnect("enough")
    for future in futures:
        assert_disconnected(failure(future), 1000, "enough")
    release.set()


def test_24_a_jump_fails_the_open_calls_of_the_link_it_leaves(
    make_server: MakeServer, connect: Connect
) -> None:
    here, there = make_server(), make_server()
    release = threading.Event()
    here.register("slow", lambda conn, payload: wait_event(release))
    client = connect(here, call_timeout=None)
    future = client.submit("slow")
    client.jump(there.url)
    assert_disconnected(failure(future), 4000, "jump")
    release.set()


ServerLoss = Callable[[WseServer, WseConnection, WseClient], None]

SERVER_LOSSES: dict[str, tuple[ServerLoss, int, str]] = {
    "client-says-why": (lambda server, conn, client: client.disconnect("bye"), 1000, "bye"),
    "client-leaves": (lambda server, conn, client: client.disconnect(), 1000, "wse.by-client"),
    "conn-drop": (lambda server, conn, client: conn.drop("out"), 1000, "out"),
    "conn-drop-plain": (lambda server, conn, client: conn.drop(), 1000, "wse.by-server"),
    "user-drop": (
        lambda server, conn, client: server.clients["ann"].drop("banned"),
        1000,
        "banned",
    ),
    "drop-client": (lambda server, conn, client: server.drop_client("ann", "x"), 1000, "x"),
    "server-close": (lambda server, conn, client: server.close(), 1012, "wse.by-server"),
}


@pytest.mark.parametrize(("loss", "code", "reason"), SERVER_LOSSES.values(), ids=SERVER_LOSSES)
def test_24_losing_the_link_fails_every_open_call_of_a_connection(
    make_server: MakeServer, connect: Connect, loss: ServerLoss, code: int, reason: str
) -> None:
    server = make_server(call_timeout=None)
    connected = Recorder()
    server.when.connected(connected)
    client = connect(server)
    release, arrived = threading.Event(), Recorder()

    @client.register("slow")
    def slow(payload: Any) -> None:
        arrived.add(payload)
        wait_event(release)

    conn = connected.wait_for(1)[0]
    blocked = Thread(lambda: conn.call("slow"))
    futures = [conn.submit("slow", number) for number in range(10)]
    arrived.wait_for(11)
    leaving = Thread(lambda: loss(server, conn, client))
    for future in futures:
        assert_disconnected(failure(future), code, reason)
    with pytest.raises(WseError) as caught:
        blocked.result()
    assert_disconnected(caught.value, code, reason)
    release.set()
    leaving.result()


@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
def test_24_a_cut_link_fails_the_open_calls_of_both_ends(
    make_server: MakeServer, connect: Connect, reset: bool
) -> None:
    server = make_server(call_timeout=None)
    connected = Recorder()
    server.when.connected(connected)
    release = threading.Event()
    server.register("slow", lambda conn, payload: wait_event(release))
    with FaultProxy(server.url) as proxy:
        client = connect(proxy.url, call_timeout=None)
        client.register("slow", lambda payload: wait_event(release))
        conn = connected.wait_for(1)[0]
        futures = [conn.submit("slow"), client.submit("slow")]
        proxy.cut(reset=reset)
        for future in futures:
            error = failure(future)
            assert error.code == WSE_ERROR.RP_DISCONNECT
            assert error.details["disconnected"][0] == 1006
        release.set()


def test_24_a_disconnect_of_another_connection_fails_no_call_of_the_server(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server(conn_per_user=2)
    connected, disconnected = Recorder(), Recorder()
    server.when.connected(connected)
    server.when.disconnected(disconnected)
    release = threading.Event()

    def slow(payload: Any) -> str:
        wait_event(release)
        return "still here"

    staying = connect(server, "ann")
    staying.register("slow", slow)
    conn = connected.wait_for(1)[0]
    same_user, other_user = connect(server, "ann"), connect(server, "bob")
    future = conn.submit("slow")
    same_user.disconnect()
    other_user.disconnect()
    disconnected.wait_for(2)
    assert not future.done()
    release.set()
    assert future.result(PATIENCE) == "still here"


def test_24_a_disconnect_of_another_connection_fails_no_call_of_a_client(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server(conn_per_user=2)
    release = threading.Event()
    disconnected = Recorder()
    server.when.disconnected(disconnected)

    def slow(conn: WseConnection, payload: Any) -> str:
        wait_event(release)
        return "still here"

    server.register("slow", slow)
    staying = connect(server, "ann")
    same_user, other_user = connect(server, "ann"), connect(server, "bob")
    future = staying.submit("slow")
    lost = [same_user.submit("slow", timeout=None), other_user.submit("slow", timeout=None)]
    same_user.disconnect()
    server.drop_client("bob")
    disconnected.wait_for(2)
    for each in lost:
        assert failure(each).code == WSE_ERROR.RP_DISCONNECT
    assert not future.done()
    release.set()
    assert future.result(PATIENCE) == "still here"


def test_24_calls_after_the_loss_raise_not_ready(make_server: MakeServer, connect: Connect) -> None:
    server = make_server()
    connected, disconnected = Recorder(), Recorder()
    server.when.connected(connected)
    server.when.disconnected(disconnected)
    client = connect(server)
    client.disconnect()
    disconnected.wait_for(1)
    callers: list[Caller] = [client, connected.items[0]]
    for caller in callers:
        with pytest.raises(ConnectionError) as caught:
            caller.call("any")
        assert isinstance(caught.value, WseError)
        assert caught.value.code == WSE_ERROR.CONNECTION_NOT_READY


def test_24_a_handler_that_waits_for_an_answer_is_freed_too(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    server = make_server(call_timeout=None)
    ended = Recorder()

    @server.channel.on("ask-me")
    def ask(conn: WseConnection, payload: Any) -> None:
        ended.add(failure(conn.submit("question")))

    peer = make_raw_client(server)
    peer.login("ann")
    peer.send_frame("ask-me")
    stamp_of(peer, "question")
    peer.abort()
    assert ended.wait_for(1)[0].code == WSE_ERROR.RP_DISCONNECT


# 25


def contains(item: Any, items: list[Any]) -> bool:
    return item in items


def test_25_an_answer_on_another_connection_does_not_count(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    server = make_server(conn_per_user=2)
    connected, errors = Recorder(), Recorder()
    server.when.connected(connected)
    server.when.error(errors)
    read = Recorder()
    server.channel.on("read", lambda conn, payload: read.add(payload))
    ann, bob, second_ann = (make_raw_client(server) for _ in range(3))
    for number, (peer, name) in enumerate(((ann, "ann"), (bob, "bob"), (second_ann, "ann")), 1):
        peer.login(name)
        conns = connected.wait_for(number)  # those of different connections have no order
    future = conns[0].submit("who")
    stamp = stamp_of(ann, "who")
    for stranger, conn in ((bob, conns[1]), (second_ann, conns[2])):
        stranger.send_frame(RESPONSE, "forged", stamp)
        stranger.send_frame(RESPONSE_ERR, {"code": "forged"}, stamp)
        # Handled in order: when this one was, the forged ones were read.
        stranger.send_frame("read", conn.conn_id)
        read.wait_until(partial(contains, conn.conn_id))
    assert not future.done()
    ann.send_frame(RESPONSE, "ann herself", stamp)
    assert future.result(PATIENCE) == "ann herself"
    assert errors.items == []


def test_25_an_answer_on_a_later_link_does_not_count(
    connect: Connect, make_raw_server: MakeRawServer
) -> None:
    stamps: queue.Queue[str] = queue.Queue()

    def script(peer: RawPeer) -> None:
        peer.welcome()
        if peer.number == 0:
            stamps.put(stamp_of(peer, "question"))
            return
        peer.send_frame(RESPONSE, "too late", stamps.get(timeout=PATIENCE))
        peer.send_frame("go")
        peer.send_frame(RESPONSE, "in time", stamp_of(peer, "question"))
        peer.recv_close()

    client = connect(make_raw_server(script), reconnect=True, backoff=QUICK)
    errors, answers = Recorder(), Recorder()
    client.when.error(errors)
    client.channel.on("go", lambda payload: answers.add(client.call("question")))
    assert failure(client.submit("question")).code == WSE_ERROR.RP_DISCONNECT
    assert answers.wait_for(1) == ["in time"]
    assert errors.items == []
    client.disconnect()


# 26

BROKEN_ERRORS: list[Any] = [
    None,
    {},
    [],
    "text",
    5,
    True,
    {"code": None},
    {"code": 5},
    {"code": ""},
    {"message": "no code"},
    {"code": None, "message": 7, "details": "x"},
]


@pytest.mark.parametrize("payload", BROKEN_ERRORS, ids=json.dumps)
def test_26_a_broken_error_payload_still_ends_the_call(played: Played, payload: Any) -> None:
    future = played.caller.submit("breaks")
    played.peer.send_frame(RESPONSE_ERR, payload, stamp_of(played.peer, "breaks"))
    assert failure(future).code == WSE_ERROR.RP_EXECUTION_FAILED
    answers_as_ever(played)


@pytest.mark.parametrize("details", [None, "text", 5, [1]], ids=json.dumps)
@pytest.mark.parametrize("message", [None, 5, ["x"]], ids=json.dumps)
def test_26_a_code_with_odd_details_arrives_as_that_code(
    played: Played, details: Any, message: Any
) -> None:
    payload = {"code": "my-code", "message": message, "details": details}
    future = played.caller.submit("breaks")
    played.peer.send_frame(RESPONSE_ERR, payload, stamp_of(played.peer, "breaks"))
    error = failure(future)
    assert error.code == "my-code"
    assert isinstance(error.details, dict)
    assert "my-code" in str(error)
    answers_as_ever(played)


def circular() -> list[Any]:
    items: list[Any] = []
    items.append(items)
    return items


def deep() -> list[Any]:
    items: list[Any] = []
    for _ in range(200_000):
        items = [items]
    return items


UNPACKABLE: dict[str, tuple[Any, str]] = {
    "object": (object(), "object"),
    "set": ({"list": [{1, 2}]}, "set"),
    "bytes": (b"bytes", "bytes"),
    "function": ([print], "builtin_function_or_method"),
    "tuple-key": ({(1, 2): 3}, "tuple"),
    "nan": ({"deep": [math.nan]}, ""),
    "infinity": (math.inf, ""),
    "minus-infinity": (-math.inf, ""),
    "circular": (circular(), ""),
    "deep": (deep(), ""),
}


@pytest.mark.parametrize(("payload", "named"), UNPACKABLE.values(), ids=UNPACKABLE)
def test_26_a_payload_that_cannot_be_packed_raises_at_the_caller_and_nothing_is_sent(
    played: Played, payload: Any, named: str
) -> None:
    attempts: list[Callable[[], object]] = [
        lambda: played.caller.call("unpackable", payload),
        lambda: played.caller.submit("unpackable", payload).result(PATIENCE),
        lambda: played.caller.send("unpackable", payload),
    ]
    for attempt in attempts:
        with pytest.raises((TypeError, ValueError)) as caught:
            attempt()
        assert isinstance(caught.value, WseError)
        assert caught.value.code == WSE_ERROR.RP_SEND_FAILED
        assert named in str(caught.value)
    answers_as_ever(played)


def test_26_server_send_and_broadcast_raise_too_and_nothing_is_sent(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    server = make_server()
    peer = make_raw_client(server)
    peer.login("ann")
    attempts: list[Callable[[], object]] = [
        lambda: server.send("ann", "unpackable", {1, 2}),
        lambda: server.broadcast("unpackable", {1, 2}),
        lambda: server.clients["ann"].send("unpackable", {1, 2}),
    ]
    for attempt in attempts:
        with pytest.raises(TypeError) as caught:
            attempt()
        assert isinstance(caught.value, WseError)
        assert caught.value.code == WSE_ERROR.RP_SEND_FAILED
        assert "set" in str(caught.value)
    server.broadcast("sentinel")
    assert peer.recv_frame() == ["sentinel", None, None]


@pytest.mark.parametrize(
    "result",
    [object(), {1}, b"x", math.nan, circular(), deep()],
    ids=["object", "set", "bytes", "nan", "circular", "deep"],
)
def test_26_a_result_that_cannot_be_packed_fails_the_call(pair: Pair, result: Any) -> None:
    pair.register("odd", lambda payload: result)
    pair.register("echo", lambda payload: payload)
    with pytest.raises(WseError) as caught:
        pair.caller.call("odd")
    assert caught.value.code == WSE_ERROR.RP_EXECUTION_FAILED
    assert caught.value.details["rp"] == "odd"
    assert pair.caller.call("echo", 5) == 5
    reported = pair.errors.wait_for(1)
    assert len(reported) == 1


def test_26_error_details_that_cannot_be_packed_still_end_the_call(pair: Pair) -> None:
    def fails(payload: Any) -> None:
        raise WseError("my-code", {"odd": object()})

    pair.register("fails", fails)
    pair.register("echo", lambda payload: payload)
    with pytest.raises(WseError) as caught:
        pair.caller.call("fails")
    assert caught.value.code in {"my-code", WSE_ERROR.RP_EXECUTION_FAILED}
    assert pair.caller.call("echo", 5) == 5


# 27


def test_27_fifty_threads_over_one_connection_each_get_their_own_answer(pair: Pair) -> None:
    pair.register("echo", lambda payload: [payload, "echoed"])
    barrier = threading.Barrier(50)

    def calls(number: int) -> list[Any]:
        barrier.wait(PATIENCE)
        return [pair.caller.call("echo", {"n": number, "i": i}) for i in range(20)]

    threads = [Thread(partial(calls, number)) for number in range(50)]
    for number, thread in enumerate(threads):
        expected = [[{"n": number, "i": i}, "echoed"] for i in range(20)]
        assert thread.result(60) == expected


def test_27_answers_that_come_in_another_order_find_their_calls(played: Played) -> None:
    threads = [Thread(partial(played.caller.call, "ask", number)) for number in range(50)]
    asked = [played.peer.recv_frame() for _ in threads]
    assert len({stamp for _, _, stamp in asked}) == 50
    for _, number, stamp in reversed(asked):
        played.peer.send_frame(RESPONSE, {"to": number}, stamp)
    for number, thread in enumerate(threads):
        assert thread.result() == {"to": number}


def test_27_both_ends_call_at_the_same_time(make_server: MakeServer, connect: Connect) -> None:
    pair, server, client = make_pair("server", make_server, connect)
    server.register("down", lambda conn, payload: payload * 2)
    client.register("up", lambda payload: payload * 3)
    futures = [
        (client.submit("down", number), pair.caller.submit("up", number)) for number in range(50)
    ]
    for number, (down, up) in enumerate(futures):
        assert down.result(PATIENCE) == number * 2
        assert up.result(PATIENCE) == number * 3


# 28


def endpoints_of(make_server: MakeServer, make_client: MakeClient) -> list[Any]:
    server = make_server()
    return [server, make_client(server)]


def test_28_registering_twice_raises_and_the_first_handler_stays(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server()
    client = connect(server)
    connected = Recorder()
    server.when.connected(connected)
    ends: list[Any] = [server, client]
    for end in ends:
        end.register("which", lambda *args: "first")
        with pytest.raises(ValueError) as caught:
            end.register("which", lambda *args: "second")
        assert isinstance(caught.value, WseError)
        assert caught.value.code == WSE_ERROR.RP_ALREADY_REGISTERED
        assert "which" in str(caught.value)
    assert client.call("which") == "first"
    conn = next(iter(server.clients["ann"].conns.values()))
    assert conn.call("which") == "first"


def test_28_registering_twice_by_the_decorator_raises(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    for end in endpoints_of(make_server, make_client):
        end.register("which")(lambda *args: None)
        with pytest.raises(WseError) as caught:
            end.register("which")(lambda *args: None)
        assert caught.value.code == WSE_ERROR.RP_ALREADY_REGISTERED


def test_28_unregistering_the_unknown_raises(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    for end in endpoints_of(make_server, make_client):
        with pytest.raises(LookupError) as caught:
            end.unregister("unknown")
        assert isinstance(caught.value, WseError)
        assert caught.value.code == WSE_ERROR.RP_NOT_REGISTERED
        assert "unknown" in str(caught.value)


def test_28_a_name_is_free_again_after_unregister(
    make_server: MakeServer, connect: Connect
) -> None:
    for side in ("client", "server"):
        pair, server, client = make_pair(side, make_server, connect)
        end: Any = server if side == "client" else client
        end.register("which", lambda *args: "old")
        end.unregister("which")
        with pytest.raises(WseError) as caught:
            pair.caller.call("which")
        assert caught.value.code == WSE_ERROR.RP_NOT_REGISTERED
        assert isinstance(caught.value, LookupError)
        with pytest.raises(WseError):
            end.unregister("which")
        end.register("which", lambda *args: "new")
        assert pair.caller.call("which") == "new"


# 29


def test_29_cancel_forgets_the_call(played: Played) -> None:
    future = played.caller.submit("slow", timeout=None)
    stamp = stamp_of(played.peer, "slow")
    assert future.cancel()
    assert future.cancelled()
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(0)
    played.peer.send_frame(RESPONSE, "late", stamp)
    answers_as_ever(played)


def test_29_a_cancelled_call_is_over_for_those_who_wait_on_it(played: Played) -> None:
    future = played.caller.submit("slow", timeout=None)
    waiter = Thread(lambda: concurrent.futures.wait([future], timeout=PATIENCE / 2))
    stamp_of(played.peer, "slow")
    called_back: queue.Queue[bool] = queue.Queue()
    future.add_done_callback(lambda future: called_back.put(future.cancelled()))
    assert future.cancel()
    assert called_back.get(timeout=PATIENCE)
    assert waiter.result().done == {future}
    assert list(concurrent.futures.as_completed([future], timeout=PATIENCE / 2)) == [future]


def test_29_a_call_that_is_over_cannot_be_cancelled(played: Played) -> None:
    future = played.caller.submit("quick")
    played.peer.send_frame(RESPONSE, 7, stamp_of(played.peer, "quick"))
    assert future.result(PATIENCE) == 7
    assert not future.cancel()
    assert future.result(0) == 7


def test_29_cancelling_one_call_leaves_the_others(played: Played) -> None:
    futures = [played.caller.submit("many", number) for number in range(10)]
    stamps = [stamp_of(played.peer, "many") for _ in futures]
    for future in futures[::2]:
        assert future.cancel()
    for number, stamp in enumerate(stamps):
        played.peer.send_frame(RESPONSE, number, stamp)
    for number, future in enumerate(futures):
        if number % 2:
            assert future.result(PATIENCE) == number
        else:
            assert future.cancelled()
    answers_as_ever(played)


def test_29_the_loss_of_the_link_does_not_touch_a_cancelled_call(played: Played) -> None:
    cancelled = played.caller.submit("slow", timeout=None)
    other = played.caller.submit("slow", timeout=None)
    assert cancelled.cancel()
    played.peer.abort()
    assert failure(other).code == WSE_ERROR.RP_DISCONNECT
    assert cancelled.cancelled()


INTERRUPTED = """
import queue
import signal
import sys
import threading

from wse_sync import WseClient, WseServer

signal.signal(signal.SIGINT, signal.default_int_handler)
side = sys.argv[1]
release = threading.Event()


def slow(*args):
    print("started")
    release.wait()
    return "late"


server = WseServer(lambda auth: auth.accept("ann"), port=0)
connected = queue.Queue()
problems = []
server.when.connected(connected.put)
server.when.error(lambda error, conn: problems.append(error))
server.register("slow", slow)
server.register("add", lambda conn, pair: sum(pair))
with server:
    client = WseClient(server.url)
    client.when.error(problems.append)
    client.when.ignored(lambda type, payload: problems.append(type))
    client.register("slow", slow)
    client.register("add", sum)
    with client:
        client.connect()
        conn = connected.get()
        caller = client if side == "client" else conn
        try:
            print("returned", caller.call("slow", timeout=None))
        except KeyboardInterrupt:
            print("interrupted")
        release.set()
        print("sum", caller.call("add", [1, 2]))
        print("problems", problems)
print("end")
"""


def test_29_ctrl_c_in_a_call_raises_and_forgets_it(side: str) -> None:
    with Program(INTERRUPTED, side) as program:
        assert program.line() == "started"
        program.interrupt()
        assert program.line() == "interrupted"
        assert program.line() == "sum 3"
        assert program.line() == "problems []"
        assert program.end() == (0, ["end"], [])
