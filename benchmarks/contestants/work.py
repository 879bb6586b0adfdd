"""The work that every contestant's server does, the same for all of them."""

from __future__ import annotations

from collections.abc import Callable
from threading import Condition
from time import perf_counter, sleep
from typing import Any

__all__ = ["Work"]

_PATIENCE = 60.0  # s for messages to come
Payload = dict[str, Any]


class Work:
    """Procedures, and what they have seen."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._count = self._sum = self._awaited = 0
        #: Seconds that each innermost nested call took.
        self.nested: list[float] = []

    @staticmethod
    def add(payload: Payload) -> int:
        return int(payload["first"] + payload["second"])

    @staticmethod
    def echo(text: str) -> str:
        return text

    @staticmethod
    def sleep(seconds: float) -> float:
        sleep(seconds)
        return seconds

    def note(self, payload: Payload) -> None:
        """Takes a message."""
        with self._changed:
            self._count += 1
            self._sum += payload["first"]
            if self._count == self._awaited:
                self._changed.notify_all()

    def noted(self, count: int) -> list[int]:
        """How many messages came, and their sum, when there are as many as ``count``."""
        with self._changed:
            self._awaited = count
            self._changed.wait_for(lambda: self._count >= count, _PATIENCE)
            noted = [self._count, self._sum]
            self._count = self._sum = self._awaited = 0
            return noted

    def bounce(self, payload: Payload, call: Callable[[Payload], Any]) -> int:
        """Adds; from a depth of one on, by asking the other side to bounce with one less."""
        depth = payload["depth"]
        if not depth:
            return self.add(payload)
        start = perf_counter()
        result = call({**payload, "depth": depth - 1})
        if depth == 1:
            self.nested.append(perf_counter() - start)
        return int(result)

    def take_nested(self) -> list[float]:
        """Seconds of the nested calls since it was last asked."""
        nested, self.nested = self.nested, []
        return nested
