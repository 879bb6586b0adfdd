"""What only a network in memory can do: fall silent, be cut for both, say that it is quiet."""

from __future__ import annotations

import pytest

from tests.support import PATIENCE, Recorder, Thread, wait_until
from wse_sync.loop import loop
from wse_sync.transport import memory
from wse_sync.transport.base import LinkLost
from wse_sync.transport.memory import MemoryStream


@pytest.fixture
def ends() -> tuple[MemoryStream, MemoryStream]:
    here, there = memory.pair(capacity=10)
    return here.stream, there.stream


def receiving(stream: MemoryStream) -> Thread[bytes]:
    """Receives in a thread that waits already."""
    thread = Thread(lambda: stream.receive(100))
    wait_until(lambda: stream.is_quiet)
    return thread


def test_an_end_is_quiet_while_somebody_waits_in_vain(
    ends: tuple[MemoryStream, MemoryStream],
) -> None:
    here, there = ends
    assert not here.is_quiet
    reader = receiving(here)
    assert not there.is_quiet
    with here._incoming._changed:  # the reader cannot wake up yet
        there._outgoing._bytes += b"a"
    assert not here.is_quiet
    there.send(b"b")
    assert reader.result() == b"ab"
    assert not here.is_quiet


def test_an_end_that_was_cut_is_not_quiet(ends: tuple[MemoryStream, MemoryStream]) -> None:
    here, there = ends
    reader = receiving(here)
    with here._incoming._changed:
        here._incoming._cut_for_reader = True
    assert not here.is_quiet
    there.abort()
    assert reader.result() == b""


def test_what_goes_in_is_counted_at_both_ends(ends: tuple[MemoryStream, MemoryStream]) -> None:
    here, there = ends
    here.send(b"a")
    there.send(b"b")
    there.send(b"c")
    assert here.puts == there.puts == 3


def test_in_silence_everything_is_taken_and_nothing_arrives(
    ends: tuple[MemoryStream, MemoryStream],
) -> None:
    here, there = ends
    here.send(b"lost, too")
    here.silence()
    for stream in ends:
        assert stream.send(b"x" * 100) == 100
    reader = receiving(there)
    there.abort()
    assert reader.result() == b""


def test_in_silence_one_end_does_not_hear_of_the_end_of_the_other(
    ends: tuple[MemoryStream, MemoryStream],
) -> None:
    here, there = ends
    there.silence()
    reader = receiving(there)
    here.abort()
    with pytest.raises(LinkLost):
        here.send(b"a")
    assert here.receive(100) == b""
    assert there.send(b"a") == 1
    assert there.is_quiet
    there.abort()
    assert reader.result() == b""


def test_to_cut_is_for_both_ends_whatever_the_silence(
    ends: tuple[MemoryStream, MemoryStream],
) -> None:
    here, there = ends
    here.silence()
    reader = receiving(there)
    here.cut()
    assert reader.result() == here.receive(100) == b""
    for stream in ends:
        with pytest.raises(LinkLost):
            stream.send(b"a")


def test_who_waits_for_room_is_told_of_the_cut(ends: tuple[MemoryStream, MemoryStream]) -> None:
    here, there = ends
    assert here.send(b"x" * 20) == 10
    told = Recorder()
    here.watch(loop, lambda: told.add(None))
    there.abort()
    told.wait_for(1)
    here.unwatch(loop)
    loop.rest(PATIENCE)


def test_who_comes_to_wait_for_room_after_the_cut_is_told_at_once(
    ends: tuple[MemoryStream, MemoryStream],
) -> None:
    """The end may come between what was sent last and the wait, from another thread."""
    here, there = ends
    assert here.send(b"x" * 20) == 10
    there.abort()
    told = Recorder()
    here.watch(loop, lambda: told.add(None))
    told.wait_for(1)
    here.unwatch(loop)
    loop.rest(PATIENCE)
