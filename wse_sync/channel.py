"""Messages by type: handlers, and two ways to take messages without one.

The lane of a connection delivers; any thread binds or waits. ``_lock`` guards the tables and is not
held while handlers run. An inbox has a condition of its own, which is taken under no other lock; so
has a waiter, which is told under ``_lock`` that no more will come.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, overload

from . import clock
from .checks import check_callable, check_counts, check_seconds
from .constants import WSE_ERROR
from .errors import WseConnectionError, WseTimeoutError

__all__ = ["Channel", "Inbox"]

HandlerT = TypeVar("HandlerT", bound=Callable[..., Any])


class Channel:
    """Where the messages of the other side come in.

    Handlers get ``(payload)`` on a client and ``(conn, payload)`` on a server. Those of one type
    run in the order in which they were bound; the messages of one connection one at a time.

    Args:
        check_type: Raises if a type cannot be handled by users.
    """

    def __init__(self, check_type: Callable[[Any], None]) -> None:
        self._check_type = check_type
        self._lock = threading.Lock()
        self._handlers: dict[Any, list[tuple[Callable[..., Any], bool]]] = {}
        self._inboxes: list[Inbox] = []
        self._waiters: list[_Waiter] = []
        self._over: str | None = None

    @overload
    def on(self, type: Any, handler: HandlerT) -> HandlerT: ...
    @overload
    def on(self, type: Any) -> Callable[[HandlerT], HandlerT]: ...
    def on(self, type: Any, handler: Callable[..., Any] | None = None) -> Callable[..., Any]:
        """Has ``handler`` called for every message of this type; decorates without a handler."""
        return self._bind(type, handler, once=False)

    @overload
    def once(self, type: Any, handler: HandlerT) -> HandlerT: ...
    @overload
    def once(self, type: Any) -> Callable[[HandlerT], HandlerT]: ...
    def once(self, type: Any, handler: Callable[..., Any] | None = None) -> Callable[..., Any]:
        """Like :meth:`on`, for the next message only."""
        return self._bind(type, handler, once=True)

    def off(self, type: Any, handler: Callable[..., Any]) -> None:
        """Unbinds a handler; one that is not bound is no error."""
        self._check_type(type)
        with self._lock:
            kept = [entry for entry in self._handlers.get(type, ()) if entry[0] != handler]
            self._replace(type, kept)

    def wait(self, type: Any, timeout: float | None = None) -> Any:
        """Blocks until a message of this type comes and returns its payload.

        For scripts and prompts. On a server it returns ``(conn, payload)``. In a handler it would
        wait for messages that wait for the handler to return.

        Args:
            type: Of the message.
            timeout: In seconds; None waits for as long as the endpoint lives.

        Raises:
            WseTimeoutError: The time ran out.
            WseConnectionError: The endpoint went offline for good (CONNECTION_CLOSED).
        """
        self._check_type(type)
        check_seconds(timeout=timeout)
        waiter = _Waiter()
        with self._lock:
            waiter.over = self._over
            self._waiters.append(waiter)
        try:
            self.once(type, waiter.take)
            if not waiter.wait(timeout):
                raise WseTimeoutError(
                    WSE_ERROR.RP_TIMEOUT, message=f"no {type!r} within {timeout} s"
                )
        finally:
            self.off(type, waiter.take)
            with self._lock:
                self._waiters.remove(waiter)
        if waiter.arguments is None:
            raise WseConnectionError(WSE_ERROR.CONNECTION_CLOSED, message=waiter.over)
        return waiter.arguments[0] if len(waiter.arguments) == 1 else waiter.arguments

    def listen(self, *types: Any, max_items: int = 1000) -> Inbox:
        """Collects messages, to iterate over: ``with channel.listen("news") as inbox:``.

        The items are ``(type, payload)``; on a server they begin with the connection. When
        ``max_items`` are waiting, the connection that brings one more is not read on until there is
        room: nothing is dropped. The iteration ends when the endpoint is offline for good.

        Args:
            types: Of the messages; none means all.
            max_items: How many may wait.
        """
        for type in types:
            self._check_type(type)
        check_counts(max_items=max_items)
        inbox = Inbox(frozenset(types), max_items, self._forget)
        with self._lock:
            self._inboxes.append(inbox)
            over = self._over is not None
        if over:
            inbox.close()
        return inbox

    def deliver(
        self,
        type: Any,
        arguments: tuple[Any, ...],
        report: Callable[[BaseException], None],
        run: Callable[..., Any],
    ) -> bool:
        """Runs what is bound to a type; False if nothing is.

        Args:
            type: Of the message.
            arguments: For the handlers, the payload last.
            report: Gets what handlers raise.
            run: Gets each handler and its arguments, and calls it.
        """
        with self._lock:
            handlers = self._handlers.get(type, [])
            if any(once for _, once in handlers):
                self._replace(type, [entry for entry in handlers if not entry[1]])
            inboxes = [inbox for inbox in self._inboxes if inbox.wants(type)]
        for handler, _ in handlers:
            try:
                run(handler, *arguments)
            except BaseException as error:
                report(error)
        taken = [inbox.put((*arguments[:-1], type, arguments[-1])) for inbox in inboxes]
        return bool(handlers) or any(taken)

    def interrupt(self, why: str) -> None:
        """Ends every wait and every inbox: no more messages will come."""
        with self._lock:
            self._over = why
            for waiter in self._waiters:
                waiter.end(why)
            inboxes = list(self._inboxes)
        for inbox in inboxes:
            inbox.close()

    def resume(self) -> None:
        """The end of ``interrupt``."""
        with self._lock:
            self._over = None

    def renew(self) -> None:
        """In the child of a fork: who held a lock, or waited, is not there. Handlers stay."""
        self._lock = threading.Lock()
        self._waiters.clear()
        for inbox in self._inboxes:
            inbox.renew()

    def _bind(
        self, type: Any, handler: Callable[..., Any] | None, *, once: bool
    ) -> Callable[..., Any]:
        self._check_type(type)
        if handler is None:
            return lambda function: self._bind(type, function, once=once)
        check_callable(f"the handler of {type!r}", handler)
        with self._lock:
            # A new list: deliver() goes through the old one without the lock.
            self._handlers[type] = [*self._handlers.get(type, ()), (handler, once)]
        return handler

    def _replace(self, type: Any, handlers: list[tuple[Callable[..., Any], bool]]) -> None:
        if handlers:
            self._handlers[type] = handlers
        else:
            self._handlers.pop(type, None)

    def _forget(self, inbox: Inbox) -> None:
        with self._lock:
            if inbox in self._inboxes:
                self._inboxes.remove(inbox)

    def __repr__(self) -> str:
        return f"<Channel {' '.join(map(str, list(self._handlers)))}>"


class _Waiter:
    """A thread that waits for one message. ``_changed`` guards what came, or why nothing will."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.arguments: tuple[Any, ...] | None = None
        self.over: str | None = None

    def take(self, *arguments: Any) -> None:
        """The message has come."""
        with self._changed:
            if self.over is None:
                self.arguments = arguments
                self._changed.notify()

    def end(self, why: str) -> None:
        """None will come."""
        with self._changed:
            self.over = why
            self._changed.notify()

    def wait(self, timeout: float | None) -> bool:
        """Blocks until one of the two has happened; False after ``timeout`` seconds."""
        with self._changed:
            return clock.wait_for(
                self._changed, lambda: self.arguments is not None or self.over is not None, timeout
            )


class Inbox:
    """Messages that wait to be taken; made by :meth:`Channel.listen`.

    Iterate over it, or :meth:`get` one; leave the ``with`` block to stop listening.
    """

    def __init__(
        self, types: frozenset[Any], max_items: int, forget: Callable[[Inbox], None]
    ) -> None:
        self._types = types
        self._max_items = max_items
        self._forget = forget
        self._items: deque[tuple[Any, ...]] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def wants(self, type: Any) -> bool:
        """Whether messages of this type belong here."""
        return not self._types or type in self._types

    def put(self, item: tuple[Any, ...]) -> bool:
        """Adds an item as soon as there is room; False if the inbox is closed."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._items) < self._max_items or self._closed)
            if self._closed:
                return False
            self._items.append(item)
            self._changed.notify_all()
            return True

    def get(self, timeout: float | None = None) -> tuple[Any, ...]:
        """Blocks until there is an item and takes it.

        Args:
            timeout: In seconds; None waits for as long as the endpoint lives.

        Raises:
            WseTimeoutError: The time ran out.
            WseConnectionError: The inbox is closed and empty (CONNECTION_CLOSED).
        """
        check_seconds(timeout=timeout)
        with self._changed:
            if not clock.wait_for(self._changed, lambda: self._items or self._closed, timeout):
                raise WseTimeoutError(
                    WSE_ERROR.RP_TIMEOUT, message=f"no message within {timeout} s"
                )
            if not self._items:
                raise WseConnectionError(
                    WSE_ERROR.CONNECTION_CLOSED, message="no more messages will come"
                )
            self._changed.notify_all()
            return self._items.popleft()

    def renew(self) -> None:
        """In the child of a fork: who held the lock is not there. What is inside stays."""
        self._changed = threading.Condition()

    def close(self) -> None:
        """Stops listening; what is inside can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._forget(self)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return self

    def __next__(self) -> tuple[Any, ...]:
        try:
            return self.get()
        except WseConnectionError:
            raise StopIteration from None

    def __enter__(self) -> Inbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<Inbox {state}, {len(self._items)} waiting>"
