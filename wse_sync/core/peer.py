"""One end of a conversation after the welcome: packs what goes out, routes what comes in.

State and data only: no socket, thread, clock, logger or callback.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Union

from ..checks import bad_type, bad_value
from ..constants import WSE_ERROR
from ..errors import WseError
from ..protocol import Data, Frame, Protocol

__all__ = ["Ack", "Answer", "Call", "Message", "Peer", "unpack"]

_SEND_FAILED = WSE_ERROR.RP_SEND_FAILED
_NEVER = object()  # the type of no frame


class Message(NamedTuple):
    """A frame for the channel."""

    type: Any
    payload: Any


class Call(NamedTuple):
    """A frame for a procedure; ``stamp`` goes back with the answer."""

    name: Any
    payload: Any
    stamp: Any


class Answer(NamedTuple):
    """The end of a call of ours: its result, or what went wrong."""

    stamp: Any
    payload: Any
    failed: bool


class Ack(NamedTuple):
    """How many frames of ours the other side has."""

    count: Any


Event = Union[Message, Call, Answer, Ack]

# As Answer(…) and Call(…), without their step through Python.
_answer: Callable[[tuple[Any, Any, bool]], Answer] = partial(tuple.__new__, Answer)
_call: Callable[[tuple[Any, Any, Any]], Call] = partial(tuple.__new__, Call)


class Peer:
    """Packs and routes frames by the types of one protocol."""

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol
        types = protocol.internal_types
        self._response = types["response"]
        self._response_error = types["response_error"]
        self._ack = types.get("ack", _NEVER)
        self._internal = frozenset(types.values())

    def check_type(self, type: Any) -> None:
        """Whether users may send, call or handle frames of this type.

        Raises:
            WseTypeError, WseValueError: They may not; the text says why.
        """
        try:
            hash(type)
        except TypeError:
            raise bad_type(f"{type!r} is no type: it must be hashable", _SEND_FAILED) from None
        if type in self._internal:
            raise bad_value(f"{type!r} is a type of the protocol's own", _SEND_FAILED)
        if isinstance(type, str) and not type:
            raise bad_value("the name of a message or procedure is empty", _SEND_FAILED)

    def pack_message(self, type: Any, payload: Any) -> Data:
        """Packs a message."""
        self.check_type(type)
        return self._protocol.pack(type, payload)

    def pack_call(self, name: Any, payload: Any, stamp: str) -> Data:
        """Packs a call."""
        return self._protocol.pack(name, payload, stamp)

    def pack_result(self, stamp: Any, result: Any) -> Data:
        """Packs the answer to a call that worked."""
        return self._protocol.pack(self._response, result, stamp)

    def pack_failure(self, stamp: Any, payload: Any) -> Data:
        """Packs the answer to a call that failed."""
        return self._protocol.pack(self._response_error, payload, stamp)

    def pack_ack(self, count: int) -> Data:
        """Packs how many frames of the other side we have."""
        return self._protocol.pack(self._ack, count)

    def receive(self, data: Data) -> Event:
        """Unpacks a frame and says what it is.

        Raises:
            WseError: It cannot be unpacked, or has no business after the welcome.
        """
        type, payload, stamp = unpack(self._protocol, data)
        if type == self._response:
            return _answer((stamp, payload, False))
        if type == self._response_error:
            return _answer((stamp, payload, True))
        if type == self._ack:
            return Ack(payload)
        if type in self._internal:
            raise WseError(
                WSE_ERROR.PROTOCOL_VIOLATION, message=f"{type!r} has no meaning after the welcome"
            )
        return _call((type, payload, stamp)) if stamp else Message(type, payload)


def unpack(protocol: Protocol, data: Data) -> Frame:
    """Unpacks a frame; whatever a protocol raises becomes an error of ours.

    Raises:
        WseError: MESSAGE_PROCESSING_ERROR, or the WseError that the protocol raised.
    """
    try:
        unpacked = protocol.unpack(data)
        frame = unpacked if isinstance(unpacked, Frame) else Frame(*unpacked)
        if not frame.stamp and frame.stamp is not None:
            frame = frame._replace(stamp=None)
        hash(frame.type)
        if frame.type != protocol.internal_types["welcome"]:  # has more to say in that place
            hash(frame.stamp)
    except WseError:
        raise
    except Exception as error:
        raise WseError(
            WSE_ERROR.MESSAGE_PROCESSING_ERROR, message=f"cannot unpack a frame: {error}"
        ) from error
    return frame
