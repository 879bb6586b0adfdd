"""Failed calls on the wire: errors to payloads, and payloads of any peer to errors."""

from __future__ import annotations

from typing import Any

from ..constants import WSE_ERROR
from ..errors import WseError, error_of

__all__ = ["error_from", "payload_of"]


def payload_of(error: BaseException, procedure: str, stack: str | None = None) -> dict[str, Any]:
    """What the other side is told when a procedure raised ``error``.

    Args:
        error: What the procedure raised.
        procedure: Its name, sent as ``details.rp``.
        stack: A traceback to send along, for debugging.
    """
    if isinstance(error, WseError):
        details = {**error.details, "rp": procedure}
        return {"code": error.code, "message": _text_of(error), "details": details}
    origin = {"name": type(error).__name__, "message": _text_of(error)}
    if stack is not None:
        origin["stack"] = stack
    return {
        "code": str(WSE_ERROR.RP_EXECUTION_FAILED),
        "message": origin["message"],
        "details": {"origin": origin, "rp": procedure},
    }


def error_from(payload: Any, procedure: str) -> WseError:
    """Reads the payload of a failed call, broken ones too.

    Peers differ: 4.x names the procedure ``details.rpc``, 5.x ``details.rp``; some leave out the
    message; ours begins with the code, which the error says already.
    """
    fields = payload if isinstance(payload, dict) else {}
    code = fields.get("code")
    if not isinstance(code, str) or not code:
        code = str(WSE_ERROR.RP_EXECUTION_FAILED)
    given = fields.get("details")
    details = dict(given) if isinstance(given, dict) else {}
    details["rp"] = details.get("rp") or details.get("rpc") or procedure
    message = fields.get("message")
    if not isinstance(message, str) or message == code:
        message = None
    elif message.startswith(f"{code}: "):
        message = message[len(code) + 2 :]
    return error_of(code, details, message)


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:  # a __str__ of the application's, which may raise anything
        return f"({type(broken).__name__} in its __str__)"
