"""What a session remembers, so that a lost link loses nothing (after XMPP's XEP-0198).

Each side counts the frames that it sends and receives from the welcome on, and keeps what it sent
until the other side says that it has it. State and data only; the same at both ends.

A frame goes from ``waiting`` (not yet on the link) to ``kept`` (on the link, not acknowledged), and
from there to oblivion. Without a session nothing is kept: a frame that was written is gone.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, NamedTuple

from ..constants import WSE_ERROR
from ..errors import WseError
from ..protocol import Data

__all__ = ["Delivery", "Limits", "Outgoing"]

#: An acknowledgement is sent after so many frames, or bytes, or seconds after the first of them.
ACK_FRAMES, ACK_BYTES, ACK_SECONDS = 64, 256 * 1024, 1.0


class Outgoing(NamedTuple):
    """A packed frame on its way out.

    Attributes:
        data: What travels.
        type: Of a message or call.
        stamp: Of a call of ours.
        is_answer: Whether it answers a call of the other side.
    """

    data: Data
    type: Any = None
    stamp: str | None = None
    is_answer: bool = False


class Limits(NamedTuple):
    """How much a session may keep."""

    max_bytes: float = math.inf
    max_frames: float = math.inf


# What keeps no frames, and has no room for any: even an empty deque takes 600 bytes.
_NOTHING: deque[Outgoing] = deque(maxlen=0)


class Delivery:
    """The account of one session: what went out, what came in, what is not settled.

    Args:
        limits: Of what is kept; None: nothing is kept or counted, there is no session.
        id: Of the session, a secret.
    """

    __slots__ = (
        "_again",
        "_kept",
        "_max_bytes",
        "_max_frames",
        "_owed_bytes",
        "_owed_since",
        "_told",
        "acknowledged",
        "forgotten",
        "id",
        "is_session",
        "kept_bytes",
        "received",
        "waiting",
        "waiting_bytes",
    )

    def __init__(self, limits: Limits | None = None, id: str = "") -> None:
        self.is_session = limits is not None
        self.id = id
        self._max_bytes, self._max_frames = limits or Limits()
        #: Frames that are to be written: first those that an earlier link has had already.
        self.waiting = _NOTHING
        self.waiting_bytes = 0
        self._again = 0  # so many of them
        self._kept: deque[Outgoing] = deque() if self.is_session else _NOTHING
        #: Bytes of the frames that were written and are not acknowledged.
        self.kept_bytes = 0
        #: The number of frames that are kept no more.
        self.forgotten = 0
        #: The highest count that the other side has told us.
        self.acknowledged = 0
        #: Frames of the other side that stand in the lane, or were settled.
        self.received = 0
        self._told = 0  # how many of them the other side knows of
        self._owed_bytes = 0
        self._owed_since = 0.0

    # Out

    def wait(self, frame: Outgoing) -> None:
        """Puts a frame at the end of those that are to be written."""
        if self.waiting is _NOTHING:
            self.waiting = deque()
        self.waiting.append(frame)
        self.waiting_bytes += len(frame.data)

    def write_waiting(
        self, write: Callable[[Data], bool], is_wanted: Callable[[Outgoing], bool]
    ) -> bool:
        """Writes what waits, in order, until ``write`` says no.

        Args:
            write: Puts data on the link; False if that takes no more.
            is_wanted: Whether a frame that no link has had is still of use. One that a link has
                had must be sent again: it has its number.

        Returns:
            Whether all of it is written.
        """
        while self.waiting:
            frame = self.waiting[0]
            wanted = self._again or is_wanted(frame)
            if wanted and not write(frame.data):
                return False
            self.waiting.popleft()
            if self._again:
                self._again -= 1
                self._kept.append(frame)
                continue
            self.waiting_bytes -= len(frame.data)
            if wanted and self.is_session:
                self.wrote(frame)
        return True

    def wrote(self, frame: Outgoing) -> bool:
        """Numbers a frame of a session that is written to the link just now, and keeps it.

        Returns:
            Whether more is kept now than may be.
        """
        kept = self._kept
        kept.append(frame)
        self.kept_bytes = size = self.kept_bytes + len(frame.data)
        return (size > self._max_bytes or len(kept) > self._max_frames) and len(kept) > 1

    def take_back(self) -> None:
        """Undoes the last :meth:`wrote`: the link did not take it."""
        self.kept_bytes -= len(self._kept.pop().data)

    def acknowledge(self, count: Any) -> None:
        """Forgets the first ``count`` frames of the session: the other side has them.

        Raises:
            WseError: It cannot have so many, or has said that it has more (PROTOCOL_VIOLATION).
        """
        self._check(count, self.acknowledged)
        self.acknowledged = count
        if not self._again and count == self._written:
            self._kept.clear()
            self.forgotten, self.kept_bytes = count, 0
            return
        kept = self._kept
        gone = [kept.popleft().data for _ in range(min(len(kept), count - self.forgotten))]
        self.kept_bytes -= sum(map(len, gone))
        self.forgotten += len(gone)
        while self.forgotten < count:
            self._forget_oldest()

    def trim(self) -> None:
        """Keeps no more than it may, but the last frame always.

        What is forgotten early cannot be sent again: the session can be resumed only if the other
        side has it.
        """
        while self._is_over():
            self._forget_oldest()

    def _is_over(self) -> bool:
        frames = len(self._kept)
        return frames > 1 and (frames > self._max_frames or self.kept_bytes > self._max_bytes)

    def _forget_oldest(self) -> None:
        if self._kept:
            frame = self._kept.popleft()
        else:  # it came over an earlier link, and this one has not had it again yet
            frame = self.waiting.popleft()
            self._again -= 1
        self.kept_bytes -= len(frame.data)
        self.forgotten += 1

    def sweep(self, is_wanted: Callable[[Outgoing], bool]) -> None:
        """Drops what is not wanted any more and has no number yet."""
        unwritten = self._unwritten()
        kept = [frame for frame in unwritten if is_wanted(frame)]
        for _ in unwritten:
            self.waiting_bytes -= len(self.waiting.pop().data)
        for frame in kept:
            self.wait(frame)

    def has_room(self, size: int) -> bool:
        """Whether one more frame of so many bytes may be kept."""
        frames = len(self._kept) + len(self.waiting)
        total = self.kept_bytes + self.waiting_bytes + size
        return not frames or (frames < self._max_frames and total <= self._max_bytes)

    def waits_for_fewer(self, frames: float) -> bool:
        """Whether fewer frames than so many are kept or wait, so that one more may."""
        return len(self._kept) + len(self.waiting) < frames

    # In

    def receive(self, size: int, now: Callable[[], float], *, at_once: bool = True) -> bool:
        """Counts a frame of the other side; whether it shall hear of it now.

        Args:
            size: Of its data.
            now: The clock; read only for the first frame that it has not heard of.
            at_once: Whether to tell it when it is time, or wait a little for a frame of ours that
                takes the acknowledgement along.
        """
        self.received += 1
        owed = self.received - self._told
        if owed <= 1:
            self._owed_since = now()
            self._owed_bytes = 0
        self._owed_bytes += size
        if self._owed_bytes >= ACK_BYTES or owed >= 2 * ACK_FRAMES:
            return True
        return at_once and owed >= ACK_FRAMES

    def expect(self, size: int, now: Callable[[], float]) -> int | None:
        """What ``received`` is with one more frame, for whoever sets it.

        Args:
            size: Of its data.
            now: As in :meth:`receive`.

        Returns:
            The count; None if the other side would have to hear of it at once.
        """
        owed = self.received + 1 - self._told
        if owed <= 1:
            self._owed_since = now()
            self._owed_bytes = 0
        if self._owed_bytes + size >= ACK_BYTES or owed >= 2 * ACK_FRAMES:
            return None
        self._owed_bytes += size
        return self.received + 1

    @property
    def ack_rides(self) -> bool:
        """Whether the next frame of ours has to take an acknowledgement along."""
        return self.received - self._told >= ACK_FRAMES

    @property
    def ack_due(self) -> float | None:
        """When the other side has to hear how many frames we have; None if it knows."""
        return None if self.received == self._told else self._owed_since + ACK_SECONDS

    def tell(self) -> int:
        """The count to tell the other side, which then knows."""
        self._told = self.received
        return self._told

    # From link to link

    def can_resume(self, count: Any) -> bool:
        """Whether the other side, which has ``count`` frames, can have all the rest from us."""
        try:
            self._check(count, self.forgotten)
        except WseError:
            return False
        return True

    def resume(self, count: int) -> None:
        """Begins on a new link: forgets the first ``count`` frames, and has the rest wait again.

        Raises:
            WseError: See :meth:`can_resume` (PROTOCOL_VIOLATION).
        """
        self._check(count, self.forgotten)
        self.acknowledge(count)
        self._again += len(self._kept)
        if self.waiting is _NOTHING:
            self.waiting = deque()
        self.waiting.extendleft(reversed(self._kept))
        self._kept.clear()

    def successor(self, limits: Limits | None = None, id: str = "") -> Delivery:
        """The account of the next session: with what no link has had, except for answers."""
        following = Delivery(limits, id)
        for frame in self._unwritten():
            if not frame.is_answer:
                following.wait(frame)
        return following

    def unwritten_stamps(self) -> set[str]:
        """The calls that no link has had."""
        return {frame.stamp for frame in self._unwritten() if frame.stamp is not None}

    def lost_messages(self, *, unwritten: bool = False) -> dict[Any, int]:
        """What is lost when this session is: how many messages of which types.

        Those that were written and not acknowledged, which the other side may have or not.

        Args:
            unwritten: Also those that no link has had.
        """
        frames = [*self._kept, *list(self.waiting)[: None if unwritten else self._again]]
        return dict(Counter(f.type for f in frames if f.stamp is None and not f.is_answer))

    def _unwritten(self) -> list[Outgoing]:
        return list(self.waiting)[self._again :]

    @property
    def _written(self) -> int:
        """How many frames any link of the session has had."""
        return self.forgotten + len(self._kept) + self._again

    def _check(self, count: Any, least: int) -> None:
        """Whether the other side can have so many frames, and no fewer than ``least``."""
        is_count = isinstance(count, int) and not isinstance(count, bool)
        if not self.is_session or not is_count or not least <= count <= self._written:
            told = f"{count!r:.40}" if is_count else type(count).__name__
            raise WseError(
                WSE_ERROR.PROTOCOL_VIOLATION, message=f"{told} is no count of frames here"
            )
