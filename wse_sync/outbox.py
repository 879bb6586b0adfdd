"""What one link has to send and its stream has not taken yet: in order, and bounded.

Any thread writes. A write tries the stream first, without blocking; what does not fit stays here,
and the loop sends it when the stream can take it. So nobody waits for a slow reader, except those
who ask for it with :meth:`Outbox.wait_for_room`.

``_lock`` guards every attribute and every use of the stream but ``receive`` and ``abort``. It is
held during sends that do not block. It may be taken under the lock of a connection; under it only
the locks of the stream and of the loop are taken.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from . import clock
from .loop import Loop
from .transport.base import AT_ONCE, Bytes, LinkLost, Stream

__all__ = ["Outbox"]

# What an outbox has that never had to keep anything, which most of them never have: even an empty
# deque takes 600 bytes.
_NOTHING: deque[Bytes] = deque(maxlen=0)

_FLAGS = (AT_ONCE,)


class Outbox:
    """The unsent bytes of one link.

    Args:
        stream: Where they go.
        loop: Who sends what is left over.
        max_bytes: What may wait behind the frame that is being sent.
        on_overflow: Called by the loop when one frame too many was written.
    """

    __slots__ = (
        "_bytes",
        "_changed",
        "_closed",
        "_finished",
        "_frames",
        "_lock",
        "_loop",
        "_max_bytes",
        "_offer",
        "_on_overflow",
        "_sealed",
        "_stream",
        "last_sent",
    )

    def __init__(
        self, stream: Stream, loop: Loop, max_bytes: int, on_overflow: Callable[[], None]
    ) -> None:
        self._stream = stream
        self._offer = stream.offer
        self._loop = loop
        self._max_bytes = max_bytes
        self._on_overflow = on_overflow
        self._lock = threading.Lock()
        self._changed: threading.Condition | None = None  # made by the first who waits
        self._frames = _NOTHING
        self._bytes = 0  # of them: 0 when there is none
        self._sealed = False
        self._finished = False  # the last frame is among them, or has gone
        self._closed = False
        self.last_sent = clock.monotonic()

    @property
    def waiting_bytes(self) -> int:
        """How much has not gone out."""
        return self._bytes

    @property
    def is_finished(self) -> bool:
        """Whether it has been given its last frame."""
        return self._finished

    def make_exception(self) -> None:
        """What waits now does not count against the bound: it was bounded elsewhere."""
        with self._lock:
            self._max_bytes += self._bytes

    def write_control(self, frame: bytes) -> bool:
        """Sends a ping, a pong or the like: twice the bound is for them."""
        return self.write(frame, max_bytes=2 * self._max_bytes)

    def write_last(self, frame: bytes) -> None:
        """Sends a close of the transport's own; no other frame will be taken after it."""
        with self._lock:
            if not self._sealed:  # or we have closed already, and this is the answer to an answer
                self._put_last(frame)

    def write(self, frame: bytes, max_bytes: float | None = None) -> bool:
        """Sends a frame, or keeps it to be sent; never blocks.

        Args:
            frame: Encoded.
            max_bytes: With more waiting, this frame is one too many; None: the bound of the outbox.

        Returns:
            Whether it will be sent, as far as this end can tell.
        """
        with self._lock:
            if self._bytes or self._sealed:
                return self._queue(frame, self._max_bytes if max_bytes is None else max_bytes)
            return self._offer_first(frame)

    def finish(self, frame: bytes, *, at_once: bool = False) -> None:
        """Takes the last frame, a close; no other will be taken after it.

        Args:
            frame: Encoded.
            at_once: Drops what waits, but for a frame that has begun.
        """
        with self._lock:
            if self._finished or self._closed:
                return
            if at_once:
                self._drop_tail()
            self._put_last(frame)

    def seal(self) -> None:
        """Takes no more frames; what waits still goes out."""
        with self._lock:
            self._seal()

    def wait_for_room(self, size: int, timeout: float | None = None) -> bool:
        """Blocks until a frame of ``size`` bytes fits within the bound, or the outbox is sealed.

        Args:
            size: In bytes.
            timeout: In seconds; None waits for as long as the link lives.

        Returns:
            False if the time ran out.
        """
        with self._lock:
            return self._wait_until(
                lambda: not self._frames or self._bytes + size <= self._max_bytes or self._sealed,
                timeout,
            )

    def wait_until_sent(self, timeout: float) -> bool:
        """Blocks until nothing waits; False if that took longer than ``timeout`` seconds."""
        with self._lock:
            return self._wait_until(lambda: not self._frames, timeout)

    def close(self) -> None:
        """Drops what waits and closes the stream; only the reader, at its end."""
        with self._lock:
            self._abandon()
            self._closed = True
            self._stream.close()

    def _queue(self, frame: bytes, max_bytes: float) -> bool:
        """Keeps a frame behind others, if there is room."""
        if self._sealed:
            return False
        if self._bytes + len(frame) <= max_bytes:
            return self._put(frame)
        # By the loop: the caller may hold locks that the end of a link wants. Then it is sealed: a
        # Ctrl-C in between must not leave an outbox that takes nothing more, and nobody knows.
        self._loop.call_later(0.0, self._on_overflow)
        self._seal()
        return False

    def _put_last(self, frame: bytes) -> None:
        self._put(frame)
        self._finished = True
        self._seal()

    def _put(self, frame: bytes) -> bool:
        if self._bytes:
            self._keep(frame, 0)
            return True
        return self._offer_first(frame)

    def _offer_first(self, frame: bytes) -> bool:
        """Sends a frame with none before it, and keeps what does not go."""
        sent: list[int] = []
        try:
            # In one step of the interpreter: Ctrl-C, which is likely to be noticed when the system
            # call returns, comes before all of it or after the count is noted.
            try:
                sent += map(self._offer, (frame,), _FLAGS)
            except BlockingIOError:
                sent.append(0)
            if sent[0] < len(frame):
                self._keep(frame, sent[0])
        except (LinkLost, OSError):
            self._break()
            return False
        except BaseException:  # Ctrl-C
            self._mend(frame, sent)
            raise
        return True

    def _keep(self, frame: bytes, sent: int) -> None:
        """Notes what has not gone of a frame."""
        if self._frames is _NOTHING:
            self._frames = deque()
        self._frames.append(memoryview(frame)[sent:] if sent else frame)
        self._bytes += len(frame) - sent
        if len(self._frames) == 1:
            self._stream.watch(self._loop, self._flush)

    def _mend(self, frame: bytes, sent: list[int]) -> None:
        """After Ctrl-C amid the sending of a first frame: if that has begun, it must be ended."""
        self._frames.clear()
        self._bytes = 0
        if not sent:
            if not self._stream.sends_in_one_step:
                self._break()  # nobody knows whether it has begun
        elif 0 < sent[0] < len(frame):
            try:
                self._keep(frame, sent[0])
            except Exception:  # of what watches the stream: Ctrl-C left that half done
                self._break()

    def _flush(self) -> None:
        """Sends what goes; run by the loop when the stream is writable."""
        with self._lock:
            try:
                self._send_waiting()
            except LinkLost:
                self._break()

    def _send_waiting(self) -> None:
        while self._frames:
            head = self._frames[0]
            sent = self._stream.send(head)
            if not sent:
                return
            self.last_sent = clock.monotonic()
            self._bytes -= sent
            if sent < len(head):
                self._frames[0] = memoryview(head)[sent:]
            else:
                self._frames.popleft()
            self._notify()
        self._stream.unwatch(self._loop)

    def _drop_tail(self) -> None:
        while len(self._frames) > 1:
            self._bytes -= len(self._frames.pop())

    def _break(self) -> None:
        """The stream does not take anything any more: the reader shall notice."""
        self._abandon()
        self._stream.abort()

    def _abandon(self) -> None:
        self._frames.clear()
        self._bytes = 0
        self._seal()
        if not self._closed:
            self._stream.unwatch(self._loop)

    def _seal(self) -> None:
        self._sealed = True
        self._notify()

    def _notify(self) -> None:
        if self._changed is not None:
            self._changed.notify_all()

    def _wait_until(self, condition: Callable[[], bool], timeout: float | None) -> bool:
        if condition():
            return True
        if self._changed is None:
            self._changed = threading.Condition(self._lock)
        return clock.wait_for(self._changed, condition, timeout)
