"""Who waits for answers over one connection, and until when.

Any thread opens and forgets calls, the reader settles them, the loop ends those that are late.
``_lock`` guards the table and the timer; it may be taken under the lock of a connection, and under
it only that of the loop is taken. Replies are settled without it, once: by whoever took the call
out of the table.
"""

from __future__ import annotations

import threading
from collections.abc import Collection

from . import clock
from .constants import WSE_ERROR
from .core.calls import Calls, OpenCall
from .core.failures import error_from
from .core.peer import Answer
from .errors import WseError, error_of
from .futures import Reply
from .loop import Timer, loop
from .tally import Tally

__all__ = ["Callers"]


class Callers:
    """The open calls of one connection.

    Args:
        tally: Is told how they end.
    """

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._lock = threading.Lock()
        self._calls: Calls[Reply] = Calls()
        self._expiry: Timer | None = None

    def __len__(self) -> int:
        return len(self._calls)

    def __contains__(self, stamp: object) -> bool:
        return stamp in self._calls

    def new_stamp(self) -> str:
        """A stamp for the next call."""
        return self._calls.new_stamp()

    def open(
        self, stamp: str, name: str, begun: float, deadline: float | None, reply: Reply
    ) -> None:
        """Enters a call made at ``begun``; without an answer it ends at ``deadline``."""
        with self._lock:
            self._calls.open(stamp, name, begun, deadline, reply)
            if deadline is not None:
                self._arm(deadline)

    def forget(self, stamp: str) -> bool:
        """Takes out a call that nobody waits for any more; False if it has ended already."""
        with self._lock:
            call = self._calls.close(stamp)
            self._disarm_if_idle()
        return call is not None

    def settle(self, answer: Answer) -> int:
        """Ends the call that was answered; one that is not open is dropped.

        Returns:
            How many others are open; -1 if this one is not.
        """
        with self._lock:
            call = self._calls.close(answer.stamp)
            others = len(self._calls)
        if call is None:
            return -1
        if answer.failed:
            self._end(call, error_from(answer.payload, call.name))
        else:
            self._tally.make(call.name, clock.monotonic() - call.begun)
            call.reply.set_result(answer.payload)
        return others

    def take_all(self, keep: Collection[str] = ()) -> list[OpenCall[Reply]]:
        """Takes out all calls but those in ``keep``, for :meth:`disconnect`."""
        with self._lock:
            calls = self._calls.drain(keep)
            self._disarm_if_idle()
        return calls

    def disconnect(self, calls: Collection[OpenCall[Reply]], code: int, reason: str) -> None:
        """Ends calls, which were taken out, whose answers cannot come any more."""
        for call in calls:
            details = {"rp": call.name, "disconnected": [code, str(reason)]}
            message = f"the link was lost ({code}{' ' * bool(reason)}{reason})"
            self._end(call, error_of(WSE_ERROR.RP_DISCONNECT, details, message))

    def _end(self, call: OpenCall[Reply], error: WseError) -> None:
        self._tally.make(call.name, clock.monotonic() - call.begun, error)
        call.reply.set_exception(error)

    def _arm(self, deadline: float) -> None:
        """One timer for all calls: set to the earliest deadline there may be."""
        before = self._expiry
        if before is not None and before.deadline <= deadline:
            return
        self._expiry = loop.call_at(deadline, self._expire)
        # In this order, here and below: a Ctrl-C in between leaves a timer too many, not one that
        # is thought to run.
        if before is not None:
            before.cancel()

    def _disarm_if_idle(self) -> None:
        if not len(self._calls):
            before, self._expiry = self._expiry, None
            if before is not None:
                before.cancel()

    def _expire(self) -> None:
        with self._lock:
            late = self._calls.expire(clock.monotonic())
            if self._expiry is not None:
                self._expiry.cancel()  # not this one, if an earlier deadline came just now
                self._expiry = None
            following = self._calls.next_deadline()
            if following is not None:
                self._arm(following)
        for call in late:
            error = error_of(WSE_ERROR.RP_TIMEOUT, {"rp": call.name}, "no answer in time")
            self._end(call, error)
