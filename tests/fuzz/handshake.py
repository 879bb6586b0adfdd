"""The handshakes of both roles: any frame is an event of the right shape, or a violation.

An input is a letter for the role and what it knows (see ROLES), and frames, each in a line.
"""

from __future__ import annotations

from typing import Any

from wse_sync import WSE_ERROR, JsonProtocol, WseError, WseValueError
from wse_sync.core.handshake import (
    ClientHandshake,
    Grant,
    Hello,
    Offer,
    Quest,
    ServerHandshake,
    SessionGrant,
    Solution,
    Welcome,
)

PROTOCOL = JsonProtocol()
#: Clients by what they ask for; any other letter is a server, an odd one with a challenge.
ROLES = {b"a": None, b"b": Offer(False), b"c": Offer(True), b"d": Offer(True, "secret", 7)}
CODES = {str(WSE_ERROR.MESSAGE_PROCESSING_ERROR), str(WSE_ERROR.PROTOCOL_VIOLATION)}


def run(data: bytes) -> None:
    role, lines = data[:1], data[1:].split(b"\n")
    try:
        if role in ROLES:
            be_client(ROLES[role], lines)
        else:
            be_server(lines, challenges=bool(role) and role[0] % 2 == 1)
    except WseError as error:
        assert error.code in CODES
        str(error).encode()


def be_server(lines: list[bytes], *, challenges: bool) -> None:
    handshake, granted = ServerHandshake(PROTOCOL), None
    for line in lines:
        if handshake.state in ("decision", "done"):
            break
        event = handshake.receive(line)
        if isinstance(event, Hello):
            check_hello(event)
            granted = event.offer
        else:
            assert isinstance(event, Solution)
        if isinstance(event, Hello) and challenges:
            pack(handshake.ask, event.identity)
            handshake.state = "solution"
    if handshake.state == "decision":
        session = SessionGrant("id", False, 0, 60.0)
        pack(handshake.welcome, lines[0].decode(), granted and Grant("cid", session))


def pack(step: Any, *arguments: Any) -> None:
    """Packs what a stranger sent; only its depth may be too much."""
    try:
        step(*arguments).encode()
    except WseValueError as error:
        assert "too deeply" in str(error)


def check_hello(hello: Hello) -> None:
    assert type(hello.meta) is dict
    if hello.offer is not None:
        wants, session_id, received = hello.offer
        assert type(wants) is bool
        assert session_id is None or (wants and type(session_id) is str)
        assert type(received) is int and received >= 0


def be_client(offer: Offer | None, lines: list[bytes]) -> None:
    handshake = ClientHandshake(PROTOCOL, offer)
    PROTOCOL.unpack(handshake.hi("ann", {}))
    for line in lines:
        event = handshake.receive(line)
        if isinstance(event, Welcome):
            check_grant(event.grant, offer)
            return
        assert event is None or isinstance(event, Quest)


def check_grant(grant: Grant | None, offer: Offer | None) -> None:
    assert grant is None or (offer is not None and type(grant.cid) is str)
    if grant is None or grant.session is None or offer is None:
        return
    session_id, resumed, received, window = grant.session
    assert offer.wants_session
    assert type(session_id) is str
    assert session_id
    assert type(resumed) is bool
    assert not resumed or offer.session_id is not None
    assert type(received) is int and received >= 0
    assert type(window) in (int, float)
