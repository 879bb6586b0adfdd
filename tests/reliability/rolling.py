"""One server after the other takes the place of the one before, while clients call all the time.

    python -m tests.reliability.rolling [--restarts 100] [--clients 8]

Each server is a process, which is ended by SIGTERM when the next one listens. It writes a line for
each procedure that it begins. A call was answered, or it failed with RP_DISCONNECT and its
procedure never began.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.faults import FaultProxy
from tests.programs import Program
from tests.support import QUICK, Thread, wait_until
from wse_sync import WSE_ERROR, WseClient, WseError

__all__ = ["Rolled", "roll"]

THREADS = 2  # of each client
ANSWERS = 20  # that each thread gets between two restarts, on average
PATIENCE = 60.0  # s; only bounds a failure
SERVER = """
import os
import random
import sys
import time

from wse_sync import WseServer

begun = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)
server = WseServer(lambda auth: auth.accept(auth.identity), port=0)


@server.register("work")
def work(conn, name):
    os.write(begun, f"{name}\\n".encode())
    time.sleep(random.choice([0.0, 0.0, 0.01, 0.1]))
    return name


print(server.start().url)
server.serve_forever()
"""


class Rolled(NamedTuple):
    """What came of it.

    Attributes:
        answered: The names of the calls that returned.
        failed: Of those that failed.
        begun: How often a procedure was begun, by the name of its call.
        seconds: How long it took.
    """

    answered: list[str]
    failed: list[str]
    begun: Counter[str]
    seconds: float


class Caller:
    """A thread that calls all the time."""

    def __init__(self, name: str, client: WseClient, stop: threading.Event) -> None:
        self.answered: list[str] = []
        self.failed: list[str] = []
        self._name = name
        self._client = client
        self._stop = stop
        self.thread = Thread(self._call_all_the_time)

    def _call_all_the_time(self) -> None:
        while not self._stop.is_set():
            name = f"{self._name} {len(self.answered) + len(self.failed)}"
            try:
                assert self._client.call("work", name, timeout=None) == name
                self.answered.append(name)
            except WseError as error:
                assert error.code == WSE_ERROR.RP_DISCONNECT, error
                self.failed.append(name)


def roll(restarts: int, clients: int, directory: Path) -> Rolled:
    """Replaces the server so many times.

    Args:
        restarts: How many.
        clients: How many, each with two threads that call.
        directory: For the file that the servers write.
    """
    begun, stop, since = directory / "begun", threading.Event(), time.monotonic()
    begun.touch()
    with ExitStack() as stack:
        server = stack.enter_context(Program(SERVER, str(begun)))
        proxy = stack.enter_context(FaultProxy(server.line()))
        made = [WseClient(proxy.url, reconnect=True, backoff=QUICK) for _ in range(clients)]
        for number, client in enumerate(made):
            stack.callback(client.disconnect)
            client.connect(f"client {number}")
        callers = [
            Caller(f"{number}.{thread}", client, stop)
            for number, client in enumerate(made)
            for thread in range(THREADS)
        ]
        # First of all at the end, whatever happened: they would go on.
        stack.callback(stop.set)
        for number in range(1, restarts + 1):
            due = number * ANSWERS * len(callers)
            wait_until(partial(_have, callers, due), "answers", PATIENCE)
            following = stack.enter_context(Program(SERVER, str(begun)))
            proxy.target = following.line()
            server.terminate()
            status, _, errors = server.end()
            assert (status, errors) == (0, [])
            server = following
        stop.set()
        for caller in callers:
            caller.thread.result(PATIENCE)
    return Rolled(
        [name for caller in callers for name in caller.answered],
        [name for caller in callers for name in caller.failed],
        Counter(begun.read_text().splitlines()),
        time.monotonic() - since,
    )


def _have(callers: list[Caller], due: int) -> bool:
    """Whether there are so many answers; an error of a thread ends it at once."""
    for caller in callers:
        if not caller.thread.is_alive():
            caller.thread.result()
    return sum(len(caller.answered) for caller in callers) >= due


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.reliability.rolling")
    parser.add_argument("--restarts", type=int, default=100)
    parser.add_argument("--clients", type=int, default=8)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        rolled = roll(asked.restarts, asked.clients, Path(directory))
    lost = set(rolled.begun) - set(rolled.answered)
    sys.stdout.write(
        f"{asked.restarts} restarts in {rolled.seconds:.0f} s: {len(rolled.answered)} calls were "
        f"answered, {len(rolled.failed)} failed; {len(lost)} of these had begun, "
        f"{sum(rolled.begun.values()) - len(rolled.begun)} began twice\n"
    )


if __name__ == "__main__":
    main()
