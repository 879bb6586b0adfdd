"""So many at once, so many in the long run."""

from __future__ import annotations

import pytest

from wse_sync import clock
from wse_sync.tokens import Tokens


def taken(tokens: Tokens) -> int:
    """How many can be taken at once."""
    count = 0
    while tokens.take():
        count += 1
    return count


@pytest.fixture(autouse=True)
def still(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands still until it is set."""
    now = [100.0]
    monkeypatch.setattr(clock, "monotonic", lambda: now[0])
    return now


def test_there_are_so_many_at_once() -> None:
    assert taken(Tokens(5, 1.0)) == 5


def test_they_come_back_and_never_pile_up(still: list[float]) -> None:
    tokens = Tokens(5, 2.0)
    assert [tokens.take() for _ in range(5)] == [True] * 5
    still[0] += 1.0
    assert [tokens.take() for _ in range(2)] == [True] * 2
    still[0] += 1000.0
    assert taken(tokens) == 5


def test_at_just_the_rate_it_goes_on_for_ever(still: list[float]) -> None:
    tokens = Tokens(1, 4.0)
    for _ in range(1000):
        assert tokens.take()
        still[0] += 0.25


def test_an_amount_may_be_less_than_one() -> None:
    tokens = Tokens(1, 1.0)
    assert [tokens.take(0.5) for _ in range(3)] == [True, True, False]
    assert Tokens(0, 1.0).take(0.0)
