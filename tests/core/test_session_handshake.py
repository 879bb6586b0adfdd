"""Sessions in hi and welcome: the exact frames, and whatever else may stand in their places.

What is right is decided here by a small oracle of its own, from the shapes that travel.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.protocols import BaseProtocol
from wse_sync import WSE_ERROR, JsonProtocol, WseError
from wse_sync.core.handshake import (
    ClientHandshake,
    Grant,
    Hello,
    Offer,
    Quest,
    ServerHandshake,
    SessionGrant,
    Welcome,
)

ONLY_CID, FRESH, BACK = Offer(False), Offer(True), Offer(True, "s3cret", 7)

#: Stands for a key that is missing.
MISSING = "(missing)"


def hi(extension: Any) -> str:
    payload = {"identity": "ann", "meta": {"device": 1}, "wse": extension}
    return json.dumps(["~wse:hi", _without_missing(payload), None])


def welcome(extension: Any) -> str:
    return json.dumps(["~wse:welcome", {"hello": "ann"}, _without_missing(extension)])


def _without_missing(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {name: _without_missing(item) for name, item in value.items() if item != MISSING}


# The frames


@pytest.mark.parametrize(
    ("offer", "text"),
    [
        (None, '["~wse:hi",{"identity":"ann","meta":{}},null]'),
        (ONLY_CID, '["~wse:hi",{"identity":"ann","meta":{},"wse":{"v":1}},null]'),
        (FRESH, '["~wse:hi",{"identity":"ann","meta":{},"wse":{"v":1,"session":null}},null]'),
        (
            BACK,
            '["~wse:hi",{"identity":"ann","meta":{},'
            '"wse":{"v":1,"session":{"id":"s3cret","received":7}}},null]',
        ),
    ],
)
def test_hi_travels_as_the_wire_says(offer: Offer | None, text: str) -> None:
    assert ClientHandshake(JsonProtocol(), offer).hi("ann", {}) == text
    assert ServerHandshake(JsonProtocol()).receive(text) == Hello("ann", {}, offer)


@pytest.mark.parametrize(
    ("grant", "text"),
    [
        (None, '["~wse:welcome",{"hello":"ann"},null]'),
        (Grant("ann"), '["~wse:welcome",{"hello":"ann"},{"v":1,"cid":"ann","session":null}]'),
        (
            Grant("ann", SessionGrant("s3cret", False, 0, 60.0)),
            '["~wse:welcome",{"hello":"ann"},{"v":1,"cid":"ann","session":'
            '{"id":"s3cret","resumed":false,"received":0,"window":60.0}}]',
        ),
        (
            Grant("ann", SessionGrant("s3cret", True, 12, 0.5)),
            '["~wse:welcome",{"hello":"ann"},{"v":1,"cid":"ann","session":'
            '{"id":"s3cret","resumed":true,"received":12,"window":0.5}}]',
        ),
    ],
)
def test_the_welcome_travels_as_the_wire_says(grant: Grant | None, text: str) -> None:
    assert ServerHandshake(JsonProtocol()).welcome({"hello": "ann"}, grant) == text
    assert ClientHandshake(JsonProtocol(), BACK).receive(text) == Welcome({"hello": "ann"}, grant)


def test_the_shortest_welcome_of_a_base_peer_grants_nothing() -> None:
    for text in ('["~wse:welcome"]', '["~wse:welcome",null]', '["~wse:welcome",null,null]'):
        assert ClientHandshake(JsonProtocol(), BACK).receive(text) == Welcome(None)


# Who takes no part


@pytest.mark.parametrize("offer", [ONLY_CID, FRESH, BACK])
def test_a_protocol_without_acknowledgements_takes_no_part(offer: Offer) -> None:
    client, server = ClientHandshake(BaseProtocol(), offer), ServerHandshake(BaseProtocol())
    assert client.hi("ann", {}) == '["~wse:hi",{"identity":"ann","meta":{}},null]'
    for extension in ({"v": 1, "session": None}, {"v": 1, "session": "wrong"}):
        assert server.receive(hi(extension)) == Hello("ann", {"device": 1})
        server = ServerHandshake(BaseProtocol())
    for grant in ({"v": 1, "cid": "ann", "session": None}, {"v": 1, "cid": 5}):
        assert client.receive(welcome(grant)) == Welcome({"hello": "ann"})


@pytest.mark.parametrize("version", [None, 0, 2, 1.5, "1", [1], {"v": 1}, True, False, MISSING])
def test_versions_that_are_not_known_are_read_past(version: Any) -> None:
    hello = ServerHandshake(JsonProtocol()).receive(
        hi({"v": version, "session": "of another kind"})
    )
    assert hello == Hello("ann", {"device": 1})
    for offer in (ONLY_CID, FRESH, BACK):
        client = ClientHandshake(JsonProtocol(), offer)
        assert client.receive(welcome({"v": version, "cid": 5})) == Welcome({"hello": "ann"})


@pytest.mark.parametrize("extension", [None, False, 1, 1.5, "x", [], [1], {}, MISSING])
def test_what_is_no_extension_of_this_kind_is_read_past(extension: Any) -> None:
    hello = ServerHandshake(JsonProtocol()).receive(hi(extension))
    assert hello == Hello("ann", {"device": 1})
    if extension != MISSING:
        client = ClientHandshake(JsonProtocol(), BACK)
        assert client.receive(welcome(extension)) == Welcome({"hello": "ann"})


def test_who_did_not_ask_hears_nothing_of_sessions() -> None:
    session = {"id": "s3cret", "resumed": True, "received": 5, "window": 60.0}
    for extension in ({"v": 1, "cid": "ann", "session": session}, {"v": 1, "session": "wrong"}):
        client = ClientHandshake(JsonProtocol())
        assert client.receive(welcome(extension)) == Welcome({"hello": "ann"})


def test_only_the_welcome_has_more_than_a_stamp_in_its_third_place() -> None:
    for type in ("~wse:hi", "~wse:challenge", "chat"):
        for end in (ServerHandshake(JsonProtocol()), ClientHandshake(JsonProtocol(), BACK)):
            with pytest.raises(WseError) as caught:
                end.receive(json.dumps([type, {"identity": "ann"}, {"v": 1}]))
            assert caught.value.code == WSE_ERROR.PROTOCOL_VIOLATION


def test_8_the_offer_stays_what_it_was_through_a_challenge() -> None:
    client, server = ClientHandshake(JsonProtocol(), BACK), ServerHandshake(JsonProtocol())
    assert server.receive(client.hi("ann", {})) == Hello("ann", {}, BACK)
    assert client.receive(server.ask({"sum": 2})) == Quest({"sum": 2})
    server.receive(client.solution(None))
    grant = Grant("ann", SessionGrant("s3cret", True, 3, 60.0))
    assert client.receive(server.welcome(None, grant)) == Welcome(None, grant)


# Every shape

JUNK: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, False, 0, 1, -1, 2**70, 1.0, -0.5, "", "x", [], ["x"], {}, {"x": 1}, MISSING]
)
VERSIONS: st.SearchStrategy[Any] = st.sampled_from(
    [1, 1, 1, 1, None, 0, 2, False, "1", [1], MISSING]
)
COUNTS: st.SearchStrategy[Any] = st.integers(0, 2**70)
TEXTS: st.SearchStrategy[Any] = st.text(min_size=1, max_size=5)


def mostly(right: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """What is right, and now and then something else."""
    return st.one_of(right, right, right, JUNK)


ASKED = mostly(st.none() | st.fixed_dictionaries({"id": mostly(TEXTS), "received": mostly(COUNTS)}))
OFFERS = st.fixed_dictionaries({"v": VERSIONS, "session": ASKED})
GRANTED = mostly(
    st.none()
    | st.fixed_dictionaries(
        {
            "id": mostly(TEXTS),
            "resumed": mostly(st.booleans()),
            "received": mostly(COUNTS),
            "window": mostly(st.floats(0, 1e9) | st.integers(0, 10**9)),
        }
    )
)
GRANTS = st.fixed_dictionaries(
    {"v": VERSIONS, "cid": mostly(TEXTS | st.just("")), "session": GRANTED}
)


def is_version_1(extension: Any) -> bool:
    return isinstance(extension, dict) and is_count(extension.get("v")) and extension["v"] == 1


def is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def is_number(value: Any) -> bool:
    return type(value) in (int, float)


@given(mostly(OFFERS))
def test_6_an_offer_of_any_shape_is_read_read_past_or_a_violation(extension: Any) -> None:
    extension = _without_missing(extension)
    asked = extension.get("session") if is_version_1(extension) else None
    is_right = asked is None or (
        isinstance(asked, dict)
        and isinstance(asked.get("id"), str)
        and is_count(asked.get("received"))
    )
    server = ServerHandshake(JsonProtocol())
    if not is_right:
        with pytest.raises(WseError) as caught:
            server.receive(hi(extension))
        assert caught.value.code == WSE_ERROR.PROTOCOL_VIOLATION
        assert server.state == "hi"
        return
    expected = None
    if is_version_1(extension):
        id, received = (None, 0) if asked is None else (asked["id"], asked["received"])
        expected = Offer("session" in extension, id, received)
    assert server.receive(hi(extension)) == Hello("ann", {"device": 1}, expected)


@given(mostly(GRANTS), st.sampled_from([None, ONLY_CID, FRESH, BACK]))
def test_6_a_grant_of_any_shape_is_read_read_past_or_a_violation(
    extension: Any, offer: Offer | None
) -> None:
    extension = _without_missing(extension)
    client = ClientHandshake(JsonProtocol(), offer)
    expected: Any = None
    if offer is not None and is_version_1(extension):
        expected = what_is_granted(extension, offer)
    if expected == "violation":
        with pytest.raises(WseError) as caught:
            client.receive(welcome(extension))
        assert caught.value.code == WSE_ERROR.PROTOCOL_VIOLATION
    else:
        assert client.receive(welcome(extension)) == Welcome({"hello": "ann"}, expected)


def what_is_granted(extension: dict[str, Any], offer: Offer) -> Grant | str:
    """The grant of a server that knows this version, or "violation"."""
    cid, session = extension.get("cid"), extension.get("session")
    if not isinstance(cid, str):
        return "violation"
    if session is None:
        return Grant(cid)
    if not isinstance(session, dict):
        return "violation"
    values: list[Any] = [session.get(name) for name in ("id", "resumed", "received", "window")]
    id, resumed, received, window = values
    is_right = isinstance(id, str) and id and isinstance(resumed, bool)
    if not is_right or not is_count(received) or not is_number(window):
        return "violation"
    if not offer.wants_session or (resumed and offer.session_id is None):
        return "violation"  # it was not asked for
    return Grant(cid, SessionGrant(id, resumed, received, window))
