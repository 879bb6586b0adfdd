"""A gate is shut until it is opened, and open from then on."""

from __future__ import annotations

from tests.support import PATIENCE, Thread
from wse_sync.gate import Gate


def test_a_wait_for_a_shut_gate_ends_in_time() -> None:
    gate = Gate()
    assert not gate.is_set()
    assert not gate.wait(0.0)
    assert not gate.wait(0.01)


def test_an_open_gate_lets_everybody_through_at_any_time() -> None:
    gate = Gate()
    gate.set()
    assert gate.is_set()
    assert [gate.wait(0.0) for _ in range(3)] == [True] * 3


def test_all_who_wait_are_let_through() -> None:
    gate = Gate()
    threads = [Thread(lambda: gate.wait(PATIENCE)) for _ in range(5)]
    gate.set()
    assert [thread.result() for thread in threads] == [True] * 5
