"""Figures of connections that do nothing: threads and memory of the server."""

from __future__ import annotations

from pathlib import Path
from time import sleep
from typing import NamedTuple

from .crowd import Crowd
from .measure import heading, line, verdict
from .servers import ServerProcess

__all__ = ["idle"]

_FIRST = 10  # connections that are there before: what all share has been loaded and started
_SIZES = (200, 1000)
_SETTLE = 7.0  # s: workers that have nothing to do end after five


class _Usage(NamedTuple):
    """Of a process; memory in KiB."""

    threads: int
    rss: int
    pss: int
    private: int


def idle(_quick: bool) -> None:
    """What each idle connection adds to the server process."""
    heading("4. what an idle, authenticated connection costs the server")
    if not Path("/proc/self/smaps_rollup").exists():
        line("memory of a process", "can be read on Linux only")
        return
    with _server() as server, Crowd(server.urls["wse"]) as crowd:
        crowd.grow(_FIRST)
        before = _usage(server)
        for size in _SIZES:
            crowd.grow(_FIRST + size)
            after = _usage(server)
            if server.do("count") != _FIRST + size:
                raise AssertionError("connections were lost while they were idle")
            _show(size, *((now - then) / size for now, then in zip(after, before)))


def _server() -> ServerProcess:
    return ServerProcess(max_connections=_FIRST + max(_SIZES))


def _show(size: int, threads: float, rss: float, pss: float, private: float) -> None:
    line(f"threads each, of {size}", f"{threads:.2f}", verdict("= 1", round(threads, 1) == 1))
    kib = f"{rss:.1f} RSS, {pss:.1f} PSS, {private:.1f} private"
    line(f"KiB each, of {size}", kib, verdict("<= 60", max(rss, pss, private) <= 60))


def _usage(server: ServerProcess) -> _Usage:
    """What the server process uses when all is quiet."""
    sleep(_SETTLE)
    process = Path(f"/proc/{server.pid}")
    threads = len(list(process.joinpath("task").iterdir()))
    rows = process.joinpath("smaps_rollup").read_text().splitlines()[1:]
    kib = {row.split()[0]: int(row.split()[1]) for row in rows}
    return _Usage(threads, kib["Rss:"], kib["Pss:"], kib["Private_Clean:"] + kib["Private_Dirty:"])
