"""The errors that users see: one class with a code, and subclasses for ``except`` clauses."""

from __future__ import annotations

from typing import Any

from .constants import WSE_ERROR

__all__ = [
    "WseConnectionError",
    "WseError",
    "WseLookupError",
    "WsePermissionError",
    "WseTimeoutError",
    "WseTypeError",
    "WseValueError",
    "error_of",
]


_SHOWN = frozenset({"closed", "disconnected", "messages", "rp", "status"})


class WseError(Exception):
    """Something failed; ``code`` says what.

    Raise it in a procedure to fail the call with a code and details of your own.

    Args:
        code: One of :class:`wse_sync.WSE_ERROR`, or a string of the application's.
        details: More for programs. It travels with a failed call, so keep it packable.
        message: More for people.
    """

    # Of a subclass of the application's that does not call this class's __init__.
    code: str = str(WSE_ERROR.RP_EXECUTION_FAILED)
    details: dict[str, Any] = {}  # noqa: RUF012  (nobody changes it)
    message: str | None = None

    def __init__(
        self, code: str, details: dict[str, Any] | None = None, message: str | None = None
    ) -> None:
        # One argument: OSError, a base of some subclasses, gives more of them a meaning.
        super().__init__(str(code))
        self.code = str(code)
        self.details = {} if details is None else dict(details)
        self.message = message

    def __str__(self) -> str:
        parts = [self.code]
        if "rp" in self.details:
            parts.append(f"procedure {self.details['rp']!r}")
        if self.message:
            parts.append(self.message)
        return ": ".join(parts)

    def __repr__(self) -> str:
        # Peers send payloads along in the details, so only what we put there is shown.
        details = {key: value if key in _SHOWN else ... for key, value in self.details.items()}
        return f"{type(self).__name__}({self.code!r}, {details!r}, {self.message!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.code, self.details, self.message)


class WseTimeoutError(WseError, TimeoutError):
    """It took longer than the caller wanted to wait."""


class WseConnectionError(WseError, ConnectionError):
    """There is no link, or it was lost."""


class WsePermissionError(WseError, PermissionError):
    """The server refused to let us in."""


class WseTypeError(WseError, TypeError):
    """An argument, or something in a payload, has a type that does not fit."""


class WseValueError(WseError, ValueError):
    """An argument, or something in a payload, has a value that does not fit."""


class WseLookupError(WseError, LookupError):
    """There is no procedure of that name."""


_CLASSES: dict[str, type[WseError]] = {
    WSE_ERROR.RP_TIMEOUT: WseTimeoutError,
    WSE_ERROR.RP_DISCONNECT: WseConnectionError,
    WSE_ERROR.RP_NOT_REGISTERED: WseLookupError,
    WSE_ERROR.RP_ALREADY_REGISTERED: WseValueError,
    WSE_ERROR.CONNECTION_NOT_READY: WseConnectionError,
    WSE_ERROR.CONNECTION_CLOSED: WseConnectionError,
    WSE_ERROR.WS_CLIENT_ERROR: WseConnectionError,
    WSE_ERROR.NOT_AUTHORIZED: WsePermissionError,
}


# Tracebacks name them as users import them.
for _class in (WseError, *WseError.__subclasses__()):
    _class.__module__ = "wse_sync"


def error_of(
    code: str, details: dict[str, Any] | None = None, message: str | None = None
) -> WseError:
    """Makes the error of the class that belongs to ``code``."""
    return _CLASSES.get(code, WseError)(code, details, message)
