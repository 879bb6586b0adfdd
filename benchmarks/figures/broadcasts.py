"""Broadcasts: by the number of connections, against sending to each, and with a stopped reader."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from statistics import median, quantiles
from typing import Any, NamedTuple

from ..contestants import FLASK, OURS, RPYC, SOCKETIO, WEBSOCKETS, XMLRPC, why_not
from ..halls import Hall, Times, too_many
from ..measure import Effort, Figure, Finding, Measure, Spread, interleave, ratios
from .callers import make_object, make_text

__all__ = ["broadcast", "stopped"]

_PEERS = (WEBSOCKETS, SOCKETIO, FLASK, RPYC, XMLRPC)
_EACH = "packed and sent to each"
_OUR_EACH = "wse_sync, to each"
_READY = "ready bytes to each"
_ORDERS = {_EACH: "send_plainly", _OUR_EACH: "send_to_each", _READY: "send_ready"}
_CONNECTIONS = 1000
_FLOOD, _FLOOD_TIMES = 65000, 192  # 12 MB: more than the system buffers, less than the queue
_REPEAT = 3  # broadcasts in a block


class _Kind(NamedTuple):
    """Payloads of one size, and what is to be reached with them at 1,000 connections."""

    title: str
    size: int
    at_least: float
    order: int


_KINDS = (_Kind("120 B", 120, 2.0, 8), _Kind("10 KB", 10**4, 10.0, 9))


def broadcast(effort: Effort) -> Figure:
    """The time of a broadcast, and of packing and sending to each."""
    figure = Figure("broadcast", "A broadcast, by the number of connections")
    cannot = {name: why for name in _PEERS if (why := why_not(name, "broadcast"))}
    measures = {
        kind: (
            Measure(f"{kind.title}, until it returns", "ms", "connections", _EACH),
            Measure(f"{kind.title}, until all have it", "ms", "connections", _EACH),
        )
        for kind in _KINDS
    }
    with ExitStack() as stack:
        names = [name for name in (OURS, *_PEERS) if name not in cannot]
        halls = {name: stack.enter_context(Hall(name)) for name in names}
        for hall in halls.values():
            hall.open()
        for connections in (10, 100, _CONNECTIONS, *effort.choose((), (5 * _CONNECTIONS,))):
            _grow(halls, connections, cannot)
            for kind in _KINDS:
                rounds = _compare(halls, make_object(kind.size), effort.seconds(1.0, 12.0))
                for index, measure in enumerate(measures[kind]):
                    measure.add(connections, _part(rounds, index))
                if connections == _CONNECTIONS:
                    ours = {OURS: halls[OURS]}
                    texts = _compare(ours, make_text(kind.size), effort.seconds(1.0, 12.0))
                    figure.findings += _findings(kind, rounds, texts)
    figure.measures = [measure for pair in measures.values() for measure in pair]
    figure.measures[0].cannot = cannot
    return figure


def _grow(halls: dict[str, Hall], connections: int, cannot: dict[str, str]) -> None:
    """Connects more to those that can have more."""
    threads = 0
    for name in list(halls):
        why = too_many(name, connections, threads)
        if why:
            cannot[name] = why
            halls.pop(name).__exit__()
        else:
            halls[name].grow(connections)
            threads += connections * halls[name].contestant.threads


def _compare(halls: Mapping[str, Hall], payload: Any, seconds: float) -> list[dict[str, Times]]:
    blocks = {name: partial(hall.broadcast, payload) for name, hall in halls.items()}
    for name, order in _ORDERS.items():
        blocks[name] = partial(halls[OURS].broadcast, payload, order)
    return interleave(blocks, seconds)


def _part(rounds: list[dict[str, Times]], index: int) -> list[dict[str, float]]:
    return [{name: times[index] for name, times in row.items()} for row in rounds]


def _findings(
    kind: _Kind, rounds: list[dict[str, Times]], texts: list[dict[str, Times]]
) -> list[Finding]:
    """The target, and what helps to understand it."""
    returned, arrived = _part(rounds, 0), _part(rounds, 1)
    text = f"packing and sending to each of 1,000 / a broadcast, {kind.title}"
    found = Spread.of(ratios(returned, _EACH, OURS))
    further = {
        "… until all have it": ratios(arrived, _EACH, OURS),
        "… each by our own `send` / a broadcast": ratios(returned, _OUR_EACH, OURS),
        "… with a text in place of the object": ratios(_part(texts, 0), _EACH, OURS),
        "… packing and sending to each / ready bytes to each": ratios(returned, _EACH, _READY),
    }
    return [
        Finding(text, found, at_least=kind.at_least, order=kind.order),
        *(Finding(text, Spread.of(values)) for text, values in further.items()),
    ]


def stopped(effort: Effort) -> Figure:
    """The time of a broadcast when one reader has stopped, by that of one when none has.

    The same ratio of two broadcasts when none has shows what chance does.
    """
    payload, flood = make_text(120), make_text(_FLOOD)
    with Hall(OURS) as hall:
        hall.open()
        hall.grow(_CONNECTIONS)
        news, missed = (hall.contestant.frame(text) for text in (payload, flood))
        missed *= _FLOOD_TIMES

        def run_stopped() -> Times:
            hall.crowd.do("stop_first")
            hall.server.do("flood", "0", flood, _FLOOD_TIMES)
            times = _several(hall, payload)
            hall.crowd.do("resume_first", missed + _REPEAT * news)
            return times

        def run() -> Times:
            hall.crowd.do("stop_first")
            hall.server.do("flood", "0", flood, _FLOOD_TIMES)
            hall.crowd.do("resume_first", missed)
            return _several(hall, payload)

        blocks = {"stopped": run_stopped, "none": run, "none again": run}
        rounds = interleave(blocks, effort.seconds(6.0, 60.0))
    figure = Figure("stopped", "A broadcast to 1,000 when one of them has stopped reading")
    arrived, returned = _part(rounds, 1), _part(rounds, 0)
    chance = ratios(arrived, "none again", "none")
    # More than chance does in three of four cases would be a delay.
    limit = round(quantiles(chance, n=4, method="inclusive")[2], 3)
    text = "a broadcast until the other 999 have it, one stopped reader / none"
    found = Spread.of(ratios(arrived, "stopped", "none"))
    figure.findings += [
        Finding(text, found, at_most=limit, order=10),
        Finding("… none / none: what chance does", Spread.of(chance)),
        Finding("… until it returns", Spread.of(ratios(returned, "stopped", "none"))),
    ]
    return figure


def _several(hall: Hall, payload: str) -> Times:
    """The medians of some broadcasts, each begun when the one before has arrived."""
    times = [hall.broadcast(payload) for _ in range(_REPEAT)]
    return Times(median(t.returned for t in times), median(t.arrived for t in times))
