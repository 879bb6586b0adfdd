"""The account of one session: counters, acknowledgements, what is kept and what is lost."""

from __future__ import annotations

import math
from functools import partial
from itertools import count as count_from
from typing import Any, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wse_sync import WSE_ERROR, WseError
from wse_sync.core.delivery import (
    ACK_BYTES,
    ACK_FRAMES,
    ACK_SECONDS,
    Delivery,
    Limits,
    Outgoing,
)
from wse_sync.protocol import Data


def message(data: Data, type: str = "chat") -> Outgoing:
    return Outgoing(data, type)


def call(data: Data, stamp: str) -> Outgoing:
    return Outgoing(data, "add", stamp)


def answer(data: Data) -> Outgoing:
    return Outgoing(data, is_answer=True)


def session(max_bytes: float = math.inf, max_frames: float = math.inf) -> Delivery:
    return Delivery(Limits(max_bytes, max_frames))


def session_that_wrote(*data: Data, limits: Limits | None = None) -> Delivery:
    delivery = Delivery(limits or Limits())
    for each in data:
        delivery.wrote(message(each))
    return delivery


def frames_of(delivery: Delivery) -> int:
    """How many frames are kept or wait."""
    return next(number for number in count_from() if delivery.waits_for_fewer(number + 1))


class Wire:
    """What a link has had; takes so many frames and then no more."""

    def __init__(self, room: float = math.inf) -> None:
        self.frames: list[Data] = []
        self.room = room

    def __call__(self, data: Data) -> bool:
        if len(self.frames) >= self.room:
            return False
        self.frames.append(data)
        return True


def always(frame: Outgoing) -> bool:
    return True


def never(frame: Outgoing) -> bool:
    return False


def written(delivery: Delivery, is_wanted: Callable[[Outgoing], bool] = always) -> list[Data]:
    """What a link that takes everything gets to see now."""
    wire = Wire()
    assert delivery.write_waiting(wire, is_wanted)
    return wire.frames


def refusal(step: Callable[[Any], None], count: Any) -> WseError:
    with pytest.raises(WseError) as caught:
        step(count)
    return caught.value


# Keeping and acknowledging


def test_a_new_session_has_nothing() -> None:
    delivery = session()
    assert delivery.is_session
    assert (delivery.received, delivery.acknowledged, delivery.forgotten) == (0, 0, 0)
    assert (frames_of(delivery), delivery.kept_bytes, delivery.waiting_bytes) == (0, 0, 0)
    assert not delivery.waiting
    assert delivery.ack_due is None
    assert delivery.lost_messages(unwritten=True) == {}
    assert delivery.unwritten_stamps() == set()


def test_a_frame_is_kept_until_it_is_acknowledged() -> None:
    delivery = session_that_wrote("a", "bb", "ccc")
    assert (frames_of(delivery), delivery.kept_bytes) == (3, 6)
    delivery.acknowledge(2)
    assert (frames_of(delivery), delivery.kept_bytes) == (1, 3)
    assert (delivery.acknowledged, delivery.forgotten) == (2, 2)
    delivery.acknowledge(3)
    assert (frames_of(delivery), delivery.kept_bytes) == (0, 0)


def test_an_acknowledgement_may_come_again() -> None:
    delivery = session_that_wrote("a", "b")
    for count in (0, 1, 1):
        delivery.acknowledge(count)
    assert frames_of(delivery) == 1


@pytest.mark.parametrize(
    "count", [3, 0, -1, 2**70, None, True, False, 1.0, "1", [1], {}, "x" * 1000]
)
def test_a_count_that_cannot_be_is_a_violation_and_changes_nothing(count: Any) -> None:
    delivery = session_that_wrote("a", "b")
    delivery.acknowledge(1)
    error = refusal(delivery.acknowledge, count)
    assert error.code == WSE_ERROR.PROTOCOL_VIOLATION
    assert len(str(error)) < 200
    assert (delivery.acknowledged, frames_of(delivery)) == (1, 1)


def test_an_acknowledgement_without_a_session_is_a_violation() -> None:
    assert refusal(Delivery().acknowledge, 1).code == WSE_ERROR.PROTOCOL_VIOLATION


def test_what_the_link_did_not_take_has_no_number() -> None:
    delivery = session_that_wrote("a")
    delivery.wrote(message("bb"))
    delivery.take_back()
    assert (frames_of(delivery), delivery.kept_bytes) == (1, 1)
    refusal(delivery.acknowledge, 2)


# Waiting for a link


def test_what_waits_is_written_in_order_and_kept() -> None:
    delivery = session()
    for data in ("a", "bb", b"ccc"):
        delivery.wait(message(data))
    assert (delivery.waiting_bytes, delivery.kept_bytes) == (6, 0)
    assert written(delivery) == ["a", "bb", b"ccc"]
    assert (delivery.waiting_bytes, delivery.kept_bytes) == (0, 6)
    assert written(delivery) == []


def test_writing_stops_where_the_link_takes_no_more_and_goes_on_there() -> None:
    delivery = session()
    for data in ("a", "b", "c"):
        delivery.wait(message(data))
    wire = Wire(room=2)
    assert not delivery.write_waiting(wire, always)
    assert wire.frames == ["a", "b"]
    assert (delivery.kept_bytes, delivery.waiting_bytes) == (2, 1)
    assert written(delivery) == ["c"]


def test_what_nobody_wants_any_more_is_not_written_and_has_no_number() -> None:
    delivery = session()
    delivery.wait(call("call", "1"))
    delivery.wait(message("a"))
    assert written(delivery, lambda frame: frame.stamp is None) == ["a"]
    assert (delivery.kept_bytes, delivery.waiting_bytes) == (1, 0)
    delivery.acknowledge(1)
    assert frames_of(delivery) == 0


def test_without_a_session_what_waited_is_written_and_gone() -> None:
    delivery = Delivery()
    delivery.wait(message("a"))
    assert not delivery.is_session
    assert written(delivery) == ["a"]
    assert (frames_of(delivery), delivery.kept_bytes, delivery.waiting_bytes) == (0, 0, 0)
    assert delivery.lost_messages() == {}


# Resuming


def test_a_resumed_session_writes_again_what_the_other_side_lacks() -> None:
    delivery = session_that_wrote("a", "b", "c")
    delivery.resume(1)
    assert (delivery.acknowledged, delivery.kept_bytes) == (1, 2)
    assert written(delivery) == ["b", "c"]
    assert (frames_of(delivery), delivery.kept_bytes) == (2, 2)
    delivery.acknowledge(3)
    assert (frames_of(delivery), delivery.kept_bytes) == (0, 0)


def test_what_is_written_again_goes_before_what_waited() -> None:
    delivery = session_that_wrote("a", "b")
    delivery.wait(message("new"))
    delivery.resume(0)
    assert delivery.waiting_bytes == len("new")
    assert written(delivery) == ["a", "b", "new"]
    assert (delivery.kept_bytes, delivery.waiting_bytes) == (5, 0)


def test_a_link_that_ends_while_frames_are_written_again_loses_none() -> None:
    delivery = session_that_wrote("a", "b", "c", "d")
    delivery.wait(message("e"))
    delivery.resume(1)
    wire = Wire(room=1)
    assert not delivery.write_waiting(wire, always)
    assert wire.frames == ["b"]
    assert delivery.kept_bytes == 3
    delivery.resume(2)
    assert delivery.kept_bytes == 2
    assert written(delivery) == ["c", "d", "e"]
    delivery.acknowledge(5)
    assert (frames_of(delivery), delivery.kept_bytes, delivery.waiting_bytes) == (0, 0, 0)


def test_a_session_may_be_resumed_though_the_last_link_has_had_nothing() -> None:
    delivery = session_that_wrote("a", "b")
    for _ in range(3):
        assert delivery.can_resume(0)
        delivery.resume(0)
    assert written(delivery) == ["a", "b"]


def test_a_frame_that_a_link_has_had_is_written_again_though_nobody_wants_it() -> None:
    delivery = session()
    delivery.wrote(call("call", "1"))
    delivery.wait(call("unwritten", "2"))
    delivery.resume(0)
    assert written(delivery, never) == ["call"]
    delivery.acknowledge(1)


def test_what_the_other_side_has_after_all_is_not_written_again() -> None:
    delivery = session_that_wrote("a", "b", "c", "d")
    delivery.wait(message("e"))
    delivery.resume(0)
    assert not delivery.write_waiting(Wire(room=1), always)
    refusal(delivery.acknowledge, 5)
    delivery.acknowledge(2)
    assert (delivery.kept_bytes, delivery.waiting_bytes) == (2, 1)
    assert delivery.can_resume(3)
    delivery.resume(3)
    assert written(delivery) == ["d", "e"]
    delivery.acknowledge(5)
    assert (frames_of(delivery), delivery.kept_bytes, delivery.waiting_bytes) == (0, 0, 0)


@pytest.mark.parametrize("count", [0, 3, -1, None, True, "1", 1.0])
def test_a_session_cannot_be_resumed_from_a_count_that_cannot_be(count: Any) -> None:
    delivery = session_that_wrote("a", "b")
    delivery.acknowledge(1)
    assert not delivery.can_resume(count)
    assert refusal(delivery.resume, count).code == WSE_ERROR.PROTOCOL_VIOLATION
    assert not delivery.waiting
    assert (delivery.acknowledged, delivery.kept_bytes) == (1, 1)


@pytest.mark.parametrize("count", [1, 2])
def test_a_session_can_be_resumed_from_every_count_that_may_be(count: int) -> None:
    delivery = session_that_wrote("a", "b")
    delivery.acknowledge(1)
    assert delivery.can_resume(count)
    delivery.resume(count)
    assert written(delivery) == ["a", "b"][count:]


def test_what_is_no_session_cannot_be_resumed() -> None:
    assert not Delivery().can_resume(0)


# Bounds


def test_a_session_has_room_for_so_many_frames() -> None:
    delivery = session(max_frames=2)
    assert delivery.has_room(1)
    delivery.wrote(message("a"))
    assert delivery.has_room(1)
    delivery.wait(message("b"))
    assert not delivery.has_room(1)
    delivery.acknowledge(1)
    assert delivery.has_room(1)


def test_a_session_has_room_for_so_many_bytes() -> None:
    delivery = session(max_bytes=10)
    delivery.wrote(message("1234"))
    delivery.wait(message("567"))
    assert delivery.has_room(3)
    assert not delivery.has_room(4)


def test_what_is_written_again_takes_the_room_that_it_took() -> None:
    delivery = session(max_bytes=10, max_frames=3)
    delivery.wrote(message("1234"))
    delivery.wrote(message("5678"))
    for _ in range(2):
        assert delivery.has_room(2)
        assert not delivery.has_room(3)
        delivery.resume(0)
    delivery.wait(message("9"))
    assert not delivery.has_room(1)


def test_one_frame_always_has_room() -> None:
    delivery = session(max_bytes=1, max_frames=1)
    assert delivery.has_room(100)
    delivery.wrote(message("x" * 100))
    delivery.trim()
    assert frames_of(delivery) == 1
    assert not delivery.has_room(0)


def test_one_frame_is_never_too_much() -> None:
    assert not session(max_bytes=1, max_frames=1).wrote(message("x" * 100))


@pytest.mark.parametrize("limits", [Limits(max_frames=2), Limits(max_bytes=4), Limits(4, 2)])
def test_the_frame_that_is_too_much_is_kept_and_told_of(limits: Limits) -> None:
    delivery = Delivery(limits)
    crowded = [delivery.wrote(message(data)) for data in ("aa", "bb", "cc")]
    assert crowded == [False, False, True]
    assert delivery.kept_bytes == 6


@pytest.mark.parametrize(
    ("limits", "left"),
    [(Limits(max_frames=2), 2), (Limits(max_bytes=5), 2), (Limits(3, 3), 1), (Limits(1, 9), 1)],
)
def test_trimming_keeps_the_newest_as_far_as_they_may_be_kept(limits: Limits, left: int) -> None:
    delivery = session_that_wrote("aa", "bb", "cc", "dd", limits=limits)
    delivery.trim()
    assert (frames_of(delivery), delivery.kept_bytes) == (left, 2 * left)
    assert (delivery.forgotten, delivery.acknowledged) == (4 - left, 0)
    delivery.resume(4 - left)
    assert written(delivery) == ["aa", "bb", "cc", "dd"][4 - left :]


def test_nothing_is_trimmed_within_the_limits() -> None:
    delivery = session_that_wrote("aa", "bb", limits=Limits(4, 2))
    delivery.trim()
    assert (delivery.forgotten, delivery.kept_bytes) == (0, 4)


def test_what_was_trimmed_can_be_acknowledged_and_is_not_resumed() -> None:
    delivery = session_that_wrote("a", "b", "c", limits=Limits(max_frames=1))
    delivery.trim()
    delivery.acknowledge(1)
    assert (delivery.acknowledged, delivery.forgotten, delivery.kept_bytes) == (1, 2, 1)
    assert not delivery.can_resume(1)
    assert refusal(delivery.resume, 1).code == WSE_ERROR.PROTOCOL_VIOLATION
    assert delivery.can_resume(2)
    delivery.acknowledge(3)
    assert (delivery.forgotten, delivery.kept_bytes) == (3, 0)


def test_frames_that_are_kept_or_wait_are_counted_together() -> None:
    delivery = session()
    assert delivery.waits_for_fewer(1)
    assert not delivery.waits_for_fewer(0)
    delivery.wrote(message("a"))
    delivery.wait(message("b"))
    for _ in range(2):
        assert delivery.waits_for_fewer(3)
        assert not delivery.waits_for_fewer(2)
        delivery.resume(0)


# What comes in


def test_the_first_frame_is_acknowledged_a_second_later() -> None:
    delivery = session()
    assert not delivery.receive(10, lambda: 5.0)
    assert delivery.ack_due == 5.0 + ACK_SECONDS
    assert not delivery.receive(10, lambda: 5.5)
    assert delivery.ack_due == 5.0 + ACK_SECONDS
    assert delivery.tell() == delivery.received == 2
    assert delivery.ack_due is None


def test_the_next_second_begins_with_the_first_frame_after_an_acknowledgement() -> None:
    delivery = session()
    delivery.receive(10, lambda: 5.0)
    delivery.tell()
    delivery.receive(10, lambda: 7.0)
    assert delivery.ack_due == 7.0 + ACK_SECONDS


def test_the_clock_is_read_for_the_first_frame_only() -> None:
    readings: list[float] = []

    def now() -> float:
        readings.append(1.0)
        return 1.0

    delivery = session()
    for _ in range(10):
        delivery.receive(1, now)
    assert len(readings) == 1


def test_so_many_frames_are_acknowledged_at_once() -> None:
    delivery = session()
    for _ in range(2):
        for _ in range(ACK_FRAMES - 1):
            assert not delivery.receive(0, lambda: 0.0)
        assert delivery.receive(0, lambda: 0.0)
        delivery.tell()
    assert delivery.received == 2 * ACK_FRAMES


def test_so_many_bytes_are_acknowledged_at_once() -> None:
    delivery = session()
    for at_once in (True, False):
        assert not delivery.receive(ACK_BYTES - 1, lambda: 0.0, at_once=at_once)
        assert delivery.receive(1, lambda: 0.0, at_once=at_once)
        delivery.tell()


def test_an_acknowledgement_that_can_wait_rides_with_the_next_frame() -> None:
    delivery = session()
    for _ in range(ACK_FRAMES - 1):
        delivery.receive(0, lambda: 0.0, at_once=False)
        assert not delivery.ack_rides
    assert not delivery.receive(0, lambda: 0.0, at_once=False)
    assert delivery.ack_rides
    delivery.tell()
    assert not delivery.ack_rides


def test_an_acknowledgement_does_not_wait_for_ever_for_a_frame_to_ride_with() -> None:
    delivery = session()
    for _ in range(2 * ACK_FRAMES - 1):
        assert not delivery.receive(0, lambda: 0.0, at_once=False)
    assert delivery.receive(0, lambda: 0.0, at_once=False)


def test_a_frame_that_cannot_wait_ends_the_wait_of_the_others() -> None:
    delivery = session()
    for _ in range(ACK_FRAMES):
        delivery.receive(0, lambda: 0.0, at_once=False)
    assert delivery.receive(0, lambda: 0.0)


def test_so_many_bytes_end_the_wait_for_a_frame_to_ride_with() -> None:
    delivery = session()
    for _ in range(ACK_FRAMES):
        assert not delivery.receive(0, lambda: 0.0, at_once=False)
    assert delivery.receive(ACK_BYTES, lambda: 0.0, at_once=False)


def test_acknowledgements_go_out_as_the_wire_says() -> None:
    assert (ACK_FRAMES, ACK_BYTES, ACK_SECONDS) == (64, 256 * 1024, 1.0)


def test_a_frame_that_is_expected_is_not_counted_yet() -> None:
    delivery = session()
    assert delivery.expect(10, lambda: 5.0) == 1
    assert delivery.expect(10, lambda: 5.0) == 1
    assert (delivery.received, delivery.ack_due) == (0, None)
    delivery.received = 1
    assert delivery.ack_due == 5.0 + ACK_SECONDS


def test_a_frame_that_would_have_to_be_acknowledged_at_once_is_not_expected() -> None:
    delivery = session()
    for number in range(1, 2 * ACK_FRAMES):
        count = delivery.expect(0, lambda: 0.0)
        assert count == number
        delivery.received = count
    assert delivery.expect(0, lambda: 0.0) is None
    delivery.tell()
    assert delivery.expect(ACK_BYTES, lambda: 0.0) is None
    assert delivery.expect(ACK_BYTES - 1, lambda: 0.0) == 2 * ACK_FRAMES


expected_or_received = st.lists(
    st.tuples(st.sampled_from([1, 100, ACK_BYTES // 3, ACK_BYTES]), st.booleans(), st.booleans()),
    max_size=3 * ACK_FRAMES,
)


@given(expected_or_received)
def test_it_is_the_same_whether_frames_are_expected_or_received(
    frames: list[tuple[int, bool, bool]],
) -> None:
    """As one that takes answers itself and one that does not; now and then both tell."""
    expecting, receiving = session(), session()
    for time, (size, expects, tells) in enumerate(frames):
        now = partial(float, time)
        at_once = receiving.receive(size, now, at_once=False)
        count = expecting.expect(size, now) if expects else None
        if count is None:
            assert expecting.receive(size, now, at_once=False) == at_once
        else:
            assert not at_once
            expecting.received = count
        if at_once or tells:
            assert expecting.tell() == receiving.tell()
        assert expecting.received == receiving.received
        assert expecting.ack_due == receiving.ack_due
        assert expecting.ack_rides == receiving.ack_rides


def test_telling_again_says_the_same() -> None:
    delivery = session()
    delivery.receive(1, lambda: 0.0)
    assert (delivery.tell(), delivery.tell()) == (1, 1)


# The end of a session


def mixed_session() -> Delivery:
    """A message acknowledged; then written: a message, a call, an answer; and the same waiting."""
    delivery = session_that_wrote("acknowledged")
    for frame in (message("m1", "a"), call("c1", "1"), answer("r1")):
        delivery.wrote(frame)
    for frame in (message("m2", "b"), call("c2", "2"), answer("r2")):
        delivery.wait(frame)
    delivery.acknowledge(1)
    return delivery


def mixed_session_half_resumed() -> Delivery:
    """The same on its next link, which has had one frame again."""
    delivery = mixed_session()
    delivery.resume(1)
    assert not delivery.write_waiting(Wire(room=1), always)
    return delivery


at_any_time = pytest.mark.parametrize("make", [mixed_session, mixed_session_half_resumed])


@at_any_time
def test_39_what_no_link_has_had_goes_into_the_next_session_except_for_answers(
    make: Callable[[], Delivery],
) -> None:
    following = make().successor(Limits(100, 100), "its id")
    assert (following.is_session, following.id) == (True, "its id")
    assert [frame.data for frame in following.waiting] == ["m2", "c2"]
    assert following.waiting_bytes == 4
    assert (following.kept_bytes, following.received, following.forgotten) == (0, 0, 0)
    assert written(following) == ["m2", "c2"]
    following.acknowledge(2)
    assert frames_of(following) == 0


@at_any_time
def test_39_calls_that_no_link_has_had_are_known_by_their_stamps(
    make: Callable[[], Delivery],
) -> None:
    assert make().unwritten_stamps() == {"2"}


@at_any_time
def test_39_messages_written_and_not_acknowledged_are_lost(make: Callable[[], Delivery]) -> None:
    assert make().lost_messages() == {"a": 1}
    assert make().lost_messages(unwritten=True) == {"a": 1, "b": 1}


def test_39_lost_messages_are_counted_by_type() -> None:
    delivery = session()
    for type in ("a", "b", "a", "a"):
        delivery.wrote(message("x", type))
    delivery.acknowledge(1)
    assert delivery.lost_messages() == {"a": 2, "b": 1}


def test_the_next_session_keeps_what_it_may() -> None:
    delivery = session()
    delivery.wait(message("a"))
    following = delivery.successor(Limits(max_frames=2))
    assert following.has_room(1)
    following.wait(message("b"))
    assert not following.has_room(1)


def test_without_a_session_to_follow_what_waits_goes_out_all_the_same() -> None:
    following = mixed_session().successor()
    assert (following.is_session, following.id) == (False, "")
    assert written(following) == ["m2", "c2"]
    assert frames_of(following) == 0


def test_the_session_before_is_left_as_it_was() -> None:
    delivery = mixed_session()
    delivery.successor(Limits())
    assert (frames_of(delivery), len(delivery.waiting)) == (6, 3)


# All of it, against a list

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(0, 9)),
        st.tuples(st.just("wait"), st.integers(0, 9)),
        st.tuples(st.just("flush"), st.integers(0, 5)),
        st.tuples(st.just("acknowledge"), st.integers(0, 5)),
        st.tuples(st.just("resume"), st.integers(0, 5)),
    ),
    max_size=40,
)


@given(STEPS)
def test_37_the_account_is_that_of_a_plain_list(steps: list[tuple[str, int]]) -> None:
    delivery = session()
    numbered: list[str] = []  # what a link has had, this one or an earlier one
    waiting: list[str] = []  # what none has had
    here = 0  # so much of it this link has had, or the other side has said that it has
    told = 0  # so much of it the other side has said that it has
    for index, (step, value) in enumerate(steps):
        data = f"{index}:" + "x" * value
        if step == "wait" or (step == "send" and numbered[here:] + waiting):
            delivery.wait(message(data))
            waiting.append(data)
        elif step == "send":
            delivery.wrote(message(data))
            numbered.append(data)
            here += 1
        elif step == "flush":
            wire = Wire(room=value)
            done = delivery.write_waiting(wire, always)
            due = numbered[here:] + waiting
            assert wire.frames == due[:value]
            assert done == (len(due) <= value)
            fresh = max(0, len(wire.frames) - len(numbered[here:]))
            here += len(wire.frames)
            numbered += waiting[:fresh]
            del waiting[:fresh]
        elif told + value > len(numbered):
            assert not delivery.can_resume(told + value)
            refusal(delivery.acknowledge, told + value)
        elif step == "acknowledge":
            told += value
            here = max(here, told)
            delivery.acknowledge(told)
        else:
            told += value
            assert delivery.can_resume(told)
            delivery.resume(told)
            here = told
        assert (delivery.acknowledged, delivery.forgotten) == (told, told)
        assert frames_of(delivery) == len(numbered[told:] + waiting)
        assert delivery.kept_bytes == sum(map(len, numbered[told:]))
        assert delivery.waiting_bytes == sum(map(len, waiting))
        assert [frame.data for frame in delivery.waiting] == numbered[here:] + waiting
        assert sum(delivery.lost_messages().values()) == len(numbered[told:])


ARRIVALS = st.lists(
    st.tuples(
        st.integers(1, 100),  # so many frames
        st.sampled_from([0, 1, 5000, 100_000]),  # of so many bytes
        st.booleans(),
        st.integers(0, 2),  # so many seconds after those before
    ),
    max_size=20,
)


@given(ARRIVALS)
def test_the_other_side_hears_of_every_frame_in_time(
    arrivals: list[tuple[int, int, bool, int]],
) -> None:
    delivery = session()
    owed: list[int] = []  # sizes of the frames that the other side has not heard of
    now = since = told = 0
    for number, size, at_once, pause in arrivals:
        now += pause
        if delivery.ack_due is not None and delivery.ack_due <= now:
            told = delivery.tell()
            owed = []
        for _ in range(number):
            since = since if owed else now
            owed.append(size)
            frames_due = ACK_FRAMES if at_once else 2 * ACK_FRAMES
            due = len(owed) >= frames_due or sum(owed) >= ACK_BYTES
            assert delivery.receive(size, partial(float, now), at_once=at_once) == due
            assert delivery.ack_due == since + ACK_SECONDS
            assert delivery.ack_rides == (len(owed) >= ACK_FRAMES)
            if due:
                told = delivery.tell()
                owed = []
                assert delivery.ack_due is None
            assert delivery.received == told + len(owed)


def test_a_sweep_takes_out_what_is_not_wanted_and_has_no_number() -> None:
    delivery = session_that_wrote("on the link")
    delivery.resume(0)
    for data in ("a", "bb", "ccc"):
        delivery.wait(message(data))
    delivery.sweep(lambda frame: len(frame.data) == 2)
    assert [frame.data for frame in delivery.waiting] == ["on the link", "bb"]
    assert delivery.waiting_bytes == 2
