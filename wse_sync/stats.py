"""What an endpoint has done and has to do, as figures that do not change any more.

Values only; ``tally.py`` counts. A result covers a period, by default since its endpoint was made:
what was counted is that of the period, what waits or runs is that of its end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any, TypeVar

__all__ = ["BOUNDS", "CallStats", "ServerStats", "Stats"]

StatsT = TypeVar("StatsT", bound="Stats")

# Ten for each power of ten, a quarter apart: the R10 series of preferred numbers (ISO 3).
_SERIES = ("1", "1.25", "1.6", "2", "2.5", "3.15", "4", "5", "6.3", "8")

#: Up to how many seconds the calls of each bucket took; one more bucket is for those above.
BOUNDS = (*(float(f"{step}e{power}") for power in range(-5, 2) for step in _SERIES), 100.0)

_PERCENTILES = (50, 90, 99)
# Of the table: a name, how many, of them failed, per second, and the percentiles.
_ROW = "{:<34}{:>12}{:>9}{:>11}{:>9}{:>9}{:>9}"
_HEAD = ("", "", "failed", "1/s", *(f"p{it} ms" for it in _PERCENTILES))
_LONGEST_NAME = 31


@dataclass(frozen=True)
class CallStats:
    """The calls of one name, and how long they took.

    Attributes:
        count: How many have ended.
        failed: How many of them with an error.
        seconds: What they took together.
        buckets: How many took up to the bound in the same place of :data:`BOUNDS`, and more than
            the one before it.
    """

    count: int = 0
    failed: int = 0
    seconds: float = 0.0
    buckets: tuple[int, ...] = (0,) * (len(BOUNDS) + 1)

    def percentile(self, percent: float) -> float | None:
        """How long, in seconds, so many percent of the calls took at most; None without calls.

        The truth is in the same bucket, whose bounds are a quarter apart. What took more than 100 s
        counts as that.
        """
        rank = self.count * percent / 100
        before = 0
        for number, count in enumerate(self.buckets):
            if count and before + count >= rank:
                low = BOUNDS[number - 1] if number else 0.0
                high = BOUNDS[min(number, len(BOUNDS) - 1)]
                return low + (high - low) * (rank - before) / count
            before += count
        return None

    def since(self, earlier: CallStats) -> CallStats:
        """Those that have ended since an earlier result."""
        pairs = zip(self.buckets, earlier.buckets)
        return CallStats(
            self.count - earlier.count,
            self.failed - earlier.failed,
            self.seconds - earlier.seconds,
            tuple(now - before for now, before in pairs),
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the percentiles instead of the buckets."""
        plain = {"count": self.count, "failed": self.failed, "seconds": self.seconds}
        return {**plain, **{f"p{it}_seconds": self.percentile(it) for it in _PERCENTILES}}


_NO_CALLS = CallStats()


@dataclass(frozen=True, repr=False)
class Stats:
    """What an endpoint has done in a period, and what it had to do at its end.

    ``print(stats)`` shows it as a table.

    Attributes:
        seconds: How long the period is; by default since the endpoint was made.
        messages_received: Each once, also if links were lost.
        messages_sent: Handed to a connection, which sends them or keeps them for its next link; a
            broadcast counts for each connection.
        calls_served: Calls of the other side that have ended, by procedure. How long they took is
            from when they were read until the handler returned: with the wait for messages before
            them and for one of the ``max_workers``, without the network.
        calls_made: Calls of ours that have ended, by name: with an answer, by their timeout or with
            their link. How long they took is as the caller sees it, with the network.
        errors: By code: what went to the error signal, and why calls of ours failed. ``exception``
            is what handlers of messages and signals raised that has no code. ``other`` are codes
            of the other side's own, and those of yours after the first hundred.
        calls_running: Handlers of calls that run now.
        calls_waiting: Calls that wait for one of the ``max_workers``.
        calls_open: Calls of ours that have no answer yet.
        queued_bytes: What has not gone out yet, of all connections.
        unacknowledged_bytes: What sessions keep until the other side says that it has it.
        unhandled_bytes: What was received and is not handled yet, and 256 for each message.
        recent: The same for the last minute: since an earlier ``stats()`` of 5 to 60 s ago. If
            nobody asked then, since the last one, or from the beginning; ``recent.seconds`` says
            how long that is.
    """

    seconds: float
    messages_received: int
    messages_sent: int
    calls_served: Mapping[Any, CallStats]
    calls_made: Mapping[Any, CallStats]
    errors: Mapping[str, int]
    calls_running: int
    calls_waiting: int
    calls_open: int
    queued_bytes: int
    unacknowledged_bytes: int
    unhandled_bytes: int
    recent: Stats | None

    def since(self: StatsT, earlier: Stats) -> StatsT:
        """What was done since an earlier result of the same endpoint; ``recent`` is None then."""
        return replace(
            self,
            seconds=self.seconds - earlier.seconds,
            messages_received=self.messages_received - earlier.messages_received,
            messages_sent=self.messages_sent - earlier.messages_sent,
            calls_served=_calls_since(self.calls_served, earlier.calls_served),
            calls_made=_calls_since(self.calls_made, earlier.calls_made),
            errors=_counts_since(self.errors, earlier.errors),
            recent=None,
        )

    def per_second(self, count: int) -> float:
        """The rate of something that was counted, on the average of the period."""
        return count / self.seconds if self.seconds > 0 else 0.0

    def as_dict(self) -> dict[str, Any]:
        """For JSON and the like: as plain dicts, with percentiles instead of buckets."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        plain["calls_served"] = _plain(self.calls_served)
        plain["calls_made"] = _plain(self.calls_made)
        plain["errors"] = dict(self.errors)
        plain["recent"] = None if self.recent is None else self.recent.as_dict()
        return plain

    def __str__(self) -> str:
        return "\n".join(line.rstrip() for line in self._lines())

    def __repr__(self) -> str:
        served = _sum(self.calls_served).count
        return (
            f"<{type(self).__name__} of {_duration(self.seconds)}: {self._summary()}"
            f"{self.messages_received} messages in, {self.messages_sent} out,"
            f" {served} calls served, {_sum(self.calls_made).count} made,"
            f" {sum(self.errors.values())} errors; print() shows more>"
        )

    def _summary(self) -> str:
        """What else its ``repr`` says."""
        return ""

    def _lines(self) -> Iterator[str]:
        last = self.recent or self
        period = _duration(self.seconds)
        if last.seconds == self.seconds:
            yield f"counts, rates and times of {period}"
        else:
            yield f"counts of {period}, rates and times of the last {_duration(last.seconds)}"
        yield (
            f"calls: {self.calls_running} running, {self.calls_waiting} waiting for a worker,"
            f" {self.calls_open} of ours open"
        )
        yield (
            f"bytes: {self.queued_bytes:,} queued, {self.unacknowledged_bytes:,} unacknowledged,"
            f" {self.unhandled_bytes:,} unhandled"
        )
        yield _ROW.format(*_HEAD)
        for title, count, lately in (
            ("messages received", self.messages_received, last.messages_received),
            ("messages sent", self.messages_sent, last.messages_sent),
        ):
            yield _ROW.format(title, f"{count:,}", "", f"{last.per_second(lately):,.1f}", *"   ")
        for title, all_calls, of_late in (
            ("calls served", self.calls_served, last.calls_served),
            ("calls made", self.calls_made, last.calls_made),
        ):
            yield _row(title, _sum(all_calls), _sum(of_late), last)
            for name, calls in sorted(all_calls.items(), key=lambda item: str(item[0])):
                yield _row(f"  {_shown(name)}", calls, of_late.get(name, _NO_CALLS), last)
        yield _ROW.format("errors", f"{sum(self.errors.values()):,}", *"     ")
        for code, count in sorted(self.errors.items()):
            yield _ROW.format(f"  {_shown(code)}", f"{count:,}", *"     ")


@dataclass(frozen=True, repr=False)
class ServerStats(Stats):
    """:class:`Stats` of a server, and who is there.

    Attributes:
        users: Who are there, those without a link included.
        connections: With a link.
        suspended: Without one, whose session waits for the client to come back.
        strangers: Links of those who are not let in yet.
    """

    users: int
    connections: int
    suspended: int
    strangers: int

    def _summary(self) -> str:
        return f"{self.connections} connections, {self.suspended} suspended, "

    def _lines(self) -> Iterator[str]:
        yield (
            f"connections: {self.connections:,} open, {self.suspended:,} suspended, {self.users:,}"
            f" users; {self.strangers:,} not let in yet"
        )
        yield from super()._lines()


def _calls_since(now: Mapping[Any, CallStats], earlier: Mapping[Any, CallStats]) -> Any:
    return MappingProxyType(
        {name: calls.since(earlier.get(name, _NO_CALLS)) for name, calls in now.items()}
    )


def _counts_since(now: Mapping[str, int], earlier: Mapping[str, int]) -> Any:
    found = {code: count - earlier.get(code, 0) for code, count in now.items()}
    return MappingProxyType({code: count for code, count in found.items() if count})


def _plain(calls: Mapping[Any, CallStats]) -> dict[str, Any]:
    return {str(name): it.as_dict() for name, it in calls.items()}


def _sum(calls: Mapping[Any, CallStats]) -> CallStats:
    """All together."""
    found = list(calls.values()) or [_NO_CALLS]
    return CallStats(
        sum(it.count for it in found),
        sum(it.failed for it in found),
        sum(it.seconds for it in found),
        tuple(map(sum, zip(*(it.buckets for it in found)))),
    )


def _row(title: str, calls: CallStats, lately: CallStats, period: Stats) -> str:
    found = [lately.percentile(it) for it in _PERCENTILES]
    times = ["-" if it is None else _milliseconds(it) for it in found]
    rate = f"{period.per_second(lately.count):,.1f}"
    return _ROW.format(title, f"{calls.count:,}", f"{calls.failed:,}", rate, *times)


def _shown(name: Any) -> str:
    """A name for the table: applications choose them, and may use what is no text."""
    text = str(name)
    return text if len(text) <= _LONGEST_NAME and text.isprintable() else f"{text!r:.31}"


def _milliseconds(seconds: float) -> str:
    value = seconds * 1000
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"


def _duration(seconds: float) -> str:
    """For people."""
    whole = round(seconds)
    days, hours, minutes = whole // 86_400, whole // 3600 % 24, whole // 60 % 60
    if whole < 60:
        return f"{seconds:.3g} s"
    if whole < 3600:
        return f"{minutes} min {whole % 60} s"
    return f"{days} d {hours} h {minutes} min" if days else f"{hours} h {minutes} min"
