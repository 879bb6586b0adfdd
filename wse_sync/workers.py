"""The threads of one endpoint that run the code of its users.

They start when there is work and end when there is none. ``Workers._lock`` guards the counters, the
idle threads and the backlog; it is held for a few lines without I/O or user code, and nothing is
taken under it.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, TypeVar

from .leaving import Leaving

if TYPE_CHECKING:
    from .dispatch import Lane
    from .turn import Turn

__all__ = ["Task", "Workers", "guard"]

_log = logging.getLogger("wse_sync")
_IDLE = 5.0  # s a worker waits for more work before it ends
_SLICE = 0.05  # s between looks whether a thread of others has done its work
_LOOK = 0.01  # s between looks whether code of users still runs
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
        self._threads: set[_Worker] = set()
        self._leaving = Leaving()
        self._calls = 0
        self._backlog: deque[Task] = deque()
        self._waiting = 0
        self._entered = 0  # of the calls, those in threads of others
        self._guests: set[threading.Thread] = set()
        # .in_call: this thread holds one of the places for calls; .lane: the lane that it runs;
        # .turn: of the link whose own thread it is, while that serves a call.
        self.here = threading.local()

    def run(self, task: Task, *, reads: bool = False) -> None:
        """Runs a task in a thread of its own, at once.

        Args:
            task: What to run.
            reads: Whether it is no code of users, but reads a link.
        """
        with self._lock:
            if not self._idle:
                self._hire(task, reads)
                return
            # Without a call before the last step: that is where a Ctrl-C might come.
            worker = self._idle[-1]
            worker.task, worker.reads = task, reads
            del self._idle[-1]
            worker.wake.release()

    def running(self) -> dict[threading.Thread, Task | None]:
        """What runs in which thread; None stands for the code of users in a thread of others."""
        with self._lock:
            running: dict[threading.Thread, Task | None] = dict.fromkeys(self._guests)
            for worker in self._threads.difference(self._idle):
                running[worker] = worker.task
            return running

    def count_calls(self) -> tuple[int, int]:
        """How many calls run, those that await an answer included, and how many wait for that."""
        with self._lock:
            return self._calls + self._waiting, len(self._backlog)

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
                following = self._next_call()
            self._run_next(following)
            raise
        return True

    def enter(self) -> bool:
        """Takes a place among the calls for the calling thread; False if there is none."""
        with self._lock:
            if self._calls >= self._max_calls:
                return False
            self._calls += 1
            self._entered += 1
        self.here.in_call = True
        return True

    def leave(self) -> None:
        """Gives the place of :meth:`enter` to the next call."""
        self.here.in_call = False
        with self._lock:
            following = self._next_call()
        self._run_next(following)
        with self._lock:
            self._entered -= 1  # not before, or nobody would be busy for a moment

    def _run_next(self, call: Task | None) -> None:
        """Runs a call that has been given a place; the system may have no thread for it."""
        if call is not None:
            try:
                self.run(partial(self._run_calls, call))
            except RuntimeError:
                self._run_calls(call)

    def adopt(self, thread: threading.Thread) -> None:
        """Has ``join`` wait for a thread of others, which runs code of users, too."""
        with self._lock:
            self._guests.add(thread)

    def release(self, thread: threading.Thread) -> None:
        """The end of ``adopt``."""
        with self._lock:
            self._guests.discard(thread)

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
        turn: Turn | None = getattr(self.here, "turn", None)
        if turn is not None:
            turn.need_stand_in()
        here: Lane | None = getattr(self.here, "lane", None)
        if here is not None and here is lane:
            here.let_calls_pass(True)
            try:
                return wait()
            finally:
                here.let_calls_pass(False)
        if not getattr(self.here, "in_call", False) or not self._leave_place():
            return wait()
        try:
            return wait()
        finally:
            with self._lock:
                self._waiting -= 1
                self._calls += 1

    @property
    def is_busy(self) -> bool:
        """Whether code of users runs here, apart from that which waits in here."""
        with self._lock:
            busy = {worker for worker in self._threads if worker.task and not worker.reads}
            return self._entered > 0 or not busy.issubset(self._joiners)

    def finish(self, timeout: float) -> None:
        """Waits until no code of users runs any more, for so many seconds at the most.

        The caller's own is not waited for.
        """
        deadline = monotonic() + timeout
        serves = getattr(self.here, "turn", None) is not None
        with self._lock:
            self._entered -= serves
            self._joiners.append(threading.current_thread())
        try:
            while self.is_busy and monotonic() < deadline:
                sleep(_LOOK)
        finally:
            with self._lock:
                self._entered += serves
                self._joiners.remove(threading.current_thread())

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
                    threads = {*self._threads, *self._leaving.alive(), *self._guests}
                    threads.difference_update(self._joiners)
                    dismissed, self._idle = self._idle, []
                for worker in dismissed:  # they wake up without a task
                    worker.wake.release()
                if not threads:
                    return True
                left = deadline - monotonic()
                if left <= 0:
                    return False
                # In slices: that of a WSGI server lives on when it has done its work for us.
                threads.pop().join(min(left, _SLICE))
        finally:
            with self._lock:
                self._joiners.remove(threading.current_thread())

    def retire(self) -> None:
        """In the child of a fork: the thread that is in it ends when its task does."""
        self._lock = threading.Lock()
        self._joiners.append(threading.current_thread())

    def _hire(self, task: Task, reads: bool) -> None:
        worker = _Worker(self._work)
        worker.task, worker.reads = task, reads
        try:
            self._threads.add(worker)
            worker.start()
        except BaseException:  # it may have been started, and Ctrl-C came while that was waited for
            self._threads.discard(worker)
            raise

    def _work(self, worker: _Worker) -> None:
        with self._lock:
            if worker not in self._threads:
                return
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
                self._leaving.add(worker)

    def _run_task(self, worker: _Worker) -> bool:
        """Runs the task of a worker, if it has one; keeps no name for it while it is idle."""
        if worker.task is None:
            return False
        guard(worker.task)
        worker.task = None
        return True

    def _run_calls(self, task: Task) -> None:
        before = getattr(self.here, "in_call", False)
        self.here.in_call = True
        try:
            following: Task | None = task
            while following is not None:
                guard(following)
                with self._lock:
                    following = self._next_call()
        finally:
            self.here.in_call = before

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


class _Worker(threading.Thread):
    """One thread, with a place for its next task and a lock that it waits on for it."""

    def __init__(self, work: Callable[[_Worker], None]) -> None:
        super().__init__(name=f"wse-worker-{next(_numbers)}", daemon=True)
        self.task: Task | None = None
        self.reads = False
        self.wake = threading.Lock()
        self.wake.acquire()
        self._work = work

    def run(self) -> None:
        self._work(self)


def guard(task: Callable[[], Any]) -> None:
    """The top of a thread that runs what is not ours: nothing gets past, nothing is hidden."""
    try:
        task()
    except BaseException:
        _log.exception("a task failed")
