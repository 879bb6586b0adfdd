"""Who waits for the answer to a call: a thread that blocks, or a future.

Whoever takes the call out of the table of open calls settles its reply, once.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from threading import Lock
from typing import Any, Protocol

from . import clock
from .dispatch import Lane
from .workers import Workers

__all__ = ["BlockedCall", "CallFuture", "Reply"]

_SLICE = 1.0  # s


class Reply(Protocol):
    """Where the answer to a call goes."""

    stamp: str

    def set_result(self, result: Any) -> None:
        """The call worked."""

    def set_exception(self, exception: BaseException) -> None:
        """It failed."""


class BlockedCall:
    """A thread that waits for one answer: a bare lock, a third of what a future costs."""

    __slots__ = ("_answered", "_error", "_result", "is_open", "stamp")

    def __init__(self) -> None:
        self.stamp = ""
        self._result: Any = None
        self._error: BaseException | None = None
        self._answered = Lock()
        self._answered.acquire()
        #: Whether no answer has come yet; before ``wait``, any thread.
        self.is_open = self._answered.locked

    def set_result(self, result: Any) -> None:
        self._result = result
        self._answered.release()

    def set_exception(self, exception: BaseException) -> None:
        self._error = exception
        self._answered.release()

    def wait(self) -> Any:
        """Blocks until the answer is there; once."""
        # In slices: a Ctrl-C between the last look of the interpreter and the system call that
        # waits is noticed only after it.
        while not self._answered.acquire(True, _SLICE):
            continue
        if self._error is None:
            return self._result
        try:
            raise self._error
        finally:
            self._error = None  # or the error and its traceback would hold each other


class CallFuture(Future[Any]):
    """The result of a call that is under way.

    ``cancel()`` forgets the call: whatever the other side answers is dropped. Callbacks run on a
    worker thread.

    Args:
        name: Of the procedure.
        workers: Who runs the callbacks.
        lane: Of the connection.
        forget: Takes the call out of the table, by its stamp; False if it has ended already.
            Whoever takes it out is the one to settle the future.
    """

    def __init__(
        self, name: Any, workers: Workers, lane: Lane, forget: Callable[[str], bool]
    ) -> None:
        super().__init__()
        self.name = name
        self._workers = workers
        self._lane = lane
        self._forget = forget
        self.stamp = ""

    def cancel(self) -> bool:
        """Forgets the call; False if it has ended already."""
        if not self._forget(self.stamp):
            return self.cancelled()
        super().cancel()
        self.set_running_or_notify_cancel()  # tells wait() and as_completed()
        return True

    def add_done_callback(self, fn: Callable[[Future[Any]], object]) -> None:
        """Has ``fn(future)`` called on a worker thread when the call has ended."""

        def run(future: Future[Any]) -> None:
            fn(future)

        super().add_done_callback(lambda future: self._workers.call(lambda: run(future)))

    def result(self, timeout: float | None = None) -> Any:
        """Blocks until the call has ended; in a handler, without holding up others meanwhile."""
        self._wait(timeout)
        return super().result(0.0)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Blocks until the call has ended; in a handler, without holding up others meanwhile."""
        self._wait(timeout)
        return super().exception(0.0)

    def _wait(self, timeout: float | None) -> None:
        if not self.done():
            self._workers.wait(partial(self._wait_in_slices, timeout), self._lane)

    def _wait_in_slices(self, timeout: float | None) -> None:
        with self._condition:
            clock.wait_for(self._condition, self.done, timeout)

    def __repr__(self) -> str:
        state = "cancelled" if self.cancelled() else "done" if self.done() else "open"
        return f"<CallFuture {self.name!r} {state}>"
