"""One transport while it lives: its reader, its heartbeat, and how it ends.

Threads: :meth:`Link.run` is the own thread of the link, that of whoever opened the transport; it
ends with the link. It is the reader, unless somebody else is for a while (``turn.py``); whoever
reads when the end comes closes the stream. The heartbeat and the bounds run as timers in the loop.
``close`` and ``fail`` may come from any thread.

``_lock`` guards ``verdict``, the timers and whether the upgrade is done; under it the locks of the
loop, the outbox and the stream are taken. Nothing calls out while it is held.

A link ends once: the first who decides gives the *verdict*, the code and reason that everybody is
told, and ``on_lost`` is called with it in that thread. What comes in afterwards is dropped.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable

from . import clock
from .constants import WSE_REASON
from .gate import Gate
from .loop import Loop, Timer
from .outbox import Outbox
from .protocol import Data
from .transport.base import Glance, LinkLost, Transport
from .turn import Turn
from .workers import Workers

__all__ = ["CLOSE_TIMEOUT", "Link"]

_log = logging.getLogger("wse_sync")

#: How long the other side may take to answer a close frame, in seconds.
CLOSE_TIMEOUT = 3.0

_ABNORMAL, _INTERNAL_ERROR, _TRY_LATER = 1006, 1011, 1013
_PAUSED_INTERVAL = 1.0  # s between pings while the reader has stopped
_DRAIN_BYTES, _MOST_DRAIN_BYTES = 64 * 2**10, 64 * 2**20  # at most four of the usual messages
_SOON = 0.002  # s: an answer that takes longer is read by the own thread


class Link:
    """Binds a transport to those who want its messages.

    Args:
        transport: What is read from, and sent to.
        loop: Who runs the timers.
        workers: Who stands in for the own thread.
        readers_serve: Whether the own thread may serve calls.
        max_queue_bytes: Bound of the bytes that wait to be sent.
        ping_interval: Silence before a ping, in seconds; None: no heartbeat.
        ping_timeout: Silence after it before the link is lost, in seconds; None: for ever.
        on_data: Gets each message, in the reader's thread.
        on_lost: Gets code and reason, once.
        on_fault: Gets the code and reason with which the transport closed the link, because of what
            came in; before ``on_lost``.
    """

    def __init__(
        self,
        transport: Transport,
        loop: Loop,
        workers: Workers,
        *,
        readers_serve: bool,
        max_queue_bytes: int,
        ping_interval: float | None,
        ping_timeout: float | None,
        on_data: Callable[[Data], None],
        on_lost: Callable[[int, str], None],
        on_fault: Callable[[int, str], None],
    ) -> None:
        self.transport = transport
        self.outbox = Outbox(transport.stream, loop, max_queue_bytes, self.overflow)
        #: Whose turn it is to read.
        self.turn = Turn(workers, self._stand_in, may_serve=readers_serve)
        self.paused = False
        self._pause_beat: Timer | None = None
        self.verdict: tuple[int, str] | None = None
        self._loop = loop
        self._ping_interval = ping_interval
        self._ping_timeout = ping_timeout
        self._on_data = on_data
        self._on_lost = on_lost
        self._on_fault = on_fault
        self._lock = threading.Lock()
        self._heartbeat: Timer | None = None
        self._cutter: Timer | None = None
        self._pinged_at: float | None = None
        self._attached = False
        self._is_over = False  # no timer is set any more
        self._ended = Gate()
        #: Whether ``on_lost`` has returned: then nobody hears of this link any more.
        self.told = False
        self._told = threading.Lock()  # held until then
        self._told.acquire()

    def run(self) -> tuple[int, str]:
        """Reads until the link is over, and the stream is closed; returns the verdict."""
        self._start_heartbeat()
        lost = self._guard(self._read)
        if lost is not None:
            self._finish(lost)
        assert self.verdict is not None
        return self.verdict

    def _guard(self, read: Callable[[], LinkLost | None]) -> LinkLost | None:
        try:
            return read()
        except BaseException:  # of a protocol, maybe: whatever it is, the link has to end in order
            _log.exception("reading from %s failed", self.transport.peer)
            self._say_goodbye(_INTERNAL_ERROR, "", at_once=True)
            return LinkLost(_INTERNAL_ERROR)

    def _finish(self, lost: LinkLost) -> None:
        """The end of the link; whoever reads then."""
        try:
            if lost.drain and self.verdict is None:
                self._on_fault(lost.code, lost.reason)
            self._decide(lost.code, lost.reason)
            # Another thread may have given the verdict and still be telling: whoever opens the next
            # link after this one would be told of the wrong end.
            self._told.acquire(timeout=CLOSE_TIMEOUT)
            self.outbox.seal()
            if lost.drain:
                self._drain()
            self.outbox.wait_until_sent(CLOSE_TIMEOUT)
        finally:
            with self._lock:
                self._is_over = True
                timers = self._heartbeat, self._cutter, self._pause_beat
            for timer in timers:
                if timer is not None:
                    timer.cancel()
            self.outbox.close()
            self._ended.set()

    def attach(self) -> None:
        """Finishes the upgrade of an accepted transport; before ``run``, in the same thread."""
        with self._lock:  # no goodbye may go out before that
            self.transport.attach(self._write)
            self._attached = True

    def _write(self, frame: bytes) -> None:
        """Sends what the transport writes on its own account; nothing goes out behind its close."""
        if self.transport.is_close(frame):
            self.outbox.write_last(frame)
        else:
            self.outbox.write_control(frame)

    def send(self, data: Data, *, bounded: bool = True) -> bool:
        """Frames and sends a message; False if the link takes no more."""
        frame = self.transport.encode(data)
        return self.outbox.write(frame, max_bytes=None if bounded else math.inf)

    def send_control(self, data: Data) -> bool:
        """Sends what keeps the conversation going, also when there is no room for messages."""
        return self.outbox.write_control(self.transport.encode(data))

    def hand_over(
        self,
        on_data: Callable[[Data], None],
        on_lost: Callable[[int, str], None],
        on_fault: Callable[[int, str], None],
    ) -> bool:
        """Has others get what comes, from the next message on; False if the link is over.

        Args:
            on_data: As for the constructor.
            on_lost: Likewise.
            on_fault: Likewise.
        """
        with self._lock:
            if self.verdict is not None:
                return False
            self._on_data, self._on_lost, self._on_fault = on_data, on_lost, on_fault
            return True

    def close(
        self,
        code: int,
        reason: str = WSE_REASON.NO_REASON,
        *,
        at_once: bool = False,
        timeout: float = CLOSE_TIMEOUT,
    ) -> None:
        """Says goodbye behind what waits to be sent, and gives the other side time to answer.

        Does not block; any thread. The link is cut when there is no answer in time.

        Args:
            code: Of the close frame.
            reason: Its text.
            at_once: Drops what waits to be sent.
            timeout: For what waits, the close frame and its answer, in seconds.
        """
        if self._judge(code, str(reason)):
            # First here, then there: whoever hears of it can see it.
            self._tell(code, str(reason))
            self._say_goodbye(code, str(reason), at_once=at_once, timeout=timeout)

    def fail(self, code: int = _ABNORMAL, reason: str = "") -> None:
        """Cuts the link without a word; any thread."""
        first = self._judge(code, reason)
        self.cut()
        if first:
            self._tell(code, reason)

    def pause(self) -> None:
        """The reader stops reading for a while: silence is no sign of death then.

        The other side hears no pongs from us meanwhile, but wants to see life: so it gets pings,
        also if this end has no heartbeat.
        """
        self.paused = True
        self._beat_paused()

    def resume(self) -> None:
        """The reader reads again."""
        self.transport.stream.last_received = clock.monotonic()
        with self._lock:
            self.paused = False
            timer, self._pause_beat = self._pause_beat, None
        if timer is not None:
            timer.cancel()

    def _beat_paused(self) -> None:
        if not self._ping():
            return
        with self._lock:
            if self.paused and self.verdict is None:
                self._pause_beat = self._loop.call_later(_PAUSED_INTERVAL, self._beat_paused)

    def cut(self) -> None:
        """Ends the wait for the answer to a close; any thread."""
        self.transport.stream.abort()

    @property
    def is_resting(self) -> bool:
        """Whether whoever reads waits: for the other side, or for room. Only tests can tell."""
        return self.paused or self.transport.stream.is_quiet

    def wait(self, timeout: float) -> bool:
        """Blocks until the reader is done with the stream; False after ``timeout`` seconds."""
        return self._ended.wait(timeout)

    def glance(self) -> Glance | None:
        """Looks for a message that comes soon; only for whoever has the turn."""
        return None if self.verdict is not None else self.transport.glance(_SOON)

    def _read(self) -> LinkLost | None:
        """The own thread; None if a stand-in has seen the link to its end."""
        turn = self.turn
        try:
            while True:
                if turn.is_away:
                    gift = turn.come_back()
                    if gift is None:
                        return None
                    if isinstance(gift, LinkLost):
                        return gift
                    self._hand_on(gift)
                    del gift
                elif turn.is_tempted and self.transport.can_glance:
                    if not turn.step_aside(lambda: self.verdict is not None):
                        return LinkLost(_ABNORMAL, drain=True)  # no frames, for they are not ours
                else:
                    # No name for it here: the next read may take days, and would keep it so long.
                    self._hand_on(self.transport.read())
        except LinkLost as lost:
            return lost

    def _stand_in(self) -> None:
        """Reads for the own thread while that serves a call; a worker."""
        lost = self._guard(self._read_in_place)
        if lost is not None and not self.turn.give_back(lost):
            self._finish(lost)
            self.turn.end()

    def _read_in_place(self) -> LinkLost | None:
        try:
            while True:
                data = self.transport.read()
                if self.turn.give_back(data):
                    return None
                self._hand_on(data)
                del data
        except LinkLost as lost:
            return lost

    def _hand_on(self, data: Data) -> None:
        if self.verdict is None:
            self._on_data(data)

    def _judge(self, code: int, reason: str) -> bool:
        """Whether this is the first verdict."""
        with self._lock:
            if self.verdict is not None:
                return False
            self.verdict = (code, reason)
            return True

    def _decide(self, code: int, reason: str) -> None:
        if self._judge(code, reason):
            self._tell(code, reason)

    def _tell(self, code: int, reason: str) -> None:
        try:
            self._on_lost(code, reason)
        finally:
            self.told = True
            self._told.release()

    def _say_goodbye(
        self, code: int, reason: str, *, at_once: bool = False, timeout: float = CLOSE_TIMEOUT
    ) -> None:
        with self._lock:
            if not self._attached:
                self.cut()
                return
        self.outbox.finish(self.transport.encode_close(code, reason), at_once=at_once)
        self._cut_after(timeout)

    def _cut_after(self, timeout: float) -> None:
        with self._lock:
            if self._cutter is None and not self._is_over:
                self._cutter = self._loop.call_later(timeout, self.cut)

    def _drain(self) -> None:
        """Hears the other side out, so that no reset overtakes our close frame."""
        self._cut_after(CLOSE_TIMEOUT)
        stream, left = self.transport.stream, _MOST_DRAIN_BYTES
        try:
            while left > 0:
                if not self.outbox.waiting_bytes:
                    # It may be waiting for our end, to close its own (RFC 6455, 7.1.1).
                    stream.finish()
                piece = stream.receive(_DRAIN_BYTES)
                if not piece:
                    return
                left -= len(piece)
        except LinkLost:
            return  # cut, by the other side or by the timer

    def overflow(self) -> None:
        """Gives up a link on which more waits than may; any thread."""
        self.close(_TRY_LATER, WSE_REASON.SLOW_CONSUMER, at_once=True)

    def _start_heartbeat(self) -> None:
        if self._ping_interval is not None:
            self._beat_at(clock.monotonic() + self._ping_interval)

    def _beat_at(self, deadline: float) -> None:
        with self._lock:
            if self.verdict is None:
                self._heartbeat = self._loop.call_at(deadline, self._beat)

    def _beat(self) -> None:
        """Looks whether there was life since the last time: bytes in, or bytes that went out."""
        assert self._ping_interval is not None
        if self.verdict is not None:
            return
        now = clock.monotonic()
        last = now if self.paused else self.transport.stream.last_received
        if self.outbox.waiting_bytes:
            last = max(last, self.outbox.last_sent)
        if self._pinged_at is not None and last >= self._pinged_at:
            self._pinged_at = None
        if self._pinged_at is None and (self.paused or now >= last + self._ping_interval):
            if not self._ping():
                return
            self._pinged_at = last = now
        if self._pinged_at is None or self._ping_timeout is None:
            self._pinged_at = None
            self._beat_at(last + self._ping_interval)
            return
        limit = self._pinged_at + self._ping_timeout
        if now < limit:
            # Also when the next ping could be due: with a long timeout, life goes on meanwhile.
            self._beat_at(min(limit, now + self._ping_interval))
        else:
            _log.debug("%s is silent, the link is given up", self.transport.peer)
            self._give_up()

    def _ping(self) -> bool:
        """False if the link takes no more, and is over or ends in order."""
        if self.outbox.write_control(self.transport.encode_ping()):
            return True
        if not self.outbox.is_finished:  # or a goodbye is under way, which has a time limit
            self._give_up()
        return False

    def _give_up(self) -> None:
        """Cuts a link that is dead, unless others end it already."""
        if self._judge(_ABNORMAL, ""):
            self.cut()
            self._tell(_ABNORMAL, "")
