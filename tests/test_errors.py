"""The errors that users see, and the arguments that make no sense."""

from __future__ import annotations

import copy
import pickle
import traceback
from typing import Any

import pytest

import wse_sync
from wse_sync import (
    WSE_ERROR,
    WseConnectionError,
    WseError,
    WseLookupError,
    WsePermissionError,
    WseTimeoutError,
    WseTypeError,
    WseValueError,
)
from wse_sync.checks import (
    bad_type,
    bad_value,
    check_callable,
    check_counts,
    check_finite,
    check_flags,
    check_path,
    check_seconds,
)
from wse_sync.errors import error_of

CLASSES: list[tuple[type[WseError], type[Exception]]] = [
    (WseTimeoutError, TimeoutError),
    (WseConnectionError, ConnectionError),
    (WsePermissionError, PermissionError),
    (WseTypeError, TypeError),
    (WseValueError, ValueError),
    (WseLookupError, LookupError),
]
EVERY_CLASS = [WseError, *[kind for kind, _ in CLASSES]]


@pytest.mark.parametrize(("kind", "builtin"), CLASSES)
def test_an_error_is_caught_as_ours_and_as_the_builtin(
    kind: type[WseError], builtin: type[Exception]
) -> None:
    for caught in (kind, WseError, builtin):
        with pytest.raises(caught):
            raise kind("code")


@pytest.mark.parametrize("kind", EVERY_CLASS)
def test_an_error_says_code_procedure_and_cause(kind: type[WseError]) -> None:
    error = kind("shop.full", {"rp": "buy", "left": 0}, "come back tomorrow")
    assert error.code == "shop.full"
    assert error.details == {"rp": "buy", "left": 0}
    assert error.message == "come back tomorrow"
    assert str(error) == "shop.full: procedure 'buy': come back tomorrow"
    assert error.args == ("shop.full",)


@pytest.mark.parametrize("kind", EVERY_CLASS)
def test_an_error_may_be_nothing_but_its_code(kind: type[WseError]) -> None:
    error = kind(WSE_ERROR.RP_TIMEOUT)
    assert type(error.code) is str
    assert str(error) == error.code == "wse.client.rp.timeout"
    assert error.details == {}
    assert error.message is None


@pytest.mark.parametrize("kind", EVERY_CLASS)
def test_the_repr_can_be_typed_in_again(kind: type[WseError]) -> None:
    error = kind("shop.full", {"rp": "buy"}, "no")
    again = eval(repr(error), vars(wse_sync))
    assert type(again) is kind
    assert vars(again) == vars(error)


@pytest.mark.parametrize("kind", EVERY_CLASS)
def test_an_error_survives_pickle_and_copy(kind: type[WseError]) -> None:
    """It may cross the border of a process, as the result of an executor."""
    error = kind("shop.full", {"rp": "buy", "items": [1, 2]}, "no")
    protocols = range(pickle.HIGHEST_PROTOCOL + 1)
    pickled = [pickle.loads(pickle.dumps(error, protocol)) for protocol in protocols]
    for again in (*pickled, copy.copy(error), copy.deepcopy(error)):
        assert type(again) is kind
        assert (again.code, again.details, again.message) == ("shop.full", error.details, "no")
        assert str(again) == str(error)
    assert copy.deepcopy(error).details["items"] is not error.details["items"]


def test_the_details_are_a_dict_of_its_own() -> None:
    given = {"a": 1}
    error = WseError("x", given)
    error.details["b"] = 2
    assert given == {"a": 1}


@pytest.mark.parametrize("kind", EVERY_CLASS)
def test_tracebacks_name_the_class_as_users_import_it(kind: type[WseError]) -> None:
    (line,) = traceback.format_exception_only(kind, kind("x", message="why"))
    assert line == f"wse_sync.{kind.__name__}: x: why\n"


def test_an_application_may_derive_its_own() -> None:
    class SoldOut(WseError):
        def __init__(self, left: int) -> None:
            super().__init__("shop.sold-out", {"left": left})

    assert str(SoldOut(0)) == "shop.sold-out"
    assert SoldOut(3).details == {"left": 3}


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (WSE_ERROR.RP_TIMEOUT, WseTimeoutError),
        (WSE_ERROR.RP_DISCONNECT, WseConnectionError),
        (WSE_ERROR.RP_NOT_REGISTERED, WseLookupError),
        (WSE_ERROR.CONNECTION_NOT_READY, WseConnectionError),
        (WSE_ERROR.CONNECTION_CLOSED, WseConnectionError),
        (WSE_ERROR.WS_CLIENT_ERROR, WseConnectionError),
        (WSE_ERROR.NOT_AUTHORIZED, WsePermissionError),
        (WSE_ERROR.RP_EXECUTION_FAILED, WseError),
        ("of.the.application", WseError),
        ("", WseError),
    ],
)
def test_a_code_has_its_class(code: str, kind: type[WseError]) -> None:
    for given in (code, str(code)):
        error = error_of(given, {"a": 1}, "why")
        assert type(error) is kind
        assert (error.code, error.details, error.message) == (code, {"a": 1}, "why")


# Arguments


def test_bad_arguments_are_errors_of_ours_and_builtin_ones() -> None:
    assert type(bad_type("no")) is WseTypeError
    assert type(bad_value("no")) is WseValueError
    assert bad_value("no", "a.code").code == "a.code"


@pytest.mark.parametrize("value", [None, 0, 0.0, 1, 20.0, 86400])
def test_seconds_are_numbers_or_none(value: float | None) -> None:
    check_seconds(timeout=value)


@pytest.mark.parametrize("value", [-1, -0.001, float("nan"), float("inf"), 1e300, 10**400])
def test_seconds_that_nobody_can_wait_are_refused(value: float) -> None:
    with pytest.raises(WseValueError, match="call_timeout"):
        check_seconds(call_timeout=value)


@pytest.mark.parametrize("value", ["5", b"5", True, [], {}, 1j])
def test_what_is_no_number_is_no_seconds(value: Any) -> None:
    with pytest.raises(WseTypeError, match=f"call_timeout.*{type(value).__name__}"):
        check_seconds(call_timeout=value)


@pytest.mark.parametrize("value", [0, -1])
def test_a_count_is_one_or_more(value: int) -> None:
    check_counts(max_workers=1, port=65535)
    with pytest.raises(WseValueError, match="max_workers"):
        check_counts(max_workers=value)


@pytest.mark.parametrize("value", [None, "1", 1.0, True])
def test_what_is_no_whole_number_is_no_count(value: Any) -> None:
    with pytest.raises(WseTypeError, match="max_workers"):
        check_counts(max_workers=value)


@pytest.mark.parametrize("value", [0.5, float("nan"), float("inf"), float("-inf")])
def test_a_finite_number_has_a_least_value(value: float) -> None:
    check_finite(1, factor=1)
    with pytest.raises(WseValueError, match="factor"):
        check_finite(1, factor=value)


def test_what_cannot_be_called_is_refused() -> None:
    check_callable("the handler", print)
    with pytest.raises(WseTypeError, match="the handler must be callable, not int"):
        check_callable("the handler", 5)


def test_flags_are_true_or_false() -> None:
    check_flags(debug=True, more=False)


@pytest.mark.parametrize("value", ["False", "", 0, 1, None])
def test_what_is_no_flag_is_refused(value: Any) -> None:
    with pytest.raises(WseTypeError, match=f"debug must be True or False, not {value!r}"):
        check_flags(debug=value)


@pytest.mark.parametrize("value", [5, b"/ws", ["/ws"]])
def test_what_is_no_text_is_no_path(value: Any) -> None:
    assert (check_path(None), check_path("/ws")) == (None, "/ws")
    with pytest.raises(WseTypeError, match="path must be a text"):
        check_path(value)


def test_a_path_begins_with_a_slash() -> None:
    with pytest.raises(WseValueError, match="path must begin with /: 'ws'"):
        check_path("ws")
