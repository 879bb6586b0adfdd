"""A thousand strangers who are slow keep nobody out, and leave nothing behind."""

from __future__ import annotations

import socket
import threading

import pytest

from tests.conftest import Connect, MakeServer
from tests.reliability.strangers import FEW, WAYS, Siege, besiege
from tests.support import wait_until
from wse_sync import WseServer

STRANGERS = 300
"""Of 1,000 in full. What is scarce in the second test are threads, not what the machine has."""

every_way = pytest.mark.parametrize("way", WAYS)


@every_way
def test_44_a_client_gets_in_and_calls_while_strangers_are_slow(way: str) -> None:
    seen = besiege(WAYS[way], STRANGERS, logins=3)
    assert len(seen.logins) == 3


@every_way
def test_44_it_does_so_when_there_are_fewer_threads_than_strangers(way: str) -> None:
    seen = besiege(WAYS[way], STRANGERS, logins=3, **FEW)
    assert len(seen.logins) == 3
    assert seen.refused > 0


def test_44_whoever_has_been_slow_for_the_longest_goes_first(make_server: MakeServer) -> None:
    server = make_server(max_connections=1)  # so up to 102 threads, and 52 before any has to go
    assert server.port is not None
    slow: list[socket.socket] = []
    try:
        for _ in range(53):
            slow.append(socket.create_connection(("127.0.0.1", server.port), 10.0))
        assert slow[0].recv(1) == b""
        slow[1].settimeout(0.05)
        with pytest.raises(socket.timeout):  # TimeoutError since Python 3.10
            slow[1].recv(1)
    finally:
        for sock in slow:
            sock.close()
    wait_until(lambda: not readers())


def test_44_who_is_in_is_not_pushed_out(make_server: MakeServer, connect: Connect) -> None:
    server: WseServer = make_server(max_connections=10)
    server.register("echo", lambda conn, payload: payload)
    clients = [connect(server, f"user-{number}") for number in range(5)]
    assert server.port is not None
    with Siege(server.port, WAYS["slow headers"], STRANGERS) as siege:
        siege.complete.wait(10.0)
        for number, client in enumerate(clients):
            assert client.call("echo", number) == number
    assert len(server.clients) == 5


def readers() -> list[str]:
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.startswith("wse-reader")]
