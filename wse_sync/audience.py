"""A server and its users: who is there, how to reach them, and what their handlers are told.

Any thread comes here; nothing is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from .connection import Connection
from .constants import WSE_REASON
from .core.peer import Message
from .endpoint import Endpoint
from .registry import Registry, WseIdentity
from .sending import Packed
from .sessions import WseConnection
from .signals import ServerSignals, Signal
from .stats import ServerStats
from .strangers import Strangers
from .workers import Task

__all__ = ["Audience"]


class Audience(Endpoint):
    """The part of a server that has to do with those who are in."""

    when: ServerSignals
    registry: Registry
    strangers: Strangers

    @property
    def clients(self) -> Mapping[Any, WseIdentity]:
        """Who is there: a read-only mapping ``cid -> WseIdentity``, safe to iterate over.

        It changes as users come and go, so one that was there may be gone when it is looked up.
        Iterate over ``clients.items()``, and copy with ``dict(clients.items())``.
        """
        return self.registry.clients

    def send(self, cid: Any, type: Any, payload: Any = None) -> int:
        """Sends a message to all devices of a user. Does not block; any thread.

        Returns:
            How many connections it went to; 0 if the user is not there.

        Raises:
            WseTypeError, WseValueError: The protocol cannot pack this; nothing was sent.
        """
        client = self.clients.get(cid)
        return self.send_to(() if client is None else client.conns.values(), type, payload)

    def broadcast(self, type: Any, payload: Any = None) -> int:
        """Sends a message to everyone, packed once. Does not block; any thread.

        Returns:
            How many connections it went to.

        Raises:
            WseTypeError, WseValueError: The protocol cannot pack this; nothing was sent.
        """
        return self.send_to(self.registry.connections(), type, payload)

    def send_to(self, connections: Iterable[WseConnection], type: Any, payload: Any) -> int:
        """Packs a message once and sends it to those connections that are not closed."""
        data = self.peer.pack_message(type, payload)
        self.check_size(data)
        packed = Packed(data, type)
        count = sum([connection.send_packed(packed) for connection in connections])
        self.tally.send_to_many(count)
        return count

    def drop_client(self, cid: Any, reason: str = WSE_REASON.NO_REASON) -> None:
        """Disconnects a user with 1000 and ``reason``; an unknown one is no error."""
        client = self.clients.get(cid)
        if client is not None:
            client.drop(reason)

    def stats(self) -> ServerStats:
        """What this server has done since it was made, and what it has to do at the moment.

        Any thread; does not block. It is counted all the time, and put together here, in about a
        millisecond for a thousand connections. The counts are those of this process.
        """
        connections, suspended, users = self.registry.survey()
        return self.read_stats(
            ServerStats,
            [*connections, *self.registry.lingering()],
            users=users,
            connections=len(connections) - suspended,
            suspended=suspended,
            strangers=len(self.strangers),
        )

    # What the other modules need

    def arguments(self, connection: Connection) -> tuple[Any, ...]:
        return (connection,)

    def settle_error(self, error: BaseException, connection: Connection | None) -> None:
        self.when.error.settle(self, error, connection, connection=connection)

    def settle_ignored(self, connection: Connection, message: Message) -> None:
        values = connection, message.type, message.payload
        self.when.ignored.settle(self, *values, connection=connection)

    def happened(self, signal: Signal, connection: WseConnection, *values: Any) -> Task:
        """What tells the handlers of a signal of something that a connection did."""
        return partial(signal.settle, self, *values, connection=connection)

    def report_from_signal(
        self, error: BaseException, connection: Connection | None = None
    ) -> None:
        (self if connection is None else connection.endpoint).report(error, connection)
