"""In which order the handlers of one connection run.

A :class:`Lane` runs its messages one at a time; a call that reaches the front is handed to the
workers and the lane goes on. ``Lane._lock`` guards what waits; it is held for a few lines without
I/O or user code. A worker may be started under it, and a timer set.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from .loglimit import LogLimit
from .loop import loop
from .workers import Task, Workers, guard

__all__ = ["Lane"]

_limit = LogLimit(logging.getLogger("wse_sync"))
_ITEM_BYTES = 256  # what an item in a lane weighs besides its data
_PAUSE = 0.1  # s between attempts to start a thread when the system has none left


class _Item(NamedTuple):
    task: Task
    cost: int
    is_call: bool


class Lane:
    """What one connection has received and not handled yet, in order.

    Args:
        workers: Who handles it.
        max_bytes: How much may wait before the reader has to.
    """

    def __init__(self, workers: Workers, max_bytes: int) -> None:
        self._workers = workers
        self._lock = threading.Lock()
        self._items: deque[_Item] = deque()
        self._running = False
        self._held = False
        self._passing = False
        self._starved = False  # of a thread, and waits for one
        self._bytes = 0
        self._room: threading.Condition | None = None  # made by the first reader who has to wait
        self.max_bytes = max_bytes
        self._on_handled: Task | None = None
        #: The link whose input is taken.
        self.source: object = None
        #: Whether no more of it is.
        self.is_shut = False

    def post(
        self, task: Task, cost: int = 0, *, source: object = None, is_call: bool = False
    ) -> bool:
        """Appends a task.

        Args:
            task: What to run.
            cost: Size of the data that it holds, in bytes.
            source: The link that it came from; dropped if that is not the current one. None: ours.
            is_call: Whether to hand it to a worker instead of running it in the lane.

        Returns:
            Whether it was taken.

        Raises:
            RuntimeError: The system gives us no thread to run what a link has brought; it was not
                taken. Ours is run when there is one again.
        """
        with self._lock:
            if source is not None and (self.is_shut or source is not self.source):
                return False
            item = _Item(task, cost + _ITEM_BYTES, is_call)
            alone = not (self._items or self._running or self._held)
            # Nothing is before it, or it may pass: no need to go through the thread of the lane.
            at_once = is_call and (alone or self._passing)
            self._bytes += item.cost
            if not at_once:
                self._items.append(item)
                try:
                    self._ensure_running()
                except RuntimeError:
                    if source is not None:
                        self._bytes -= self._items.pop().cost
                        raise
                    self._run_later()
        if at_once:
            # Without the lock: the worker that wakes up would run into it.
            try:
                self._hand_over(item)
            except RuntimeError:
                self._weigh_out(item)
                raise
        return True

    def lets_start(self, source: object) -> bool:
        """Whether a call from there may start at once, because nothing is before it."""
        with self._lock:
            waits = self._items or self._running or self._held
            taken = source is self.source and not self.is_shut
            return taken and (self._passing or not waits)

    def shut(self) -> None:
        """Takes nothing more from links; what was taken is still handled."""
        with self._lock:
            self.is_shut = True

    def enter(self, source: object) -> None:
        """Takes what this link brings; what any other still brings is dropped."""
        with self._lock:
            self.source = source
            self._notify()

    def leave(self, source: object, *tasks: Task) -> None:
        """Takes nothing more from ``source``; ``tasks`` come last."""
        with self._lock:
            if self.source is source:
                self.source = None
            for task in tasks:
                self._items.append(_Item(task, _ITEM_BYTES, False))
                self._bytes += _ITEM_BYTES
            self._run_soon()
            self._notify()

    def hold(self) -> None:
        """Stops after the task that is running, until ``release``."""
        with self._lock:
            self._held = True

    def release(self, *tasks: Task) -> None:
        """Goes on, with ``tasks`` before everything that waits."""
        with self._lock:
            self._held = False
            for task in reversed(tasks):
                self._items.appendleft(_Item(task, _ITEM_BYTES, False))
                self._bytes += _ITEM_BYTES
            self._run_soon()

    def when_handled(self, task: Task) -> None:
        """Runs ``task``, which is short, when nothing waits or runs here any more; once."""
        with self._lock:
            if self._bytes:
                self._on_handled = task
                return
        task()

    def hand_over(self, heir: Lane) -> None:
        """Has another lane do what waits here, after what waits there."""
        with self._lock:
            items, self._items = self._items, deque()
            self._bytes -= sum(item.cost for item in items)
            self._notify()
        for item in items:
            heir.post(item.task, item.cost - _ITEM_BYTES)

    def let_calls_pass(self, passing: bool) -> None:
        """Whether calls need not wait for their turn: while the task that runs awaits an answer."""
        with self._lock:
            self._passing = passing
            if not passing:
                return
            calls = deque(item for item in self._items if item.is_call)
            self._items = deque(item for item in self._items if not item.is_call)
        while calls and self._handed_over(calls[0]):
            calls.popleft()
        with self._lock:
            self._items.extendleft(reversed(calls))

    @property
    def is_here(self) -> bool:
        """Whether it is this lane that runs in the current thread."""
        return getattr(self._workers.here, "lane", None) is self

    @property
    def has_room(self) -> bool:
        """Whether the reader may go on."""
        return self._bytes <= self.max_bytes

    @property
    def waiting_bytes(self) -> int:
        """What has been received and is not handled yet."""
        return self._bytes

    def wait_for_room(self, source: object, reads_on: Callable[[], bool]) -> bool:
        """Blocks the reader while too much waits here.

        A reader that stops makes the other side stop as well (TCP). But while this end waits for
        answers, they would be stuck behind what is not read: then it reads on, to twice the bound.

        Args:
            source: The link; the wait ends when it is over.
            reads_on: Whether this end waits for answers. ``look_again`` has it asked anew.

        Returns:
            False if the second bound is passed.
        """
        with self._lock:
            if self._room is None:
                self._room = threading.Condition(self._lock)
            self._room.wait_for(
                lambda: self._bytes <= self.max_bytes or source is not self.source or reads_on()
            )
            return self._bytes <= 2 * self.max_bytes or source is not self.source

    def look_again(self) -> None:
        """Has a reader that waits for room ask anew whether to read on."""
        if self._room is not None:
            with self._lock:
                self._notify()

    def _ensure_running(self) -> None:
        if self._items and not self._running and not self._held:
            self._workers.run(self._run)
            self._running = True

    def _run_soon(self) -> None:
        """Runs what waits, later if the system gives us no thread; the lock is held."""
        try:
            self._ensure_running()
        except RuntimeError:
            self._run_later()

    def _run_later(self) -> None:
        if not self._starved:
            self._starved = True
            loop.call_later(_PAUSE, self._try_again)

    def _try_again(self) -> None:
        with self._lock:
            self._starved = False
            self._run_soon()

    def _run(self) -> None:
        self._workers.here.lane = self
        try:
            self._run_items()
        finally:
            self._workers.here.lane = None

    def _run_items(self) -> None:
        while True:
            with self._lock:
                if self._held or not self._items:
                    self._running = False
                    return
                item = self._items.popleft()
            if not (item.is_call and self._handed_over(item)):
                guard(item.task)
                self._weigh_out(item)
            del item  # or an idle lane would keep its last payload alive

    def _hand_over(self, item: _Item) -> None:
        """Gives a call to the workers; it is counted here until it has a place there."""
        if self._workers.call(item.task, partial(self._start_late, item)):
            self._weigh_out(item)

    def _handed_over(self, item: _Item) -> bool:
        """Whether there is a thread for a call; else it is run in its turn, by the lane."""
        try:
            self._hand_over(item)
        except RuntimeError as error:
            _limit.write(logging.WARNING, "a call runs where messages do: %s", error)
            return False
        return True

    def _start_late(self, item: _Item) -> None:
        self._weigh_out(item)
        item.task()

    def _weigh_out(self, item: _Item) -> None:
        with self._lock:
            self._bytes -= item.cost
            if self._bytes <= self.max_bytes:
                self._notify()
            if self._bytes or self._on_handled is None:
                return
            task, self._on_handled = self._on_handled, None
        task()

    def _notify(self) -> None:
        if self._room is not None:
            self._room.notify_all()
