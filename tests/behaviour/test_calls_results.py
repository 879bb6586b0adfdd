"""Promise 22: what comes back from a call."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conftest import Connect, MakeClient, MakeRawClient, MakeRawServer, MakeServer
from tests.support import PATIENCE, RESPONSE, RESPONSE_ERR, RawPeer, Recorder
from wse_sync import WSE_ERROR, AuthRequest, WseConnection, WseError

RESULTS: list[Any] = [
    None,
    True,
    False,
    0,
    1.5,
    "",
    "é☃",
    [],
    {},
    {"a": [1, None, {"b": "c"}]},
    "x" * 100_000,
]


class Oops(Exception):
    """An exception of the application's own."""


def fail_plainly(*_: Any) -> None:
    raise Oops("it broke")


def fail_with_an_error_of_ours(*_: Any) -> None:
    raise WseError("my-code", {"fun": 1, "list": [1, None]})


@pytest.mark.parametrize("result", RESULTS)
def test_22_results_come_back_none_included_in_both_directions(
    make_server: MakeServer, connect: Connect, result: Any
) -> None:
    server = make_server()
    server.register("get", lambda conn, payload: result)
    server.register("ask", lambda conn, payload: conn.call("get", payload))
    client = connect(server, "ann")
    client.register("get", lambda payload: result)
    assert client.call("get") == result
    assert client.submit("get").result(PATIENCE) == result
    assert client.call("ask") == result


def test_22_procedures_get_their_payload_and_the_server_the_connection(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server()
    conns = Recorder()
    calls = Recorder()
    server.when.connected(conns)
    server.register("add", lambda conn, payload: calls.add((conn, payload)))
    client = connect(server, "ann")
    client.register("add", calls)
    client.call("add", {"a": 1})
    client.call("add")
    (conn,) = conns.wait_for(1)
    conn.call("add", {"b": 2})
    conn.call("add")
    assert calls.items == [(conn, {"a": 1}), (conn, None), {"b": 2}, None]


def test_22_register_decorates_on_both_ends(make_server: MakeServer, connect: Connect) -> None:
    server = make_server()

    @server.register("add")
    def add(conn: WseConnection, payload: list[int]) -> int:
        return sum(payload)

    client = connect(server, "ann")

    @client.register("multiply")
    def multiply(payload: list[int]) -> int:
        return payload[0] * payload[1]

    server.register("ask", lambda conn, payload: conn.call("multiply", payload))
    assert client.call("add", [2, 3]) == 5
    assert client.call("ask", [2, 3]) == 6
    assert callable(add)
    assert callable(multiply)
    assert multiply([4, 5]) == 20


def test_22_an_unknown_procedure_fails_the_call_in_both_directions(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server()
    conns = Recorder()
    server.when.connected(conns)
    client = connect(server, "ann")
    (conn,) = conns.wait_for(1)
    for caller in (client, conn):
        with pytest.raises(WseError) as caught:
            caller.call("nope", 1)
        assert caught.value.code == WSE_ERROR.RP_NOT_REGISTERED
        assert isinstance(caught.value, LookupError)
        assert caught.value.details["rp"] == "nope"
        assert "nope" in str(caught.value)
        assert WSE_ERROR.RP_NOT_REGISTERED.value in str(caught.value)


def test_22_vanilla_exceptions_fail_the_call_in_both_directions(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server()
    conns = Recorder()
    server.when.connected(conns)
    server.register("fail", fail_plainly)
    client = connect(server, "ann")
    client.register("fail", fail_plainly)
    (conn,) = conns.wait_for(1)
    for caller in (client, conn):
        with pytest.raises(WseError) as caught:
            caller.call("fail", 1)
        error = caught.value
        assert error.code == WSE_ERROR.RP_EXECUTION_FAILED
        assert error.details == {
            "origin": {"name": "Oops", "message": "it broke"},
            "rp": "fail",
        }
        for word in ("wse.server.rp.failed", "fail", "it broke"):
            assert word in str(error)


def test_22_wse_errors_and_their_details_arrive_in_both_directions(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server()
    conns = Recorder()
    server.when.connected(conns)
    server.register("fail", fail_with_an_error_of_ours)
    client = connect(server, "ann")
    client.register("fail", fail_with_an_error_of_ours)
    (conn,) = conns.wait_for(1)
    for caller in (client, conn):
        with pytest.raises(WseError) as caught:
            caller.call("fail")
        assert caught.value.code == "my-code"
        assert caught.value.details == {"fun": 1, "list": [1, None], "rp": "fail"}
        assert "my-code" in str(caught.value)


def test_22_the_message_of_a_wse_error_arrives(make_server: MakeServer, connect: Connect) -> None:
    def fail(conn: WseConnection, payload: Any) -> None:
        raise WseError("my-code", message="the disk is full")

    server = make_server()
    server.register("fail", fail)
    client = connect(server, "ann")
    with pytest.raises(WseError) as caught:
        client.call("fail")
    assert caught.value.code == "my-code"
    assert "the disk is full" in str(caught.value)


def test_22_an_error_whose_class_forgot_to_call_ours_fails_the_call_all_the_same(
    make_server: MakeServer, connect: Connect, make_client: MakeClient
) -> None:
    class Denied(WseError):
        def __init__(self) -> None:
            pass

    def deny(*_: object) -> None:
        raise Denied

    def identify(auth: AuthRequest) -> None:
        auth.accept(auth.identity) if auth.identity == "ann" else deny()

    server = make_server(identify)
    server.register("deny", deny)
    errors = Recorder()
    server.when.error(lambda error, conn: errors.add(error))
    client = connect(server, "ann")
    with pytest.raises(WseError) as caught:
        client.call("deny")
    assert caught.value.code == WSE_ERROR.RP_EXECUTION_FAILED
    assert caught.value.details == {"rp": "deny"}
    with pytest.raises(PermissionError):
        make_client(server).connect("bob")
    told = {type(error) for error in errors.wait_for(2)}  # in either order
    assert told == {WseError, Denied}


def test_22_an_error_passed_on_keeps_its_code(make_server: MakeServer, connect: Connect) -> None:
    """A procedure that calls back and lets the error through: the caller sees the first code."""
    server = make_server()
    server.register("ask", lambda conn, payload: conn.call("fail"))
    client = connect(server, "ann")
    client.register("fail", fail_with_an_error_of_ours)
    with pytest.raises(WseError) as caught:
        client.call("ask")
    assert caught.value.code == "my-code"
    assert caught.value.details["fun"] == 1
    assert caught.value.details["rp"] == "ask"


def test_22_a_procedure_that_raises_system_exit_fails_the_call(
    make_server: MakeServer, connect: Connect
) -> None:
    def leave(conn: WseConnection, payload: Any) -> None:
        raise SystemExit("enough")

    server = make_server()
    server.register("leave", leave)
    server.register("ping", lambda conn, payload: payload)
    client = connect(server, "ann")
    with pytest.raises(WseError) as caught:
        client.call("leave")
    assert caught.value.code == WSE_ERROR.RP_EXECUTION_FAILED
    assert client.call("ping", 1) == 1


def test_22_on_the_wire_the_server_answers_as_wire_md_says(
    make_server: MakeServer, make_raw_client: MakeRawClient
) -> None:
    server = make_server()
    server.register("add", lambda conn, payload: payload["a"] + payload["b"])
    server.register("none", lambda conn, payload: None)
    server.register("fail", fail_plainly)
    server.register("failw", fail_with_an_error_of_ours)
    raw = make_raw_client(server)
    raw.login("ann")

    raw.send_frame("add", {"a": 1, "b": 2}, "S1")
    assert raw.recv_frame() == [RESPONSE, 3, "S1"]
    raw.send_frame("none", None, "S2")
    assert raw.recv_frame() == [RESPONSE, None, "S2"]

    raw.send_frame("nope", None, "S3")
    type, payload, stamp = raw.recv_frame()
    assert (type, stamp) == (RESPONSE_ERR, "S3")
    assert payload["code"] == "wse.server.rp.not-registered"
    assert payload["details"] == {"rp": "nope"}
    assert isinstance(payload["message"], str)
    assert set(payload) == {"code", "message", "details"}

    raw.send_frame("fail", {"q": 1}, "S4")
    assert raw.recv_frame() == [
        RESPONSE_ERR,
        {
            "code": "wse.server.rp.failed",
            "message": "it broke",
            "details": {"origin": {"name": "Oops", "message": "it broke"}, "rp": "fail"},
        },
        "S4",
    ]

    raw.send_frame("failw", None, "S5")
    type, payload, stamp = raw.recv_frame()
    assert (type, stamp) == (RESPONSE_ERR, "S5")
    assert payload["code"] == "my-code"
    assert payload["details"] == {"fun": 1, "list": [1, None], "rp": "failw"}
    assert isinstance(payload["message"], str)


def test_22_on_the_wire_the_client_answers_as_wire_md_says(
    make_raw_server: MakeRawServer, make_client: MakeClient
) -> None:
    answers = Recorder()

    def script(peer: RawPeer) -> None:
        peer.welcome()
        for number, name in enumerate(["add", "nope", "fail", "failw"]):
            peer.send_frame(name, {"a": 1, "b": 2}, f"S{number}")
            answers.add(peer.recv_frame())
        peer.recv_close()

    client = make_client(make_raw_server(script))
    client.register("add", lambda payload: payload["a"] + payload["b"])
    client.register("fail", fail_plainly)
    client.register("failw", fail_with_an_error_of_ours)
    client.connect()
    added, nope, failed, failed_w = answers.wait_for(4)
    assert added == [RESPONSE, 3, "S0"]
    assert nope[0] == RESPONSE_ERR
    assert nope[1]["code"] == "wse.server.rp.not-registered"
    assert nope[1]["details"] == {"rp": "nope"}
    assert nope[2] == "S1"
    assert failed == [
        RESPONSE_ERR,
        {
            "code": "wse.server.rp.failed",
            "message": "it broke",
            "details": {"origin": {"name": "Oops", "message": "it broke"}, "rp": "fail"},
        },
        "S2",
    ]
    assert failed_w[0] == RESPONSE_ERR
    assert failed_w[1]["code"] == "my-code"
    assert failed_w[1]["details"] == {"fun": 1, "list": [1, None], "rp": "failw"}
    assert failed_w[2] == "S3"


def test_22_debug_sends_the_traceback_and_nothing_else_does(
    make_server: MakeServer, connect: Connect
) -> None:
    for debug in (True, False):
        server = make_server(debug=debug)
        conns = Recorder()
        server.when.connected(conns)
        server.register("fail", fail_plainly)
        client = connect(server, "ann", debug=debug)
        client.register("fail", fail_plainly)
        (conn,) = conns.wait_for(1)
        for caller in (client, conn):
            with pytest.raises(WseError) as caught:
                caller.call("fail")
            origin = caught.value.details["origin"]
            if debug:
                assert "fail_plainly" in origin["stack"]
                assert "Oops: it broke" in origin["stack"]
            else:
                assert "stack" not in origin


@pytest.mark.parametrize("key", ["rp", "rpc"])
def test_22_both_names_of_the_procedure_are_read(
    make_raw_server: MakeRawServer, make_client: MakeClient, key: str
) -> None:
    def script(peer: RawPeer) -> None:
        peer.welcome()
        name, payload, stamp = peer.recv_frame()
        origin = {"name": "Error", "message": "vanilla", "stack": "<stack>"}
        details = {"origin": origin, key: name, "payload": payload}
        error = {"code": "wse.server.rp.failed", "message": "vanilla", "details": details}
        peer.send_frame(RESPONSE_ERR, error, stamp)
        peer.recv_close()

    client = make_client(make_raw_server(script))
    client.connect()
    with pytest.raises(WseError) as caught:
        client.call("far", 1)
    assert caught.value.code == WSE_ERROR.RP_EXECUTION_FAILED
    assert caught.value.details["rp"] == "far"
    assert caught.value.details["origin"]["stack"] == "<stack>"
    assert "vanilla" in str(caught.value)


def test_22_the_error_signal_of_the_server_names_the_procedure_and_the_connection(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server()
    errors = Recorder()
    conns = Recorder()
    server.when.error(errors)
    server.when.connected(conns)
    server.register("fail", fail_plainly)
    server.register("failw", fail_with_an_error_of_ours)
    client = connect(server, "ann")
    (conn,) = conns.wait_for(1)
    codes = []
    for name in ("fail", "failw", "nope"):
        with pytest.raises(WseError) as caught:
            client.call(name)
        codes.append(caught.value.code)
        reported = errors.wait_for(len(codes))  # they come at the same time as the next call
    assert [error.code for error, _ in reported] == codes
    assert [error.details["rp"] for error, _ in reported] == ["fail", "failw", "nope"]
    assert all(from_conn is conn for _, from_conn in reported)
    assert isinstance(reported[0][0].__cause__, Oops)
    assert "fail" in str(reported[0][0])
    assert reported[1][0].details["fun"] == 1


def test_22_the_error_signal_of_the_client_names_the_procedure(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server()
    conns = Recorder()
    errors = Recorder()
    server.when.connected(conns)
    client = connect(server, "ann")
    client.when.error(errors)
    client.register("fail", fail_plainly)
    (conn,) = conns.wait_for(1)
    with pytest.raises(WseError):
        conn.call("fail")
    (error,) = errors.wait_for(1)
    assert error.code == WSE_ERROR.RP_EXECUTION_FAILED
    assert error.details["rp"] == "fail"


def test_22_a_call_on_the_wire_carries_a_stamp_that_is_unique_among_open_calls(
    make_raw_server: MakeRawServer, make_client: MakeClient
) -> None:
    frames = Recorder()

    def script(peer: RawPeer) -> None:
        peer.welcome()
        calls = [peer.recv_frame() for _ in range(20)]
        for name, payload, stamp in reversed(calls):
            frames.add((name, payload, stamp))
            peer.send(json.dumps([RESPONSE, payload * 10, stamp]))
        peer.recv_close()

    client = make_client(make_raw_server(script))
    client.connect()
    futures = [client.submit("tenfold", number) for number in range(20)]
    assert [future.result(PATIENCE) for future in futures] == [n * 10 for n in range(20)]
    assert [(name, payload) for name, payload, _ in frames.items] == [
        ("tenfold", number) for number in reversed(range(20))
    ]
    stamps = [stamp for _, _, stamp in frames.items]
    assert len(set(stamps)) == 20
    assert all(isinstance(stamp, str) and stamp for stamp in stamps)
