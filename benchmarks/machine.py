"""What the figures depend on besides the code: the machine and the versions."""

from __future__ import annotations

import os
import platform
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

__all__ = ["can_pin", "facts", "on_core", "raise_file_limit"]

_DEPENDENCIES = ("websocket-client", "simple-websocket", "wsproto", "blinker")
_FILES = 8192  # 1,000 sockets, and what else a process has open


def facts() -> str:
    """Python, processors, load and the versions of the dependencies, for people."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    versions = ", ".join(f"{name} {version(name)}" for name in _DEPENDENCIES)
    return (
        f"{platform.python_implementation()} {platform.python_version()},"
        f" {platform.system()} {platform.release()} {platform.machine()},"
        f" {os.cpu_count()} cores, load {load}\n{versions}"
    )


def raise_file_limit() -> None:
    """Lets this process, and those that it starts, open as many files as 1,000 sockets need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def can_pin() -> bool:
    """Whether two processes can be given a core each."""
    return hasattr(os, "sched_setaffinity") and len(os.sched_getaffinity(0)) > 1


@contextmanager
def on_core(number: int) -> Iterator[None]:
    """Keeps this thread on one core, and the threads and processes that it starts meanwhile."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(before)[number]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
