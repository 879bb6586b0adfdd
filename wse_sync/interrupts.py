"""What signals of the operating system do to the main thread, in whose middle their handlers run.

A handler may have interrupted this library anywhere, also where it holds a lock. No lock of its
own.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

__all__ = ["aside", "sigterm_noted"]

_log = logging.getLogger("wse_sync")
_MORE = 8.0  # s that close() may go on at the most when its time is over
_SLICE = 1.0  # s: a Ctrl-C just before the system call that waits is noticed only after it


def aside(work: Callable[[], object], timeout: float = 0.0) -> None:
    """Does what takes locks, so that a handler of the :mod:`signal` module may ask for it, too.

    Those run in the main thread. What they have interrupted may hold a lock, and goes on only when
    they return: so for the main thread another one does the work. Nor does a Ctrl-C tear it apart.

    Args:
        work: What it raises is raised here.
        timeout: That of the work, in seconds. If it cannot be done by then and a little later, it
            goes on when the handler has returned.
    """
    if threading.current_thread() is not threading.main_thread():
        work()
        return
    errors: list[BaseException] = []
    waiting = True

    def do() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)
            if not waiting:
                _log.exception("nobody waits for this any more")

    thread = threading.Thread(target=do, name="wse-closer", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # the interpreter is about to end, or the system has no thread left
        work()
        return
    deadline = monotonic() + timeout + _MORE
    try:
        while thread.is_alive() and monotonic() < deadline:
            thread.join(min(_SLICE, max(0.0, deadline - monotonic())))
    finally:
        waiting = False
    if errors:
        raise errors.pop()


@contextmanager
def sigterm_noted() -> Iterator[list[int]]:
    """Has SIGTERM be noted and nothing else, in the list that this yields.

    It does not raise, as Ctrl-C does: where both come, as from a terminal and then a supervisor,
    the second would tear apart what the first has begun. Only in the main thread, which alone can
    say so, and only if nobody else handles it.
    """
    noted: list[int] = []
    here = threading.current_thread() is threading.main_thread()
    if not here or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield noted
        return
    signal.signal(signal.SIGTERM, lambda number, frame: noted.append(number))
    try:
        yield noted
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
