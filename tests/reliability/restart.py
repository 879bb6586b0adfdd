"""A server is killed while its clients call, and another one takes its place.

    python -m tests.reliability.restart [--clients 200] [--outage 10]

prints when the clients were back, next to what full jitter has one expect, and how the waits that
they drew are spread.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import Future
from contextlib import ExitStack
from math import comb
from typing import Any, NamedTuple

from benchmarks.processes import Remote
from tests.support import Recorder, accept_all, wait_until
from wse_sync import WSE_STATUS, Backoff, WseClient, WseError, WseServer

__all__ = ["Restarted", "most_likely", "restart", "spread"]

# Not 127.0.0.1, from which the clients come: while nobody listens there, a client could be given
# the port of the server for its own end, and be connected to itself.
HOST = "127.0.0.2"
PATIENCE = 60.0  # s; only bounds a failure


class Waited(NamedTuple):
    """A wait that a client drew.

    Attributes:
        moment: When, by the clock that all processes share.
        attempt: The number of the attempt that it is before; 0 is the first.
        delay: In seconds.
    """

    moment: float
    attempt: int
    delay: float


class Noted(Backoff):
    """A backoff that notes what was drawn."""

    def __init__(self, backoff: Backoff) -> None:
        super().__init__(backoff.initial, backoff.factor, backoff.maximum)
        self.drawn: list[Waited]
        object.__setattr__(self, "drawn", [])  # the base class is frozen

    def delay(self, attempt: int) -> float:
        wait = super().delay(attempt)
        self.drawn.append(Waited(time.monotonic(), attempt, wait))
        return wait


class Served:
    """A server in a process of its own, for so many clients of one address."""

    def __init__(self, clients: int, port: int = 0) -> None:
        self._server = WseServer(
            accept_all,
            host=HOST,
            port=port,
            auth_timeout=None,
            max_unauthenticated=clients,
            max_unauthenticated_per_address=clients,
        )
        self._server.register("echo", lambda conn, payload: payload)
        self._server.start()
        #: Since when it listens, by the clock that all processes share.
        self._up = time.monotonic()

    def up(self) -> float:
        return self._up

    def port(self) -> int | None:
        return self._server.port

    def users(self) -> int:
        return len(self._server.clients)

    def close(self) -> None:
        self._server.close()


class Device:
    """A client and what it noted."""

    def __init__(self, name: str, url: str, backoff: Backoff) -> None:
        self.backoff = Noted(backoff)
        self.attempts: list[float] = []
        self.ready: list[float] = []
        self.lost = Recorder()
        self._name = name
        # No attempt that finds a server is given up, however slow the machine is.
        self.client = WseClient(
            url,
            reconnect=True,
            backoff=self.backoff,
            connect_timeout=PATIENCE,
            call_timeout=None,
        )
        self.client.when.ready(lambda welcome: self.ready.append(time.monotonic()))
        self.client.when.error(lambda error: self.lost.add(error.details.get("messages")))
        self.client.connect(self._identity)
        self.open: Future[Any] | None = None

    def _identity(self) -> str:
        self.attempts.append(time.monotonic())
        return self._name

    def speak(self) -> None:
        """Sends what the server will have read, if anything, and not handled."""
        self.client.send("reading", 1)
        self.open = self.client.submit("echo", 1)

    def fate(self) -> tuple[str, Any]:
        """How the open call ended, and what the client knows of its message."""
        assert self.open is not None
        error = self.open.exception(PATIENCE)
        assert isinstance(error, WseError)
        return error.code, self.lost.wait_for(1)


class Devices:
    """Many clients, in a process of their own.

    Args:
        url: Of the server.
        count: How many.
        backoff: Theirs.
    """

    def __init__(self, url: str, count: int, backoff: Backoff) -> None:
        self._devices = [Device(f"device {k}", url, backoff) for k in range(count)]

    def speak(self) -> None:
        """Each sends a message and makes a call."""
        for device in self._devices:
            device.speak()

    def wait_until_failed(self, attempts: int) -> None:
        """Waits until each has failed so often to connect again."""
        wait_until(
            lambda: all(len(device.backoff.drawn) > attempts for device in self._devices),
            "attempts",
            PATIENCE,
        )

    def wait_until_back(self) -> None:
        """Waits until all are welcome again."""
        wait_until(
            lambda: all(len(device.ready) == 2 for device in self._devices), "all back", PATIENCE
        )

    def fates(self) -> Counter[str]:
        """What became of the calls and messages of before, and how often."""
        return Counter(repr(device.fate()) for device in self._devices)

    def echo(self) -> int:
        """How many get an answer now."""
        answers = [
            device.client.call("echo", number) for number, device in enumerate(self._devices)
        ]
        assert all(device.client.status == WSE_STATUS.READY for device in self._devices)
        return sum(answer == number for number, answer in enumerate(answers))

    def drawn(self) -> list[list[Waited]]:
        """The waits of each."""
        return [device.backoff.drawn for device in self._devices]

    def attempts(self) -> list[list[float]]:
        """When each dialed; the first time was before all this."""
        return [device.attempts for device in self._devices]

    def back(self) -> list[float]:
        """When each was welcome again."""
        return [device.ready[1] for device in self._devices]

    def close(self) -> None:
        """All leave."""
        for device in self._devices:
            device.client.disconnect()


class Restarted(NamedTuple):
    """What was seen.

    Attributes:
        killed: When the server was killed, by the clock that all processes share.
        up: When the next one listened.
        drawn, attempts, back, fates: See Devices.
        echoed: How many clients got an answer of the new server.
        users: How many the new server knows.
    """

    killed: float
    up: float
    drawn: list[list[Waited]]
    attempts: list[list[float]]
    back: list[float]
    fates: Counter[str]
    echoed: int
    users: int


def restart(clients: int, backoff: Backoff, outage: float, failures: int = 0) -> Restarted:
    """Kills a server and starts another one.

    Args:
        clients: How many there are.
        backoff: Theirs.
        outage: Seconds from the one to the other, at least.
        failures: Nor does it end before each client has failed so often to connect.
    """
    with ExitStack() as stack:
        first = stack.enter_context(Remote(Served, clients))
        first.ready()
        port = first.do("port")
        devices = stack.enter_context(Remote(Devices, f"ws://{HOST}:{port}/", clients, backoff))
        devices.ready()
        assert first.pid is not None
        # It is killed with everything unread, so that what must become of that is known.
        os.kill(first.pid, signal.SIGSTOP)
        devices.do("speak")
        first.kill()
        killed = time.monotonic()
        time.sleep(outage)
        devices.do("wait_until_failed", failures)
        second = stack.enter_context(Remote(Served, clients, port))
        second.ready()
        up = second.do("up")
        devices.do("wait_until_back")
        seen = Restarted(
            killed,
            up,
            drawn=devices.do("drawn"),
            attempts=devices.do("attempts"),
            back=devices.do("back"),
            fates=devices.do("fates"),
            echoed=devices.do("echo"),
            users=second.do("users"),
        )
        devices.do("close")
        second.do("close")
    return seen


def in_tenths(values: Iterable[float], end: float) -> list[int]:
    """How many are in each tenth of the range from 0; those out of it count at its ends."""
    found = Counter(max(0, min(9, int(10 * value / end))) for value in values)
    return [found[tenth] for tenth in range(10)]


def spread(drawn: list[list[Waited]], backoff: Backoff) -> list[int]:
    """How many waits are in each tenth of what they were drawn from."""
    shares = (wait.delay / backoff.ceiling(wait.attempt) for waits in drawn for wait in waits)
    return in_tenths(shares, 1.0)


def most_likely(count: int, share: float, doubt: float) -> int:
    """The most of so many that fall into a share of the range, but for this probability."""
    tail, most = 1.0, -1
    while tail > doubt:
        most += 1
        tail -= comb(count, most) * share**most * (1 - share) ** (count - most)
    return most


def expected(backoff: Backoff, outage: float, rounds: int = 20_000) -> list[float]:
    """How long after an outage clients are back that draw from this backoff, as a sample."""
    found = []
    for _ in range(rounds):
        moment, attempt = 0.0, 0
        while moment <= outage:
            moment += backoff.delay(attempt)
            attempt += 1
        found.append(moment - outage)
    return found


def histogram(back: list[float], likely: list[float]) -> list[str]:
    """The lines of a table: how many were back when, and how many that should be."""
    part = max(back) / 10
    lines = [f"{'seconds after the restart':28} back  expected"]
    counted = zip(in_tenths(back, max(back)), in_tenths(likely, max(back)))
    for number, (there, sample) in enumerate(counted):
        due = sample / len(likely) * len(back)
        times = f"{number * part:6.1f} to {(number + 1) * part:4.1f}"
        lines.append(f"{times} {there:19} {due:9.1f}  {'#' * there}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.reliability.restart")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--outage", type=float, default=10.0, help="in seconds")
    asked = parser.parse_args()
    backoff = Backoff()
    seen = restart(asked.clients, backoff, asked.outage)
    outage = seen.up - seen.killed
    back = [moment - seen.up for moment in seen.back]
    lines = [f"{backoff}, outage {outage:.1f} s, the last one back after {max(back):.1f} s"]
    lines += histogram(back, expected(backoff, outage))
    drawn = spread(seen.drawn, backoff)
    lines.append(f"waits in each tenth of their range: {drawn}")
    lines.append(f"calls and messages of before: {seen.fates}")
    lines.append(f"{seen.echoed} clients got an answer, {seen.users} users are there")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
