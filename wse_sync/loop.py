"""The one background thread of the process: deadlines, and leftovers of slow sockets.

It runs heartbeats, time limits, waits before a reconnect, and sends on what a socket did not take
at once. It starts with the first timer or socket, blocks in ``select`` until the next deadline (of
``clock.monotonic()``: a clock on the wall that jumps changes nothing), and ends when there is
nothing to wait for. Everything that it calls is ours and short; user code never runs here.

``_lock`` guards every attribute. It is taken under any other lock and none is taken under it; the
callbacks run without it.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import os
import selectors
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from time import monotonic

from . import clock
from .leaving import Leaving

__all__ = ["Loop", "Timer", "loop"]

_log = logging.getLogger("wse_sync")
_LINGER = 1.0  # s the thread stays without work, so that a busy program does not restart it
_SLACK = 64  # cancelled timers that may lie about before they are swept out
_FOREVER = 3600.0
_SLICE = 0.05


class Timer:
    """A call that is due at some time; ``cancel`` prevents it if it has not begun."""

    __slots__ = ("_loop", "callback", "deadline", "epoch")

    def __init__(self, loop: Loop, deadline: float, callback: Callable[[], None]) -> None:
        self._loop = loop
        self.epoch = loop.epoch
        self.deadline = deadline
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Any thread, any number of times. The callback may be running just now."""
        self._loop._cancel(self)


class Loop:
    """Timers and writable sockets, served by one thread."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        """A clean start: also in the child of a fork, where the thread does not exist."""
        self._lock = threading.Lock()
        self.epoch = object()  # timers of the parent are not ours to count
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._live = 0  # about so many timers; Ctrl-C in the middle of a step leaves it wrong
        self._watched: dict[int, Callable[[], None]] = {}
        self._thread: threading.Thread | None = None
        self._leaving = Leaving()
        self._selector: selectors.BaseSelector | None = None
        self._wake: socket.socket | None = None
        self._wakes_at = 0.0
        self._hurry = False
        self._busy = False
        self._told = False  # that the thread cannot be started
        #: How many timers have run.
        self.runs = 0

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        """Runs ``callback`` in ``delay`` seconds."""
        return self.call_at(clock.monotonic() + delay, callback)

    def call_at(self, deadline: float, callback: Callable[[], None]) -> Timer:
        """Runs ``callback`` at ``deadline``, a time of ``clock.monotonic()``."""
        deadline = float(deadline)  # here, not in the thread of all, when it is compared
        timer = Timer(self, deadline, callback)
        with self._lock:
            heapq.heappush(self._heap, (deadline, next(self._order), timer))
            self._live += 1
            try:
                self._ensure_awake(deadline)
                return timer
            except OSError as error:
                # It may be late: whoever sets the next one tries again.
                reason, told, self._told = error, self._told, True
        if not told:
            _log.warning("timers have to wait for the moment: %s", reason)
        return timer

    def watch(self, sock: socket.socket, flush: Callable[[], None]) -> None:
        """Calls ``flush`` whenever the socket can take bytes, until ``unwatch``.

        Raises:
            OSError: The system gives us no thread or descriptor for it.
        """
        with self._lock:
            self._start()
            assert self._selector is not None
            if sock.fileno() not in self._watched:
                self._selector.register(sock, selectors.EVENT_WRITE)
                self._watched[sock.fileno()] = flush
            self._ensure_awake(0.0)

    def unwatch(self, sock: socket.socket) -> None:
        """Forgets the socket, if need be; always before its descriptor is closed."""
        with self._lock:
            if self._watched.pop(sock.fileno(), None) is not None and self._selector is not None:
                self._selector.unregister(sock)

    def look_again(self) -> None:
        """Has the thread look at the clock, which was moved."""
        with self._lock:
            if self._thread is not None:
                self._ensure_awake(0.0)

    def next_deadline(self) -> float:
        """When the next timer is due; infinity if there is none."""
        with self._lock:
            return self._next_deadline()

    @property
    def is_busy(self) -> bool:
        """Whether a timer is due or runs just now."""
        with self._lock:
            return self._busy or self._next_deadline() <= clock.monotonic()

    def rest(self, timeout: float) -> None:
        """Waits until the thread has ended, for as long as there is nothing for it to do."""
        deadline = monotonic() + timeout
        while True:
            with self._lock:
                thread = self._thread or next(iter(self._leaving.alive()), None)
                if thread is None or thread is threading.current_thread() or not thread.is_alive():
                    return
                if self._next_deadline() < math.inf or self._watched:
                    return
                if self._thread is not None:
                    self._hurry = True
                    self._ensure_awake(0.0)
            # In slices: others of this process may give it something to do at any time.
            thread.join(min(_SLICE, max(0.0, deadline - monotonic())))
            if monotonic() >= deadline:
                return

    def _cancel(self, timer: Timer) -> None:
        with self._lock:
            if timer.callback is None or timer.epoch is not self.epoch:
                return
            timer.callback = None
            self._live -= 1
            if self._wakes_at > clock.monotonic() + _LINGER and self._next_deadline() == math.inf:
                self._ensure_awake(0.0)  # or it would sleep until that time, and not end before
            if len(self._heap) > 2 * self._live + _SLACK:
                self._heap = [entry for entry in self._heap if entry[2].callback is not None]
                heapq.heapify(self._heap)
                self._live = len(self._heap)

    def _ensure_awake(self, deadline: float) -> None:
        self._start()
        if deadline < self._wakes_at and self._wake is not None:
            self._wakes_at = 0.0
            self._wake.send(b"\0")

    def _start(self) -> None:
        if self._thread is not None:
            return
        with ExitStack() as unused:
            ours, wake = map(unused.enter_context, socket.socketpair())
            ours.setblocking(False)
            selector = unused.enter_context(selectors.DefaultSelector())
            selector.register(ours, selectors.EVENT_READ)
            thread = threading.Thread(
                target=self._run, args=(selector, ours), name="wse-loop", daemon=True
            )
            try:
                thread.start()
            except RuntimeError as error:  # the system has no thread left
                raise OSError(str(error)) from error
            unused.pop_all()
        self._selector, self._wake, self._thread = selector, wake, thread
        self._wakes_at = 0.0
        self._hurry = self._told = False

    def _run(self, selector: selectors.BaseSelector, ours: socket.socket) -> None:
        idle_since = monotonic()
        while True:
            due, timeout, idle = self._next()
            if due is not None:
                self._guard(due)
                continue
            if not idle:
                idle_since = monotonic()
            elif self._end_after(idle_since + _LINGER, selector, ours):
                return
            for key, _ in selector.select(timeout):
                if key.fileobj is ours:
                    self._read_wakes(ours)
                else:
                    self._flush(key.fd)

    def _next(self) -> tuple[Callable[[], None] | None, float, bool]:
        """What is due, or how long to sleep and whether there is nothing to wait for."""
        with self._lock:
            now = clock.monotonic()
            deadline = self._next_deadline()
            self._busy = deadline <= now
            if self._busy:
                timer = heapq.heappop(self._heap)[2]
                callback, timer.callback = timer.callback, None
                self._live -= 1
                self.runs += 1
                return callback, 0.0, False
            idle = not self._heap and not self._watched
            sleep = min(_LINGER if idle else _FOREVER, deadline - now)
            self._wakes_at = now + sleep
            return None, sleep, idle

    def _next_deadline(self) -> float:
        while self._heap and self._heap[0][2].callback is None:
            heapq.heappop(self._heap)
        if self._heap:
            return self._heap[0][0]
        self._live = 0
        return math.inf

    def _end_after(
        self, time: float, selector: selectors.BaseSelector, ours: socket.socket
    ) -> bool:
        """Ends the thread's affairs if it has been idle for long enough and still is."""
        with self._lock:
            if self._heap or self._watched or (monotonic() < time and not self._hurry):
                return False
            assert self._wake is not None and self._thread is not None
            self._leaving.add(self._thread)
            self._wake.close()
            self._thread = self._selector = self._wake = None
        ours.close()
        selector.close()
        return True

    def _read_wakes(self, ours: socket.socket) -> None:
        try:
            ours.recv(4096)
        except BlockingIOError:
            return

    def _flush(self, fileno: int) -> None:
        with self._lock:
            flush = self._watched.get(fileno)
        if flush is not None:
            self._guard(flush)

    def _guard(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception:
            _log.exception("a background task failed")


#: The loop of this process.
loop = Loop()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=loop._reset)
