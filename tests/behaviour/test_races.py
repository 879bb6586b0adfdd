"""Races that were lost once, each forced by a test that stops a thread in the wrong moment."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest

from tests.conftest import MakeClient, MakeServer
from tests.faults import FaultProxy
from tests.support import Recorder, Thread, wait_event, wait_until
from wse_sync import WSE_STATUS, Backoff, JsonProtocol, WseServer

SLOW = Backoff(0.5, 1.0, 0.5)


class SlowToBeWelcomed(JsonProtocol):
    """Stops in the welcome, once it is asked to."""

    def __init__(self) -> None:
        self.armed = False
        self.inside = threading.Event()
        self.go_on = threading.Event()

    def unpack(self, data: str | bytes) -> Any:
        frame = super().unpack(data)
        if frame.type == "~wse:welcome" and self.armed:
            self.armed = False
            self.inside.set()
            wait_event(self.go_on)
        return frame


def test_33_what_waits_is_not_lost_when_the_jump_comes_with_the_welcome(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    """The verdict of the link falls while its welcome is being read."""
    here, there = make_server(), make_server()
    arrived = Recorder()
    there.channel.on("number", lambda conn, payload: arrived.add(payload))
    closed = Recorder()
    protocol = SlowToBeWelcomed()
    with FaultProxy(here.url) as proxy:
        client = make_client(proxy.url, reconnect=True, backoff=SLOW, protocol=protocol)
        client.when.closed(closed)
        client.connect("ann")
        protocol.armed = True
        proxy.cut()
        wait_until(lambda: client.status == WSE_STATUS.RE_CONNECTING, lambda: client.status)
        client.send("number", 1)
        client.send("number", 2)
        wait_event(protocol.inside)
        jumping = Thread(lambda: client.jump(there.url))
        wait_until(lambda: closed.items[1:] == [(4000, "jump")], lambda: closed.items)
        protocol.go_on.set()
        jumping.result()
        assert arrived.wait_for(2) == [1, 2]


def test_45_a_server_that_starts_again_listens_again(make_server: MakeServer) -> None:
    server = make_server()
    server.close()
    server.start()
    with server.channel.listen() as inbox:
        assert "open" in repr(inbox)
    with pytest.raises(TimeoutError):
        server.channel.wait("news", timeout=0.0)


def test_45_strangers_get_a_bounded_number_of_threads(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server(max_connections=5)
    strangers: list[socket.socket] = []
    try:
        for _ in range(200):
            strangers.append(socket.create_connection(address_of(server)))
        wait_until(lambda: "turned away" in caplog.text, lambda: caplog.text)
        assert readers() <= 2 * 5 + 100
        assert caplog.text.count("turned away") == 1
    finally:
        for stranger in strangers:
            stranger.close()
    wait_until(lambda: readers() == 0, lambda: readers())


def address_of(server: WseServer) -> tuple[str, int]:
    assert server.port is not None
    return server.host, server.port


def readers() -> int:
    return sum(thread.name.startswith("wse-reader") for thread in threading.enumerate())
