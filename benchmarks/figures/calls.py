"""One caller: the time of a call, its tail, its CPU, and how they grow with the payload."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from statistics import median, quantiles
from time import sleep

from ..contestants import (
    CONTESTANTS,
    ECHO,
    ECHO_UNCHECKED,
    FLASK,
    FUTURES,
    LOCKED,
    LOCKED_UNCHECKED,
    OURS,
    RPYC,
    RPYC_LOOKUP,
    SOCKETIO,
    WEBSOCKETS,
    XMLRPC,
    Entrant,
    arena,
    serve,
)
from ..machine import can_pin, on_core
from ..measure import Effort, Figure, Finding, Measure, Spread, interleave, ratios
from ..processes import Remote
from .callers import (
    Block,
    make_payload,
    make_payload_text,
    make_text,
    run_block,
    timed_add,
    timed_echo,
)

__all__ = ["call", "payload"]

_ECHOES = (ECHO, ECHO_UNCHECKED)
_CALLERS = (LOCKED, FUTURES, WEBSOCKETS, SOCKETIO, FLASK, RPYC, RPYC_LOOKUP, XMLRPC)
_CALLS = 300  # in a block; wse_sync comes to its pace after 32
_PAUSED_CALLS, _PAUSE = 10, 0.01  # in a block, and s before each
_MICRO, _MILLI = 1e6, 1e3


def call(effort: Effort) -> Figure:
    """The time of a call, by that of an echo of the same 40 bytes."""
    cannot: dict[str, str] = {}
    with arena(OURS, *_ECHOES, *_CALLERS, cannot=cannot) as entrants:
        blocks = {name: partial(_run, name, entrant) for name, entrant in entrants.items()}
        rounds = interleave(blocks, effort.seconds(9.0, 90.0))
    figure = Figure("call", "A call with a payload of 40 bytes, one caller")
    figure.measures = _measures(rounds, cannot)
    times = [{name: block.time for name, block in results.items()} for results in rounds]
    figure.findings += [
        Finding("`call()` / the bare echo", Spread.of(ratios(times, OURS, ECHO)), "", 0.9, order=1),
        Finding("… / the bare echo, unchecked", Spread.of(ratios(times, OURS, ECHO_UNCHECKED))),
    ]
    figure.findings.append(Finding("… after a pause of 10 ms each", Spread.of(_paused(effort))))
    if can_pin():
        pinned = _pinned(effort)
        figure.findings.append(Finding("… with a core for each process", Spread.of(pinned)))
    for name, target in ((OURS, 3.0), (ECHO, None)):
        p50, p99 = (_quantile(rounds, name, percent) for percent in (50, 99))
        figure.findings.append(
            Finding(
                "p99 of `call()` / its own p50" if target else "… of the bare echo",
                Spread.of([p99 / p50]),
                "",
                target,
                order=2 if target else 0,
            )
        )
    return figure


def _run(name: str, entrant: Entrant) -> Block:
    if name in _ECHOES:
        return run_block(entrant, timed_echo, [make_payload_text() for _ in range(_CALLS)])
    return run_block(entrant, timed_add, [make_payload() for _ in range(_CALLS)])


def _paused(effort: Effort) -> list[float]:
    """The ratio of calls that do not follow each other."""

    def run(time_one: Callable[[], float]) -> float:
        seconds = []
        for _ in range(_PAUSED_CALLS):
            sleep(_PAUSE)
            seconds.append(time_one())
        return median(seconds)

    with arena(OURS, ECHO, cannot={}) as entrants:
        ours, echo = entrants[OURS], entrants[ECHO]
        blocks = {
            OURS: partial(run, lambda: timed_add(ours, make_payload())),
            ECHO: partial(run, lambda: timed_echo(echo, make_payload_text())),
        }
        return ratios(interleave(blocks, effort.seconds(2.0, 15.0)), OURS, ECHO)


def _measures(rounds: Sequence[dict[str, Block]], cannot: dict[str, str]) -> list[Measure]:
    p50 = Measure("p50 of a call", "µs", reference=ECHO, cannot=cannot)
    p50.add(40, [{name: block.time * _MICRO for name, block in row.items()} for row in rounds])
    p99 = Measure("p99 of a call", "µs", reference=ECHO)
    p99.add(40, [{name: _quantile(rounds, name, 99) * _MICRO for name in rounds[0]}])
    cpu = Measure("CPU of both processes for a call", "µs", reference=ECHO)
    cpu.add(40, [{name: block.cpu_each * _MICRO for name, block in row.items()} for row in rounds])
    return [p50, p99, cpu]


def _quantile(rounds: Sequence[dict[str, Block]], name: str, percent: int) -> float:
    """Of all calls of all rounds."""
    latencies = [seconds for results in rounds for seconds in results[name].latencies]
    return quantiles(latencies, n=100)[percent - 1]


def _pinned(effort: Effort) -> list[float]:
    """The ratio with a core for each process.

    Left to the scheduler, the result depends on where the threads happen to run: an echo is much
    cheaper when both processes share a core, as on a busy machine.
    """
    with ExitStack() as stack:
        with on_core(1):
            servers = {name: stack.enter_context(Remote(serve, name)) for name in (OURS, ECHO)}
        stack.enter_context(on_core(0))
        blocks = {}
        for name, server in servers.items():
            server.ready()
            client = CONTESTANTS[name].connect(server.do("where"))
            stack.callback(client.close)
            blocks[name] = partial(_run, name, Entrant(server, client))
        rounds = interleave(blocks, effort.seconds(3.0, 20.0))
    return ratios([{name: block.time for name, block in row.items()} for row in rounds], OURS, ECHO)


def payload(effort: Effort) -> Figure:
    """The time of a call that gets back a text, by that of an echo of the same text."""
    names = (OURS, ECHO_UNCHECKED, LOCKED_UNCHECKED, WEBSOCKETS, SOCKETIO, FLASK, RPYC, XMLRPC)
    time = Measure("time of a call", "ms", "bytes of payload", ECHO_UNCHECKED)
    cpu = Measure("CPU of both processes for a call", "ms", "bytes of payload", ECHO_UNCHECKED)
    figure = Figure("payload", "Calls by the size of the payload", [time, cpu])
    with arena(*names, cannot=time.cannot) as entrants:
        sizes = effort.choose((40, 10**4, 10**6), (40, 400, 4000, 10**4, 10**5, 10**6))
        for size in sizes:
            calls = max(4, min(200, 4 * 10**6 // size))
            blocks = {
                name: partial(_run_echoes, entrant, calls, size)
                for name, entrant in entrants.items()
            }
            rounds = interleave(blocks, effort.seconds(3.0, 20.0))
            times = [{name: b.time * _MILLI for name, b in row.items()} for row in rounds]
            time.add(size, times)
            cpu.add(
                size, [{name: b.cpu_each * _MILLI for name, b in row.items()} for row in rounds]
            )
    # The last size is 1 MB.
    figure.findings += [
        Finding(
            "a call of 1 MB / the bare libraries, unchecked",
            Spread.of(ratios(times, OURS, ECHO_UNCHECKED)),
            "",
            1.2,
            order=7,
        ),
        Finding(
            "… / the same with JSON, by hand", Spread.of(ratios(times, OURS, LOCKED_UNCHECKED))
        ),
    ]
    return figure


def _run_echoes(entrant: Entrant, calls: int, size: int) -> Block:
    return run_block(entrant, timed_echo, [make_text(size) for _ in range(calls)])
