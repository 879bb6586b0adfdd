"""Promise 37 with browsers: whatever happens to the links, nothing is lost, doubled or swapped.

As tests/behaviour/test_chaos.py, with clients in a page in place of those in Python; the settings
are the same.

    WSE_CHAOS_CUTS   how many, 100 by default
    WSE_CHAOS_SEED   of the plans and the load; a failure names the one that it had
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from collections import Counter
from functools import partial
from typing import Any

from tests.behaviour.test_chaos import (
    AHEAD,
    CLIENTS,
    CUTS,
    SEED,
    TALKERS,
    Porter,
    Signals,
    told_the_seed,
)
from tests.browser.conftest import OpenPage
from tests.browser.support import Page
from tests.chaos import ChaosProxy
from tests.conftest import MakeServer
from tests.support import Thread, connection_of, wait_until
from tests.talkers import PATIENCE, Book, Talker, draw_text
from wse_sync import WseServer
from wse_sync.constants import RETRY_CODES

CRIER = "crier"
NAMES = [f"client {number}" for number in range(CLIENTS)]
OPTIONS = {
    "reconnect": True,
    "backoff": {"initial": 20, "factor": 1.5, "maximum": 200},
    "callTimeout": None,
    "pingTimeout": 1500,  # the server takes up to a second to acknowledge
}

_log = logging.getLogger(__name__)


class Crier:
    """Broadcasts numbers, never far ahead of those who listen."""

    def __init__(self, server: WseServer, page: Page) -> None:
        self.messages = 0
        self._server = server
        self._page = page
        self._chance = random.Random(f"{SEED}-{CRIER}")

    def cry(self) -> None:
        while self.behind < AHEAD:
            number = self.messages
            self.messages += 1
            padding = draw_text(self._chance, number)
            assert self._server.broadcast("message", [CRIER, number, padding]) == CLIENTS

    @property
    def behind(self) -> int:
        """How many of its messages somebody lacks."""
        least: int = self._page.run("return chaos.least(a[0])", CRIER)
        return self.messages - least


def test_37_through_every_cut_each_number_arrives_once_and_in_order(
    make_site: MakeServer, open_page: OpenPage
) -> None:
    porter = Porter()
    # No time to be let in, as a stall may use it up; and the page is not from the proxy.
    server = make_site(
        porter.identify,
        auth_timeout=None,
        call_timeout=None,
        origins="*",
        ping_interval=0.3,
        ping_timeout=0.5,
        resume_window=3600.0,
    )
    server.use_challenge(lambda auth: auth.conn_id)
    page = open_page(server, "open")
    proxy = ChaosProxy(server.url, SEED)
    with contextlib.closing(porter), proxy, told_the_seed(proxy):
        _run(server, page, proxy)


def _run(server: WseServer, page: Page, proxy: ChaosProxy) -> None:
    signals, up = Signals(server, []), Book()
    server.channel.on("message", lambda conn, payload: up.message(payload))
    server.register("work", lambda conn, payload: up.work(payload))
    page.run("window.chaos = await import('./chaos.js')")
    page.run("await chaos.connect(...a)", CLIENTS, f"{proxy.url}ws", OPTIONS)
    conns = [connection_of(server, name) for name in NAMES]
    began = time.monotonic()
    stop = threading.Event()
    proxy.rage()
    page.run("chaos.talk(...a)", TALKERS, random.Random(SEED).randrange(2**31))
    talkers = [
        Talker(f"down {number}.{k}", conn, SEED)
        for number, conn in enumerate(conns)
        for k in range(TALKERS)
    ]
    talking = [Thread(partial(talker.talk, stop)) for talker in talkers]
    crier = Crier(server, page)
    try:
        _wait_for_cuts(proxy, page, crier, talking)
    finally:
        stop.set()
        proxy.calm()
    for thread in talking:
        thread.result(PATIENCE)
    said = page.start("return chaos.stop()").result(PATIENCE)
    said += [[talker.name, talker.messages, talker.calls] for talker in talkers]
    wait_until(lambda: not crier.behind, "the last broadcasts", PATIENCE)
    _log.info(
        "%s; %d messages and %d calls of talkers, %d broadcasts, %d bytes, %.1f s",
        proxy,
        sum(messages for _, messages, _ in said),
        sum(calls for _, _, calls in said),
        crier.messages,
        proxy.forwarded_bytes,
        time.monotonic() - began,
    )
    _check_books(up, page.run("return chaos.books"), said, crier)
    _check_links(server, page, signals)


def _wait_for_cuts(
    proxy: ChaosProxy, page: Page, crier: Crier, talking: list[Thread[None]]
) -> None:
    """Waits for as long as there is progress; an error of a talker ends it at once."""
    seen, since = 0, time.monotonic()
    while not proxy.wait_cuts(CUTS, 0.1):
        crier.cry()
        page.run("await chaos.check()")
        for thread in talking:
            if not thread.is_alive():
                thread.result()
        if proxy.cuts > seen:
            seen, since = proxy.cuts, time.monotonic()
        assert time.monotonic() - since < PATIENCE, "nothing is cut any more"


def _check_books(up: Book, downs: list[Any], said: list[Any], crier: Crier) -> None:
    # What browsers sent, Python counts as it comes; what went down is listed in the pages.
    came = {name: up.close(name) for name in up.talkers()}
    assert up.faults == []
    messages: dict[str, list[int]] = {}
    runs: Counter[tuple[str, int]] = Counter()
    for book in downs:
        assert book["faults"] == []
        assert book["messages"].pop(CRIER) == list(range(crier.messages))
        messages.update(book["messages"])
        runs.update((name, number) for name, numbers in book["runs"].items() for number in numbers)
    for name, count, calls in said:
        if name in came:
            assert came.pop(name) == (count, calls)
        else:
            assert messages.pop(name, []) == list(range(count)), name
            assert all(runs.pop((name, number)) == 1 for number in range(calls)), name
    assert not came
    assert not messages
    assert not runs


def _check_links(server: WseServer, page: Page, signals: Signals) -> None:
    # The last cut may have come when everything had arrived already.
    page.wait_for("chaos.clients.every(({ status }) => status === 'READY')")
    wait_until(lambda: all(connection_of(server, name).state == "open" for name in NAMES), NAMES)
    returns = len(page.log("ready")) - CLIENTS
    assert returns > 0
    # Told by other threads. A welcome may be lost on its way: then it has resumed once more.
    signals.resumed.wait_for(returns)
    for once in (signals.joined, signals.connected):
        assert sorted(once.items) == NAMES
    assert {code for code, _ in page.log("closed")} <= RETRY_CODES
    assert signals.disconnected.items == signals.left.items == []
    assert signals.wrong.items == page.log("error") == page.log("ignored") == []
    for name in NAMES:
        server.drop_client(name, "enough")
    for end in (signals.disconnected, signals.left):
        assert sorted(end.wait_for(CLIENTS)) == [(name, 1000, "enough") for name in NAMES]
    page.wait_for("chaos.clients.every(({ status }) => status === 'OFFLINE')")
