"""How an attempt to connect went: what ``connect`` and ``jump`` wait for, and what they raise.

An attempt goes from one link, or failure to get one, to the next, until there is a welcome or no
more hope. Locks are those of whoever holds it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .constants import WSE_ERROR, WSE_REASON
from .errors import WseConnectionError, WseError, WsePermissionError

__all__ = ["Attempt", "Ended", "closed_error", "stopped_error"]

_NORMAL = 1000


class Attempt:
    """The welcome, or why there is none."""

    def __init__(self) -> None:
        self.done = False
        self.payload: Any = None
        self.error: BaseException | None = None

    def finish(self, error: BaseException | None, payload: Any = None) -> None:
        """It has ended; the first time counts."""
        if not self.done:
            self.done = True
            self.error = error
            self.payload = payload


class Ended(NamedTuple):
    """How a link ended, or that there was none."""

    code: int
    reason: str
    again: bool
    error: BaseException


def stopped_error() -> WseError:
    """The client was told to disconnect first."""
    return WseConnectionError(
        WSE_ERROR.CONNECTION_CLOSED, message="disconnected before the welcome"
    )


def closed_error(code: int, reason: str) -> WseError:
    """The link was closed before the welcome."""
    if code == _NORMAL and reason == WSE_REASON.NOT_AUTHORIZED:
        return WsePermissionError(WSE_ERROR.NOT_AUTHORIZED, message="the server refused")
    told = f"{code} {reason}".strip()
    return WseConnectionError(
        WSE_ERROR.CONNECTION_CLOSED, {"closed": [code, reason]}, f"closed with {told}"
    )
