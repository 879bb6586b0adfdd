"""A proxy that is a bad network: it ends link after link at a random byte.

Each link gets a plan, drawn from a seeded generator: so many bytes, both directions together, then
a fault. The last bytes before it go one at a time. Which byte of which frame that is depends on
what the ends send, so a seed repeats the plans, not the run.
"""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass

from tests.faults import CHUNK_BYTES, End, FaultProxy, Link

LOGIN_BYTES = 900
"""The upgrade, hi and the welcome are about as long; with TLS the handshake of that goes before."""
MOST_BYTES = 300_000
"""Enough for the longest frame of a test, or the link would never get past it."""
MOST_SECONDS = 1.5
"""Longer than the silence that the ends put up with in most tests."""


class Fault(enum.Enum):
    """What happens to a link when its bytes are used up."""

    FIN = enum.auto()  # to both sides
    RST = enum.auto()
    STALL = enum.auto()  # nothing goes through for a while; then FIN or RST
    PAUSE = enum.auto()  # likewise; then the link goes on, with another plan
    LATE_TO_SERVER = enum.auto()  # FIN to the client; what it has sent arrives after a while
    LATE_TO_CLIENT = enum.auto()  # the other way round
    HALF_OPEN = enum.auto()  # FIN to the client; the server sees the end after a while


WEIGHTS = {
    Fault.FIN: 25,
    Fault.RST: 25,
    Fault.STALL: 10,
    Fault.PAUSE: 10,
    Fault.LATE_TO_SERVER: 10,
    Fault.LATE_TO_CLIENT: 10,
    Fault.HALF_OPEN: 10,
}
"""How often each comes, of 100 times."""


@dataclass(frozen=True)
class Plan:
    """What is to become of a link.

    Attributes:
        total_bytes: Forwarded before the fault.
        single_bytes: So many of them, the last, go one at a time.
        fault: What comes then.
        seconds: How long a fault lasts that has a length.
        to_server: Whether what goes to the server is stalled in it.
        to_client: Likewise; one of the two at least.
        reset: Whether a stall ends with a RST.
    """

    total_bytes: int
    single_bytes: int
    fault: Fault
    seconds: float
    to_server: bool
    to_client: bool
    reset: bool


def draw(chance: random.Random, longest: float = MOST_SECONDS) -> Plan:
    """Draws a plan, whose fault lasts so many seconds at the longest."""
    if chance.random() < 0.25:
        total_bytes = chance.randint(1, LOGIN_BYTES)
    else:
        total_bytes = int(LOGIN_BYTES * (MOST_BYTES / LOGIN_BYTES) ** chance.random())
    single_bytes = chance.randint(1, 500) if chance.random() < 0.3 else 0
    to_server, to_client = chance.choice([(True, True), (True, False), (False, True)])
    return Plan(
        total_bytes,
        single_bytes,
        chance.choices(list(WEIGHTS), list(WEIGHTS.values()))[0],
        chance.random() ** 2 * longest,
        to_server,
        to_client,
        chance.random() < 0.5,
    )


class _Fate:
    """The plan of a link, and how many bytes it has left."""

    def __init__(self, seed: str, longest: float) -> None:
        self._chance = random.Random(seed)
        self._longest = longest
        self.turn()

    def turn(self) -> None:
        """Begins with another plan."""
        self.plan = draw(self._chance, self._longest)
        self.left = self.plan.total_bytes


class ChaosProxy(FaultProxy):
    """Forwards in peace until `rage()`, and again after `calm()`.

    Args:
        target: URL to forward to.
        seed: Of the plans.
        longest: How long a fault lasts at the most, in seconds.
    """

    def __init__(self, target: str, seed: object, longest: float = MOST_SECONDS) -> None:
        self._seed = seed
        self._longest = longest
        self._raging = False
        self._fates: dict[Link, _Fate] = {}
        self._drawn = 0
        self._cuts: dict[Fault, int] = {}
        super().__init__(target)

    @property
    def cuts(self) -> int:
        """How many links were cut so far."""
        with self._changed:
            return sum(self._cuts.values())

    def __repr__(self) -> str:
        with self._changed:
            kinds = ", ".join(f"{count} {fault.name}" for fault, count in self._cuts.items())
            return f"<ChaosProxy seed={self._seed} cuts: {kinds or 'none'}>"

    def wait_cuts(self, count: int, timeout: float) -> bool:
        """Waits until so many links were cut."""
        with self._changed:
            return self._changed.wait_for(lambda: sum(self._cuts.values()) >= count, timeout)

    def rage(self) -> None:
        """Begins: links that are open get a plan as well."""

        def rage() -> None:
            self._raging = True
            for link in self._links:
                self._opened(link)

        self._do(rage)

    def calm(self) -> None:
        """Lets everything through from now on, what was stalled included."""

        def calm() -> None:
            self._raging = False
            self._fates.clear()
            for link in list(self._links):
                self._let_go(link)

        self._do(calm)

    # What follows runs in the proxy's thread.

    def _opened(self, link: Link) -> None:
        if self._raging:
            self._drawn += 1
            self._fates[link] = _Fate(f"{self._seed}-{self._drawn}", self._longest)

    def _may_read(self, link: Link) -> int:
        fate = self._fates.get(link)
        if fate is None:
            return CHUNK_BYTES
        several = fate.left - fate.plan.single_bytes
        return max(1, min(several, CHUNK_BYTES))

    def _took(self, link: Link, count: int) -> None:
        fate = self._fates.get(link)
        if fate is not None:
            fate.left -= count
            if fate.left == 0:
                # Not here: somebody is at work on the link. Nothing more goes through until then.
                link.near.stalled = link.far.stalled = True
                self._call_later(0.0, lambda: self._strike(link))

    def _strike(self, link: Link) -> None:
        fate = self._fates.pop(link, None)
        if fate is None or link not in self._links:
            return
        plan = fate.plan
        if plan.fault in (Fault.FIN, Fault.RST):
            self._cut(link, plan.fault, reset=plan.fault is Fault.RST)
        elif plan.fault is Fault.LATE_TO_SERVER:
            self._cut_early(link, plan, link.near)
        elif plan.fault is Fault.LATE_TO_CLIENT:
            self._cut_early(link, plan, link.far)
        elif plan.fault is Fault.HALF_OPEN:
            link.far.held_open = True
            self._cut_early(link, plan, link.near)
            link.near.stalled = False
        else:
            link.near.stalled, link.far.stalled = plan.to_server, plan.to_client
            self._call_later(plan.seconds, lambda: self._end_stall(link, fate))

    def _end_stall(self, link: Link, fate: _Fate) -> None:
        if not self._raging or link not in self._links:
            return
        if fate.plan.fault is Fault.STALL:
            self._cut(link, Fault.STALL, reset=fate.plan.reset)
        else:
            fate.turn()
            self._fates[link] = fate
            link.near.stalled = link.far.stalled = False

    def _cut(self, link: Link, fault: Fault, *, reset: bool) -> None:
        self._count(fault)
        if reset:
            self._drop(link)
        else:
            self._finish(link)

    def _cut_early(self, link: Link, plan: Plan, first: End) -> None:
        """One side sees the end now, the other after a while."""
        self._count(plan.fault)
        self._finish_end(first)
        for end in link.ends():
            end.stalled = end is first  # what the other still sends is thrown away
        self._call_later(plan.seconds, lambda: self._let_go(link))

    def _let_go(self, link: Link) -> None:
        for end in link.ends():
            end.stalled = end.held_open = False
        if link in self._links:
            self._pump(link)

    def _count(self, fault: Fault) -> None:
        self._cuts[fault] = self._cuts.get(fault, 0) + 1
        self._changed.notify_all()

    def _drop(self, link: Link, *, reset: bool = True) -> None:
        self._fates.pop(link, None)
        super()._drop(link, reset=reset)
