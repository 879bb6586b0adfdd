"""What is counted: exact from many threads, bounded whatever comes, and told as it was of late."""

from __future__ import annotations

import json
from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import Thread
from wse_sync import WSE_ERROR, WseError, clock
from wse_sync.stats import BOUNDS, CallStats, ServerStats, Stats
from wse_sync.tally import Load, Tally


class Clock:
    """A clock that stands still."""

    def __init__(self) -> None:
        self.now = 1000.0

    def advance(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Whatever the tallies of the test see of time."""
    it = Clock()
    monkeypatch.setattr(clock, "monotonic", lambda: it.now)
    return it


LOAD = Load(1, 10, 100, 1000)
WHO = {"users": 3, "connections": 2, "suspended": 1, "strangers": 4}


def read(tally: Tally) -> Stats:
    return tally.read(Stats, [], calls_running=0, calls_waiting=0)


def read_server(tally: Tally) -> ServerStats:
    return tally.read(ServerStats, [LOAD, LOAD], calls_running=5, calls_waiting=6, **WHO)


def test_the_bounds_are_a_quarter_apart() -> None:
    assert BOUNDS[0] == 0.00001 and BOUNDS[-1] == 100.0
    assert all(low * 1.2 < high < low * 1.3 for low, high in zip(BOUNDS, BOUNDS[1:]))


@given(st.lists(st.floats(0.0, 100.0), min_size=1), st.sampled_from([1, 50, 90, 99, 100]))
def test_a_percentile_is_in_the_bucket_of_the_truth(times: list[float], percent: int) -> None:
    tally = Tally()
    for seconds in times:
        tally.serve("add", seconds)
    found = read(tally).calls_served["add"].percentile(percent)
    truth = sorted(times)[-(-len(times) * percent // 100) - 1]
    number = bisect_left(BOUNDS, truth)
    assert found is not None
    assert (BOUNDS[number - 1] if number else 0.0) <= found <= BOUNDS[number]


def test_calls_of_which_there_are_none_have_no_percentiles() -> None:
    assert CallStats().percentile(50) is None


def test_what_took_longer_than_the_last_bound_counts_as_that() -> None:
    tally = Tally()
    tally.serve("add", 1000.0)
    calls = read(tally).calls_served["add"]
    assert (calls.percentile(50), calls.seconds, calls.buckets[-1]) == (100.0, 1000.0, 1)


def test_threads_that_count_at_the_same_time_lose_nothing() -> None:
    tally = Tally()

    def count() -> None:
        for _ in range(500):
            tally.receive()
            tally.send()
            tally.send_to_many(2)
            tally.serve("add", 0.001)
            tally.make("measure", 0.001, WseError(WSE_ERROR.RP_TIMEOUT))

    threads = [Thread(count) for _ in range(4)]
    seen = [read(tally) for _ in range(50)]
    for thread in threads:
        thread.result()
    seen.append(read(tally))
    found = seen[-1]
    assert (found.messages_received, found.messages_sent) == (2000, 6000)
    assert (found.calls_served["add"].count, found.calls_made["measure"].count) == (2000, 2000)
    assert found.calls_made["measure"].failed == found.errors[WSE_ERROR.RP_TIMEOUT] == 2000
    for earlier, later in zip(seen, seen[1:]):
        assert earlier.messages_received <= later.messages_received
        assert earlier.messages_sent <= later.messages_sent


def test_names_and_codes_beyond_a_bound_are_counted_together() -> None:
    tally = Tally()
    for number in range(1000):
        tally.make(f"name {number}", 0.1)
        tally.report(WseError(f"code {number}"))
    found = read(tally)
    assert found.calls_made["other"].count == 800
    assert len(found.calls_made) == 201
    assert found.errors["other"] == 900
    assert len(found.errors) == 101


def test_codes_that_the_other_side_made_up_are_counted_together() -> None:
    tally = Tally()
    for number in range(10):
        tally.make("measure", 0.1, WseError(f"code {number}"))
    assert read(tally).errors == {"other": 10}


def test_errors_go_by_their_codes() -> None:
    tally = Tally()
    tally.serve("add", 0.1)
    tally.fail("add", ValueError())
    tally.report(ValueError())
    tally.report(WseError("mine"))
    found = read(tally)
    assert found.calls_served["add"].failed == 1
    assert found.errors == {WSE_ERROR.RP_EXECUTION_FAILED: 1, "exception": 1, "mine": 1}


def test_recent_is_since_somebody_asked_in_the_last_minute(time: Clock) -> None:
    tally = Tally()
    found = []
    for _ in range(40):
        tally.receive()
        time.advance(4.0)
        recent = read(tally).recent
        assert recent is not None and recent.recent is None
        assert recent.messages_received == recent.seconds / 4
        found.append(recent.seconds)
    assert found[:3] == [4.0, 8.0, 8.0]
    assert set(found[20:]) == {56.0, 60.0}


def test_recent_is_since_the_last_time_if_nobody_asked_for_long(time: Clock) -> None:
    tally = Tally()
    first = read(tally).recent
    assert first is not None and first.messages_received == 0  # since the beginning
    tally.serve("add", 1.0)
    time.advance(3600.0)
    recent = read(tally).recent
    assert recent is not None
    assert recent.seconds == 3600.0
    assert recent.calls_served["add"].count == 1
    time.advance(10.0)
    later = read(tally).recent
    assert later is not None
    assert later.seconds == 10.0
    assert later.calls_served["add"].count == 0
    assert later.calls_served["add"].percentile(99) is None


def test_the_difference_of_two_results_is_what_happened_in_between(time: Clock) -> None:
    tally = Tally()
    tally.serve("add", 0.001)
    tally.report(WseError("old"))
    before = read(tally)
    time.advance(10.0)
    for _ in range(20):
        tally.send()
        tally.serve("add", 0.5)
        tally.fail("add", WseError("new"))
    between = read(tally).since(before)
    assert (between.messages_sent, between.messages_received) == (20, 0)
    assert between.per_second(between.messages_sent) == 2.0
    calls = between.calls_served["add"]
    assert (calls.count, calls.failed, calls.seconds) == (20, 20, 10.0)
    median = calls.percentile(50)
    assert median is not None and 0.4 < median <= 0.5
    assert between.errors == {"new": 20}


def test_a_result_does_not_change() -> None:
    tally = Tally()
    found = read(tally)
    tally.receive()
    tally.serve("add", 0.1)
    assert found.messages_received == 0
    assert dict(found.calls_served) == {}
    with pytest.raises(AttributeError):
        found.messages_received = 1  # type: ignore[misc]
    with pytest.raises(TypeError):
        found.errors["x"] = 1  # type: ignore[index]


@pytest.fixture
def busy(time: Clock) -> ServerStats:
    tally = Tally()
    for _ in range(1234):
        tally.receive()
    tally.serve("add", 0.002)
    tally.serve("x" * 500, 0.2)
    tally.serve("two\nlines", 2.0)
    tally.fail("add", ValueError())
    tally.make(17, 0.3)
    time.advance(100_000.0)
    return read_server(tally)


def test_a_result_goes_through_json(busy: ServerStats) -> None:
    found = json.loads(json.dumps(busy.as_dict()))
    assert found["users"] == 3
    assert found["queued_bytes"] == 20
    assert found["calls_made"]["17"]["count"] == 1
    assert 0.001 < found["calls_served"]["add"]["p99_seconds"] <= 0.002
    assert found["errors"] == {"wse.server.rp.failed": 1}
    assert found["recent"]["messages_received"] == 1234
    assert found["recent"]["recent"] is None


def test_a_result_is_printed_as_a_table(busy: ServerStats) -> None:
    lines = str(busy).splitlines()
    assert lines[:4] == [
        "connections: 2 open, 1 suspended, 3 users; 4 not let in yet",
        "counts, rates and times of 1 d 3 h 46 min",
        "calls: 5 running, 6 waiting for a worker, 2 of ours open",
        "bytes: 20 queued, 200 unacknowledged, 2,000 unhandled",
    ]
    rows = {line[:34].strip(): line[34:].split() for line in lines[5:]}
    assert rows["messages received"] == ["1,234", "0.0"]
    assert rows["calls served"][:2] == ["3", "1"]
    assert rows["add"] == ["1", "1", "0.0", "1.8", "1.96", "2"]
    assert rows["17"] == ["1", "0", "0.0", "282", "308", "314"]
    assert rows["'two\\nlines'"][0] == "1"
    assert all(len(line) <= 100 for line in lines)


def test_a_table_says_which_time_the_rates_are_of(time: Clock) -> None:
    tally = Tally()
    time.advance(200.0)
    read(tally)
    time.advance(20.0)
    assert "counts of 3 min 40 s, rates and times of the last 20 s" in str(read(tally))


def test_a_result_says_the_most_important_in_a_line(busy: ServerStats) -> None:
    assert repr(busy) == (
        "<ServerStats of 1 d 3 h 46 min: 2 connections, 1 suspended, 1234 messages in, 0 out,"
        " 3 calls served, 1 made, 1 errors; print() shows more>"
    )
    assert repr(read(Tally())).startswith("<Stats of ")
