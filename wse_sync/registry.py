"""Who is there: users, their connections, and the sessions that can be resumed.

``Registry._lock`` guards all of it. It may be taken under the lock of a connection, and nothing is
taken under it.
"""

from __future__ import annotations

import hashlib
import hmac
import threading
from collections.abc import Collection, ItemsView, Iterator, KeysView, Mapping, ValuesView
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from .constants import WSE_REASON
from .interrupts import aside

if TYPE_CHECKING:
    from .server import WseServer
    from .sessions import WseConnection

__all__ = ["Registry", "View", "WseIdentity"]

KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")


class View(Mapping[KeyT, ValueT]):
    """A read-only mapping that may be iterated over while others change it."""

    def __init__(self, items: dict[KeyT, ValueT]) -> None:
        self._items = items

    def __getitem__(self, key: KeyT) -> ValueT:
        return self._items[key]

    def __iter__(self) -> Iterator[KeyT]:
        return iter(list(self._items))

    def __len__(self) -> int:
        return len(self._items)

    # Those of Mapping would look up each key later, when it may be gone.

    def keys(self) -> KeysView[KeyT]:
        return self._items.copy().keys()

    def values(self) -> ValuesView[ValueT]:
        return self._items.copy().values()

    def items(self) -> ItemsView[KeyT, ValueT]:
        return self._items.copy().items()

    def __repr__(self) -> str:
        return repr(self._items.copy())


class WseIdentity:
    """A user who is there, with one connection or several.

    Attributes:
        cid: Id of the user.
        meta: That of the first connection.
        conns: Read-only mapping ``conn_id -> WseConnection``, safe to iterate over.
    """

    def __init__(self, server: WseServer, cid: Any, meta: dict[str, Any]) -> None:
        self._server = server
        self.cid = cid
        self.meta = meta
        self.connections: dict[str, WseConnection] = {}
        self.conns: Mapping[str, WseConnection] = View(self.connections)

    def send(self, type: Any, payload: Any = None) -> int:
        """Sends a message to all devices of the user; returns to how many. Does not block."""
        return self._server.send_to(self.conns.values(), type, payload)

    def drop(self, reason: str = WSE_REASON.BY_SERVER) -> None:
        """Disconnects all devices of the user; any thread, does not block."""
        aside(partial(self._drop, reason))

    def _drop(self, reason: str) -> None:
        for connection in self.conns.values():
            connection.drop(reason)

    def __repr__(self) -> str:
        count = len(self.connections)
        return f"<WseIdentity {self.cid!r} with {count} connection{'s' * (count != 1)}>"


class Registry:
    """The users who are there."""

    def __init__(self, server: WseServer) -> None:
        self._server = server
        self._lock = threading.Lock()
        self._clients: dict[Any, WseIdentity] = {}
        self._connections: dict[WseConnection, None] = {}
        self._suspended: dict[WseConnection, None] = {}  # the oldest first
        self._lingering: dict[WseConnection, None] = {}
        self._sessions: dict[bytes, WseConnection] = {}
        self.clients: Mapping[Any, WseIdentity] = View(self._clients)

    @property
    def known(self) -> Collection[WseConnection]:
        """The same as :meth:`connections`, for whoever is alone and may find the lock held."""
        return self._connections

    def connections(self) -> list[WseConnection]:
        """Everybody who was let in, those without a link included."""
        with self._lock:
            return list(self._connections)

    def linger(self, connection: WseConnection) -> None:
        """Keeps one that is gone in mind until all that it has brought is handled.

        That takes memory and a thread, and must not be free for whoever comes and goes.
        """
        if connection.lane.waiting_bytes:
            with self._lock:
                self._lingering[connection] = None
            connection.lane.when_handled(partial(self._end_lingering, connection))

    def _end_lingering(self, connection: WseConnection) -> None:
        with self._lock:
            del self._lingering[connection]

    def lingering(self) -> list[WseConnection]:
        """Those that are gone, and not yet forgotten."""
        with self._lock:
            return list(self._lingering)

    def survey(self) -> tuple[list[WseConnection], int, int]:
        """All at one moment: the connections, how many have no link, and how many users."""
        with self._lock:
            return list(self._connections), len(self._suspended), len(self._clients)

    def add(self, connection: WseConnection) -> tuple[WseIdentity, bool, WseConnection | None]:
        """Enters a connection.

        Returns:
            Its user, whether it is the first connection of the user, and the one that has to go:
            one without a link, or the oldest. That is this one, and it is not entered, if it
            arrived before the latest link of the other, and its client dials again: it may have
            done so already, and be the other, while this hi was on its way.
        """
        with self._lock:
            client = self._clients.get(connection.cid)
            first = client is None
            if client is None:
                client = WseIdentity(self._server, connection.cid, connection.meta)
                self._clients[connection.cid] = client
            evicted = None
            if len(client.connections) >= self._server.conn_per_user:
                others = list(client.connections.values())
                away = [other for other in others if other in self._suspended]
                evicted = (away or others)[0]
                if connection.admission.wants_session and connection.arrived < evicted.claimed:
                    return client, False, connection
                del client.connections[evicted.conn_id]
                self._forget(evicted)
            client.connections[connection.conn_id] = connection
            self._connections[connection] = None
            if connection.session_id is not None:
                self._sessions[_key(connection.session_id)] = connection
            return client, first, evicted

    def remove(self, connection: WseConnection) -> bool:
        """Takes a connection out; whether it was the last of its user."""
        client = connection.client
        with self._lock:
            self._forget(connection)
            if client is None or client.connections.pop(connection.conn_id, None) is None:
                return False
            if client.connections:
                return False
            del self._clients[client.cid]
            return True

    def find_session(self, session_id: str) -> WseConnection | None:
        """The connection that has this session."""
        with self._lock:
            found = self._sessions.get(_key(session_id))
        # The table is searched by a hash, whose timing tells nothing of the id.
        if found is None or found.session_id is None:
            return None
        same = hmac.compare_digest(_bytes(found.session_id), _bytes(session_id))
        return found if same else None

    def suspend(self, connection: WseConnection) -> WseConnection | None:
        """Notes that a connection has no link; returns the one that is now one too many."""
        with self._lock:
            if connection not in self._connections:
                return None
            self._suspended[connection] = None
            if len(self._suspended) <= self._server.max_suspended:
                return None
            oldest = next(iter(self._suspended))
            del self._suspended[oldest]  # here: others that come now must find another one
            return oldest

    def wake(self, connection: WseConnection) -> None:
        """Notes that a connection has a link again."""
        with self._lock:
            self._suspended.pop(connection, None)

    def _forget(self, connection: WseConnection) -> None:
        self._connections.pop(connection, None)
        self._suspended.pop(connection, None)
        if connection.session_id is not None:
            self._sessions.pop(_key(connection.session_id), None)


def _key(session_id: str) -> bytes:
    return hashlib.sha256(_bytes(session_id)).digest()


def _bytes(session_id: str) -> bytes:
    return session_id.encode("utf-8", "surrogatepass")  # whatever a stranger sends
