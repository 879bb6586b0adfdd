"""The results of calls that are under way, as futures."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from .dispatch import Workers

__all__ = ["CallFuture"]


class CallFuture(Future[Any]):
    """The result of a call that is under way.

    ``cancel()`` forgets the call: whatever the other side answers is dropped. Callbacks run on a
    worker thread.

    Args:
        workers: Who runs the callbacks.
        forget: Takes the call out of the table, by its stamp; False if it has ended already.
            Whoever takes it out is the one to settle the future.
    """

    def __init__(self, workers: Workers, forget: Callable[[str], bool]) -> None:
        super().__init__()
        self._workers = workers
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

        super().add_done_callback(lambda future: self._workers.run(lambda: run(future)))

    def result(self, timeout: float | None = None) -> Any:
        """Blocks until the call has ended; in a handler, without holding up others meanwhile."""
        if self.done():
            return super().result()
        return self._workers.wait(lambda: super(CallFuture, self).result(timeout))

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Blocks until the call has ended; in a handler, without holding up others meanwhile."""
        if self.done():
            return super().exception()
        return self._workers.wait(lambda: super(CallFuture, self).exception(timeout))
