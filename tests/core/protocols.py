"""Protocols for the tests of core: what core/ makes of them must not depend on JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Callable

from wse_sync import JsonProtocol, Protocol
from wse_sync.protocol import Data

HI, CHALLENGE, WELCOME, CALL, RESPONSE, RESPONSE_ERROR, ACK = range(1, 8)


class NumberProtocol(Protocol):
    """Binary, with numbers for its own types."""

    name = "numbers"
    internal_types = MappingProxyType(
        {
            "hi": HI,
            "challenge": CHALLENGE,
            "welcome": WELCOME,
            "call": CALL,
            "response": RESPONSE,
            "response_error": RESPONSE_ERROR,
            "ack": ACK,
        }
    )

    def pack(self, type: Any, payload: Any = None, stamp: Any = None) -> bytes:
        return json.dumps({"t": type, "p": payload, "s": stamp}).encode()

    def unpack(self, data: Data) -> tuple[Any, Any, Any]:
        fields = json.loads(data)
        return fields["t"], fields["p"], fields["s"]


class BaseProtocol(JsonProtocol):
    """That of a peer which knows nothing of sessions."""

    name = "base"
    internal_types = MappingProxyType(
        {name: type for name, type in JsonProtocol.internal_types.items() if name != "ack"}
    )


class ScriptedProtocol(JsonProtocol):
    """Unpacks into whatever the test says."""

    def __init__(self, unpack: Callable[[], Any]) -> None:
        self._unpack = unpack

    def unpack(self, data: Data) -> Any:
        return self._unpack()


#: Those that take part in sessions, and all.
WITH_SESSIONS: list[Protocol] = [JsonProtocol(), NumberProtocol()]
PROTOCOLS = [*WITH_SESSIONS, BaseProtocol()]


def types_of(protocol: Protocol) -> Mapping[str, Any]:
    return protocol.internal_types
