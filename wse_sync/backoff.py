"""How long a client waits before it dials again."""

from __future__ import annotations

import random
from dataclasses import dataclass

from .checks import check_finite

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

    Raises:
        WseTypeError, WseValueError: No numbers, or a factor that lets the waits shrink.
    """

    initial: float = 1.0
    factor: float = 2.0
    maximum: float = 30.0

    def __post_init__(self) -> None:
        check_finite(0, initial=self.initial, maximum=self.maximum)
        check_finite(1, factor=self.factor)

    def ceiling(self, attempt: int) -> float:
        """The longest wait before this attempt, in seconds."""
        try:
            return min(self.maximum, self.initial * self.factor**attempt)
        except OverflowError:
            return self.maximum if self.initial else 0.0

    def delay(self, attempt: int) -> float:
        """A wait before this attempt, in seconds; another one each time."""
        return random.uniform(0.0, self.ceiling(attempt))
