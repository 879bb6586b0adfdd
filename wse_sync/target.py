"""Where a client goes, and as whom."""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import urlsplit

from .checks import bad_type, bad_value
from .constants import WSE_ERROR

__all__ = ["Target", "check_meta", "check_url"]


class Target(NamedTuple):
    """Where to, and as whom."""

    url: str
    identity: Any
    meta: dict[str, Any]


def check_url(url: str) -> str:
    """Refuses what is no URL of a WebSocket."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("ws", "wss", "memory") and bool(parts.hostname)
        _ = parts.port  # raises if it is none
    except (ValueError, AttributeError, TypeError):
        good = False
    if not good:
        raise bad_value(
            f"{url!r} is no WebSocket URL; write ws://host:port/path, or wss://",
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
