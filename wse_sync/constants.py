"""The words that travel on the wire or name a state; their values never change."""

from __future__ import annotations

import enum

__all__ = ["RETRY_CODES", "WSE_ERROR", "WSE_REASON", "WSE_STATUS"]


class _Text(str, enum.Enum):
    """A string enumeration whose members print as their value."""

    def __str__(self) -> str:
        return str(self.value)


class WSE_REASON(_Text):
    """The text of a close frame."""

    NO_REASON = ""
    BY_CLIENT = "wse.by-client"
    BY_SERVER = "wse.by-server"
    NOT_AUTHORIZED = "wse.not-authorized"
    AUTH_TIMEOUT = "wse.auth-timeout"
    PROTOCOL_ERR = "wse.protocol-error"
    CLIENTS_CONCURRENCY = "wse.clients-concurrency"
    SLOW_CONSUMER = "wse.slow-consumer"
    RATE_LIMIT = "wse.rate-limit"
    SESSION_EXPIRED = "wse.session-expired"


class WSE_ERROR(_Text):
    """The ``code`` of a :class:`wse_sync.WseError`."""

    RP_TIMEOUT = "wse.client.rp.timeout"
    RP_DISCONNECT = "wse.client.rp.disconnect"
    RP_SEND_FAILED = "wse.client.rp.send-failed"
    RP_NOT_REGISTERED = "wse.server.rp.not-registered"
    RP_ALREADY_REGISTERED = "wse.server.rp.already-registered"
    RP_EXECUTION_FAILED = "wse.server.rp.failed"
    CONNECTION_NOT_READY = "wse.client.not-ready"
    CONNECTION_CLOSED = "wse.client.connection-closed"
    CLIENT_ALREADY_CONNECTED = "wse.client.already-connected"
    WS_CLIENT_ERROR = "wse.client.ws-error"
    NOT_AUTHORIZED = "wse.not-authorized"
    INVALID_CRA_HANDLER = "wse.client.invalid-cra-handler"
    INVALID_CRA_GENERATOR = "wse.server.auth.invalid-cra-generator"
    IDENTIFY_HANDLER_MISSING = "wse.server.auth.identify-handler-missing"
    NO_CLIENT_CONNECTION = "wse.server.client.connection-missing"
    PROTOCOL_VIOLATION = "wse.server.protocol-violation"
    CONNECTION_ERROR = "wse.server.connection-error"
    MESSAGE_PROCESSING_ERROR = "wse.server.msg-processing-error"


class WSE_STATUS(_Text):
    """What a client is doing."""

    IDLE = "IDLE"
    CONNECTING = "CONNECTING"
    READY = "READY"
    RE_CONNECTING = "RE_CONNECTING"
    OFFLINE = "OFFLINE"


#: Close codes after which a reconnecting client tries again (RFC 6455, 7.4). 1000 is final.
RETRY_CODES = frozenset({1001, 1005, 1006, 1011, 1012, 1013, 1014})
