"""Who opens a WebSocket, and how it tells that there is none.

Mostly the network does (``dialed.py``). Something in this process may *take the place* of a server
for those URLs that begin as its own does: that is how tests do without sockets. Any thread comes
here; the table of places changes in one step of the interpreter.
"""

from __future__ import annotations

import abc
import ssl
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from ..target import shown
from .base import Transport

__all__ = [
    "MEMORY",
    "DialFailed",
    "Dialer",
    "find_place",
    "give_back",
    "origin_of",
    "refused",
    "take_place",
]

# A 4xx means that trying again is useless, except for these (RFC 9110, RFC 6585).
_RETRY_STATUSES = frozenset({408, 425, 429})

#: The scheme of URLs that lead nowhere but to a place in this process.
MEMORY = "memory"

_DEFAULT_PORTS = {"ws": 80, "wss": 443}


class DialFailed(Exception):
    """No WebSocket came about.

    Args:
        message: Why, for people.
        final: Whether trying again is useless.
        status: The HTTP status of the answer, if there was one.
    """

    def __init__(self, message: str, *, final: bool = False, status: int | None = None) -> None:
        super().__init__(message)
        self.final = final
        self.status = status


class Dialer(abc.ABC):
    """One attempt to open a WebSocket."""

    @abc.abstractmethod
    def dial(
        self,
        url: str,
        subprotocol: str,
        timeout: float | None,
        ssl_context: ssl.SSLContext | None,
        options: Mapping[str, Any],
    ) -> Transport:
        """Connects and upgrades.

        Args:
            url: ``ws://`` or ``wss://``.
            subprotocol: The one to ask for.
            timeout: Bound of each step (an address, TLS, a read of the answer), in seconds.
            ssl_context: For ``wss://``; None is the default of the ssl module.
            options: For ``websocket.create_connection``.

        Raises:
            DialFailed: It did not work.
        """

    @abc.abstractmethod
    def abort(self) -> None:
        """Ends the attempt; any thread."""


def refused(url: str, status: int, body: bytes = b"") -> DialFailed:
    """The server answered, but not with an upgrade."""
    final = 400 <= status < 500 and status not in _RETRY_STATUSES
    text = body[:200].decode("utf-8", "replace").strip()
    said = f": {text.splitlines()[0]}" if text else ""
    return DialFailed(
        f"{shown(url)} answered with HTTP status {status}{said}", final=final, status=status
    )


#: Gets whoever dials, and makes the dialer of an attempt.
MakeDialer = Callable[[Any], Dialer]

Origin = tuple[str, str, int]

_places: dict[Origin, MakeDialer] = {}


def origin_of(url: str) -> Origin:
    """What two URLs of one server have in common: scheme, host and port."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)


def take_place(url: str, make: MakeDialer) -> bool:
    """Has ``make`` serve URLs with the origin of this one; False if another one does."""
    return _places.setdefault(origin_of(url), make) == make


def give_back(url: str, make: MakeDialer) -> None:
    """The end of :func:`take_place`; no effect if another one serves them."""
    if _places.get(origin_of(url)) == make:
        del _places[origin_of(url)]


def find_place(url: str) -> MakeDialer | None:
    """Who serves this URL in this process; None if the network does.

    Raises:
        DialFailed: It is of this process, and nobody does.
    """
    origin = origin_of(url)
    if origin[0] == MEMORY and origin not in _places:
        raise DialFailed(f"nothing serves {shown(url)}: a TestServer does while it is open")
    return _places.get(origin)
