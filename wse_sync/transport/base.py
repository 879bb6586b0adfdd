"""What the rest of the library knows of a WebSocket.

A *stream* is bytes: the socket, or what stands for it. A *transport* is messages: it reads them
from its stream through a WebSocket library, and frames what is to be sent. It never writes to the
stream itself; what a library writes on its own account (pongs, the answer to a close) goes to
``write``, which the link sets, and so keeps its place among the other frames.
"""

from __future__ import annotations

import abc
import socket
from collections import deque
from collections.abc import Callable
from itertools import starmap
from typing import Any, NamedTuple, Union

from ..protocol import Data
from .allowance import Allowance

__all__ = [
    "AT_ONCE",
    "Bytes",
    "Change",
    "Glance",
    "LinkLost",
    "Stream",
    "Transport",
    "assign",
    "cut_reason",
]

Bytes = Union[bytes, memoryview]

#: Has the system take or bring what goes at once, and not wait for more.
AT_ONCE: int = getattr(socket, "MSG_DONTWAIT", 0)

#: What :func:`assign` does: the object, its attribute, and the value.
Change = tuple[object, str, Any]

_TOO_BIG = 1009
_MAX_REASON_BYTES = 123  # a control frame carries 125, two of them the code (RFC 6455, 5.5)


class LinkLost(Exception):
    """The link is over.

    Args:
        code: Of the close frame; 1005 without a code, 1006 without a close frame.
        reason: Its text.
        drain: The other side has not been heard out: read what it still sends before the socket is
            closed, or the reset of TCP may overtake our close frame.
    """

    def __init__(self, code: int, reason: str = "", *, drain: bool = False) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason
        self.drain = drain


class Glance(NamedTuple):
    """A message that was seen and is not taken yet.

    Attributes:
        data: What it is.
        taking: The change that takes it.
    """

    data: Data
    taking: Change


class Stream(abc.ABC):
    """A pipe of bytes with two ends. One thread receives; any may send or abort.

    Attributes:
        last_received: When bytes last came in, on the monotonic clock.
        sends_in_one_step: Whether ``offer`` is one step of the interpreter: what a signal handler
            raises (Ctrl-C) comes before all of it or after all of it.
    """

    last_received: float
    #: Whether :meth:`gather` may bring something.
    can_gather = False
    sends_in_one_step = False

    @property
    def is_quiet(self) -> bool:
        """Whether somebody waits to receive, in vain so far; assumed where nobody can tell."""
        return True

    @property
    def offer(self) -> Callable[[Bytes, int], int]:
        """What sends one frame after another, with the least that it takes: ``send`` with flags.

        The flags are :data:`AT_ONCE`. Raises BlockingIOError, or says 0, when nothing goes at once;
        LinkLost or OSError when the pipe is cut.
        """
        return self._offer

    def _offer(self, data: Bytes, _flags: int) -> int:
        return self.send(data)

    @abc.abstractmethod
    def receive(self, size: int) -> bytes:
        """Waits for bytes, at most ``size``; empty at the end. Raises LinkLost."""

    def gather(self, pieces: list[bytes], size: int, seconds: float) -> bool:
        """Appends what comes within so many seconds; False if nothing did, or it cannot say.

        When a signal handler raises (Ctrl-C), what came is in ``pieces``.
        """
        return False

    @abc.abstractmethod
    def send(self, data: Bytes) -> int:
        """Sends what goes at once and says how much; never waits. Raises LinkLost.

        What did not go is to be offered again, before anything else: TLS insists.
        """

    @abc.abstractmethod
    def watch(self, loop: Any, flush: Callable[[], None]) -> None:
        """Has ``loop`` call ``flush`` whenever bytes can go, until ``unwatch``."""

    @abc.abstractmethod
    def unwatch(self, loop: Any) -> None:
        """The end of ``watch``; also without one."""

    @abc.abstractmethod
    def finish(self) -> None:
        """Lets the other side see that nothing more comes; any thread, any number of times.

        What it still sends is received as before.
        """

    @abc.abstractmethod
    def abort(self) -> None:
        """Cuts the pipe and wakes ``receive``; any thread, any number of times."""

    @abc.abstractmethod
    def close(self) -> None:
        """Gives the pipe back; only the thread that received, at its end, after ``unwatch``."""


class Transport(abc.ABC):
    """A WebSocket over a stream.

    Attributes:
        stream: Where the bytes are.
        max_message_bytes: A longer message ends the link with 1009.
        peer: Address of the other side, for people.
    """

    stream: Stream
    max_message_bytes: int
    peer: str
    write: Callable[[bytes], object]
    _allowance: Allowance | None = None

    @abc.abstractmethod
    def attach(self, write: Callable[[bytes], object]) -> None:
        """Sets where bytes of the library's own go, and finishes the upgrade if need be."""

    @abc.abstractmethod
    def read(self) -> Data:
        """Waits for the next whole message. Raises LinkLost."""

    def restrict(self, max_bytes: int) -> None:
        """Has the link end with 1009 when more comes in than so many bytes, until :meth:`lift`.

        Whatever they are; before the first read.
        """
        self._allowance = Allowance(self.stream, max_bytes, self._exceeded)
        self._receive_from(self._allowance)

    def lift(self) -> None:
        """The end of :meth:`restrict`; also without one. Any thread."""
        allowance, self._allowance = self._allowance, None
        if allowance is not None:
            allowance.is_lifted = True
            self._receive_from(self.stream)

    @abc.abstractmethod
    def _receive_from(self, source: Stream | Allowance) -> None:
        """Sets where bytes come from."""

    @property
    def can_glance(self) -> bool:
        """Whether :meth:`glance` may find something."""
        return False

    def glance(self, seconds: float) -> Glance | None:
        """Looks for a message that comes within so many seconds, and takes nothing.

        Only for whoever may read. None says nothing: whoever reads next will see what there is.
        """
        return None

    @staticmethod
    @abc.abstractmethod
    def encode(data: Data) -> bytes:
        """Frames a message; every connection of a class may send the same bytes."""

    @staticmethod
    @abc.abstractmethod
    def encode_ping() -> bytes:
        """Frames a ping."""

    @staticmethod
    @abc.abstractmethod
    def encode_close(code: int, reason: str) -> bytes:
        """Frames a close."""

    @staticmethod
    @abc.abstractmethod
    def is_close(frame: bytes) -> bool:
        """Whether a frame is one, however it was made: nothing may follow it."""

    def _fail(self, code: int, reason: str) -> LinkLost:
        """Says goodbye, and makes the error that the link ends with."""
        self.write(self.encode_close(code, reason))
        return LinkLost(code, reason, drain=True)

    def _exceeded(self) -> LinkLost:
        return self._fail(_TOO_BIG, "too much before the welcome")


def assign(*changes: Change) -> None:
    """Sets attributes in one step of the interpreter.

    What a signal handler raises (Ctrl-C) comes before all of them or after all of them.
    """
    deque(starmap(setattr, changes), maxlen=0)


def cut_reason(reason: str) -> str:
    """As much of a reason as a close frame holds, cut between characters."""
    return reason.encode("utf-8", "replace")[:_MAX_REASON_BYTES].decode("utf-8", "ignore")
