"""A TCP proxy for tests: it forwards, and on request it cuts, stalls, resumes and refuses.

One thread owns every socket. The methods hand it a command and wait until it is done, so
that a test which has called `cut()` knows that the links are cut.

A stalled direction is not read: its sender sees neither an error nor a FIN, as if the
network dropped every packet.
"""

from __future__ import annotations

import heapq
import itertools
import selectors
import socket
import struct
import threading
import time
from collections import deque
from types import TracebackType
from typing import Callable, TypeVar
from urllib.parse import urlsplit

CHUNK_BYTES = 65536
PATIENCE = 10.0  # s; only bounds a failure
LINGER_ZERO = struct.pack("ii", 1, 0)  # close() then sends a RST

ProxyT = TypeVar("ProxyT", bound="FaultProxy")
Command = tuple[Callable[[], None], threading.Event]


class End:
    """One socket of a link, with the bytes that wait to be written to it."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self.unsent = b""
        self.at_eof = False  # it sent a FIN, and we read it
        self.finished = False  # we sent it a FIN
        self.stalled = False  # it is not read from
        self.held_open = False  # it gets no FIN
        self.held_back = False  # its unsent bytes wait


class Link:
    """The two ends of one forwarded connection: the client's, and the server's."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self.near = End(near)
        self.far = End(far)
        self.discards = False  # cut with a FIN: what still comes is thrown away

    def directions(self) -> list[tuple[End, End]]:
        return [(self.near, self.far), (self.far, self.near)]

    def ends(self) -> list[End]:
        return [self.near, self.far]


class FaultProxy:
    """Listens on a free port of 127.0.0.1 and forwards to the host and port of a URL.

    `source` is the address that it forwards from; it may be set anew as well.

    Args:
        target: where to; may be set anew at any time, for later links.
        listening: with False the port is taken but refuses, until `listen()`.
    """

    def __init__(self, target: str, *, listening: bool = True) -> None:
        self.target = target
        self.source: str | None = None
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._links: set[Link] = set()
        self._touched: set[Link] = set()
        self._refusing = False
        self._closing = False
        self._changed = threading.Condition()
        self._accepted = 0
        self._forwarded = 0
        self._commands: deque[Command] = deque()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._timer_numbers = itertools.count()
        self._woken, self._waker = socket.socketpair()
        self._woken.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="faults-proxy", daemon=True)
        self._thread.start()
        if listening:
            self.listen()

    def __enter__(self: ProxyT) -> ProxyT:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/"

    @property
    def accepted(self) -> int:
        """How many connections were accepted so far, refused ones included."""
        with self._changed:
            return self._accepted

    @property
    def open_links(self) -> int:
        """How many links forward now."""
        with self._changed:
            return sum(not link.discards for link in self._links)

    @property
    def forwarded_bytes(self) -> int:
        """How many bytes went through so far, both directions together."""
        with self._changed:
            return self._forwarded

    def wait_accepted(self, count: int, timeout: float = PATIENCE) -> bool:
        """Waits until `count` connections were accepted since the proxy began."""
        with self._changed:
            return self._changed.wait_for(lambda: self._accepted >= count, timeout)

    def listen(self) -> None:
        """Makes a proxy that was made with `listening=False` reachable."""
        self._do(self._listen)

    def cut(self, *, reset: bool = False) -> None:
        """Ends every link, with a FIN to both sides or with a RST."""
        self._do(self._reset_all if reset else self._finish_all)

    def stall(self, *, to_server: bool = True, to_client: bool = True) -> None:
        """Stops forwarding on the links that are open now; later links are not touched."""

        def stall() -> None:
            for link in self._links:
                link.near.stalled = link.near.stalled or to_server
                link.far.stalled = link.far.stalled or to_client

        self._do(stall)

    def resume(self) -> None:
        """Forwards again, also what the stalled sides have sent meanwhile."""

        def resume() -> None:
            for link in self._links:
                for end in link.ends():
                    end.stalled = False

        self._do(resume)

    def refuse(self) -> None:
        """Resets each new connection at once, until `admit()`."""
        self._do(lambda: setattr(self, "_refusing", True))

    def admit(self) -> None:
        """Forwards new connections again."""
        self._do(lambda: setattr(self, "_refusing", False))

    def close(self) -> None:
        """Resets every link and ends the thread; again: no effect."""
        if self._thread.is_alive():
            self._do(lambda: setattr(self, "_closing", True))
            self._thread.join(PATIENCE)
            # Not in the thread: it may be through before _do has woken it.
            self._waker.close()
            self._woken.close()

    # What follows runs in the proxy's thread, apart from _do.

    def _do(self, action: Callable[[], None]) -> None:
        done = threading.Event()
        self._commands.append((action, done))
        self._waker.send(b"x")
        if not done.wait(PATIENCE):
            raise TimeoutError("the proxy's thread does not answer")

    def _run(self) -> None:
        while not self._closing:
            for key, _ in self._selector.select(self._pause()):
                self._ready(key)
            # Commands and timers may have done something to any link; bytes to their own only.
            if self._run_commands() | self._run_timers():
                self._touched.update(self._links)
            for link in self._touched & self._links:
                self._watch(link)
            self._touched.clear()
        self._reset_all()
        self._listener.close()
        self._selector.close()

    def _ready(self, key: selectors.SelectorKey) -> None:
        if key.fileobj is self._woken:
            self._woken.recv(CHUNK_BYTES)
        elif key.fileobj is self._listener:
            self._accept()
        elif key.data in self._links:  # else an earlier event of this round ended it
            self._touched.add(key.data)
            self._pump(key.data)

    def _run_commands(self) -> bool:
        """Whether there were any."""
        found = bool(self._commands)
        while self._commands:
            action, done = self._commands.popleft()
            with self._changed:
                action()
            done.set()
        return found

    def _call_later(self, seconds: float, action: Callable[[], None]) -> None:
        due = time.monotonic() + seconds
        heapq.heappush(self._timers, (due, next(self._timer_numbers), action))

    def _pause(self) -> float | None:
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None

    def _run_timers(self) -> bool:
        """Whether any was due."""
        found = False
        while self._timers and self._timers[0][0] <= time.monotonic():
            _, _, action = heapq.heappop(self._timers)
            found = True
            with self._changed:
                action()
        return found

    def _listen(self) -> None:
        self._listener.listen()
        self._selector.register(self._listener, selectors.EVENT_READ)

    def _accept(self) -> None:
        near, _ = self._listener.accept()
        with self._changed:
            self._accepted += 1
            self._changed.notify_all()
            if self._refusing:
                _reset(near)
                return
            try:
                source = None if self.source is None else (self.source, 0)
                far = socket.create_connection(_address(self.target), source_address=source)
            except OSError:
                _reset(near)
                return
            link = Link(near, far)
            self._links.add(link)
            self._touched.add(link)
            self._opened(link)

    def _pump(self, link: Link) -> None:
        try:
            for source, target in link.directions():
                self._forward(link, source, target)
        except OSError:
            self._drop(link)
        else:
            if all(end.at_eof and end.finished for end in link.ends()):
                self._drop(link, reset=False)

    def _forward(self, link: Link, source: End, target: End) -> None:
        if source.stalled and not link.discards:
            return
        if not target.unsent and not source.at_eof:
            data = _read(source.sock, self._may_read(link))
            source.at_eof = data == b""
            if data and not link.discards and not target.finished:
                target.unsent = data
                self._took(link, len(data))
        if target.unsent and not target.held_back:
            sent = _write(target.sock, target.unsent)
            target.unsent = target.unsent[sent:]
            with self._changed:
                self._forwarded += sent
        if source.at_eof and not target.unsent and not (target.finished or target.held_open):
            target.finished = True
            target.sock.shutdown(socket.SHUT_WR)

    def _opened(self, link: Link) -> None:
        """A link begins."""

    def _may_read(self, link: Link) -> int:
        """How many bytes of a link may be read in one go, at least one."""
        return CHUNK_BYTES

    def _took(self, link: Link, count: int) -> None:
        """So many bytes were read, and are forwarded next."""

    def _watch(self, link: Link) -> None:
        for source, target in link.directions():
            wanted = 0
            readable = link.discards or not source.stalled
            if readable and not target.unsent and not source.at_eof:
                wanted |= selectors.EVENT_READ
            if source.unsent and not target.stalled and not source.held_back:
                wanted |= selectors.EVENT_WRITE
            self._select_for(source.sock, wanted, link)

    def _select_for(self, sock: socket.socket, wanted: int, link: Link) -> None:
        known = self._selector.get_map().get(sock)
        if known is None:
            if wanted:
                self._selector.register(sock, wanted, link)
        elif not wanted:
            self._selector.unregister(sock)
        elif wanted != known.events:
            self._selector.modify(sock, wanted, link)

    def _drop(self, link: Link, *, reset: bool = True) -> None:
        with self._changed:
            self._links.discard(link)
        for end in link.ends():
            self._select_for(end.sock, 0, link)
            if reset:
                _reset(end.sock)
            else:
                end.sock.close()

    def _reset_all(self) -> None:
        for link in list(self._links):
            self._drop(link)

    def _finish_all(self) -> None:
        for link in list(self._links):
            self._finish(link)

    def _finish(self, link: Link) -> None:
        """Cuts a link with a FIN to both sides."""
        link.discards = True
        for end in link.ends():
            self._finish_end(end)

    def _finish_end(self, end: End) -> None:
        """Sends a FIN to one side, and no more of what was on its way there."""
        end.unsent = b""
        if not end.finished:
            end.finished = True
            try:
                end.sock.shutdown(socket.SHUT_WR)
            except OSError:
                end.at_eof = True


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


def _read(sock: socket.socket, size: int) -> bytes | None:
    """The bytes that are there; None when there are none yet, b"" at the end."""
    try:
        return sock.recv(size)
    except BlockingIOError:
        return None


def _write(sock: socket.socket, data: bytes) -> int:
    try:
        return sock.send(data)
    except BlockingIOError:
        return 0


def _reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
    sock.close()
