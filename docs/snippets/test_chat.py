"""Tests of chat.py, for pytest."""
# mypy: disable-error-code=import-not-found

from collections.abc import Iterator

import chat
import pytest

from wse_sync import WsePermissionError
from wse_sync.testing import TestServer


@pytest.fixture
def room() -> Iterator[TestServer]:
    with TestServer(chat.server) as test:
        yield test


def test_who_comes_in_is_told_who_is_there(room: TestServer) -> None:
    room.connect("ann")
    assert room.client().connect("bob") == ["ann"]


def test_nobody_comes_in_without_a_name(room: TestServer) -> None:
    with pytest.raises(WsePermissionError):
        room.connect("")


def test_everybody_hears_what_is_said(room: TestServer) -> None:
    ann, bob = room.connect("ann"), room.connect("bob")
    heard: list[str] = []
    bob.channel.on("said", heard.append)
    ann.send("say", "hello")
    room.settle()
    assert heard == ["ann: hello"]


def test_a_lost_link_loses_no_words(room: TestServer) -> None:
    ann = room.connect("ann", reconnect=True)
    bob = room.connect("bob")
    heard: list[str] = []
    bob.channel.on("said", heard.append)
    with room.unreachable():
        room.cut(ann)
        ann.send("say", "am I still here?")
        room.advance(10.0)
        assert heard == []
    room.advance(30.0)  # the longest pause before a client dials again
    assert heard == ["ann: am I still here?"]


def test_who_stays_away_for_too_long_has_left(room: TestServer) -> None:
    ann, bob = room.connect("ann", reconnect=True), room.connect("bob")
    gone: list[str] = []
    bob.channel.on("left", gone.append)
    with room.unreachable():
        room.cut(ann)
        room.advance(30.0)  # half of resume_window
        assert gone == []
        room.advance(60.0)
        assert gone == ["ann"]


def test_a_dead_network_is_noticed(room: TestServer) -> None:
    ann, bob = room.connect("ann"), room.connect("bob")
    gone: list[str] = []
    bob.channel.on("left", gone.append)
    room.silence(ann)
    room.advance(60.0)  # 20 s until the ping, 20 s for its answer, and more
    assert gone == ["ann"]
