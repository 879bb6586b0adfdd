"""What it costs to count for stats(): the same traffic, counted and not, in short blocks by turns.

    python -m tests.counting [SECONDS [KIND …]]

prints for each kind of traffic the CPU time of processes that count by that of others that do not:
the median of all rounds, and between which values the middle half of them lies. Both ends are in
one process, so it is the cost of both. There are several processes of each sort, since no two are
equally quick. Where nothing is counted, an empty step is made and the clock is read all the same;
what these take is in the last lines.
"""

from __future__ import annotations

import sys
import timeit
from contextlib import ExitStack
from functools import partial
from statistics import fmean
from threading import Event
from time import process_time
from typing import Any, Callable

from benchmarks.measure import Spread, interleave, ratios
from benchmarks.processes import Remote
from tests.support import accept_all, connection_of, wait_event
from wse_sync import WseClient, WseServer, clock, endpoint
from wse_sync.tally import Tally

SECONDS = 60.0  # for each kind
KINDS = ("call", "send", "push", "broadcast")
COPIES = 4  # processes of each sort
CROWD = 20


class Silent(Tally):
    """Counts nothing, in one step for each that would."""

    __slots__ = ()
    serve: Any = staticmethod({}.get)
    make: Any = staticmethod({}.get)
    send_to_many: Any = staticmethod(id)


class Traffic:
    """A server and its clients, in a process of their own.

    Args:
        counted: Whether they count.
    """

    def __init__(self, counted: bool) -> None:
        if not counted:
            vars(endpoint)["Tally"] = Silent
        self._handled = Event()
        self._server = WseServer(accept_all, port=0).start()
        self._server.register("add", lambda conn, numbers: sum(numbers))
        self._server.channel.on("last", lambda conn, payload: self._handled.set())
        self._client = self._connect(1)
        self._client.channel.on("last", lambda payload: self._handled.set())
        self._crowd = [self._connect(2 + number) for number in range(CROWD - 1)]

    def _connect(self, cid: int) -> WseClient:
        client = WseClient(self._server.url, reconnect=True)
        client.connect(cid)
        return client

    def measure(self, kind: str) -> float:
        """The CPU time of a block."""
        start = process_time()
        getattr(self, kind)()
        return process_time() - start

    def call(self) -> None:
        for number in range(50):
            assert self._client.call("add", [number, 1]) == number + 1

    def send(self) -> None:
        self._send_all(self._client.send)

    def push(self) -> None:
        self._send_all(connection_of(self._server, 1).send)

    def _send_all(self, send: Callable[[str, int], None]) -> None:
        """Until all are handled."""
        self._handled.clear()
        for number in range(100):
            send("note", number)
        send("last", 100)
        wait_event(self._handled)

    def broadcast(self) -> None:
        for _ in range(5):
            assert self._server.broadcast("news", "hello") == CROWD


def compare(remotes: dict[str, Remote], kind: str, seconds: float) -> tuple[Spread, Spread]:
    """Counted by not counted; and halves of those that are not, whose ratio is chance."""
    blocks = {name: partial(remote.do, "measure", kind) for name, remote in remotes.items()}
    rounds: list[dict[str, float]] = interleave(blocks, seconds)
    means = [
        {
            "counted": fmean(row[f"counted {n}"] for n in range(COPIES)),
            "not": fmean(row[f"not {n}"] for n in range(COPIES)),
            "even": fmean(row[f"not {n}"] for n in range(0, COPIES, 2)),
            "odd": fmean(row[f"not {n}"] for n in range(1, COPIES, 2)),
        }
        for row in rounds
    ]
    return Spread.of(ratios(means, "counted", "not")), Spread.of(ratios(means, "even", "odd"))


def main(seconds: float, kinds: tuple[str, ...]) -> None:
    with ExitStack() as stack:
        remotes = {
            f"{name} {number}": stack.enter_context(Remote(Traffic, name == "counted"))
            for name in ("counted", "not")
            for number in range(COPIES)
        }
        for remote in remotes.values():
            remote.ready()
        for kind in kinds:
            found, chance = compare(remotes, kind, seconds)
            tell(f"{kind}: counted / not", *shown(found))
            tell("… not / not, by chance", *shown(chance))
    tally = Tally()
    for what, step in {
        "a call served": lambda: tally.serve("add", 0.001),
        "a call made": lambda: tally.make("add", 0.001),
        "a message": tally.send,
        "a reading of the clock": clock.monotonic,
    }.items():
        least = min(timeit.repeat(step, number=10_000, repeat=20)) / 10_000
        tell(what, f"{least * 1e9:.0f} ns")


def shown(spread: Spread) -> tuple[str, str]:
    return (
        f"{spread.median:.3f}",
        f"({spread.low:.3f} to {spread.high:.3f}, {spread.rounds} rounds)",
    )


def tell(what: str, *values: str) -> None:
    sys.stdout.write(f"{what:<27} {' '.join(values)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS, tuple(sys.argv[2:]) or KINDS)
