"""Connections that do nothing: the time to make them, and what they cost the server."""

from __future__ import annotations

import random
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter, sleep
from typing import NamedTuple

from ..contestants import (
    CONTESTANTS,
    FLASK,
    LOCKED,
    OURS,
    RPYC,
    SOCKETIO,
    WEBSOCKETS,
    XMLRPC,
    why_not,
)
from ..halls import Hall, too_many
from ..measure import Effort, Figure, Finding, Measure, Spread, WrongResult

__all__ = ["connections", "idle"]

_NAMES = (OURS, LOCKED, WEBSOCKETS, SOCKETIO, FLASK, RPYC, XMLRPC)
_FIRST = 10  # connections that are there before: what all share has been loaded and started
_MANY, _MOST = 1000, 5000
_PING_INTERVAL = 20.0  # s, the default of wse_sync
_KIB = 1.024  # KB; KB are 1,000 bytes, as everywhere here
_WINDOW = 22.0  # s; every connection has a heartbeat in it


class _Found(NamedTuple):
    """What so many connections of a server took."""

    seconds: float
    kb: float
    threads: float


def connections(effort: Effort) -> Figure:
    """The time to connect, and the memory and threads of each idle connection."""
    time = Measure("time to connect", "s", "connections", LOCKED)
    memory = Measure("memory of the server for each connection", "KB", "connections", LOCKED)
    threads = Measure("threads of the server for each connection", "", "connections")
    wanted = effort.choose(_NAMES[:3], _NAMES)
    time.cannot = {name: why for name in wanted if (why := why_not(name, "connect"))}
    names = [name for name in wanted if name not in time.cannot]
    sizes = {name: _sizes(name, effort, time.cannot) for name in names}
    rounds = []
    for _ in range(effort.choose(1, 3)):
        shuffled = random.sample(names, len(names))
        found_by_name = {name: _fill(name, sizes[name]) for name in shuffled}
        rounds.append({name: found_by_name[name] for name in names})
    for size in sizes[OURS]:
        for index, measure in enumerate((time, memory, threads)):
            rows = [
                {name: found[size][index] for name, found in row.items() if size in found}
                for row in rounds
            ]
            measure.add(size, rows)
    figure = Figure("connections", "Idle connections", [time, memory, threads])
    if _MOST in sizes[OURS]:
        kb, number = memory.values[OURS][_MOST], _rounded(threads.values[OURS][_MOST])
        figure.findings += [
            Finding("server memory per idle connection at 5,000", kb, "KB", 50, order=11),
            Finding("threads of the server for it", number, "", 1, order=11),
        ]
    return figure


def _sizes(name: str, effort: Effort, cannot: dict[str, str]) -> list[int]:
    sizes = effort.choose([_MANY, _MOST], [100, _MANY, _MOST])
    why = too_many(name, _MOST + _FIRST)
    if not why and effort.quick and name != OURS:
        why = f"not with {_MOST:,}: a quick run"
    if why:
        cannot[name] = why
        sizes.remove(_MOST)
    return sizes


def _rounded(spread: Spread) -> Spread:
    """A thread of the server's own that ended meanwhile is none of a connection."""
    median, low, high, rounds = spread
    return Spread(round(median, 2), round(low, 2), round(high, 2), rounds)


def _fill(name: str, sizes: list[int]) -> dict[int, _Found]:
    """Connects more and more to a fresh server."""
    found = {}
    with Hall(name, _PING_INTERVAL) as hall:
        hall.open()
        hall.grow(_FIRST)
        threads, kb = _usage(hall)
        seconds = 0.0
        for size in sizes:
            seconds += _grow(hall, _FIRST + size)
            more_threads, more_kb = _usage(hall)
            if hall.server.do("count") != _FIRST + size:
                raise WrongResult(f"{name} lost connections while they were idle")
            found[size] = _Found(seconds, (more_kb - kb) / size, (more_threads - threads) / size)
    return found


def _grow(hall: Hall, size: int) -> float:
    """Seconds until the server has so many clients."""
    start = perf_counter()
    hall.grow(size)
    return perf_counter() - start


def _usage(hall: Hall) -> tuple[int, float]:
    """Threads, and KB of memory (RSS), of the server when all is quiet."""
    sleep(hall.contestant.settle)
    process = Path(f"/proc/{hall.server.pid}")
    rows = process.joinpath("status").read_text("utf-8").splitlines()
    status = {name: value for name, _, value in (row.partition(":") for row in rows)}
    return int(status["Threads"]), int(status["VmRSS"].split()[0]) * _KIB


def idle(effort: Effort) -> Figure:
    """The CPU of servers whose connections do nothing but answer heartbeats."""
    used = Measure("CPU of the server", "% of a core", "connections", LOCKED)
    used.cannot = {name: why for name in _NAMES if (why := why_not(name, "heartbeat", "connect"))}
    sizes = effort.choose((_MANY,), (100, _MANY))
    wanted = [(name, size) for name in _NAMES if name not in used.cannot for size in sizes]
    taken = sum(size * CONTESTANTS[name].threads for name, size in wanted)
    if not effort.quick and not too_many(OURS, _MOST, taken):
        wanted.append((OURS, _MOST))
    with ExitStack() as stack:
        halls = {key: stack.enter_context(Hall(key[0], _PING_INTERVAL)) for key in wanted}
        for (_, size), hall in halls.items():
            hall.open()
            hall.grow(size)
        slices = [_watch(halls) for _ in range(effort.choose(1, 3))]
    for size in sorted({size for _, size in wanted}):
        rows = [{name: row[name, size] for name, its in wanted if its == size} for row in slices]
        used.add(size, rows)
    figure = Figure("idle", "CPU of idle connections with a heartbeat every 20 s", [used])
    text = "CPU of 1,000 idle connections with heartbeat"
    found = used.values[OURS][_MANY]
    figure.findings.append(Finding(text, found, "% of a core", 2, order=12))
    return figure


def _watch(halls: dict[tuple[str, int], Hall]) -> dict[tuple[str, int], float]:
    """Per cent of a core that each server used, all at the same time."""
    before = {}
    for key, hall in halls.items():
        hall.crowd.do("pings")
        before[key] = hall.server.do("cpu")
    start = perf_counter()
    sleep(_WINDOW)
    used = {key: hall.server.do("cpu") - before[key] for key, hall in halls.items()}
    seconds = perf_counter() - start
    for (name, size), hall in halls.items():
        pings, clients = hall.crowd.do("pings"), hall.server.do("count")
        if clients != size or pings < size:
            raise WrongResult(f"{name}: {pings} heartbeats, {clients} of {size} are there")
    return {key: 100 * spent / seconds for key, spent in used.items()}
