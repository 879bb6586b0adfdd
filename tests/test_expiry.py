"""Until when somebody is let in, and that nothing is left of it."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from tests.conftest import MakeTestServer
from wse_sync import AuthRequest, clock
from wse_sync.expiry import parse_expiry
from wse_sync.loop import loop
from wse_sync.testing import TestServer


class Wall:
    """Stands for the system's clock."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Wall:
    stands_for_it = Wall()
    monkeypatch.setattr("wse_sync.clock.time.time", stands_for_it)
    return stands_for_it


def let_in(make_test_server: MakeTestServer, expires_at: Any) -> TestServer:
    """A server with one user, who was let in until then."""

    def identify(auth: AuthRequest) -> None:
        auth.accept(auth.identity, expires_at=expires_at)

    test = make_test_server(identify)
    test.connect("ann", reconnect=True)
    return test


def test_none_is_for_ever() -> None:
    assert parse_expiry(None) is None


def test_seconds_and_a_datetime_are_the_same() -> None:
    when = datetime(2040, 1, 1, tzinfo=timezone.utc)
    assert parse_expiry(when) == parse_expiry(when.timestamp()) == parse_expiry(2208988800)
    east = when.astimezone(timezone(timedelta(hours=9)))
    assert parse_expiry(east) == parse_expiry(when)


@pytest.mark.parametrize(
    "expires_at",
    ["tomorrow", True, timedelta(hours=1), -1, float("nan"), float("inf"), datetime(2040, 1, 1)],
)
def test_anything_else_is_refused_and_the_argument_named(expires_at: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="expires_at"):
        parse_expiry(expires_at)


def test_what_a_test_has_added_before_is_not_taken_off() -> None:
    clock.advance(3600.0)
    ends_at = parse_expiry(time.time() + 60.0)
    assert ends_at is not None
    assert 50.0 < ends_at - clock.wall() <= 60.0


def test_a_clock_that_is_set_forward_is_noticed_within_a_minute(
    make_test_server: MakeTestServer, wall: Wall
) -> None:
    test = let_in(make_test_server, wall.now + 86_400.0)
    wall.now += 86_400.0
    test.advance(60.0)
    assert list(test.server.clients) == []


def test_a_clock_that_is_set_back_gives_that_much_more(
    make_test_server: MakeTestServer, wall: Wall
) -> None:
    test = let_in(make_test_server, wall.now + 30.0)
    wall.now -= 100.0
    test.advance(120.0)
    assert list(test.server.clients) == ["ann"]
    test.advance(20.0)
    assert list(test.server.clients) == []


@pytest.mark.parametrize("expires_at", [1e12, 1e300, datetime(9999, 1, 1, tzinfo=timezone.utc)])
def test_a_time_that_is_far_away_is_one_as_well(
    make_test_server: MakeTestServer, expires_at: Any
) -> None:
    test = let_in(make_test_server, expires_at)
    test.advance(180.0)
    assert list(test.server.clients) == ["ann"]


@pytest.mark.parametrize("end", ["drop", "disconnect", "expire", "close"])
def test_no_timer_is_left_when_it_ends_otherwise(
    make_test_server: MakeTestServer, end: str
) -> None:
    test = let_in(make_test_server, time.time() + 1e6)
    assert len(test.server.expiries) == 1
    (conn,) = test.server.clients["ann"].conns.values()
    if end == "drop":
        test.server.drop_client("ann")
    elif end == "disconnect":
        conn.send("bye")
        test.close()
    elif end == "expire":
        with test.unreachable():
            test.cut()
            test.advance(test.server.resume_window)
    else:
        test.server.close()
    assert len(test.server.expiries) == 0
    test.close()
    loop.rest(10.0)
    assert loop.next_deadline() == float("inf")
