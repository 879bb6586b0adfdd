"""Serves the calls of the other side: runs the procedure, and answers whatever comes of it.

Runs on a worker, which is the top of the thread for the code of users. Nothing is kept here, and no
lock is held.
"""

from __future__ import annotations

import logging
import traceback
from time import perf_counter
from typing import TYPE_CHECKING, Any

from . import clock
from .constants import WSE_ERROR
from .core.delivery import Delivery
from .core.failures import error_from, payload_of
from .core.peer import Call
from .errors import WseError, error_of
from .procedures import Procedure
from .protocol import Data

if TYPE_CHECKING:
    from .connection import Connection

__all__ = ["answer"]


def answer(connection: Connection, session: Delivery, call: Call, received: float) -> None:
    """Runs the procedure that a call names, and answers it.

    Args:
        connection: Where it came.
        session: Within which the answer goes out.
        call: Which it is.
        received: When it was read.
    """
    endpoint = connection.endpoint
    procedure = endpoint.procedures.find(call.name)
    if procedure is None:
        unknown = error_of(WSE_ERROR.RP_NOT_REGISTERED, message="there is no such procedure")
        endpoint.tally.report(unknown)
        _answer_failure(connection, session, call, unknown)
        return
    try:
        result = _run(connection, procedure, call, received)
    except BaseException as error:
        _fail(connection, session, call, error)
        return
    try:
        data = connection.peer.pack_result(call.stamp, result)
        endpoint.check_size(data)
    except Exception as error:
        told = WseError(
            WSE_ERROR.RP_EXECUTION_FAILED, message=f"the result cannot be sent: {error}"
        )
        told.__cause__ = error
        _fail(connection, session, call, told)
        return
    connection.respond(session, data)


def _run(connection: Connection, procedure: Procedure, call: Call, received: float) -> Any:
    """Returns or raises what the procedure does; by then it is counted."""
    endpoint = connection.endpoint
    arguments = (*endpoint.arguments(connection), call.payload)
    begun = perf_counter()
    try:
        return endpoint.run_handler(connection, procedure.handler, *arguments)
    finally:
        procedure.note(perf_counter() - begun)
        endpoint.tally.serve(call.name, clock.monotonic() - received)


def _fail(connection: Connection, session: Delivery, call: Call, error: BaseException) -> None:
    """Answers a call whose procedure has run."""
    connection.endpoint.tally.fail(call.name, error)
    _answer_failure(connection, session, call, error)


def _answer_failure(
    connection: Connection, session: Delivery, call: Call, error: BaseException
) -> None:
    endpoint = connection.endpoint
    stack = _stack_of(error) if endpoint.debug else None
    payload = payload_of(error, call.name, stack)
    connection.respond(session, _pack_failure(connection, call, payload))
    level = logging.INFO if isinstance(error, WseError) else logging.ERROR
    raised = None if error.__traceback__ is None else error
    endpoint.log_limit.write(
        level, "procedure %.200r failed: %s", call.name, payload["code"], exc_info=raised
    )
    failure = error_from(payload, call.name)
    failure.__cause__ = error.__cause__ if isinstance(error, WseError) else error
    endpoint.settle_error(failure, connection)


def _stack_of(error: BaseException) -> str:
    """The traceback as text; the caller gets his answer also if it cannot be made."""
    try:
        return "".join(traceback.format_exception(type(error), error, error.__traceback__))
    except Exception as broken:  # a __str__ of the application's, or a fault of CPython 3.11
        return f"(no traceback: {type(broken).__name__})"


def _pack_failure(connection: Connection, call: Call, payload: dict[str, Any]) -> Data:
    """Packs as much of a failure as can be sent."""
    endpoint = connection.endpoint
    for candidate in (payload, {**payload, "details": {"rp": call.name}}):
        try:
            data = connection.peer.pack_failure(call.stamp, candidate)
            endpoint.check_size(data)
        except Exception as error:
            endpoint.log.info("an error cannot be sent as it is: %s", error)
        else:
            return data
    short = WseError(WSE_ERROR.RP_EXECUTION_FAILED, message="the error is too long to send")
    return connection.peer.pack_failure(call.stamp, payload_of(short, call.name))
