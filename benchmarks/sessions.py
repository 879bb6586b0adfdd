"""What a session costs: the same traffic of a client that has one, and of others that do not."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from statistics import mean
from time import perf_counter

from wse_sync import WseClient

from .measure import heading, interleave, show
from .servers import ServerProcess

__all__ = ["cost"]

_CALLS, _MESSAGES = 200, 1000  # in a block
_PAYLOAD = {"a": 10**13 + 1, "b": 10**14 + 2}


def cost(quick: bool) -> None:
    """Calls and messages with a session, by those without."""
    heading("6. what a session costs: time with it / without")
    rounds = 40 if quick else 200
    with ServerProcess() as server, ExitStack() as stack:
        # Two without: the ratio of these two shows how far chance alone goes.
        clients = {
            name: stack.enter_context(WseClient(server.urls["wse"], reconnect=name == "session"))
            for name in ("session", "none", "none, too")
        }
        for name, client in clients.items():
            client.connect(name)
        for what, run in (("calls", _call), ("messages", _send)):
            blocks = {name: partial(run, client) for name, client in clients.items()}
            _show(what, interleave(blocks, rounds))


def _show(what: str, results: list[dict[str, float]]) -> None:
    plain = [mean((result["none"], result["none, too"])) for result in results]
    ratios = [result["session"] / without for result, without in zip(results, plain)]
    show(f"time of {what} with a session / without", ratios, at_most=1.02)
    show("by chance", [result["none, too"] / result["none"] for result in results])


def _timed(run: Callable[[], object]) -> float:
    start = perf_counter()
    run()
    return perf_counter() - start


def _call(client: WseClient) -> float:
    return _timed(lambda: [client.call("add", _PAYLOAD) for _ in range(_CALLS)])


def _send(client: WseClient) -> float:
    """Until the server has handled them all: a call waits for the messages before it."""

    def run() -> None:
        for _ in range(_MESSAGES):
            client.send("reading", _PAYLOAD)
        client.call("add", _PAYLOAD)

    return _timed(run)
