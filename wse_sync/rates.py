"""The option ``rate_limit``: how many messages and calls one connection may bring in what time.

Whatever takes our time and is not bounded otherwise takes a token: messages, calls, and such
answers and acknowledgements as nobody has asked for. Other answers are as many as our calls, other
acknowledgements no more than our frames.

``Meter._lock`` guards the tokens: the reader of a new link comes while that of the old one may
still be at work, and the lane brings what came before the welcome. Nothing is taken under it.
"""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

from .checks import bad_type, bad_value, check_counts, check_finite
from .tokens import Tokens

__all__ = ["Meter", "RateLimit", "check_rate"]


class RateLimit(NamedTuple):
    """So many messages in so many seconds."""

    messages: int
    seconds: float


class Meter:
    """Counts what one connection brings, over all of its links.

    Args:
        limit: As many as may come at once, and in that time.
    """

    def __init__(self, limit: RateLimit) -> None:
        self._lock = threading.Lock()
        self._tokens = Tokens(limit.messages, limit.messages / limit.seconds)

    def admits(self) -> bool:
        """Whether one more may come; any thread."""
        with self._lock:
            return self._tokens.take()


def check_rate(rate_limit: Any) -> RateLimit | None:
    """Refuses what is no pair of a number of messages and of seconds; None is a value of its own.

    Raises:
        WseTypeError, WseValueError: It is none.
    """
    if rate_limit is None:
        return None
    if not isinstance(rate_limit, (tuple, list)):
        raise bad_type(
            f"rate_limit must be (messages, seconds) or None, not {type(rate_limit).__name__}"
        )
    if len(rate_limit) != 2:
        raise bad_value(f"rate_limit must be (messages, seconds), not {rate_limit!r}")
    messages, seconds = rate_limit
    check_counts(**{"the messages of rate_limit": messages})
    check_finite(0, **{"the seconds of rate_limit": seconds})
    if not seconds:
        raise bad_value(f"the seconds of rate_limit must be more than 0, not {seconds!r}")
    return RateLimit(messages, float(seconds))
