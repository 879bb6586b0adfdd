"""The life of the browser's client: lost links, other servers, and the end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser.conftest import OpenPage
from tests.browser.support import Page, ScriptError
from tests.browser.test_client import CONNECT, NEVER, QUICK, refused
from tests.conftest import MakeRawServer, MakeServer
from tests.faults import FaultProxy
from tests.support import (
    RawPeer,
    Recorder,
    connection_of,
    payloads,
    story,
    wait_event,
    wait_until,
)
from wse_sync import WSE_ERROR, AuthRequest, WseConnection, WseServer
from wse_sync.constants import RETRY_CODES


class Pair:
    """A server, a page whose client reconnects, and a proxy between them."""

    def __init__(self, server: WseServer, page: Page, **options: Any) -> None:
        self.server = server
        self.page = page
        self.story = story(server)
        self.proxy = FaultProxy(server.url)
        page.run(CONNECT, f"{self.proxy.url}ws", {**QUICK, **options})
        self.story.wait_for(2)
        self.conn = connection_of(server)

    def cut(self) -> None:
        """Cuts the link, lets none come after it, and waits until both ends know."""
        self.proxy.refuse()
        self.proxy.cut(reset=True)
        self.story.wait_until(lambda items: items[-1:] == ["suspended"])
        self.page.wait_for("client.status === 'RE_CONNECTING'")

    def back(self) -> None:
        """Lets links come again, and waits until the session goes on."""
        self.proxy.admit()
        self.story.wait_until(lambda items: items[-1:] == ["resumed"])
        self.page.wait_for("client.status === 'READY'")


@pytest.fixture
def pair(make_site: MakeServer, open_page: OpenPage) -> Iterator[Pair]:
    server = make_site(origins="*")
    pair = Pair(server, open_page(server, "open"))
    with pair.proxy:
        yield pair
        pair.page.run("await client.disconnect()")


def test_30_32_38_handlers_procedures_and_calls_outlive_the_link(pair: Pair) -> None:
    release = threading.Event()
    runs = Recorder()

    @pair.server.register("wait")
    def wait(conn: WseConnection, payload: Any) -> Any:
        runs.add(payload)
        wait_event(release)
        return payload

    page = pair.page
    page.run("client.register('echo', (payload) => payload)")
    page.run("client.channel.on('number', (payload) => log.push(['number', payload]))")
    call = page.start("return client.call('wait', 1)")
    runs.wait_for(1)
    pair.cut()
    pair.conn.send("number", 1)
    release.set()
    queued = page.start("client.send('news', 1); return client.call('wait', 2)")
    pair.back()
    assert (call.result(), queued.result()) == (1, 2)
    assert runs.items == [1, 2]
    assert pair.conn.call("echo", 3) == 3
    assert page.log("number") == [1]
    assert page.log("updated") == ["CONNECTING", "READY", "RE_CONNECTING", "READY"]
    assert [code for code, _ in page.log("closed")] == [1006]
    assert pair.story.items == ["joined", "connected", "suspended", "resumed"]


def test_without_reconnect_a_lost_link_is_the_end(
    make_site: MakeServer, open_page: OpenPage
) -> None:
    server = make_site(origins="*")
    page = open_page(server, "open")
    with FaultProxy(server.url) as proxy:
        page.run(CONNECT, f"{proxy.url}ws")
        proxy.cut()
        page.wait_for("client.status === 'OFFLINE'")
        for attempt in ("client.send('news')", "return client.call('any')"):
            error = refused(lambda: page.run(attempt))  # noqa: B023
            assert error.code == WSE_ERROR.CONNECTION_NOT_READY
        assert proxy.accepted == 1
        # It may connect again, as somebody else.
        assert page.run("return client.connect('bob')") == {"hello": "bob"}
        assert page.run("return client.cid") == "bob"


def test_what_is_not_connected_sends_nothing(make_site: MakeServer, open_page: OpenPage) -> None:
    page = open_page(make_site())
    page.run("make('/ws', { reconnect: true })")
    for attempt in ("client.send('news')", "return client.call('any')"):
        assert refused(lambda: page.run(attempt)).code == WSE_ERROR.CONNECTION_NOT_READY  # noqa: B023
    page.run("client.connect('ann'); window.early = null")
    page.run("try { client.send('news') } catch (error) { early = error.code }")
    page.run("return client.connect('ann').catch((error) => log.push(['twice', error.code]))")
    assert page.log("twice") == [WSE_ERROR.CLIENT_ALREADY_CONNECTED]


def test_31_it_dials_again_with_a_backoff_that_starts_over(
    make_site: MakeServer, open_page: OpenPage, make_raw_server: MakeRawServer
) -> None:
    def script(peer: RawPeer) -> None:
        if peer.number not in (5, 7):
            peer.reject(503)
            return
        peer.accept()
        peer.welcome(peer.number)
        if peer.number == 7:
            peer.recv_close()

    raw = make_raw_server(script, accept=False)
    page = open_page(make_site(), "open")
    page.run(
        """
        window.waits = []
        const { setTimeout } = window
        window.setTimeout = (run, ms) => {
            if (ms < 1000) waits.push(ms)
            return setTimeout(run, ms < 1000 ? 1 : ms)
        }
        Math.random = () => 1
        make(...a)
        client.connect()
        """,
        raw.url,
        {**QUICK, "backoff": {"initial": 8, "maximum": 40}},
    )
    page.wait_for("log.some(([name, welcome]) => name === 'ready' && welcome === 7)")
    assert page.run("return waits") == [8, 16, 32, 40, 40, 8, 16]
    page.run("await client.disconnect()")


def test_31_the_wait_is_drawn_from_all_of_its_range(
    make_site: MakeServer, open_page: OpenPage
) -> None:
    page = open_page(make_site())
    page.run("""
        window.waits = []
        const { setTimeout } = window
        window.setTimeout = (run, ms) => {
            if (ms < 1000) waits.push(ms)
            return setTimeout(run, ms < 1000 ? 1 : ms)
        }
        // A browser slows down who fails too often.
        window.WebSocket = class {
            constructor() { Promise.resolve().then(() => this.onclose({ code: 1006, reason: "" })) }
            close() {}
        }
        make("/ws", { reconnect: true, backoff: { initial: 900, factor: 1 } })
        client.connect().catch(() => 0)
    """)
    page.wait_for("waits.length > 60")
    page.run("await client.disconnect()")
    waits = page.run("return waits")
    assert min(waits) < 300
    assert 600 < max(waits) < 900


@pytest.mark.parametrize("code", sorted(RETRY_CODES - {1005, 1006}))
def test_31_it_comes_back_after_a_retry_code(
    make_site: MakeServer, open_page: OpenPage, make_raw_server: MakeRawServer, code: int
) -> None:
    def script(peer: RawPeer) -> None:
        peer.welcome(peer.number)
        if peer.number == 0:
            peer.close(code, "later")
        else:
            peer.recv_close()

    raw = make_raw_server(script)
    page = open_page(make_site(), "open")
    page.run(CONNECT, raw.url, QUICK)
    page.wait_for("log.filter(([name]) => name === 'ready').length === 2")
    assert page.log("closed") == [[code, "later"]]
    page.run("await client.disconnect()")


@pytest.mark.parametrize("code", [1000, 1002, 1008, 1009, 3000, 4000])
def test_31_it_stays_away_after_any_other_code(
    make_site: MakeServer, open_page: OpenPage, make_raw_server: MakeRawServer, code: int
) -> None:
    def script(peer: RawPeer) -> None:
        peer.welcome()
        peer.close(code, "why")

    raw = make_raw_server(script)
    page = open_page(make_site(), "open")
    page.run(CONNECT, raw.url, QUICK)
    page.wait_for("client.status === 'OFFLINE'")
    assert page.log("closed") == [[code, "why"]]
    assert raw.connections == 1


def test_closed_before_the_welcome(
    make_site: MakeServer, open_page: OpenPage, make_raw_server: MakeRawServer
) -> None:
    def script(peer: RawPeer) -> None:
        peer.recv_frame()
        peer.close(1000, "why")

    page = open_page(make_site(), "open")
    error = refused(lambda: page.run(CONNECT, make_raw_server(script).url, QUICK))
    assert error.code == WSE_ERROR.CONNECTION_CLOSED
    assert error.details == {"closed": [1000, "why"]}


def test_with_reconnect_it_goes_on_trying_until_there_is_a_server(
    make_site: MakeServer, open_page: OpenPage
) -> None:
    server = make_site(origins="*")
    page = open_page(server, "open")
    with FaultProxy(server.url) as proxy:
        proxy.refuse()
        connecting = page.start(CONNECT, f"{proxy.url}ws", QUICK)
        wait_until(lambda: proxy.accepted >= 3, "attempts")
        assert page.run("return client.status") == "CONNECTING"
        proxy.admit()
        assert connecting.result() == {"hello": "ann"}
        assert page.log("updated") == ["CONNECTING", "READY"]
        assert page.log("closed") == []


def test_the_browser_that_is_online_again_ends_the_wait(
    make_site: MakeServer, open_page: OpenPage
) -> None:
    server = make_site(origins="*")
    page = open_page(server, "open")
    with FaultProxy(server.url) as proxy:
        page.run(CONNECT, f"{proxy.url}ws", NEVER)
        proxy.cut()
        page.wait_for("client.status === 'RE_CONNECTING'")
        page.run("dispatchEvent(new Event('online'))")
        page.wait_for("client.status === 'READY'")
        page.run("dispatchEvent(new Event('online'))")
        page.run("await client.disconnect()")
        page.run("dispatchEvent(new Event('online'))")
        assert proxy.accepted == 2


# Silence


@pytest.fixture
def acks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server acknowledges without delay, so that silence may be short."""
    monkeypatch.setattr("wse_sync.core.delivery.ACK_SECONDS", 0.0)


def test_35_a_link_that_went_silent_is_left_and_the_session_goes_on(
    make_site: MakeServer, open_page: OpenPage, acks_at_once: None
) -> None:
    server = make_site(origins="*")
    page = open_page(server, "open")
    pair = Pair(server, page, pingTimeout=2000)
    numbers = payloads(server)
    with pair.proxy as proxy:
        proxy.stall()
        page.run("client.send('number', 1)")
        # The next link gets through.
        page.wait_for("log.filter(([name]) => name === 'ready').length === 2")
        assert numbers.wait_for(1) == [1]
        assert page.log("closed") == [[1006, ""]]
        page.run("await client.disconnect()")


def test_35_a_link_without_messages_is_kept(
    make_site: MakeServer, open_page: OpenPage, acks_at_once: None
) -> None:
    server = make_site()
    wrong = Recorder()
    server.when.error(wrong)
    server.when.ignored(wrong)
    page = open_page(server)
    page.run(CONNECT, "/ws", {"reconnect": True, "pingTimeout": 2000})
    conn = connection_of(server)
    wait_until(lambda: conn.session.received >= 3, "probes")
    assert page.log("closed") == []
    assert wrong.items == []
    page.run("await client.disconnect()")


# Other servers


def test_33_jump_moves_a_live_client(make_site: MakeServer, open_page: OpenPage) -> None:
    asked = Recorder()

    def identify(auth: AuthRequest) -> None:
        asked.add((auth.identity, auth.meta))
        auth.accept(auth.identity, "second")

    first, second = make_site(origins="*"), make_site(identify, origins="*")
    heard = story(first, "disconnected")
    second.register("echo", lambda conn, payload: payload)
    page = open_page(first, "open")
    page.run("make(a[0]); await client.connect('ann', { tab: 1 })", first.url)
    page.run("client.register('whoami', () => client.cid)")
    waiting = page.start("return client.call('unknown', 1, { timeout: null })")
    with pytest.raises(ScriptError):
        waiting.result()
    assert page.run("return client.jump(a[0])", second.url) == "second"
    assert heard.wait_for(1) == [("disconnected", 4000, "jump")]
    assert page.run("return client.call('echo', 1)") == 1
    assert connection_of(second).call("whoami") == "ann"
    assert page.log("closed") == [[4000, "jump"]]
    assert page.log("updated") == ["CONNECTING", "READY", "CONNECTING", "READY"]
    page.run("return client.jump(a[0], { identity: 'bob' })", second.url)
    page.run("return client.jump(a[0], { meta: { tab: 2 } })", second.url)
    assert asked.items == [("ann", {"tab": 1}), ("bob", {"tab": 1}), ("bob", {"tab": 2})]
    assert page.run("return client.url") == second.url


def test_33_on_an_idle_client_jump_connects(make_site: MakeServer, open_page: OpenPage) -> None:
    server = make_site()
    page = open_page(server)
    script = "make('/nowhere'); return client.jump('/ws', { identity: 'ann' })"
    assert page.run(script) == {"hello": "ann"}
    page.run("await client.disconnect()")
    assert page.run("return client.jump('/ws')") == {"hello": "ann"}


def test_33_a_jump_ends_what_was_going_on(make_site: MakeServer, open_page: OpenPage) -> None:
    server = make_site()
    page = open_page(server)
    connecting = page.start("make('/nowhere', a[0]); return client.connect('ann')", NEVER)
    page.run("client.when.closed(() => 0)")
    assert page.run("return client.jump('/ws')") == {"hello": "ann"}
    assert refused(connecting.result).code == WSE_ERROR.CONNECTION_CLOSED
    assert page.run("return client.status") == "READY"


def test_33_a_jump_between_links_gives_up_what_waits(pair: Pair, make_site: MakeServer) -> None:
    other = make_site(origins="*")
    pair.cut()
    call = pair.page.start("client.send('news'); return client.call('any', 1, { timeout: null })")
    pair.page.run("return client.jump(a[0])", other.url)
    assert refused(call.result).details == {"rp": "any", "disconnected": [4000, "jump"]}
    (error,) = pair.page.log("error")
    assert error["code"] == WSE_ERROR.CONNECTION_CLOSED
    assert error["details"] == {"messages": ["news"]}


def test_a_jump_to_no_url_leaves_everything_as_it_was(
    make_site: MakeServer, open_page: OpenPage
) -> None:
    page = open_page(make_site())
    page.run(CONNECT, "/ws")
    refused(lambda: page.run("return client.jump('http://[')"))
    assert page.run("return client.status") == "READY"


# The end


def test_34_disconnect_says_why_and_waits_until_the_link_is_closed(
    make_site: MakeServer, open_page: OpenPage
) -> None:
    server = make_site()
    heard = story(server, "disconnected", "left")
    numbers = payloads(server)
    page = open_page(server)
    page.run(CONNECT, "/ws", QUICK)
    page.run("""
        for (let n = 0; n < 100; n++) client.send("number", n)
        await client.disconnect("bye")
    """)
    assert heard.wait_for(2) == [("disconnected", 1000, "bye"), ("left", 1000, "bye")]
    assert numbers.wait_for(100) == list(range(100))
    page.run("await client.disconnect('again')")
    assert page.log("updated") == ["CONNECTING", "READY", "OFFLINE"]
    assert page.log("closed") == [[1000, "bye"]]
    assert page.log("error") == []
    page.run("return client.connect('ann')")


@pytest.mark.parametrize(
    ("reason", "told"),
    [("x" * 130, "x" * 123), ("é☃" * 30, "é☃" * 24 + "é"), ("😀" * 40, "😀" * 30), ("", "")],
    ids=["long", "accents", "emoji", "empty"],
)
def test_34_a_reason_that_is_too_long_is_cut_between_characters(
    make_site: MakeServer, open_page: OpenPage, reason: str, told: str
) -> None:
    server = make_site()
    heard = story(server, "disconnected")
    page = open_page(server)
    page.run(CONNECT, "/ws")
    page.run("await client.disconnect(a[0])", reason)
    assert heard.wait_for(1) == [("disconnected", 1000, told)]


def test_34_disconnect_ends_an_attempt(
    make_site: MakeServer, open_page: OpenPage, make_raw_server: MakeRawServer
) -> None:
    release = threading.Event()
    page = open_page(make_site(), "open")
    for accept in (True, False):
        raw = make_raw_server(lambda peer: wait_event(release), accept=accept)
        connecting = page.start(CONNECT, raw.url, QUICK)
        wait_until(lambda: raw.connections)  # noqa: B023
        page.run("client.disconnect()")
        assert refused(connecting.result).code == WSE_ERROR.CONNECTION_CLOSED
        assert page.run("return client.status") == "OFFLINE"
    release.set()


@pytest.mark.parametrize("where", ["identity", "solver"])
def test_34_disconnect_ends_an_attempt_that_waits_for_the_page(
    make_site: MakeServer, open_page: OpenPage, where: str
) -> None:
    server = make_site()
    server.use_challenge(lambda auth: "quest")
    heard = story(server)
    page = open_page(server)
    connecting = page.start(
        """
        make("/ws", a[1])
        const asked = () => new Promise((resolve) => (window.answer = resolve))
        client.challenge(asked)
        return client.connect(a[0] === "identity" ? asked : "ann")
        """,
        where,
        QUICK,
    )
    page.wait_for("window.answer")
    page.run("await client.disconnect()")
    assert refused(connecting.result).code == WSE_ERROR.CONNECTION_CLOSED
    page.run("answer('late'); client.challenge(() => 'solution')")
    assert page.run("return client.connect('ann')") == {"hello": "ann"}
    assert heard.wait_for(2) == ["joined", "connected"]


def test_34_disconnect_ends_the_wait_before_the_next_attempt(
    make_site: MakeServer, open_page: OpenPage
) -> None:
    page = open_page(make_site())
    connecting = page.start(CONNECT, "/nowhere", QUICK)
    wait_until(lambda: len(page.console()) or True)
    page.run("await client.disconnect()")
    assert refused(connecting.result).code == WSE_ERROR.CONNECTION_CLOSED
    assert page.run("return client.status") == "OFFLINE"


def test_34_disconnect_on_an_idle_client_is_nothing(
    make_site: MakeServer, open_page: OpenPage
) -> None:
    page = open_page(make_site())
    page.run("make('/ws'); await client.disconnect()")
    assert page.run("return [client.status, log]") == ["IDLE", []]


def test_34_a_handler_may_disconnect(make_site: MakeServer, open_page: OpenPage) -> None:
    server = make_site()
    heard = story(server, "disconnected")
    page = open_page(server)
    page.run(CONNECT, "/ws", QUICK)
    page.run("client.channel.on('leave', () => client.disconnect('told to'))")
    connection_of(server).send("leave")
    assert heard.wait_for(1) == [("disconnected", 1000, "told to")]


def test_34_disconnect_does_not_wait_for_a_server_that_is_gone(pair: Pair) -> None:
    pair.proxy.stall()
    pair.page.run("await client.disconnect()")
    assert pair.page.run("return client.status") == "OFFLINE"


def test_34_what_waited_for_a_link_is_reported_when_none_will_come(pair: Pair) -> None:
    pair.cut()
    pair.page.run("for (const type of ['news', 'news', 'more']) client.send(type)")
    call = pair.page.start("return client.call('any', 1, { timeout: null })")
    pair.page.run("await client.disconnect()")
    assert refused(call.result).code == WSE_ERROR.RP_DISCONNECT
    (error,) = pair.page.log("error")
    assert error["details"] == {"messages": ["news", "news", "more"]}


def test_a_page_that_is_left_for_good_ends_its_session(
    make_site: MakeServer, open_page: OpenPage
) -> None:
    server = make_site()
    heard = story(server, "suspended", "disconnected", "left")
    page = open_page(server)
    page.run(CONNECT, "/ws", QUICK)
    page.run("location.reload()")
    told = (1000, "wse.by-client")
    assert heard.wait_for(2) == [("disconnected", *told), ("left", *told)]


def test_a_page_that_the_browser_keeps_leaves_its_link_and_resumes_when_it_is_back(
    make_site: MakeServer, open_page: OpenPage
) -> None:
    server = make_site()
    heard = story(server)
    page = open_page(server)
    page.run(CONNECT, "/ws", QUICK)
    page.run("addEventListener('pageshow', ({ persisted }) => log.push(['kept', persisted]))")
    page.close()
    heard.wait_until(lambda items: "suspended" in items)
    connection_of(server).send("news")
    page.back()
    page.wait_for("log.some(([name]) => name === 'ignored')")
    assert page.log("kept") == [True]
    assert heard.items == ["joined", "connected", "suspended", "resumed"]


def test_a_call_that_is_forgotten_between_links_is_never_sent(pair: Pair) -> None:
    runs = Recorder()
    pair.server.register("note", lambda conn, payload: runs.add(payload))
    pair.cut()
    pair.page.run("window.controller = new AbortController()")
    late = pair.page.start("return client.call('note', 'late', { timeout: 10 })")
    gone = pair.page.start("return client.call('note', 'gone', { signal: controller.signal })")
    kept = pair.page.start("return client.call('note', 'kept')")
    assert refused(late.result).code == WSE_ERROR.RP_TIMEOUT
    pair.page.run("controller.abort()")
    assert refused(gone.result).name == "AbortError"
    pair.back()
    kept.result()
    assert runs.items == ["kept"]


# Bounds


def test_what_waits_for_a_link_is_bounded(pair: Pair) -> None:
    numbers = payloads(pair.server)
    pair.cut()
    count = pair.page.run("""
        let count = 0
        try {
            for (;;) client.send("number", count++)
        } catch (error) {
            if (error.code !== "wse.client.not-ready") throw error
        }
        return count - 1
    """)
    assert count == 10_000
    call = "return client.call('any')"
    assert refused(lambda: pair.page.run(call)).code == WSE_ERROR.CONNECTION_NOT_READY
    pair.back()
    assert numbers.wait_for(10_000) == list(range(10_000))
    pair.page.wait_for("(() => { try { client.send('number', 0); return true } catch {} })()")


def test_the_characters_that_wait_are_bounded(pair: Pair) -> None:
    big = payloads(pair.server, "big")
    pair.cut()
    sent = pair.page.run("""
        const payload = "x".repeat(2 ** 20)
        let sent = 0
        try {
            for (;;) {
                client.send("big", payload)
                sent++
            }
        } catch (error) {
            if (error.code !== "wse.client.not-ready") throw error
        }
        return sent
    """)
    assert sent == 7
    pair.back()
    assert len(big.wait_for(7)) == 7


def test_what_the_browser_has_not_sent_is_bounded_without_a_session(
    make_site: MakeServer, open_page: OpenPage, make_raw_server: MakeRawServer
) -> None:
    def script(peer: RawPeer) -> None:
        peer.welcome()
        peer.recv_close()

    page = open_page(make_site(), "open")
    page.run(CONNECT, make_raw_server(script).url)
    sent = page.run("""
        const payload = "x".repeat(2 ** 20)
        for (let sent = 0; ; sent++)
            try {
                client.send("big", payload)
            } catch (error) {
                return [sent, error.code]
            }
    """)
    assert sent == [8, WSE_ERROR.CONNECTION_NOT_READY]
    page.wait_for("(() => { try { client.send('more'); return true } catch {} })()")
    page.run("await client.disconnect()")


def test_a_single_message_may_be_as_long_as_it_likes(pair: Pair) -> None:
    big = payloads(pair.server, "big")
    pair.page.run("client.send('big', 'x'.repeat(10 * 2 ** 20))")
    assert len(big.wait_for(1)[0]) == 10 * 2**20


def test_too_much_that_waits_for_a_handler_ends_the_link_and_loses_nothing(pair: Pair) -> None:
    page = pair.page
    page.run("""
        window.sizes = []
        const gate = new Promise((resolve) => (window.proceed = resolve))
        client.channel.on("big", async (payload) => {
            await gate
            sizes.push(payload.length)
        })
    """)
    for _ in range(12):
        pair.conn.send("big", "x" * 2**20)
    page.wait_for("log.some(([name]) => name === 'closed')")
    page.run("proceed()")
    page.wait_for("sizes.length >= 12")
    assert page.run("return sizes") == [2**20] * 12
    assert {tuple(closed) for closed in page.log("closed")} == {(1013, "wse.slow-consumer")}
    assert "disconnected" not in [item[0] for item in pair.story.items]
