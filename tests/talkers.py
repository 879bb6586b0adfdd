"""Numbered messages and calls, and books of what came of them, which find what is lost or doubled.

A talker sends to the other end of a connection; a book there keeps what arrived. Names of talkers
are unique in a book.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

__all__ = ["PATIENCE", "SIZES", "Book", "Talker", "draw_text"]

BURST = 5  # messages between two calls of a talker, at most
OPEN_CALLS = 4  # of one talker; so little is on its way that no buffer gets full
SIZES = (40, 2_000, 20_000, 100_000)
SIZE_WEIGHTS = (800, 150, 42, 8)
PATIENCE = 120.0
"""Seconds without any progress after which a talker gives up. It only bounds failure."""


def draw_text(chance: random.Random, number: int, sizes: Sequence[int] = SIZES) -> str:
    """A text for a number; short ones come most often."""
    return _text(number, chance.choices(sizes, SIZE_WEIGHTS[: len(sizes)])[0])


def _text(number: int, size: int) -> str:
    """So many characters, others for each number."""
    part = f"{number} is the number; "
    return (part * (size // len(part) + 1))[:size]


class _Heard:
    """What came from one talker."""

    def __init__(self) -> None:
        self.messages = 0
        self.calls = 0  # of those below this number each has run
        self.early: set[int] = set()  # those beyond it that have

    def ran(self, number: int) -> bool:
        """A call runs; whether it is the first time."""
        if number < self.calls or number in self.early:
            return False
        self.early.add(number)
        while self.calls in self.early:
            self.early.remove(self.calls)
            self.calls += 1
        return True


class Book:
    """What one side received, by talker. It does not grow with what it is told."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._heard: dict[str, _Heard] = {}
        #: What should not have happened.
        self.faults: list[str] = []

    def last(self, talker: str) -> int:
        """How many messages of a talker came so far."""
        with self._lock:
            heard = self._heard.get(talker)
            return 0 if heard is None else heard.messages

    def message(self, payload: Any) -> None:
        """A handler of messages."""
        talker, number, padding = payload
        with self._lock:
            heard = self._heard.setdefault(talker, _Heard())
            if number != heard.messages:
                self.faults.append(f"message {number} of {talker} instead of {heard.messages}")
            heard.messages = number + 1
            if padding != _text(number, len(padding)):
                self.faults.append(f"message {number} of {talker} is another one")

    def work(self, payload: Any) -> Any:
        """A procedure: what it returns tells its call from every other."""
        talker, number, before, padding = payload
        with self._lock:
            heard = self._heard.setdefault(talker, _Heard())
            if not heard.ran(number):
                self.faults.append(f"call {number} of {talker} ran again")
            # Promise 18: a call starts after every message that came before it.
            if heard.messages < before:
                self.faults.append(f"call {number} of {talker} overtook a message")
        return [talker, number, padding]

    def close(self, talker: str) -> tuple[int, int]:
        """How many messages came and calls ran, each once and in order; forgets the talker."""
        with self._lock:
            heard = self._heard.pop(talker, None) or _Heard()
            if heard.early:
                self.faults.append(f"calls of {talker} ran, and others did not: {heard.early}")
            return heard.messages, heard.calls

    def talkers(self) -> list[str]:
        """The names of those who are not closed."""
        with self._lock:
            return list(self._heard)


class Talker:
    """Sends numbered messages and calls to the other end, from one thread at a time.

    The answer to a call says that the messages before it have been handled, so that waiting for
    answers also bounds the messages that are on their way.

    Args:
        name: For the book of the other side.
        end: The client or connection that it talks through.
        seed: Of its choices.
        sizes: Of what it sends, in characters; the first ones come most often.
    """

    def __init__(self, name: str, end: Any, seed: object, sizes: Sequence[int] = SIZES) -> None:
        self.name = name
        self.messages = 0
        self.calls = 0
        self._end = end
        self._sizes = sizes
        self._chance = random.Random(f"{seed}-{name}")
        self._open: deque[tuple[list[Any], Future[Any]]] = deque()

    @property
    def sent(self) -> tuple[int, int]:
        """What the book of the other side must have at the end."""
        return self.messages, self.calls

    @property
    def is_behind(self) -> bool:
        """Whether it should wait for answers before it goes on; checks those that have come."""
        while self._open and self._open[0][1].done():
            self._check_oldest()
        return len(self._open) > OPEN_CALLS

    def talk(self, stop: threading.Event) -> None:
        """Talks until it is told to stop; then waits for the answers."""
        while not stop.is_set():
            self.turn()
        self.check()

    def turn(self) -> None:
        """Some messages and a call; waits for answers if there are too many to wait for."""
        self.say()
        if self._chance.random() < 0.2:
            expected, payload = self._next_call()
            assert self._end.call("work", payload) == expected
        else:
            self.submit()
        self.check(OPEN_CALLS)

    def say(self) -> None:
        """Sends some messages."""
        for _ in range(self._chance.randint(0, BURST)):
            self._end.send("message", [self.name, self.messages, self._text(self.messages)])
            self.messages += 1

    def submit(self) -> None:
        """Calls, and does not wait for the answer."""
        expected, payload = self._next_call()
        self._open.append((expected, self._end.submit("work", payload)))

    def check(self, left: int = 0) -> None:
        """Waits for answers, and compares them, until so many are left."""
        while len(self._open) > left:
            self._check_oldest()

    def _next_call(self) -> tuple[list[Any], list[Any]]:
        number = self.calls
        self.calls += 1
        padding = self._text(number)
        return [self.name, number, padding], [self.name, number, self.messages, padding]

    def _check_oldest(self) -> None:
        expected, future = self._open.popleft()
        assert future.result(PATIENCE) == expected

    def _text(self, number: int) -> str:
        return draw_text(self._chance, number, self._sizes)
