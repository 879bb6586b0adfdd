"""Generated bad frames (promises 6, 26 and 43): each gets its clear error, and nobody else notices.

What is bad is decided here by a small oracle of its own, from wire.md, not by the library.
"""

from __future__ import annotations

import json
import queue
import socket
from collections import Counter
from typing import Any, NamedTuple, NoReturn
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from tests.conftest import Connect, MakeRawClient, MakeRawServer, MakeServer
from tests.support import (
    CHALLENGE,
    HI,
    PATIENCE,
    RESPONSE,
    RESPONSE_ERR,
    WELCOME,
    RawClient,
    RawPeer,
    Recorder,
    wait_until,
)
from wse_sync import WSE_ERROR, WSE_STATUS, AuthRequest, WseClient, WseConnection, WseServer

FIRST = "first frame"
CHALLENGED = "instead of the solution"
WELCOMED = "after the welcome"


class Bad(NamedTuple):
    """One message: its bytes, and whether they travel as text."""

    data: bytes
    as_text: bool


def is_the_close_for(bad: Bad, close: tuple[int, str]) -> bool:
    """1007 for what is no WebSocket message (RFC 6455, 8.1), 1000 for what is none of ours."""
    if bad.as_text:
        try:
            bad.data.decode()
        except UnicodeDecodeError:
            return close[0] == 1007
    return close == (1000, "wse.protocol-error")


def _not_json(text: str) -> NoReturn:
    raise ValueError(text)


def expected_code(data: bytes, phase: str) -> str | None:
    """The code that a server reports for the message; None if the message is legal."""
    try:
        items = json.loads(data.decode("utf-8"), parse_constant=_not_json)
    except (ValueError, RecursionError):
        return WSE_ERROR.MESSAGE_PROCESSING_ERROR
    if not isinstance(items, list):
        return WSE_ERROR.MESSAGE_PROCESSING_ERROR
    type, payload, stamp = [*items, None, None, None][:3]
    if not isinstance(type, str) or not type or (stamp and not isinstance(stamp, str)):
        return WSE_ERROR.PROTOCOL_VIOLATION
    if phase == WELCOMED:
        return WSE_ERROR.PROTOCOL_VIOLATION if type in (HI, CHALLENGE, WELCOME) else None
    if phase == CHALLENGED:
        return None if type == CHALLENGE else WSE_ERROR.PROTOCOL_VIOLATION
    return None if type == HI and _is_hi(payload) else WSE_ERROR.PROTOCOL_VIOLATION


def _is_hi(payload: Any) -> bool:
    return isinstance(payload, dict) and isinstance(payload.get("meta"), (dict, type(None)))


# What is generated. Some of it is legal by chance; the oracle sorts that out.

SCALARS: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
)
JSON: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=8,
)
INTERNAL = st.sampled_from([HI, CHALLENGE, WELCOME])
NO_TYPES = st.one_of(
    st.none(),
    st.just(""),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.lists(JSON, max_size=2),
    st.dictionaries(st.text(max_size=5), JSON, max_size=2),
)
NO_STAMPS = st.one_of(
    st.just(True),
    st.integers(min_value=1),
    st.floats(min_value=0.5, allow_infinity=False),
    st.lists(JSON, min_size=1, max_size=2),
    st.dictionaries(st.text(max_size=5), JSON, min_size=1, max_size=2),
)
NO_OBJECTS = JSON.filter(lambda value: not isinstance(value, dict))


def _dumped(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8")


wrong_shape = JSON.filter(lambda value: not isinstance(value, list)).map(_dumped)
wrong_type = st.tuples(NO_TYPES, JSON).map(_dumped)
wrong_stamp = st.tuples(st.text(min_size=1, max_size=10), JSON, NO_STAMPS).map(_dumped)
wrong_side = st.tuples(INTERNAL, JSON, st.none()).map(_dumped)
wrong_hi = NO_OBJECTS.map(lambda value: _dumped([HI, value, None]))
wrong_meta = NO_OBJECTS.filter(lambda value: value is not None).map(
    lambda value: _dumped([HI, {"identity": "x", "meta": value}, None])
)
other_first = st.tuples(st.text(min_size=1, max_size=10), JSON).map(_dumped)
not_a_number = st.sampled_from(["NaN", "Infinity", "-Infinity"]).map(
    lambda text: f'["chat",[{text}],null]'.encode()
)
deep = st.tuples(st.sampled_from([b"[", b'["a",']), st.integers(10_500, 10_900)).map(
    # Under the 64 KB that hold before the welcome, and deeper than any interpreter reads.
    lambda pair: pair[0] * pair[1] + b"1" + b"]" * pair[1]
)
huge_number = st.integers(5_000, 20_000).map(lambda digits: b"9" * digits)
not_utf8 = st.one_of(
    st.sampled_from([b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\xaf", b"\x80"]),
    st.binary(min_size=1, max_size=10),
).map(lambda middle: b'["chat","' + middle + b'",null]')
cut = st.tuples(JSON, st.floats(0, 0.99)).map(
    lambda pair: (lambda data: data[: int(len(data) * pair[1])])(_dumped(["chat", pair[0], None]))
)
swapped = st.tuples(JSON, st.integers(0, 1000), st.integers(0, 255)).map(
    lambda triple: _with_byte(_dumped(["chat", triple[0], None]), triple[1], triple[2])
)


def _with_byte(data: bytes, place: int, byte: int) -> bytes:
    place %= len(data)
    return data[:place] + bytes([byte]) + data[place + 1 :]


DATA: st.SearchStrategy[bytes] = st.one_of(
    st.binary(max_size=60),
    st.text(max_size=60).map(lambda text: text.encode("utf-8")),
    wrong_shape,
    wrong_type,
    wrong_stamp,
    wrong_side,
    wrong_hi,
    wrong_meta,
    other_first,
    not_a_number,
    deep,
    huge_number,
    not_utf8,
    cut,
    swapped,
)


def is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


# A text message that is not UTF-8 is already none for WebSocket; it has a test of its own below.
BAD: st.SearchStrategy[Bad] = st.builds(Bad, DATA, st.booleans()).filter(
    lambda bad: not bad.as_text or is_utf8(bad.data)
)
BAD_TEXT: st.SearchStrategy[Bad] = st.builds(Bad, DATA, st.just(True)).filter(
    lambda bad: not is_utf8(bad.data)
)


class Target:
    """A server that is shown bad frames, and a client of it that must notice nothing."""

    def __init__(self, make_server: MakeServer, connect: Connect) -> None:
        self.frames = 0
        self.codes: Counter[str] = Counter()
        self.errors: queue.Queue[tuple[BaseException, WseConnection]] = queue.Queue()
        self.identified = Recorder()
        self.server = make_server(self._identify, auth_timeout=None)
        self.server.when.error(lambda error, conn: self.errors.put((error, conn)))
        self.server.register("ping", lambda conn, payload: payload)
        self.bystander = connect(self.server, "bystander")
        self.closed = Recorder()
        self.bystander.when.closed(self.closed)

    def _identify(self, auth: AuthRequest) -> None:
        self.identified.add(auth.identity)
        auth.accept(auth.identity, {"hello": auth.identity})

    def shows(self, bad: Bad, phase: str) -> None:
        """Send one bad message in that phase, and check all that must happen then."""
        code = expected_code(bad.data, phase)
        assume(code is not None)
        identified = len(self.identified)
        raw = RawClient(self.server.url)
        try:
            self._lead_to(phase, raw)
            if bad.as_text:
                raw.send_text_bytes(bad.data)
            else:
                raw.send(bad.data)
            kind, close = raw.recv()
            assert kind == "close"
            assert is_the_close_for(bad, close)
        finally:
            raw.abort()
        self.frames += 1
        self.codes[str(code)] += 1
        error, conn = self.errors.get(timeout=PATIENCE)
        assert getattr(error, "code", error) == code, str(error)
        assert isinstance(conn, WseConnection)
        assert conn.cid == ("stranger" if phase == WELCOMED else None)
        wait_until(lambda: conn.state == "closed", lambda: conn.state)
        # So many may wait at the door, and whoever was not let in leaves it last of all.
        wait_until(lambda: not self.server.stats().strangers, "nobody is left at the door")
        assert len(self.identified) == identified + (phase == WELCOMED)
        assert self.bystander.call("ping", self.frames) == self.frames

    def _lead_to(self, phase: str, raw: RawClient) -> None:
        if phase == WELCOMED:
            raw.login("stranger")
        elif phase == CHALLENGED:
            raw.hi("stranger")
            assert raw.recv_frame()[0] == CHALLENGE

    def is_unharmed(self) -> None:
        """Nothing more was reported than what each frame was answered for."""
        assert self.errors.empty()
        assert self.closed.items == []
        assert self.bystander.status == WSE_STATUS.READY
        assert self.bystander.call("ping", "end") == "end"


def run(target: Target, phase: str, examples: int, strategy: st.SearchStrategy[Bad] = BAD) -> None:
    @settings(
        max_examples=examples,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def each(bad: Bad) -> None:
        target.shows(bad, phase)

    each()


def test_06_hundreds_of_bad_frames_each_get_a_clear_error_and_disturb_nobody(
    make_server: MakeServer, connect: Connect
) -> None:
    target = Target(make_server, connect)
    run(target, FIRST, 300)
    before = target.frames
    run(target, WELCOMED, 300)
    after = target.frames - before
    target.server.use_challenge(lambda auth: 1)
    run(target, CHALLENGED, 100)
    target.is_unharmed()
    assert before >= 280
    assert after >= 280
    assert target.frames >= 650
    # Both kinds of badness are well represented.
    assert min(target.codes.values()) >= 150
    assert len(target.codes) == 2


@pytest.mark.parametrize("phase", [FIRST, WELCOMED])
def test_06_text_that_is_not_utf8_gets_a_clear_error_and_disturbs_nobody(
    make_server: MakeServer, connect: Connect, phase: str
) -> None:
    target = Target(make_server, connect)
    run(target, phase, 50, BAD_TEXT)
    target.is_unharmed()
    assert target.frames == 50


class BadServer:
    """A raw server that says one bad message after the welcome, and clients that hear it."""

    def __init__(self, make_raw_server: MakeRawServer) -> None:
        self.frames = 0
        self._bads: queue.Queue[Bad] = queue.Queue()
        self._closes = Recorder()
        self.server = make_raw_server(self._play)

    def _play(self, peer: RawPeer) -> None:
        peer.welcome()
        bad = self._bads.get()
        peer.send_bytes(bad.data, as_text=bad.as_text)
        self._closes.add(peer.recv_close())

    def shows(self, bad: Bad) -> None:
        """Say it to a new client, and check all that must happen then."""
        code = expected_code(bad.data, WELCOMED)
        assume(code is not None)
        client = WseClient(self.server.url, reconnect=True)
        errors = Recorder()
        closed = Recorder()
        client.when.error(errors)
        client.when.closed(closed)
        self._bads.put(bad)
        try:
            client.connect("ann")
            assert client.wait(PATIENCE)
            assert client.status == WSE_STATUS.OFFLINE
            assert [getattr(error, "code", error) for error in errors.wait_for(1)] == [code]
            assert is_the_close_for(bad, closed.wait_for(1)[0])
        finally:
            client.disconnect()
        self.frames += 1
        assert is_the_close_for(bad, self._closes.wait_for(self.frames)[-1])


@pytest.mark.parametrize(
    ("strategy", "examples"), [(BAD, 200), (BAD_TEXT, 20)], ids=["frames", "not UTF-8"]
)
def test_06_bad_frames_of_a_server_end_the_link_of_the_client_with_a_clear_error(
    make_raw_server: MakeRawServer, strategy: st.SearchStrategy[Bad], examples: int
) -> None:
    bad_server = BadServer(make_raw_server)

    @settings(
        max_examples=examples,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def each(bad: Bad) -> None:
        bad_server.shows(bad)

    each()
    assert bad_server.frames >= examples * 0.95
    # Nobody came back: a protocol error is final.
    assert bad_server.server.connections == bad_server.frames


@pytest.mark.parametrize(
    "data",
    [
        '["type"]',
        '["type",null]',
        '["type",1]',
        '["type",1,null]',
        '["type",1,""]',
        '["type",1,0]',
        '["type",1,false]',
        ' \n\t["type" , {} , null]\r\n ',
        '["\\ud800",1]',
        '["type","\\udfff\\ud800"]',
        '["\\u0000",1]',
        '["type",{"a":1,"a":2}]',
        '["type",' + "[" * 100 + "]" * 100 + "]",
        '["type",' + "9" * 1000 + "]",
        '["type",-0.0]',
        '["type","' + "x" * 200_000 + '"]',
        '["~wse:response",1,"unknown"]',
        '["~wse:response-err",{"code":"c"},"unknown"]',
        '["~wse:response-err",null,"unknown"]',
        b'["type",1]',
        '["é☃",1]'.encode(),
    ],
)
def test_06_frames_that_are_legal_do_no_harm(
    make_server: MakeServer, make_raw_client: MakeRawClient, data: str | bytes
) -> None:
    server = make_server()
    server.register("ping", lambda conn, payload: payload)
    errors = Recorder()
    server.when.error(errors)
    raw = make_raw_client(server)
    raw.login("ann")
    raw.send(data)
    raw.send_frame("ping", 1, "S1")
    assert raw.recv_frame() == [RESPONSE, 1, "S1"]
    assert errors.items == []


@pytest.mark.parametrize(
    "data",
    [
        '["~wse:hi",{"identity":"\\ud800"}]',
        '["~wse:hi",{"identity":"x","meta":null}]',
        '["~wse:hi",{"identity":"x","meta":{},"wse":{"v":1,"session":null}}]',
        '["~wse:hi",{"identity":"x","wse":"nonsense","more":[1]},null]',
        b'["~wse:hi",{"identity":"x"}]',
    ],
)
def test_06_every_legal_hi_is_let_in(
    make_server: MakeServer, make_raw_client: MakeRawClient, data: str | bytes
) -> None:
    raw = make_raw_client(make_server())
    raw.send(data)
    type, payload, _ = raw.recv_frame()
    assert type == WELCOME
    assert payload in ({"hello": "x"}, {"hello": "\ud800"})


def test_06_a_call_of_anything_unknown_is_answered_and_not_a_violation(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    raw = make_raw_client(make_server())
    raw.login("ann")
    for stamp in ("S", " ", "\ud800", "x" * 1000):
        raw.send_frame("nope", {"deep": [1]}, stamp)
        type, payload, got = raw.recv_frame()
        assert (type, got) == (RESPONSE_ERR, stamp)
        assert payload["code"] == "wse.server.rp.not-registered"


UPGRADE = (
    "GET / HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Protocol: wse-default-json\r\n\r\n"
)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x81\x02hi",  # not masked
        b"\xc1\x82\x00\x00\x00\x00hi",  # a reserved bit
        b"\x83\x82\x00\x00\x00\x00hi",  # a reserved opcode
        b"\x80\x82\x00\x00\x00\x00hi",  # a continuation of nothing
        b"\x89\xfe\x01\x00\x00\x00\x00\x00" + b"x" * 256,  # a ping of 256 bytes
        b"\x88\x81\x00\x00\x00\x00\x01",  # a close of one byte
        b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff",  # 16 exabytes
        b"\x00" * 100,
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
@pytest.mark.parametrize("welcomed", [False, True])
def test_06_what_is_not_websocket_ends_the_connection_and_disturbs_nobody(
    make_server: MakeServer, connect: Connect, garbage: bytes, welcomed: bool
) -> None:
    server = make_server()
    server.register("ping", lambda conn, payload: payload)
    bystander = connect(server, "bystander")
    with _upgraded(server) as sock:
        if welcomed:
            hi = b'["~wse:hi",{"identity":"ann"}]'
            sock.sendall(bytes([0x81, 0x80 | len(hi), 0, 0, 0, 0]) + hi)
            assert WELCOME.encode() in sock.recv(1000)
        sock.sendall(garbage)
        answer = _received(sock)
        # A close frame with the WebSocket layer's own code, or just the end.
        assert answer[:1] in (b"\x88", b"")
    assert bystander.call("ping", 1) == 1


def _upgraded(server: WseServer) -> socket.socket:
    address = urlsplit(server.url)
    sock = socket.create_connection((address.hostname, address.port), timeout=PATIENCE)
    sock.sendall(UPGRADE.format(host=address.netloc).encode())
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += sock.recv(1)
    assert answer.startswith(b"HTTP/1.1 101 ")
    return sock


def _received(sock: socket.socket) -> bytes:
    """What came next; nothing if the connection ended. Fails after the socket's timeout."""
    try:
        return sock.recv(1000)
    except ConnectionError:
        return b""
