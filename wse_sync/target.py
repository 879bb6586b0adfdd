"""Where a client goes, and as whom; and how much of that others may see."""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import urlsplit

from .checks import bad_type, bad_value
from .constants import WSE_ERROR

__all__ = ["Target", "check_meta", "check_url", "shown"]


class Target(NamedTuple):
    """Where to, and as whom."""

    url: str
    identity: Any
    meta: dict[str, Any]

    def __repr__(self) -> str:
        return f"<Target {shown(self.url)}>"


def shown(url: str) -> str:
    """A URL for people and logs: without user, password and query, which may be secrets."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def check_url(url: str) -> str:
    """Refuses what is no URL of a WebSocket."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("ws", "wss", "memory") and bool(parts.hostname)
        _ = parts.port  # raises if it is none
    except (ValueError, AttributeError, TypeError):
        good = False
    if not good:
        # Nobody knows which part is what: what may be a secret is left out all the same.
        visible = str(url).partition("?")[0].rpartition("@")[2]
        raise bad_value(
            f"{visible!r} is no WebSocket URL; write ws://host:port/path, or wss://",
            WSE_ERROR.WS_CLIENT_ERROR,
        )
    return url


def check_meta(meta: Any) -> dict[str, Any]:
    """Refuses what is no dict; None is an empty one."""
    if meta is None:
        return {}
    if not isinstance(meta, dict):
        raise bad_type(f"meta must be a dict, not {type(meta).__name__}")
    return meta
