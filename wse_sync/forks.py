"""What becomes of the library in the child of a fork, which has copies of all that its parent has.

The copies of sockets are cut: what a child wrote, or said at its end, would reach the other side as
if its parent had said it, and a copy that it keeps holds a connection open, or a port. Servers and
clients begin anew: the threads are not in the child, and their locks may be held for ever.

No lock: what is kept is added in one step of the interpreter, and a child has one thread.
"""

from __future__ import annotations

import os
import socket
import weakref
from typing import Protocol

__all__ = ["Renewed", "keep_from_children", "renew_in_children"]


class Renewed(Protocol):
    """What children of forks have as if it had just been made."""

    def renew(self) -> None:
        """Forgets all that its parent has done with it; the only thread of the child."""


_sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
_renewed: weakref.WeakSet[Renewed] = weakref.WeakSet()


def keep_from_children(sock: socket.socket) -> None:
    """Cuts the copies of this socket that children of forks get."""
    _sockets.add(sock)


def renew_in_children(endpoint: Renewed) -> None:
    """Has this begin anew in the children of forks."""
    _renewed.add(endpoint)


def _begin_child() -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    for sock in _sockets:
        if sock.fileno() >= 0:
            # Not closed: the object would close that number again, which is another file by then.
            os.dup2(nowhere, sock.fileno(), inheritable=False)
    os.close(nowhere)
    for endpoint in _renewed:
        endpoint.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_child)
