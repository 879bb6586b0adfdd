"""Protocols: how a frame becomes text or bytes, and back."""

from __future__ import annotations

import abc
import json
import json.encoder
import math
import sys
from collections.abc import Callable, Hashable, Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple, NoReturn, Union

from .constants import WSE_ERROR
from .errors import WseTypeError, WseValueError

__all__ = ["Data", "Frame", "JsonProtocol", "Protocol"]

_WELCOME = "~wse:welcome"

#: A frame packed. ``str`` travels as a text message, ``bytes`` as a binary one.
Data = Union[str, bytes]


class Frame(NamedTuple):
    """What travels: a type, a payload, and the stamp that ties an answer to its call."""

    type: Any
    payload: Any = None
    stamp: Any = None


class Protocol(abc.ABC):
    """A way to pack frames. Derive from it to speak another one.

    ``pack`` and ``unpack`` are called from many threads at once and keep no state.
    """

    #: The WebSocket subprotocol (RFC 6455, 1.9) that both ends must agree on.
    name: str

    #: The types of our own frames: ``hi``, ``challenge``, ``welcome``, ``call``, ``response``,
    #: ``response_error``. Values are any hashable objects; users cannot send them. With one for
    #: ``ack``, sessions outlive their links; then the stamp of a welcome is None or a dict.
    internal_types: Mapping[str, Hashable]

    @abc.abstractmethod
    def pack(self, type: Any, payload: Any = None, stamp: Any = None) -> Data:
        """Turns a frame into ``str`` (a text message) or ``bytes`` (a binary one).

        ``stamp`` is None, or the text that ties an answer to its call.

        Raises:
            TypeError, ValueError: The payload does not fit; say where, users will read it.
        """

    @abc.abstractmethod
    def unpack(self, data: Data) -> tuple[Any, Any, Any]:
        """Turns what ``pack`` made into ``(type, payload, stamp)``.

        Raises:
            Exception: Anything; the connection is closed with ``wse.protocol-error``.
        """


class JsonProtocol(Protocol):
    """The protocol of every WSE peer: one JSON array ``[type, payload, stamp]``.

    ``NaN`` and infinities are not JSON (RFC 8259, 6): refused in both directions, and so are
    numbers that no float can hold, which would be read as infinities. Integers have 4,300 digits at
    most, unless :func:`sys.set_int_max_str_digits` says otherwise.
    """

    name = "wse-default-json"
    internal_types = MappingProxyType(
        {
            "hi": "~wse:hi",
            "challenge": "~wse:challenge",
            "welcome": _WELCOME,
            "call": "~wse:call",
            "response": "~wse:response",
            "response_error": "~wse:response-err",
            "ack": "~wse:ack",
        }
    )

    def pack(self, type: Any, payload: Any = None, stamp: Any = None) -> str:
        """Packs a frame as JSON text without blanks.

        Raises:
            WseTypeError: Something in the payload has no form in JSON (the text says where), or
                the type is no string.
            WseValueError: NaN, an infinity, a circle, or nesting that is too deep.
        """
        if not isinstance(type, str) or not type:
            raise WseTypeError(
                WSE_ERROR.RP_SEND_FAILED, message=f"a type is a non-empty string, not {type!r}"
            )
        if stamp and not isinstance(stamp, str) and type != _WELCOME:
            raise WseTypeError(
                WSE_ERROR.RP_SEND_FAILED, message=f"a stamp is a string or None, not {stamp!r}"
            )
        try:
            if payload.__class__ is str and len(payload) > _LONG and _is_plain(payload):
                return f'{_encode([type])[:-1]},"{payload}",{_encode(stamp)}]'
            text = _encode([type, payload, stamp])
            if not text.isascii():
                text.encode()
        except UnicodeEncodeError:
            return _encode_ascii([type, payload, stamp])  # lone surrogates: only escaped
        except (TypeError, ValueError, RecursionError) as error:
            _refuse(error, payload)
        return text

    def unpack(self, data: Data) -> Frame:
        """Reads a frame from JSON, as text or as the UTF-8 of it.

        Raises:
            ValueError: It is not UTF-8, not JSON, or not an array.
            WseValueError: Its type or stamp is none (PROTOCOL_VIOLATION).
        """
        text = data if isinstance(data, str) else str(data, "utf-8")
        try:
            items = _decode(text)
        except RecursionError:
            raise ValueError("the JSON is nested too deeply") from None
        if not isinstance(items, list):
            raise ValueError("a frame is a JSON array")
        type, payload, stamp = (*items[:3], None, None, None)[:3]
        if not isinstance(type, str) or not type:
            raise WseValueError(
                WSE_ERROR.PROTOCOL_VIOLATION, message="the type of a frame is a non-empty string"
            )
        if stamp and not isinstance(stamp, str) and type != _WELCOME:
            raise WseValueError(
                WSE_ERROR.PROTOCOL_VIOLATION, message="the stamp of a frame is a string or null"
            )
        return _frame((type, payload, stamp))


def _is_plain(text: str) -> bool:
    """Whether JSON has a text as it is."""
    return text.isascii() and not any(map(text.__contains__, _ESCAPED))


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def _read_float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("a number is beyond every float")
    return value


def _read_int(text: str) -> int:
    """For a Python that would read any number of digits, in a time that grows with its square."""
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"an integer of {len(text)} digits")
    return int(text)


# Built once: json.dumps with options builds an encoder for every call. What contains itself is
# found by its depth; to keep a list of everything on the way there would cost more than the rest.
_options: Any = {"allow_nan": False, "check_circular": False, "separators": (",", ":")}
_LONG = 4096  # characters; to look for what must be escaped is much faster than to escape
_ESCAPED = ('"', "\\", "\n", *(chr(code) for code in range(32)))  # RFC 8259, 7
_encoder = json.JSONEncoder(ensure_ascii=False, **_options)
_encode_ascii = json.JSONEncoder(**_options).encode
_MOST_DIGITS = 4300  # as where Python has a limit of its own
_decoder = json.JSONDecoder(
    parse_constant=_refuse_constant,
    parse_float=_read_float,
    # A function of ours takes its time for each number, so only where it is needed.
    parse_int=None if hasattr(sys, "get_int_max_str_digits") else _read_int,
)
# As Frame(…), without its step through Python.
_frame: Callable[[tuple[Any, Any, Any]], Frame] = partial(tuple.__new__, Frame)


def _encode(value: Any) -> str:
    if _chunks is None:
        return _encoder.encode(value)
    return "".join(_chunks(value, 0))


def _make_chunks() -> Callable[[Any, int], Iterable[str]] | None:
    """What :mod:`json` makes for each text that it encodes, made once; None: it has no such thing.

    It is the same for all texts, and to make it takes longer than to use it on a short one.
    """
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return None
    encoder = _encoder
    chunks: Callable[[Any, int], Iterable[str]] = make(
        None,  # what was seen on the way there: see above
        encoder.default,
        json.encoder.encode_basestring,
        None,
        encoder.key_separator,
        encoder.item_separator,
        encoder.sort_keys,
        encoder.skipkeys,
        encoder.allow_nan,
    )
    return chunks


_chunks = _make_chunks()


_scan: Callable[[str, int], tuple[Any, int]] = vars(_decoder)["scan_once"]


def _decode(text: str) -> Any:
    try:
        value, end = _scan(text, 0)
    except StopIteration:  # blanks before it, or no JSON
        return _decoder.decode(text)
    return value if end == len(text) else _decoder.decode(text)


def _refuse(error: Exception, payload: Any) -> NoReturn:
    """Raises what the encoder said as an error that names the place."""
    try:
        where = _culprit(payload, "payload")
    except RecursionError:
        where = "payload is nested too deeply, or contains itself"
    kind = WseTypeError if isinstance(error, TypeError) else WseValueError
    raise kind(WSE_ERROR.RP_SEND_FAILED, message=where or f"payload: {error}") from error


def _culprit(value: Any, place: str) -> str | None:
    """Where in the payload the first thing stands that JSON cannot hold."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"{place} is {value!r}, which is not JSON"
    if value is None or isinstance(value, (str, int, float)):
        return None
    if isinstance(value, dict):
        for key in value:
            if key is not None and not isinstance(key, (str, int, float)):
                return f"{place} has a key of type {type(key).__name__}; JSON keys are strings"
        pairs = ((f"{place}[{key!r}]", item) for key, item in value.items())
    elif isinstance(value, (list, tuple)):
        pairs = ((f"{place}[{index}]", item) for index, item in enumerate(value))
    else:
        return f"{place} is of type {type(value).__name__}, which has no form in JSON"
    found = (_culprit(item, where) for where, item in pairs)
    return next(filter(None, found), None)
