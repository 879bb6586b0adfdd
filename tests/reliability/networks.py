"""A server and a client with a bad network between them.

    python -m tests.reliability.networks [--turns 100]

has both talk through each kind of weather, and prints what that took.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar

from tests.reliability.weather import CLEAR, WEATHERS, Weather, WeatherProxy
from tests.reliability.wire import Wire
from tests.support import (
    QUICK,
    Recorder,
    Thread,
    accept_all,
    connection_of,
    pass_time,
    story,
    wait_until,
)
from tests.talkers import PATIENCE, Book, Talker
from wse_sync import WSE_STATUS, WseClient, WseServer

__all__ = ["HEARTBEAT", "NETWORKS", "Network", "Pair", "ProxyNetwork", "Talked", "WireNetwork"]

T = TypeVar("T")

HEARTBEAT = 20.0  # s, the interval and the timeout
SIZES: tuple[int, ...] = (40, 2_000, 20_000)
SLOW = 10_000.0  # bytes a second; below it, fewer and shorter messages


class Network(Protocol):
    """Between a server and a client."""

    #: Where the server listens.
    host: str

    def serve(self, server: WseServer) -> str:
        """Starts the server; returns the URL for the client."""

    def near(self, function: Callable[[], T]) -> T:
        """Runs it where the client is."""

    def become(self, weather: Weather) -> None:
        """Changes the weather."""

    def silence(self, *, to_server: bool = True, to_client: bool = True) -> None:
        """Nothing comes through any more in these directions; nobody is told."""

    def calm(self) -> None:
        """Everything comes through again."""

    def move(self) -> str:
        """Gives the client another address, which is returned. Its old one is nobody's now."""

    def close(self) -> None:
        """Ends it."""


class WireNetwork:
    """Two hosts, and packets between them.

    Raises:
        OSError: The machine does not allow it.
    """

    host = "10.9.0.2"

    def __init__(self, seed: object) -> None:
        self.wire = Wire("10.9.0.1", self.host, seed)

    def serve(self, server: WseServer) -> str:
        return self.wire.far.run(server.start).url

    def near(self, function: Callable[[], T]) -> T:
        return self.wire.near.run(function)

    def become(self, weather: Weather) -> None:
        self.wire.weather = weather

    def silence(self, *, to_server: bool = True, to_client: bool = True) -> None:
        self.wire.silence(there=to_server, back=to_client)

    def calm(self) -> None:
        self.wire.silence(there=False, back=False)

    def move(self) -> str:
        self.wire.near.move("10.9.0.3")
        return "10.9.0.3"

    def close(self) -> None:
        self.wire.close()


class ProxyNetwork:
    """A stream that is forwarded: works on every machine."""

    host = "127.0.0.1"

    def __init__(self, seed: object) -> None:
        self._seed = seed
        self._proxy: WeatherProxy

    def serve(self, server: WseServer) -> str:
        self._proxy = WeatherProxy(server.start().url, self._seed)
        return self._proxy.url

    def near(self, function: Callable[[], T]) -> T:
        return function()

    def become(self, weather: Weather) -> None:
        self._proxy.weather = weather

    def silence(self, *, to_server: bool = True, to_client: bool = True) -> None:
        self._proxy.refuse()  # new links would not be silent
        self._proxy.stall(to_server=to_server, to_client=to_client)

    def calm(self) -> None:
        self._proxy.resume()
        self._proxy.admit()

    def move(self) -> str:
        self._proxy.stall()
        self._proxy.source = "127.0.0.3"
        return "127.0.0.3"

    def close(self) -> None:
        self._proxy.close()


NETWORKS: dict[str, Callable[[object], Network]] = {"wire": WireNetwork, "proxy": ProxyNetwork}


class Pair:
    """A server and a client that reconnects, connected through a network.

    Args:
        network: Between them.
        weather: From the first packet on.
    """

    def __init__(self, network: Network, weather: Weather = CLEAR) -> None:
        options: dict[str, Any] = {
            "call_timeout": None,
            "ping_interval": HEARTBEAT,
            "ping_timeout": HEARTBEAT,
        }
        self.network = network
        self.weather = weather
        self.server = WseServer(
            accept_all,
            host=network.host,
            port=0,
            auth_timeout=None,
            # Longer than all the time that a test lets pass.
            resume_window=1e6,
            **options,
        )
        self.story = story(self.server)
        self.wrong = Recorder()
        self.server.when.error(lambda error, conn: self.wrong.add(error))
        url = network.serve(self.server)
        network.become(weather)
        self.client = WseClient(url, reconnect=True, backoff=QUICK, **options)
        self.client.when.error(self.wrong.add)
        network.near(lambda: self.client.connect("ann"))
        self.conn = connection_of(self.server)

    def __enter__(self) -> Pair:
        return self

    def __exit__(self, *_: object) -> None:
        self.network.become(CLEAR)
        self.network.calm()
        self.client.disconnect()
        self.server.close()

    @property
    def is_lost(self) -> bool:
        """Whether both ends know that there is no link, or not that one."""
        return self.story.items[-1] == "suspended" and self.client.status != WSE_STATUS.READY

    def lose(self) -> None:
        """Has the link go silent, and waits until both ends have noticed."""
        self.network.silence()

        def notice() -> bool:
            pass_time(HEARTBEAT)
            return self.is_lost

        wait_until(notice, self.client)

    def wait_until_back(self) -> None:
        """Waits until the session goes on. The server may not have noticed that it did not."""
        self.story.wait_until(lambda items: items[-1] == "resumed", PATIENCE)
        wait_until(lambda: self.client.status == WSE_STATUS.READY, self.client, PATIENCE)


class Talked(NamedTuple):
    """What it took.

    Attributes:
        messages: How many, both ways.
        calls: Likewise.
        seconds: For all of them.
    """

    messages: int
    calls: int
    seconds: float


def talk(pair: Pair, turns: int, seed: object) -> Talked:
    """Both ends talk, and the link is lost in the middle of it; raises if an invariant is violated.

    Args:
        pair: Who talks.
        turns: Of each: some messages and a call. On a slow network it is half of them, all short.
        seed: Of what they say.
    """
    sizes = SIZES
    if pair.weather.rate < SLOW:
        turns, sizes = turns // 2, SIZES[:1]
    begun = time.monotonic()
    up, down = Book(), Book()
    pair.server.channel.on("message", lambda conn, payload: up.message(payload))
    pair.server.register("work", lambda conn, payload: up.work(payload))
    pair.client.channel.on("message", down.message)
    pair.client.register("work", down.work)
    talkers = [Talker("up", pair.client, seed, sizes), Talker("down", pair.conn, seed, sizes)]
    half = threading.Barrier(3)

    def run(talker: Talker) -> None:
        for turn in range(turns):
            talker.turn()
            if turn == turns // 2:
                half.wait(PATIENCE)
        talker.check()

    threads = [Thread(partial(run, talker)) for talker in talkers]
    half.wait(PATIENCE)
    pair.lose()
    pair.network.calm()
    for thread in threads:
        thread.result(PATIENCE)
    pair.wait_until_back()
    heard = [up.close("up"), down.close("down")]
    assert heard == [talker.sent for talker in talkers]
    assert up.faults + down.faults + pair.wrong.items == []
    messages, calls = (sum(numbers) for numbers in zip(*heard))
    return Talked(messages, calls, time.monotonic() - begun)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.reliability.networks")
    parser.add_argument("--turns", type=int, default=100)
    asked = parser.parse_args()
    seed = os.getpid()
    for name, weather in {"clear": CLEAR, **WEATHERS}.items():
        with ExitStack() as stack:
            network = WireNetwork(seed)
            stack.callback(network.close)
            pair = stack.enter_context(Pair(network, weather))
            talked = talk(pair, asked.turns, seed)
            wire = network.wire
            sys.stdout.write(
                f"{name}: {talked.messages} messages, {talked.calls} calls, "
                f"{talked.seconds:.1f} s, {wire.packets} packets, {wire.lost} lost, "
                f"{wire.overtaken} overtaken\n"
            )
            sys.stdout.flush()


if __name__ == "__main__":
    main()
