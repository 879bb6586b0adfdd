"""The clients of the soak, as an object that another process drives."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import websocket

from tests.reliability.chorus import Chorus
from tests.reliability.host import HEARTBEAT, SLOW
from tests.reliability.recess import Recess
from tests.reliability.vitals import Vitals, at_rest, settled, vitals
from tests.support import RawClient, Recorder, Thread, wait_until
from tests.talkers import Book, Talker
from wse_sync import Backoff, WseClient, WseError

__all__ = ["Crowd"]

BACKOFF = Backoff(initial=0.1, factor=1.5, maximum=2.0)
MOVERS = 4
SLOW_SECONDS = 1.0  # that a slow reader does not read
SLOW_PAUSE = 10.0  # s between two of them
PATIENCE = 60.0  # s; only bounds a failure


class Feed:
    """The broadcasts that a client gets: without a gap, but where a session began.

    The first one of a session may come before the greeting or after it.
    """

    def __init__(self, wrong: Recorder) -> None:
        self.last: int | None = None
        self._gap = False  # that no greeting has explained yet
        self._greeted = False  # and no broadcast since
        self._wrong = wrong

    def news(self, payload: Any) -> None:
        number = payload[0]
        if self.last is not None and number != self.last + 1 and not self._greeted:
            if self._gap or number <= self.last:
                self._wrong.add(f"broadcast {number} after {self.last}")
            self._gap = True
        self.last = number
        self._greeted = False

    def has(self, number: int) -> bool:
        return self.last == number

    def begin(self) -> None:
        """The greeting of a session."""
        self._greeted = not self._gap
        self._gap = False

    def settle(self) -> None:
        """A session is about to end."""
        if self._gap:
            self._wrong.add(f"a gap before broadcast {self.last}")


class Member:
    """A user: one session after the other, each with a talker.

    Args:
        name: The cid.
        url: Of the server.
        crowd: With the book, the chorus and the recorder of what goes wrong.
    """

    def __init__(self, name: str, url: str, crowd: Crowd) -> None:
        self.lock = threading.Lock()
        self._name = name
        self._url = url
        self._crowd = crowd
        self._turn = 0
        self._leaving = False
        self.open()

    def open(self) -> None:
        """A new client connects."""
        client = self._client = WseClient(
            self._url,
            reconnect=True,
            backoff=BACKOFF,
            call_timeout=None,
            connect_timeout=5.0,
            **HEARTBEAT,
        )
        book, feed = self._crowd.book, Feed(self._crowd.wrong)
        self.feed = feed
        client.channel.on("message", book.message)
        client.channel.on("news", feed.news)
        client.channel.on("begin", lambda payload: feed.begin())
        client.register("work", book.work)
        client.register("settle", self._settle)
        client.when.error(self._failed)
        client.when.ignored(lambda type, payload: self._crowd.wrong.add(f"ignored {type}"))
        client.connect(self._name)
        self._begin()

    def jump(self) -> None:
        """Leaves for the same server, with a new session."""
        self.end()
        self._client.jump(self._url)
        self._begin()

    def restart(self) -> None:
        """As a program that ends and starts again."""
        self.close()
        self.open()

    @property
    def is_still(self) -> bool:
        """Whether nothing waits to be sent, acknowledged or handled."""
        return not any(self._client.connection.load)

    def close(self) -> None:
        """The end of the session and of the client."""
        self.end()
        self._client.disconnect()

    def end(self) -> None:
        """Settles everything with the server."""
        self._crowd.chorus.remove(self._talker)
        heard = self._client.call("leave", self._talker.name)
        if tuple(heard) != self._talker.sent:
            told = f"{self._talker.name} sent {self._talker.sent}, there came {heard}"
            self._crowd.wrong.add(told)
        self._leaving = True

    def _begin(self) -> None:
        self._leaving = False
        self._turn += 1
        self._client.call("enter", self._turn)
        name = f"up {self._name} {self._turn}"
        self._talker = Talker(name, self._client, self._crowd.seed)
        self._crowd.chorus.add(self._talker)

    def _settle(self, talker: str) -> tuple[int, int]:
        self.feed.settle()
        return self._crowd.book.close(talker)

    def _failed(self, error: WseError) -> None:
        # Who leaves without a link cannot know that all has arrived, and says so.
        if not (self._leaving and "messages" in error.details):
            self._crowd.wrong.add(f"{self._name}: {error}")


class Crowd:
    """Users who talk, come and go, and some who do not read.

    Args:
        seed: Of what they do.
        url: Where the members connect.
        direct: The same without a proxy, for those who do not read.
        clients: How many members.
        rate: Turns a second of their talkers.
        moves: Jumps and restarts a second.
    """

    def __init__(
        self, seed: object, url: str, direct: str, clients: int, rate: float, moves: float
    ) -> None:
        self._before = vitals()
        self.seed = seed
        self.book = Book()
        self.wrong = Recorder()
        self.chorus = Chorus(rate, seed)
        self._direct = direct
        self._moves = 0
        self._pause = MOVERS / moves
        self._stop = threading.Event()
        self._recess = Recess()
        self._members = [Member(f"client {number}", url, self) for number in range(clients)]
        self._threads = [Thread(self._be_slow)]
        self._threads += [Thread(partial(self._move, number)) for number in range(MOVERS)]

    # Orders

    def pause(self) -> None:
        """Nobody moves or speaks until :meth:`go_on`."""
        self._recess.begin()
        self.chorus.rest()

    def vitals(self, news: int) -> Vitals:
        """What its process takes in a pause, when nothing is on its way any more.

        Args:
            news: How many broadcasts there were; each member has to get the last one.
        """
        self._await_news(news)
        return settled(lambda: all(member.is_still for member in self._members))

    def go_on(self) -> None:
        """The end of :meth:`pause`."""
        self.chorus.go_on()
        self._recess.end()

    def figures(self) -> dict[str, int]:
        """What it did so far; raises what went wrong."""
        wrong = self.wrong.items + self.book.faults
        assert not wrong, wrong
        for thread in self._threads:
            if not thread.is_alive():
                thread.result()
        self.chorus.check()
        messages, calls = self.chorus.sent
        return {"messages": messages, "calls": calls, "moves": self._moves}

    def hush(self) -> None:
        """Nobody jumps or starts again any more."""
        self._stop.set()
        for thread in self._threads:
            thread.result(PATIENCE)

    def rest(self, news: int) -> dict[str, Vitals]:
        """Everybody leaves.

        Args:
            news: How many broadcasts there were; each member has to get the last one.

        Returns:
            What the process took before they came, and what it takes afterwards.
        """
        self._await_news(news)
        for member in self._members:
            member.close()
        self._members.clear()
        self.chorus.stop()
        wrong = self.wrong.items + self.book.faults + self.book.talkers()
        assert not wrong, wrong
        return {"before": self._before, "after": at_rest(self._before)}

    def _await_news(self, news: int) -> None:
        for member in self._members:
            wait_until(partial(member.feed.has, news - 1), f"broadcast {news - 1}", PATIENCE)

    # Threads

    def _move(self, mover: int) -> None:
        for chance in self._moments(f"mover {mover}"):
            member = chance.choice(self._members)
            with self._recess.step(), member.lock:
                chance.choice([member.jump, member.restart])()
            self._moves += 1

    def _moments(self, name: str) -> Iterator[random.Random]:
        chance = random.Random(f"{self.seed}-{name}")
        while not self._stop.wait(2 * chance.random() * self._pause):
            yield chance

    def _be_slow(self) -> None:
        number = 0
        while not self._stop.wait(SLOW_PAUSE):
            number += 1
            with self._recess.step():
                self._read_nothing(f"{SLOW} {number}")

    def _read_nothing(self, name: str) -> None:
        small = [(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)]
        try:
            client = RawClient(self._direct, sockopt=small, timeout=PATIENCE)
        except websocket.WebSocketBadStatusException:
            return  # no place now
        client.hi(name)
        self._stop.wait(SLOW_SECONDS)
        client.recv_close()
        client.abort()
