"""Routing after the welcome: what goes out of one end is what comes in at the other."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.protocols import (
    PROTOCOLS,
    WITH_SESSIONS,
    BaseProtocol,
    NumberProtocol,
    ScriptedProtocol,
    types_of,
)
from wse_sync import WSE_ERROR, JsonProtocol, Protocol, WseError, WseTypeError, WseValueError
from wse_sync.core.peer import Ack, Answer, Call, Message, Peer, unpack
from wse_sync.protocol import Data, Frame

every_protocol = pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda each: each.name)
with_sessions = pytest.mark.parametrize("protocol", WITH_SESSIONS, ids=lambda each: each.name)


def peer() -> Peer:
    return Peer(JsonProtocol())


def refusal(data: Data, of: Peer | None = None) -> WseError:
    with pytest.raises(WseError) as caught:
        (of or peer()).receive(data)
    return caught.value


@every_protocol
@pytest.mark.parametrize("payload", [None, 0, "text", [1, [2]], {"a": None}])
def test_every_kind_of_frame_arrives_as_what_it_was_sent(protocol: Protocol, payload: Any) -> None:
    client, server = Peer(protocol), Peer(protocol)
    for here, there in ((client, server), (server, client)):
        assert there.receive(here.pack_message("chat", payload)) == Message("chat", payload)
        assert there.receive(here.pack_call("add", payload, "7")) == Call("add", payload, "7")
        assert there.receive(here.pack_result("7", payload)) == Answer("7", payload, False)
        assert there.receive(here.pack_failure("7", payload)) == Answer("7", payload, True)


def test_the_frames_are_those_of_the_wire() -> None:
    ours = peer()
    assert json.loads(ours.pack_message("chat", 1)) == ["chat", 1, None]
    assert json.loads(ours.pack_call("add", [1], "s")) == ["add", [1], "s"]
    assert json.loads(ours.pack_result("s", 2)) == ["~wse:response", 2, "s"]
    assert json.loads(ours.pack_failure("s", {})) == ["~wse:response-err", {}, "s"]
    assert json.loads(ours.pack_ack(64)) == ["~wse:ack", 64, None]


@with_sessions
def test_an_acknowledgement_brings_its_count(protocol: Protocol) -> None:
    assert Peer(protocol).receive(Peer(protocol).pack_ack(64)) == Ack(64)


def test_an_acknowledgement_is_none_where_the_protocol_has_no_type_for_it() -> None:
    base = Peer(BaseProtocol())
    assert base.receive('["~wse:ack",64]') == Message("~wse:ack", 64)
    base.check_type("~wse:ack")


def test_what_is_received_cannot_be_changed() -> None:
    for event in (Message("a", 1), Call("a", 1, "s"), Answer("s", 1, False), Frame("a"), Ack(1)):
        for name in event._fields:
            with pytest.raises(AttributeError):
                setattr(event, name, 2)


@pytest.mark.parametrize("name", ["hi", "challenge", "welcome", "call"])
@every_protocol
def test_6_frames_of_the_handshake_have_no_business_after_it(protocol: Protocol, name: str) -> None:
    error = refusal(protocol.pack(types_of(protocol)[name], {}), Peer(protocol))
    assert error.code == WSE_ERROR.PROTOCOL_VIOLATION


@pytest.mark.parametrize("data", ["", "nope", "5", "{}", b"\xff\xfe", '["a",NaN]', "[" * 100_000])
def test_6_what_cannot_be_unpacked_says_so(data: Data) -> None:
    error = refusal(data)
    assert error.code == WSE_ERROR.MESSAGE_PROCESSING_ERROR
    assert error.__cause__ is not None


@pytest.mark.parametrize(
    "data", ["[]", "[null]", '[""]', "[5]", "[[]]", '["a",1,5]', '["a",1,[1]]']
)
def test_6_a_frame_without_a_proper_type_or_stamp_is_a_violation(data: str) -> None:
    assert refusal(data).code == WSE_ERROR.PROTOCOL_VIOLATION


@pytest.mark.parametrize("stamp", ["null", '""', "0", "false", "[]", "{}", "0.0"])
def test_a_falsy_stamp_is_none(stamp: str) -> None:
    assert peer().receive(f'["chat",1,{stamp}]') == Message("chat", 1)


def test_missing_items_are_none() -> None:
    assert peer().receive('["chat"]') == Message("chat", None)
    assert peer().receive('["chat",1]') == Message("chat", 1)


@given(st.text() | st.binary())
def test_6_any_input_is_an_event_or_a_wse_error(data: Data) -> None:
    try:
        event = peer().receive(data)
    except WseError:
        return
    assert isinstance(event, (Message, Call, Answer, Ack))


# Types of users


@pytest.mark.parametrize(
    "name", ["hi", "challenge", "welcome", "call", "response", "response_error"]
)
@every_protocol
def test_types_of_the_protocol_cannot_be_used(protocol: Protocol, name: str) -> None:
    type = types_of(protocol)[name]
    with pytest.raises(WseValueError, match="own"):
        Peer(protocol).check_type(type)
    with pytest.raises(WseValueError):
        Peer(protocol).pack_message(type, None)


@pytest.mark.parametrize("type", [[], {}, set(), ([],), (1, {})])
def test_a_type_that_cannot_be_hashed_raises(type: Any) -> None:
    with pytest.raises(WseTypeError) as caught:
        peer().check_type(type)
    assert caught.value.code == WSE_ERROR.RP_SEND_FAILED


def test_an_empty_name_raises() -> None:
    with pytest.raises(WseValueError, match="empty"):
        peer().check_type("")


def test_other_protocols_may_have_types_that_are_no_text() -> None:
    numbers = Peer(NumberProtocol())
    for type in (0, 8, 1000, None):
        numbers.check_type(type)
        assert numbers.receive(numbers.pack_message(type, "x")) == Message(type, "x")


@with_sessions
def test_the_type_of_acknowledgements_cannot_be_used(protocol: Protocol) -> None:
    with pytest.raises(WseValueError, match="own"):
        Peer(protocol).check_type(types_of(protocol)["ack"])


def test_what_equals_a_type_of_the_protocol_is_refused_too() -> None:
    for type in (True, 1.0):
        with pytest.raises(WseValueError):
            Peer(NumberProtocol()).check_type(type)


# Protocols of others


@pytest.mark.parametrize(
    "error", [ValueError("no"), KeyError("t"), RecursionError(), MemoryError(), AssertionError()]
)
def test_whatever_a_protocol_raises_is_a_processing_error(error: Exception) -> None:
    def fail() -> Any:
        raise error

    with pytest.raises(WseError) as caught:
        unpack(ScriptedProtocol(fail), "x")
    assert caught.value.code == WSE_ERROR.MESSAGE_PROCESSING_ERROR
    assert caught.value.__cause__ is error


def test_a_wse_error_of_a_protocol_goes_through() -> None:
    error = WseError(WSE_ERROR.PROTOCOL_VIOLATION, message="a type of its own")

    def fail() -> Any:
        raise error

    with pytest.raises(WseError) as caught:
        unpack(ScriptedProtocol(fail), "x")
    assert caught.value is error


@pytest.mark.parametrize(
    "result", [None, 5, (), ("a", 1, "s", "more"), ([], 1, "s"), ("a", 1, [1])]
)
def test_a_protocol_that_unpacks_nonsense_is_a_processing_error(result: Any) -> None:
    with pytest.raises(WseError) as caught:
        unpack(ScriptedProtocol(lambda: result), "x")
    assert caught.value.code == WSE_ERROR.MESSAGE_PROCESSING_ERROR


def test_only_a_welcome_may_have_more_than_a_stamp_in_its_place() -> None:
    welcome = ("~wse:welcome", None, {"v": 1})
    assert unpack(ScriptedProtocol(lambda: welcome), "x") == Frame(*welcome)
    assert refusal('["~wse:welcome",null,{"v":1}]').code == WSE_ERROR.PROTOCOL_VIOLATION


def test_a_protocol_may_leave_out_what_is_none() -> None:
    assert unpack(ScriptedProtocol(lambda: ("a",)), "x") == Frame("a", None, None)
