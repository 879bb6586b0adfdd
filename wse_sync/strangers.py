"""How many may stand at the door: connections that nobody has let in yet, of all and of each place.

Everything that a stranger costs is small and ends soon (``auth_timeout``), but for their number. So
that has a bound, and one for those of one address, or one host could keep everybody else out.
Whoever leaves while ``identify`` runs for him is counted until it returns, since a thread runs it.

Threads: those of requests enter, whoever lets in or ends a connection has it leave. ``_lock``
guards all of it; nothing is taken under it.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

from .addresses import network_of
from .checks import check_counts
from .loglimit import LogLimit

if TYPE_CHECKING:
    from .transport.base import Transport

__all__ = ["Strangers"]

_OF_ALL = "refused a connection: max_unauthenticated=%d of WseServer are waiting to be let in"
_OF_ONE = (
    "refused a connection from %s: max_unauthenticated_per_address=%d of WseServer wait there to be"
    " let in; if that is a proxy of yours, see trusted_hops"
)


class Strangers:
    """The connections that have not been let in.

    Args:
        log: Is told when somebody is turned away.
        max_unauthenticated: How many there may be; None: no limit.
        max_unauthenticated_per_address: Likewise, from one address (of IPv6: one network, /64).
    """

    def __init__(
        self,
        log: LogLimit,
        max_unauthenticated: int | None,
        max_unauthenticated_per_address: int | None,
    ) -> None:
        limits = {
            "max_unauthenticated": max_unauthenticated,
            "max_unauthenticated_per_address": max_unauthenticated_per_address,
        }
        check_counts(**{name: limit for name, limit in limits.items() if limit is not None})
        self._log = log
        self._most = max_unauthenticated or math.inf
        self._most_of_one = max_unauthenticated_per_address or math.inf
        self._lock = threading.Lock()
        self._places: dict[Transport, str] = {}
        self._counts: Counter[str] = Counter()

    def enter(self, transport: Transport, address: str) -> bool:
        """Takes a place for a newcomer, until :meth:`leave`; False if there is none.

        Args:
            transport: Of the newcomer.
            address: Where it comes from. One without counts among all, and for no address: behind a
                Unix socket they would all be the same.
        """
        network = network_of(address)
        with self._lock:
            if len(self._places) >= self._most:
                line: tuple[Any, ...] = (_OF_ALL, self._most)
            elif network and self._counts[network] >= self._most_of_one:
                line = (_OF_ONE, network, self._most_of_one)
            else:
                self._places[transport] = network
                self._counts[network] += 1
                return True
        self._log.write(logging.WARNING, *line)
        return False

    def leave(self, transport: Transport) -> None:
        """Gives the place back: it was let in, or is gone. Again: no effect."""
        with self._lock:
            network = self._places.pop(transport, None)
            if network is None:
                return
            self._counts[network] -= 1
            if not self._counts[network]:
                del self._counts[network]

    def __len__(self) -> int:
        return len(self._places)
