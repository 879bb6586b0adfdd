"""Who opens a WebSocket to which URL, and how it says that there is none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from wse_sync.target import shown
from wse_sync.transport import dialing
from wse_sync.transport.dialed import NetworkDialer
from wse_sync.transport.dialing import DialFailed, find_place, origin_of, refused

HERE = "ws://hub.example/ws"


def make(who: Any) -> NetworkDialer:
    return NetworkDialer()


@pytest.fixture
def place() -> Iterator[None]:
    assert dialing.take_place(HERE, make)
    yield
    dialing.give_back(HERE, make)


@pytest.mark.parametrize(
    "url",
    [
        "ws://hub.example/",
        "ws://hub.example:80/x?y=z",
        "WS://HUB.example/ws",
        "ws://me:pw@hub.example",
    ],
)
def test_urls_of_one_server_lead_to_its_place(place: None, url: str) -> None:
    assert find_place(url) is make


@pytest.mark.parametrize(
    "url", ["wss://hub.example/ws", "ws://hub.example:8080/ws", "ws://other.example/ws"]
)
def test_other_urls_lead_to_the_network(place: None, url: str) -> None:
    assert find_place(url) is None


def test_a_place_is_taken_once_until_it_is_given_back(place: None) -> None:
    def other(who: Any) -> NetworkDialer:
        return NetworkDialer()

    assert dialing.take_place(HERE, make)
    assert not dialing.take_place("ws://hub.example/elsewhere", other)
    dialing.give_back(HERE, other)
    assert find_place(HERE) is make
    dialing.give_back(HERE, make)
    assert dialing.take_place(HERE, other)
    dialing.give_back(HERE, other)
    dialing.give_back(HERE, other)
    assert find_place(HERE) is None


def test_urls_in_memory_lead_nowhere_else() -> None:
    with pytest.raises(DialFailed, match="nothing serves memory://test/ws") as caught:
        find_place("memory://test/ws?token=1")
    assert not caught.value.final


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("ws://a/b", ("ws", "a", 80)),
        ("wss://A/b", ("wss", "a", 443)),
        ("wss://[::1]:8443/", ("wss", "::1", 8443)),
        ("memory://test-1/", ("memory", "test-1", 0)),
    ],
)
def test_an_origin_is_scheme_host_and_port(url: str, origin: tuple[str, str, int]) -> None:
    assert origin_of(url) == origin


@pytest.mark.parametrize(
    ("status", "final"),
    [(200, False), (302, False), (404, True), (408, False), (429, False), (503, False)],
)
def test_a_refusal_says_whether_it_is_final(status: int, final: bool) -> None:
    failure = refused(HERE, status, b"first line\nsecond")
    assert (failure.status, failure.final) == (status, final)
    assert str(failure) == f"{HERE} answered with HTTP status {status}: first line"


def test_what_may_be_secret_is_not_shown() -> None:
    assert shown("wss://me:secret@hub.example:1/ws?token=1") == "wss://hub.example:1/ws"
