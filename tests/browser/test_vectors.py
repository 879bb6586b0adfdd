"""The recorded frames of the JavaScript implementation, against the browser's client.

As tests/behaviour/test_vectors.py does it with the client in Python.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.behaviour.test_vectors import (
    CLIENT_CLOSE,
    CLIENT_FRAMES,
    HANDSHAKE,
    SCENARIOS,
    essence,
    procedure_of,
    recorded_close,
    recorded_messages,
)
from tests.browser.conftest import OpenPage
from tests.browser.support import Page, ScriptError
from tests.browser.test_client import CONNECT, QUICK, refused
from tests.conftest import MakeRawServer, MakeServer
from tests.support import CHALLENGE, WELCOME, RawPeer, Recorder
from wse_sync import WSE_ERROR


@pytest.fixture
def page(make_site: MakeServer, open_page: OpenPage) -> Page:
    """A page whose clients may connect to any port."""
    return open_page(make_site(), "open")


def test_22_our_client_says_what_the_recorded_client_says(
    make_raw_server: MakeRawServer, page: Page
) -> None:
    """A raw server plays the other side of the recorded session; stamps of calls are mapped."""
    got, closes, offers = Recorder(), Recorder(), Recorder()

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
        names = {"ping": None, "nope": None, "fail": {"q": 1}, "failw": None, "failo": None}
        for number, (name, payload) in enumerate({**names, "undef": None}.items(), 1):
            peer.send_frame(name, payload, f"STAMP{number:05}")
            got.add(peer.recv_frame())
        closes.add(peer.recv_close())

    outcome = page.run(
        """
        make(a[0])
        client.challenge((quest) => quest.a + quest.b)
        client.register("ping", () => ({ pong: 1 }))
        client.register("fail", () => { throw new Error("vanilla") })
        client.register("failw", () => { throw new wse.WseError("my-code", { fun: 1 }) })
        client.register("failo", () => {
            throw new wse.WseError(wse.WSE_ERROR.RP_EXECUTION_FAILED, { test_field: "nope" })
        })
        client.register("undef", () => {})
        const welcome = await client.connect({ token: "t" }, { device: "pi" })
        client.send("chat", "Hello")
        client.send("empty")
        client.send("obj", { user: "é☃", n: 1.5, nul: null })
        const sum = await client.call("add", { a: 1, b: 2 })
        const boom = await client.call("boom").catch((error) => error.code)
        client.send("go")
        return [welcome, sum, boom]
        """,
        make_raw_server(script).url,
    )
    assert outcome == [{"hey": 1}, 3, "boom"]
    got.wait_for(len(CLIENT_FRAMES))
    page.run("await client.disconnect()")
    assert closes.wait_for(1) == [(CLIENT_CLOSE["close"], CLIENT_CLOSE["reason"])]
    assert offers.items == [[HANDSHAKE["v"]]]
    frames = got.items
    assert frames[0][1].pop("wse") == {"v": 1}
    assert all(isinstance(frame[2], str) and frame[2] for frame in frames[5:7])
    for ours, theirs in zip(frames[:8], CLIENT_FRAMES[:8]):
        assert ours[:2] == theirs[:2]
        assert bool(ours[2]) == bool(theirs[2])
    recorded = {frame[2]: frame for frame in CLIENT_FRAMES[8:]}
    assert {frame[2]: essence(frame) for frame in frames[8:]} == {
        stamp: essence(frame) for stamp, frame in recorded.items()
    }
    assert procedure_of(frames[10]) == "fail"


@pytest.mark.parametrize("scenario", ["ok", "hi without stamp slot"])
def test_22_our_client_understands_the_recorded_welcome(
    make_raw_server: MakeRawServer, page: Page, scenario: str
) -> None:
    (welcome,) = [item["raw"] for item in SCENARIOS[scenario]["got"] if "raw" in item]
    sent = Recorder()

    def script(peer: RawPeer) -> None:
        sent.add(peer.recv_frame())
        peer.send(welcome)
        peer.recv_close()

    url = make_raw_server(script).url
    assert page.run("make(a[0]); return client.connect('x')", url) == {"hey": 1}
    assert page.run("return client.cid") is None
    assert sent.items == [["~wse:hi", {"identity": "x", "meta": {}, "wse": {"v": 1}}, None]]
    page.run("await client.disconnect()")


def test_22_our_client_understands_the_recorded_answers(
    make_raw_server: MakeRawServer, page: Page
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

    page.run("make(a[0]); return client.connect('x')", make_raw_server(script).url)
    tasks = {
        name: page.start("return client.call(...a)", name, payload) for name, payload, _ in calls
    }
    assert tasks["add"].result() == 3
    assert tasks["undef"].result() is None
    errors: dict[str, ScriptError] = {
        name: refused(tasks[name].result) for name in ("nope", "fail", "failo", "failw")
    }
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
    page.run("await client.disconnect()")


@pytest.mark.parametrize(
    ("scenario", "code"),
    [
        ("refused", WSE_ERROR.NOT_AUTHORIZED),
        ("junk", WSE_ERROR.CONNECTION_CLOSED),
        ("not hi", WSE_ERROR.CONNECTION_CLOSED),
    ],
)
def test_22_our_client_understands_the_recorded_closes(
    make_raw_server: MakeRawServer, page: Page, scenario: str, code: str
) -> None:
    close = recorded_close(scenario)

    def script(peer: RawPeer) -> None:
        peer.recv_frame()
        peer.close(*close)

    server = make_raw_server(script)
    assert refused(lambda: page.run(CONNECT, server.url, QUICK)).code == code
    assert page.log("closed") == [list(close)]
    assert page.run("return client.status") == "OFFLINE"
    assert server.connections == 1


@pytest.mark.parametrize(
    ("payload", "code", "message"),
    [
        (None, WSE_ERROR.RP_EXECUTION_FAILED, WSE_ERROR.RP_EXECUTION_FAILED),
        ({}, WSE_ERROR.RP_EXECUTION_FAILED, WSE_ERROR.RP_EXECUTION_FAILED),
        ("text", WSE_ERROR.RP_EXECUTION_FAILED, WSE_ERROR.RP_EXECUTION_FAILED),
        ({"code": "", "message": 5, "details": "x"}, WSE_ERROR.RP_EXECUTION_FAILED, None),
        ({"code": "mine", "message": "mine: text"}, "mine", "text"),
        ({"code": "mine", "details": {"rpc": "other"}}, "mine", "mine"),
    ],
)
def test_26_a_broken_error_still_ends_the_call(
    make_raw_server: MakeRawServer, page: Page, payload: Any, code: str, message: str | None
) -> None:
    def script(peer: RawPeer) -> None:
        peer.welcome()
        _, _, stamp = peer.recv_frame()
        peer.send_frame("~wse:response-err", payload, "nobody waits")
        peer.send_frame("~wse:response-err", payload, stamp)
        peer.recv_close()

    page.run(CONNECT, make_raw_server(script).url)
    error = refused(lambda: page.run("return client.call('any')"))
    assert error.code == code
    assert message in (error.message, None)
    assert error.details["rp"] in ("any", "other")
    page.run("await client.disconnect()")


@pytest.mark.parametrize("binary", [False, True])
def test_a_binary_message_is_read_too(
    make_raw_server: MakeRawServer, page: Page, binary: bool
) -> None:
    def script(peer: RawPeer) -> None:
        peer.welcome()
        text = json.dumps(["news", {"é": "☃"}], ensure_ascii=False)
        peer.send(text.encode() if binary else text)
        peer.recv_close()

    page.run(CONNECT, make_raw_server(script).url)
    page.wait_for("log.some(([name]) => name === 'ignored')")
    assert page.log("ignored") == [["news", {"é": "☃"}]]
    page.run("await client.disconnect()")


@pytest.mark.parametrize(
    "data",
    ["", "junk", "5", "null", '"text"', "{}", '{"values": 1}', "[]", "[5]", '[""]', "[null, 1]",
     "[NaN]", '["x", NaN]', b"\x00", '["~wse:hi", {}]', '["~wse:welcome"]', '["~wse:challenge"]',
     '["~wse:call"]', '["~wse:ack", 0]'],
    ids=repr,
)  # fmt: skip
def test_6_a_frame_that_is_none_is_a_protocol_violation(
    make_raw_server: MakeRawServer, page: Page, data: str | bytes
) -> None:
    closes = Recorder()

    def script(peer: RawPeer) -> None:
        peer.welcome()
        peer.send(data)
        closes.add(peer.recv_close())

    server = make_raw_server(script)
    page.run(CONNECT, server.url, QUICK)
    assert closes.wait_for(1) == [(1000, "wse.protocol-error")]
    page.wait_for("client.status === 'OFFLINE'")
    assert [error["code"] for error in page.log("error")] == [WSE_ERROR.PROTOCOL_VIOLATION]
    assert page.log("closed") == [[1000, "wse.protocol-error"]]
    assert server.connections == 1


def test_6_a_frame_that_is_none_before_the_welcome_fails_connect(
    make_raw_server: MakeRawServer, page: Page
) -> None:
    def script(peer: RawPeer) -> None:
        peer.recv_frame()
        peer.send('["means nothing yet"]')
        peer.send("junk")
        peer.recv_close()

    error = refused(lambda: page.run(CONNECT, make_raw_server(script).url, QUICK))
    assert error.code == WSE_ERROR.CONNECTION_CLOSED
    assert error.details == {"closed": [1000, "wse.protocol-error"]}
