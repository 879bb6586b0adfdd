"""Sessions as they travel: each line of the wire's session extension, against raw ends."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tests.conftest import MakeClient, MakeRawClient, MakeServer
from tests.support import (
    ACK,
    CHALLENGE,
    NEVER,
    PATIENCE,
    QUICK,
    RESPONSE,
    RESPONSE_ERR,
    WELCOME,
    RawClient,
    RawEnd,
    RawPeer,
    RawPeers,
    Recorder,
    Thread,
    connection_of,
    pass_time,
    payloads,
    story,
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
)

RETRY_CODES = [1001, 1005, 1006, 1011, 1012, 1013, 1014]
CODES_OF_CLIENTS = RETRY_CODES[:-1]  # 1014 is for gateways: wsproto takes it from no client
FINAL_CODES = [1000, 1002, 1008, 1009, 3000, 4000]
VIOLATED = (1000, "wse.protocol-error")


def codes_of_errors(endpoint: WseServer | WseClient) -> Recorder:
    """The codes that the error signal has."""
    recorder = Recorder()
    endpoint.when.error(lambda error, *conn: recorder.add(error.code))
    return recorder


def endings(server: WseServer) -> Recorder:
    return story(server, "suspended", "disconnected", "left")


def send_close(raw: RawClient, code: int) -> None:
    """Ends a link with any code."""
    if code == 1006:
        raw.abort()
    elif code == 1005:
        raw.socket.send(b"", 8)
    else:
        raw.send_close(code, "")


def welcomed(peers: RawPeers, client: WseClient) -> RawPeer:
    """Connects a client, in a fresh session."""
    connecting = Thread(lambda: client.connect("ann"))
    peer = peers.next()
    peer.grant()
    connecting.result()
    return peer


@pytest.fixture
def acks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is to be acknowledged is acknowledged without delay."""
    monkeypatch.setattr("wse_sync.core.delivery.ACK_SECONDS", 0.0)


class Ends(NamedTuple):
    """A raw end in a session with one of ours."""

    raw: RawEnd
    ours: WseClient | WseConnection
    endpoint: WseServer | WseClient


@pytest.fixture(params=["server", "client"])
def ends(
    request: pytest.FixtureRequest,
    make_server: MakeServer,
    make_client: MakeClient,
    make_raw_client: MakeRawClient,
) -> Iterator[Ends]:
    """Our server with a raw client, and our client with a raw server."""
    if request.param == "server":
        server = make_server()
        raw = make_raw_client(server)
        raw.begin("ann")
        yield Ends(raw, connection_of(server), server)
    else:
        with RawPeers() as peers:
            client = make_client(peers.url, reconnect=True, backoff=NEVER)
            yield Ends(welcomed(peers, client), client, client)


# Negotiation


def test_a_hi_without_the_key_gets_null_in_the_third_slot(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    raw = make_raw_client(make_server())
    raw.hi("ann")
    kind, text = raw.recv()
    assert kind == "text"
    assert json.loads(text) == [WELCOME, {"hello": "ann"}, None]


@pytest.mark.parametrize("key", [None, 5, "x", [], {}, {"v": 2}, {"v": 2, "session": None}])
def test_a_key_of_another_kind_or_version_is_read_past(
    make_server: MakeServer, make_raw_client: MakeRawClient, key: Any
) -> None:
    raw = make_raw_client(make_server())
    raw.hi("ann", wse=key)
    assert raw.recv_frame() == [WELCOME, {"hello": "ann"}, None]


@pytest.mark.parametrize(
    ("window", "key"),
    [(60.0, {"v": 1}), (0.0, {"v": 1, "session": None})],
    ids=["only the cid", "no window"],
)
def test_who_does_not_ask_for_a_session_or_gets_none_works_without(
    make_server: MakeServer,
    make_raw_client: MakeRawClient,
    acks_at_once: None,
    window: float,
    key: Any,
) -> None:
    server = make_server(resume_window=window)
    ended = endings(server)
    raw = make_raw_client(server)
    raw.hi("ann", wse=key)
    expected = {"v": 1, "cid": "ann", "session": None}
    assert raw.recv_frame() == [WELCOME, {"hello": "ann"}, expected]
    for number in range(100):
        raw.send_frame("number", number)
    raw.sync()
    raw.abort()
    assert ended.wait_for(2) == [("disconnected", 1006, ""), ("left", 1006, "")]


def test_a_cid_that_is_no_text_is_told_as_text(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    raw = make_raw_client(make_server(lambda auth: auth.accept(7)))
    raw.hi("ann", wse={"v": 1})
    assert raw.recv_frame() == [WELCOME, None, {"v": 1, "cid": "7", "session": None}]


def test_a_client_that_wants_a_session_gets_a_secret_of_its_own(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    server = make_server(conn_per_user=3)
    ids = set()
    for _ in range(3):
        raw = make_raw_client(server)
        raw.hi("ann", wse={"v": 1, "session": None})
        type, payload, grant = raw.recv_frame()
        assert (type, payload) == (WELCOME, {"hello": "ann"})
        session_id = grant["session"].pop("id")
        assert grant == {
            "v": 1,
            "cid": "ann",
            "session": {"resumed": False, "received": 0, "window": 60.0},
        }
        assert isinstance(session_id, str)
        assert len(session_id) * 6 >= 128
        ids.add(session_id)
    assert len(ids) == 3


def test_the_welcome_names_the_window(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    raw = make_raw_client(make_server(resume_window=7.5))
    assert raw.begin("ann")["window"] == 7.5


@pytest.mark.parametrize(
    ("reconnect", "key"), [(True, {"v": 1, "session": None}), (False, {"v": 1})]
)
def test_a_client_asks_for_what_it_can_use(
    make_client: MakeClient, reconnect: bool, key: Any
) -> None:
    with RawPeers() as peers:
        client = make_client(peers.url, reconnect=reconnect, backoff=NEVER)
        connecting = Thread(lambda: client.connect("ann", {"device": 1}))
        hi = peers.next().welcome("hello", {"v": 1, "cid": "id of ann", "session": None})
        assert hi == {"identity": "ann", "meta": {"device": 1}, "wse": key}
        assert connecting.result() == "hello"
        assert client.cid == "id of ann"


def test_with_a_base_peer_a_client_works_as_the_base_protocol_says(
    make_client: MakeClient, acks_at_once: None
) -> None:
    with RawPeers() as peers:
        client = make_client(peers.url, reconnect=True, backoff=QUICK, call_timeout=None)
        connecting = Thread(lambda: client.connect("ann"))
        peer = peers.next()
        peer.welcome()
        connecting.result()
        assert client.cid is None
        numbers = payloads(client)
        for number in range(100):
            peer.send_frame("number", number)
        peer.sync()
        numbers.wait_for(100)
        future = client.submit("any")
        client.send("news")
        assert [peer.recv_frame()[0] for _ in range(2)] == ["any", "news"]
        peer.abort()
        error = future.exception(PATIENCE)
        assert isinstance(error, WseError)
        assert error.code == WSE_ERROR.RP_DISCONNECT
        assert error.details["disconnected"] == [1006, ""]
        back = peers.next()
        assert back.welcome()["wse"] == {"v": 1, "session": None}
        back.sync()


# Counting


def test_64_frames_are_acknowledged(ends: Ends, no_late_acks: None) -> None:
    for total in (64, 128, 192):
        for number in range(63):
            ends.raw.send_frame("number", number)
        ends.raw.sync()
        ends.raw.send_frame("number", 63)
        assert ends.raw.recv_frame() == [ACK, total, None]


def test_256_kib_are_acknowledged(ends: Ends, no_late_acks: None) -> None:
    for total in (3, 6):
        ends.raw.send_frame("big", "x" * 100_000)
        ends.raw.send_frame("big", "x" * 100_000)
        ends.raw.sync()
        ends.raw.send_frame("big", "x" * 100_000)
        assert ends.raw.recv_frame() == [ACK, total, None]


def test_fewer_frames_are_acknowledged_a_while_after_the_first(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So long that a slow machine does not matter.
    monkeypatch.setattr("wse_sync.core.delivery.ACK_SECONDS", 60.0)
    # Each frame would put it off, if it were a while after the last.
    for number in range(4):
        ends.raw.send_frame("number", number)
        ends.raw.sync()
        pass_time(14.0)
    ends.raw.sync()
    pass_time(4.0)
    assert ends.raw.recv_frame() == [ACK, 4, None]


def test_nothing_is_sent_while_there_is_nothing_to_acknowledge(
    ends: Ends, acks_at_once: None
) -> None:
    for _ in range(20):
        ends.raw.sync()
    ends.raw.send_frame("number", 1)
    assert ends.raw.recv_frame() == [ACK, 1, None]
    for _ in range(20):
        ends.raw.sync()
    for number in range(100):
        ends.ours.send("news", number)
    assert [ends.raw.recv_frame()[1] for _ in range(100)] == list(range(100))
    for _ in range(20):
        ends.raw.sync()


def test_acknowledgements_are_never_acknowledged(ends: Ends, acks_at_once: None) -> None:
    ends.ours.send("news")
    assert ends.raw.recv_frame()[0] == "news"
    for _ in range(200):
        ends.raw.send_frame(ACK, 1)
    for _ in range(20):
        ends.raw.sync()
    ends.raw.send_frame("number", 1)
    assert ends.raw.recv_frame() == [ACK, 1, None]


def next_ack(raw: RawEnd) -> Any:
    """The count of the next acknowledgement; what comes before it is dropped."""
    frame = raw.recv_frame()
    while frame[0] != ACK:
        frame = raw.recv_frame()
    return frame[1]


@pytest.mark.parametrize("frame", [["ignored", None], ["echo", "1"], ["unknown", "1"]], ids=repr)
def test_messages_and_calls_of_every_kind_count(
    ends: Ends, no_late_acks: None, frame: list[Any]
) -> None:
    ends.endpoint.register("echo", lambda *arguments: arguments[-1])
    name, stamp = frame
    for _ in range(64):
        ends.raw.send_frame(name, 1, stamp)
    # With an answer of ours, or after a message.
    ends.raw.send_frame("number", 1)
    assert next_ack(ends.raw) in (64, 65)


ANSWERS = pytest.mark.parametrize(
    "answer",
    [[RESPONSE, 1, "nobody waits"], [RESPONSE_ERR, {"code": "x"}, "nobody waits"]],
    ids=["result", "error"],
)


@ANSWERS
def test_64_answers_are_acknowledged_with_the_next_frame(
    ends: Ends, no_late_acks: None, answer: list[Any]
) -> None:
    futures = [ends.ours.submit("any") for _ in range(64)]
    for _ in futures:
        _, _, stamp = ends.raw.recv_frame()
        ends.raw.send_frame(answer[0], answer[1], stamp)
    for future in futures:
        future.exception(PATIENCE)
    ends.ours.send("news")
    assert next_ack(ends.raw) == 64


@ANSWERS
def test_128_answers_are_acknowledged_without_a_frame_to_go_with(
    ends: Ends, no_late_acks: None, answer: list[Any]
) -> None:
    for _ in range(128):
        ends.raw.send_frame(*answer)
    while next_ack(ends.raw) < 128:
        continue


def test_64_answers_are_acknowledged_within_a_second(ends: Ends) -> None:
    for _ in range(64):
        ends.raw.send_frame(RESPONSE, 1, "nobody waits")
    pass_time(1.0)
    while next_ack(ends.raw) < 64:  # it may come amid them
        pass_time(1.0)


def test_what_a_server_reads_up_to_the_welcome_does_not_count(
    make_server: MakeServer, make_raw_client: MakeRawClient, acks_at_once: None
) -> None:
    requests: Recorder = Recorder()
    server = make_server(requests)
    server.use_challenge(lambda auth: "quest")
    numbers = payloads(server)
    raw = make_raw_client(server)
    raw.hi("ann", wse={"v": 1, "session": None})
    assert raw.recv_frame() == [CHALLENGE, "quest", None]
    raw.send_frame(CHALLENGE, "solution")
    (auth,) = requests.wait_for(1)
    raw.send_frame("number", 1)
    raw.sync()
    auth.accept("ann")
    assert raw.recv_frame()[0] == WELCOME
    assert numbers.wait_for(1) == [1]
    raw.send_frame("number", 2)
    assert raw.recv_frame() == [ACK, 1, None]
    assert numbers.wait_for(2) == [1, 2]


def test_what_a_client_reads_up_to_the_welcome_does_not_count(
    make_client: MakeClient, acks_at_once: None
) -> None:
    with RawPeers() as peers:
        client = make_client(peers.url, reconnect=True, backoff=NEVER)
        client.challenge(lambda quest: "solution")
        connecting = Thread(client.connect)
        peer = peers.next()
        peer.send_frame(CHALLENGE, "quest")
        peer.send_frame("number", 0)
        hi, solution = peer.recv_frame(), peer.recv_frame()
        assert (hi[0], solution[:2]) == ("~wse:hi", [CHALLENGE, "solution"])
        session = {"id": "secret", "resumed": False, "received": 0, "window": 60.0}
        peer.send_frame(WELCOME, None, {"v": 1, "cid": "ann", "session": session})
        connecting.result()
        peer.send_frame("number", 1)
        assert peer.recv_frame() == [ACK, 1, None]


@pytest.mark.parametrize("count", [3, 0, -1, True, 1.0, "1", None, [1], {"n": 1}, 2**70], ids=repr)
def test_a_bad_acknowledgement_is_a_protocol_violation(
    ends: Ends, no_late_acks: None, count: Any
) -> None:
    codes = codes_of_errors(ends.endpoint)
    ended = Recorder()
    if isinstance(ends.endpoint, WseServer):
        ended = endings(ends.endpoint)
    ends.ours.send("news", 1)
    ends.ours.send("news", 2)
    assert [ends.raw.recv_frame()[1] for _ in range(2)] == [1, 2]
    ends.raw.send_frame(ACK, 1)
    ends.raw.sync()
    ends.raw.send_frame(ACK, count)
    assert ends.raw.recv_close() == VIOLATED
    assert codes.wait_for(1)[0] == WSE_ERROR.PROTOCOL_VIOLATION
    if isinstance(ends.endpoint, WseServer):
        assert ended.wait_for(2) == [("disconnected", *VIOLATED), ("left", *VIOLATED)]
    else:
        assert ends.endpoint.wait(PATIENCE)


def test_an_acknowledgement_of_the_welcome_is_a_protocol_violation(
    ends: Ends, no_late_acks: None
) -> None:
    ends.raw.send_frame(ACK, 1)
    assert ends.raw.recv_close() == VIOLATED


def test_an_acknowledgement_that_says_nothing_new_is_none(ends: Ends, no_late_acks: None) -> None:
    ends.raw.send_frame(ACK, 0)
    ends.ours.send("news")
    assert ends.raw.recv_frame()[0] == "news"
    for count in (0, 1, 1):
        ends.raw.send_frame(ACK, count)
    ends.raw.sync()


# Resuming


def test_the_welcome_comes_first_and_then_what_was_not_received_in_order(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    server = make_server()
    ended = endings(server)
    raw = make_raw_client(server)
    before = raw.begin("ann")
    conn = connection_of(server)
    for number in range(10):
        conn.send("news", number)
    assert [raw.recv_frame()[1] for _ in range(4)] == [0, 1, 2, 3]
    raw.abort()
    ended.wait_for(1)
    for number in range(10, 15):
        conn.send("news", number)
    back = make_raw_client(server)
    session = back.begin("ann", {"id": before["id"], "received": 4})
    assert session == {**before, "resumed": True}
    assert [back.recv_frame() for _ in range(11)] == [["news", n, None] for n in range(4, 15)]
    conn.send("news", 15)
    assert back.recv_frame() == ["news", 15, None]
    assert ended.items == ["suspended"]


def test_the_welcome_says_how_many_frames_the_server_has(
    make_server: MakeServer, make_raw_client: MakeRawClient, no_late_acks: None
) -> None:
    server = make_server()
    ended, numbers = endings(server), payloads(server)
    raw = make_raw_client(server)
    session = raw.begin("ann")
    for links in range(1, 5):
        for number in range(5):
            raw.send_frame("number", number)
        raw.sync()
        raw.abort()
        ended.wait_for(links)
        raw = make_raw_client(server)
        session = raw.begin("ann", {"id": session["id"], "received": 0})
        assert session["resumed"] is True
        assert session["received"] == 5 * links
    assert numbers.wait_for(20) == 4 * list(range(5))


def test_what_a_client_has_received_is_forgotten_when_it_comes_back(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    server = make_server()
    ended = endings(server)
    raw = make_raw_client(server)
    session = raw.begin("ann")
    conn = connection_of(server)
    for number in range(5):
        conn.send("news", number)
    raw.abort()
    ended.wait_for(1)
    back = make_raw_client(server)
    back.begin("ann", {"id": session["id"], "received": 3})
    assert [back.recv_frame()[1] for _ in range(2)] == [3, 4]
    # That was an acknowledgement: one of fewer is a violation now.
    back.send_frame(ACK, 2)
    assert back.recv_close() == VIOLATED


def test_a_link_that_comes_back_authenticates_from_the_start(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    def identify(auth: AuthRequest) -> None:
        assert auth.challenge is not None
        if auth.challenge.response == "solution":
            auth.accept(auth.identity)
        else:
            auth.refuse()

    server = make_server(identify)
    server.use_challenge(lambda auth: "quest")
    ended = endings(server)

    def arrive(session: Any, solution: str) -> RawClient:
        raw = make_raw_client(server)
        raw.hi("ann", wse={"v": 1, "session": session})
        assert raw.recv_frame() == [CHALLENGE, "quest", None]
        raw.send_frame(CHALLENGE, solution)
        return raw

    raw = arrive(None, "solution")
    session = raw.recv_frame()[2]["session"]
    raw.abort()
    ended.wait_for(1)
    known = {"id": session["id"], "received": 0}
    assert arrive(known, "guess").recv_close() == (1000, "wse.not-authorized")
    assert connection_of(server).state == "suspended"
    assert arrive(known, "solution").recv_frame()[2]["session"] == {**session, "resumed": True}


def test_what_stands_behind_a_hi_that_resumes_is_handled_first(
    make_server: MakeServer, make_raw_client: MakeRawClient, no_late_acks: None
) -> None:
    decide, returned = threading.Event(), threading.Event()

    def identify(auth: AuthRequest) -> None:
        wait_event(decide)
        auth.accept("ann")
        wait_event(returned)

    server = make_server(identify)
    ended, numbers = endings(server), payloads(server)
    raw = make_raw_client(server)
    decide.set()
    session = raw.begin("ann")
    returned.set()
    raw.abort()
    ended.wait_for(1)
    decide.clear()
    returned.clear()
    back = make_raw_client(server)
    back.hi("ann", wse={"v": 1, "session": {"id": session["id"], "received": 0}})
    for number in range(5):
        back.send_frame("number", number)
    back.sync()
    decide.set()
    assert back.recv_frame()[2]["session"]["resumed"] is True
    back.send_frame("number", 5)
    back.sync()
    returned.set()
    assert numbers.wait_for(6) == list(range(6))


@pytest.mark.parametrize("received", [11, 2**70, 3], ids=["beyond", "far", "below"])
@pytest.mark.parametrize("lost", [True, False], ids=["suspended", "open"])
def test_a_count_that_cannot_be_ends_the_session(
    make_server: MakeServer, make_raw_client: MakeRawClient, received: int, lost: bool
) -> None:
    server = make_server()
    ended, joined = endings(server), Recorder()
    server.when.joined(lambda client, meta: joined.add(client.cid))
    raw = make_raw_client(server)
    session = raw.begin("ann")
    conn = connection_of(server)
    for number in range(10):
        conn.send("news", number)
        raw.recv_frame()
    raw.send_frame(ACK, 5)
    raw.sync()
    if lost:
        raw.abort()
        assert ended.wait_for(1) == ["suspended"]
    back = make_raw_client(server)
    fresh = back.begin("ann", {"id": session["id"], "received": received})
    assert fresh["id"] != session["id"]
    assert fresh == {**session, "id": fresh["id"]}
    why = (1006, "wse.session-expired")
    assert ended.wait_for(2 + lost)[lost:] == [("disconnected", *why), ("left", *why)]
    assert joined.wait_for(2) == ["ann", "ann"]
    assert conn.state == "closed"
    back.sync()
    if not lost:
        assert raw.recv_close() == (1006, "")


@pytest.mark.parametrize(
    "session_id",
    ["", "x", "x" * 32, "x" * 10_000, "é☃\0\n", "\ud800"],
    ids=["empty", "short", "unknown", "long", "odd", "surrogate"],
)
def test_an_id_that_is_none_begins_afresh_without_a_hint(
    make_server: MakeServer, make_raw_client: MakeRawClient, session_id: str
) -> None:
    server = make_server(conn_per_user=2)
    plain = make_raw_client(server).begin("ann")
    fresh = make_raw_client(server).begin("ann", {"id": session_id, "received": 7})
    assert fresh["id"] not in (session_id, plain["id"])
    assert fresh == {**plain, "id": fresh["id"]}


@pytest.mark.parametrize("how", ["expired", "left", "dropped"])
def test_an_id_of_a_session_that_is_over_begins_afresh_without_a_hint(
    make_server: MakeServer, make_raw_client: MakeRawClient, how: str
) -> None:
    server = make_server(resume_window=0.01 if how == "expired" else 60.0)
    ended = endings(server)
    raw = make_raw_client(server)
    before = raw.begin("ann")
    if how == "expired":
        raw.abort()
    elif how == "left":
        raw.close()
    else:
        server.drop_client("ann")
    ended.wait_until(lambda items: "left" in [item[0] for item in items])
    fresh = make_raw_client(server).begin("ann", {"id": before["id"], "received": 0})
    assert fresh["id"] != before["id"]
    assert fresh == {**before, "id": fresh["id"]}


@pytest.mark.parametrize("code", CODES_OF_CLIENTS)
def test_a_retry_code_of_a_client_suspends(
    make_server: MakeServer, make_raw_client: MakeRawClient, code: int
) -> None:
    server = make_server()
    ended = endings(server)
    raw = make_raw_client(server)
    session = raw.begin("ann")
    send_close(raw, code)
    assert ended.wait_for(1) == ["suspended"]
    back = make_raw_client(server)
    assert back.begin("ann", {"id": session["id"], "received": 0})["resumed"] is True


@pytest.mark.parametrize("code", FINAL_CODES)
def test_a_final_code_of_a_client_ends_its_session(
    make_server: MakeServer, make_raw_client: MakeRawClient, code: int
) -> None:
    server = make_server()
    ended = endings(server)
    raw = make_raw_client(server)
    raw.begin("ann")
    future = connection_of(server).submit("any", timeout=None)
    send_close(raw, code)
    assert ended.wait_for(2) == [("disconnected", code, ""), ("left", code, "")]
    error = future.exception(PATIENCE)
    assert isinstance(error, WseError)
    assert error.details["disconnected"] == [code, ""]


# The client


@pytest.mark.parametrize("code", RETRY_CODES)
def test_after_a_retry_code_the_client_asks_for_its_session(
    make_client: MakeClient, code: int
) -> None:
    with RawPeers() as peers:
        client = make_client(peers.url, reconnect=True, backoff=QUICK, call_timeout=None)
        numbers = payloads(client)
        peer = welcomed(peers, client)
        future = client.submit("any")
        _, _, stamp = peer.recv_frame()
        for number in range(3):
            peer.send_frame("number", number)
        numbers.wait_for(3)
        if code == 1006:
            peer.abort()
        else:
            body = b"" if code == 1005 else code.to_bytes(2, "big")
            peer.socket.sendall(bytes([0x88, len(body)]) + body)
            peer.recv_close()
        back = peers.next()
        hi = back.grant(resumed=True, received=1)
        assert hi["wse"] == {"v": 1, "session": {"id": "secret", "received": 3}}
        assert not future.done()
        back.send_frame(RESPONSE, "result", stamp)
        assert future.result(PATIENCE) == "result"


@pytest.mark.parametrize("code", FINAL_CODES)
def test_after_a_final_code_the_client_has_no_session(make_client: MakeClient, code: int) -> None:
    with RawPeers() as peers:
        client = make_client(peers.url, reconnect=True, backoff=QUICK, call_timeout=None)
        peer = welcomed(peers, client)
        future = client.submit("any")
        peer.recv_frame()
        peer.close(code, "why")
        error = future.exception(PATIENCE)
        assert isinstance(error, WseError)
        assert error.code == WSE_ERROR.RP_DISCONNECT
        assert error.details["disconnected"] == [code, "why"]
        assert client.wait(PATIENCE)
        again = Thread(lambda: client.connect("ann"))
        assert peers.next().grant("another")["wse"] == {"v": 1, "session": None}
        again.result()


def test_the_client_sends_again_what_the_server_has_not_received(
    make_client: MakeClient, no_late_acks: None
) -> None:
    with RawPeers() as peers:
        client = make_client(peers.url, reconnect=True, backoff=QUICK)
        peer = welcomed(peers, client)
        for number in range(5):
            client.send("number", number)
        assert [peer.recv_frame()[1] for _ in range(5)] == list(range(5))
        peer.send_frame(ACK, 2)
        peer.sync()
        peer.abort()
        back = peers.next()
        client.send("number", 5)
        back.grant(resumed=True, received=3)
        assert [back.recv_frame()[1] for _ in range(3)] == [3, 4, 5]
        client.send("number", 6)
        assert back.recv_frame() == ["number", 6, None]
        back.send_frame(ACK, 7)
        back.sync()


@pytest.mark.parametrize("received", [6, 1], ids=["beyond", "below"])
def test_a_welcome_with_a_count_that_cannot_be_is_a_protocol_violation(
    make_client: MakeClient, received: int
) -> None:
    with RawPeers() as peers:
        client = make_client(peers.url, reconnect=True, backoff=QUICK)
        codes = codes_of_errors(client)
        peer = welcomed(peers, client)
        future = client.submit("any")
        for number in range(4):
            client.send("number", number)
        for _ in range(5):
            peer.recv_frame()
        peer.send_frame(ACK, 2)
        peer.sync()
        peer.abort()
        back = peers.next()
        back.grant(resumed=True, received=received)
        assert back.recv_close() == VIOLATED
        assert client.wait(PATIENCE)
        assert WSE_ERROR.PROTOCOL_VIOLATION in codes.wait_for(2)
        assert isinstance(future.exception(PATIENCE), ConnectionError)


def test_a_server_that_forgot_sessions_makes_it_a_base_peer(make_client: MakeClient) -> None:
    with RawPeers() as peers:
        client = make_client(peers.url, reconnect=True, backoff=QUICK, call_timeout=None)
        peer = welcomed(peers, client)
        assert client.cid == "ann"
        future = client.submit("any")
        peer.recv_frame()
        peer.abort()
        back = peers.next()
        assert not future.done()
        back.welcome()
        assert isinstance(future.exception(PATIENCE), ConnectionError)
        wait_until(lambda: client.status == WSE_STATUS.READY, lambda: client.status)
        assert client.cid is None
        client.send("number", 1)
        assert back.recv_frame() == ["number", 1, None]
