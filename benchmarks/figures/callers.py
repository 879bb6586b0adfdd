"""Blocks of checked calls, which several figures time."""

from __future__ import annotations

import json
import random
import string
import time
from collections.abc import Callable, Sequence
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple, TypeVar

from ..contestants import Entrant
from ..measure import WrongResult

__all__ = [
    "Block",
    "make_object",
    "make_payload",
    "make_payload_text",
    "make_text",
    "run_block",
    "timed_add",
    "timed_echo",
]

PayloadT = TypeVar("PayloadT")

_LEAST = 10**9  # of ten digits; the sum of two is still no more than XML-RPC has numbers for
_pack = json.JSONEncoder(separators=(",", ":")).encode
_text = ""


class Block(NamedTuple):
    """What calls, one after the other, took. In seconds."""

    latencies: list[float]
    cpu: float

    @property
    def time(self) -> float:
        """Of a call, undisturbed by the few that met something else."""
        return median(self.latencies)

    @property
    def cpu_each(self) -> float:
        return self.cpu / len(self.latencies)


def make_payload() -> dict[str, int]:
    """Numbers to add, which are 40 bytes of JSON."""
    return {key: _LEAST + random.randrange(7 * 10**7) for key in ("first", "second")}


def make_text(size: int) -> str:
    """Letters that differ from those of the text before."""
    global _text
    if len(_text) != size:
        _text = "".join(random.choices(string.ascii_letters, k=size))
    start = random.randrange(size)
    return _text[start:] + _text[:start]


def make_payload_text() -> str:
    """The same as JSON, for an echo."""
    text = _pack(make_payload())
    if len(text) != 40:
        raise ValueError(text)
    return text


def make_object(size: int) -> dict[str, Any]:
    """An object, as most payloads are, of so many bytes of JSON."""
    readings: list[dict[str, Any]] = []
    room = size - len(_pack({"note": "", "readings": []}))
    while True:
        value = round(random.uniform(10.0, 100.0), 2)
        one = {"id": len(readings), "name": make_text(8), "value": value, "on": True}
        length = len(_pack(one)) + bool(readings)  # with the comma before it
        if length > room:
            return {"note": "x" * room, "readings": readings}
        readings.append(one)
        room -= length


def timed_add(entrant: Entrant, payload: dict[str, int]) -> float:
    """Seconds of one call of add."""
    start = perf_counter()
    result = entrant.client.add(payload)
    seconds = perf_counter() - start
    if result != payload["first"] + payload["second"]:
        raise WrongResult(f"{payload} added up to {result}")
    return seconds


def timed_echo(entrant: Entrant, text: str) -> float:
    """Seconds of one call of echo."""
    start = perf_counter()
    result = entrant.client.echo(text)
    seconds = perf_counter() - start
    if result != text:
        raise WrongResult("an echo is not what was sent")
    return seconds


def run_block(
    entrant: Entrant, call: Callable[[Entrant, PayloadT], float], payloads: Sequence[PayloadT]
) -> Block:
    """Times calls, one after the other, and the CPU of both processes."""
    before = entrant.server.do("cpu") + time.process_time()
    latencies = [call(entrant, payload) for payload in payloads]
    return Block(latencies, entrant.server.do("cpu") + time.process_time() - before)
