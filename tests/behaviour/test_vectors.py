"""The frames recorded from the JavaScript implementation: both ends say what they say.

Differences that wire.md names: we send no stack, do not echo the payload of a failed call, name
the procedure `rp` instead of `rpc`, and say in every error message what happened. Our hi asks for
our cid, under a key that the others read past.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeClient, MakeRawClient, MakeRawServer, MakeServer
from tests.support import (
    CHALLENGE,
    PATIENCE,
    RESPONSE,
    RESPONSE_ERR,
    SUBPROTOCOL,
    WELCOME,
    RawPeer,
    Recorder,
    Thread,
)
from wse_sync import WSE_ERROR, AuthRequest, WseConnection, WseError, WseServer

VECTORS = Path(__file__).parent.parent / "vectors" / "reference-frames.jsonl"
RECORDS: list[dict[str, Any]] = [
    json.loads(line) for line in VECTORS.read_text(encoding="utf-8").splitlines()
]
SCENARIOS = {record["scenario"]: record for record in RECORDS if "scenario" in record}
HANDSHAKE = next(record for record in RECORDS if record.get("what") == "handshake header")
CLIENT_FRAMES: list[list[Any]] = [
    json.loads(record["raw"]) for record in RECORDS if "dir" in record and "raw" in record
]
CLIENT_CLOSE = next(record for record in RECORDS if "dir" in record and "close" in record)


class Error(Exception):
    """Named as the JavaScript class, so that `origin.name` is the same."""


def fail(*_: Any) -> None:
    raise Error("vanilla")


def failo(*_: Any) -> None:
    raise WseError(WSE_ERROR.RP_EXECUTION_FAILED, {"test_field": "nope"})


def failw(*_: Any) -> None:
    raise WseError("my-code", {"fun": 1})


def essence(frame: list[Any]) -> dict[str, Any]:
    """A frame without what may differ; equal for both implementations."""
    type, payload, stamp = [*frame, None, None][:3]
    if type != RESPONSE_ERR:
        return {"type": type, "payload": payload, "stamp": stamp}
    details = dict(payload.get("details") or {})
    details.pop("rp", None)
    details.pop("rpc", None)
    details.pop("payload", None)
    if "origin" in details:
        origin = details["origin"]
        details["origin"] = {"name": origin["name"], "message": origin["message"]}
        details["message"] = payload["message"]
    return {"type": type, "code": payload["code"], "details": details, "stamp": stamp}


def procedure_of(frame: list[Any]) -> Any:
    """The name of the procedure in an error, in either spelling; None where it is left out."""
    details = frame[1].get("details") or {}
    return details.get("rp", details.get("rpc"))


def identify(auth: AuthRequest) -> None:
    if auth.identity == "bad":
        auth.refuse()
    else:
        auth.accept("x", {"hey": 1})


def register_recorded(server: WseServer) -> None:
    server.register("add", lambda conn, payload: payload["a"] + payload["b"])
    server.register("undef", lambda conn, payload: None)
    server.register("fail", fail)
    server.register("failo", failo)
    server.register("failw", failw)


def offered_in(scenario: str) -> list[str] | None:
    return {"no subprotocol": None, "other subprotocol": ["other"]}.get(scenario, [SUBPROTOCOL])


def recorded_messages(scenario: str) -> list[list[Any]]:
    return [json.loads(item["raw"]) for item in SCENARIOS[scenario]["got"] if "raw" in item]


def recorded_close(scenario: str) -> tuple[int, str]:
    if scenario == "other subprotocol":
        # Node's client gave up by itself: the server had selected what was not offered. wire.md
        # says what ours does instead.
        return 1000, "wse.protocol-error"
    (close,) = [item for item in SCENARIOS[scenario]["got"] if "close" in item]
    return close["close"], close["reason"]


def test_the_recording_is_whole() -> None:
    assert len(CLIENT_FRAMES) == 14
    assert len(SCENARIOS) == 10


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_22_our_server_answers_what_the_recorded_server_answers(
    make_server: MakeServer, make_raw_client: MakeRawClient, scenario: str
) -> None:
    server = make_server(identify)
    register_recorded(server)
    raw = make_raw_client(server, subprotocols=offered_in(scenario))
    expected = recorded_messages(scenario)
    close = recorded_close(scenario)
    if raw.subprotocol is not None:
        for data in SCENARIOS[scenario]["sent"]:
            raw.send(data)
    got = [raw.recv_frame() for _ in expected]
    if close == (1000, "wse.by-client"):
        raw.send_close(*close)
    assert raw.recv() == ("close", close)

    def by_stamp(frame: list[Any]) -> str:
        return frame[2] or ""

    got.sort(key=by_stamp)
    expected.sort(key=by_stamp)
    assert [essence(frame) for frame in got] == [essence(frame) for frame in expected]
    for ours, theirs in zip(got, expected):
        if theirs[0] == RESPONSE_ERR and procedure_of(theirs) is not None:
            assert procedure_of(ours) == procedure_of(theirs)


def test_22_our_server_understands_the_recorded_client(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    """A raw client replays the recorded session; stamps of the server's calls are mapped."""
    heard = Recorder()
    asked = Recorder()
    results = Recorder()
    disconnected = Recorder()

    def check(auth: AuthRequest) -> None:
        assert auth.challenge is not None
        asked.add((auth.identity, auth.meta, auth.challenge.response))
        auth.accept("x", {"hey": 1})

    def go(conn: WseConnection, payload: Any) -> None:
        heard.add(("go", payload))
        futures = [
            (name, conn.submit(name, argument))
            for name, argument in [
                ("nope", None),
                ("ping", None),
                ("fail", {"q": 1}),
                ("failw", None),
                ("failo", None),
                ("undef", None),
            ]
        ]
        for name, future in futures:
            error = future.exception(PATIENCE)
            results.add((name, error if error is not None else future.result()))

    server = make_server(check)
    server.use_challenge(lambda auth: "1 + 2")
    server.register("add", lambda conn, payload: payload["a"] + payload["b"])
    server.register("boom", fail)
    for type in ("chat", "empty", "obj"):
        server.channel.on(type, lambda conn, payload, type=type: heard.add((type, payload)))
    server.channel.on("go", go)
    server.when.disconnected(lambda conn, code, reason: disconnected.add((code, reason)))

    raw = make_raw_client(server, header=[f"Sec-WebSocket-Extensions: {HANDSHAKE['ext']}"])
    assert raw.subprotocol == HANDSHAKE["v"]
    assert "sec-websocket-extensions" not in raw.headers
    hi, solution, chat, empty, obj, add, boom, start, *answers = CLIENT_FRAMES
    raw.send(json.dumps(hi))
    assert raw.recv_frame() == [CHALLENGE, "1 + 2", None]
    raw.send(json.dumps(solution))
    assert raw.recv_frame() == [WELCOME, {"hey": 1}, None]
    for frame in (chat, empty, obj, add, boom):
        raw.send(json.dumps(frame))
    responses = sorted((raw.recv_frame() for _ in range(2)), key=lambda frame: str(frame[0]))
    assert responses[0] == [RESPONSE, 3, add[2]]
    assert responses[1][0::2] == [RESPONSE_ERR, boom[2]]
    raw.send(json.dumps(start))
    calls = {
        name: (payload, stamp) for name, payload, stamp in (raw.recv_frame() for _ in range(6))
    }
    assert {name: payload for name, (payload, _) in calls.items()} == {
        "nope": None,
        "ping": None,
        "fail": {"q": 1},
        "failw": None,
        "failo": None,
        "undef": None,
    }
    names = ["nope", "ping", "fail", "failw", "failo", "undef"]
    for name, (type, payload, _) in zip(names, answers):
        raw.send(json.dumps([type, payload, calls[name][1]]))
    nope, ping, failed, failed_w, failed_o, undef = results.wait_for(6)
    assert ping == ("ping", {"pong": 1})
    assert undef == ("undef", None)
    assert nope[1].code == WSE_ERROR.RP_NOT_REGISTERED
    assert nope[1].details["rp"] == "nope"
    assert failed[1].code == WSE_ERROR.RP_EXECUTION_FAILED
    assert failed[1].details["origin"]["message"] == "vanilla"
    assert failed[1].details["rp"] == "fail"
    assert failed_w[1].code == "my-code"
    assert failed_w[1].details["fun"] == 1
    assert failed_o[1].code == WSE_ERROR.RP_EXECUTION_FAILED
    assert failed_o[1].details["test_field"] == "nope"
    raw.close(CLIENT_CLOSE["close"], CLIENT_CLOSE["reason"])
    assert disconnected.wait_for(1) == [(CLIENT_CLOSE["close"], CLIENT_CLOSE["reason"])]
    assert heard.items == [
        ("chat", "Hello"),
        ("empty", None),
        ("obj", {"user": "é☃", "n": 1.5, "nul": None}),
        ("go", None),
    ]
    assert asked.items == [({"token": "t"}, {"device": "pi"}, 3)]


def test_22_our_client_says_what_the_recorded_client_says(
    make_raw_server: MakeRawServer, make_client: MakeClient
) -> None:
    """A raw server plays the other side of the recorded session; stamps of calls are mapped."""
    got = Recorder()
    closes = Recorder()
    offers = Recorder()
    done = threading.Event()

    def script(peer: RawPeer) -> None:
        offers.add(peer.request.subprotocols)
        got.add(peer.recv_frame())
        peer.send_frame(CHALLENGE, {"a": 1, "b": 2})
        got.add(peer.recv_frame())
        peer.send_frame(WELCOME, {"hey": 1})
        for _ in range(3):
            got.add(peer.recv_frame())
        for data in ('["~wse:response",3,"%s"]', '["~wse:response-err",{"code":"boom"},"%s"]'):
            call = peer.recv_frame()
            got.add(call)
            peer.send(data % call[2])
        got.add(peer.recv_frame())
        procedures = [
            ("ping", None),
            ("nope", None),
            ("fail", {"q": 1}),
            ("failw", None),
            ("failo", None),
            ("undef", None),
        ]
        for number, (name, payload) in enumerate(procedures, 1):
            peer.send_frame(name, payload, f"STAMP{number:05}")
        for _ in procedures:
            got.add(peer.recv_frame())
        done.set()
        closes.add(peer.recv_close())

    client = make_client(make_raw_server(script))
    client.challenge(lambda quest: quest["a"] + quest["b"])
    client.register("ping", lambda payload: {"pong": 1})
    client.register("fail", fail)
    client.register("failw", failw)
    client.register("failo", failo)
    client.register("undef", lambda payload: None)
    assert client.connect({"token": "t"}, {"device": "pi"}) == {"hey": 1}
    client.send("chat", "Hello")
    client.send("empty")
    client.send("obj", {"user": "é☃", "n": 1.5, "nul": None})
    assert client.call("add", {"a": 1, "b": 2}) == 3
    with pytest.raises(WseError) as caught:
        client.call("boom")
    assert caught.value.code == "boom"
    client.send("go")
    assert done.wait(PATIENCE)
    client.disconnect()
    assert closes.wait_for(1) == [(CLIENT_CLOSE["close"], CLIENT_CLOSE["reason"])]
    (offer,) = offers.items
    assert offer == [HANDSHAKE["v"]]
    frames = got.items
    assert frames[0][1].pop("wse") == {"v": 1}
    stamps = [frame[2] for frame in frames[5:7]]
    assert all(isinstance(stamp, str) and stamp for stamp in stamps)
    for ours, theirs in zip(frames[:8], CLIENT_FRAMES[:8]):
        assert ours[:2] == theirs[:2]
        assert bool(ours[2]) == bool(theirs[2])
    answers = {frame[2]: frame for frame in frames[8:]}
    recorded = {frame[2]: frame for frame in CLIENT_FRAMES[8:]}
    assert {stamp: essence(frame) for stamp, frame in answers.items()} == {
        stamp: essence(frame) for stamp, frame in recorded.items()
    }
    assert procedure_of(answers["STAMP00003"]) == "fail"


@pytest.mark.parametrize("scenario", ["ok", "hi without stamp slot"])
def test_22_our_client_understands_the_recorded_welcome(
    make_raw_server: MakeRawServer, make_client: MakeClient, scenario: str
) -> None:
    (welcome,) = [item["raw"] for item in SCENARIOS[scenario]["got"] if "raw" in item]
    sent = Recorder()

    def script(peer: RawPeer) -> None:
        sent.add(peer.recv_frame())
        peer.send(welcome)
        peer.recv_close()

    client = make_client(make_raw_server(script))
    assert client.connect("x") == {"hey": 1}
    assert client.cid is None
    assert sent.items == [["~wse:hi", {"identity": "x", "meta": {}, "wse": {"v": 1}}, None]]


def test_22_our_client_understands_the_recorded_answers(
    make_raw_server: MakeRawServer, make_client: MakeClient
) -> None:
    """The recorded answers come in their recorded order, with the stamps of our calls."""
    welcome, *answers = recorded_messages("calls")
    calls = [json.loads(data) for data in SCENARIOS["calls"]["sent"][1:]]
    sent = Recorder()

    def script(peer: RawPeer) -> None:
        peer.recv_frame()
        peer.send(json.dumps(welcome))
        stamps = {}
        for _, _, stamp in calls:
            frame = peer.recv_frame()
            sent.add(frame[:2])
            stamps[stamp] = frame[2]
        for type, payload, stamp in answers:
            peer.send_frame(type, payload, stamps[stamp])
        peer.recv_close()

    client = make_client(make_raw_server(script))
    assert client.connect("x") == {"hey": 1}
    futures = {name: client.submit(name, payload) for name, payload, _ in calls}
    assert futures["add"].result(PATIENCE) == 3
    assert futures["undef"].result(PATIENCE) is None
    errors = {}
    for name in ("nope", "fail", "failo", "failw"):
        with pytest.raises(WseError) as caught:
            futures[name].result(PATIENCE)
        errors[name] = caught.value
    assert errors["nope"].code == WSE_ERROR.RP_NOT_REGISTERED
    assert errors["fail"].code == WSE_ERROR.RP_EXECUTION_FAILED
    assert errors["fail"].details["origin"]["name"] == "Error"
    assert errors["fail"].details["payload"] == {"q": 1}
    assert errors["failo"].code == WSE_ERROR.RP_EXECUTION_FAILED
    assert errors["failo"].details["test_field"] == "nope"
    assert errors["failw"].code == "my-code"
    assert errors["failw"].details["fun"] == 1
    assert [errors[name].details["rp"] for name in errors] == ["nope", "fail", "failo", "failw"]
    assert sent.items == [[name, payload] for name, payload, _ in calls]


@pytest.mark.parametrize(
    ("scenario", "code"),
    [
        ("refused", WSE_ERROR.NOT_AUTHORIZED),
        ("junk", WSE_ERROR.CONNECTION_CLOSED),
        ("not hi", WSE_ERROR.CONNECTION_CLOSED),
    ],
)
def test_22_our_client_understands_the_recorded_closes(
    make_raw_server: MakeRawServer, make_client: MakeClient, scenario: str, code: str
) -> None:
    close = recorded_close(scenario)
    closed = Recorder()

    def script(peer: RawPeer) -> None:
        peer.recv_frame()
        peer.close(*close)

    server = make_raw_server(script)
    client = make_client(server, reconnect=True)
    client.when.closed(closed)
    with pytest.raises(WseError) as caught:
        Thread(lambda: client.connect("x")).result()
    assert caught.value.code == code
    assert closed.wait_for(1) == [close]
    assert client.wait(PATIENCE)
    assert server.connections == 1
