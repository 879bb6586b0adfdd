"""Who is there: users and their connections.

``Registry._lock`` guards all of it. It may be taken under the lock of a connection, and nothing is
taken under it.
"""

from __future__ import annotations

import threading
from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from typing import TYPE_CHECKING, Any, TypeVar

from .constants import WSE_REASON
from .protocol import Data
from .transport.base import Transport

if TYPE_CHECKING:
    from .server import WseServer
    from .sessions import WseConnection

__all__ = ["Packed", "Registry", "View", "WseIdentity"]

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


class Packed:
    """A message for many: packed once, and framed once for each kind of transport."""

    def __init__(self, data: Data) -> None:
        self._data = data
        self._frames: dict[type[Transport], bytes] = {}

    def frame_for(self, transport: Transport) -> bytes:
        """The bytes to send there."""
        kind = type(transport)
        frame = self._frames.get(kind)
        if frame is None:
            frame = self._frames[kind] = kind.encode(self._data)
        return frame


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
        self.clients: Mapping[Any, WseIdentity] = View(self._clients)

    def add(self, connection: WseConnection) -> tuple[WseIdentity, bool, WseConnection | None]:
        """Enters a connection.

        Returns:
            Its user, whether it is the first connection of the user, and the one it pushed out.
        """
        with self._lock:
            client = self._clients.get(connection.cid)
            first = client is None
            if client is None:
                client = WseIdentity(self._server, connection.cid, connection.meta)
                self._clients[connection.cid] = client
            evicted = None
            if len(client.connections) >= self._server.conn_per_user:
                evicted = client.connections.pop(next(iter(client.connections)))
            client.connections[connection.conn_id] = connection
            return client, first, evicted

    def remove(self, connection: WseConnection) -> bool:
        """Takes a connection out; whether it was the last of its user."""
        client = connection.client
        with self._lock:
            if client is None or client.connections.pop(connection.conn_id, None) is None:
                return False
            if client.connections:
                return False
            del self._clients[client.cid]
            return True
