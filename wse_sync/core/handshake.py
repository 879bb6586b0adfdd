"""The way to the welcome, by role: hi, challenge, welcome; and back into a session.

Server (the frame that arrives or the step that is taken, and what it leads to):

    state      hi          challenge   ask()       welcome()
    hi         decision    error       -           -
    decision   (frames wait)           solution    done
    solution   error       decision    -           -

The client answers what it is asked and waits for the welcome; other frames before it mean nothing.

Peers that know sessions add an *offer* to hi and a *grant* to the welcome; others read past them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..constants import WSE_ERROR
from ..errors import WseError
from ..protocol import Data, Protocol
from .peer import unpack

__all__ = [
    "ClientHandshake",
    "Grant",
    "Hello",
    "Offer",
    "Quest",
    "ServerHandshake",
    "SessionGrant",
    "Solution",
    "Welcome",
]

_EXTENSION, _VERSION = "wse", 1


class Offer(NamedTuple):
    """What a client that knows sessions says in its hi.

    Attributes:
        wants_session: Whether it comes back when the link is lost.
        session_id: The session that it wants to resume; None: a fresh one.
        received: How many frames of that session it has.
    """

    wants_session: bool
    session_id: str | None = None
    received: int = 0


class SessionGrant(NamedTuple):
    """The session that a client was given.

    Attributes:
        id: A secret, to resume it with.
        resumed: Whether it is the one that was asked for.
        received: How many frames of it the server has.
        window: How long it outlives its link, in seconds.
    """

    id: str
    resumed: bool
    received: int
    window: float


class Grant(NamedTuple):
    """What a server that knows sessions says in its welcome."""

    cid: str
    session: SessionGrant | None = None


class Hello(NamedTuple):
    """A client asks to be let in."""

    identity: Any
    meta: dict[str, Any]
    offer: Offer | None = None


class Solution(NamedTuple):
    """The answer to our quest."""

    response: Any


class Quest(NamedTuple):
    """The server asks before it decides."""

    payload: Any


class Welcome(NamedTuple):
    """The server let us in."""

    payload: Any
    grant: Grant | None = None


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
        event: Hello | Solution = Solution(frame.payload)
        if expected == "hi":
            event = _hello(frame.payload, "ack" in self._types)
        self.state = "decision"
        return event

    def ask(self, quest: Any) -> Data:
        """Packs the quest; the next frame must be its solution."""
        data = self._protocol.pack(self._types["challenge"], quest)
        self.state = "solution"
        return data

    def welcome(self, payload: Any, grant: Grant | None = None) -> Data:
        """Packs the welcome, the end of the handshake; a grant only if there was an offer."""
        extension = None
        if grant is not None:
            session = None if grant.session is None else grant.session._asdict()
            extension = {"v": _VERSION, "cid": grant.cid, "session": session}
        data = self._protocol.pack(self._types["welcome"], payload, extension)
        self.state = "done"
        return data


class ClientHandshake:
    """The client's side of one handshake.

    Args:
        protocol: How frames are packed; it takes part in sessions if it has a type for ``ack``.
        offer: What to ask for.
    """

    def __init__(self, protocol: Protocol, offer: Offer | None = None) -> None:
        self._protocol = protocol
        self._types = protocol.internal_types
        self._offer = offer if "ack" in self._types else None

    def hi(self, identity: Any, meta: dict[str, Any]) -> Data:
        """Packs the first frame."""
        payload = {"identity": identity, "meta": meta}
        if self._offer is not None:
            payload[_EXTENSION] = _extension(self._offer)
        return self._protocol.pack(self._types["hi"], payload)

    def solution(self, payload: Any) -> Data:
        """Packs the answer to a quest."""
        return self._protocol.pack(self._types["challenge"], payload)

    def receive(self, data: Data) -> Quest | Welcome | None:
        """Reads a frame from before the welcome; None if it means nothing here.

        Raises:
            WseError: It cannot be unpacked, or grants what was not asked for.
        """
        frame = unpack(self._protocol, data)
        if frame.type == self._types["challenge"]:
            return Quest(frame.payload)
        if frame.type == self._types["welcome"]:
            return Welcome(frame.payload, self._grant(frame.stamp))
        return None

    def _grant(self, extension: Any) -> Grant | None:
        """What the server says of sessions; None if it knows nothing of them."""
        if self._offer is None or not _is_known(extension):
            return None
        cid, session = extension.get("cid"), extension.get("session")
        if not isinstance(cid, str):
            raise _violation("the cid in a welcome is a string")
        if session is None:
            return Grant(cid)
        granted = _session_grant(session)
        if not self._offer.wants_session or (granted.resumed and self._offer.session_id is None):
            raise _violation("the welcome grants a session that was not asked for")
        return Grant(cid, granted)


def _hello(payload: Any, takes_part: bool) -> Hello:
    if not isinstance(payload, dict):
        raise _violation("the payload of hi is an object")
    meta = payload.get("meta")
    if meta is None:
        meta = {}
    if not isinstance(meta, dict):
        raise _violation("meta is an object")
    offer = _read_offer(payload.get(_EXTENSION)) if takes_part else None
    return Hello(payload.get("identity"), meta, offer)


def _extension(offer: Offer) -> dict[str, Any]:
    if not offer.wants_session:
        return {"v": _VERSION}
    session = None
    if offer.session_id is not None:
        session = {"id": offer.session_id, "received": offer.received}
    return {"v": _VERSION, "session": session}


def _read_offer(extension: Any) -> Offer | None:
    if not _is_known(extension):
        return None
    if "session" not in extension:
        return Offer(False)
    session = extension["session"]
    if session is None:
        return Offer(True)
    if not isinstance(session, dict):
        raise _violation("the session in hi is an object or null")
    if not isinstance(session.get("id"), str) or not _is_count(session.get("received")):
        raise _violation("a session in hi has an id and a count of what was received")
    return Offer(True, session["id"], session["received"])


def _session_grant(session: Any) -> SessionGrant:
    if not isinstance(session, dict):
        raise _violation("the session in a welcome is an object or null")
    values: list[Any] = [session.get(name) for name in SessionGrant._fields]
    id, resumed, received, window = values
    if not isinstance(id, str) or not id or not isinstance(resumed, bool):
        raise _violation("a session in a welcome has an id, and was resumed or not")
    is_number = isinstance(window, (int, float)) and not isinstance(window, bool)
    if not _is_count(received) or not is_number:
        raise _violation("a session in a welcome has a count of what was received, and a window")
    return SessionGrant(id, resumed, received, window)


def _is_known(extension: Any) -> bool:
    if not isinstance(extension, dict):
        return False
    version = extension.get("v")
    return _is_count(version) and version == _VERSION


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _violation(text: str) -> WseError:
    return WseError(WSE_ERROR.PROTOCOL_VIOLATION, message=text)
