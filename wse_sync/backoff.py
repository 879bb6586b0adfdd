"""How long a client waits before it dials again."""

from __future__ import annotations

import random
from dataclasses import dataclass

__all__ = ["Backoff"]


@dataclass(frozen=True)
class Backoff:
    """Exponential backoff with full jitter.

    The wait before attempt ``n`` (0 is the first) is drawn evenly between nothing and
    ``initial * factor ** n``, or ``maximum`` if that is less. Drawing from the whole range
    spreads the devices that lost one server at one moment.

    Args:
        initial: Upper end of the first wait, in seconds.
        factor: Growth from one attempt to the next, at least 1.
        maximum: Upper end of every wait, in seconds.
    """

    initial: float = 1.0
    factor: float = 2.0
    maximum: float = 30.0

    def __post_init__(self) -> None:
        if self.initial < 0 or self.maximum < 0:
            raise ValueError("Backoff: initial and maximum are seconds, 0 or more")
        if self.factor < 1:
            raise ValueError("Backoff: factor is 1 or more, or the waits would shrink")

    def ceiling(self, attempt: int) -> float:
        """The longest wait before this attempt, in seconds."""
        try:
            return min(self.maximum, self.initial * self.factor**attempt)
        except OverflowError:
            return self.maximum

    def delay(self, attempt: int) -> float:
        """A wait before this attempt, in seconds; another one each time."""
        return random.uniform(0.0, self.ceiling(attempt))
