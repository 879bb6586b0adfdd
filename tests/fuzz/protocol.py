"""JsonProtocol: any data is a frame or refused, as the rules say, and what is a frame survives.

An input is the data of one message.
"""

from __future__ import annotations

import json
import json.scanner
import math
from typing import Any, NoReturn

from wse_sync import JsonProtocol, WseError, WseValueError
from wse_sync.core.peer import unpack
from wse_sync.protocol import Data, Frame

PROTOCOL = JsonProtocol()
WELCOME = PROTOCOL.internal_types["welcome"]


MOST_DEEP = 100  # how deep is too deep depends on how deep the caller is


class Slow(json.JSONDecoder):
    """In Python, where coverage guides; and other code than that which is tested."""

    def __init__(self) -> None:
        super().__init__(parse_constant=refuse)
        self.scan_once = vars(json.scanner)["py_make_scanner"](self)


def run(data: bytes) -> None:
    if data.count(b"[") + data.count(b"{") > MOST_DEEP:
        return
    frame = read(data)
    assert frame == unpacked(data)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        assert frame is None
        return
    assert frame == read(text) == expected(text)
    if frame is not None:
        check(frame)


def read(data: Data) -> Frame | None:
    """What the protocol makes of data; None if it refuses them."""
    try:
        return PROTOCOL.unpack(data)
    except ValueError:
        return None


def unpacked(data: Data) -> Frame | None:
    """Likewise, for those who get frames; stamps that say nothing are None there."""
    try:
        frame = unpack(PROTOCOL, data)
    except WseError:
        return None
    return frame if frame.stamp is not None else PROTOCOL.unpack(data)


def expected(text: str) -> Frame | None:
    """What the rules say, read without haste."""
    try:
        items = Slow().decode(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(items, list) or not all(map(is_finite, items)):
        return None
    type, payload, stamp = [*items, None, None, None][:3]
    if not isinstance(type, str) or not type:
        return None
    if stamp and not isinstance(stamp, str) and type != WELCOME:
        return None
    return Frame(type, payload, stamp)


def refuse(text: str) -> NoReturn:
    raise ValueError(text)


def is_finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(is_finite, value.values()))
    return not isinstance(value, list) or all(map(is_finite, value))


def check(frame: Frame) -> None:
    """What was read can be packed, and is read again as it was."""
    try:
        text = PROTOCOL.pack(*frame)
    except WseValueError as error:
        assert "too deeply" in str(error)
        return
    text.encode()
    assert read(text) == frame
