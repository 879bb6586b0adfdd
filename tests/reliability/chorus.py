"""One thread for many talkers: each says something now and then."""

from __future__ import annotations

import random
import threading

from tests.reliability.recess import Recess
from tests.support import Thread
from tests.talkers import Talker

__all__ = ["Chorus"]


class Chorus:
    """Picks a talker so many times a second, and passes over those who wait for answers.

    Args:
        rate: Turns a second, of all talkers together.
        seed: Of the choice.
    """

    def __init__(self, rate: float, seed: object) -> None:
        self._pause = 1 / rate
        self._chance = random.Random(f"{seed}-chorus")
        self._lock = threading.Lock()
        self._talkers: list[Talker] = []
        self._stop = threading.Event()
        self._sent = [0, 0]  # of those who have left
        self._recess = Recess()
        self._thread = Thread(self._sing)

    @property
    def sent(self) -> tuple[int, int]:
        """Messages and calls of all talkers so far."""
        with self._lock:
            now = [talker.sent for talker in self._talkers]
            return (
                self._sent[0] + sum(messages for messages, _ in now),
                self._sent[1] + sum(calls for _, calls in now),
            )

    def add(self, talker: Talker) -> None:
        """From now on it has its turns."""
        with self._lock:
            self._talkers.append(talker)

    def remove(self, talker: Talker) -> None:
        """It has none any more; waits for the answers that it still gets."""
        with self._lock:
            self._talkers.remove(talker)
            self._sent = [ours + its for ours, its in zip(self._sent, talker.sent)]
        talker.check()

    def check(self) -> None:
        """Raises what went wrong in the thread."""
        if not self._thread.is_alive():
            self._thread.result()

    def rest(self) -> None:
        """Nobody has a turn until :meth:`go_on`; waits for the answers that all still get."""
        self._recess.begin()
        for talker in self._talkers:
            talker.check()

    def go_on(self) -> None:
        """The end of :meth:`rest`."""
        self._recess.end()

    def stop(self) -> None:
        """Ends the thread; the talkers stay."""
        self._stop.set()
        self._thread.result()

    def _sing(self) -> None:
        while not self._stop.wait(self._pause):
            with self._recess.step(), self._lock:
                if not self._talkers:
                    continue
                talker = self._chance.choice(self._talkers)
                if not talker.is_behind:
                    talker.say()
                    talker.submit()
