"""The table of procedures (promise 28)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support import Thread
from wse_sync import (
    WSE_ERROR,
    JsonProtocol,
    WseError,
    WseLookupError,
    WseTypeError,
    WseValueError,
)
from wse_sync import procedures as procedures_module
from wse_sync.core.peer import Peer
from wse_sync.procedures import Procedure, Procedures


def made() -> Procedures:
    return Procedures(Peer(JsonProtocol()).check_type)


def handler_of(procedures: Procedures, name: str) -> Callable[..., Any] | None:
    procedure = procedures.find(name)
    return None if procedure is None else procedure.handler


def test_a_procedure_is_found_by_its_name() -> None:
    procedures = made()
    assert procedures.register("abs", abs) is abs
    assert handler_of(procedures, "abs") is abs
    assert procedures.find("other") is None


def test_register_decorates() -> None:
    procedures = made()

    @procedures.register("double")
    def double(number: int) -> int:
        return number * 2

    assert double(4) == 8
    assert handler_of(procedures, "double") is double


def test_one_function_may_have_many_names() -> None:
    procedures = made()
    procedures.register("a", abs)
    procedures.register("b", abs)
    procedures.unregister("a")
    assert handler_of(procedures, "b") is abs


def test_28_registering_twice_raises_and_changes_nothing() -> None:
    procedures = made()
    procedures.register("abs", abs)
    for handler in (abs, len):
        with pytest.raises(WseValueError) as caught:
            procedures.register("abs", handler)
        assert caught.value.code == WSE_ERROR.RP_ALREADY_REGISTERED
        assert caught.value.details == {"rp": "abs"}
    assert handler_of(procedures, "abs") is abs


def test_28_unregistering_the_unknown_raises() -> None:
    procedures = made()
    procedures.register("abs", abs)
    procedures.unregister("abs")
    for name in ("abs", "never"):
        with pytest.raises(WseLookupError) as caught:
            procedures.unregister(name)
        assert caught.value.code == WSE_ERROR.RP_NOT_REGISTERED
        assert caught.value.details == {"rp": name}


def test_a_name_is_free_again_after_unregistering() -> None:
    procedures = made()
    procedures.register("x", abs)
    procedures.unregister("x")
    procedures.register("x", len)
    assert handler_of(procedures, "x") is len


@pytest.mark.parametrize("name", ["", "~wse:hi", "~wse:call", "~wse:response", [], {}, set()])
def test_names_that_cannot_be_called_are_refused(name: Any) -> None:
    procedures = made()
    with pytest.raises((WseTypeError, WseValueError)):
        procedures.register(name, abs)
    with pytest.raises((WseTypeError, WseValueError)):
        procedures.register(name)
    with pytest.raises(WseError):
        procedures.unregister(name)


@pytest.mark.parametrize("handler", [5, "abs", [abs]])
def test_what_cannot_be_called_is_no_procedure(handler: Any) -> None:
    procedures = made()
    with pytest.raises(WseTypeError, match=type(handler).__name__):
        procedures.register("x", handler)
    with pytest.raises(WseTypeError):
        procedures.register("x")(handler)
    assert procedures.find("x") is None


def test_of_many_threads_one_registers() -> None:
    procedures = made()

    def register() -> bool:
        try:
            procedures.register("x", lambda payload: payload)
        except WseValueError:
            return False
        return True

    for _ in range(50):
        threads = [Thread(register) for _ in range(4)]
        assert sum(thread.result() for thread in threads) == 1
        procedures.unregister("x")


def test_the_repr_names_them() -> None:
    procedures = made()
    procedures.register("add", abs)
    procedures.register("sub", abs)
    assert repr(procedures) == "<Procedures add sub>"


@pytest.fixture
def three_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A procedure is quick after three runs of less than a second."""
    monkeypatch.setattr(procedures_module, "QUICK", 1.0)
    monkeypatch.setattr(procedures_module, "QUICK_RUNS", 3)


@pytest.mark.usefixtures("three_runs")
def test_a_procedure_is_quick_after_so_many_quick_runs() -> None:
    procedure = Procedure(abs)
    for _ in range(3):
        assert not procedure.is_quick
        procedure.note(0.9)
    assert procedure.is_quick
    procedure.note(0.9)
    assert procedure.is_quick


@pytest.mark.usefixtures("three_runs")
def test_a_slow_run_begins_the_row_anew() -> None:
    procedure = Procedure(abs)
    for seconds in (0.1, 0.1, 1.0, 0.1, 0.1):
        procedure.note(seconds)
        assert not procedure.is_quick
    procedure.note(0.1)
    assert procedure.is_quick
    procedure.note(1.0)
    assert not procedure.is_quick


@pytest.mark.usefixtures("three_runs")
def test_each_procedure_has_its_own_row() -> None:
    procedures = made()
    procedures.register("a", abs)
    procedures.register("b", abs)
    quick, other = procedures.find("a"), procedures.find("b")
    assert quick is not None and other is not None
    for _ in range(3):
        quick.note(0.0)
    assert (quick.is_quick, other.is_quick) == (True, False)


@pytest.mark.usefixtures("three_runs")
def test_a_procedure_that_takes_the_name_of_another_begins_anew() -> None:
    procedures = made()
    procedures.register("a", abs)
    before = procedures.find("a")
    assert before is not None
    for _ in range(3):
        before.note(0.0)
    procedures.unregister("a")
    procedures.register("a", len)
    after = procedures.find("a")
    assert after is not None and not after.is_quick
