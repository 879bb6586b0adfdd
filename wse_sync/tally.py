"""Counts what an endpoint does: messages, calls and how long they took, errors.

Any thread counts, and it takes next to nothing: messages and calls are counted in single steps of
the interpreter, without a lock, which would take longer than all the rest. ``_lock`` guards what
takes more than one; it may be taken under every other lock, and nothing is taken under it.

Nothing that the other side does makes a table grow: procedures are those that are registered, codes
of the other side's own are counted together. What the application chooses is bounded.
"""

from __future__ import annotations

import itertools
import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import repeat, starmap
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from . import clock
from .constants import WSE_ERROR
from .errors import WseError
from .stats import BOUNDS, CallStats, Stats

__all__ = ["Load", "Tally"]

StatsT = TypeVar("StatsT", bound=Stats)

_MAX_NAMES = 200  # of procedures, each way
_MAX_CODES = 100  # of errors
# Calls that are sorted together, which takes a fraction of sorting each by itself. Not more: a
# client that seldom calls would keep them for hours.
_MANY = 16
_OTHER = "other"  # names and codes beyond that
_EXCEPTION = "exception"  # an error without a code
_FAILED = str(WSE_ERROR.RP_EXECUTION_FAILED)
_KNOWN = frozenset({*map(str, WSE_ERROR), _EXCEPTION, _OTHER})

# Earlier results for ``recent``: so many, and so far from each other that they cover a minute.
_STEP, _WINDOW = 5.0, 60.0  # s
_SAMPLES = 13


class _Times:
    """The calls of one name.

    Attributes:
        lately: How long those took that are not among the others yet, in seconds. To append is one
            step of the interpreter; any thread, without a lock.
        failed: How many failed.
    """

    __slots__ = ("_buckets", "_seconds", "failed", "lately")

    def __init__(self) -> None:
        self.lately: deque[float] = deque()
        self.failed = 0
        self._buckets = [0] * (len(BOUNDS) + 1)
        self._seconds = 0.0

    def sort(self) -> None:
        """Puts each into its bucket; the lock of the tally is held."""
        taken = list(starmap(self.lately.popleft, repeat((), len(self.lately))))
        for bucket in map(bisect_left, repeat(BOUNDS), taken):
            self._buckets[bucket] += 1
        self._seconds += sum(taken)

    def read(self) -> CallStats:
        """What there was; the lock of the tally is held."""
        failed = self.failed  # first: one that fails now may not be sorted yet
        self.sort()
        return CallStats(sum(self._buckets), failed, self._seconds, tuple(self._buckets))


class _Table(dict[Any, _Times]):
    """Calls by name; those of the names that are too many are counted together."""

    def __missing__(self, name: Any) -> _Times:
        return self.setdefault(name if len(self) < _MAX_NAMES else _OTHER, _Times())

    def read(self) -> Mapping[Any, CallStats]:
        # Of a copy, since names come without the lock.
        return MappingProxyType({name: times.read() for name, times in self.copy().items()})


class _Steps:
    """Counts in one step of the interpreter.

    Attributes:
        step: Counts one more; any thread, without a lock.
    """

    __slots__ = ("_reads", "step")

    def __init__(self) -> None:
        self.step: Callable[[], int] = itertools.count().__next__
        self._reads = 0

    def read(self) -> int:
        """How many there were. To read is a step, too, and left out; the lock is held."""
        self._reads += 1
        return self.step() - self._reads + 1


class Load(NamedTuple):
    """What one connection has to do at the moment; the fields are those of :class:`Stats`."""

    calls_open: int
    queued_bytes: int
    unacknowledged_bytes: int
    unhandled_bytes: int


_NO_LOAD = Load(0, 0, 0, 0)


class Tally:
    """What one endpoint has done since it was made.

    Attributes:
        receive: A message came.
        send: A message went to a connection.
    """

    __slots__ = (
        "_begun",
        "_errors",
        "_lock",
        "_made",
        "_received",
        "_samples",
        "_sent",
        "_sent_to_many",
        "_served",
        "receive",
        "send",
    )

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun = clock.monotonic()
        self._received, self._sent = _Steps(), _Steps()
        self.receive, self.send = self._received.step, self._sent.step
        self._sent_to_many = 0
        self._served = _Table()
        self._made = _Table()
        self._errors: dict[str, int] = {}
        self._samples: deque[Stats] = deque(maxlen=_SAMPLES)

    def send_to_many(self, count: int) -> None:
        """A message went to so many connections."""
        with self._lock:
            self._sent_to_many += count

    def serve(self, name: Any, seconds: float) -> None:
        """A call of the other side has ended; ``name`` is registered."""
        lately = self._served[name].lately
        lately.append(seconds)
        if len(lately) >= _MANY:
            self._sort(self._served[name])

    def fail(self, name: Any, error: BaseException) -> None:
        """The answer to a call that has ended, and is counted, was an error."""
        with self._lock:
            self._served[name].failed += 1
            self._count(error.code if isinstance(error, WseError) else _FAILED)

    def make(self, name: Any, seconds: float, error: WseError | None = None) -> None:
        """A call of ours has ended, with an error or none."""
        lately = self._made[name].lately
        lately.append(seconds)
        if len(lately) >= _MANY:
            self._sort(self._made[name])
        if error is not None:
            with self._lock:
                self._made[name].failed += 1
                self._count(error.code if error.code in _KNOWN else _OTHER)

    def _sort(self, times: _Times) -> None:
        with self._lock:
            times.sort()

    def report(self, error: BaseException) -> None:
        """An error went to the signal of errors that has nothing to do with a procedure."""
        with self._lock:
            self._count(error.code if isinstance(error, WseError) else _EXCEPTION)

    def _count(self, code: str) -> None:
        if code not in _KNOWN and code not in self._errors and len(self._errors) >= _MAX_CODES:
            code = _OTHER
        self._errors[code] = self._errors.get(code, 0) + 1

    def read(self, make: Callable[..., StatsT], loads: Iterable[Load], **present: int) -> StatsT:
        """All of it at one moment.

        Args:
            make: The class of the result.
            loads: Of all connections.
            present: What else there is at the moment.
        """
        total = Load(*map(sum, zip(_NO_LOAD, *loads)))
        with self._lock:
            now = make(
                seconds=clock.monotonic() - self._begun,
                messages_received=self._received.read(),
                messages_sent=self._sent.read() + self._sent_to_many,
                calls_served=self._served.read(),
                calls_made=self._made.read(),
                errors=MappingProxyType(self._errors.copy()),
                recent=None,
                **total._asdict(),
                **present,
            )
            earlier = self._earlier(now.seconds)
            if not self._samples or now.seconds - self._samples[-1].seconds >= _STEP:
                self._samples.append(now)
        return replace(now, recent=now if earlier is None else now.since(earlier))

    def _earlier(self, seconds: float) -> Stats | None:
        """What ``recent`` begins with; None: the beginning. The lock is held."""
        found = [it for it in self._samples if seconds - it.seconds >= _STEP]
        lately = [it for it in found if seconds - it.seconds <= _WINDOW]
        return next(iter(lately or found[-1:]), None)
