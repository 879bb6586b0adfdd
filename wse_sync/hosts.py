"""What the WSGI server is like that brings a request: its socket, its threads, its end.

WSGI tells an application none of these, and a connection needs all three: it takes the socket over,
it occupies a thread for as long as it lives, and it should be closed in order when the server ends.
So each WSGI server is asked in its own way, here and nowhere else. The listener of this library is
not asked: it has a thread for each connection, and ``close()`` ends it.

Threads: that of a request comes here before its connection begins and when that is over; ``_look``
runs in the loop. ``Places._lock`` guards all of it; under it only the lock of the loop is taken.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from .loop import Timer, loop

if TYPE_CHECKING:
    from .server import WseServer

__all__ = ["Host", "Places", "find_host", "is_patched_late", "places"]

_SOCKET_KEYS = ("werkzeug.socket", "gunicorn.socket")
_RESERVE = 20  # one in so many threads is kept for pages
_LOOK = 1.0  # s between looks whether the WSGI server ends
_SHARE = 0.5  # of the time that it gives its requests then: for the handlers that run

_lock_at_import = threading.Lock


class Host(NamedTuple):
    """A WSGI server.

    Attributes:
        name: What it calls itself.
        socket: That of the request; None if it keeps it to itself.
        threads: How many requests it can serve at a time; None: a thread for each.
        setting: What sets that.
        worker: The worker of gunicorn that this process is; None with other servers.
    """

    name: str
    socket: socket.socket | None
    threads: int | None = None
    setting: str = ""
    worker: Any = None

    @property
    def reserve(self) -> int:
        """How many threads are kept for pages."""
        return 0 if self.threads is None else max(1, self.threads // _RESERVE)


def find_host(environ: dict[str, Any]) -> Host:
    """The WSGI server that has brought this request; in the thread of the request."""
    name = str(environ.get("SERVER_SOFTWARE") or "this WSGI server")
    threads = None if environ.get("wsgi.multithread", True) else 1
    sock = next((environ[key] for key in _SOCKET_KEYS if key in environ), None)
    if sock is None:
        return _look_behind(name)
    module = type(sock).__module__.partition(".")[0]
    if module == "eventlet" or not isinstance(sock, socket.socket):
        return Host(f"{name} with {module}", None)  # to send without blocking is not for these
    if "gunicorn.socket" in environ:
        # Whatever is between the worker and us: nobody may hand on what start_response belongs to.
        worker = _caller("gunicorn.workers.")
        if worker is not None and threads is None:
            is_pool = hasattr(worker, "tpool")
            setting = "threads" if is_pool else "worker_connections"
            threads = int(getattr(worker.cfg, setting))
            return Host(name, sock, threads, f"--{setting.replace('_', '-')}", worker)
    return Host(name, sock, threads)


def _look_behind(name: str) -> Host:
    """A WSGI server without the socket in the environ: wsgiref, maybe in Django's runserver."""
    handler = _caller("socketserver")
    sock = getattr(handler, "connection", None)
    if sock is None:
        return Host(name, None)
    mixin = sys.modules["socketserver"].ThreadingMixIn
    return Host(name, sock, None if isinstance(handler.server, mixin) else 1)


def is_patched_late() -> bool:
    """Whether gevent has exchanged the threads after we had made locks of the old kind.

    Whoever waits for one of those stops the whole process.
    """
    return threading.Lock is not _lock_at_import


def _caller(module: str) -> Any:
    """The ``self`` of the nearest function below us on the stack that belongs to a module."""
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if str(frame.f_globals.get("__name__")).startswith(module):
            return frame.f_locals.get("self")
    return None


class Places:
    """The connections that the WSGI server of this process carries, over all servers of ours."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        """A clean start: also in the child of a fork."""
        self._lock = threading.Lock()
        self._taken: Counter[WseServer] = Counter()
        self._full = False
        self._worker: Any = None
        self._timer: Timer | None = None

    def take(self, server: WseServer, host: Host) -> bool:
        """Takes a place for one more connection; False if that would leave no thread for pages.

        Says so once each time it comes to that.
        """
        with self._lock:
            taken = sum(self._taken.values())
            full = host.threads is not None and taken + host.reserve >= host.threads
            is_news, self._full = full and not self._full, full
            if not full:
                self._taken[server] += 1
                self._watch(host.worker)
        if is_news:
            server.log.warning(*_advice(host, taken))
        return not full

    def give_back(self, server: WseServer) -> bool:
        """The end of :meth:`take`.

        Returns:
            Whether that was the last connection of the server, and the WSGI server ends.
        """
        with self._lock:
            self._taken[server] -= 1
            if self._taken[server]:
                return False
            del self._taken[server]
            return self._is_ending()

    def _is_ending(self) -> bool:
        return self._worker is not None and not self._worker.alive

    def _watch(self, worker: Any) -> None:
        """Looks after the worker, which tells nobody that it is to end; the lock is held."""
        self._worker = worker
        if worker is not None and self._timer is None:
            self._timer = loop.call_later(_LOOK, self._look)

    def _look(self) -> None:
        with self._lock:
            servers = list(self._taken)
            worker = self._worker if self._is_ending() else None
            self._timer = loop.call_later(_LOOK, self._look) if servers else None
        if worker is not None:
            for server in servers:
                server.end_connections(_SHARE * worker.cfg.graceful_timeout)


def _advice(host: Host, taken: int) -> tuple[object, ...]:
    """What to do when there is no thread for one more, for the log."""
    if host.threads == 1:
        return (
            "refused a connection: %s serves one request at a time, and a WebSocket would occupy it"
            " for good. Give gunicorn --worker-class gthread --threads 100; Flask's and Django's"
            " development servers have threads unless told otherwise",
            host.name,
        )
    return (
        "refused a connection: %d WebSockets occupy as many of the %d threads of %s, the rest is"
        " kept for pages. Set %s to more than you expect connections; max_connections is not what"
        " limits here",
        taken,
        host.threads,
        host.name,
        host.setting,
    )


#: Those of this process.
places = Places()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=places._reset)
