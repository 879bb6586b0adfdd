"""Sessions of the browser's client as they travel, against raw ends.

The part of tests/behaviour/test_sessions_wire.py that is about clients.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.behaviour.test_sessions_wire import FINAL_CODES, RETRY_CODES, VIOLATED, next_ack
from tests.browser.conftest import OpenPage
from tests.browser.support import Page
from tests.browser.test_client import CONNECT, NEVER, QUICK, refused
from tests.conftest import MakeServer
from tests.support import (
    ACK,
    CHALLENGE,
    RESPONSE,
    RESPONSE_ERR,
    WELCOME,
    RawPeer,
    RawPeers,
    Thread,
)
from wse_sync import WSE_ERROR

PATIENT = {"pingTimeout": None, "callTimeout": None}


@pytest.fixture
def page(make_site: MakeServer, open_page: OpenPage) -> Page:
    """A page whose clients may connect to any port."""
    return open_page(make_site(), "open")


@pytest.fixture
def peers() -> Iterator[RawPeers]:
    """The other side, played by the test."""
    with RawPeers() as peers:
        yield peers


@pytest.fixture
def no_late_acks(page: Page) -> None:
    """Acknowledgements come only because of what was received, never because of the time."""
    page.run("""
        const { setTimeout } = window
        window.setTimeout = (run, ms) => (ms === 1000 ? 0 : setTimeout(run, ms))
    """)


def welcomed(page: Page, peers: RawPeers, options: dict[str, Any] = NEVER) -> RawPeer:
    """Connects a client, in a fresh session."""
    connecting = page.start(CONNECT, peers.url, {**options, **PATIENT})
    peer = peers.next()
    peer.grant()
    connecting.result()
    return peer


def number(page: Page) -> None:
    """Has messages of this type recorded in the log."""
    page.run("client.channel.on('number', (payload) => log.push(['number', payload]))")


# Negotiation


@pytest.mark.parametrize(
    ("options", "key"),
    [(QUICK, {"v": 1, "session": None}), ({}, {"v": 1})],
    ids=["with", "without"],
)
def test_a_client_asks_for_what_it_can_use(
    page: Page, peers: RawPeers, options: Any, key: Any
) -> None:
    script = "make(...a); return client.connect('ann', { device: 1 })"
    connecting = page.start(script, peers.url, options)
    hi = peers.next().welcome("hello", {"v": 1, "cid": "id of ann", "session": None})
    assert hi == {"identity": "ann", "meta": {"device": 1}, "wse": key}
    assert connecting.result() == "hello"
    assert page.run("return client.cid") == "id of ann"


def test_with_a_base_peer_a_client_works_as_the_base_protocol_says(
    page: Page, peers: RawPeers
) -> None:
    connecting = page.start(CONNECT, peers.url, {**QUICK, **PATIENT})
    peer = peers.next()
    peer.welcome()
    connecting.result()
    assert page.run("return client.cid") is None
    number(page)
    for count in range(100):
        peer.send_frame("number", count)
    page.wait_for("log.filter(([name]) => name === 'number').length === 100")
    call = page.start("client.send('news'); return client.call('any')")
    assert [peer.recv_frame()[0] for _ in range(2)] == ["news", "any"]
    peer.abort()
    error = refused(call.result)
    assert error.code == WSE_ERROR.RP_DISCONNECT
    assert error.details["disconnected"] == [1006, ""]
    waiting = page.start("client.send('late'); return client.call('later')")
    back = peers.next()
    assert back.welcome()["wse"] == {"v": 1, "session": None}
    assert back.recv_frame()[0] == "late"
    name, _, stamp = back.recv_frame()
    back.send_frame(RESPONSE, name, stamp)
    assert waiting.result() == "later"
    back.abort()
    again = peers.next()
    again.welcome()
    page.wait_for("client.status === 'READY'")
    page.run("client.send('end')")
    assert again.recv_frame() == ["end", None, None]
    assert page.log("error") == []


def test_with_a_base_peer_an_answer_belongs_to_the_link_of_its_call(
    page: Page, peers: RawPeers
) -> None:
    connecting = page.start(CONNECT, peers.url, {**QUICK, **PATIENT})
    peer = peers.next()
    peer.welcome()
    connecting.result()
    page.run("client.register('wait', () => new Promise((resolve) => (window.finish = resolve)))")
    peer.send_frame("wait", None, "1")
    page.wait_for("window.finish")
    peer.abort()
    back = peers.next()
    back.welcome()
    page.wait_for("client.status === 'READY'")
    page.run("finish('late'); await null; client.send('news')")
    assert back.recv_frame() == ["news", None, None]


# Counting


def test_64_frames_are_acknowledged(page: Page, peers: RawPeers, no_late_acks: None) -> None:
    peer = welcomed(page, peers)
    for total in (64, 128, 192):
        for count in range(64):
            peer.send_frame("number", count)
        assert peer.recv_frame() == [ACK, total, None]


def test_256_kib_are_acknowledged(page: Page, peers: RawPeers, no_late_acks: None) -> None:
    peer = welcomed(page, peers)
    for total in (3, 6):
        for _ in range(3):
            peer.send_frame("big", "x" * 100_000)
        assert peer.recv_frame() == [ACK, total, None]


def test_fewer_frames_are_acknowledged_a_second_after_the_first(
    page: Page, peers: RawPeers
) -> None:
    peer = welcomed(page, peers)
    acked = threading.Event()
    began = time.monotonic()

    def receive() -> tuple[list[Any], float]:
        frame = peer.recv_frame()
        acked.set()
        return frame, time.monotonic() - began

    receiving = Thread(receive)
    sent = 0
    # Each frame would put it off, if it were a second after the last.
    while sent < 60 and not acked.wait(0.1):
        peer.send_frame("number", sent)
        sent += 1
    (type, count, stamp), elapsed = receiving.result()
    assert (type, stamp) == (ACK, None)
    assert 1 < count <= sent < 60
    assert elapsed > 0.9


def test_acknowledgements_are_never_acknowledged(page: Page, peers: RawPeers) -> None:
    peer = welcomed(page, peers)
    page.run("client.send('news')")
    assert peer.recv_frame()[0] == "news"
    for _ in range(200):
        peer.send_frame(ACK, 1)
    peer.send_frame("number", 1)
    assert peer.recv_frame() == [ACK, 1, None]


@pytest.mark.parametrize(
    "frame",
    [
        ["ignored", 1],
        ["echo", 1, "1"],
        ["unknown", 1, "1"],
        [RESPONSE, 1, "nobody waits"],
        [RESPONSE_ERR, {"code": "x"}, "nobody waits"],
    ],
    ids=repr,
)
def test_frames_of_every_kind_count(
    page: Page, peers: RawPeers, no_late_acks: None, frame: list[Any]
) -> None:
    peer = welcomed(page, peers)
    page.run("client.register('echo', (payload) => payload)")
    for _ in range(64):
        peer.send_frame(*frame)
    assert next_ack(peer) == 64


def test_what_is_read_up_to_the_welcome_does_not_count(page: Page, peers: RawPeers) -> None:
    connecting = page.start(
        "make(...a); client.challenge(() => 'solution'); return client.connect()",
        peers.url,
        {**NEVER, **PATIENT},
    )
    peer = peers.next()
    peer.send_frame(CHALLENGE, "quest")
    peer.send_frame("number", 0)
    hi, solution = peer.recv_frame(), peer.recv_frame()
    assert (hi[0], solution[:2]) == ("~wse:hi", [CHALLENGE, "solution"])
    session = {"id": "secret", "resumed": False, "received": 0, "window": 60.0}
    peer.send_frame(WELCOME, None, {"v": 1, "cid": "ann", "session": session})
    connecting.result()
    peer.send_frame("number", 1)
    assert peer.recv_frame() == [ACK, 1, None]


def test_before_a_goodbye_it_says_what_it_has(
    page: Page, peers: RawPeers, no_late_acks: None
) -> None:
    peer = welcomed(page, peers)
    for count in range(3):
        peer.send_frame("number", count)
    page.wait_for("log.filter(([name]) => name === 'ignored').length === 3")
    page.start("await client.disconnect()")
    assert peer.recv_frame() == [ACK, 3, None]
    assert peer.recv_close() == (1000, "wse.by-client")


@pytest.mark.parametrize("count", [3, 0, -1, True, 1.5, "1", None, [1], {"n": 1}, 2**70], ids=repr)
def test_a_bad_acknowledgement_is_a_protocol_violation(
    page: Page, peers: RawPeers, count: Any
) -> None:
    peer = welcomed(page, peers)
    page.run("client.send('news', 1); client.send('news', 2)")
    assert [peer.recv_frame()[1] for _ in range(2)] == [1, 2]
    peer.send_frame(ACK, 1)
    peer.send_frame(ACK, count)
    assert peer.recv_close() == VIOLATED
    page.wait_for("client.status === 'OFFLINE'")
    assert page.log("error")[0]["code"] == WSE_ERROR.PROTOCOL_VIOLATION


def test_an_acknowledgement_that_says_nothing_new_is_none(page: Page, peers: RawPeers) -> None:
    peer = welcomed(page, peers)
    peer.send_frame(ACK, 0)
    page.run("client.send('news')")
    assert peer.recv_frame()[0] == "news"
    for count in (0, 1, 1):
        peer.send_frame(ACK, count)
    page.run("client.send('more')")
    assert peer.recv_frame()[0] == "more"


# Resuming


@pytest.mark.parametrize("code", RETRY_CODES)
def test_after_a_retry_code_the_client_asks_for_its_session(
    page: Page, peers: RawPeers, code: int
) -> None:
    peer = welcomed(page, peers, QUICK)
    call = page.start("return client.call('any')")
    _, _, stamp = peer.recv_frame()
    for count in range(3):
        peer.send_frame("number", count)
    page.wait_for("log.filter(([name]) => name === 'ignored').length === 3")
    if code == 1006:
        peer.abort()
    else:
        body = b"" if code == 1005 else code.to_bytes(2, "big")
        peer.socket.sendall(bytes([0x88, len(body)]) + body)
        peer.recv_close()
    back = peers.next()
    hi = back.grant(resumed=True, received=1)
    assert hi["wse"] == {"v": 1, "session": {"id": "secret", "received": 3}}
    assert not call.is_done
    back.send_frame(RESPONSE, "result", stamp)
    assert call.result() == "result"
    assert len(page.log("closed")) == 1


@pytest.mark.parametrize("code", FINAL_CODES)
def test_after_a_final_code_the_client_has_no_session(
    page: Page, peers: RawPeers, code: int
) -> None:
    peer = welcomed(page, peers, QUICK)
    call = page.start("return client.call('any')")
    peer.recv_frame()
    peer.close(code, "why")
    error = refused(call.result)
    assert error.code == WSE_ERROR.RP_DISCONNECT
    assert error.details["disconnected"] == [code, "why"]
    page.wait_for("client.status === 'OFFLINE'")
    again = page.start("return client.connect('ann')")
    assert peers.next().grant("another")["wse"] == {"v": 1, "session": None}
    again.result()


def test_the_client_sends_again_what_the_server_has_not_received(
    page: Page, peers: RawPeers
) -> None:
    peer = welcomed(page, peers, QUICK)
    page.run("for (let n = 0; n < 5; n++) client.send('number', n)")
    assert [peer.recv_frame()[1] for _ in range(5)] == list(range(5))
    peer.send_frame(ACK, 2)
    peer.send_frame("seen")
    page.wait_for("log.some(([name]) => name === 'ignored')")
    peer.abort()
    back = peers.next()
    page.run("client.send('number', 5)")
    back.grant(resumed=True, received=3)
    assert [back.recv_frame()[1] for _ in range(3)] == [3, 4, 5]
    back.send_frame(ACK, 6)
    page.run("client.send('number', 6)")
    assert back.recv_frame() == ["number", 6, None]
    back.send_frame(ACK, 7)
    page.run("client.send('number', 7)")
    assert back.recv_frame() == ["number", 7, None]


def test_a_link_that_resumes_may_be_lost_at_once_again_and_again(
    page: Page, peers: RawPeers
) -> None:
    peer = welcomed(page, peers, QUICK)
    page.run("for (let n = 0; n < 4; n++) client.send('number', n)")
    for received in range(4):
        peer.abort()
        peer = peers.next()
        peer.grant(resumed=True, received=received)
        numbers = [peer.recv_frame()[1] for _ in range(4 - received)]
        assert numbers == list(range(received, 4))
    assert page.log("error") == []


@pytest.mark.parametrize("received", [6, 1, -1, None, "5"])
def test_a_welcome_with_a_count_that_cannot_be_is_a_protocol_violation(
    page: Page, peers: RawPeers, received: Any
) -> None:
    peer = welcomed(page, peers, QUICK)
    call = page.start("return client.call('any')")
    peer.recv_frame()
    page.run("for (let n = 0; n < 4; n++) client.send('number', n)")
    for _ in range(4):
        peer.recv_frame()
    peer.send_frame(ACK, 2)
    peer.send_frame("seen")
    page.wait_for("log.some(([name]) => name === 'ignored')")
    peer.abort()
    back = peers.next()
    back.grant(resumed=True, received=received)
    assert back.recv_close() == VIOLATED
    page.wait_for("client.status === 'OFFLINE'")
    codes = [error["code"] for error in page.log("error")]
    assert codes == [WSE_ERROR.PROTOCOL_VIOLATION, WSE_ERROR.CONNECTION_CLOSED]
    assert refused(call.result).code == WSE_ERROR.RP_DISCONNECT


def test_a_welcome_that_resumes_what_was_not_asked_for_is_a_protocol_violation(
    page: Page, peers: RawPeers
) -> None:
    connecting = page.start(CONNECT, peers.url, QUICK)
    peer = peers.next()
    peer.grant(resumed=True)
    assert peer.recv_close() == VIOLATED
    assert refused(connecting.result).code == WSE_ERROR.CONNECTION_CLOSED


@pytest.mark.parametrize("base", [False, True], ids=["fresh", "forgot sessions"])
def test_39_when_the_session_is_over_calls_fail_and_lost_messages_are_reported(
    page: Page, peers: RawPeers, base: bool
) -> None:
    peer = welcomed(page, peers, QUICK)
    page.run("""
        window.open = []
        client.register("wait", () => new Promise((resolve) => open.push(resolve)))
    """)
    written = page.start("return client.call('written')")
    page.run("for (const type of ['news', 'news', 'more']) client.send(type)")
    for _ in range(4):
        peer.recv_frame()
    peer.send_frame("wait", None, "1")
    peer.send_frame("wait", None, "2")
    peer.send_frame(ACK, 2)
    page.wait_for("open.length === 2")
    peer.abort()
    page.wait_for("client.status === 'RE_CONNECTING'")
    page.run("open[0]()")
    unwritten = page.start("client.send('late'); return client.call('unwritten')")
    back = peers.next()
    assert not written.is_done
    if base:
        back.welcome()
    else:
        back.grant("another")
    error = refused(written.result)
    assert error.code == WSE_ERROR.RP_DISCONNECT
    assert error.details == {"rp": "written", "disconnected": [1006, "wse.session-expired"]}
    assert back.recv_frame() == ["late", None, None]
    name, _, stamp = back.recv_frame()
    back.send_frame(RESPONSE, name, stamp)
    assert unwritten.result() == "unwritten"
    (lost,) = page.log("error")
    assert lost["code"] == WSE_ERROR.CONNECTION_CLOSED
    assert lost["details"] == {"messages": ["news", "more"]}
    # An answer belongs to the session of its call, whenever it is ready.
    page.run("open[1](); await null; client.send('end')")
    assert back.recv_frame() == ["end", None, None]
    if not base:
        back.send_frame(ACK, 1)
        for _ in range(63):
            back.send_frame("number", 0)
        assert back.recv_frame() == [ACK, 64, None]


def test_an_answer_waits_for_the_next_link(page: Page, peers: RawPeers) -> None:
    peer = welcomed(page, peers, QUICK)
    page.run("client.register('wait', () => new Promise((resolve) => (window.finish = resolve)))")
    peer.send_frame("wait", None, "1")
    page.wait_for("window.finish")
    peer.abort()
    page.wait_for("client.status === 'RE_CONNECTING'")
    page.run("finish('late')")
    back = peers.next()
    back.grant(resumed=True)
    assert back.recv_frame() == [RESPONSE, "late", "1"]


def test_a_bound_holds_also_while_the_link_is_up(page: Page, peers: RawPeers) -> None:
    peer = welcomed(page, peers)
    count = page.run("""
        let count = 0
        try {
            for (;;) client.send("number", count++)
        } catch (error) {
            return [count - 1, error.code]
        }
    """)
    assert count == [10_000, WSE_ERROR.CONNECTION_NOT_READY]
    for _ in range(10_000):
        peer.recv_frame()
    peer.send_frame(ACK, 10_000)
    page.wait_for("(() => { try { client.send('more'); return true } catch {} })()")
    assert peer.recv_frame()[0] == "more"


def test_40_the_session_comes_back_in_the_same_order_with_frames_in_the_lane(
    page: Page, peers: RawPeers
) -> None:
    """What was counted on the old link is handled, once, before what the new one brings."""
    peer = welcomed(page, peers, QUICK)
    page.run("""
        const gate = new Promise((resolve) => (window.open = resolve))
        client.channel.on("number", async (payload) => {
            await gate
            log.push(["number", payload])
        })
    """)
    for count in range(3):
        peer.send_frame("number", count)
    peer.send_frame(RESPONSE, None, "nobody waits")
    page.wait_for("client.status === 'READY'")
    page.run("client.send('here')")
    peer.recv_frame()
    peer.abort()
    back = peers.next()
    hi = back.grant(resumed=True, received=1)
    for count in range(hi["wse"]["session"]["received"], 6):
        back.send_frame("number", count)
    page.run("open()")
    page.wait_for("log.filter(([name]) => name === 'number').length >= 5")
    numbers = page.log("number")
    assert numbers == sorted(set(numbers))
