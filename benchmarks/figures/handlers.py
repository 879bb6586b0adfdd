"""Handlers that call back, and handlers that sleep."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from statistics import median
from time import perf_counter

from ..contestants import (
    ECHO,
    FLASK,
    FUTURES,
    OURS,
    RPYC,
    SOCKETIO,
    WEBSOCKETS,
    WEBSOCKETS_FUTURES,
    XMLRPC,
    Entrant,
    arena,
)
from ..measure import Effort, Figure, Finding, Measure, WrongResult, interleave
from .callers import make_payload, make_payload_text, timed_add, timed_echo

__all__ = ["behind", "nested"]

_CALLS = 100  # in a block
_NAP = 0.1  # s
_MICRO, _MILLI = 1e6, 1e3


def nested(effort: Effort) -> Figure:
    """Handlers that call the other side before they answer."""
    names = (OURS, SOCKETIO, FLASK, RPYC, FUTURES, WEBSOCKETS, XMLRPC)
    whole = Measure("time of the outermost call", "µs", "handlers that call back", ECHO)
    figure = Figure("nested", "A handler that calls the other side, and so on", [whole])
    with ExitStack() as stack:
        echo = stack.enter_context(arena(ECHO, cannot={}))
        entrants = stack.enter_context(arena(*names, cannot=whole.cannot, needs="bounce"))
        for depth in effort.choose((0, 1, 4), (0, 1, 2, 4, 8)):
            blocks = {name: partial(_bounce, entrant, depth) for name, entrant in entrants.items()}
            blocks[ECHO] = partial(_echo, echo[ECHO])
            rounds = interleave(blocks, effort.seconds(2.0, 8.0))
            whole.add(depth, [{name: us for name, (us, _) in row.items()} for row in rounds])
            if depth == 1:
                inner = Measure("time of the nested call alone", "µs", reference=ECHO)
                inner.add(1, [{name: us for name, (_, us) in row.items()} for row in rounds])
                figure.measures.append(inner)
    ours = inner.ratios[OURS][1]
    text = "a call nested in a handler, as the handler sees it / the bare echo"
    figure.findings += [
        Finding(text, ours, "", 2.0, order=5),
        Finding("… the call with the nested one in it", whole.ratios[OURS][1]),
    ]
    return figure


def _bounce(entrant: Entrant, depth: int) -> tuple[float, float]:
    """Of the whole, and of the innermost nested call."""
    entrant.server.do("take_nested")
    seconds = []
    for _ in range(_CALLS):
        payload = make_payload()
        start = perf_counter()
        result = entrant.client.bounce({**payload, "depth": depth})
        seconds.append(perf_counter() - start)
        if result != payload["first"] + payload["second"]:
            raise WrongResult(f"{payload} added up to {result}")
    inner = entrant.server.do("take_nested")
    if depth == 1 and len(inner) != _CALLS:
        raise WrongResult("the handler did not call back")
    return median(seconds) * _MICRO, median(inner or [0.0]) * _MICRO


def _echo(entrant: Entrant) -> tuple[float, float]:
    seconds = median(timed_echo(entrant, make_payload_text()) for _ in range(_CALLS))
    return seconds * _MICRO, seconds * _MICRO


def behind(effort: Effort) -> Figure:
    """How long a fast call takes when handlers of the same connection sleep."""
    names = (OURS, FUTURES, WEBSOCKETS_FUTURES, SOCKETIO, FLASK, RPYC, XMLRPC)
    time = Measure("time of the fast call", "ms", "handlers that sleep for 100 ms", OURS)
    worst = Measure("the longest of all", "ms", "handlers that sleep for 100 ms", OURS)
    figure = Figure("behind", "A fast call behind handlers that sleep for 100 ms", [time, worst])
    with arena(*names, cannot=time.cannot, needs="submit") as entrants:
        for sleepers in effort.choose((1, 16), (1, 4, 16, 48)):
            blocks = {
                name: partial(_wait_behind, entrant, sleepers)
                for name, entrant in entrants.items()
                # One after the other they would take too long, and tell nothing new.
                if sleepers == 1 or name in (OURS, SOCKETIO, FLASK)
            }
            rounds = interleave(blocks, effort.seconds(5.0 if sleepers == 1 else 1.0, 12.0))
            time.add(sleepers, rounds)
            worst.add(sleepers, [{name: max(row[name] for row in rounds) for name in blocks}])
    text = "a fast call behind a handler that sleeps 100 ms"
    figure.findings.append(Finding(text, time.values[OURS][1], "ms", 30, order=6))
    figure.findings.append(Finding("… the longest of all", worst.values[OURS][1], "ms"))
    return figure


def _wait_behind(entrant: Entrant, sleepers: int) -> float:
    naps = [entrant.client.submit("sleep", _NAP) for _ in range(sleepers)]
    seconds = timed_add(entrant, make_payload())
    if any(wait() != _NAP for wait in naps):
        raise WrongResult("a handler that sleeps was not answered")
    return seconds * _MILLI
