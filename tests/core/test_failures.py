"""Errors to payloads and back (wire.md: errors over the wire)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wse_sync import (
    WSE_ERROR,
    JsonProtocol,
    WseConnectionError,
    WseError,
    WseLookupError,
    WsePermissionError,
    WseTimeoutError,
)
from wse_sync.core.failures import error_from, payload_of


class Unspeakable(Exception):
    """An error of an application whose text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


class UnspeakableWseError(WseError):
    def __str__(self) -> str:
        raise RuntimeError("no words")


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
# What a peer may send as the payload of response-err: often nearly right.
PAYLOADS: st.SearchStrategy[Any] = JSON | st.fixed_dictionaries(
    {},
    optional={
        "code": JSON | st.sampled_from([str(code) for code in WSE_ERROR]),
        "message": JSON,
        "details": JSON | st.dictionaries(st.sampled_from(["rp", "rpc", "origin"]), JSON),
    },
)


def test_a_wse_error_travels_with_its_code_its_details_and_the_procedure() -> None:
    error = WseError("shop.sold-out", {"left": 0}, "come back tomorrow")
    payload = payload_of(error, "buy")
    assert payload == {
        "code": "shop.sold-out",
        "message": "shop.sold-out: come back tomorrow",
        "details": {"left": 0, "rp": "buy"},
    }
    assert error.details == {"left": 0}


def test_the_procedure_of_the_call_stands_over_one_in_the_details() -> None:
    assert payload_of(WseError("x", {"rp": "other"}), "buy")["details"] == {"rp": "buy"}


def test_any_other_exception_is_a_failed_procedure_with_its_origin() -> None:
    assert payload_of(ZeroDivisionError("division by zero"), "divide") == {
        "code": "wse.server.rp.failed",
        "message": "division by zero",
        "details": {
            "origin": {"name": "ZeroDivisionError", "message": "division by zero"},
            "rp": "divide",
        },
    }


def test_a_stack_travels_only_when_it_is_given() -> None:
    payload = payload_of(ValueError("no"), "p", "Traceback …")
    assert payload["details"]["origin"]["stack"] == "Traceback …"
    assert "stack" not in payload_of(ValueError("no"), "p")["details"]["origin"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), Unspeakable()])
def test_every_exception_has_a_payload(error: BaseException) -> None:
    payload = payload_of(error, "p")
    assert payload["code"] == WSE_ERROR.RP_EXECUTION_FAILED
    assert payload["details"]["origin"]["name"] == type(error).__name__
    assert isinstance(payload["message"], str)


def test_a_wse_error_whose_text_cannot_be_had_has_a_payload_too() -> None:
    payload = payload_of(UnspeakableWseError("shop.closed", {"until": 9}), "buy")
    assert payload["code"] == "shop.closed"
    assert payload["details"] == {"until": 9, "rp": "buy"}
    assert isinstance(payload["message"], str)


def test_the_payload_is_plain_json_without_enumerations() -> None:
    for error in (WseError(WSE_ERROR.NOT_AUTHORIZED), ValueError("no")):
        payload = payload_of(error, "p")
        assert type(payload["code"]) is str
        assert json.loads(JsonProtocol().pack("x", payload))[1] == payload


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (WSE_ERROR.RP_NOT_REGISTERED, WseLookupError),
        (WSE_ERROR.RP_TIMEOUT, WseTimeoutError),
        (WSE_ERROR.RP_DISCONNECT, WseConnectionError),
        (WSE_ERROR.NOT_AUTHORIZED, WsePermissionError),
        (WSE_ERROR.RP_EXECUTION_FAILED, WseError),
        ("of.the.application", WseError),
    ],
)
def test_the_class_follows_the_code(code: str, kind: type[WseError]) -> None:
    error = error_from({"code": str(code)}, "p")
    assert type(error) is kind
    assert error.code == code


@pytest.mark.parametrize(
    "payload",
    [None, "text", 5, [], {}, {"code": None}, {"code": ""}, {"code": 7}, {"details": "x"}],
)
def test_26_a_broken_payload_is_a_failed_procedure(payload: Any) -> None:
    error = error_from(payload, "buy")
    assert error.code == "wse.server.rp.failed"
    assert error.details == {"rp": "buy"}


@pytest.mark.parametrize(
    ("details", "procedure"),
    [
        ({"rp": "five"}, "five"),
        ({"rpc": "four"}, "four"),
        ({"rp": "five", "rpc": "four"}, "five"),
        ({"rp": None, "rpc": "four"}, "four"),
        ({"rp": ""}, "ours"),
        (None, "ours"),
    ],
)
def test_peers_of_4_and_5_name_the_procedure_differently(details: Any, procedure: str) -> None:
    assert error_from({"code": "x", "details": details}, "ours").details["rp"] == procedure


@pytest.mark.parametrize(
    ("message", "read"),
    [
        ("sold out", "sold out"),
        ("shop.full: sold out", "sold out"),
        ("shop.full", None),
        ("shop.fuller: sold out", "shop.fuller: sold out"),
        ("", ""),
        (None, None),
        (5, None),
        (["sold out"], None),
    ],
)
def test_the_message_is_read_without_the_code_before_it(message: Any, read: str | None) -> None:
    assert error_from({"code": "shop.full", "message": message}, "buy").message == read


def test_the_payload_that_came_is_left_as_it_was() -> None:
    payload = {"code": "x", "message": "x: y", "details": {"rpc": "p", "a": [1]}}
    before = json.dumps(payload)
    error_from(payload, "p").details["b"] = 2
    assert json.dumps(payload) == before


@given(PAYLOADS)
def test_26_whatever_comes_the_end_is_a_wse_error_that_can_be_printed(payload: Any) -> None:
    error = error_from(payload, "buy")
    assert isinstance(error, WseError)
    assert error.code
    assert error.details["rp"]
    fields = (type(error.code), type(error.details), type(error.message))
    assert fields in ((str, dict, str), (str, dict, type(None)))
    assert str(error).startswith(error.code)
    assert repr(error)


@given(
    st.text(min_size=1),
    st.dictionaries(st.text(), JSON),
    st.none() | st.text(),
)
def test_22_code_and_details_survive_the_way_over_the_wire(
    code: str, details: dict[str, Any], message: str | None
) -> None:
    protocol = JsonProtocol()
    sent = payload_of(WseError(code, details, message), "buy")
    error = error_from(protocol.unpack(protocol.pack("x", sent)).payload, "buy")
    assert error.code == code
    assert error.details == {**details, "rp": "buy"}
    assert not message or message in str(error)
