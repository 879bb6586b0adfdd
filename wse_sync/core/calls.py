"""The open calls of one end: who waits for which stamp, and until when.

State and data only; whoever holds the lock of the connection may call in.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection
from typing import Generic, TypeVar

__all__ = ["Calls", "OpenCall"]

ReplyT = TypeVar("ReplyT")


class OpenCall(Generic[ReplyT]):
    """A call without an answer yet; ``reply`` is where its answer goes."""

    __slots__ = ("begun", "deadline", "name", "reply")

    def __init__(self, name: str, begun: float, deadline: float | None, reply: ReplyT) -> None:
        self.name = name
        self.begun = begun
        self.deadline = deadline
        self.reply = reply


class Calls(Generic[ReplyT]):
    """The table of open calls; each leaves it exactly once."""

    def __init__(self) -> None:
        self._open: dict[str, OpenCall[ReplyT]] = {}
        self._numbers = itertools.count(1)

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, stamp: object) -> bool:
        return stamp in self._open

    def new_stamp(self) -> str:
        """A stamp that was not used before: ten digits, as long as those of other peers.

        One step of the interpreter: no lock is needed.
        """
        return f"{next(self._numbers):010d}"

    def open(
        self, stamp: str, name: str, begun: float, deadline: float | None, reply: ReplyT
    ) -> None:
        """Enters a call that was made at the time ``begun``."""
        self._open[stamp] = OpenCall(name, begun, deadline, reply)

    def close(self, stamp: str) -> OpenCall[ReplyT] | None:
        """Takes out the call of this stamp; None if there is none (any more)."""
        return self._open.pop(stamp, None)

    def expire(self, now: float) -> list[OpenCall[ReplyT]]:
        """Takes out the calls whose deadline has come."""
        late = [
            stamp
            for stamp, call in self._open.items()
            if call.deadline is not None and call.deadline <= now
        ]
        return [self._open.pop(stamp) for stamp in late]

    def next_deadline(self) -> float | None:
        """The earliest deadline of all; None if nothing has one."""
        deadlines = (call.deadline for call in self._open.values() if call.deadline is not None)
        return min(deadlines, default=None)

    def drain(self, keep: Collection[str] = ()) -> list[OpenCall[ReplyT]]:
        """Takes out all calls but those with the stamps in ``keep``."""
        stamps = [stamp for stamp in self._open if stamp not in keep]
        return [self._open.pop(stamp) for stamp in stamps]
