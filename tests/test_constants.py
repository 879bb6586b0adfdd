"""The words of the wire (wire.md: constants). Their values never change."""

from __future__ import annotations

import copy
import json
import pickle
from enum import Enum

import pytest

from wse_sync import WSE_ERROR, WSE_REASON, WSE_STATUS
from wse_sync.constants import RETRY_CODES

REASONS = {
    "NO_REASON": "",
    "BY_CLIENT": "wse.by-client",
    "BY_SERVER": "wse.by-server",
    "NOT_AUTHORIZED": "wse.not-authorized",
    "AUTH_TIMEOUT": "wse.auth-timeout",
    "PROTOCOL_ERR": "wse.protocol-error",
    "CLIENTS_CONCURRENCY": "wse.clients-concurrency",
    "SLOW_CONSUMER": "wse.slow-consumer",
    "RATE_LIMIT": "wse.rate-limit",
    "SESSION_EXPIRED": "wse.session-expired",
}
ERRORS = {
    "RP_TIMEOUT": "wse.client.rp.timeout",
    "RP_DISCONNECT": "wse.client.rp.disconnect",
    "RP_SEND_FAILED": "wse.client.rp.send-failed",
    "RP_NOT_REGISTERED": "wse.server.rp.not-registered",
    "RP_ALREADY_REGISTERED": "wse.server.rp.already-registered",
    "RP_EXECUTION_FAILED": "wse.server.rp.failed",
    "CONNECTION_NOT_READY": "wse.client.not-ready",
    "CONNECTION_CLOSED": "wse.client.connection-closed",
    "CLIENT_ALREADY_CONNECTED": "wse.client.already-connected",
    "WS_CLIENT_ERROR": "wse.client.ws-error",
    "NOT_AUTHORIZED": "wse.not-authorized",
    "INVALID_CRA_HANDLER": "wse.client.invalid-cra-handler",
    "INVALID_CRA_GENERATOR": "wse.server.auth.invalid-cra-generator",
    "IDENTIFY_HANDLER_MISSING": "wse.server.auth.identify-handler-missing",
    "NO_CLIENT_CONNECTION": "wse.server.client.connection-missing",
    "PROTOCOL_VIOLATION": "wse.server.protocol-violation",
    "CONNECTION_ERROR": "wse.server.connection-error",
    "MESSAGE_PROCESSING_ERROR": "wse.server.msg-processing-error",
}
STATUSES = {name: name for name in ("IDLE", "CONNECTING", "READY", "RE_CONNECTING", "OFFLINE")}
TABLES = [(WSE_REASON, REASONS), (WSE_ERROR, ERRORS), (WSE_STATUS, STATUSES)]

MEMBERS = [*WSE_REASON, *WSE_ERROR, *WSE_STATUS]


@pytest.mark.parametrize(("kind", "table"), TABLES)
def test_names_and_values_are_those_of_the_wire(kind: type[Enum], table: dict[str, str]) -> None:
    assert {member.name: member.value for member in kind} == table


@pytest.mark.parametrize("member", MEMBERS, ids=repr)
def test_a_member_is_the_text_that_travels(member: WSE_REASON | WSE_ERROR | WSE_STATUS) -> None:
    value = member.value
    assert isinstance(member, str)
    assert member == value
    assert hash(member) == hash(value)
    assert str(member) == f"{member}" == "%s" % member == value  # noqa: UP031
    assert json.loads(json.dumps(member)) == value
    assert member.encode() == value.encode()
    assert {member: 1}[value] == 1


@pytest.mark.parametrize("member", MEMBERS, ids=repr)
def test_a_member_survives_copies(member: Enum) -> None:
    assert copy.deepcopy(member) is member
    assert pickle.loads(pickle.dumps(member)) is member


def test_every_reason_fits_into_a_close_frame() -> None:
    assert all(len(reason.encode()) <= 123 for reason in WSE_REASON)


def test_31_the_codes_on_which_a_client_tries_again() -> None:
    assert {1001, 1005, 1006, 1011, 1012, 1013, 1014} == RETRY_CODES
    assert 1000 not in RETRY_CODES
