"""Figures of ``call()``: one caller against a bare echo, many threads against one lock."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from threading import Barrier, Lock, Thread
from time import perf_counter

import websocket

from wse_sync import WseClient

from .machine import can_pin, on_core
from .measure import heading, interleave, show
from .servers import ServerProcess

__all__ = ["many_threads", "one_caller"]

_PAYLOAD = {"a": 10**13 + 1, "b": 10**14 + 2}
_TEXT = json.dumps(_PAYLOAD, separators=(",", ":"))
assert len(_TEXT) == 40
_CALLS = 60  # in a block: 10 ms, so that both blocks of a round meet the same machine
_THREAD_CALLS = 640  # in a block, all threads together

Add = Callable[[int, int], int]


def one_caller(quick: bool) -> None:
    """The time of a call, by that of an echo of the same 40 bytes."""
    heading("1. call() of add with a payload of 40 bytes, one caller")
    rounds = 60 if quick else 300
    with ServerProcess() as server:
        _compare_with_echo("", server, rounds)
    if can_pin():
        with on_core(1):
            server = ServerProcess()
        with server, on_core(0):
            _compare_with_echo(", a core for each process", server, rounds)


def _compare_with_echo(where: str, server: ServerProcess, rounds: int) -> None:
    echo = websocket.create_connection(server.urls["echo"])
    with WseClient(server.urls["wse"]) as client:
        client.connect("ann")

        def run_calls() -> float:
            start = perf_counter()
            for _ in range(_CALLS):
                client.call("add", _PAYLOAD)
            return perf_counter() - start

        def run_echoes() -> float:
            start = perf_counter()
            for _ in range(_CALLS):
                echo.send(_TEXT)
                echo.recv()
            return perf_counter() - start

        results = interleave({"call": run_calls, "echo": run_echoes}, rounds)
    echo.close()
    ratios = [result["call"] / result["echo"] for result in results]
    show(f"time of a call / of an echo{where}", ratios, at_most=1.5)


def many_threads(quick: bool) -> None:
    """Calls per second over one client, by those of a plain client whose threads share a lock."""
    heading("2. threads that call add over one client, every result checked")
    rounds = 30 if quick else 120
    with ServerProcess() as server, WseClient(server.urls["wse"]) as client:
        client.connect("ann")
        plain = _PlainClient(server.urls["add"])

        def add(a: int, b: int) -> int:
            return int(client.call("add", {"a": a, "b": b}))

        for threads in (8, 64):
            each = _THREAD_CALLS // threads
            blocks = {
                "wse": partial(_time_threads, add, threads, each),
                "plain": partial(_time_threads, plain.add, threads, each),
            }
            results = interleave(blocks, rounds)
            ratios = [result["plain"] / result["wse"] for result in results]
            show(f"calls/s / those of one lock, {threads} threads", ratios, at_least=1.2)
        plain.close()


class _PlainClient:
    """A receive loop with one lock: whoever holds it sends, and receives the answer."""

    def __init__(self, url: str) -> None:
        self._ws = websocket.create_connection(url)
        self._lock = Lock()
        self._stamp = 0

    def add(self, a: int, b: int) -> int:
        with self._lock:
            self._stamp += 1
            self._ws.send(json.dumps(["add", {"a": a, "b": b}, str(self._stamp)]))
            _, result, stamp = json.loads(self._ws.recv())
            assert stamp == str(self._stamp)
        return int(result)

    def close(self) -> None:
        self._ws.close()


def _time_threads(add: Add, threads: int, calls: int) -> float:
    """Seconds until each of the threads has had all its calls answered, with the right results."""
    start = Barrier(threads + 1)
    right: list[int] = []

    def run(number: int) -> None:
        start.wait()
        results = [add(number * 10**6, index) for index in range(calls)]
        right.append(sum(r == number * 10**6 + index for index, r in enumerate(results)))

    pool = [Thread(target=run, args=(number,)) for number in range(threads)]
    for thread in pool:
        thread.start()
    start.wait()
    begun = perf_counter()
    for thread in pool:
        thread.join()
    seconds = perf_counter() - begun
    if sum(right) != threads * calls:
        raise AssertionError(f"{threads * calls - sum(right)} results are lost or mixed up")
    return seconds
