"""The server's end: what simple-websocket and wsproto would do if they were let."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.transport.ends import (
    BINARY,
    CLOSE,
    CONT,
    LIMIT,
    PONG,
    SUBPROTOCOL,
    TEXT,
    End,
    Ends,
    Frame,
    WebSocketWire,
    closing,
    socket_ends,
)
from wse_sync.transport.accepted import AcceptedTransport, HandshakeFailed
from wse_sync.transport.base import LinkLost
from wse_sync.transport.stream import open_stream

# The example of RFC 6455, 1.3: a key, and what the server makes of it.
KEY, ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
UPGRADE = {
    "REQUEST_METHOD": "GET",
    "PATH_INFO": "/",
    "REMOTE_ADDR": "192.0.2.1",
    "HTTP_HOST": "localhost",
    "HTTP_CONNECTION": "keep-alive, Upgrade",
    "HTTP_UPGRADE": "websocket",
    "HTTP_SEC_WEBSOCKET_KEY": KEY,
    "HTTP_SEC_WEBSOCKET_VERSION": "13",
    "HTTP_SEC_WEBSOCKET_PROTOCOL": f"other, {SUBPROTOCOL}",
}
CLIENT = WebSocketWire(masked=True)


class Visit:
    """A transport over a socket pair, with the raw other end of it."""

    def __init__(self, limit: int = LIMIT, **environ: Any) -> None:
        ours, self.sock = socket.socketpair()
        self.stream = open_stream(ours)
        self.environ = {**UPGRADE, **environ}
        self.transport = AcceptedTransport(self.environ, self.stream, SUBPROTOCOL, limit)
        self.written: list[bytes] = []

    def attach(self) -> str:
        """Finishes the upgrade and returns the answer."""
        self.transport.attach(self.written.append)
        (answer,) = self.written
        self.written.clear()
        return answer.decode()

    def close(self) -> None:
        self.stream.close()
        self.sock.close()


@pytest.fixture
def visits() -> Iterator[list[Visit]]:
    """Those who come in here are seen out at the end."""
    made: list[Visit] = []
    yield made
    for visit in made:
        visit.close()


def visit(visits: list[Visit], limit: int = LIMIT, **environ: Any) -> Visit:
    visits.append(Visit(limit, **environ))
    return visits[-1]


def test_the_upgrade_is_answered_through_write(visits: list[Visit]) -> None:
    here = visit(visits)
    answer = here.attach()
    assert answer.startswith("HTTP/1.1 101 ")
    assert f"sec-websocket-accept: {ACCEPT}".lower() in answer.lower()
    assert f"sec-websocket-protocol: {SUBPROTOCOL}" in answer.lower()
    assert here.transport.subprotocol == SUBPROTOCOL
    assert here.transport.peer == "192.0.2.1"


@pytest.mark.parametrize("offered", [None, "other", "other, another", SUBPROTOCOL.upper()])
def test_6_a_client_that_did_not_offer_the_subprotocol_is_let_through(
    visits: list[Visit], offered: str | None
) -> None:
    here = visit(visits)
    if offered is None:
        del here.environ["HTTP_SEC_WEBSOCKET_PROTOCOL"]
    else:
        here.environ["HTTP_SEC_WEBSOCKET_PROTOCOL"] = offered
    assert "sec-websocket-protocol" not in here.attach().lower()
    assert here.transport.subprotocol is None


@pytest.mark.parametrize(
    "offer",
    [
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; server_no_context_takeover, x-webkit-deflate-frame",
    ],
)
def test_compression_is_declined(visits: list[Visit], offer: str) -> None:
    here = visit(visits, HTTP_SEC_WEBSOCKET_EXTENSIONS=offer)
    answer = here.attach().lower()
    assert "extensions" not in answer
    assert "deflate" not in answer


def test_compression_is_declined_to_a_client_that_insists() -> None:
    with closing(socket_ends(header=("Sec-WebSocket-Extensions: permessage-deflate",))) as ends:
        assert b"deflate" not in ends.near.upgrade
        compressible = "x" * 100_000
        ends.near.send(compressible)
        ends.far.send(compressible)
        assert ends.near.read() == ends.far.read() == [compressible]
        assert len(ends.near.transport.encode(compressible)) > len(compressible)


def test_the_environ_is_left_as_it_was(visits: list[Visit]) -> None:
    here = visit(visits, HTTP_SEC_WEBSOCKET_EXTENSIONS="permessage-deflate", extra=object())
    before = dict(here.environ)
    here.attach()
    assert here.environ == before


@pytest.mark.parametrize(
    "broken",
    [
        {"HTTP_UPGRADE": "h2c"},
        {"HTTP_CONNECTION": "close"},
        {"HTTP_SEC_WEBSOCKET_VERSION": "8"},
        {"HTTP_SEC_WEBSOCKET_KEY": ""},
        {"HTTP_SEC_WEBSOCKET_KEY": "too short"},
        {"HTTP_HOST": "a\r\nX-Injected: b c\r\n\r\n"},
        {"HTTP_X_ODD": "ü€"},
    ],
)
def test_a_request_that_is_no_upgrade_is_refused_or_served(
    visits: list[Visit], broken: dict[str, str]
) -> None:
    """Nothing else comes out than the answer of an upgrade, or the one error."""
    here = visit(visits)
    here.environ.update(broken)
    try:
        assert here.attach().startswith("HTTP/1.1 101 ")
    except HandshakeFailed:
        assert here.written == []


def test_a_request_without_a_key_is_refused(visits: list[Visit]) -> None:
    here = visit(visits)
    del here.environ["HTTP_SEC_WEBSOCKET_KEY"]
    with pytest.raises(HandshakeFailed):
        here.attach()


def test_no_thread_of_the_library_is_started(visits: list[Visit]) -> None:
    before = set(threading.enumerate())
    here = visit(visits)
    here.attach()
    here.sock.sendall(CLIENT.frame(TEXT, b"x") + CLIENT.frame(CLOSE))
    assert here.transport.read() == "x"
    with pytest.raises(LinkLost):
        here.transport.read()
    assert set(threading.enumerate()) == before


def test_what_came_with_one_read_is_handed_out_one_by_one(visits: list[Visit]) -> None:
    here = visit(visits)
    here.attach()
    frames = [CLIENT.frame(TEXT, b"%d" % number) for number in range(50)]
    here.sock.sendall(b"".join(frames))
    assert [here.transport.read() for _ in range(50)] == [str(number) for number in range(50)]


def test_43_the_limit_that_counts_is_that_of_the_read(visits: list[Visit]) -> None:
    """What comes in one piece is looked at message by message."""
    here = visit(visits, limit=10)
    here.attach()
    here.sock.sendall(b"".join(CLIENT.frame(TEXT, b"x" * size) for size in (2, 50, 50)))
    assert here.transport.read() == "xx"
    here.transport.max_message_bytes = 1000
    assert here.transport.read() == "x" * 50
    here.transport.max_message_bytes = 10
    with pytest.raises(LinkLost) as caught:
        here.transport.read()
    assert (caught.value.code, caught.value.drain) == (1009, True)


def test_43_a_message_without_end_is_not_gathered(visits: list[Visit]) -> None:
    """A header that promises a lot: no more is taken in than the limit and one read."""
    here = visit(visits, limit=1000)
    here.attach()
    head = CLIENT.frame(BINARY, b"", length=2**40)
    here.sock.sendall(head + b"x" * 2000)
    with pytest.raises(LinkLost) as caught:
        here.transport.read()
    assert caught.value.code == 1009


def test_6_an_unmasked_frame_ends_the_link(visits: list[Visit]) -> None:
    here = visit(visits)
    here.attach()
    here.sock.sendall(WebSocketWire(masked=False).frame(TEXT, b"x"))
    with pytest.raises(LinkLost) as caught:
        here.transport.read()
    assert caught.value.code == 1002


def test_6_a_reason_that_is_not_utf8_ends_the_link(visits: list[Visit]) -> None:
    here = visit(visits)
    here.attach()
    here.sock.sendall(CLIENT.frame(CLOSE, b"\x03\xe8\xff"))
    with pytest.raises(LinkLost) as caught:
        here.transport.read()
    assert caught.value.code == 1007


def test_what_comes_behind_a_close_is_not_read(visits: list[Visit]) -> None:
    here = visit(visits)
    here.attach()
    here.sock.sendall(CLIENT.frame(CLOSE, b"\x03\xe8bye") + b"\xff" * 100)
    with pytest.raises(LinkLost) as caught:
        here.transport.read()
    assert (caught.value.code, caught.value.reason) == (1000, "bye")
    assert len(here.written) == 1


def test_pongs_keep_the_order_of_their_pings(visits: list[Visit]) -> None:
    here = visit(visits)
    here.attach()
    pings = [CLIENT.frame(9, b"%d" % number) for number in range(20)]
    here.sock.sendall(b"".join(pings) + CLIENT.frame(TEXT, b"end"))
    here.transport.read()
    answers = WebSocketWire(masked=False).parse(b"".join(here.written))
    assert answers == [Frame(PONG, b"%d" % number) for number in range(20)]


def test_frames_are_made_in_many_threads_at_once() -> None:
    """wsproto keeps state while it frames; each thread has its own."""
    wire = WebSocketWire(masked=False)
    wrong: list[object] = []

    def make_frames(number: int) -> None:
        body = str(number) * 1000
        for _ in range(200):
            found = wire.parse(AcceptedTransport.encode(body) + AcceptedTransport.encode(b"x"))
            if found != [Frame(TEXT, body.encode()), Frame(BINARY, b"x")]:
                wrong.append(found)

    threads = [threading.Thread(target=make_frames, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_text_that_has_no_utf8_harms_no_later_frame() -> None:
    with pytest.raises(UnicodeEncodeError):
        AcceptedTransport.encode("\ud800")
    found = WebSocketWire(masked=False).parse(AcceptedTransport.encode(b"x"))
    assert found == [Frame(BINARY, b"x")]


def test_a_message_in_a_thousand_fragments_is_one() -> None:
    with closing(socket_ends()) as ends:
        send_in_fragments(ends, "€" * 3000)
        assert ends.near.read() == ["€" * 3000]


def send_in_fragments(ends: Ends, text: str) -> None:
    far: End = ends.far
    body = text.encode()
    far.send_frame(TEXT, body[:7], fin=False)
    for start in range(7, len(body), 7):
        far.send_frame(CONT, body[start : start + 7], fin=False)
    far.send_frame(CONT)
