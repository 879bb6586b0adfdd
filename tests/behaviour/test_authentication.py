"""Promises 1 to 10: who gets in, and what everybody else is told."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import pytest

from tests.conftest import (
    Connect,
    MakeClient,
    MakeRawClient,
    MakeRawServer,
    MakeServer,
    MakeTestServer,
)
from tests.support import (
    CHALLENGE,
    HI,
    QUICK,
    WELCOME,
    RawPeer,
    Recorder,
    Thread,
    accept_all,
    pass_time,
    wait_event,
    wait_until,
)
from wse_sync import (
    WSE_ERROR,
    WSE_REASON,
    WSE_STATUS,
    AuthRequest,
    WseConnection,
    WseError,
    WseServer,
)


def refuse_all(auth: AuthRequest) -> None:
    auth.refuse()


# 1


@pytest.mark.parametrize("identify", [None, "accept", 42])
def test_01_a_server_without_an_identify_handler_cannot_be_made(identify: Any) -> None:
    with pytest.raises(WseError) as caught:
        WseServer(identify, port=0)
    assert caught.value.code == WSE_ERROR.IDENTIFY_HANDLER_MISSING


# 2


@pytest.mark.parametrize("welcome", [{"hey": 1}, None, 0, "", [1, [2]], False, "é☃"])
def test_02_accepting_gives_the_welcome_payload_from_connect_and_from_ready(
    make_server: MakeServer, make_client: MakeClient, welcome: Any
) -> None:
    def identify(auth: AuthRequest) -> None:
        auth.accept("ann", welcome)

    client = make_client(make_server(identify))
    ready = Recorder()
    client.when.ready(lambda payload: ready.add(payload))
    assert client.connect("x") == welcome
    assert ready.wait_for(1) == [welcome]
    assert client.status == WSE_STATUS.READY


def test_02_the_welcome_payload_is_none_when_accept_gets_none(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    client = make_client(make_server(lambda auth: auth.accept("ann")))
    assert client.connect() is None


# 3


def test_03_connected_fires_when_the_socket_is_open_before_ready(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    decide = threading.Event()

    def identify(auth: AuthRequest) -> None:
        decide.wait(10)
        auth.accept("ann", "welcome")

    client = make_client(make_server(identify))
    events = Recorder()
    client.when.connected(lambda: events.add("connected"))
    client.when.ready(lambda welcome: events.add(("ready", welcome)))
    connecting = Thread(lambda: client.connect("x"))
    assert events.wait_for(1) == ["connected"]
    assert client.status == WSE_STATUS.CONNECTING
    decide.set()
    connecting.result()
    assert events.wait_for(2) == ["connected", ("ready", "welcome")]


def test_03_connected_fires_also_when_the_client_is_refused_and_ready_does_not(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    client = make_client(make_server(refuse_all))
    events = Recorder()
    client.when.connected(lambda: events.add("connected"))
    client.when.ready(lambda welcome: events.add("ready"))
    client.when.closed(lambda code, reason: events.add("closed"))
    with pytest.raises(WseError):
        client.connect("x")
    assert events.wait_for(2) == ["connected", "closed"]


# 4


@pytest.mark.parametrize(
    "identity", [{"token": "t", "n": [1, None]}, "name", 17, 1.5, None, [], True, ""]
)
def test_04_identify_sees_the_raw_identity_and_meta(
    make_server: MakeServer, make_client: MakeClient, identity: Any
) -> None:
    seen = Recorder()

    def identify(auth: AuthRequest) -> None:
        seen.add((auth.identity, auth.meta))
        auth.accept("user-1")

    server = make_server(identify)
    make_client(server).connect(identity, {"device": "pi", "n": 1})
    assert seen.items == [(identity, {"device": "pi", "n": 1})]
    assert list(server.clients) == ["user-1"]


def test_04_the_cid_is_what_identify_accepted(make_server: MakeServer, connect: Connect) -> None:
    connected = Recorder()
    server = make_server(lambda auth: auth.accept(auth.identity["user"]))
    server.when.connected(connected)
    connect(server, {"user": "ann", "token": "secret"})
    (conn,) = connected.wait_for(1)
    assert conn.cid == "ann"
    assert conn.identity == {"user": "ann", "token": "secret"}
    assert conn.client.cid == "ann"
    assert list(server.clients) == ["ann"]


@pytest.mark.parametrize("cid", [7, ("team", 3), frozenset({1})])
def test_04_a_cid_may_be_any_hashable_value(
    make_server: MakeServer, connect: Connect, cid: Any
) -> None:
    server = make_server(lambda auth: auth.accept(cid))
    client = connect(server)
    heard = Recorder()
    client.channel.on("hello", heard)
    assert list(server.clients) == [cid]
    assert server.send(cid, "hello", 1) == 1
    assert heard.wait_for(1) == [1]


@pytest.mark.parametrize("hi", [{"identity": "x"}, {"identity": "x", "meta": None}])
def test_04_meta_that_is_missing_or_null_is_an_empty_object(
    make_server: MakeServer, make_raw_client: MakeRawClient, hi: Any
) -> None:
    seen = Recorder()

    def identify(auth: AuthRequest) -> None:
        seen.add(auth.meta)
        auth.accept("ann", 1)

    raw = make_raw_client(make_server(identify))
    raw.send_frame(HI, hi)
    assert raw.recv_frame() == [WELCOME, 1, None]
    assert seen.items == [{}]


def test_04_a_missing_identity_is_none(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    seen = Recorder()

    def identify(auth: AuthRequest) -> None:
        seen.add(auth.identity)
        auth.accept("ann", 1)

    raw = make_raw_client(make_server(identify))
    raw.send_frame(HI, {})
    assert raw.recv_frame() == [WELCOME, 1, None]
    assert seen.items == [None]


def test_04_the_identity_is_an_empty_string_by_default(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    seen = Recorder()

    def identify(auth: AuthRequest) -> None:
        seen.add((auth.identity, auth.meta))
        auth.accept("ann")

    make_client(make_server(identify)).connect()
    assert seen.items == [("", {})]


# 5


def refuse_by_call(auth: AuthRequest) -> None:
    auth.refuse()


def refuse_by_raising(auth: AuthRequest) -> None:
    raise RuntimeError("the database is away")


def refuse_by_empty_cid(auth: AuthRequest) -> None:
    auth.accept("", {"secret": 1})


def refuse_by_none(auth: AuthRequest) -> None:
    auth.accept(None)


def refuse_by_zero(auth: AuthRequest) -> None:
    auth.accept(0)


REFUSALS = [
    refuse_by_call,
    refuse_by_raising,
    refuse_by_empty_cid,
    refuse_by_none,
    refuse_by_zero,
]


@pytest.mark.parametrize("reconnect", [False, True])
@pytest.mark.parametrize("identify", REFUSALS)
def test_05_refusal_raises_not_authorized_closes_with_1000_and_is_final(
    make_server: MakeServer, make_client: MakeClient, identify: Any, reconnect: bool
) -> None:
    attempts = Recorder()

    def counting(auth: AuthRequest) -> None:
        attempts.add(auth.identity)
        identify(auth)

    server = make_server(counting)
    client = make_client(server, reconnect=reconnect, backoff=QUICK)
    closed = Recorder()
    statuses = Recorder()
    client.when.closed(closed)
    client.when.updated(statuses)
    with pytest.raises(WseError) as caught:
        client.connect("x")
    assert caught.value.code == WSE_ERROR.NOT_AUTHORIZED
    assert isinstance(caught.value, PermissionError)
    assert closed.wait_for(1) == [(1000, WSE_REASON.NOT_AUTHORIZED)]
    assert client.wait(10)
    assert client.status == WSE_STATUS.OFFLINE
    assert WSE_STATUS.RE_CONNECTING not in statuses.items
    assert attempts.items == ["x"]
    assert dict(server.clients) == {}


def test_05_refusal_on_the_wire_is_a_close_with_1000_and_nothing_else(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    raw = make_raw_client(make_server(refuse_all))
    raw.hi("x")
    assert raw.recv() == ("close", (1000, "wse.not-authorized"))


def test_05_a_refusal_at_a_reconnect_is_final(
    make_raw_server: MakeRawServer, make_client: MakeClient
) -> None:
    def script(peer: RawPeer) -> None:
        if peer.number == 0:
            peer.welcome("in")
            peer.close(1012)
        else:
            peer.recv_frame()
            peer.close(1000, "wse.not-authorized")

    server = make_raw_server(script)
    client = make_client(server, reconnect=True, backoff=QUICK)
    closed = Recorder()
    client.when.closed(closed)
    assert client.connect("x") == "in"
    assert client.wait(10)
    assert client.status == WSE_STATUS.OFFLINE
    assert closed.wait_for(2) == [(1012, ""), (1000, "wse.not-authorized")]
    assert server.connections == 2


def test_05_a_handler_that_raises_is_reported_on_the_error_signal(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    server = make_server(refuse_by_raising)
    errors = Recorder()
    server.when.error(errors)
    with pytest.raises(WseError):
        make_client(server).connect("x")
    ((error, conn),) = errors.wait_for(1)
    assert isinstance(error, RuntimeError)
    assert str(error) == "the database is away"
    assert isinstance(conn, WseConnection)
    assert conn.cid is None


# 6


class Bystander:
    """A client that was there before, and must notice nothing."""

    def __init__(self, connect: Connect, server: WseServer) -> None:
        server.register("ping", lambda conn, payload: payload)
        self.server = server
        self.closed = Recorder()
        self.client = connect(server, "bystander")
        self.client.when.closed(self.closed)

    def noticed_nothing(self) -> bool:
        return (
            self.client.call("ping", 1) == 1
            and self.closed.items == []
            and list(self.server.clients) == ["bystander"]
        )


@pytest.mark.parametrize(
    "data",
    [
        "not json",
        "",
        "{}",
        "null",
        '"~wse:hi"',
        "[]",
        "[null]",
        "[[]]",
        '["~wse:hi"',
        '["~wse:hi", NaN]',
        b"\xff\xfe\x00",
    ],
)
def test_06_junk_is_a_protocol_error_with_an_error_signal_and_no_effect_on_others(
    make_server: MakeServer, connect: Connect, make_raw_client: MakeRawClient, data: Any
) -> None:
    server = make_server()
    bystander = Bystander(connect, server)
    errors = Recorder()
    server.when.error(errors)
    raw = make_raw_client(server)
    raw.send(data)
    assert raw.recv() == ("close", (1000, "wse.protocol-error"))
    ((error, conn),) = errors.wait_for(1)
    assert isinstance(error, WseError)
    assert error.code in (WSE_ERROR.MESSAGE_PROCESSING_ERROR, WSE_ERROR.PROTOCOL_VIOLATION)
    assert isinstance(conn, WseConnection)
    assert conn.cid is None
    assert bystander.noticed_nothing()


@pytest.mark.parametrize(
    "data",
    [
        '["chat",1]',
        '["chat",1,"STAMP"]',
        '["~wse:challenge",1,null]',
        '["~wse:welcome",1,null]',
        '["~wse:response",1,"STAMP"]',
        '["~wse:hi","name",null]',
        '["~wse:hi",["name"],null]',
        '["~wse:hi",null,null]',
        '["~wse:hi"]',
        '["~wse:hi",{"identity":"x","meta":[]},null]',
        '["~wse:hi",{"identity":"x","meta":"m"},null]',
    ],
)
def test_06_a_first_frame_that_is_not_a_hi_is_a_protocol_error(
    make_server: MakeServer, connect: Connect, make_raw_client: MakeRawClient, data: str
) -> None:
    identified = Recorder()

    def identify(auth: AuthRequest) -> None:
        identified.add(auth.identity)
        accept_all(auth)

    server = make_server(identify)
    bystander = Bystander(connect, server)
    errors = Recorder()
    server.when.error(errors)
    raw = make_raw_client(server)
    raw.send(data)
    assert raw.recv() == ("close", (1000, "wse.protocol-error"))
    ((error, conn),) = errors.wait_for(1)
    assert error.code == WSE_ERROR.PROTOCOL_VIOLATION
    assert isinstance(conn, WseConnection)
    assert identified.items == ["bystander"]
    assert bystander.noticed_nothing()


@pytest.mark.parametrize("offered", [None, ["other"], ["other", "wse-default-json-2"]])
def test_06_a_missing_subprotocol_is_a_protocol_error(
    make_server: MakeServer, connect: Connect, make_raw_client: MakeRawClient, offered: Any
) -> None:
    server = make_server()
    bystander = Bystander(connect, server)
    errors = Recorder()
    server.when.error(errors)
    raw = make_raw_client(server, subprotocols=offered)
    assert raw.subprotocol is None
    assert raw.recv() == ("close", (1000, "wse.protocol-error"))
    ((error, conn),) = errors.wait_for(1)
    assert error.code == WSE_ERROR.PROTOCOL_VIOLATION
    assert isinstance(conn, WseConnection)
    assert bystander.noticed_nothing()


def test_06_the_subprotocol_is_selected_among_several(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    raw = make_raw_client(make_server(), subprotocols=["other", "wse-default-json"])
    assert raw.subprotocol == "wse-default-json"
    assert raw.login("ann") == {"hello": "ann"}


def test_06_junk_after_the_welcome_ends_only_that_connection(
    make_server: MakeServer, connect: Connect, make_raw_client: MakeRawClient
) -> None:
    server = make_server()
    bystander = Bystander(connect, server)
    errors = Recorder()
    disconnected = Recorder()
    server.when.error(errors)
    server.when.disconnected(disconnected)
    raw = make_raw_client(server)
    raw.login("ann")
    raw.send("not json")
    assert raw.recv_close() == (1000, "wse.protocol-error")
    ((error, conn),) = errors.wait_for(1)
    assert error.code == WSE_ERROR.MESSAGE_PROCESSING_ERROR
    assert conn.cid == "ann"
    assert disconnected.wait_for(1) == [(conn, 1000, "wse.protocol-error")]
    assert bystander.noticed_nothing()


@pytest.mark.parametrize("data", ["junk", "{}", "[]", "[null,1]", b"\xff\xfe"])
def test_06_the_client_too_ends_a_link_that_speaks_junk(
    make_raw_server: MakeRawServer, make_client: MakeClient, data: Any
) -> None:
    closes = Recorder()

    def script(peer: RawPeer) -> None:
        peer.recv_frame()
        peer.send(data)
        closes.add(peer.recv_close())

    server = make_raw_server(script)
    client = make_client(server, reconnect=True, backoff=QUICK)
    errors = Recorder()
    client.when.error(errors)
    with pytest.raises(WseError) as caught:
        client.connect("x")
    assert caught.value.code == WSE_ERROR.CONNECTION_CLOSED
    assert closes.wait_for(1) == [(1000, "wse.protocol-error")]
    assert errors.wait_for(1)[0].code in (
        WSE_ERROR.MESSAGE_PROCESSING_ERROR,
        WSE_ERROR.PROTOCOL_VIOLATION,
    )
    assert client.wait(10)
    assert server.connections == 1


# 7


def test_07_a_silent_stranger_is_closed_after_auth_timeout(
    make_server: MakeServer, connect: Connect, make_raw_client: MakeRawClient
) -> None:
    server = make_server(auth_timeout=15.0)
    bystander = Bystander(connect, server)
    raw = make_raw_client(server)
    raw.sync()
    pass_time(5.0)
    raw.sync()
    pass_time(10.0)
    assert raw.recv() == ("close", (1000, "wse.auth-timeout"))
    assert bystander.noticed_nothing()


def test_07_the_timeout_counts_until_the_welcome_not_until_the_hi(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    server = make_server(lambda auth: None, auth_timeout=100.0, ping_interval=None)
    raw = make_raw_client(server)
    raw.sync()
    pass_time(50.0)
    raw.hi("x")
    raw.sync()
    pass_time(50.0)
    assert raw.recv() == ("close", (1000, "wse.auth-timeout"))


def test_07_the_timeout_covers_the_challenge(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    server = make_server(auth_timeout=10.0)
    server.use_challenge(lambda auth: 5)
    raw = make_raw_client(server)
    raw.hi("x")
    assert raw.recv_frame() == [CHALLENGE, 5, None]
    pass_time(10.0)
    assert raw.recv() == ("close", (1000, "wse.auth-timeout"))


def test_07_a_decision_after_the_timeout_does_nothing(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    requests = Recorder()
    server = make_server(requests, auth_timeout=10.0)
    joined = Recorder()
    server.when.joined(joined)
    raw = make_raw_client(server)
    raw.hi("x")
    (auth,) = requests.wait_for(1)
    pass_time(10.0)
    assert raw.recv() == ("close", (1000, "wse.auth-timeout"))
    auth.accept("ann")
    auth.refuse()
    assert dict(server.clients) == {}
    assert joined.items == []


def test_07_a_welcomed_client_is_not_closed_by_the_timeout(
    make_test_server: MakeTestServer,
) -> None:
    test = make_test_server(auth_timeout=1.0)
    client = test.connect("ann")
    test.advance(3600.0)
    test.server.register("ping", lambda conn, payload: payload)
    assert client.call("ping", 1) == 1


def test_07_none_waits_for_ever(make_server: MakeServer, make_raw_client: MakeRawClient) -> None:
    silent = make_raw_client(make_server(auth_timeout=None, ping_interval=None))
    silent.sync()
    pass_time(3600.0)
    assert silent.login("ann") == {"hello": "ann"}


# 8


def checking_identify(seen: Recorder) -> Any:
    def identify(auth: AuthRequest) -> None:
        assert auth.challenge is not None
        seen.add((auth.identity, auth.challenge.quest, auth.challenge.response))
        if auth.challenge.response == auth.challenge.quest * 2:
            auth.accept(auth.identity, "welcome")
        else:
            auth.refuse()

    return identify


def test_08_quest_solution_decision(make_server: MakeServer, make_client: MakeClient) -> None:
    seen = Recorder()
    generated = Recorder()
    server = make_server(checking_identify(seen))

    def generator(auth: AuthRequest) -> int:
        generated.add((auth.identity, auth.meta, auth.challenge))
        return 21

    server.use_challenge(generator)
    client = make_client(server)

    @client.challenge
    def solve(quest: int) -> int:
        return quest * 2

    assert client.connect("ann", {"device": "pi"}) == "welcome"
    assert generated.items == [("ann", {"device": "pi"}, None)]
    assert seen.items == [("ann", 21, 42)]


def test_08_the_solver_may_be_given_by_a_plain_call(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    server = make_server(checking_identify(Recorder()))
    server.use_challenge(lambda auth: 4)
    client = make_client(server)
    client.challenge(lambda quest: quest * 2)
    assert client.connect("ann") == "welcome"


def test_08_on_the_wire(make_server: MakeServer, make_raw_client: MakeRawClient) -> None:
    server = make_server(checking_identify(Recorder()))
    server.use_challenge(lambda auth: 3)
    raw = make_raw_client(server)
    raw.hi("ann")
    assert raw.recv_frame() == [CHALLENGE, 3, None]
    raw.send_frame(CHALLENGE, 6)
    assert raw.recv_frame() == [WELCOME, "welcome", None]


def test_08_without_a_generator_there_is_no_challenge(
    make_server: MakeServer, connect: Connect
) -> None:
    seen = Recorder()

    def identify(auth: AuthRequest) -> None:
        seen.add(auth.challenge)
        auth.accept("ann")

    connect(make_server(identify))
    assert seen.items == [None]


@pytest.mark.parametrize("reconnect", [False, True])
def test_08_a_wrong_solution_is_refused(
    make_server: MakeServer, make_client: MakeClient, reconnect: bool
) -> None:
    seen = Recorder()
    server = make_server(checking_identify(seen))
    server.use_challenge(lambda auth: 21)
    client = make_client(server, reconnect=reconnect, backoff=QUICK)
    client.challenge(lambda quest: "wrong")
    with pytest.raises(WseError) as caught:
        client.connect("ann")
    assert caught.value.code == WSE_ERROR.NOT_AUTHORIZED
    assert seen.items == [("ann", 21, "wrong")]
    assert dict(server.clients) == {}


def test_08_the_generator_may_refuse_before_the_client_is_asked(
    make_server: MakeServer, make_client: MakeClient, make_raw_client: MakeRawClient
) -> None:
    seen = Recorder()
    server = make_server(checking_identify(seen))

    def generator(auth: AuthRequest) -> int:
        auth.refuse()
        return 21

    server.use_challenge(generator)
    client = make_client(server)
    asked = Recorder()
    client.challenge(asked)
    with pytest.raises(WseError) as caught:
        client.connect("ann")
    assert caught.value.code == WSE_ERROR.NOT_AUTHORIZED
    assert asked.items == []
    raw = make_raw_client(server)
    raw.hi("ann")
    assert raw.recv() == ("close", (1000, "wse.not-authorized"))
    assert seen.items == []


def test_08_a_generator_that_raises_refuses_and_is_reported(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    seen = Recorder()
    errors = Recorder()
    server = make_server(checking_identify(seen))
    server.when.error(errors)

    def generator(auth: AuthRequest) -> int:
        raise LookupError("no such user")

    server.use_challenge(generator)
    raw = make_raw_client(server)
    raw.hi("ann")
    assert raw.recv() == ("close", (1000, "wse.not-authorized"))
    ((error, conn),) = errors.wait_for(1)
    assert isinstance(error, LookupError)
    assert conn.cid is None
    assert seen.items == []


@pytest.mark.parametrize("solution", [None, 0, "", False, [], {}])
def test_08_none_and_other_falsy_values_are_valid_solutions(
    make_server: MakeServer, make_client: MakeClient, solution: Any
) -> None:
    seen = Recorder()

    def identify(auth: AuthRequest) -> None:
        assert auth.challenge is not None
        seen.add(auth.challenge.response)
        auth.accept("ann", 1)

    server = make_server(identify)
    server.use_challenge(lambda auth: "quest")
    client = make_client(server)
    client.challenge(lambda quest: solution)
    assert client.connect("ann") == 1
    assert seen.items == [solution]


@pytest.mark.parametrize("quest", [None, 0, "", {"q": [1]}])
def test_08_none_and_other_falsy_values_are_valid_quests(
    make_server: MakeServer, make_client: MakeClient, quest: Any
) -> None:
    seen = Recorder()

    def identify(auth: AuthRequest) -> None:
        assert auth.challenge is not None
        seen.add((auth.challenge.quest, auth.challenge.response))
        auth.accept("ann", 1)

    server = make_server(identify)
    server.use_challenge(lambda auth: quest)
    client = make_client(server)
    client.challenge(lambda got: ["answer to", got])
    assert client.connect("ann") == 1
    assert seen.items == [(quest, ["answer to", quest])]


def test_08_a_challenge_without_payload_is_the_solution_none(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    seen = Recorder()

    def identify(auth: AuthRequest) -> None:
        assert auth.challenge is not None
        seen.add(auth.challenge.response)
        auth.accept("ann", 1)

    server = make_server(identify)
    server.use_challenge(lambda auth: "quest")
    raw = make_raw_client(server)
    raw.hi()
    assert raw.recv_frame() == [CHALLENGE, "quest", None]
    raw.send('["~wse:challenge"]')
    assert raw.recv_frame() == [WELCOME, 1, None]
    assert seen.items == [None]


@pytest.mark.parametrize(
    "data",
    [
        '["~wse:hi",{"identity":"ann"},null]',
        '["chat",42]',
        '["add",42,"STAMP"]',
        '["~wse:welcome",42,null]',
        '["~wse:response",42,"STAMP"]',
        "junk",
        "[]",
        b"\xff",
    ],
)
def test_08_a_bogus_frame_instead_of_the_solution_never_reaches_identify(
    make_server: MakeServer, make_raw_client: MakeRawClient, data: Any
) -> None:
    identified = Recorder()
    errors = Recorder()
    server = make_server(identified)
    server.use_challenge(lambda auth: 21)
    server.when.error(errors)
    raw = make_raw_client(server)
    raw.hi("ann")
    assert raw.recv_frame() == [CHALLENGE, 21, None]
    raw.send(data)
    assert raw.recv() == ("close", (1000, "wse.protocol-error"))
    ((error, conn),) = errors.wait_for(1)
    assert error.code in (WSE_ERROR.MESSAGE_PROCESSING_ERROR, WSE_ERROR.PROTOCOL_VIOLATION)
    assert isinstance(conn, WseConnection)
    assert identified.items == []


def test_08_meta_reaches_joined(make_server: MakeServer, make_client: MakeClient) -> None:
    joined = Recorder()
    server = make_server(checking_identify(Recorder()))
    server.use_challenge(lambda auth: 1)
    server.when.joined(joined)
    client = make_client(server)
    client.challenge(lambda quest: quest * 2)
    client.connect("ann", {"device": "pi"})
    ((identity, meta),) = joined.wait_for(1)
    assert identity is server.clients["ann"]
    assert identity.cid == "ann"
    assert meta == {"device": "pi"}
    assert identity.meta == {"device": "pi"}


def test_08_meta_reaches_joined_without_a_challenge(
    make_server: MakeServer, connect: Connect
) -> None:
    joined = Recorder()
    server = make_server()
    server.when.joined(joined)
    connect(server, "ann", {"n": 1})
    assert joined.wait_for(1)[0][1] == {"n": 1}


@pytest.mark.parametrize("generator", [None, 3, "quest"])
def test_08_a_generator_that_cannot_be_called_is_an_error(
    make_server: MakeServer, generator: Any
) -> None:
    with pytest.raises(WseError) as caught:
        make_server().use_challenge(generator)
    assert caught.value.code == WSE_ERROR.INVALID_CRA_GENERATOR


@pytest.mark.parametrize("solver", [None, 3, "solution"])
def test_08_a_solver_that_cannot_be_called_is_an_error(
    make_client: MakeClient, solver: Any
) -> None:
    with pytest.raises(WseError) as caught:
        make_client("ws://127.0.0.1:1").challenge(solver)
    assert caught.value.code == WSE_ERROR.INVALID_CRA_HANDLER


def test_08_a_challenged_client_without_a_solver_raises(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    identified = Recorder()
    server = make_server(identified)
    server.use_challenge(lambda auth: 21)
    with pytest.raises(WseError) as caught:
        make_client(server).connect("ann")
    assert caught.value.code == WSE_ERROR.INVALID_CRA_HANDLER
    assert identified.items == []


# 9


def test_09_a_decision_taken_later_from_another_thread_works(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    requests = Recorder()
    server = make_server(requests)
    client = make_client(server)
    connecting = Thread(lambda: client.connect("x"))
    (auth,) = requests.wait_for(1)
    assert dict(server.clients) == {}
    Thread(lambda: auth.accept("ann", "later")).result()
    assert connecting.result() == "later"
    assert list(server.clients) == ["ann"]


def test_09_a_refusal_taken_later_from_another_thread_works(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    requests = Recorder()
    server = make_server(requests)
    client = make_client(server)
    connecting = Thread(lambda: client.connect("x"))
    (auth,) = requests.wait_for(1)
    Thread(auth.refuse).result()
    with pytest.raises(WseError) as caught:
        connecting.result()
    assert caught.value.code == WSE_ERROR.NOT_AUTHORIZED
    assert dict(server.clients) == {}


def _accept_then_refuse(auth: AuthRequest) -> None:
    auth.accept("ann", 1)
    auth.refuse()


def _accept_twice(auth: AuthRequest) -> None:
    auth.accept("ann", 1)
    auth.accept("eve", 2)


def _accept_then_raise(auth: AuthRequest) -> None:
    auth.accept("ann", 1)
    raise RuntimeError("too late to refuse")


@pytest.mark.parametrize("identify", [_accept_then_refuse, _accept_twice, _accept_then_raise])
def test_09_of_two_decisions_the_first_counts_when_it_accepts(
    make_server: MakeServer, make_client: MakeClient, identify: Any
) -> None:
    server = make_server(identify)
    server.register("ping", lambda conn, payload: conn.cid)
    client = make_client(server)
    assert client.connect("x") == 1
    assert client.call("ping") == "ann"
    assert list(server.clients) == ["ann"]


def test_09_of_two_decisions_the_first_counts_when_it_refuses(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    def identify(auth: AuthRequest) -> None:
        auth.refuse()
        auth.accept("ann", 1)

    server = make_server(identify)
    joined = Recorder()
    server.when.joined(joined)
    with pytest.raises(WseError) as caught:
        make_client(server).connect("x")
    assert caught.value.code == WSE_ERROR.NOT_AUTHORIZED
    assert dict(server.clients) == {}
    assert joined.items == []


def test_09_of_many_decisions_at_once_exactly_one_counts(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    requests = Recorder()
    joined = Recorder()
    server = make_server(requests)
    server.when.joined(joined)
    client = make_client(server)
    connecting = Thread(lambda: client.connect("x"))
    (auth,) = requests.wait_for(1)
    start = threading.Barrier(8)

    def decide(number: int) -> None:
        start.wait(10)
        auth.accept(f"user-{number}", number)

    deciders = [Thread(partial(decide, number)) for number in range(8)]
    for decider in deciders:
        decider.result()
    winner = connecting.result()
    assert list(server.clients) == [f"user-{winner}"]
    assert [identity.cid for identity, _ in joined.wait_for(1)] == [f"user-{winner}"]


def test_09_frames_that_arrive_while_identify_decides_wait(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    requests = Recorder()
    heard = Recorder()
    server = make_server(requests)
    server.channel.on("chat", lambda conn, payload: heard.add((conn.cid, payload)))
    server.register("add", lambda conn, payload: sum(payload))
    raw = make_raw_client(server)
    raw.hi("x")
    raw.send_frame("chat", 1)
    raw.send_frame("add", [2, 3], "S1")
    raw.send_frame("chat", 2)
    (auth,) = requests.wait_for(1)
    assert heard.items == []
    auth.accept("ann", "in")
    assert raw.recv_frame() == [WELCOME, "in", None]
    assert raw.recv_frame() == ["~wse:response", 5, "S1"]
    assert heard.wait_for(2) == [("ann", 1), ("ann", 2)]


def test_09_a_stranger_that_leaves_before_the_decision_is_never_registered(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    requests = Recorder()
    joined = Recorder()
    left = Recorder()
    server = make_server(requests)
    server.when.joined(joined)
    server.when.left(left)
    raw = make_raw_client(server)
    raw.hi("x")
    (auth,) = requests.wait_for(1)
    raw.close()
    second = make_raw_client(server)
    second.hi("y")
    (_, second_auth) = requests.wait_for(2)
    auth.accept("ann")
    second_auth.accept("ben", 1)
    assert second.recv_frame() == [WELCOME, 1, None]
    wait_until(lambda: list(server.clients) == ["ben"], lambda: list(server.clients))
    assert joined.wait_until(lambda items: "ben" in [identity.cid for identity, _ in items])
    # Nobody joins without leaving: ann, had she been let in for a moment, has left.
    names = [identity.cid for identity, _ in joined.items]
    assert names == ["ben"] or [identity.cid for identity, *_ in left.wait_for(1)] == ["ann"]


# 10


def test_10_only_authenticated_connections_receive_broadcasts_or_are_counted(
    make_server: MakeServer, connect: Connect, make_raw_client: MakeRawClient
) -> None:
    requests = Recorder()

    def identify(auth: AuthRequest) -> None:
        if auth.identity == "slow":
            requests.add(auth)
        else:
            accept_all(auth)

    server = make_server(identify)
    ann = connect(server, "ann")
    heard = Recorder()
    ann.channel.on("news", heard)
    silent = make_raw_client(server)
    undecided = make_raw_client(server)
    undecided.hi("slow")
    (auth,) = requests.wait_for(1)
    assert server.broadcast("news", 1) == 1
    assert server.send("slow", "news", 1) == 0
    assert list(server.clients) == ["ann"]
    assert len(server.clients) == 1
    assert heard.wait_for(1) == [1]
    auth.accept("slow", "in")
    assert undecided.recv_frame() == [WELCOME, "in", None]
    assert silent.login("silent") == {"hello": "silent"}
    assert server.broadcast("news", 2) == 3
    assert undecided.recv_frame() == ["news", 2, None]
    assert silent.recv_frame() == ["news", 2, None]
    assert heard.wait_for(2) == [1, 2]
    assert sorted(server.clients) == ["ann", "silent", "slow"]


def test_10_a_challenged_connection_is_not_authenticated_yet(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    server = make_server()
    server.use_challenge(lambda auth: 1)
    raw = make_raw_client(server)
    raw.hi("ann")
    assert raw.recv_frame() == [CHALLENGE, 1, None]
    assert server.broadcast("news", 1) == 0
    assert dict(server.clients) == {}
    raw.send_frame(CHALLENGE, 1)
    assert raw.recv_frame() == [WELCOME, {"hello": "ann"}, None]


def test_10_nothing_overtakes_the_welcome(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    server = make_server()
    server.when.joined(lambda client, meta: client.send("from-joined"))
    server.when.connected(lambda conn: conn.send("from-connected"))
    stop = threading.Event()
    started = threading.Event()

    def broadcast() -> None:
        while not stop.is_set():
            server.broadcast("news", 1)
            started.set()

    broadcasting = Thread(broadcast)
    wait_event(started, "the first broadcast")
    try:
        for number in range(20):
            raw = make_raw_client(server)
            raw.hi(f"user-{number}")
            assert raw.recv_frame()[0] == WELCOME
            raw.close()
    finally:
        stop.set()
        broadcasting.result()


def test_10_the_handlers_of_an_unauthenticated_connection_never_fire(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    server = make_server(refuse_all)
    signals = Recorder()
    server.when.joined(signals)
    server.when.connected(signals)
    server.when.disconnected(signals)
    server.when.left(signals)
    for _ in range(3):
        raw = make_raw_client(server)
        raw.hi("x")
        assert raw.recv_close() == (1000, "wse.not-authorized")
    server.close()
    assert signals.items == []
