"""Which thread runs which handler, and in which order.

All code of users runs in :class:`Workers`: threads of one endpoint that start when there is work
and end when there is none. A :class:`Lane` is the order of one connection: its messages run one at
a time; a call that reaches the front is handed to a worker and the lane goes on.

Locks: ``Workers._lock`` guards its counters and backlog, ``Lane._lock`` what waits in the lane.
Both are held for a few lines without I/O or user code. A worker may be started under the lock of a
lane; otherwise neither is taken under another lock of this module.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any, NamedTuple, TypeVar

__all__ = ["Lane", "Workers"]

_log = logging.getLogger("wse_sync")
_IDLE = 5.0  # s a worker waits for more work before it ends
_ITEM_BYTES = 256  # what an item in a lane weighs besides its data
_WAITING_FACTOR = 16  # so many times max_calls may wait for answers without holding a place
_numbers = itertools.count(1)

Task = Callable[[], None]
ResultT = TypeVar("ResultT")


class Workers:
    """Threads that run user code, on demand.

    Args:
        max_calls: How many calls may run at the same time; others wait. Lanes are not counted: each
            has one thread at the most.
    """

    def __init__(self, max_calls: int) -> None:
        self._max_calls = max_calls
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []  # the last to become idle is the first to work again
        self._joiners: list[threading.Thread] = []
        self._threads: set[threading.Thread] = set()
        self._calls = 0
        self._backlog: deque[Task] = deque()
        self._waiting = 0
        # .in_call: this thread holds one of the places for calls; .lane: the lane that it runs.
        self._here = threading.local()

    def run(self, task: Task) -> None:
        """Runs a task in a thread of its own, at once."""
        with self._lock:
            if not self._idle:
                self._hire(task)
                return
            worker = self._idle.pop()
        worker.task = task
        worker.wake.release()

    def call(self, task: Task, waiting: Task | None = None) -> bool:
        """Runs a task as one of the calls, as soon as there is a place.

        Args:
            task: What to run.
            waiting: What to run in its place if it has to wait for one; None: the same.

        Returns:
            Whether there was a place at once.
        """
        with self._lock:
            if self._calls >= self._max_calls:
                self._backlog.append(waiting or task)
                return False
            self._calls += 1
        try:
            self.run(partial(self._run_calls, task))
        except RuntimeError:  # the system gives us no thread
            with self._lock:
                self._calls -= 1
            raise
        return True

    def wait(self, wait: Callable[[], ResultT], lane: Lane | None = None) -> ResultT:
        """Runs ``wait``, which blocks until another call is answered, so that nobody is held up.

        A call gives up its place meanwhile, or calls that call back could take all places and wait
        for each other; afterwards it goes on at once, one more than the limit if need be. A handler
        in the lane of the connection that is called lets calls pass, or the answer could wait for a
        call that waits for the handler.

        Args:
            wait: What blocks.
            lane: Of the connection that is called.
        """
        here: Lane | None = getattr(self._here, "lane", None)
        if here is not None and here is lane:
            here.let_calls_pass(True)
            try:
                return wait()
            finally:
                here.let_calls_pass(False)
        if not getattr(self._here, "in_call", False) or not self._leave_place():
            return wait()
        try:
            return wait()
        finally:
            with self._lock:
                self._waiting -= 1
                self._calls += 1

    def join(self, timeout: float) -> bool:
        """Ends idle threads and waits for the busy ones; whether all have ended in time.

        The caller's own thread is not waited for. Work that comes later starts new threads.
        """
        deadline = monotonic() + timeout
        with self._lock:
            # Handlers that end their endpoint at the same time do not wait for each other.
            self._joiners.append(threading.current_thread())
        try:
            while True:
                with self._lock:
                    threads = self._threads.difference(self._joiners)
                    dismissed, self._idle = self._idle, []
                for worker in dismissed:  # they wake up without a task
                    worker.wake.release()
                if not threads:
                    return True
                left = deadline - monotonic()
                if left <= 0:
                    return False
                threads.pop().join(left)
        finally:
            with self._lock:
                self._joiners.remove(threading.current_thread())

    def _hire(self, task: Task) -> None:
        worker = _Worker(self._work)
        worker.task = task
        self._threads.add(worker)
        try:
            worker.start()
        except RuntimeError:
            self._threads.discard(worker)
            raise

    def _work(self, worker: _Worker) -> None:
        try:
            while self._run_task(worker):
                with self._lock:
                    if self._joiners:
                        return
                    self._idle.append(worker)
                if not worker.wake.acquire(timeout=_IDLE):
                    with self._lock:
                        if worker in self._idle:
                            self._idle.remove(worker)
                            return
                    worker.wake.acquire()  # somebody has just taken it off the list
        finally:
            with self._lock:
                self._threads.discard(worker)

    def _run_task(self, worker: _Worker) -> bool:
        """Runs the task of a worker, if it has one; keeps no name for it while it is idle."""
        if worker.task is None:
            return False
        _guard(worker.task)
        worker.task = None
        return True

    def _run_calls(self, task: Task) -> None:
        self._here.in_call = True
        try:
            following: Task | None = task
            while following is not None:
                _guard(following)
                with self._lock:
                    following = self._next_call()
        finally:
            self._here.in_call = False

    def _next_call(self) -> Task | None:
        """Who takes the place that becomes free; the lock is held."""
        if self._backlog and self._calls <= self._max_calls:
            return self._backlog.popleft()
        self._calls -= 1
        return None

    def _leave_place(self) -> bool:
        with self._lock:
            if self._waiting >= _WAITING_FACTOR * self._max_calls:
                return False
            self._waiting += 1
            following = self._next_call()
        if following is None:
            return True
        try:
            self.run(partial(self._run_calls, following))
        except RuntimeError:  # no thread for it: it goes on waiting, and this call keeps its place
            with self._lock:
                self._waiting -= 1
                self._backlog.appendleft(following)
            return False
        return True

    def enter_lane(self, lane: Lane | None) -> None:
        """Notes which lane this thread runs."""
        self._here.lane = lane


class _Worker(threading.Thread):
    """One thread, with a place for its next task and a lock that it waits on for it."""

    def __init__(self, work: Callable[[_Worker], None]) -> None:
        super().__init__(name=f"wse-worker-{next(_numbers)}", daemon=True)
        self.task: Task | None = None
        self.wake = threading.Lock()
        self.wake.acquire()
        self._work = work

    def run(self) -> None:
        self._work(self)


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
        self._bytes = 0
        self._room: threading.Condition | None = None  # made by the first reader who has to wait
        self.max_bytes = max_bytes
        self._source: object = None  # the link whose input is taken

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
        """
        with self._lock:
            if source is not None and source is not self._source:
                return False
            item = _Item(task, cost + _ITEM_BYTES, is_call)
            alone = not (self._items or self._running or self._held)
            # Nothing is before it, or it may pass: no need to go through the thread of the lane.
            at_once = is_call and (alone or self._passing)
            self._bytes += item.cost
            if not at_once:
                self._items.append(item)
                self._ensure_running()
        if at_once:
            # Without the lock: the worker that wakes up would run into it.
            self._hand_over(item)
        return True

    def enter(self, source: object) -> None:
        """Takes what this link brings; what any other still brings is dropped."""
        with self._lock:
            self._source = source

    def leave(self, source: object, *tasks: Task) -> None:
        """Takes nothing more from ``source``; ``tasks`` come last."""
        with self._lock:
            if self._source is source:
                self._source = None
            for task in tasks:
                self._items.append(_Item(task, _ITEM_BYTES, False))
                self._bytes += _ITEM_BYTES
            self._ensure_running()
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
            self._ensure_running()

    def let_calls_pass(self, passing: bool) -> None:
        """Whether calls need not wait for their turn: while the task that runs awaits an answer."""
        with self._lock:
            self._passing = passing
            if not passing:
                return
            calls = [item for item in self._items if item.is_call]
            self._items = deque(item for item in self._items if not item.is_call)
        for item in calls:
            self._hand_over(item)

    @property
    def has_room(self) -> bool:
        """Whether the reader may go on."""
        return self._bytes <= self.max_bytes

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
                lambda: self._bytes <= self.max_bytes or source is not self._source or reads_on()
            )
            return self._bytes <= 2 * self.max_bytes or source is not self._source

    def look_again(self) -> None:
        """Has a reader that waits for room ask anew whether to read on."""
        if self._room is not None:
            with self._lock:
                self._notify()

    def _ensure_running(self) -> None:
        if self._items and not self._running and not self._held:
            self._workers.run(self._run)
            self._running = True

    def _run(self) -> None:
        self._workers.enter_lane(self)
        try:
            self._run_items()
        finally:
            self._workers.enter_lane(None)

    def _run_items(self) -> None:
        while True:
            with self._lock:
                if self._held or not self._items:
                    self._running = False
                    return
                item = self._items.popleft()
            if item.is_call:
                _guard(partial(self._hand_over, item))
            else:
                _guard(item.task)
                self._weigh_out(item)
            del item  # or an idle lane would keep its last payload alive

    def _hand_over(self, item: _Item) -> None:
        """Gives a call to the workers; it is counted here until it has a place there."""
        if self._workers.call(item.task, partial(self._start_late, item)):
            self._weigh_out(item)

    def _start_late(self, item: _Item) -> None:
        self._weigh_out(item)
        item.task()

    def _weigh_out(self, item: _Item) -> None:
        with self._lock:
            self._bytes -= item.cost
            if self._bytes <= self.max_bytes:
                self._notify()

    def _notify(self) -> None:
        if self._room is not None:
            self._room.notify_all()


def _guard(task: Callable[[], Any]) -> None:
    """The top of a thread that runs what is not ours: nothing gets past, nothing is hidden."""
    try:
        task()
    except BaseException:
        _log.exception("a task failed")
