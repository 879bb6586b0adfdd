"""What a process takes, and whether it takes more and more."""

from __future__ import annotations

import ctypes
import gc
import math
import os
import re
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

from tests.support import wait_until

__all__ = ["Trend", "Vitals", "at_rest", "settled", "trend", "vitals"]

PATIENCE = 60.0  # s; only bounds a failure


class Vitals(NamedTuple):
    """What a process takes.

    Attributes:
        resident_bytes: Of memory, with what is free between blocks that are in use.
        blocks: That Python has given out: nearly all that is no longer than 512 bytes.
        large_bytes: In use of what is longer; 0 where malloc does not say.
        threads: Of Python.
        descriptors: Open ones.
        objects: That the garbage collector watches.
    """

    resident_bytes: int
    blocks: int
    large_bytes: int
    threads: int
    descriptors: int
    objects: int


def vitals() -> Vitals:
    """What this process takes now."""
    status = Path("/proc/self/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return Vitals(
        int(found[1]) * 1024,
        sys.getallocatedblocks(),
        _large_bytes(),
        threading.active_count(),
        len(os.listdir("/proc/self/fd")),
        len(gc.get_objects()),
    )


class _Malloc(ctypes.Structure):
    """What mallinfo2() of glibc says."""

    _fields_: ClassVar = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def _large_bytes() -> int:
    try:
        ask = ctypes.CDLL(None).mallinfo2  # since glibc 2.33
    except AttributeError:
        return 0
    ask.restype = _Malloc
    told = ask()
    return int(told.uordblks + told.hblkhd)


def settled(is_still: Callable[[], bool]) -> Vitals:
    """Waits until nothing happens any more; what is taken then, without garbage."""
    wait_until(is_still, "something is still on its way", PATIENCE)
    gc.collect()
    return vitals()


def at_rest(before: Vitals) -> Vitals:
    """Waits until as many threads and descriptors are left as before; what is taken then."""

    def is_as_before() -> bool:
        now = vitals()
        return (now.threads, now.descriptors) == (before.threads, before.descriptors)

    def left() -> object:
        files = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
        open_files = [os.readlink(file) for file in files if os.path.islink(file)]
        return before, vitals(), threading.enumerate(), open_files

    wait_until(is_as_before, left, PATIENCE)
    gc.collect()
    return vitals()


class Trend(NamedTuple):
    """The line through some values that is nearest to them.

    Attributes:
        growth: From the first to the last moment, along the line.
        error: Of the growth, its standard error.
    """

    growth: float
    error: float


def trend(moments: Sequence[float], values: Sequence[float]) -> Trend:
    """Least squares: how much the values grow in all of the time."""
    count = len(moments)
    moment, value = sum(moments) / count, sum(values) / count
    spread = sum((x - moment) ** 2 for x in moments)
    slope = sum((x - moment) * (y - value) for x, y in zip(moments, values)) / spread
    rest = sum((y - value - slope * (x - moment)) ** 2 for x, y in zip(moments, values))
    span = moments[-1] - moments[0]
    return Trend(slope * span, math.sqrt(rest / (count - 2) / spread) * span)
