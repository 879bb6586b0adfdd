"""Whose turn it is to read a link: mostly its own thread's, sometimes that of others for a while.

To hand a frame to another thread takes longer than everything else that a short call needs. So two
ways lead round it (after "leader and followers": Schmidt et al., POSA 2, 2000):

- The own thread of a link *serves* a quick call itself, if nothing is before it. Nobody reads
  meanwhile. When that takes longer than expected, or waits for an answer, a worker reads on as its
  *stand-in*, until the own thread is back and another message has come.
- When one call follows another and each is answered soon, the own thread *steps aside*, and the
  thread that waits for an answer reads it itself. Anything else that comes, or happens, ends this.

Threads: the own thread calls ``serve``, ``step_aside`` and ``come_back``; the stand-in is a worker;
callers come from any thread; the watch is a timer of the loop, as long as calls are served here.

``Turn._lock`` guards its attributes; the lock of the workers is taken under it. It may be taken
under the lock of a connection. ``_Watch._lock`` guards the timer; that of the loop is taken under
it.
"""

from __future__ import annotations

import itertools
import logging
import os
import threading
from collections.abc import Callable
from typing import Union

from .loop import Timer, loop
from .protocol import Data
from .transport.base import LinkLost
from .workers import Task, Workers, guard

__all__ = ["Turn", "rest"]

_log = logging.getLogger("wse_sync")

#: The watch looks so often, in seconds. A call that it sees twice gets a stand-in.
LOOK = 0.005
#: So many answers in a row, each to the only open call, before the own thread steps aside.
ANSWERS = 8
#: The own thread reads again when nobody has called for so long, in seconds; at most twice that.
GRACE = 0.002

_OWN = "own"  # its own thread reads, or serves a call
_AWAY = "away"  # it serves a call, a stand-in reads
_FREE = "free"  # it has stepped aside, nobody reads
_TAKEN = "taken"  # a thread looks for the answer to its call

Gift = Union[Data, LinkLost, None]


class Turn:
    """Who reads one link.

    Args:
        workers: Where stand-ins come from.
        stand_in: Reads until :meth:`give_back` takes what came; runs on a worker.
        may_serve: Whether calls may be run in the own thread.
    """

    __slots__ = (
        "_answers",
        "_gift",
        "_lock",
        "_may_serve",
        "_reader",
        "_recalled",
        "_serving",
        "_state",
        "_used",
        "_wake",
        "_workers",
        "is_away",
        "stand_in",
    )

    def __init__(self, workers: Workers, stand_in: Task, *, may_serve: bool) -> None:
        self._workers = workers
        #: What a stand-in runs.
        self.stand_in = stand_in
        self._may_serve = may_serve
        self._lock = threading.Lock()
        self._state = _OWN
        self._wake = threading.Lock()  # what the own thread waits for
        self._wake.acquire()
        #: Whether a stand-in reads, or has read what :meth:`come_back` gives.
        self.is_away = False
        self._serving: threading.Thread | None = None  # the own thread, while it serves
        self._gift: Gift = None
        self._answers = 0  # in a row
        self._reader = 0  # who looks for an answer
        self._used = False  # since the own thread looked last
        self._recalled = False

    # The own thread serves calls

    @property
    def may_serve(self) -> bool:
        """Whether a call that was read just now may be served by the thread that read it."""
        return self._may_serve and self._state is _OWN

    def serve(self, task: Task) -> None:
        """Runs a call; the own thread."""
        here = self._workers.here
        with self._lock:
            self._serving = threading.current_thread()
        here.turn = self
        try:
            _watch.begin(self)
            guard(task)
        finally:
            _watch.end(self)
            here.turn = None
            with self._lock:
                self._serving = None

    def need_stand_in(self) -> None:
        """Has a worker read on, if the own thread is serving; any thread."""
        with self._lock:
            if self._serving is None or self._state is not _OWN:
                return
            try:
                self._workers.run(self.stand_in, reads=True)
            except RuntimeError as error:  # the watch tries again
                _log.debug("a call holds up its connection: %s", error)
                return
            self._state = _AWAY
            self.is_away = True
            self._workers.adopt(self._serving)

    def give_back(self, gift: Gift) -> bool:
        """Has the own thread go on with ``gift``; False if it still serves. The stand-in."""
        with self._lock:
            if self._serving is not None:
                return False
            self._gift = gift
            self._come()
            return True

    def end(self) -> None:
        """The link has ended, nothing is left to go on with; the stand-in."""
        with self._lock:
            self._wake.release()  # nobody shall read any more: it stays away

    def come_back(self) -> Gift:
        """Waits for what the stand-in gives back; None if the link has ended. The own thread."""
        self._workers.release(threading.current_thread())
        self._wake.acquire()
        with self._lock:
            self.is_away = False
            gift, self._gift = self._gift, None
            return gift

    def _come(self) -> None:
        """Has the own thread go on; the lock is held."""
        self._recalled = False
        self._state = _OWN
        self._wake.release()

    # The own thread steps aside

    def expect_calls(self) -> None:
        """An answer is about to be handed on; whoever read it."""
        self._recalled = False

    def count_answer(self, others: int) -> None:
        """It was, and so many calls are still open."""
        self._answers = 0 if others else self._answers + 1

    def count_other(self) -> None:
        """Something else came; whoever read it."""
        self._answers = 0

    def count_ack(self) -> None:
        """An acknowledgement ended the look for an answer: the own thread shall read just that."""
        self._answers = ANSWERS - 1

    @property
    def is_tempted(self) -> bool:
        """Whether the own thread should step aside now."""
        return self._answers >= ANSWERS

    def step_aside(self, is_over: Callable[[], bool]) -> bool:
        """Lets callers read; returns when the own thread has to. The own thread.

        Args:
            is_over: Whether the link is.

        Returns:
            False if it is over, and a caller may still be in the middle of a frame: one that the
            system holds up, or that was hit twice by Ctrl-C and never ends.
        """
        with self._lock:
            self._answers = 0
            if self._recalled:
                return True  # whoever called just now did not find the turn free
            self._used = True
            self._state = _FREE
        while not self._wake.acquire(timeout=GRACE):
            with self._lock:
                if self._state is _OWN:
                    # Recalled just now; or Ctrl-C came before the wake.
                    self._wake.acquire(blocking=False)
                    return True
                # A caller takes less than this.
                is_free = self._state is _FREE
                if not self._used and (is_free or is_over()):
                    self._state = _OWN
                    return is_free
                self._used = False
        return True

    def claim(self) -> bool:
        """Whether the calling thread may look for the answer to its call.

        Then it has to, and say :meth:`done` or :meth:`abandon`.
        """
        serves = getattr(self._workers.here, "turn", None) is self
        with self._lock:
            if self._state is not (_OWN if serves else _FREE):
                self._recalled = True  # for this answer, too
                return False
            self._reader = threading.get_ident()
            self._used = True
            self._recalled = False
            self._state = _TAKEN
            return True

    def done(self) -> None:
        """The calling thread has found its answer."""
        with self._lock:
            if self._state is _TAKEN:
                if self._serving is not None:
                    self._state = _OWN
                elif self._recalled:
                    self._come()
                else:
                    self._state = _FREE
            self._reader = 0  # the last step: after Ctrl-C before it, abandon() does the rest

    def abandon(self) -> None:
        """Has others read on; no effect if the calling thread does not read."""
        if self._reader != threading.get_ident():
            return
        with self._lock:
            if self._reader != threading.get_ident():
                return
            serves = self._serving is not None
            if self._state is _TAKEN and serves:
                self._state = _OWN
            elif self._state is _TAKEN:
                self._come()
            self._reader = 0
        if serves:
            self.need_stand_in()

    def recall(self) -> None:
        """Has the own thread read: more is under way than one call. Any thread."""
        self._recalled = True
        if self._state is _OWN:
            return
        with self._lock:
            if self._state is _FREE:
                self._come()


class _Watch:
    """Sees to it that no call holds up its link for long."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        """A clean start: also in the child of a fork, where the loop has none of our timers."""
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        # Changed without the lock: each in one step of the interpreter.
        self._served: dict[Turn, int] = {}
        self._busy = False
        self._seen: dict[Turn, int] = {}
        self._timer: Timer | None = None

    def begin(self, turn: Turn) -> None:
        """The own thread of a link begins to serve a call."""
        self._served[turn] = next(self._numbers)
        self._busy = True
        if self._timer is None:
            with self._lock:
                if self._timer is None:
                    self._timer = loop.call_later(LOOK, self._look)

    def end(self, turn: Turn) -> None:
        """It has served it."""
        self._served.pop(turn, None)

    def rest(self) -> None:
        """Ends the timer, if nothing is served, and keeps nothing of what is over."""
        with self._lock:
            timer = self._timer
            if timer is not None and not self._served:
                self._timer = None
                timer.cancel()
                # begin() enters its call first and then looks for the timer, here it is the other
                # way.
                if self._served:
                    self._timer = loop.call_later(LOOK, self._look)
            # Also without a timer: the last look may have seen what got a stand-in and is over now.
            self._seen = {turn: n for turn, n in self._seen.items() if turn in self._served}

    def _look(self) -> None:
        served = self._served.copy()
        for turn, number in served.items():
            if self._seen.get(turn) == number:
                turn.need_stand_in()
        self._seen = served
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()  # not this one, if rest() has just set another
            self._timer = None  # before the look at _busy, as in rest()
            # Where there is a stand-in already, the next call brings the watch back.
            if self._busy or any(not turn.is_away for turn in served):
                self._timer = loop.call_later(LOOK, self._look)
            self._busy = False


_watch = _Watch()
rest = _watch.rest

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_watch._reset)
