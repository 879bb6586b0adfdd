"""What a contestant is: a server, in a process of its own, and a client of it."""

from __future__ import annotations

import importlib.util
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .work import Payload, Work

__all__ = ["RESULT_TIMEOUT", "Client", "Contestant", "Dialect", "Served", "text_frame"]

RESULT_TIMEOUT = 60.0  # s; who waits longer has lost something


@dataclass(frozen=True)
class Dialect:
    """What a raw socket has to say to be a connected client, and to stay one.

    Attributes:
        path: Of the upgrade; None for what is no WebSocket.
        subprotocol: Of the upgrade.
        steps: What is sent, if anything, and how the message begins that must come then. Both are
            texts; ``{number}`` in the first is another one for each client.
        ping: The text that is a ping, besides the control frame.
        pong: The answer to it.
    """

    path: str | None = "/"
    subprotocol: str | None = None
    steps: tuple[tuple[str | None, str], ...] = ()
    ping: str = ""
    pong: str = ""


def text_frame(text: str) -> bytes:
    """A message as a server sends it (RFC 6455, 5.2)."""
    body = text.encode()
    size = len(body)
    if size < 126:
        return bytes((0x81, size)) + body
    if size < 65536:
        return b"\x81\x7e" + size.to_bytes(2, "big") + body
    return b"\x81\x7f" + size.to_bytes(8, "big") + body


class Served:
    """A server that runs. It is made in its process, and its methods are called from outside."""

    url: str

    def __init__(self) -> None:
        self.work = Work()
        self._lock = threading.Lock()
        self._count = 0

    def where(self) -> str:
        return self.url

    def cpu(self) -> float:
        """Seconds of CPU that this process has used."""
        return time.process_time()

    def take_nested(self) -> list[float]:
        """Seconds of the nested calls since it was last asked."""
        return self.work.take_nested()

    def count(self) -> int:
        """How many clients are connected."""
        return self._count

    def changed(self, by: int) -> None:
        """One client more, or one less."""
        with self._lock:
            self._count += by

    def broadcast(self, payload: Any) -> tuple[float, float]:
        """Sends to everybody; when it began and when it returned, by the clock of all processes."""
        start = time.monotonic()
        self.send_to_all(payload)
        return start, time.monotonic()

    def send_to_all(self, payload: Any) -> None:
        raise NotImplementedError

    def start_thread(self, run: Callable[[], object]) -> None:
        threading.Thread(target=run, daemon=True).start()


class Client:
    """A client in the process that drives. What a contestant cannot do is not asked of it."""

    def add(self, payload: Payload) -> int:
        """Calls; waits for the sum of first and second."""
        raise NotImplementedError

    def echo(self, text: str) -> str:
        """Calls; waits for the same text."""
        raise NotImplementedError

    def submit(self, name: str, payload: Any) -> Callable[[], Any]:
        """Calls without waiting; what is returned waits for the result."""
        raise NotImplementedError

    def send(self, payload: Payload) -> None:
        """Sends a message to ``note``."""
        raise NotImplementedError

    def noted(self, count: int) -> list[int]:
        """Waits until so many messages have been handled; their number and their sum."""
        raise NotImplementedError

    def bounce(self, payload: Payload) -> int:
        """Calls ``bounce``."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class Contestant:
    """How to serve and to connect with one library.

    Attributes:
        name: As it is shown.
        modules: What a program imports to use it, client and server.
        dialect: What a raw socket says to its server.
        descriptors: Open files of the server for each connection.
        threads: Threads of the server for each connection, about.
        settle: Seconds until a server that has nothing to do is at rest.
        cannot: What it cannot do, and why.
    """

    name: str
    modules: tuple[str, ...] = ()
    dialect: Dialect | None = None
    descriptors = 1
    threads = 1
    settle = 1.0
    cannot: dict[str, str]

    def __init__(self) -> None:
        self.cannot = {}

    def serve(self, ping_interval: float | None) -> Served:
        """Starts the server in this process.

        Args:
            ping_interval: Seconds of silence before a ping; None: no heartbeat.
        """
        raise NotImplementedError

    def connect(self, url: str) -> Client:
        raise NotImplementedError

    def frame(self, payload: Any) -> bytes:
        """What a broadcast of this payload is on the wire."""
        raise NotImplementedError

    @property
    def installed(self) -> bool:
        return all(importlib.util.find_spec(name.partition(".")[0]) for name in self.modules)
