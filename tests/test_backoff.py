"""How long a client waits before it dials again (promise 31)."""

from __future__ import annotations

import dataclasses
import pickle
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wse_sync import Backoff, WseTypeError, WseValueError

SECONDS = st.floats(0.0, 1e6)
BACKOFFS = st.builds(Backoff, initial=SECONDS, factor=st.floats(1.0, 1e6), maximum=SECONDS)
ATTEMPTS = st.integers(0, 10**6)


def test_the_defaults_are_those_of_the_client() -> None:
    assert Backoff() == Backoff(initial=1.0, factor=2.0, maximum=30.0)


def test_31_the_ceiling_grows_to_the_maximum() -> None:
    ceilings = [Backoff().ceiling(attempt) for attempt in range(8)]
    assert ceilings == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


@given(BACKOFFS, ATTEMPTS)
def test_31_every_wait_is_between_nothing_and_the_ceiling(backoff: Backoff, attempt: int) -> None:
    assert 0.0 <= backoff.delay(attempt) <= backoff.ceiling(attempt) <= backoff.maximum


@given(BACKOFFS, ATTEMPTS)
def test_the_ceiling_never_falls(backoff: Backoff, attempt: int) -> None:
    assert backoff.ceiling(attempt) <= backoff.ceiling(attempt + 1)


@given(st.floats(1.0, 1e6), ATTEMPTS)
def test_who_does_not_want_to_wait_never_waits(factor: float, attempt: int) -> None:
    assert Backoff(initial=0.0, factor=factor).delay(attempt) == 0.0
    assert Backoff(maximum=0.0, factor=factor).delay(attempt) == 0.0


def test_31_the_jitter_is_full() -> None:
    """Waits fill the whole range evenly, so that devices spread that were cut off together."""
    random.seed(5)
    waits = [Backoff().delay(3) for _ in range(4000)]
    for eighth in range(8):
        share = sum(eighth <= wait < eighth + 1 for wait in waits) / len(waits)
        assert 0.09 < share < 0.16


def test_two_waits_differ() -> None:
    assert len({Backoff().delay(5) for _ in range(100)}) > 90


def test_whole_numbers_will_do() -> None:
    backoff = Backoff(initial=1, factor=2, maximum=30)
    assert backoff.ceiling(3) == 8
    assert backoff.ceiling(10**6) == 30


@pytest.mark.parametrize("name", ["initial", "maximum", "factor"])
@pytest.mark.parametrize("value", [-1, -0.1, float("nan"), float("inf"), float("-inf")])
def test_values_that_make_no_sense_are_refused(name: str, value: float) -> None:
    with pytest.raises(WseValueError, match=name):
        Backoff(**{name: value})


@pytest.mark.parametrize("value", [0, 0.5, 0.999])
def test_a_factor_that_lets_the_waits_shrink_is_refused(value: float) -> None:
    with pytest.raises(WseValueError, match="factor"):
        Backoff(factor=value)


@pytest.mark.parametrize("name", ["initial", "maximum", "factor"])
@pytest.mark.parametrize("value", ["1", None, True, [1]])
def test_what_is_no_number_is_refused(name: str, value: Any) -> None:
    with pytest.raises(WseTypeError, match=name):
        Backoff(**{name: value})


def test_it_is_a_value() -> None:
    backoff = Backoff(initial=0.5)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(backoff, "initial", 1.0)  # noqa: B010  (mypy knows that it is read-only)
    assert pickle.loads(pickle.dumps(backoff)) == backoff
    assert repr(backoff) == "Backoff(initial=0.5, factor=2.0, maximum=30.0)"
