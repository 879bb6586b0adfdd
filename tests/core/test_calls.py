"""The table of open calls."""

from __future__ import annotations

from typing import Union

from hypothesis import given
from hypothesis import strategies as st

from wse_sync.core.calls import Calls, OpenCall


def names(calls: list[OpenCall[str]]) -> list[str]:
    return [call.name for call in calls]


def test_a_stamp_is_ten_digits_and_unique() -> None:
    calls: Calls[str] = Calls()
    stamps = [calls.open("add", None, "reply") for _ in range(1000)]
    assert len(set(stamps)) == 1000
    assert all(len(stamp) == 10 and stamp.isdigit() for stamp in stamps)


def test_a_stamp_is_not_used_again_after_its_call_has_ended() -> None:
    calls: Calls[str] = Calls()
    first = calls.open("add", None, "reply")
    calls.close(first)
    second = calls.open("add", None, "reply")
    calls.drain()
    assert len({first, second, calls.open("add", None, "reply")}) == 3


def test_a_call_is_taken_out_once() -> None:
    calls: Calls[str] = Calls()
    stamp = calls.open("add", 5.0, "reply")
    call = calls.close(stamp)
    assert call is not None
    assert (call.name, call.deadline, call.reply) == ("add", 5.0, "reply")
    assert calls.close(stamp) is None


def test_an_unknown_stamp_closes_nothing() -> None:
    calls: Calls[str] = Calls()
    calls.open("add", None, "reply")
    assert calls.close("nobody") is None
    assert len(calls) == 1


def test_the_table_says_what_is_open() -> None:
    calls: Calls[str] = Calls()
    assert len(calls) == 0
    stamp = calls.open("add", None, "reply")
    assert stamp in calls
    assert len(calls) == 1
    calls.close(stamp)
    assert stamp not in calls
    assert len(calls) == 0


def test_a_call_expires_at_its_deadline_and_not_before() -> None:
    calls: Calls[str] = Calls()
    calls.open("early", 1.0, "reply")
    calls.open("late", 2.0, "reply")
    calls.open("patient", None, "reply")
    assert calls.expire(0.999) == []
    assert names(calls.expire(1.0)) == ["early"]
    assert calls.expire(1.0) == []
    assert names(calls.expire(1e9)) == ["late"]
    assert len(calls) == 1


def test_the_next_deadline_is_the_earliest() -> None:
    calls: Calls[str] = Calls()
    assert calls.next_deadline() is None
    calls.open("patient", None, "reply")
    assert calls.next_deadline() is None
    calls.open("late", 7.0, "reply")
    early = calls.open("early", 3.0, "reply")
    assert calls.next_deadline() == 3.0
    calls.close(early)
    assert calls.next_deadline() == 7.0


def test_drain_takes_out_all_in_the_order_of_their_calls() -> None:
    calls: Calls[str] = Calls()
    for name in ("a", "b", "c"):
        calls.open(name, None, "reply")
    assert names(calls.drain()) == ["a", "b", "c"]
    assert calls.drain() == []
    assert len(calls) == 0


Step = Union["tuple[str, None]", "tuple[str, int]"]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("open"), st.none() | st.integers(0, 20)),
        st.tuples(st.just("close"), st.integers(0, 30)),
        st.tuples(st.just("expire"), st.integers(0, 20)),
        st.tuples(st.just("drain"), st.none()),
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
            stamps.append(calls.open("add", value, len(stamps)))
        elif step == "close" and value is not None and value < len(stamps):
            closed = calls.close(stamps[value])
            left += [] if closed is None else [closed.reply]
        elif step == "expire" and value is not None:
            left += [call.reply for call in calls.expire(value)]
            deadline = calls.next_deadline()
            assert deadline is None or deadline > value
        elif step == "drain":
            left += [call.reply for call in calls.drain()]
        assert len(calls) == len(stamps) - len(left)
    left += [call.reply for call in calls.drain()]
    assert sorted(left) == list(range(len(stamps)))
