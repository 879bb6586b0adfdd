"""The procedures that one end offers. Any thread comes here; ``_lock`` guards changes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar, overload

from .checks import check_callable
from .constants import WSE_ERROR
from .errors import WseLookupError, WseValueError

__all__ = ["Procedure", "Procedures"]

HandlerT = TypeVar("HandlerT", bound=Callable[..., Any])

#: A procedure is quick when it took less than so many seconds, so many times in a row.
QUICK, QUICK_RUNS = 0.00025, 8


class Procedure:
    """A handler, and how long it takes.

    Attributes:
        handler: What to call.
    """

    __slots__ = ("_quick_runs", "handler")

    def __init__(self, handler: Callable[..., Any]) -> None:
        self.handler = handler
        self._quick_runs = 0

    @property
    def is_quick(self) -> bool:
        """Whether a thread that has something else to do may run it in between."""
        return self._quick_runs >= QUICK_RUNS

    def note(self, seconds: float) -> None:
        """It has run for so long; any thread, and one that gets lost does no harm."""
        self._quick_runs = self._quick_runs + 1 if seconds < QUICK else 0


class Procedures:
    """Names and their handlers.

    Args:
        check_name: Raises if a name cannot be called.
    """

    def __init__(self, check_name: Callable[[Any], None]) -> None:
        self._check_name = check_name
        self._lock = threading.Lock()
        self._procedures: dict[Any, Procedure] = {}

    @overload
    def register(self, name: Any, handler: HandlerT) -> HandlerT: ...
    @overload
    def register(self, name: Any) -> Callable[[HandlerT], HandlerT]: ...
    def register(self, name: Any, handler: Callable[..., Any] | None = None) -> Callable[..., Any]:
        """Enters a procedure; without a handler, returns a decorator that does.

        Raises:
            WseValueError: The name is taken (RP_ALREADY_REGISTERED), empty or internal.
            WseTypeError: The handler is not callable.
        """
        self._check_name(name)
        if handler is None:
            return lambda function: self.register(name, function)
        check_callable(f"the handler of {name!r}", handler)
        with self._lock:
            if name in self._procedures:
                raise WseValueError(
                    WSE_ERROR.RP_ALREADY_REGISTERED, {"rp": name}, "unregister the other one first"
                )
            self._procedures[name] = Procedure(handler)
        return handler

    def unregister(self, name: Any) -> None:
        """Takes a procedure out; calls that run go on.

        Raises:
            WseLookupError: There is none of that name (RP_NOT_REGISTERED).
        """
        self._check_name(name)
        with self._lock:
            if self._procedures.pop(name, None) is None:
                raise WseLookupError(
                    WSE_ERROR.RP_NOT_REGISTERED, {"rp": name}, "there is no such procedure"
                )

    def find(self, name: Any) -> Procedure | None:
        """The procedure of that name; None if there is none."""
        return self._procedures.get(name)

    def renew(self) -> None:
        """In the child of a fork: who held the lock is not there."""
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Procedures {' '.join(map(str, list(self._procedures)))}>"
