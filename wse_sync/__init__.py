"""WSE for synchronous, threaded Python: talk with people and devices over a WebSocket."""

from .auth import AuthRequest
from .backoff import Backoff
from .client import WseClient
from .constants import WSE_ERROR, WSE_REASON, WSE_STATUS
from .errors import (
    WseConnectionError,
    WseError,
    WseLookupError,
    WsePermissionError,
    WseTimeoutError,
    WseTypeError,
    WseValueError,
)
from .protocol import JsonProtocol, Protocol
from .registry import WseIdentity
from .server import WseServer
from .sessions import WseConnection

__all__ = [
    "WSE_ERROR",
    "WSE_REASON",
    "WSE_STATUS",
    "AuthRequest",
    "Backoff",
    "JsonProtocol",
    "Protocol",
    "WseClient",
    "WseConnection",
    "WseConnectionError",
    "WseError",
    "WseIdentity",
    "WseLookupError",
    "WsePermissionError",
    "WseServer",
    "WseTimeoutError",
    "WseTypeError",
    "WseValueError",
]
