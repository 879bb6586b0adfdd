"""Promise 37 on real sockets: whatever happens to the links, nothing is lost, doubled or swapped.

Four clients and a server talk both ways through a ChaosProxy until it has made so many cuts; then
it lets everything through, and the books of both sides must agree. Nothing depends on timing but
the number of cuts.

    WSE_CHAOS_CUTS   how many, 100 by default
    WSE_CHAOS_SEED   of the plans and the load; a failure names the one that it had
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import ssl
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import trustme

from tests.chaos import ChaosProxy
from tests.conftest import MakeClient, MakeServer
from tests.support import Recorder, Thread, wait_until
from tests.talkers import PATIENCE, Book, Talker, draw_text
from wse_sync import WSE_STATUS, AuthRequest, Backoff, WseClient, WseConnection, WseServer
from wse_sync.constants import RETRY_CODES

CUTS = int(os.environ.get("WSE_CHAOS_CUTS", "100"))
SEED = os.environ.get("WSE_CHAOS_SEED") or str(random.SystemRandom().randrange(10**9))
CLIENTS = 4
TALKERS = 2  # threads for each client and direction
AHEAD = 10  # broadcasts that a client may be behind

QUICK = Backoff(initial=0.02, factor=1.5, maximum=0.2)
OPTIONS: dict[str, Any] = {"call_timeout": None, "ping_interval": 0.3, "ping_timeout": 0.5}

_log = logging.getLogger(__name__)


class Crier:
    """One thread that broadcasts numbers, never far ahead of those who listen."""

    name = "crier"

    def __init__(self, server: WseServer, books: list[Book], stop: threading.Event) -> None:
        self.messages = 0
        self._server = server
        self._books = books
        self._stop = stop
        self._chance = random.Random(f"{SEED}-{self.name}")
        self.thread = Thread(self._cry)

    def _cry(self) -> None:
        while not self._stop.is_set():
            number = self.messages
            self.messages += 1
            padding = draw_text(self._chance, number)
            reached = self._server.broadcast("message", [self.name, number, padding])
            assert reached == CLIENTS
            wait_until(
                lambda: self._stop.is_set() or self._behind() <= AHEAD, "broadcasts", PATIENCE
            )

    def _behind(self) -> int:
        return self.messages - min(book.last(self.name) for book in self._books)


class Signals:
    """Every signal of both ends that tells of the links and of what went wrong."""

    def __init__(self, server: WseServer, clients: list[WseClient]) -> None:
        self.wrong = Recorder()
        self.joined, self.left = Recorder(), Recorder()
        self.connected, self.disconnected = Recorder(), Recorder()
        self.suspended, self.resumed = Recorder(), Recorder()
        self.closed, self.ready = Recorder(), Recorder()
        server.when.joined(lambda client, meta: self.joined.add(client.cid))
        server.when.left(lambda client, code, reason: self.left.add((client.cid, code, reason)))
        server.when.connected(lambda conn: self.connected.add(conn.cid))
        server.when.disconnected(
            lambda conn, code, reason: self.disconnected.add((conn.cid, code, reason))
        )
        server.when.suspended(lambda conn: self.suspended.add(conn.cid))
        server.when.resumed(lambda conn: self.resumed.add(conn.cid))
        server.when.error(lambda error, conn: self.wrong.add(f"server: {conn}: {error}"))
        server.when.ignored(lambda conn, type, payload: self.wrong.add(f"server ignored {type}"))
        for number, client in enumerate(clients):
            self._watch(f"client {number}", client)

    def _watch(self, name: str, client: WseClient) -> None:
        client.when.error(lambda error: self.wrong.add(f"{name}: {error}"))
        client.when.ignored(lambda type, payload: self.wrong.add(f"{name} ignored {type}"))
        client.when.closed(lambda code, reason: self.closed.add((name, code, reason)))
        client.when.ready(lambda welcome: self.ready.add(name))


class Porter:
    """Decides who comes in, in a thread of its own and not in the order of their coming."""

    def __init__(self) -> None:
        self._chance = random.Random(f"{SEED}-porter")
        self._changed = threading.Condition()
        self._waiting: list[AuthRequest] = []
        self._closing = False
        self._thread = Thread(self._decide)

    def identify(self, auth: AuthRequest) -> None:
        assert auth.challenge is not None
        if auth.challenge.quest != auth.challenge.response:
            auth.refuse()
        elif self._chance.random() < 0.5:
            auth.accept(auth.identity)
        else:
            with self._changed:
                self._waiting.append(auth)
                self._changed.notify_all()

    def _decide(self) -> None:
        while not self._closing:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                # Others may come meanwhile, and be let in first.
                self._changed.wait_for(lambda: self._closing, self._chance.random() * 0.05)
                waiting, self._waiting = self._waiting, []
            self._chance.shuffle(waiting)
            for auth in waiting:
                auth.accept(auth.identity)

    def close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.result()


@contextlib.contextmanager
def told_the_seed(proxy: ChaosProxy) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise AssertionError(f"with WSE_CHAOS_SEED={SEED}, {proxy!r}") from error


def _wait_for_cuts(proxy: ChaosProxy, count: int, threads: list[Thread[None]]) -> None:
    """Waits for as long as there is progress; an error of a thread ends it at once."""
    seen, since = 0, time.monotonic()
    while not proxy.wait_cuts(count, 0.5):
        for thread in threads:
            if not thread.is_alive():
                thread.result()
        if proxy.cuts > seen:
            seen, since = proxy.cuts, time.monotonic()
        assert time.monotonic() - since < PATIENCE, "nothing is cut any more"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def contexts_of(authority: trustme.CA) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """For the server, and for the clients."""
    serving, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(serving)
    authority.configure_trust(trusting)
    return serving, trusting


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
def test_37_through_every_cut_each_number_arrives_once_and_in_order(
    make_server: MakeServer, make_client: MakeClient, authority: trustme.CA, encrypted: bool
) -> None:
    serving, trusting = contexts_of(authority) if encrypted else (None, None)
    porter = Porter()
    # No time to be let in: a stall may use it up, and that end would be final.
    server = make_server(
        porter.identify,
        auth_timeout=None,
        resume_window=3600.0,
        ssl_context=serving,
        **OPTIONS,
    )
    server.use_challenge(lambda auth: auth.conn_id)
    proxy = ChaosProxy(server.url, SEED)
    with contextlib.closing(porter), proxy, told_the_seed(proxy):
        url = proxy.url.replace("ws:", "wss:") if encrypted else proxy.url
        make = partial(make_client, url, reconnect=True, backoff=QUICK, ssl_context=trusting)
        # Nobody has a session before the first welcome, so that is worth waiting for.
        clients = [make(**{**OPTIONS, "ping_timeout": PATIENCE}) for _ in range(CLIENTS)]
        # TLS is the same to what is shown here, and slower.
        _run(server, clients, proxy, max(1, CUTS // 4) if encrypted else CUTS)


def _run(server: WseServer, clients: list[WseClient], proxy: ChaosProxy, cuts: int) -> None:
    signals = Signals(server, clients)
    up, downs = Book(), [Book() for _ in clients]
    server.channel.on("message", lambda conn, payload: up.message(payload))
    server.register("work", lambda conn, payload: up.work(payload))
    conns: list[WseConnection] = []
    for number, (client, book) in enumerate(zip(clients, downs)):
        client.channel.on("message", book.message)
        client.register("work", book.work)
        client.challenge(lambda quest: quest)
        client.connect(f"client {number}")
        conns += server.clients[f"client {number}"].conns.values()
    for client in clients:
        client.ping_timeout = OPTIONS["ping_timeout"]
    proxy.cut()  # the links to come are as impatient as that
    began = time.monotonic()
    stop = threading.Event()
    proxy.rage()
    talkers: list[Talker] = []
    for number, (client, conn) in enumerate(zip(clients, conns)):
        for k in range(TALKERS):
            talkers.append(Talker(f"up {number}.{k}", client, SEED))
            talkers.append(Talker(f"down {number}.{k}", conn, SEED))
    crier = Crier(server, downs, stop)
    threads = [*(Thread(partial(talker.talk, stop)) for talker in talkers), crier.thread]
    try:
        _wait_for_cuts(proxy, cuts, threads)
    finally:
        stop.set()
        proxy.calm()
    for thread in threads:
        thread.result(PATIENCE)
    for book in downs:
        wait_until(partial(_has_all, book, crier), "the last broadcasts", PATIENCE)
    _log.info(
        "%s; %d messages and %d calls of talkers, %d broadcasts, %d bytes, %.1f s",
        proxy,
        sum(talker.messages for talker in talkers),
        sum(talker.calls for talker in talkers),
        crier.messages,
        proxy.forwarded_bytes,
        time.monotonic() - began,
    )
    _check_books(up, downs, talkers, crier)
    _check_links(server, clients, conns, signals)


def _has_all(book: Book, crier: Crier) -> bool:
    return book.last(crier.name) == crier.messages


def _check_books(up: Book, downs: list[Book], talkers: list[Talker], crier: Crier) -> None:
    for book in downs:
        assert book.close(crier.name) == (crier.messages, 0)
    books = (up, *downs)
    heard = {name: book.close(name) for book in books for name in book.talkers()}
    assert [book.faults for book in books] == [[] for _ in books]
    assert heard == {talker.name: talker.sent for talker in talkers}


def _check_links(
    server: WseServer, clients: list[WseClient], conns: list[WseConnection], signals: Signals
) -> None:
    names = [f"client {number}" for number in range(CLIENTS)]
    # The last cut may have come when everything had arrived already.
    wait_until(
        lambda: (
            all(client.status == WSE_STATUS.READY for client in clients)
            and all(conn.state == "open" for conn in conns)
        ),
        lambda: f"links: {clients} {conns}",
        PATIENCE,
    )
    for conn, name in zip(conns, names):
        assert list(server.clients[name].conns.values()) == [conn]
        # A welcome may be lost on its way: then the server has resumed once more.
        returns = signals.ready.items.count(name) - 1
        signals.resumed.wait_until(partial(_has_many, name, returns))
    signals.resumed.wait_for(1)
    for once in (signals.joined, signals.connected):
        assert sorted(once.items) == names
    assert {code for _, code, _ in signals.closed.items} <= RETRY_CODES
    assert signals.disconnected.items == signals.left.items == []
    assert signals.wrong.items == []
    for name in names:
        server.drop_client(name, "enough")
    for end in (signals.disconnected, signals.left):
        assert sorted(end.wait_for(CLIENTS)) == [(name, 1000, "enough") for name in names]


def _has_many(name: str, count: int, items: list[Any]) -> bool:
    return items.count(name) >= count
