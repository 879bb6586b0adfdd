"""For tests of programs that use this library: no ports, no sockets, no waiting for time to pass.

``wse_sync`` does not import it. Everything here may be called from any thread, handlers included;
``TestServer._lock`` guards how often it is unreachable and what was silenced, and nothing is taken
under it.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from . import clock
from .checks import check_finite, check_seconds
from .client import WseClient
from .constants import WSE_ERROR
from .errors import WseTimeoutError
from .inprocess import Place
from .life import Life
from .link import Link
from .loop import loop
from .server import WseServer
from .sessions import WseConnection
from .target import check_url, shown
from .transport.memory import MemoryStream

__all__ = ["TestServer"]

_numbers = itertools.count(1)
_PATIENCE = 5.0  # s, of real time
_LOOK = 0.0001  # s between looks whether everything rests: nothing says so by itself
_STEP = 0.01  # s of time that pass at once, so that many timers do not take as many steps


class TestServer:
    """Serves a :class:`wse_sync.WseServer` to the clients of this process, without a port.

    Clients are ordinary ones: those that :meth:`connect` and :meth:`client` make, and any other
    that goes to :attr:`url`. Between them and the server is memory in place of a socket, and the
    upgrade goes the way of every upgrade: path, origin, cookies and ``max_connections`` count.

    Time is the real one, and what :meth:`advance` adds to it: it does not stand still between two
    calls of that. What must not have happened yet needs a margin that no slow machine takes.

    A server may be tested again and again: leaving the ``with`` block closes it, entering it opens
    it anew. Its handlers stay.

    Args:
        server: What to test. It need not have a port. Of a ``WseFlask`` with several applications
            it is ``wse.of(app)``.
        app: The WSGI app in which it is mounted; None is the server alone. With it the upgrade goes
            through all of the app.
        url: Where clients reach it: ``memory://…``, or the URL that the program under test dials
            (``ws://…``, ``wss://…``): nothing of this process reaches the network there then. None
            is one that no other has.
        environ: What to add to the WSGI environ of every upgrade, such as ``REMOTE_ADDR``.

    Raises:
        WseValueError: The URL is none (WS_CLIENT_ERROR).

    Attributes:
        server: As given.
        url: Likewise, with the path.
        environ: A dict of it, for the test to change at any time.
    """

    __test__ = False  # pytest would take the name for that of a test

    def __init__(
        self,
        server: WseServer,
        *,
        app: Callable[..., Iterable[bytes]] | None = None,
        url: str | None = None,
        environ: Mapping[str, Any] | None = None,
    ) -> None:
        if url is None:
            url = f"memory://test-{next(_numbers)}{server.path or '/'}"
        self.server = server
        self.url = check_url(url)
        self.environ = dict(environ or {})
        self._place = Place(url, app or server.wsgi_app, server.protocol.name, self.environ)
        self._lock = threading.Lock()
        self._barriers = 0
        self._silenced: list[MemoryStream] = []

    def start(self) -> TestServer:
        """Opens the server for clients, as entering the ``with`` block does; returns this object.

        Raises:
            WseValueError: Another one is open at the same URL (WS_CLIENT_ERROR), or it is not clear
                which application is meant.
        """
        self.server.reopen()
        self._place.open()
        return self

    def close(self, timeout: float = 5.0) -> None:
        """Disconnects every client that has dialed, closes the server and ends the threads.

        As leaving the ``with`` block does; again: no effect. Clients that the program under test
        made are ended as well: their ``wait()`` returns.

        Args:
            timeout: In seconds of real time, for handlers to end.
        """
        check_seconds(timeout=timeout)
        deadline = time.monotonic() + timeout
        self._place.close()
        with self._lock:
            silenced, self._silenced = self._silenced, []
        for stream in silenced:  # nobody would answer a goodbye
            stream.cut()
        for life in self._lives():
            life.client.disconnect(timeout=max(0.0, deadline - time.monotonic()))
        self.server.close(max(0.0, deadline - time.monotonic()))
        self._place.join(max(0.0, deadline - time.monotonic()))

    def __enter__(self) -> TestServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    # Clients

    def client(
        self,
        *,
        headers: Mapping[str, str] | None = None,
        cookies: Mapping[str, str] | None = None,
        **options: Any,
    ) -> WseClient:
        """Makes a client that is not connected yet: to bind handlers or a solver first.

        Args:
            headers: Of the upgrade.
            cookies: Likewise, such as that of a Flask session.
            options: Of :class:`wse_sync.WseClient`.
        """
        ws_options = dict(options.pop("ws_options", None) or {})
        if headers is not None:
            ws_options["header"] = dict(headers)
        if cookies is not None:
            ws_options["cookie"] = "; ".join(f"{name}={cookies[name]}" for name in cookies)
        return WseClient(self.url, ws_options=ws_options, **options)

    def connect(
        self,
        identity: Any = "",
        meta: dict[str, Any] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        cookies: Mapping[str, str] | None = None,
        **options: Any,
    ) -> WseClient:
        """Makes a client and connects it.

        Args:
            identity: As for :meth:`wse_sync.WseClient.connect`.
            meta: Likewise.
            headers: As for :meth:`client`.
            cookies: Likewise.
            options: Likewise.

        Raises:
            WseError: As :meth:`wse_sync.WseClient.connect`.
        """
        client = self.client(headers=headers, cookies=cookies, **options)
        client.connect(identity, meta)
        return client

    # The network

    def cut(self, whose: WseClient | WseConnection | None = None, *, settle: bool = True) -> None:
        """Cuts links without a goodbye, and returns when both ends know.

        A client with ``reconnect=True`` then waits before it dials again: :meth:`advance` ends
        that. It is free to come back at any time, unless the server is :meth:`unreachable`.

        Args:
            whose: A client, or a connection of the server; None: all.
            settle: Whether to wait for handlers, too, as :meth:`settle` does. Say False when one is
                meant to be running.

        Raises:
            WseTimeoutError: It does not settle (RP_TIMEOUT).
        """
        for stream in self._streams(whose):
            stream.cut()
        self._rest(settle)

    def silence(self, whose: WseClient | WseConnection | None = None) -> None:
        """Drops whatever the two ends of a link send from now on, as a dead network does.

        Neither end hears of it. Their heartbeats find out, when time has passed. Links that come
        later work. What was on its way before arrives.

        Args:
            whose: A client, or a connection of the server; None: all.

        Raises:
            WseTimeoutError: It does not settle (RP_TIMEOUT).
        """
        self._rest(handlers=False)
        for stream in self._streams(whose):
            with self._lock:
                self._silenced.append(stream)
            stream.silence()

    @contextmanager
    def unreachable(self) -> Iterator[None]:
        """Nobody who dials meanwhile gets through; links that are there stay."""
        self._bar(1)
        try:
            yield
        finally:
            self._bar(-1)

    def _bar(self, more: int) -> None:
        with self._lock:
            self._barriers += more
            self._place.reachable = not self._barriers

    # Time

    def advance(self, seconds: float, *, settle: bool = True) -> None:
        """Lets time pass for every server and client of this process, without waiting for it.

        It adds to the time that passes anyway, so that a little more is over when it returns.
        Whatever is due on the way happens, in order: calls time out, sessions end, clients dial
        again, heartbeats go out and are answered. Between one and the next, and at the end,
        everything settles. It costs about a millisecond for each time at which something is due.
        ``time.sleep()``, ``time.time()`` and the timers of others know nothing of it.

        Args:
            seconds: How much.
            settle: Whether to wait for handlers, too, as :meth:`settle` does. Say False when one is
                meant to be running.

        Raises:
            WseTimeoutError: It does not settle (RP_TIMEOUT).
        """
        check_finite(0, seconds=seconds)
        self._rest(settle)
        end = clock.monotonic() + seconds
        while True:
            due = min(loop.next_deadline(), clock.next_wait())
            stop = min(end, due + _STEP)
            clock.advance(max(0.0, stop - clock.monotonic()))
            loop.look_again()
            self._rest(settle)
            if stop == end:
                return

    def advance_until(
        self,
        condition: Callable[[], object],
        *,
        step: float = 1.0,
        settle: bool = True,
        timeout: float = 5.0,
    ) -> None:
        """Lets time pass, little by little, until something has happened.

        For programs with threads of their own: nobody knows when those have done their part.

        Args:
            condition: Whether it has happened.
            step: How much time passes between two looks, in seconds.
            settle: As for :meth:`advance`.
            timeout: In seconds of real time.

        Raises:
            WseTimeoutError: It has not happened in time, or something does not settle (RP_TIMEOUT).
        """
        check_seconds(timeout=timeout)
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                raise WseTimeoutError(
                    WSE_ERROR.RP_TIMEOUT, message=f"it has not happened after {timeout:g} s"
                )
            self.advance(step, settle=settle)

    def settle(self, timeout: float = 5.0) -> None:
        """Blocks until nothing is under way: all that was sent is read, and handlers have returned.

        In a handler it does not wait for that one.

        Args:
            timeout: In seconds of real time.

        Raises:
            WseTimeoutError: Something is still busy (RP_TIMEOUT).
        """
        check_seconds(timeout=timeout)
        self._rest(handlers=True, timeout=timeout)

    def _rest(self, handlers: bool, timeout: float = _PATIENCE) -> None:
        deadline = time.monotonic() + timeout
        while True:
            busy = self._find_busy(handlers)
            if busy is None:
                return
            if time.monotonic() > deadline:
                raise WseTimeoutError(
                    WSE_ERROR.RP_TIMEOUT, message=f"still busy after {timeout:g} s: {busy}"
                )
            time.sleep(_LOOK)

    def _find_busy(self, handlers: bool) -> str | None:
        """What is busy, for people; None if nothing is.

        Not everything can be looked at in the same moment. So what sets others to work is counted
        before and after: if none of it happened in between, what was idle still is.
        """
        lives = self._lives()
        links = self._links(lives)
        before = _count(links)
        for life in lives:
            if not life.is_resting(handlers):
                return f"{life.client!r} in {life.thread.name}"
        for link in self._links([]):
            if not link.is_resting:
                return f"the reader of a connection from {link.transport.peer}"
        if handlers and any(link.paused for link in links):
            return "a reader that waits until more has been handled"
        threads = self._running(lives, links) if handlers else []
        if threads:
            return f"a handler in {', '.join(thread.name for thread in threads)}"
        if loop.is_busy or _count(self._links(self._lives())) != before:
            return "a timer, or a message"
        return None

    def _running(self, lives: list[Life], links: list[Link]) -> list[threading.Thread]:
        """The threads of handlers that run, but for the caller's own."""
        reading = [link.turn.stand_in for link in links]
        here = threading.current_thread()
        return [
            thread
            for endpoint in {self.server, *(life.client for life in lives)}
            for thread, task in endpoint.running().items()
            if task not in reading and thread is not here
        ]

    def _lives(self) -> list[Life]:
        return self._place.dialed

    def _links(self, lives: list[Life]) -> list[Link]:
        """The links in memory that have not ended: those of the server, and of these clients."""
        links = self.server.links()
        links += [life.link for life in lives if life.link is not None]
        in_memory = [link for link in links if isinstance(link.transport.stream, MemoryStream)]
        return [link for link in in_memory if not link.wait(0.0)]

    def _streams(self, whose: WseClient | WseConnection | None) -> list[MemoryStream]:
        lives = self._lives()
        if isinstance(whose, WseClient):
            links = [life.link for life in lives if life.client is whose]
        elif whose is not None:
            links = [whose.link]
        else:
            links = [*self._links(lives)]
        streams = [link.transport.stream for link in links if link is not None]
        return [stream for stream in streams if isinstance(stream, MemoryStream)]

    def __repr__(self) -> str:
        return f"<TestServer {shown(self.url)} of {self.server!r}>"


def _count(links: list[Link]) -> tuple[int, list[Link], list[int]]:
    """Changes when a timer runs, a link begins or ends, or something is sent."""
    streams = [link.transport.stream for link in links]
    puts = [stream.puts for stream in streams if isinstance(stream, MemoryStream)]
    return loop.runs, links, puts
