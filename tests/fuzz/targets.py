"""The targets by name, and how many of the inputs each of them gets."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

__all__ = ["CORPUS", "SHARES", "corpus", "line_of", "load"]

#: Of a full run, in per cent. Whole endpoints take a hundred times as long as a protocol.
SHARES = {
    "framing": 10,
    "protocol": 50,
    "handshake": 20,
    "session": 14,
    "server": 3,
    "client": 3,
}
#: A file for each target, with an input in each line; ``line_of`` makes them.
CORPUS = Path(__file__).with_name("corpus")

Target = Callable[[bytes], None]


def load(name: str) -> Target:
    """The function that takes an input, and fails if an invariant does not hold for it."""
    target: Target = importlib.import_module(f"tests.fuzz.{name}").run
    return target


def corpus(name: str) -> list[bytes]:
    """The inputs that are kept: those that were thought of, and the least of those found."""
    lines = (CORPUS / f"{name}.txt").read_text("ascii").splitlines()
    return [line.encode().decode("unicode_escape").encode("latin-1") for line in lines]


def line_of(data: bytes) -> str:
    """An input as it stands in a file of the corpus."""
    return data.decode("latin-1").encode("unicode_escape").decode()
