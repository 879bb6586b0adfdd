"""The table of open calls."""

from __future__ import annotations

from typing import Union

from hypothesis import given
from hypothesis import strategies as st

from wse_sync.core.calls import Calls, OpenCall


def names(calls: list[OpenCall[str]]) -> list[str]:
    return [call.name for call in calls]


def enter(calls: Calls[str], name: str = "add", deadline: float | None = None) -> str:
    """Opens a call under a stamp of its own, and returns that."""
    stamp = calls.new_stamp()
    calls.open(stamp, name, 3.0, deadline, "reply")
    return stamp


def test_a_stamp_is_ten_digits_and_unique() -> None:
    calls: Calls[str] = Calls()
    stamps = [calls.new_stamp() for _ in range(1000)]
    assert len(set(stamps)) == 1000
    assert all(len(stamp) == 10 and stamp.isdigit() for stamp in stamps)


def test_a_stamp_is_not_used_again_after_its_call_has_ended() -> None:
    calls: Calls[str] = Calls()
    first = enter(calls)
    calls.close(first)
    second = enter(calls)
    calls.drain()
    assert len({first, second, enter(calls)}) == 3


def test_a_call_is_taken_out_once() -> None:
    calls: Calls[str] = Calls()
    stamp = enter(calls, "add", 5.0)
    call = calls.close(stamp)
    assert call is not None
    assert (call.name, call.begun, call.deadline, call.reply) == ("add", 3.0, 5.0, "reply")
    assert calls.close(stamp) is None


def test_an_unknown_stamp_closes_nothing() -> None:
    calls: Calls[str] = Calls()
    enter(calls)
    assert calls.close("nobody") is None
    assert len(calls) == 1


def test_the_table_says_what_is_open() -> None:
    calls: Calls[str] = Calls()
    assert len(calls) == 0
    stamp = enter(calls)
    assert stamp in calls
    assert len(calls) == 1
    calls.close(stamp)
    assert stamp not in calls
    assert len(calls) == 0


def test_a_call_expires_at_its_deadline_and_not_before() -> None:
    calls: Calls[str] = Calls()
    enter(calls, "early", 1.0)
    enter(calls, "late", 2.0)
    enter(calls, "patient")
    assert calls.expire(0.999) == []
    assert names(calls.expire(1.0)) == ["early"]
    assert calls.expire(1.0) == []
    assert names(calls.expire(1e9)) == ["late"]
    assert len(calls) == 1


def test_the_next_deadline_is_the_earliest() -> None:
    calls: Calls[str] = Calls()
    assert calls.next_deadline() is None
    enter(calls, "patient")
    assert calls.next_deadline() is None
    enter(calls, "late", 7.0)
    early = enter(calls, "early", 3.0)
    assert calls.next_deadline() == 3.0
    calls.close(early)
    assert calls.next_deadline() == 7.0


def test_drain_takes_out_all_in_the_order_of_their_calls() -> None:
    calls: Calls[str] = Calls()
    for name in ("a", "b", "c"):
        enter(calls, name)
    assert names(calls.drain()) == ["a", "b", "c"]
    assert calls.drain() == []
    assert len(calls) == 0


def test_drain_leaves_those_that_are_to_be_kept() -> None:
    calls: Calls[str] = Calls()
    stamps = [enter(calls, name) for name in ("a", "b", "c")]
    assert names(calls.drain({stamps[1], "nobody"})) == ["a", "c"]
    assert stamps[1] in calls
    assert names(calls.drain()) == ["b"]


Step = Union["tuple[str, None]", "tuple[str, int]"]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("open"), st.none() | st.integers(0, 20)),
        st.tuples(st.just("close"), st.integers(0, 30)),
        st.tuples(st.just("expire"), st.integers(0, 20)),
        st.tuples(st.just("drain"), st.none() | st.integers(0, 30)),
    ),
    max_size=60,
)


@given(STEPS)
def test_every_call_leaves_the_table_exactly_once(steps: list[Step]) -> None:
    calls: Calls[int] = Calls()
    stamps: list[str] = []
    left: list[int] = []
    for step, value in steps:
        if step == "open":
            stamp = calls.new_stamp()
            calls.open(stamp, "add", 0.0, value, len(stamps))
            stamps.append(stamp)
        elif step == "close" and value is not None and value < len(stamps):
            closed = calls.close(stamps[value])
            left += [] if closed is None else [closed.reply]
        elif step == "expire" and value is not None:
            left += [call.reply for call in calls.expire(value)]
            deadline = calls.next_deadline()
            assert deadline is None or deadline > value
        elif step == "drain":
            kept = [] if value is None else stamps[value : value + 1]
            left += [call.reply for call in calls.drain(kept)]
        assert len(calls) == len(stamps) - len(left)
    left += [call.reply for call in calls.drain()]
    assert sorted(left) == list(range(len(stamps)))
