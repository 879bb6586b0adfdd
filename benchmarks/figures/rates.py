"""Many calls at once, and messages: how many of them in a second."""

from __future__ import annotations

from functools import partial
from threading import Barrier, Thread
from time import perf_counter

from ..contestants import (
    FLASK,
    FUTURES,
    LOCKED,
    OURS,
    RPYC,
    SOCKETIO,
    WEBSOCKETS,
    WEBSOCKETS_FUTURES,
    XMLRPC,
    Entrant,
    arena,
)
from ..measure import Effort, Figure, Finding, Measure, Spread, WrongResult, interleave, ratios
from .callers import make_payload, timed_add

__all__ = ["messages", "pipelined", "threads"]

_PIPELINED = 2000
_CALLS = 200  # one after the other, to compare with


def threads(effort: Effort) -> Figure:
    """Calls per second of threads that share one client."""
    names = [OURS, LOCKED, FUTURES, WEBSOCKETS, SOCKETIO, RPYC, XMLRPC]
    names += effort.choose([], [WEBSOCKETS_FUTURES, FLASK])
    calls = effort.choose(320, 640)  # in a block, all threads together
    rate = Measure("calls per second", "1/s", "threads over one client", LOCKED)
    figure = Figure("threads", "Threads that call over one client", [rate])
    with arena(*names, cannot=rate.cannot) as entrants:
        for number in effort.choose((1, 8, 64), (1, 2, 8, 16, 64)):
            blocks = {
                name: partial(_rate_threads, entrant, number, calls)
                for name, entrant in entrants.items()
            }
            rates = interleave(blocks, effort.seconds(3.0, 20.0))
            rate.add(number, rates)
    # The last number is 64.
    text = "calls/s, 64 threads on one client / a naive receive loop"
    found = Spread.of(ratios(rates, OURS, LOCKED))
    figure.findings.append(Finding(text, found, at_least=1.5, order=3))
    found = Spread.of(ratios(rates, OURS, FUTURES))
    figure.findings.append(Finding("… / the same loop with futures at the client", found))
    return figure


def _rate_threads(entrant: Entrant, number: int, calls: int) -> float:
    """Calls per second of so many threads, until each has all its answers, which must be right."""
    start = Barrier(number + 1)
    right: list[float] = []

    def run() -> None:
        payloads = [make_payload() for _ in range(calls // number)]
        start.wait()
        right.extend([timed_add(entrant, payload) for payload in payloads])

    pool = [Thread(target=run) for _ in range(number)]
    for thread in pool:
        thread.start()
    start.wait()
    begun = perf_counter()
    for thread in pool:
        thread.join()
    seconds = perf_counter() - begun
    if len(right) != calls:
        raise WrongResult(f"{calls - len(right)} calls were lost or answered wrongly")
    return calls / seconds


def pipelined(effort: Effort) -> Figure:
    """Calls per second when nobody waits for one answer before the next call."""
    names = (OURS, FUTURES, WEBSOCKETS_FUTURES, SOCKETIO, FLASK, RPYC, XMLRPC)
    rate = Measure("calls per second", "1/s", "calls at once", SOCKETIO)
    figure = Figure("pipelined", "Calls that are submitted, and then waited for", [rate])
    with arena(*names, cannot=rate.cannot, needs="submit") as entrants:
        for size in effort.choose((20, 200, _PIPELINED), (20, 200, _PIPELINED, 10_000)):
            blocks = {
                name: partial(_rate_pipelined, entrant, size) for name, entrant in entrants.items()
            }
            if SOCKETIO in entrants:
                blocks["one by one"] = partial(_rate_one_by_one, entrants[SOCKETIO])
            rounds = interleave(blocks, effort.seconds(1.5 if size < _PIPELINED else 4.0, 20.0))
            one_by_one = [results.pop("one by one", 0.0) for results in rounds]
            rate.add(size, rounds)
            if size == _PIPELINED and all(one_by_one):
                times = [row[OURS] / single for row, single in zip(rounds, one_by_one)]
                text = "pipelined calls/s (2,000 `submit`s) / python-socketio's calls/s"
                figure.findings.append(Finding(text, Spread.of(times), "", at_least=10, order=4))
                times = [row[SOCKETIO] / single for row, single in zip(rounds, one_by_one)]
                figure.findings.append(
                    Finding("… python-socketio's own, with callbacks", Spread.of(times))
                )
    return figure


def _rate_pipelined(entrant: Entrant, size: int) -> float:
    payloads = [make_payload() for _ in range(size)]
    submit = entrant.client.submit
    start = perf_counter()
    waiters = [submit("add", payload) for payload in payloads]
    results = [wait() for wait in waiters]
    seconds = perf_counter() - start
    if results != [payload["first"] + payload["second"] for payload in payloads]:
        raise WrongResult("results of calls at once are lost or mixed up")
    return size / seconds


def _rate_one_by_one(entrant: Entrant) -> float:
    return _CALLS / sum([timed_add(entrant, make_payload()) for _ in range(_CALLS)])


def messages(effort: Effort) -> Figure:
    """Messages per second, until the server has handled the last one."""
    names = (OURS, LOCKED, WEBSOCKETS, SOCKETIO, FLASK, RPYC, XMLRPC)
    rate = Measure("messages per second", "1/s", "messages in a row", LOCKED)
    figure = Figure("messages", "Messages of 40 bytes from a client to the server", [rate])
    with arena(*names, cannot=rate.cannot, needs="send") as entrants:
        for size in effort.choose((20, 2000), (20, 200, 2000, 20_000)):
            blocks = {
                name: partial(_rate_messages, entrant, size) for name, entrant in entrants.items()
            }
            rate.add(size, interleave(blocks, effort.seconds(2.0, 15.0)))
    return figure


def _rate_messages(entrant: Entrant, size: int) -> float:
    payloads = [make_payload() for _ in range(size)]
    send = entrant.client.send
    start = perf_counter()
    for payload in payloads:
        send(payload)
    noted = entrant.client.noted(size)
    seconds = perf_counter() - start
    if noted != [size, sum(payload["first"] for payload in payloads)]:
        raise WrongResult(f"of {size} messages the server noted {noted}")
    return size / seconds
