"""Promise 47: a custom protocol, text or binary, carries messages and calls."""

from __future__ import annotations

import struct
import threading
from collections.abc import Mapping
from typing import Any

import pytest

from tests.conftest import Connect, MakeClient, MakeRawClient, MakeServer
from tests.support import PATIENCE, RawClient, Recorder, wait_event
from wse_sync import WSE_ERROR, JsonProtocol, Protocol, WseConnection, WseError


class BinaryProtocol(Protocol):
    """Tagged values, lengths as 32-bit integers; our own types are small integers.

    Values are None, booleans, integers, floats, text, bytes, lists, and dicts with text keys.
    """

    name = "tagged-binary"
    internal_types: Mapping[str, int] = {
        "hi": 1,
        "challenge": 2,
        "welcome": 3,
        "call": 4,
        "response": 5,
        "response_error": 6,
    }

    def pack(self, type: Any, payload: Any = None, stamp: Any = None) -> bytes:
        return b"".join(_packed(item) for item in (type, payload, stamp))

    def unpack(self, data: str | bytes) -> tuple[Any, Any, Any]:
        if isinstance(data, str):
            raise ValueError("a text message in a binary protocol")
        items = []
        rest = data
        while rest:
            item, rest = _unpacked(rest)
            items.append(item)
        type, payload, stamp = items
        return type, payload, stamp


CONSTANTS = {b"N": None, b"T": True, b"F": False}


def _packed(value: Any) -> bytes:
    if value is None or isinstance(value, bool):
        return next(tag for tag, constant in CONSTANTS.items() if constant is value)
    if isinstance(value, int):
        return struct.pack(">cq", b"i", value)
    if isinstance(value, float):
        return struct.pack(">cd", b"f", value)
    if isinstance(value, (str, bytes)):
        body = value.encode() if isinstance(value, str) else value
        return struct.pack(">cI", b"s" if isinstance(value, str) else b"b", len(body)) + body
    if isinstance(value, list):
        return struct.pack(">cI", b"l", len(value)) + b"".join(map(_packed, value))
    if isinstance(value, dict):
        flat = [each for pair in value.items() for each in pair]
        return struct.pack(">cI", b"d", len(value)) + b"".join(map(_packed, flat))
    raise TypeError(f"{type(value).__name__} has no tag")


def _unpacked(data: bytes) -> tuple[Any, bytes]:
    tag = data[:1]
    if tag in CONSTANTS:
        return CONSTANTS[tag], data[1:]
    if tag in (b"i", b"f"):
        (number,) = struct.unpack_from(">q" if tag == b"i" else ">d", data, 1)
        return number, data[9:]
    if tag not in (b"s", b"b", b"l", b"d"):
        raise ValueError(f"no such tag: {tag!r}")
    (size,) = struct.unpack_from(">I", data, 1)
    rest = data[5:]
    if tag in (b"s", b"b"):
        body, rest = rest[:size], rest[size:]
        return (body.decode() if tag == b"s" else body), rest
    items = []
    for _ in range(size * (2 if tag == b"d" else 1)):
        item, rest = _unpacked(rest)
        items.append(item)
    return (dict(zip(items[::2], items[1::2])) if tag == b"d" else items), rest


class TextProtocol(Protocol):
    """Three lines: type, stamp, and the payload as the JSON protocol writes it."""

    name = "three-lines"
    internal_types: Mapping[str, str] = {
        "hi": "HELLO",
        "challenge": "RIDDLE",
        "welcome": "COME IN",
        "call": "CALL",
        "response": "OK",
        "response_error": "FAILED",
    }
    _json = JsonProtocol()

    def pack(self, type: Any, payload: Any = None, stamp: Any = None) -> str:
        packed = self._json.pack("payload", payload)
        return f"{type}\n{stamp or ''}\n{packed}"

    def unpack(self, data: str | bytes) -> tuple[Any, Any, Any]:
        if isinstance(data, bytes):
            raise ValueError("a binary message in a text protocol")
        type, stamp, packed = data.split("\n", 2)
        return type, self._json.unpack(packed)[1], stamp or None


@pytest.fixture(params=[BinaryProtocol, TextProtocol], ids=["binary", "text"])
def protocol(request: pytest.FixtureRequest) -> Protocol:
    made: Protocol = request.param()
    return made


PAYLOADS = [
    None,
    True,
    0,
    -17,
    2.5,
    "",
    "é☃\nlines",
    [1, [2, None]],
    {"a": {"b": [1.5, "x"]}},
    "x" * 100_000,
]


def test_47_identity_meta_and_welcome_travel(
    make_server: MakeServer, make_client: MakeClient, protocol: Protocol
) -> None:
    asked = Recorder()

    def identify(auth: Any) -> None:
        asked.add((auth.identity, auth.meta))
        auth.accept("ann", {"hello": [1, 2]})

    server = make_server(identify, protocol=protocol)
    client = make_client(server, protocol=type(protocol)())
    assert client.connect({"token": "é"}, {"device": 7}) == {"hello": [1, 2]}
    assert asked.items == [({"token": "é"}, {"device": 7})]
    assert server.protocol is protocol


def test_47_messages_travel_both_ways_in_order(
    make_server: MakeServer, connect: Connect, protocol: Protocol
) -> None:
    server = make_server(protocol=protocol)
    client = connect(server, protocol=protocol)
    up, down = Recorder(), Recorder()
    server.channel.on("any", lambda conn, payload: up.add(payload))
    client.channel.on("any", lambda payload: down.add(payload))
    for payload in PAYLOADS:
        client.send("any", payload)
        server.broadcast("any", payload)
        server.send("ann", "any", payload)
    assert up.wait_for(len(PAYLOADS)) == PAYLOADS
    assert down.wait_for(2 * len(PAYLOADS)) == [each for each in PAYLOADS for _ in range(2)]


def test_47_calls_travel_both_ways(
    make_server: MakeServer, connect: Connect, protocol: Protocol
) -> None:
    server = make_server(protocol=protocol)
    client = connect(server, protocol=protocol)
    (conn,) = server.clients["ann"].conns.values()
    server.register("echo", lambda conn, payload: payload)
    client.register("echo", lambda payload: payload)
    for payload in PAYLOADS:
        assert client.call("echo", payload) == payload
        assert conn.call("echo", payload) == payload
    futures = [(client.submit("echo", n), conn.submit("echo", n)) for n in range(50)]
    for number, pair in enumerate(futures):
        assert [future.result(PATIENCE) for future in pair] == [number, number]


def test_47_failed_calls_travel_both_ways(
    make_server: MakeServer, connect: Connect, protocol: Protocol
) -> None:
    server = make_server(protocol=protocol)
    client = connect(server, protocol=protocol)
    (conn,) = server.clients["ann"].conns.values()

    def coded(*args: Any) -> None:
        raise WseError("my-code", {"why": [1, "two"]})

    def plain(*args: Any) -> None:
        raise KeyError("vanilla")

    ends: list[Any] = [server, client]
    for end in ends:
        end.register("coded", coded)
        end.register("plain", plain)
        end.register("odd", lambda *args: object())
    callers: list[Any] = [client, conn]
    for caller in callers:
        failures = {}
        for name in ("coded", "plain", "odd", "unknown"):
            with pytest.raises(WseError) as caught:
                caller.call(name)
            failures[name] = caught.value
        assert failures["coded"].code == "my-code"
        assert failures["coded"].details == {"why": [1, "two"], "rp": "coded"}
        assert failures["plain"].code == WSE_ERROR.RP_EXECUTION_FAILED
        assert failures["plain"].details["origin"]["name"] == "KeyError"
        assert failures["odd"].code == WSE_ERROR.RP_EXECUTION_FAILED
        assert failures["unknown"].code == WSE_ERROR.RP_NOT_REGISTERED
        assert failures["unknown"].details["rp"] == "unknown"


def test_47_a_challenge_travels(
    make_server: MakeServer, make_client: MakeClient, protocol: Protocol
) -> None:
    def identify(auth: Any) -> None:
        assert auth.challenge is not None
        auth.accept("ann", [auth.challenge.quest, auth.challenge.response])

    server = make_server(identify, protocol=protocol)
    server.use_challenge(lambda auth: {"n": 5})
    client = make_client(server, protocol=protocol)
    client.challenge(lambda quest: quest["n"] * 2)
    assert client.connect() == [{"n": 5}, 10]


def test_47_bytes_travel_in_a_binary_protocol(make_server: MakeServer, connect: Connect) -> None:
    server = make_server(protocol=BinaryProtocol())
    client = connect(server, b"\x00\xff", protocol=BinaryProtocol())
    server.register("reverse", lambda conn, payload: payload[::-1])
    every = bytes(range(256)) * 300
    assert client.call("reverse", every) == every[::-1]
    assert list(server.clients) == [b"\x00\xff"]


def test_47_what_cannot_be_packed_raises_at_the_caller_and_nothing_is_sent(
    make_server: MakeServer, connect: Connect, protocol: Protocol
) -> None:
    server = make_server(protocol=protocol)
    client = connect(server, protocol=protocol)
    up = Recorder()
    server.channel.on("any", lambda conn, payload: up.add(payload))
    for attempt in (client.send, client.call, server.broadcast):
        with pytest.raises(TypeError) as caught:
            attempt("any", {1, 2})
        assert "set" in str(caught.value)
    client.send("any", "last")
    assert up.wait_for(1) == ["last"]


def test_47_our_own_types_are_refused_whatever_they_are(
    make_server: MakeServer, connect: Connect, protocol: Protocol
) -> None:
    server = make_server(protocol=protocol)
    client = connect(server, protocol=protocol)
    for type in protocol.internal_types.values():
        attempts: list[Any] = [client.send, client.call, server.broadcast]
        for attempt in attempts:
            with pytest.raises(ValueError):
                attempt(type)
    server.register("echo", lambda conn, payload: payload)
    assert client.call("echo", 1) == 1


def test_47_types_of_the_application_may_be_integers_too(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server(protocol=BinaryProtocol())
    client = connect(server, protocol=BinaryProtocol())
    up, down = Recorder(), Recorder()
    server.channel.on(100, lambda conn, payload: up.add(payload))
    client.channel.on(100, lambda payload: down.add(payload))
    server.register(200, lambda conn, payload: payload + 1)
    client.send(100, "up")
    server.broadcast(100, "down")
    assert up.wait_for(1) == ["up"]
    assert down.wait_for(1) == ["down"]
    assert client.call(200, 1) == 2


# The wire


def raw(server: Any, protocol: Protocol) -> RawClient:
    return RawClient(server.url, [protocol.name])


def test_47_bytes_travel_as_binary_messages_and_text_as_text(
    make_server: MakeServer, protocol: Protocol
) -> None:
    server = make_server(protocol=protocol)
    kind = "binary" if isinstance(protocol, BinaryProtocol) else "text"
    types = protocol.internal_types
    with raw(server, protocol) as peer:
        assert peer.subprotocol == protocol.name
        peer.send(protocol.pack(types["hi"], {"identity": "ann", "meta": {}}))
        received, data = peer.recv()
        assert received == kind
        assert protocol.unpack(data) == (types["welcome"], {"hello": "ann"}, None)
        server.broadcast("any", [1])
        received, data = peer.recv()
        assert received == kind
        assert protocol.unpack(data) == ("any", [1], None)
        server.register("add", lambda conn, pair: sum(pair))
        peer.send(protocol.pack("add", [1, 2], "STAMP"))
        received, data = peer.recv()
        assert received == kind
        assert protocol.unpack(data) == (types["response"], 3, "STAMP")


def test_47_what_cannot_be_unpacked_is_a_protocol_error_of_that_connection_only(
    make_server: MakeServer, connect: Connect, protocol: Protocol
) -> None:
    server = make_server(protocol=protocol)
    errors = Recorder()
    server.when.error(errors)
    client = connect(server, "bob", protocol=protocol)
    hi = protocol.pack(protocol.internal_types["hi"], {"identity": "ann"})
    for junk in (b"junk", "junk", b"", ""):
        with raw(server, protocol) as peer:
            peer.send(hi)
            peer.recv()
            peer.send(junk)
            assert peer.recv_close() == (1000, "wse.protocol-error")
    for error, conn in errors.wait_for(4):
        assert error.code == WSE_ERROR.MESSAGE_PROCESSING_ERROR
        assert conn.cid == "ann"
    server.register("echo", lambda conn, payload: payload)
    assert client.call("echo", 1) == 1


def test_47_ends_that_speak_different_protocols_part(
    make_server: MakeServer, make_client: MakeClient, protocol: Protocol
) -> None:
    server = make_server(protocol=protocol)
    client = make_client(server)
    with pytest.raises(ConnectionError) as caught:
        client.connect("ann")
    assert isinstance(caught.value, WseError)
    assert not server.clients


def test_47_packing_happens_in_any_thread_and_broadcast_packs_once(
    make_server: MakeServer, connect: Connect, make_raw_client: MakeRawClient
) -> None:
    packed: list[Any] = []

    class Counting(BinaryProtocol):
        def pack(self, type: Any, payload: Any = None, stamp: Any = None) -> bytes:
            packed.append(type)
            return super().pack(type, payload, stamp)

    server = make_server(protocol=Counting(), conn_per_user=10)
    arrived = Recorder()
    for _ in range(10):
        client = connect(server, protocol=BinaryProtocol())
        client.channel.on("news", arrived)
    packed.clear()
    assert server.broadcast("news", 1) == 10
    assert arrived.wait_for(10) == [1] * 10
    assert packed.count("news") == 1
    assert server.send("ann", "news", 2) == 10
    arrived.wait_for(20)


def test_47_a_procedure_may_call_back(make_server: MakeServer, connect: Connect) -> None:
    server = make_server(protocol=BinaryProtocol())
    client = connect(server, protocol=BinaryProtocol())
    done = threading.Event()

    def down(conn: WseConnection, depth: int) -> Any:
        return conn.call("up", depth - 1) + 1 if depth else 0

    def up(depth: int) -> Any:
        return client.call("down", depth - 1) + 1 if depth else 0

    server.register("down", down)
    client.register("up", up)
    future = client.submit("down", 10)
    future.add_done_callback(lambda _: done.set())
    wait_event(done)
    assert future.result(0) == 10
