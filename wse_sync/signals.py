"""Signals: blinker's, but in order, isolated from each other, and easy to bind.

Any thread connects; workers settle. ``_lock`` guards the latest values, the table of plain handlers
and that of late receivers; it is not held while receivers run.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import blinker

from .checks import check_callable

__all__ = ["ClientSignals", "ServerSignals", "Signal"]

HandlerT = TypeVar("HandlerT", bound=Callable[..., Any])
Report = Callable[[BaseException, Any], None]
_Event = tuple[Any, dict[str, Any]]  # the endpoint, and the values by name
_Late = tuple[Callable[..., Any], deque[_Event]]  # a receiver, and what it has to hear yet


class _OrderedSet:
    """What blinker needs of a set, in the order in which things came."""

    def __init__(self, items: Iterable[Any] = ()) -> None:
        self._items = dict.fromkeys(items)

    def add(self, item: Any) -> None:
        self._items[item] = None

    def discard(self, item: Any) -> None:
        self._items.pop(item, None)

    def copy(self) -> _OrderedSet:
        return _OrderedSet(self._items.copy())

    def __or__(self, other: _OrderedSet) -> _OrderedSet:
        return _OrderedSet([*self._items.copy(), *other._items.copy()])

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items.copy())

    def __len__(self) -> int:
        return len(self._items)


class Signal(blinker.Signal):
    """Something that happens; bind handlers to it.

    ``signal(handler)`` binds a plain handler, which gets the values in order, and returns it, so
    that it decorates. It is held until ``signal.disconnect(handler)``. ``signal.connect(receiver)``
    is blinker's: the receiver gets the endpoint and the values by name, and is held weakly.

    Handlers run one after the other, in the order in which they were bound, on a worker thread. One
    that raises stops no other: its error is logged and goes to the ``error`` signal.

    Args:
        names: Of the values, in order.
        report: Where errors of receivers go, and the connection that they have to do with, if any.
        sticky: Whether a handler that comes late is called at once with the latest values.
    """

    set_class: Any = _OrderedSet

    def __init__(self, names: tuple[str, ...], report: Report, *, sticky: bool = False) -> None:
        super().__init__()
        self.names = names
        self._report = report
        self._sticky = sticky
        self._late: list[_Late]  # those that connect() is calling
        self.renew()
        self._latest: _Event | None = None
        self._plain: list[tuple[Callable[..., Any], Callable[..., Any]]] = []

    def __call__(self, handler: HandlerT) -> HandlerT:
        """Binds a plain handler and returns it."""
        check_callable("a signal handler", handler)

        def receiver(_sender: Any, **values: Any) -> None:
            handler(*(values[name] for name in self.names))

        with self._lock:
            self._plain.append((handler, receiver))
        self.connect(receiver, weak=False)
        return handler

    def connect(self, receiver: HandlerT, sender: Any = blinker.ANY, weak: bool = True) -> HandlerT:
        """Binds a receiver, as blinker does; it gets the endpoint and the values by name."""
        late: _Late = receiver, deque()
        try:
            with self._lock:
                super().connect(receiver, sender, weak)
                latest = self._latest
                if latest is not None and (sender is blinker.ANY or sender is latest[0]):
                    late[1].append(latest)
                    self._late.append(late)
            while self._is_behind(late):
                endpoint, values = late[1].popleft()
                try:
                    receiver(endpoint, **values)
                except Exception as error:  # Ctrl-C is for the caller, whose thread this is
                    self._report(error, None)
        finally:
            with self._lock:  # once more, if that was raised
                self._late = [each for each in self._late if each is not late]
        return receiver

    def _is_behind(self, late: _Late) -> bool:
        """Whether there is more for it; if not, it is called like all others from now on."""
        with self._lock:
            if not late[1]:
                self._late = [each for each in self._late if each is not late]
            return bool(late[1])

    def disconnect(self, receiver: Callable[..., Any], sender: Any = blinker.ANY) -> None:
        """Unbinds a receiver or a plain handler; one that is not bound is no error."""
        with self._lock:
            for pair in self._plain:
                if pair[0] == receiver:
                    self._plain.remove(pair)
                    receiver = pair[1]
                    break
            super().disconnect(receiver, sender)

    def _disconnect(self, receiver_id: Any, sender_id: Any) -> None:
        """blinker's own, which it also calls, without a lock, when a receiver is collected."""
        with self._lock:
            super()._disconnect(receiver_id, sender_id)

    def settle(self, sender: Any, *values: Any, connection: Any = None) -> None:
        """Lets it happen: runs the receivers, each on its own account.

        Args:
            sender: The endpoint.
            values: What receivers get.
            connection: Whose handlers they are, if there is one.
        """
        named = dict(zip(self.names, values))
        with self._lock:
            if self._sticky:
                self._latest = sender, named
            receivers = [] if self.is_muted else list(self.receivers_for(sender))
            for receiver, events in self._late:
                if receiver in receivers:  # it hears of what was before this, in another thread
                    receivers.remove(receiver)
                    events.append((sender, named))
        for receiver in receivers:
            self._run(receiver, sender, named, connection)

    def _run(
        self, receiver: Callable[..., Any], sender: Any, values: dict[str, Any], connection: Any
    ) -> None:
        try:
            if connection is None:
                receiver(sender, **values)
            else:
                connection.endpoint.run_handler(connection, receiver, sender, **values)
        except BaseException as error:
            self._report(error, connection)

    def renew(self) -> None:
        """In the child of a fork: who held the lock, or was being called, is not there."""
        self._lock = threading.RLock()  # a receiver that is garbage collected disconnects itself
        self._late = []

    def __bool__(self) -> bool:
        """Whether anything happens when it is settled."""
        return self._sticky or bool(self.receivers)

    def __repr__(self) -> str:
        count = len(self.receivers)
        return f"<Signal ({', '.join(self.names)}), {count} receiver{'s' * (count != 1)}>"


class _Signals:
    """A namespace of signals."""

    def renew(self) -> None:
        """In the child of a fork: each of them gets a new lock."""
        for signal in vars(self).values():
            signal.renew()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {' '.join(vars(self))}>"


class ServerSignals(_Signals):
    """What happens at a server.

    Attributes:
        joined: ``(client, meta)``: the first connection of a user was let in.
        left: ``(client, code, reason)``: the last one is gone.
        connected: ``(conn)``: a connection was let in.
        disconnected: ``(conn, code, reason)``: it is gone.
        suspended: ``(conn)``: it lost its link, and keeps its session for a while.
        resumed: ``(conn)``: it has a link again, and its session.
        error: ``(error, conn)``: a handler raised, a procedure failed, or a client sent what it
            must not. ``conn`` may be None.
        ignored: ``(conn, type, payload)``: a message for which there is no handler.
    """

    def __init__(self, report: Report, last_resort: Report) -> None:
        self.joined = Signal(("client", "meta"), report)
        self.left = Signal(("client", "code", "reason"), report)
        self.connected = Signal(("conn",), report)
        self.disconnected = Signal(("conn", "code", "reason"), report)
        self.suspended = Signal(("conn",), report)
        self.resumed = Signal(("conn",), report)
        self.error = Signal(("error", "conn"), last_resort)
        self.ignored = Signal(("conn", "type", "payload"), report)


class ClientSignals(_Signals):
    """What happens at a client.

    Attributes:
        connected: ``()``: the socket is open.
        ready: ``(welcome)``: the server let us in. A handler that comes late is called at once.
        closed: ``(code, reason)``: a link is lost, whether or not another follows.
        error: ``(error)``: a handler raised, a procedure failed, the server sent nonsense, or
            messages may be lost.
        updated: ``(status)``: the status changed. A handler that comes late is called at once.
        ignored: ``(type, payload)``: a message for which there is no handler.
    """

    def __init__(self, report: Report, last_resort: Report) -> None:
        self.connected = Signal((), report)
        self.ready = Signal(("welcome",), report, sticky=True)
        self.closed = Signal(("code", "reason"), report)
        self.error = Signal(("error",), last_resort)
        self.updated = Signal(("status",), report, sticky=True)
        self.ignored = Signal(("type", "payload"), report)
