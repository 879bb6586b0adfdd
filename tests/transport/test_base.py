"""What all transports share: the reason of a close, and how a link is lost."""

from __future__ import annotations

import sys
from contextlib import suppress
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wse_sync.transport.base import LinkLost, assign, cut_reason

MAX_REASON_BYTES = 123


def test_a_reason_that_fits_is_kept() -> None:
    for reason in ("", "wse.by-server", "x" * MAX_REASON_BYTES, "ü" * 61):
        assert cut_reason(reason) == reason


@given(st.text())
def test_a_reason_is_cut_between_characters(reason: str) -> None:
    """Hypothesis makes no lone surrogates here: those have no UTF-8."""
    kept = cut_reason(reason * 10)
    assert (reason * 10).startswith(kept)
    rest = (reason * 10)[len(kept) :]
    assert len(kept.encode()) <= MAX_REASON_BYTES
    assert not rest or len(kept.encode()) + len(rest[0].encode()) > MAX_REASON_BYTES


@given(st.text(st.characters(categories=["Cs", "L"])))
def test_a_reason_that_is_no_utf8_can_be_sent_all_the_same(reason: str) -> None:
    assert len(cut_reason(reason).encode()) <= MAX_REASON_BYTES


def test_a_lost_link_says_how() -> None:
    lost = LinkLost(1000, "bye")
    assert (lost.code, lost.reason, lost.drain) == (1000, "bye", False)
    assert LinkLost(1006).reason == ""
    assert LinkLost(1009, drain=True).drain
    assert "1000" in str(lost) and "bye" in str(lost)


class Place:
    """Something with attributes."""

    __slots__ = ("count", "start")

    def __init__(self) -> None:
        self.count = self.start = 0


def test_attributes_are_assigned_together() -> None:
    here, there = Place(), Place()
    assign((here, "start", 1), (there, "count", 2), (here, "count", 3))
    assert (here.start, here.count, there.start, there.count) == (1, 3, 0, 2)
    assign()


def test_what_cannot_be_assigned_is_an_error() -> None:
    here = Place()
    with pytest.raises(AttributeError):
        assign((here, "start", 1), (here, "other", 2))


def test_29_ctrl_c_comes_before_an_assignment_or_after_all_of_it() -> None:
    """At each place where the interpreter looks for signals."""
    events = iter(range(0))

    def interrupt(frame: FrameType, event: str, argument: Any) -> None:
        if frame.f_code is assign.__code__ and event != "return" and next(events, None) == 0:
            raise KeyboardInterrupt

    def assigned(place: int) -> tuple[int, int]:
        nonlocal events
        here, there = Place(), Place()
        events = iter(range(-place, 1))
        sys.setprofile(interrupt)
        try:
            with suppress(KeyboardInterrupt):
                assign((here, "start", 1), (there, "count", 1))
        finally:
            sys.setprofile(None)
        return here.start, there.count

    seen = [assigned(place) for place in range(20)]
    assert set(seen) == {(0, 0), (1, 1)}
    assert seen == sorted(seen)
