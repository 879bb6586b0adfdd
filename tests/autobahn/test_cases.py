"""Both ends pass what Autobahn's test suite asks for (promise 6). The table is in ``cases.py``."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable

import pytest

from tests.autobahn.cases import CASES, PROTOCOL_ERROR, Case
from tests.conftest import MakeClient, MakeRawClient, MakeRawServer, MakeServer
from tests.support import RESPONSE, RawPeer, Recorder
from tests.transport.ends import BINARY, CLOSE, PING, PONG, TEXT, Frame, WebSocketWire

every_case = pytest.mark.parametrize("number", CASES)


class Peer:
    """The other side: sends what a case says, and looks at what comes back.

    Args:
        sock: A connection that has been welcomed.
        masked: Whether what it sends is, as that of a client.
    """

    def __init__(self, sock: socket.socket, *, masked: bool) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._there, self._back = WebSocketWire(masked=masked), WebSocketWire(masked=not masked)
        self._come = b""

    def play(self, case: Case) -> int:
        """Plays a case; returns the code with which the connection was closed."""
        data = b"".join(
            self._there.frame(sent.opcode, sent.body, fin=sent.fin, rsv=sent.rsv)
            for sent in case.frames
        )
        closes = any(sent.opcode == CLOSE for sent in case.frames)
        self._send(data, case.piece)
        if case.code is None and not closes:
            self._read_until(lambda frames: len(frames) == len(case.echoes) + len(case.pongs))
            self._send(self._there.frame(CLOSE, struct.pack("!H", 1000)), 0)
        frames = self._read_until(lambda frames: frames[-1:] and frames[-1].opcode == CLOSE)
        if case.code is not None:
            self._send(self._there.frame(CLOSE, frames[-1].body), 0)
        assert self._read() == b"", "something behind the close"
        code = code_of(frames.pop().body)
        self._check(case, frames)
        return code

    def _check(self, case: Case, frames: list[Frame]) -> None:
        answers = [frame for frame in frames if frame.opcode in (TEXT, BINARY)]
        echoes = [json.loads(frame.body) for frame in answers]
        assert [type for type, _, _ in echoes] == [RESPONSE] * len(echoes)
        if case.echoes:  # of other calls the answer may come before the end, or too late
            assert [payload for _, payload, _ in echoes] == case.echoes
        assert [frame.body for frame in frames if frame.opcode == PONG] == case.pongs
        assert all(frame.opcode != PING for frame in frames)

    def _send(self, data: bytes, piece: int) -> None:
        """Sends data, in pieces; an end that has had enough may be gone meanwhile."""
        size = piece or len(data) or 1
        for start in range(0, len(data), size):
            try:
                self._sock.sendall(data[start : start + size])
            except ConnectionError:
                return

    def _read_until(self, is_enough: Callable[[list[Frame]], object]) -> list[Frame]:
        while not is_enough(self._frames()):
            piece = self._read()
            assert piece, f"the end of the connection behind {self._come!r:.200}"
            self._come += piece
        return self._frames()

    def _frames(self) -> list[Frame]:
        """What has come, up to a frame that is not whole yet."""
        data, whole = self._come, b""
        while len(data) >= 2:
            size = frame_size(data)
            if len(data) < size:
                break
            whole, data = whole + data[:size], data[size:]
        return self._back.parse(whole)

    def _read(self) -> bytes:
        try:
            return self._sock.recv(65536)
        except ConnectionResetError:
            return b""


def frame_size(data: bytes) -> int:
    """The bytes of a frame in all, as far as they can be known."""
    size, head = data[1] & 0x7F, 2 + (4 if data[1] & 0x80 else 0)
    width = {126: 2, 127: 8}.get(size, 0)
    if width:
        size = int.from_bytes(data[2 : 2 + width], "big")
    return head + width + size


def is_right(case: Case, code: int) -> bool:
    """Whether an end closed as it must: with its own code, or that of the close it was sent."""
    if case.code is not None:
        return code == case.code
    bodies = [sent.body for sent in case.frames if sent.opcode == CLOSE]
    asked = code_of(bodies[0]) if bodies else 1000
    return code in (asked, 1000)  # the answer has typically the same code (RFC 6455, 5.5.1)


def code_of(body: bytes) -> int:
    """The code in a close."""
    return int(struct.unpack("!H", body[:2])[0]) if body else 1005


@every_case
def test_6_a_server_passes(
    make_server: MakeServer, make_raw_client: MakeRawClient, number: str
) -> None:
    server = make_server()
    server.register("echo", lambda conn, payload: payload)
    errors, left = Recorder(), Recorder()
    server.when.error(errors)
    server.when.disconnected(left)
    raw = make_raw_client(server)
    raw.login("ann")
    assert raw.socket.sock is not None
    case = CASES[number]
    assert is_right(case, Peer(raw.socket.sock, masked=True).play(case))
    ((_, code, _),) = left.wait_for(1)
    assert is_right(case, code)
    assert len(errors.wait_for(case.code is not None)) == (case.code is not None)


@every_case
def test_6_a_client_passes(
    make_client: MakeClient, make_raw_server: MakeRawServer, number: str
) -> None:
    case = CASES[number]
    played = Recorder()

    def play(peer: RawPeer) -> None:
        peer.welcome()
        played.add(Peer(peer.socket, masked=False).play(case))

    client = make_client(make_raw_server(play))
    client.register("echo", lambda payload: payload)
    errors, closed = Recorder(), Recorder()
    client.when.error(errors)
    client.when.closed(closed)
    client.connect("ann")
    (code,) = played.wait_for(1)
    assert is_right(case, code)
    ((code, _),) = closed.wait_for(1)
    assert is_right(case, code)
    assert len(errors.wait_for(case.code is not None)) == (case.code is not None)


def test_6_every_section_is_there() -> None:
    """With as many cases as the suite has in it."""
    counts = dict.fromkeys((1, 2, 3, 4, 5, 6, 7, 10), 0)
    for number in CASES:
        counts[int(number.partition(".")[0])] += 1
    assert counts == {1: 16, 2: 11, 3: 7, 4: 10, 5: 20, 6: 145, 7: 37, 10: 1}
    assert sum(case.code == PROTOCOL_ERROR for case in CASES.values()) > 40
