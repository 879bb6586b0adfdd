"""The way to the welcome, on both sides (wire.md: order of events)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.protocols import PROTOCOLS
from wse_sync import WSE_ERROR, JsonProtocol, Protocol, WseError, WseTypeError
from wse_sync.core.handshake import (
    ClientHandshake,
    Hello,
    Quest,
    ServerHandshake,
    Solution,
    Welcome,
)
from wse_sync.protocol import Data

every_protocol = pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda each: each.name)


def frame(*items: Any) -> str:
    return json.dumps(items)


def server() -> ServerHandshake:
    return ServerHandshake(JsonProtocol())


def client() -> ClientHandshake:
    return ClientHandshake(JsonProtocol())


def server_that_asked() -> ServerHandshake:
    handshake = server()
    handshake.receive(frame("~wse:hi", {"identity": "ann"}))
    handshake.ask("quest")
    return handshake


def violation(handshake: ServerHandshake | ClientHandshake, data: Data) -> WseError:
    with pytest.raises(WseError) as caught:
        handshake.receive(data)
    return caught.value


# Both ends


@every_protocol
def test_the_two_ends_understand_each_other(protocol: Protocol) -> None:
    ours, theirs = ServerHandshake(protocol), ClientHandshake(protocol)
    assert ours.receive(theirs.hi("ann", {"device": 1})) == Hello("ann", {"device": 1})
    assert theirs.receive(ours.welcome({"hello": "ann"})) == Welcome({"hello": "ann"})
    assert ours.state == "done"


@every_protocol
def test_8_the_two_ends_understand_each_other_with_a_challenge(protocol: Protocol) -> None:
    ours, theirs = ServerHandshake(protocol), ClientHandshake(protocol)
    ours.receive(theirs.hi("ann", {}))
    assert theirs.receive(ours.ask({"sum": [1, 2]})) == Quest({"sum": [1, 2]})
    assert ours.receive(theirs.solution(3)) == Solution(3)
    assert theirs.receive(ours.welcome(None)) == Welcome(None)


def test_the_frames_are_those_of_the_wire() -> None:
    ours, theirs = server(), client()
    assert json.loads(theirs.hi("ann", {"a": 1})) == [
        "~wse:hi",
        {"identity": "ann", "meta": {"a": 1}},
        None,
    ]
    assert json.loads(theirs.solution("s")) == ["~wse:challenge", "s", None]
    assert json.loads(ours.ask("q")) == ["~wse:challenge", "q", None]
    assert json.loads(ours.welcome("w")) == ["~wse:welcome", "w", None]


# The server


@pytest.mark.parametrize(
    ("payload", "identity", "meta"),
    [
        ({"identity": "ann", "meta": {"a": 1}}, "ann", {"a": 1}),
        ({"identity": "ann", "meta": None}, "ann", {}),
        ({"identity": "ann"}, "ann", {}),
        ({"identity": {"token": [1]}}, {"token": [1]}, {}),
        ({}, None, {}),
        ({"identity": 0, "meta": {}, "wse": {"v": 1, "session": None}}, 0, {}),
    ],
)
def test_4_hi_brings_identity_and_meta(payload: Any, identity: Any, meta: Any) -> None:
    assert server().receive(frame("~wse:hi", payload)) == Hello(identity, meta)


@pytest.mark.parametrize(
    "payload",
    [
        None,
        "ann",
        [],
        5,
        {"identity": "ann", "meta": "x"},
        {"identity": "ann", "meta": []},
        {"identity": "ann", "meta": False},
    ],
)
def test_6_a_hi_of_another_shape_is_a_violation(payload: Any) -> None:
    assert violation(server(), frame("~wse:hi", payload)).code == WSE_ERROR.PROTOCOL_VIOLATION


@pytest.mark.parametrize(
    "type",
    ["~wse:challenge", "~wse:welcome", "~wse:call", "~wse:response", "~wse:response-err", "chat"],
)
def test_6_the_first_frame_is_hi(type: str) -> None:
    error = violation(server(), frame(type, {"identity": "ann"}))
    assert error.code == WSE_ERROR.PROTOCOL_VIOLATION


@pytest.mark.parametrize("data", ["", "{", "[]", "5", "null", '"hi"', b"\xff", b"\x00", "[[]]"])
def test_6_junk_is_an_error_in_every_state(data: Data) -> None:
    for handshake in (server(), server_that_asked(), client()):
        assert violation(handshake, data).code in (
            WSE_ERROR.MESSAGE_PROCESSING_ERROR,
            WSE_ERROR.PROTOCOL_VIOLATION,
        )


@given(st.text() | st.binary())
def test_6_no_input_gets_past_as_anything_but_an_error(data: Data) -> None:
    for handshake in (server(), server_that_asked()):
        with pytest.raises(WseError):
            handshake.receive(data)


@pytest.mark.parametrize("solution", ["yes", None, 0, {"a": [1]}])
def test_8_any_solution_is_one_also_none(solution: Any) -> None:
    reply = frame("~wse:challenge", solution)
    assert server_that_asked().receive(reply) == Solution(solution)


def test_8_a_solution_without_a_payload_is_none() -> None:
    assert server_that_asked().receive('["~wse:challenge"]') == Solution(None)


@pytest.mark.parametrize("type", ["~wse:hi", "~wse:welcome", "~wse:response", "chat"])
def test_8_a_bogus_frame_instead_of_the_solution_is_a_violation(type: str) -> None:
    error = violation(server_that_asked(), frame(type, {"identity": "ann"}))
    assert error.code == WSE_ERROR.PROTOCOL_VIOLATION


def test_a_welcome_that_cannot_be_packed_leaves_the_state_as_it_was() -> None:
    handshake = server()
    handshake.receive(frame("~wse:hi", {"identity": "ann"}))
    with pytest.raises(WseTypeError):
        handshake.welcome(object())
    with pytest.raises(WseTypeError):
        handshake.ask(object())
    assert handshake.state == "decision"
    handshake.welcome(None)
    assert handshake.state == "done"


def test_an_error_leaves_the_state_as_it_was() -> None:
    handshake = server()
    violation(handshake, frame("chat"))
    violation(handshake, frame("~wse:hi", None))
    assert handshake.state == "hi"


# The client


@pytest.mark.parametrize("payload", [None, "text", {"a": 1}, []])
def test_2_the_welcome_brings_its_payload(payload: Any) -> None:
    assert client().receive(frame("~wse:welcome", payload)) == Welcome(payload)


@pytest.mark.parametrize(
    "data",
    [frame("chat", 1), frame("add", 1, "stamp"), frame("~wse:response", 1, "s"), frame("~wse:hi")],
)
def test_other_frames_before_the_welcome_mean_nothing(data: str) -> None:
    assert client().receive(data) is None


def test_a_server_may_ask_more_than_once() -> None:
    handshake = client()
    for number in range(3):
        assert handshake.receive(frame("~wse:challenge", number)) == Quest(number)


def test_an_identity_that_cannot_be_packed_raises() -> None:
    with pytest.raises(WseTypeError):
        client().hi(object(), {})
