"""The way to the welcome, by role: hi, challenge, welcome.

Server (the frame that arrives or the step that is taken, and what it leads to):

    state      hi          challenge   ask()       welcome()
    hi         decision    error       -           -
    decision   (frames wait)           solution    done
    solution   error       decision    -           -

The client answers what it is asked and waits for the welcome; other frames before it mean nothing.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..constants import WSE_ERROR
from ..errors import WseError
from ..protocol import Data, Protocol
from .peer import unpack

__all__ = ["ClientHandshake", "Hello", "Quest", "ServerHandshake", "Solution", "Welcome"]


class Hello(NamedTuple):
    """A client asks to be let in."""

    identity: Any
    meta: dict[str, Any]


class Solution(NamedTuple):
    """The answer to our quest."""

    response: Any


class Quest(NamedTuple):
    """The server asks before it decides."""

    payload: Any


class Welcome(NamedTuple):
    """The server let us in."""

    payload: Any


class ServerHandshake:
    """The server's side of one handshake."""

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol
        self._types = protocol.internal_types
        self.state = "hi"

    def receive(self, data: Data) -> Hello | Solution:
        """Reads the next frame of the client.

        Raises:
            WseError: It cannot be unpacked, or is not the frame whose turn it is.
        """
        frame = unpack(self._protocol, data)
        expected = "hi" if self.state == "hi" else "challenge"
        if frame.type != self._types[expected]:
            raise _violation(f"expected {expected}, got another frame")
        event = _hello(frame.payload) if expected == "hi" else Solution(frame.payload)
        self.state = "decision"
        return event

    def ask(self, quest: Any) -> Data:
        """Packs the quest; the next frame must be its solution."""
        data = self._protocol.pack(self._types["challenge"], quest)
        self.state = "solution"
        return data

    def welcome(self, payload: Any) -> Data:
        """Packs the welcome, the end of the handshake."""
        data = self._protocol.pack(self._types["welcome"], payload)
        self.state = "done"
        return data


class ClientHandshake:
    """The client's side of one handshake."""

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol
        self._types = protocol.internal_types

    def hi(self, identity: Any, meta: dict[str, Any]) -> Data:
        """Packs the first frame."""
        return self._protocol.pack(self._types["hi"], {"identity": identity, "meta": meta})

    def solution(self, payload: Any) -> Data:
        """Packs the answer to a quest."""
        return self._protocol.pack(self._types["challenge"], payload)

    def receive(self, data: Data) -> Quest | Welcome | None:
        """Reads a frame from before the welcome; None if it means nothing here.

        Raises:
            WseError: It cannot be unpacked.
        """
        frame = unpack(self._protocol, data)
        if frame.type == self._types["challenge"]:
            return Quest(frame.payload)
        if frame.type == self._types["welcome"]:
            return Welcome(frame.payload)
        return None


def _hello(payload: Any) -> Hello:
    if not isinstance(payload, dict):
        raise _violation("the payload of hi is an object")
    meta = payload.get("meta")
    if meta is None:
        meta = {}
    if not isinstance(meta, dict):
        raise _violation("meta is an object")
    return Hello(payload.get("identity"), meta)


def _violation(text: str) -> WseError:
    return WseError(WSE_ERROR.PROTOCOL_VIOLATION, message=text)
