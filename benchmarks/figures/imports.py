"""The time that an import takes, in a fresh interpreter each."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

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
from ..measure import Effort, Figure, Finding, Measure, interleave

__all__ = ["imports"]

_ROOT = Path(__file__).resolve().parents[2]
_NAMES = (LOCKED, WEBSOCKETS, SOCKETIO, FLASK, RPYC, XMLRPC)
_DEPENDENCIES = ("websocket", "simple_websocket", "wsproto.connection", "blinker")
_ALL = "wse_sync with its dependencies"
_BEYOND = "wse_sync beyond its dependencies"
_LISTENER = "… with its listener"
_MILLI = 1e3
# An installed package is compiled. So is this checkout, by the first import of the first round.
_ENVIRON = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
_PROGRAM = """
import sys, time
sys.path.insert(0, sys.argv[1])
for name in sys.argv[2].split():
    __import__(name)
start = time.perf_counter()
for name in sys.argv[3].split():
    __import__(name)
print(time.perf_counter() - start)
"""


def imports(effort: Effort) -> Figure:
    """What a program imports to serve and to connect."""
    time = Measure("time to import", "ms", reference=LOCKED)
    time.cannot = {name: why for name in _NAMES if (why := why_not(name))}
    blocks = {
        name: partial(_import, (), CONTESTANTS[name].modules)
        for name in _NAMES
        if name not in time.cannot
    }
    ours = CONTESTANTS[OURS].modules
    blocks[_ALL] = partial(_import, (), ours)
    blocks[_BEYOND] = partial(_import, _DEPENDENCIES, ("wse_sync",))
    blocks[_LISTENER] = partial(_import, _DEPENDENCIES, ours)
    time.add(1, interleave(blocks, effort.seconds(8.0, 40.0)))
    figure = Figure("import", "Imports", [time])
    text = "`import wse_sync` beyond its dependencies"
    figure.findings += [
        Finding(text, time.values[_BEYOND][1], "ms", 30, order=13),
        Finding("… with what `start()` imports", time.values[_LISTENER][1], "ms"),
    ]
    return figure


def _import(before: tuple[str, ...], modules: tuple[str, ...]) -> float:
    """Milliseconds for some modules when others are there."""
    command = [sys.executable, "-c", _PROGRAM, str(_ROOT), " ".join(before), " ".join(modules)]
    return float(subprocess.check_output(command, env=_ENVIRON)) * _MILLI
