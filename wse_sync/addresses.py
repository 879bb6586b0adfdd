"""Where a request comes from: the address of the socket, or what trusted proxies say of it.

Functions only.
"""

from __future__ import annotations

import socket
from typing import Any

from .checks import bad_type, bad_value

__all__ = ["address_of", "check_hops", "network_of"]

_MAPPED = b"\0" * 10 + b"\xff\xff"  # ::ffff:192.0.2.1 is 192.0.2.1 (RFC 4291, 2.5.5.2)
_NETWORK_BYTES = 8  # of 16: who has one address of IPv6 mostly has all that begin so (RFC 6177)


def check_hops(trusted_hops: int) -> int:
    """Refuses what is no number of proxies."""
    if isinstance(trusted_hops, bool) or not isinstance(trusted_hops, int):
        raise bad_type(f"trusted_hops must be a whole number, not {type(trusted_hops).__name__}")
    if trusted_hops < 0:
        raise bad_value(f"trusted_hops must be 0 or more, not {trusted_hops!r}")
    return trusted_hops


def address_of(environ: dict[str, Any], trusted_hops: int) -> str:
    """The address of the client.

    Each proxy appends to ``X-Forwarded-For`` who has connected to it. So the last entries, as many
    as there are proxies of ours, are true; what stands before them is whatever the client sent.
    From the right, the last one of them that is an address counts; without one, that of the socket.

    Args:
        environ: Of the upgrade.
        trusted_hops: How many proxies every request comes through.
    """
    found = str(environ.get("REMOTE_ADDR") or "")
    if trusted_hops:
        entries = str(environ.get("HTTP_X_FORWARDED_FOR", "")).rsplit(",", trusted_hops)
        for entry in reversed(entries[-trusted_hops:]):
            address = _parse(entry.strip())
            if address is None:
                break
            found = address
    return found


def network_of(address: str) -> str:
    """What those have in common who can easily have each other's address."""
    packed = _pack(socket.AF_INET6, address)
    if packed is None:
        return address
    if packed.startswith(_MAPPED):
        return socket.inet_ntop(socket.AF_INET, packed[len(_MAPPED) :])
    return f"{socket.inet_ntop(socket.AF_INET6, packed[:_NETWORK_BYTES] + bytes(8))}/64"


def _parse(entry: str) -> str | None:
    """An address in one way of writing, without a port; None if it is none.

    Some proxies add the port, and put an address of IPv6 into brackets then.
    """
    if entry.startswith("["):
        entry, bracket, port = entry[1:].partition("]")
        if not bracket or (port and not _is_port(port)):
            return None
    elif entry.count(":") == 1:
        entry, _, port = entry.partition(":")
        if not _is_port(f":{port}"):
            return None
    for family in (socket.AF_INET, socket.AF_INET6):
        packed = _pack(family, entry)
        if packed is not None:
            return socket.inet_ntop(family, packed)
    return None


def _is_port(text: str) -> bool:
    return text[0] == ":" and text[1:].isascii() and text[1:].isdigit()


def _pack(family: int, address: str) -> bytes | None:
    try:
        return socket.inet_pton(family, address)
    except (OSError, ValueError):  # ValueError: a character that no address has
        return None
