"""The way to the welcome, on both sides (wire.md: order of events)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.protocols import PROTOCOLS, WITH_SESSIONS, BaseProtocol
from wse_sync import WSE_ERROR, JsonProtocol, Protocol, WseError, WseTypeError
from wse_sync.core.handshake import (
    ClientHandshake,
    Grant,
    Hello,
    Offer,
    Quest,
    ServerHandshake,
    SessionGrant,
    Solution,
    Welcome,
)
from wse_sync.protocol import Data

every_protocol = pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda each: each.name)
with_sessions = pytest.mark.parametrize("protocol", WITH_SESSIONS, ids=lambda each: each.name)

FRESH, BACK = Offer(True), Offer(True, "secret", 7)
SESSION = SessionGrant("secret", True, 5, 60.0)


def frame(*items: Any) -> str:
    return json.dumps(items)


def server() -> ServerHandshake:
    return ServerHandshake(JsonProtocol())


def client(offer: Offer | None = None) -> ClientHandshake:
    return ClientHandshake(JsonProtocol(), offer)


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


@with_sessions
@pytest.mark.parametrize("offer", [None, Offer(False), FRESH, BACK])
def test_the_server_hears_what_the_client_offers(protocol: Protocol, offer: Offer | None) -> None:
    hi = ClientHandshake(protocol, offer).hi("ann", {"device": 1})
    assert ServerHandshake(protocol).receive(hi) == Hello("ann", {"device": 1}, offer)


@with_sessions
@pytest.mark.parametrize("session", [None, SESSION, SESSION._replace(resumed=False, received=0)])
def test_the_client_hears_what_the_server_grants(
    protocol: Protocol, session: SessionGrant | None
) -> None:
    grant = Grant("ann", session)
    data = ServerHandshake(protocol).welcome({"hello": "ann"}, grant)
    assert ClientHandshake(protocol, BACK).receive(data) == Welcome({"hello": "ann"}, grant)


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


@pytest.mark.parametrize(
    ("offer", "extension"),
    [
        (Offer(False), {"v": 1}),
        (FRESH, {"v": 1, "session": None}),
        (BACK, {"v": 1, "session": {"id": "secret", "received": 7}}),
    ],
)
def test_the_offers_are_those_of_the_wire(offer: Offer, extension: Any) -> None:
    expected = ["~wse:hi", {"identity": "ann", "meta": {}, "wse": extension}, None]
    assert json.loads(client(offer).hi("ann", {})) == expected


def test_the_grants_are_those_of_the_wire() -> None:
    assert json.loads(server().welcome("w", Grant("ann"))) == [
        "~wse:welcome",
        "w",
        {"v": 1, "cid": "ann", "session": None},
    ]
    session = {"id": "secret", "resumed": True, "received": 5, "window": 60.0}
    assert json.loads(server().welcome("w", Grant("ann", SESSION))) == [
        "~wse:welcome",
        "w",
        {"v": 1, "cid": "ann", "session": session},
    ]


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
    hello = server().receive(frame("~wse:hi", payload))
    assert isinstance(hello, Hello)
    assert (hello.identity, hello.meta) == (identity, meta)


@pytest.mark.parametrize(
    ("extension", "offer"),
    [
        ({"v": 1}, Offer(False)),
        ({"v": 1, "more": 5}, Offer(False)),
        ({"v": 1, "session": None}, FRESH),
        ({"v": 1, "session": {"id": "secret", "received": 7}}, BACK),
        ({"v": 1, "session": {"id": "", "received": 0, "more": 5}}, Offer(True, "", 0)),
    ],
)
def test_hi_may_bring_an_offer(extension: Any, offer: Offer) -> None:
    hi = frame("~wse:hi", {"identity": "ann", "wse": extension})
    assert server().receive(hi) == Hello("ann", {}, offer)


@pytest.mark.parametrize("extension", [None, 5, "x", [], {}, {"v": 2}, {"v": "1"}, {"session": 5}])
def test_an_extension_that_the_server_does_not_know_is_read_past(extension: Any) -> None:
    hi = frame("~wse:hi", {"identity": "ann", "wse": extension})
    assert server().receive(hi) == Hello("ann", {}, None)


@pytest.mark.parametrize(
    "session",
    [
        5,
        "secret",
        [],
        False,
        {},
        {"id": "secret"},
        {"received": 7},
        {"id": None, "received": 7},
        {"id": ["secret"], "received": 7},
        {"id": "secret", "received": None},
        {"id": "secret", "received": -1},
        {"id": "secret", "received": True},
        {"id": "secret", "received": 7.0},
        {"id": "secret", "received": "7"},
    ],
)
def test_6_an_offer_of_another_shape_is_a_violation(session: Any) -> None:
    hi = frame("~wse:hi", {"identity": "ann", "wse": {"v": 1, "session": session}})
    handshake = server()
    assert violation(handshake, hi).code == WSE_ERROR.PROTOCOL_VIOLATION
    assert handshake.state == "hi"
    of_base_peers = ServerHandshake(BaseProtocol())
    assert of_base_peers.receive(hi) == Hello("ann", {}, None)


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


@pytest.mark.parametrize("offer", [None, Offer(False), FRESH, BACK])
@pytest.mark.parametrize(
    "extension", [None, 5, "stamp", [1], {"cid": "ann"}, {"v": 2, "cid": 5}, {"v": None}]
)
def test_a_welcome_of_a_server_that_knows_no_sessions_grants_nothing(
    offer: Offer | None, extension: Any
) -> None:
    assert client(offer).receive(frame("~wse:welcome", "w", extension)) == Welcome("w", None)


def granted(**changes: Any) -> str:
    """A welcome whose grant is right, but for the changes."""
    session: dict[str, Any] = {"id": "secret", "resumed": False, "received": 0, "window": 60.0}
    fields = {"v": 1, "cid": "ann", "session": {**session, **changes}}
    return frame("~wse:welcome", "w", fields)


def test_what_is_granted_without_an_offer_means_nothing() -> None:
    assert client().receive(granted()) == Welcome("w", None)
    assert ClientHandshake(BaseProtocol(), FRESH).receive(granted()) == Welcome("w", None)
    assert json.loads(ClientHandshake(BaseProtocol(), FRESH).hi("ann", {}))[1] == {
        "identity": "ann",
        "meta": {},
    }


@pytest.mark.parametrize("window", [0, 60, 0.5])
def test_the_grant_may_be_fresh_or_resumed(window: float) -> None:
    fresh = Grant("ann", SessionGrant("secret", False, 0, window))
    for offer in (FRESH, BACK):
        assert client(offer).receive(granted(window=window)) == Welcome("w", fresh)
    resumed = Grant("ann", SessionGrant("secret", True, 5, window))
    data = granted(resumed=True, received=5, window=window)
    assert client(BACK).receive(data) == Welcome("w", resumed)


@pytest.mark.parametrize("offer", [Offer(False), FRESH, BACK])
def test_a_server_may_grant_no_session(offer: Offer) -> None:
    for extension in ({"v": 1, "cid": "ann"}, {"v": 1, "cid": "ann", "session": None}):
        welcome = client(offer).receive(frame("~wse:welcome", "w", extension))
        assert welcome == Welcome("w", Grant("ann"))


def test_6_a_session_that_was_not_asked_for_is_a_violation() -> None:
    error = violation(client(Offer(False)), granted())
    assert error.code == WSE_ERROR.PROTOCOL_VIOLATION
    error = violation(client(FRESH), granted(resumed=True))
    assert error.code == WSE_ERROR.PROTOCOL_VIOLATION


@pytest.mark.parametrize("cid", [None, 5, ["ann"]])
def test_6_a_grant_without_a_cid_is_a_violation(cid: Any) -> None:
    data = frame("~wse:welcome", "w", {"v": 1, "cid": cid, "session": None})
    assert violation(client(FRESH), data).code == WSE_ERROR.PROTOCOL_VIOLATION


@pytest.mark.parametrize("session", [5, "secret", [], True, {}])
def test_6_a_granted_session_that_is_no_object_is_a_violation(session: Any) -> None:
    data = frame("~wse:welcome", "w", {"v": 1, "cid": "ann", "session": session})
    assert violation(client(FRESH), data).code == WSE_ERROR.PROTOCOL_VIOLATION


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("id", value) for value in (None, 5, "", ["secret"])],
        *[("resumed", value) for value in (None, 0, "yes")],
        *[("received", value) for value in (None, -1, True, 1.0, "5")],
        *[("window", value) for value in (None, True, "60")],
    ],
)
def test_6_a_granted_session_of_another_shape_is_a_violation(name: str, value: Any) -> None:
    error = violation(client(BACK), granted(**{name: value}))
    assert error.code == WSE_ERROR.PROTOCOL_VIOLATION


@given(st.dictionaries(st.sampled_from(["v", "cid", "session"]), st.none() | st.integers()))
def test_6_no_grant_is_anything_but_a_welcome_or_an_error(extension: Any) -> None:
    data = frame("~wse:welcome", "w", extension)
    try:
        assert isinstance(client(BACK).receive(data), Welcome)
    except WseError as error:
        assert error.code == WSE_ERROR.PROTOCOL_VIOLATION


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
