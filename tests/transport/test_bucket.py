"""Frames that bring little: so many at once, so many in the long run, and what does not count."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from tests.transport.ends import BINARY, CLOSE, CONT, PING, PONG, TEXT
from wse_sync.transport.bucket import Bucket

MOST = 750


class Kind(NamedTuple):
    """A frame: opcode, whether it is final, and its size."""

    opcode: int
    is_final: bool
    size: int


class Clock:
    """Stands for the monotonic one."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    stands_for_it = Clock()
    monkeypatch.setattr("wse_sync.clock.monotonic", stands_for_it)
    return stands_for_it


def admitted(made: Bucket, kind: Kind, most: int = 3 * MOST) -> int:
    """How many such frames are let in, up to so many."""
    for count in range(most):
        if not made.admits(*kind):
            return count
    return most


@pytest.mark.parametrize(
    ("kind", "most"),
    [
        (Kind(PING, True, 2), MOST),
        (Kind(PONG, True, 125), MOST),
        (Kind(TEXT, False, 0), 2 * MOST),
        (Kind(CONT, True, 0), 2 * MOST),
    ],
    ids=repr,
)
def test_6_so_many_frames_that_bring_little_may_come_at_once(
    clock: Clock, kind: Kind, most: int
) -> None:
    assert admitted(Bucket(), kind) == most


@pytest.mark.parametrize(
    "kind",
    [
        Kind(TEXT, True, 0),
        Kind(BINARY, True, 1),
        Kind(CLOSE, True, 2),
        Kind(CONT, False, 64),
        Kind(BINARY, False, 1000),
    ],
    ids=repr,
)
def test_messages_closes_and_large_fragments_do_not_count(clock: Clock, kind: Kind) -> None:
    made = Bucket()
    assert admitted(made, kind) == 3 * MOST
    assert admitted(made, Kind(PING, True, 2)) == MOST


def test_the_smaller_a_fragment_the_more_it_counts(clock: Clock) -> None:
    counts = [admitted(Bucket(), Kind(CONT, False, size), 9 * MOST) for size in (8, 32, 48)]
    assert counts == [2 * MOST * 64 // (64 - size) for size in (8, 32, 48)]


def test_with_time_as_many_come_back_and_no_more(clock: Clock) -> None:
    made, ping = Bucket(), Kind(PING, True, 2)
    for _ in range(10 * MOST):  # a heartbeat, or a live stream
        clock.now += 0.01
        assert made.admits(*ping)
    clock.now += 3600.0
    assert admitted(made, ping) == MOST


def test_large_fragments_do_not_save_up(clock: Clock) -> None:
    made = Bucket()
    assert made.admits(CONT, False, 2**20)
    assert admitted(made, Kind(CONT, False, 0)) == 2 * MOST
