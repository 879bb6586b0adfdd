"""Calls made by hand over something that sends and receives texts: what a program does without us.

Two ways: under one lock, where a thread sends and waits for its answer before the next one may; and
with futures, which a thread that receives settles. The server is a loop that receives, does and
answers.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import Future
from itertools import count
from threading import Lock, Thread
from typing import Any

from ..measure import WrongResult
from .base import RESULT_TIMEOUT, Client
from .work import Payload, Work

__all__ = ["FuturesClient", "LockedClient", "answer_all"]

_pack = json.JSONEncoder(separators=(",", ":")).encode
_RESPONSE = "response"


def answer_all(work: Work, receive: Callable[[], Any], send: Callable[[str], Any]) -> None:
    """The loop of a connection of the server; ``receive`` raises at its end."""
    procedures: dict[str, Callable[[Any], Any]] = {
        "add": work.add,
        "echo": work.echo,
        "sleep": work.sleep,
        "noted": work.noted,
    }
    while True:
        name, payload, stamp = json.loads(receive())
        if name == "note":
            work.note(payload)
        else:
            send(_pack([_RESPONSE, procedures[name](payload), stamp]))


class LockedClient(Client):
    """One lock: whoever holds it sends, and receives the answer."""

    def __init__(
        self, receive: Callable[[], Any], send: Callable[[str], Any], close: Callable[[], Any]
    ) -> None:
        self._receive = receive
        self._send = send
        self._close = close
        self._lock = Lock()
        self._stamps = count()

    def call(self, name: str, payload: Any) -> Any:
        with self._lock:
            stamp = str(next(self._stamps))
            self._send(_pack([name, payload, stamp]))
            _, result, answered = json.loads(self._receive())
        if answered != stamp:
            raise WrongResult(f"{answered} was answered instead of {stamp}")
        return result

    def add(self, payload: Payload) -> int:
        return int(self.call("add", payload))

    def echo(self, text: str) -> str:
        return str(self.call("echo", text))

    def send(self, payload: Payload) -> None:
        with self._lock:
            self._send(_pack(["note", payload, None]))

    def noted(self, count: int) -> list[int]:
        return list(self.call("noted", count))

    def close(self) -> None:
        self._close()


class FuturesClient(Client):
    """A thread that receives, and a future for each open call."""

    def __init__(
        self, receive: Callable[[], Any], send: Callable[[str], Any], close: Callable[[], Any]
    ) -> None:
        self._receive = receive
        self._send = send
        self._close = close
        self._lock = Lock()
        self._stamps = count()
        self._open: dict[str, Future[Any]] = {}
        self._closed = False
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while True:
                text = self._receive()
                if not text:
                    raise ConnectionError("the link is closed")
                _, result, stamp = json.loads(text)
                self._open.pop(stamp).set_result(result)
        except Exception as error:
            if not self._closed:
                for future in list(self._open.values()):
                    future.set_exception(error)

    def submit(self, name: str, payload: Any) -> Callable[[], Any]:
        future: Future[Any] = Future()
        with self._lock:
            stamp = str(next(self._stamps))
            self._open[stamp] = future
            self._send(_pack([name, payload, stamp]))
        return lambda: future.result(RESULT_TIMEOUT)

    def add(self, payload: Payload) -> int:
        return int(self.submit("add", payload)())

    def echo(self, text: str) -> str:
        return str(self.submit("echo", text)())

    def close(self) -> None:
        self._closed = True
        self._close()
