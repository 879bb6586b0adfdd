"""Promises 30 to 36: a client's states, its reconnects, its moves, its end."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, Callable

import pytest

from tests.conftest import Connect, MakeClient, MakeRawServer, MakeServer
from tests.faults import FaultProxy
from tests.programs import Program
from tests.support import (
    NEVER,
    PATIENCE,
    QUICK,
    RESPONSE,
    RawPeer,
    Recorder,
    Thread,
    accept_all,
    pass_time,
    wait_event,
    wait_until,
)
from wse_sync import (
    WSE_ERROR,
    WSE_STATUS,
    AuthRequest,
    Backoff,
    WseClient,
    WseError,
)
from wse_sync.channel import Channel
from wse_sync.life import Life
from wse_sync.link import Link

IDLE, CONNECTING, READY = WSE_STATUS.IDLE, WSE_STATUS.CONNECTING, WSE_STATUS.READY
RE_CONNECTING, OFFLINE = WSE_STATUS.RE_CONNECTING, WSE_STATUS.OFFLINE

RETRY_CODES = [1001, 1005, 1006, 1011, 1012, 1013, 1014]
FINAL_CODES = [1002, 1003, 1007, 1008, 1009, 1010, 3000, 4000, 4999]
REASONS = ["", "wse.by-server", "wse.clients-concurrency", "wse.protocol-error", "of our own"]


def statuses_of(client: WseClient) -> Recorder:
    """What `updated` says from now on, without the status that a new client begins with."""
    statuses = Recorder()

    def updated(status: WSE_STATUS) -> None:
        if status != IDLE:
            statuses.add(status)

    client.when.updated(updated)
    return statuses


def close_with(peer: RawPeer, code: int, reason: str = "") -> None:
    """Closes with any code, those that no library sends included."""
    if code == 1006:
        peer.abort()
        return
    body = b"" if code == 1005 else struct.pack("!H", code) + reason.encode()
    peer.socket.sendall(bytes([0x88, len(body)]) + body)
    peer.recv_close()


@contextlib.contextmanager
def silent_listener() -> Iterator[str]:
    """The URL of a port that takes TCP connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"ws://127.0.0.1:{listener.getsockname()[1]}/"


@contextlib.contextmanager
def swallowing_listener() -> Iterator[str]:
    """The URL of a port whose queue is full: it drops every further SYN."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield f"ws://127.0.0.1:{listener.getsockname()[1]}/"


def raised(thread: Thread[Any]) -> WseError:
    """The WseError with which a thread ended."""
    with pytest.raises(WseError) as caught:
        thread.result()
    return caught.value


# 30


def test_30_idle_connecting_ready_offline(make_server: MakeServer, make_client: MakeClient) -> None:
    decide = threading.Event()

    def identify(auth: AuthRequest) -> None:
        wait_event(decide)
        auth.accept("ann")

    client = make_client(make_server(identify))
    assert client.status == IDLE
    statuses = statuses_of(client)
    connecting = Thread(client.connect)
    assert statuses.wait_for(1) == [CONNECTING]
    assert client.status == CONNECTING
    decide.set()
    connecting.result()
    assert client.status == READY
    assert statuses.wait_for(2) == [CONNECTING, READY]
    client.disconnect()
    assert client.status == OFFLINE
    assert statuses.wait_for(3) == [CONNECTING, READY, OFFLINE]


def test_30_re_connecting_comes_between_two_links(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    with FaultProxy(make_server().url) as proxy:
        client = make_client(proxy.url, reconnect=True, backoff=QUICK)
        statuses = statuses_of(client)
        client.connect("ann")
        for links in (1, 2, 3):
            proxy.cut()
            statuses.wait_for(2 + 2 * links)
        client.disconnect()
        expected = [CONNECTING, READY, *[RE_CONNECTING, READY] * 3, OFFLINE]
        assert statuses.wait_for(len(expected)) == expected


def test_30_without_reconnect_a_lost_link_is_the_end(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    with FaultProxy(make_server().url) as proxy:
        client = make_client(proxy.url)
        statuses = statuses_of(client)
        client.connect("ann")
        assert not client.wait(0)
        proxy.cut()
        assert client.wait(PATIENCE)
        assert client.status == OFFLINE
        assert statuses.wait_for(3) == [CONNECTING, READY, OFFLINE]
        assert proxy.accepted == 1


def test_30_a_client_that_was_refused_is_offline(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    client = make_client(make_server(lambda auth: auth.refuse()))
    statuses = statuses_of(client)
    with pytest.raises(WseError):
        client.connect("ann")
    assert client.status == OFFLINE
    assert statuses.wait_for(2) == [CONNECTING, OFFLINE]


def test_30_a_client_that_reached_nobody_is_offline(make_client: MakeClient) -> None:
    with FaultProxy("ws://127.0.0.1:1/", listening=False) as proxy:
        client = make_client(proxy.url)
        statuses = statuses_of(client)
        with pytest.raises(ConnectionError) as caught:
            client.connect("ann")
        assert isinstance(caught.value, WseError)
        assert caught.value.code == WSE_ERROR.WS_CLIENT_ERROR
        assert client.status == OFFLINE
        assert statuses.wait_for(2) == [CONNECTING, OFFLINE]


def test_30_an_offline_client_may_connect_again(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    client = make_client(make_server())
    statuses = statuses_of(client)
    for _ in range(3):
        assert client.connect("ann") == {"hello": "ann"}
        client.disconnect()
    assert statuses.wait_for(9) == [CONNECTING, READY, OFFLINE] * 3


def test_30_the_status_is_set_before_updated_fires(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    client = make_client(make_server())
    seen = Recorder()
    client.when.updated(lambda status: seen.add((status, client.status)))
    client.connect("ann")
    assert (READY, READY) in seen.wait_until(lambda items: len(items) and items[-1][0] == READY)
    client.disconnect()
    seen.wait_until(lambda items: items[-1] == (OFFLINE, OFFLINE))


def test_30_a_status_is_its_word() -> None:
    assert [str(status) for status in (IDLE, CONNECTING, READY, RE_CONNECTING, OFFLINE)] == [
        "IDLE",
        "CONNECTING",
        "READY",
        "RE_CONNECTING",
        "OFFLINE",
    ]


# 31


@pytest.mark.parametrize("code", RETRY_CODES)
def test_31_reconnects_on_the_retry_codes(
    make_client: MakeClient, make_raw_server: MakeRawServer, code: int
) -> None:
    def script(peer: RawPeer) -> None:
        peer.welcome(peer.number)
        if peer.number < 3:
            close_with(peer, code, "" if code in (1005, 1006) else "try-again")
        else:
            peer.recv_close()

    client = make_client(make_raw_server(script), reconnect=True, backoff=QUICK)
    ready, closed = Recorder(), Recorder()
    client.when.ready(ready)
    client.when.closed(closed)
    assert client.connect("ann") == 0
    assert ready.wait_for(4) == [0, 1, 2, 3]
    lost = closed.wait_for(3)
    assert [each[0] for each in lost] == [code] * 3
    if code not in (1005, 1006):
        assert lost == [(code, "try-again")] * 3
    assert client.status == READY


@pytest.mark.parametrize("code", RETRY_CODES)
def test_31_reconnects_on_the_retry_codes_before_the_welcome_too(
    make_client: MakeClient, make_raw_server: MakeRawServer, code: int
) -> None:
    def script(peer: RawPeer) -> None:
        if peer.number < 2:
            peer.recv_frame()
            close_with(peer, code)
        else:
            peer.welcome("at last")
            peer.recv_close()

    server = make_raw_server(script)
    client = make_client(server, reconnect=True, backoff=QUICK)
    statuses = statuses_of(client)
    assert client.connect("ann") == "at last"
    assert server.connections == 3
    assert statuses.wait_for(2) == [CONNECTING, READY]


FINAL = [*((1000, reason) for reason in REASONS), *((code, "final") for code in FINAL_CODES)]


@pytest.mark.parametrize(("code", "reason"), FINAL)
def test_31_never_reconnects_on_1000_or_another_final_code(
    make_client: MakeClient, make_raw_server: MakeRawServer, code: int, reason: str
) -> None:
    def script(peer: RawPeer) -> None:
        peer.welcome()
        close_with(peer, code, reason)

    server = make_raw_server(script)
    client = make_client(server, reconnect=True, backoff=QUICK)
    statuses, closed = statuses_of(client), Recorder()
    client.when.closed(closed)
    client.connect("ann")
    assert client.wait(PATIENCE)
    assert client.status == OFFLINE
    assert statuses.wait_for(3) == [CONNECTING, READY, OFFLINE]
    assert closed.wait_for(1) == [(code, reason)]
    assert server.connections == 1


@pytest.mark.parametrize("reason", ["", "wse.protocol-error", "wse.auth-timeout"])
def test_31_a_close_with_1000_before_the_welcome_is_final(
    make_client: MakeClient, make_raw_server: MakeRawServer, reason: str
) -> None:
    def script(peer: RawPeer) -> None:
        peer.recv_frame()
        close_with(peer, 1000, reason)

    server = make_raw_server(script)
    client = make_client(server, reconnect=True, backoff=QUICK)
    with pytest.raises(ConnectionError) as caught:
        client.connect("ann")
    assert isinstance(caught.value, WseError)
    assert caught.value.code == WSE_ERROR.CONNECTION_CLOSED
    assert client.status == OFFLINE
    assert server.connections == 1


def test_31_a_refusal_after_a_reconnect_is_final(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    welcome = threading.Event()
    welcome.set()

    def identify(auth: AuthRequest) -> None:
        if welcome.is_set():
            auth.accept("ann")
        else:
            auth.refuse()

    with FaultProxy(make_server(identify).url) as proxy:
        client = make_client(proxy.url, reconnect=True, backoff=QUICK)
        statuses, closed = statuses_of(client), Recorder()
        client.when.closed(closed)
        client.connect()
        welcome.clear()
        proxy.cut()
        assert client.wait(PATIENCE)
        assert statuses.wait_for(4) == [CONNECTING, READY, RE_CONNECTING, OFFLINE]
        assert closed.wait_for(2)[1] == (1000, "wse.not-authorized")
        assert proxy.accepted == 2


def test_31_a_dropped_or_evicted_client_stays_away(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    server = make_server()
    dropped = make_client(server, reconnect=True, backoff=QUICK)
    dropped.connect("ann")
    server.drop_client("ann", "enough")
    assert dropped.wait(PATIENCE)
    evicted = make_client(server, reconnect=True, backoff=QUICK)
    evicted.connect("bob")
    newer = make_client(server, reconnect=True, backoff=QUICK)
    newer.connect("bob")
    assert evicted.wait(PATIENCE)
    assert newer.status == READY


def test_31_comes_back_to_a_server_that_restarts(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    first = make_server()
    with FaultProxy(first.url) as proxy:
        client = make_client(proxy.url, reconnect=True, backoff=QUICK)
        ready, closed = Recorder(), Recorder()
        client.when.ready(ready)
        client.when.closed(closed)
        client.connect("ann")
        second = make_server()
        proxy.target = second.url
        first.close()
        ready.wait_for(2)
        assert closed.items[0] == (1012, "wse.by-server")
        assert list(second.clients) == ["ann"]


def test_31_one_link_at_a_time_and_one_attempt_for_each_loss(
    make_client: MakeClient, make_raw_server: MakeRawServer
) -> None:
    losses = 20
    live: list[int] = []
    most: list[int] = []

    def script(peer: RawPeer) -> None:
        live.append(peer.number)
        most.append(len(live))
        peer.welcome(peer.number)
        if peer.number == losses:
            peer.recv_close()
        live.remove(peer.number)

    server = make_raw_server(script)
    client = make_client(server, reconnect=True, backoff=Backoff(0.0, 1.0, 0.0))
    ready, statuses = Recorder(), statuses_of(client)
    client.when.ready(ready)
    client.connect("ann")
    assert ready.wait_for(losses + 1) == list(range(losses + 1))
    statuses.wait_until(lambda items: items[-1:] == [READY])
    assert server.connections == losses + 1
    assert max(most) == 1


def test_31_connect_while_reconnecting_starts_no_second_attempt(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    with FaultProxy(make_server().url) as proxy:
        client = make_client(proxy.url, reconnect=True, backoff=NEVER)
        statuses = statuses_of(client)
        client.connect("ann")
        proxy.cut()
        statuses.wait_until(lambda items: items[-1:] == [RE_CONNECTING])
        with pytest.raises(WseError) as caught:
            client.connect("ann")
        assert caught.value.code == WSE_ERROR.CLIENT_ALREADY_CONNECTED
        assert client.status == RE_CONNECTING
        assert proxy.accepted == 1


def test_31_connect_while_connected_or_connecting_raises_and_disturbs_nothing(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    decide = threading.Event()

    def identify(auth: AuthRequest) -> None:
        wait_event(decide)
        accept_all(auth)

    client = make_client(make_server(identify))
    connecting = Thread(lambda: client.connect("ann"))
    wait_until(lambda: client.status == CONNECTING)
    for _ in range(2):
        with pytest.raises(WseError) as caught:
            client.connect("bob")
        assert caught.value.code == WSE_ERROR.CLIENT_ALREADY_CONNECTED
        decide.set()
        assert connecting.result() == {"hello": "ann"}
    assert client.status == READY


def test_31_waits_longer_after_each_failure_up_to_a_maximum() -> None:
    backoff = Backoff(initial=1.0, factor=2.0, maximum=30.0)
    for attempt, ceiling in enumerate([1, 2, 4, 8, 16, 30, 30, 30]):
        waits = [backoff.delay(attempt) for _ in range(500)]
        assert min(waits) >= 0
        assert max(waits) <= ceiling
        # Full jitter: from the whole range, not only from its upper half.
        assert min(waits) < ceiling * 0.1
        assert max(waits) > ceiling * 0.9
        assert abs(sum(waits) / len(waits) - ceiling / 2) < ceiling * 0.1


def test_31_the_maximum_holds_for_any_number_of_failures() -> None:
    backoff = Backoff(initial=1.0, factor=2.0, maximum=30.0)
    assert 0 <= backoff.delay(10_000_000) <= 30


def test_31_the_waits_come_from_the_random_module() -> None:
    backoff = Backoff()
    state = random.getstate()
    try:
        random.seed(31)
        first = [backoff.delay(attempt) for attempt in range(10)]
        random.seed(31)
        assert [backoff.delay(attempt) for attempt in range(10)] == first
        assert [backoff.delay(attempt) for attempt in range(10)] != first
    finally:
        random.setstate(state)


def test_31_the_defaults_are_one_second_doubled_up_to_thirty() -> None:
    assert Backoff() == Backoff(initial=1.0, factor=2.0, maximum=30.0)


@pytest.mark.parametrize(
    "arguments",
    [{"initial": -1}, {"maximum": -1}, {"factor": 0.5}],
    ids=["initial", "max", "factor"],
)
def test_31_a_backoff_that_makes_no_sense_cannot_be_made(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        Backoff(**arguments)


class RecordedBackoff(Backoff):
    """A Backoff without waits that notes which attempts it was asked about."""

    attempts: Recorder = Recorder()

    def delay(self, attempt: int) -> float:
        self.attempts.add(attempt)
        return 0.0


def test_31_backoff_grows_with_each_failure_and_starts_over_after_a_success(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    RecordedBackoff.attempts = attempts = Recorder()
    with FaultProxy(make_server().url) as proxy:
        client = make_client(proxy.url, reconnect=True, backoff=RecordedBackoff())
        statuses = statuses_of(client)
        client.connect("ann")
        for links in (1, 2):
            before = len(attempts)
            proxy.refuse()
            proxy.cut()
            attempts.wait_for(before + 4)
            proxy.admit()
            statuses.wait_for(2 + 2 * links)
            grown = attempts.items[before:]
            assert grown == list(range(len(grown)))


# 31: where the start is not easy


def test_31_a_server_that_starts_later_is_found(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    with FaultProxy(make_server().url, listening=False) as proxy:
        once = make_client(proxy.url)
        with pytest.raises(WseError) as caught:
            once.connect("ann")
        assert caught.value.code == WSE_ERROR.WS_CLIENT_ERROR
        client = make_client(proxy.url, reconnect=True, backoff=QUICK)
        statuses = statuses_of(client)
        connecting = Thread(lambda: client.connect("ann"))
        statuses.wait_for(1)
        proxy.listen()
        assert connecting.result() == {"hello": "ann"}
        assert statuses.wait_for(2) == [CONNECTING, READY]


def test_31_an_offline_start_tries_again_and_again(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    with FaultProxy(make_server().url) as proxy:
        proxy.refuse()
        client = make_client(proxy.url, reconnect=True, backoff=QUICK)
        connecting = Thread(lambda: client.connect("ann"))
        assert proxy.wait_accepted(5)
        assert client.status == CONNECTING
        proxy.admit()
        assert connecting.result() == {"hello": "ann"}


def test_31_an_unknown_host_at_the_start_is_an_error_or_tried_again(
    make_client: MakeClient,
) -> None:
    url = "ws://does-not-exist.invalid/"
    with pytest.raises(ConnectionError) as caught:
        make_client(url).connect("ann")
    assert isinstance(caught.value, WseError)
    assert caught.value.code == WSE_ERROR.WS_CLIENT_ERROR
    assert "does-not-exist.invalid" in str(caught.value)
    client = make_client(url, reconnect=True, backoff=QUICK)
    with pytest.raises(TimeoutError) as late:
        client.connect("ann", timeout=0.5)
    assert isinstance(late.value, WseError)
    assert late.value.code == WSE_ERROR.CONNECTION_CLOSED
    assert client.status == OFFLINE


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_31_a_4xx_status_is_final(
    make_client: MakeClient, make_raw_server: MakeRawServer, status: int
) -> None:
    server = make_raw_server(lambda peer: peer.reject(status), accept=False)
    client = make_client(server, reconnect=True, backoff=QUICK)
    with pytest.raises(ConnectionError) as caught:
        client.connect("ann")
    assert isinstance(caught.value, WseError)
    assert caught.value.code == WSE_ERROR.WS_CLIENT_ERROR
    assert str(status) in str(caught.value)
    assert client.status == OFFLINE
    assert server.connections == 1


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_31_a_status_that_may_pass_is_tried_again(
    make_client: MakeClient, make_raw_server: MakeRawServer, status: int
) -> None:
    def script(peer: RawPeer) -> None:
        if peer.number < 3:
            peer.reject(status)
            return
        peer.accept()
        peer.welcome("at last")
        peer.recv_close()

    server = make_raw_server(script, accept=False)
    client = make_client(server, reconnect=True, backoff=QUICK)
    assert client.connect("ann") == "at last"
    assert server.connections == 4


def test_31_a_4xx_status_after_a_lost_link_is_final_too(
    make_client: MakeClient, make_raw_server: MakeRawServer
) -> None:
    def script(peer: RawPeer) -> None:
        if peer.number:
            peer.reject(403)
            return
        peer.accept()
        peer.welcome()

    server = make_raw_server(script, accept=False)
    client = make_client(server, reconnect=True, backoff=QUICK)
    statuses = statuses_of(client)
    client.connect("ann")
    assert client.wait(PATIENCE)
    assert statuses.wait_for(4) == [CONNECTING, READY, RE_CONNECTING, OFFLINE]
    assert server.connections == 2


def test_31_an_attempt_that_hangs_is_given_up_after_connect_timeout(
    make_client: MakeClient,
) -> None:
    with silent_listener() as url:
        client = make_client(url, connect_timeout=0.1)
        with pytest.raises(WseError) as caught:
            client.connect("ann")
        assert caught.value.code == WSE_ERROR.WS_CLIENT_ERROR
        assert client.status == OFFLINE


def test_31_an_attempt_that_hangs_is_followed_by_another(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    with silent_listener() as url, FaultProxy(url) as proxy:
        client = make_client(proxy.url, reconnect=True, backoff=QUICK)
        connecting = Thread(lambda: client.connect("ann"))
        for attempt in range(1, 3):
            assert proxy.wait_accepted(attempt)
            pass_time(10.0)
        assert proxy.wait_accepted(3)
        proxy.target = make_server().url
        pass_time(10.0)
        assert connecting.result() == {"hello": "ann"}


def test_31_connect_gives_up_after_its_timeout(
    make_client: MakeClient, make_raw_server: MakeRawServer
) -> None:
    asked = Recorder()

    def never_welcomes(peer: RawPeer) -> None:
        asked.add(peer.recv_frame())
        peer.recv_close()

    for number, reconnect in enumerate((False, True), 1):
        server = make_raw_server(never_welcomes)
        client = make_client(server, reconnect=reconnect, backoff=QUICK)
        connecting = Thread(partial(client.connect, "ann", timeout=5.0))
        asked.wait_for(number)
        pass_time(5.0)
        error = raised(connecting)
        assert isinstance(error, TimeoutError)
        assert error.code == WSE_ERROR.CONNECTION_CLOSED
        assert client.status == OFFLINE
        assert server.connections == 1


# 31: what is sent between links


def collected(server: Any, type: str) -> Recorder:
    """The payloads of the messages of this type."""
    recorder = Recorder()
    server.channel.on(type, lambda conn, payload: recorder.add(payload))
    return recorder


@pytest.mark.parametrize("resume_window", [60.0, 0])
def test_31_what_is_sent_between_links_goes_out_after_the_reconnect_in_order(
    make_server: MakeServer, make_client: MakeClient, resume_window: float
) -> None:
    server = make_server(resume_window=resume_window)
    numbers = collected(server, "number")
    server.register("add", lambda conn, pair: sum(pair))
    with FaultProxy(server.url) as proxy:
        client = make_client(proxy.url, reconnect=True, backoff=QUICK)
        statuses = statuses_of(client)
        client.connect("ann")
        proxy.refuse()
        proxy.cut()
        statuses.wait_until(lambda items: items[-1:] == [RE_CONNECTING])
        for number in range(50):
            client.send("number", number)
        future = client.submit("add", [1, 2])
        blocked = Thread(lambda: client.call("add", [3, 4]))
        for number in range(50, 100):
            client.send("number", number)
        assert not future.done()
        assert len(numbers) == 0
        proxy.admit()
        assert numbers.wait_for(100) == list(range(100))
        assert future.result(PATIENCE) == 3
        assert blocked.result() == 7
        client.send("number", 100)
        assert numbers.wait_for(101) == list(range(101))


@pytest.mark.parametrize("resume_window", [60.0, 0])
def test_31_past_max_queue_bytes_sends_between_links_raise_not_ready(
    make_server: MakeServer, make_client: MakeClient, resume_window: float
) -> None:
    server = make_server(resume_window=resume_window)
    numbers = collected(server, "number")
    with FaultProxy(server.url) as proxy:
        client = make_client(proxy.url, reconnect=True, backoff=QUICK, max_queue_bytes=10_000)
        statuses = statuses_of(client)
        client.connect("ann")
        proxy.refuse()
        proxy.cut()
        statuses.wait_until(lambda items: items[-1:] == [RE_CONNECTING])
        queued = 0
        with pytest.raises(ConnectionError) as caught:
            while queued < 1000:
                client.send("number", [queued, "x" * 100])
                queued += 1
        assert isinstance(caught.value, WseError)
        assert caught.value.code == WSE_ERROR.CONNECTION_NOT_READY
        assert 50 < queued <= 100
        for attempt in (client.call, lambda *args: client.submit(*args).result(PATIENCE)):
            with pytest.raises(WseError) as refused:
                attempt("add", "x" * 1000)
            assert refused.value.code == WSE_ERROR.CONNECTION_NOT_READY
        proxy.admit()
        received = numbers.wait_for(queued)
        assert [number for number, _ in received] == list(range(queued))
        statuses.wait_until(lambda items: items[-1:] == [READY])
        client.send("number", [queued, ""])
        assert numbers.wait_for(queued + 1)[-1] == [queued, ""]


def test_31_a_call_queued_between_links_waits_also_when_the_next_one_is_not_welcomed(
    make_raw_server: MakeRawServer, make_client: MakeClient
) -> None:
    """It cannot have been served. The call that a link has had fails with that link."""
    queued = threading.Event()

    def script(peer: RawPeer) -> None:
        if peer.number == 1:
            peer.recv_frame()
            wait_event(queued)
            return
        peer.welcome()
        name, payload, stamp = peer.recv_frame()
        if peer.number == 2:
            peer.send_frame(RESPONSE, [name, payload], stamp)
            peer.recv_close()

    client = make_client(make_raw_server(script), reconnect=True, backoff=QUICK)
    statuses = statuses_of(client)
    client.connect("ann")
    with pytest.raises(WseError) as caught:
        client.call("first")
    assert caught.value.code == WSE_ERROR.RP_DISCONNECT
    statuses.wait_until(lambda items: items[-1:] == [RE_CONNECTING])
    future = client.submit("second", 2)
    queued.set()
    assert future.result(PATIENCE) == ["second", 2]


def test_31_a_call_queued_between_links_still_has_its_timeout(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    with FaultProxy(make_server().url) as proxy:
        client = make_client(proxy.url, reconnect=True, backoff=NEVER)
        statuses = statuses_of(client)
        client.connect("ann")
        proxy.cut()
        statuses.wait_until(lambda items: items[-1:] == [RE_CONNECTING])
        with pytest.raises(TimeoutError) as caught:
            client.call("any", timeout=0.1)
        assert isinstance(caught.value, WseError)
        assert caught.value.code == WSE_ERROR.RP_TIMEOUT


def test_31_a_call_queued_between_links_ends_with_the_client(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    with FaultProxy(make_server().url) as proxy:
        client = make_client(proxy.url, reconnect=True, backoff=NEVER, call_timeout=None)
        statuses = statuses_of(client)
        client.connect("ann")
        proxy.cut()
        statuses.wait_until(lambda items: items[-1:] == [RE_CONNECTING])
        future = client.submit("any")
        client.disconnect("enough")
        error = future.exception(PATIENCE)
        assert isinstance(error, WseError)
        assert error.code == WSE_ERROR.RP_DISCONNECT


def test_31_sends_raise_not_ready_when_there_is_no_link_to_come_back(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    decide = threading.Event()

    def identify(auth: AuthRequest) -> None:
        wait_event(decide)
        auth.accept("ann")

    client = make_client(make_server(identify), reconnect=True)

    def nothing_goes_out() -> None:
        attempts: list[Callable[[], object]] = [
            lambda: client.send("any"),
            lambda: client.call("any"),
            lambda: client.submit("any").result(PATIENCE),
        ]
        for attempt in attempts:
            with pytest.raises(ConnectionError) as caught:
                attempt()
            assert isinstance(caught.value, WseError)
            assert caught.value.code == WSE_ERROR.CONNECTION_NOT_READY

    assert client.status == IDLE
    nothing_goes_out()
    connecting = Thread(client.connect)
    wait_until(lambda: client.status == CONNECTING)
    nothing_goes_out()
    decide.set()
    connecting.result()
    client.disconnect()
    nothing_goes_out()


# 32


@pytest.mark.parametrize("resume_window", [60.0, 0])
def test_32_procedures_and_handlers_outlive_every_link(
    make_server: MakeServer, make_client: MakeClient, resume_window: float
) -> None:
    """Whether or not there is a session that outlives them, too."""
    first, second = (make_server(resume_window=resume_window) for _ in range(2))
    news, once, ready, connected, closed, ignored = (Recorder() for _ in range(6))
    with FaultProxy(first.url) as proxy:
        client = make_client(proxy.url, reconnect=True, backoff=QUICK)
        client.register("double", lambda payload: payload * 2)
        client.channel.on("news", news)
        client.channel.once("once", once)
        client.when.ready(ready)
        client.when.connected(lambda: connected.add("connected"))
        client.when.closed(closed)
        client.when.ignored(ignored)

        def works(server: Any, links: int) -> None:
            ready.wait_for(links)
            wait_until(lambda: "ann" in server.clients)
            (conn,) = server.clients["ann"].conns.values()
            server.broadcast("news", links)
            server.broadcast("once", links)
            server.broadcast("other", links)
            assert conn.call("double", links) == links * 2
            assert news.wait_for(links) == list(range(1, links + 1))
            assert ignored.wait_until(lambda items: ("other", links) in items)

        client.connect("ann")
        works(first, 1)
        for links in (2, 3):
            noticed = Recorder()
            (first.when.resumed if resume_window else first.when.disconnected)(noticed)
            proxy.cut(reset=links == 3)
            noticed.wait_for(1)
            works(first, links)
        client.jump(second.url)
        works(second, 4)
        client.disconnect()
        client.connect("ann")
        works(second, 5)
        assert len(ready) == len(connected) == 5
        assert once.items == [1]
        client.disconnect()
        lost = closed.wait_for(5)
        assert [code for code, _ in lost[:2]] == [1006, 1006]
        assert lost[2:] == [(4000, "jump"), (1000, "wse.by-client"), (1000, "wse.by-client")]


# 33


def test_33_jump_moves_a_live_client(make_server: MakeServer, make_client: MakeClient) -> None:
    asked = Recorder()

    def identify(auth: AuthRequest) -> None:
        asked.add((auth.identity, auth.meta))
        auth.accept(auth.identity, "there")

    here, there = make_server(), make_server(identify)
    gone, closed = Recorder(), Recorder()
    here.when.disconnected(lambda conn, code, reason: gone.add((code, reason)))
    client = make_client(here)
    client.when.closed(closed)
    statuses = statuses_of(client)
    client.connect("ann", {"device": "pi"})
    assert client.jump(there.url) == "there"
    assert client.status == READY
    assert client.url == there.url
    assert gone.wait_for(1) == [(4000, "jump")]
    assert closed.wait_for(1) == [(4000, "jump")]
    assert asked.items == [("ann", {"device": "pi"})]
    assert list(there.clients) == ["ann"]
    wait_until(lambda: not here.clients)
    assert statuses.items[0] == CONNECTING
    assert OFFLINE not in statuses.items
    there.register("add", lambda conn, pair: sum(pair))
    assert client.call("add", [1, 2]) == 3


def test_33_jump_authenticates_with_what_it_is_given(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    asked = Recorder()

    def identify(auth: AuthRequest) -> None:
        asked.add((auth.identity, auth.meta))
        auth.accept("ann")

    first, second = make_server(identify), make_server(identify)
    client = make_client(first)
    client.connect("old", {"n": 1})
    client.jump(second.url, "new")
    client.jump(first.url, meta={"n": 2})
    client.jump(second.url, identity="newest", meta={"n": 3})
    client.jump(first.url)
    client.jump(second.url, None, {})
    assert asked.items == [
        ("old", {"n": 1}),
        ("new", {"n": 1}),
        ("new", {"n": 2}),
        ("newest", {"n": 3}),
        ("newest", {"n": 3}),
        (None, {}),
    ]


def test_33_jump_asks_a_callable_identity_again(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    first, second = make_server(), make_server()
    tokens = iter(["one", "two", "three"])
    client = make_client(first)
    assert client.connect(lambda: next(tokens)) == {"hello": "one"}
    assert client.jump(second.url) == {"hello": "two"}
    assert client.jump(first.url, lambda: "other") == {"hello": "other"}


def test_33_jump_on_an_idle_client_connects(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    server = make_server()
    client = make_client("ws://127.0.0.1:9/")
    statuses, closed = statuses_of(client), Recorder()
    client.when.closed(closed)
    assert client.jump(server.url, "ann", {"n": 1}) == {"hello": "ann"}
    assert client.url == server.url
    assert server.clients["ann"].meta == {"n": 1}
    assert statuses.wait_for(2) == [CONNECTING, READY]
    assert closed.items == []


def test_33_after_a_jump_the_client_comes_back_to_the_new_server(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    here, there = make_server(), make_server()
    with FaultProxy(there.url) as proxy:
        client = make_client(here, reconnect=True, backoff=QUICK)
        ready = Recorder()
        client.when.ready(ready)
        client.connect("ann")
        client.jump(proxy.url)
        resumed = Recorder()
        there.when.resumed(resumed)
        proxy.cut()
        ready.wait_for(3)
        (conn,) = resumed.wait_for(1)
        assert conn.cid == "ann"
        assert list(there.clients) == ["ann"]
        wait_until(lambda: not here.clients, "the server that it has left knows")
        assert client.url == proxy.url


def test_33_jump_to_a_server_that_refuses_raises(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    here, there = make_server(), make_server(lambda auth: auth.refuse())
    client = make_client(here, reconnect=True, backoff=QUICK)
    client.connect("ann")
    with pytest.raises(PermissionError) as caught:
        client.jump(there.url)
    assert isinstance(caught.value, WseError)
    assert caught.value.code == WSE_ERROR.NOT_AUTHORIZED
    assert client.wait(PATIENCE)
    assert client.status == OFFLINE


def test_33_jump_gives_up_after_its_timeout(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    client = make_client(make_server(), reconnect=True, backoff=QUICK)
    client.connect("ann")
    with silent_listener() as url:
        with pytest.raises(TimeoutError) as caught:
            client.jump(url, timeout=0.2)
        assert isinstance(caught.value, WseError)
        assert caught.value.code == WSE_ERROR.CONNECTION_CLOSED


def test_33_jump_works_between_links(make_server: MakeServer, make_client: MakeClient) -> None:
    here, there = make_server(), make_server()
    with FaultProxy(here.url) as proxy:
        client = make_client(proxy.url, reconnect=True, backoff=NEVER)
        statuses = statuses_of(client)
        client.connect("ann")
        proxy.cut()
        statuses.wait_until(lambda items: items[-1:] == [RE_CONNECTING])
        assert client.jump(there.url) == {"hello": "ann"}
        assert client.status == READY


def test_33_a_handler_may_jump(make_server: MakeServer, make_client: MakeClient) -> None:
    here, there = make_server(), make_server()
    client = make_client(here)
    jumped = Recorder()
    client.channel.on("move", lambda url: jumped.add(client.jump(url)))
    client.connect("ann")
    here.broadcast("move", there.url)
    assert jumped.wait_for(1) == [{"hello": "ann"}]
    assert list(there.clients) == ["ann"]


# 34


def assert_stays_away(client: WseClient, proxy: FaultProxy | None = None) -> None:
    """The client is offline for good."""
    assert client.status == OFFLINE
    assert client.wait(PATIENCE)
    if proxy is not None:
        # What it has dialed before may still wait to be counted, which comes before this one.
        proxy.refuse()
        port = "127.0.0.1", proxy.port
        with contextlib.suppress(ConnectionError), socket.create_connection(port, PATIENCE) as last:
            last.recv(1)
        # Whoever would still dial has the chance to, and would be counted.
        before = proxy.accepted
        proxy.admit()
        assert not proxy.wait_accepted(before + 1, 0.1)


def test_34_disconnect_of_an_idle_client_has_no_effect(make_client: MakeClient) -> None:
    client = make_client("ws://127.0.0.1:9/")
    client.disconnect()
    client.disconnect()


@pytest.mark.parametrize("reconnect", [False, True])
@pytest.mark.parametrize("listener", [silent_listener, swallowing_listener])
def test_34_disconnect_while_connecting(
    make_client: MakeClient,
    listener: Callable[[], contextlib.AbstractContextManager[str]],
    reconnect: bool,
) -> None:
    with listener() as url:
        client = make_client(url, reconnect=reconnect, backoff=QUICK, connect_timeout=5.0)
        connecting = Thread(lambda: client.connect("ann"))
        wait_until(lambda: client.status == CONNECTING)
        Thread(lambda: client.disconnect(timeout=1.0)).result()
        assert isinstance(raised(connecting), ConnectionError)
        assert_stays_away(client)


def test_34_disconnect_as_soon_as_there_is_a_link(
    make_server: MakeServer, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody hears of its end before its beginning."""
    inside, go_on = threading.Event(), threading.Event()
    attach = Link.attach

    def attach_late(link: Link) -> None:
        if threading.current_thread().name.startswith("wse-client"):
            inside.set()
            wait_event(go_on)
        attach(link)

    monkeypatch.setattr(Link, "attach", attach_late)
    seen = Recorder()
    client = make_client(make_server())
    client.when.connected(lambda: seen.add("connected"))
    client.when.closed(lambda code, reason: seen.add("closed"))
    connecting = Thread(lambda: client.connect("ann"))
    wait_event(inside)
    life = client._life
    assert life is not None
    ending = Thread(client.disconnect)
    wait_until(lambda: life._stopping, "it is to end")
    go_on.set()
    ending.result()
    assert raised(connecting).code == WSE_ERROR.CONNECTION_CLOSED
    assert seen.items in ([], ["connected", "closed"])


def test_34_disconnect_while_the_server_decides(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    decide, asked = threading.Event(), threading.Event()

    def identify(auth: AuthRequest) -> None:
        asked.set()
        wait_event(decide)
        auth.accept("ann")

    server = make_server(identify)
    client = make_client(server, reconnect=True, backoff=QUICK)
    connecting = Thread(lambda: client.connect("ann"))
    wait_event(asked)
    Thread(client.disconnect).result()
    assert raised(connecting).code == WSE_ERROR.CONNECTION_CLOSED
    assert_stays_away(client)
    decide.set()


def test_34_disconnect_during_the_backoff_of_an_offline_start(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    with FaultProxy(make_server().url) as proxy:
        proxy.refuse()
        client = make_client(proxy.url, reconnect=True, backoff=NEVER)
        connecting = Thread(lambda: client.connect("ann"))
        assert proxy.wait_accepted(1)
        Thread(client.disconnect).result()
        assert isinstance(raised(connecting), ConnectionError)
        assert_stays_away(client, proxy)


@pytest.mark.parametrize("backoff", [NEVER, QUICK], ids=["waiting", "dialing"])
def test_34_disconnect_while_reconnecting(
    make_server: MakeServer, make_client: MakeClient, backoff: Backoff
) -> None:
    with FaultProxy(make_server().url) as proxy:
        client = make_client(proxy.url, reconnect=True, backoff=backoff)
        statuses = statuses_of(client)
        client.connect("ann")
        proxy.refuse()
        proxy.cut()
        statuses.wait_until(lambda items: items[-1:] == [RE_CONNECTING])
        if backoff is QUICK:
            assert proxy.wait_accepted(4)
        Thread(client.disconnect).result()
        assert_stays_away(client, proxy)
        assert statuses.wait_for(4) == [CONNECTING, READY, RE_CONNECTING, OFFLINE]


def test_34_disconnect_while_a_reconnect_hangs(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    with silent_listener() as url, FaultProxy(make_server().url) as proxy:
        client = make_client(proxy.url, reconnect=True, backoff=QUICK)
        client.connect("ann")
        proxy.target = url
        proxy.cut()
        assert proxy.wait_accepted(2)
        Thread(lambda: client.disconnect(timeout=2.0)).result()
        assert_stays_away(client, proxy)


def test_34_disconnect_from_another_thread_closes_with_1000_and_the_reason(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    server = make_server()
    gone, closed = Recorder(), Recorder()
    server.when.disconnected(lambda conn, code, reason: gone.add((code, reason)))
    for reconnect in (False, True):
        client = make_client(server, reconnect=reconnect, backoff=QUICK)
        client.when.closed(closed)
        client.connect("ann")
        Thread(partial(client.disconnect, "tired")).result()
        assert_stays_away(client)
    assert gone.wait_for(2) == [(1000, "tired")] * 2
    assert closed.wait_for(2) == [(1000, "tired")] * 2


def test_34_disconnect_again_or_from_many_threads_at_once_closes_once(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    server = make_server()
    closed = Recorder()
    client = make_client(server, reconnect=True, backoff=QUICK)
    client.when.closed(closed)
    client.connect("ann")
    barrier = threading.Barrier(10)

    def leave() -> None:
        barrier.wait(PATIENCE)
        client.disconnect()

    for thread in [Thread(leave) for _ in range(10)]:
        thread.result()
    client.disconnect()
    assert closed.wait_for(1) == [(1000, "wse.by-client")]
    assert_stays_away(client)


def test_34_the_context_manager_disconnects(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    with make_client(make_server(), reconnect=True) as client:
        client.connect("ann")
        assert client.status == READY
    assert_stays_away(client)


SIGNALS = ["connected", "ready", "updated"]


@pytest.mark.parametrize("signal", SIGNALS)
def test_34_disconnect_in_the_handler_of_a_signal(
    make_server: MakeServer, make_client: MakeClient, signal: str
) -> None:
    client = make_client(make_server(), reconnect=True, backoff=QUICK)
    returned = Recorder()

    def leave(*args: Any) -> None:
        if signal == "updated" and args != (READY,):
            return
        client.disconnect()
        returned.add("returned")

    getattr(client.when, signal)(leave)
    with contextlib.suppress(WseError):
        client.connect("ann")
    returned.wait_for(1)
    assert client.wait(PATIENCE)
    assert_stays_away(client)


def test_34_disconnect_in_the_handler_of_closed(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    with FaultProxy(make_server().url) as proxy:
        client = make_client(proxy.url, reconnect=True, backoff=QUICK)
        returned = Recorder()

        def leave(code: int, reason: str) -> None:
            client.disconnect()
            returned.add("returned")

        client.when.closed(leave)
        client.connect("ann")
        proxy.refuse()
        proxy.cut()
        returned.wait_for(1)
        assert_stays_away(client, proxy)


def test_34_disconnect_in_a_message_handler_and_in_a_procedure(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    server = make_server()
    returned = Recorder()
    for how in ("message", "call"):
        client = make_client(server, reconnect=True, backoff=QUICK)

        def leave(payload: Any, client: WseClient = client) -> None:
            client.disconnect("from a handler")
            returned.add("returned")

        client.channel.on("leave", leave)
        client.register("leave", leave)
        client.connect("ann")
        (conn,) = server.clients["ann"].conns.values()
        if how == "message":
            conn.send("leave")
        else:
            error = conn.submit("leave").exception(PATIENCE)
            assert isinstance(error, ConnectionError)
        assert client.wait(PATIENCE)
        assert_stays_away(client)
    returned.wait_for(2)


def test_34_disconnect_in_the_challenge_solver_and_in_the_identity(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    server = make_server()
    server.use_challenge(lambda auth: "quest")
    solved = make_client(server, reconnect=True, backoff=QUICK)
    solved.challenge(lambda quest: solved.disconnect())
    asked = make_client(server, reconnect=True, backoff=QUICK)
    asked.challenge(lambda quest: quest)
    logins: list[tuple[WseClient, Any]] = [(solved, "ann"), (asked, lambda: asked.disconnect())]
    for client, identity in logins:
        connecting = Thread(partial(client.connect, identity))
        assert isinstance(raised(connecting), ConnectionError)
        assert_stays_away(client)


def test_34_disconnect_returns_while_a_handler_is_blocked(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    server = make_server()
    entered, release = threading.Event(), threading.Event()

    def block(payload: Any) -> None:
        entered.set()
        wait_event(release)

    try:
        client = make_client(server, reconnect=True, backoff=QUICK)
        client.channel.on("block", block)
        client.connect("ann")
        server.broadcast("block")
        wait_event(entered)
        Thread(lambda: client.disconnect(timeout=0.2)).result()
        assert_stays_away(client)
    finally:
        release.set()


def test_34_disconnect_returns_when_the_other_side_is_silent(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    with FaultProxy(make_server().url) as proxy:
        client = make_client(proxy.url, reconnect=True, backoff=QUICK)
        client.connect("ann")
        proxy.stall()
        Thread(lambda: client.disconnect(timeout=0.2)).result()
        assert_stays_away(client, proxy)


def test_34_disconnect_returns_when_the_client_has_said_that_it_is_offline(
    make_server: MakeServer, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread is held up in its last words, and the time to disconnect is over."""
    speaking, go_on, interrupt = threading.Event(), threading.Event(), Channel.interrupt

    def interrupt_late(self: Channel, why: str) -> None:
        speaking.set()
        wait_event(go_on)
        interrupt(self, why)

    client = make_client(make_server(), reconnect=True)
    client.connect("ann")
    monkeypatch.setattr(Channel, "interrupt", interrupt_late)
    monkeypatch.setattr("wse_sync.life._LAST_WORDS", PATIENCE)
    disconnecting = Thread(lambda: client.disconnect(timeout=0.1))
    wait_event(speaking)
    disconnecting.join(0.3)
    assert disconnecting.is_alive()
    go_on.set()
    disconnecting.result()
    assert client.status == OFFLINE


def test_34_disconnect_returns_when_nobody_reads_what_is_queued(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    with FaultProxy(make_server().url) as proxy:
        client = make_client(
            proxy.url,
            reconnect=True,
            backoff=QUICK,
            max_queue_bytes=2**26,
            resume_buffer_bytes=2**26,
        )
        client.connect("ann")
        proxy.stall()
        for _ in range(32):
            client.send("much", "x" * 2**20)
        Thread(lambda: client.disconnect(timeout=0.5)).result()
        assert_stays_away(client, proxy)


def test_34_disconnect_flushes_what_was_sent(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    server = make_server()
    numbers = collected(server, "number")
    client = make_client(server)
    client.connect("ann")
    for number in range(500):
        client.send("number", [number, "x" * 10_000])
    client.disconnect(timeout=PATIENCE)
    assert [number for number, _ in numbers.wait_for(500)] == list(range(500))


def test_34_a_wait_ends_with_the_client(make_server: MakeServer, make_client: MakeClient) -> None:
    client = make_client(make_server(), reconnect=True)
    client.connect("ann")
    assert client.wait(0) is False
    waiting = Thread(lambda: client.wait())
    client.disconnect()
    assert waiting.result() is True


INTERRUPTED = """
import signal
import sys

from wse_sync import Backoff, WseClient

signal.signal(signal.SIGINT, signal.default_int_handler)
client = WseClient(sys.argv[1], reconnect=True, backoff=Backoff(60.0, 1.0, 60.0))
try:
    client.connect("ann")
except KeyboardInterrupt:
    print("interrupted")
print(client.wait(10), client.status)
"""


def test_34_ctrl_c_before_connect_waits_disconnects(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Life, "welcome", interrupt)
    with silent_listener() as url:
        client = make_client(url, reconnect=True)
        with pytest.raises(KeyboardInterrupt):
            client.connect("ann")
        assert client.wait(PATIENCE)


@pytest.mark.parametrize("where", ["dialing", "waiting"])
def test_34_ctrl_c_in_connect_disconnects(where: str) -> None:
    with silent_listener() as url, FaultProxy(url) as proxy:
        if where == "waiting":
            proxy.refuse()
        with Program(INTERRUPTED, proxy.url) as program:
            assert proxy.wait_accepted(1, 30)
            program.interrupt()
            assert program.end() == (0, ["interrupted", "True OFFLINE"], [])


# 35

BEAT: dict[str, Any] = {"ping_interval": 20.0, "ping_timeout": 20.0}
NO_BEAT: dict[str, Any] = {"ping_interval": None}


def stay_silent() -> None:
    """Let so much time pass that silence is noticed: until the ping, then for its pong."""
    for _ in range(2):
        pass_time(20.0)


@pytest.mark.parametrize(
    ("server_beat", "client_beat"),
    [(BEAT, BEAT), (BEAT, NO_BEAT), (NO_BEAT, BEAT)],
    ids=["both", "server", "client"],
)
def test_35_a_link_that_went_silent_is_noticed_by_whoever_listens(
    make_server: MakeServer,
    connect: Connect,
    server_beat: dict[str, Any],
    client_beat: dict[str, Any],
) -> None:
    server = make_server(**server_beat)
    gone, left, closed = Recorder(), Recorder(), Recorder()
    server.when.disconnected(lambda conn, code, reason: gone.add(code))
    server.when.left(lambda client, code, reason: left.add(code))
    with FaultProxy(server.url) as proxy:
        client = connect(proxy.url, **client_beat)
        client.when.closed(lambda code, reason: closed.add(code))
        proxy.stall()
        stay_silent()
        if server_beat is BEAT:
            assert gone.wait_for(1) == [1006]
            assert left.wait_for(1) == [1006]
            assert not server.clients
        if client_beat is BEAT:
            assert closed.wait_for(1) == [1006]
            assert client.wait(PATIENCE)
            assert client.status == OFFLINE


def test_35_a_link_that_is_silent_in_one_direction_is_noticed(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server(**BEAT)
    gone, closed = Recorder(), Recorder()
    server.when.disconnected(lambda conn, code, reason: gone.add(code))
    with FaultProxy(server.url) as proxy:
        deaf_server = connect(proxy.url, "ann", **NO_BEAT)
        proxy.stall(to_server=True, to_client=False)
        stay_silent()
        assert gone.wait_for(1) == [1006]
        deaf_client = connect(proxy.url, "bob", **BEAT)
        deaf_client.when.closed(lambda code, reason: closed.add(code))
        proxy.stall(to_server=False, to_client=True)
        stay_silent()
        assert closed.wait_for(1) == [1006]
        assert deaf_server.status in {READY, OFFLINE}


def test_35_open_calls_of_both_ends_end_when_the_silence_is_noticed(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server(call_timeout=None, **BEAT)
    begun, release = Recorder(), threading.Event()

    def slow(*arguments: Any) -> None:
        begun.add(arguments)
        wait_event(release)

    try:
        server.register("slow", slow)
        with FaultProxy(server.url) as proxy:
            client = connect(proxy.url, call_timeout=None, **BEAT)
            client.register("slow", slow)
            (conn,) = server.clients["ann"].conns.values()
            futures = [client.submit("slow"), conn.submit("slow")]
            begun.wait_for(2)
            proxy.stall()
            stay_silent()
            for future in futures:
                error = future.exception(PATIENCE)
                assert isinstance(error, ConnectionError)
                assert isinstance(error, WseError)
                assert error.code == WSE_ERROR.RP_DISCONNECT
    finally:
        release.set()


def test_35_a_reconnecting_client_finds_its_way_round_a_silent_link(
    make_server: MakeServer, make_client: MakeClient
) -> None:
    server = make_server(**BEAT)
    with FaultProxy(server.url) as proxy:
        client = make_client(proxy.url, reconnect=True, backoff=QUICK, **BEAT)
        ready = Recorder()
        client.when.ready(ready)
        client.connect("ann")
        proxy.stall()
        stay_silent()
        ready.wait_for(2)
        assert client.status == READY
        server.register("add", lambda conn, pair: sum(pair))
        assert client.call("add", [1, 2]) == 3


@pytest.mark.parametrize("pinging", ["server", "client", "both"])
def test_35_pings_keep_an_idle_link_alive(
    make_server: MakeServer, connect: Connect, pinging: str
) -> None:
    beat: dict[str, Any] = {"ping_interval": 0.02, "ping_timeout": PATIENCE}
    server = make_server(**(NO_BEAT if pinging == "client" else beat))
    gone = Recorder()
    server.when.disconnected(gone)
    with FaultProxy(server.url) as proxy:
        client = connect(proxy.url, **(NO_BEAT if pinging == "server" else beat))
        before = proxy.forwarded_bytes
        # A ping and its pong are at least 8 bytes: one of them is masked.
        wait_until(lambda: proxy.forwarded_bytes > before + 20 * 8)
        assert client.status == READY
        assert gone.items == []


def forwarded(proxy: FaultProxy, goal: int) -> bool:
    return proxy.forwarded_bytes >= goal


@pytest.mark.parametrize("jump", [86400.0, -86400.0], ids=["forward", "back"])
def test_35_the_wall_clock_does_not_matter(
    make_server: MakeServer, connect: Connect, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    beat: dict[str, Any] = {"ping_interval": 0.05, "ping_timeout": 20.0}
    server = make_server(**beat)
    server.register("echo", lambda conn, payload: payload)
    gone, closed = Recorder(), Recorder()
    server.when.disconnected(gone)
    real_time = time.time
    with FaultProxy(server.url) as proxy, monkeypatch.context() as patched:
        client = connect(proxy.url, **beat)
        client.when.closed(closed)
        future = client.submit("echo", 1, timeout=PATIENCE)
        for jumped in range(1, 11):
            patched.setattr(time, "time", lambda jumped=jumped: real_time() + jumped * jump)
            goal = proxy.forwarded_bytes + 16
            wait_until(partial(forwarded, proxy, goal))
            assert client.call("echo", jumped) == jumped
        assert future.result(PATIENCE) == 1
        assert client.status == READY
        assert gone.items == closed.items == []
        # And a silence is noticed, although the clock says something else.
        proxy.stall()

        def noticed() -> bool:
            pass_time(20.0)
            return bool(gone.items and closed.items)

        # Not at the first time, maybe: a pong may have been on its way.
        wait_until(noticed)


# 36

FORGETFUL = """
import threading

from wse_sync import Backoff, WseClient, WseServer

blocked = threading.Event()


def block(*args):
    blocked.set()
    threading.Event().wait()


def server():
    server = WseServer(lambda auth: auth.accept("ann"), port=0)
    server.register("block", block)
    server.channel.on("block", block)
    return server.start()


def client(server, **options):
    client = WseClient(server.url, **options)
    client.register("block", block)
    client.channel.on("block", block)
    client.connect()
    return client


"""

FORGOTTEN = {
    "client": "here = server(); client(here); here.close()",
    "both": "here = server(); there = client(here)",
    "reconnecting": """
here = server()
there = client(here, reconnect=True, backoff=Backoff(60.0, 1.0, 60.0))
lost = threading.Event()
there.when.closed(lambda code, reason: lost.set())
here.close()
lost.wait()
""",
    "dialing": """
import socket
silent = socket.create_server(("127.0.0.1", 0))
there = WseClient(f"ws://127.0.0.1:{silent.getsockname()[1]}/", reconnect=True)
threading.Thread(target=there.connect, daemon=True).start()
silent.accept()
""",
    "handler-of-client": """
here = server()
there = client(here)
here.broadcast("block")
blocked.wait()
""",
    "handler-of-server": "there = client(server()); there.send('block'); blocked.wait()",
    "procedure-of-server": "future = client(server()).submit('block'); blocked.wait()",
    "procedure-of-client": """
here = server()
there = client(here)
future = next(iter(here.clients["ann"].conns.values())).submit("block")
blocked.wait()
""",
    "identify": """
here = WseServer(block, port=0).start()
there = WseClient(here.url)
threading.Thread(target=there.connect, daemon=True).start()
blocked.wait()
""",
    "idle-client": "WseClient('ws://127.0.0.1:9/')",
    "idle-server": "server()",
}


@pytest.mark.parametrize("what", FORGOTTEN.values(), ids=FORGOTTEN)
def test_36_a_program_that_forgets_to_disconnect_still_ends(what: str) -> None:
    with Program(FORGETFUL + what + "\nprint('end')\n") as program:
        assert program.end() == (0, ["end"], [])


def test_36_an_error_of_the_main_thread_ends_the_program_too() -> None:
    script = FORGETFUL + "here = server(); client(here, reconnect=True); raise SystemExit(3)"
    with Program(script) as program:
        assert program.end() == (3, [], [])
