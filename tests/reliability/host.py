"""The server of the soak, as an object that another process drives."""

from __future__ import annotations

import random
import threading
from collections import Counter
from typing import Any

from tests.reliability.chorus import Chorus
from tests.reliability.recess import Recess
from tests.reliability.vitals import Vitals, at_rest, settled, vitals
from tests.support import Recorder, Thread, accept_all, wait_until
from tests.talkers import Book, Talker, draw_text
from wse_sync import WseConnection, WseConnectionError, WseError, WseServer

__all__ = ["HEARTBEAT", "SLOW", "Host"]

SLOW = "slow"  # so the names of those begin who do not read
HEARTBEAT: dict[str, Any] = {"ping_interval": 3.0, "ping_timeout": 3.0}
MAX_QUEUE_BYTES = 2**20
FLOOD = "x" * 2**16
# As a client ends a session when it jumps or disconnects; or as its next connection does, where the
# goodbye was lost.
ENDS = {(4000, "jump"), (1000, "wse.by-client"), (1000, "wse.clients-concurrency")}
PATIENCE = 60.0  # s; only bounds a failure


class Host:
    """Talks to whoever connects, broadcasts, and keeps a book.

    Args:
        seed: Of what it says.
        clients: How many there will be.
        rate: Turns a second of its talkers.
        news: Broadcasts a second.
    """

    def __init__(self, seed: object, clients: int, rate: float, news: float) -> None:
        # What is imported for the first server only is there before we count.
        with WseServer(accept_all, port=0):
            pass
        self._before = vitals()
        self._seed = seed
        self._book = Book()
        self._wrong = Recorder()
        self._ends: Counter[tuple[int, str]] = Counter()
        self._sessions = 0
        self._slow = 0
        self._returns = 0
        self._talkers: dict[str, Talker] = {}
        self._server = WseServer(
            accept_all,
            port=0,
            call_timeout=None,
            # A stall must not end an attempt for good, nor an outage a session.
            auth_timeout=None,
            resume_window=3600.0,
            max_connections=4 * clients,
            max_unauthenticated=4 * clients,
            max_unauthenticated_per_address=4 * clients,
            max_queue_bytes=MAX_QUEUE_BYTES,
            **HEARTBEAT,
        )
        self._bind()
        self._server.start()
        self._chorus = Chorus(rate, seed)
        self._pause = 1 / news
        self._stop = threading.Event()
        self._recess = Recess()
        self._clients = clients
        self._chance = random.Random(f"{seed}-crier")
        self.cried = 0
        self._crier = Thread(self._cry)

    def _bind(self) -> None:
        server = self._server
        server.channel.on("message", lambda conn, payload: self._book.message(payload))
        server.register("work", lambda conn, payload: self._book.work(payload))
        server.register("enter", self._enter)
        server.register("leave", self._leave)
        server.when.connected(self._flood)
        server.when.resumed(self._resumed)
        server.when.disconnected(self._ended)
        server.when.error(self._failed)
        server.when.ignored(lambda conn, type, payload: self._wrong.add(f"ignored {type}"))

    # Orders

    def url(self) -> str:
        """Where it listens."""
        return self._server.url

    def pause(self) -> int:
        """Nobody speaks until :meth:`go_on`; returns how many broadcasts there were."""
        self._recess.begin()
        self._chorus.rest()
        self._cry_once()
        return self.cried

    def vitals(self) -> Vitals:
        """What its process takes in a pause, when all are here and nothing is on its way."""

        def is_still() -> bool:
            here = self._server.registry.connections()
            all_here = len(here) == self._clients and all(conn.state == "open" for conn in here)
            return all_here and not any(any(conn.load) for conn in here)

        return settled(is_still)

    def go_on(self) -> None:
        """The end of :meth:`pause`."""
        self._chorus.go_on()
        self._recess.end()

    def figures(self) -> dict[str, int]:
        """What it did so far; raises what went wrong."""
        wrong = self._wrong.items + self._book.faults
        assert not wrong, wrong
        self._chorus.check()
        messages, calls = self._chorus.sent
        return {
            "messages": messages,
            "calls": calls,
            "broadcasts": self.cried,
            "returns": self._returns,
            "slow readers": self._slow,
            "sessions": self._sessions,
        }

    def hush(self) -> int:
        """Ends the broadcasts, with one for all who are there now; returns how many there were."""
        self._stop.set()
        self._crier.result()
        self._cry_once()
        return self.cried

    def rest(self) -> dict[str, Vitals]:
        """When everybody has left: ends the server.

        Returns:
            What the process took before it began, and what it takes afterwards.
        """
        self._chorus.stop()
        wait_until(lambda: not self._server.clients, lambda: self._server.clients, PATIENCE)
        self.figures()
        assert not self._book.talkers(), self._book.talkers()
        assert set(self._ends) <= ENDS, self._ends
        self._server.close()
        return {"before": self._before, "after": at_rest(self._before)}

    # Handlers

    def _flood(self, conn: WseConnection) -> None:
        """Sends until the server gives up whoever does not read."""
        if not conn.cid.startswith(SLOW):
            return
        try:
            while True:
                conn.send("flood", FLOOD)
        except WseConnectionError:
            self._slow += 1

    def _enter(self, conn: WseConnection, turn: Any) -> None:
        """A session has begun at the client, too: its welcome was not lost."""
        talker = Talker(f"down {conn.cid} {turn}", conn, self._seed)
        self._talkers[conn.conn_id] = talker
        self._sessions += 1
        conn.send("begin")
        self._chorus.add(talker)

    def _leave(self, conn: WseConnection, payload: Any) -> tuple[int, int]:
        """A session is about to end: both books are compared, and forget it."""
        talker = self._talkers.pop(conn.conn_id)
        self._chorus.remove(talker)
        heard = conn.call("settle", talker.name)
        if tuple(heard) != talker.sent:
            self._wrong.add(f"{talker.name} sent {talker.sent}, there came {heard}")
        return self._book.close(payload)

    def _resumed(self, conn: WseConnection) -> None:
        self._returns += 1

    def _ended(self, conn: WseConnection, code: int, reason: str) -> None:
        if conn.conn_id in self._talkers:
            self._wrong.add(f"{conn} ended with {code} {reason}, and had not taken leave")
        if not conn.cid.startswith(SLOW):
            self._ends[code, reason] += 1

    def _failed(self, error: WseError, conn: WseConnection | None) -> None:
        if conn is None or not conn.cid.startswith(SLOW):
            self._wrong.add(f"{conn}: {error}")

    def _cry(self) -> None:
        while not self._stop.wait(self._pause):
            with self._recess.step():
                self._cry_once()

    def _cry_once(self) -> None:
        self._server.broadcast("news", [self.cried, draw_text(self._chance, self.cried)])
        self.cried += 1
