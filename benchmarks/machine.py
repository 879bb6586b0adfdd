"""What the figures depend on besides the code: the machine and the versions."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["can_pin", "facts", "file_limit", "on_core", "raise_file_limit", "thread_limit"]

_DISTRIBUTIONS = (
    "websocket-client",
    "simple-websocket",
    "wsproto",
    "blinker",
    "websockets",
    "python-socketio",
    "Flask-SocketIO",
    "rpyc",
)
_ROOT = Path(__file__).resolve().parent.parent


def facts() -> dict[str, str]:
    """When, what and where: Python, the machine, its load, the versions."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return {
        "when": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "code": _code(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "machine": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": str(os.cpu_count()),
        "load at the start": load,
        "open files": str(file_limit()),
        **{name: _version(name) for name in _DISTRIBUTIONS},
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _code() -> str:
    """The commit that is measured, and whether the files differ from it."""
    git = ("git", "-C", str(_ROOT))
    try:
        commit = subprocess.check_output(
            [*git, "rev-parse", "--short", "HEAD"], text=True, stderr=subprocess.DEVNULL
        )
        changed = subprocess.check_output([*git, "status", "--porcelain", "wse_sync"], text=True)
    except (OSError, subprocess.CalledProcessError):
        return "no checkout"
    return commit.strip() + (" with changes" if changed else "")


def raise_file_limit() -> None:
    """Lets this process, and those that it starts, open as many files as the system allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def file_limit() -> int:
    """How many files a process may have open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def thread_limit() -> int:
    """How many threads there may be, as far as Linux says."""
    limits = [resource.getrlimit(resource.RLIMIT_NPROC)[0]]
    for name in ("sys/kernel/threads-max", "sys/kernel/pid_max"):
        path = Path("/proc", name)
        if path.exists():
            limits.append(int(path.read_text("ascii")))
    return min([limit for limit in limits if limit != resource.RLIM_INFINITY], default=2**15)


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
