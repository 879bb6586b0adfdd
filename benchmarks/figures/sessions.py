"""What a session costs: the same traffic of a client that has one, and of others that do not."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from statistics import fmean
from time import perf_counter

from ..contestants import OURS, Entrant, serve
from ..contestants.ours import WseSync
from ..measure import Effort, Figure, Finding, Spread, WrongResult, interleave, ratios
from ..processes import Remote
from .callers import make_payload, timed_add

__all__ = ["sessions"]

_CALLS, _MESSAGES = 200, 1000  # in a block
_SESSION, _NONE, _NONE_TOO = "session", "none", "none, too"


def sessions(effort: Effort) -> Figure:
    """Calls and messages with a session, by those without."""
    figure = Figure("sessions", "What a session costs")
    with ExitStack() as stack:
        server = stack.enter_context(Remote(serve, OURS))
        server.ready()
        entrants = {}
        # Two without: the ratio of these two shows how far chance alone goes.
        for name in (_SESSION, _NONE, _NONE_TOO):
            client = WseSync().connect(server.do("where"), reconnect=name == _SESSION)
            stack.callback(client.close)
            entrants[name] = Entrant(server, client)
        for what, run in (("calls", _call), ("messages", _send)):
            blocks = {name: partial(run, entrant) for name, entrant in entrants.items()}
            figure.findings += _findings(what, interleave(blocks, effort.seconds(3.0, 30.0)))
    return figure


def _findings(what: str, rounds: list[dict[str, float]]) -> list[Finding]:
    means = [{**row, "mean": fmean((row[_NONE], row[_NONE_TOO]))} for row in rounds]
    found = Spread.of(ratios(means, _SESSION, "mean"))
    chance = Spread.of(ratios(rounds, _NONE_TOO, _NONE))
    return [
        Finding(f"time of {what} with a session / without", found),
        Finding("… none / none, by chance", chance),
    ]


def _call(entrant: Entrant) -> float:
    return sum([timed_add(entrant, make_payload()) for _ in range(_CALLS)])


def _send(entrant: Entrant) -> float:
    """Until the server has handled them all."""
    payloads = [make_payload() for _ in range(_MESSAGES)]
    send: Callable[[dict[str, int]], None] = entrant.client.send
    start = perf_counter()
    for payload in payloads:
        send(payload)
    noted = entrant.client.noted(_MESSAGES)
    seconds = perf_counter() - start
    if noted != [_MESSAGES, sum(payload["first"] for payload in payloads)]:
        raise WrongResult(f"of {_MESSAGES} messages the server noted {noted}")
    return seconds
