"""Mixed load with random faults for a long time; prints what came of it.

    python -m tests.reliability.soak [--seconds 1800] [--clients 500] [--rate 20] [--seed …]

A server and its clients are a process each. Between them is a proxy that cuts, stalls and half
closes links at random bytes. Messages and calls go both ways, and broadcasts to all. Clients jump
and start again; others do not read. It fails

- if a message was lost, came twice or out of order, a procedure ran twice, or a call got another
  one's result; if an error or end came that is not explained;
- if at the end, when everybody has left, a thread or a descriptor is left at either side, or more
  memory in use than before they came: 1,000 objects, 10,000 blocks or 1 MiB of large ones;
- if memory grows. It is measured now and then, in a pause in which all are connected and nothing is
  on its way. The first third of the time is for it to become what it will be. Through the samples
  of the rest goes a line (least squares). It grows, if its growth is more than twice its standard
  error, and also more than 2 % of what is in use: blocks of Python, and bytes of malloc. What the
  system counts has free memory between those in it, and may grow by 10 %.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections.abc import Callable
from typing import NamedTuple
from unittest.mock import patch

from benchmarks.processes import Remote
from tests.chaos import ChaosProxy
from tests.reliability.crowd import Crowd
from tests.reliability.host import Host
from tests.reliability.vitals import Trend, Vitals, trend

__all__ = ["Soaked", "soak"]

MEBI = 2**20
LONGEST = 12.0  # s of a stall; twice of what the heartbeat puts up with
PERIOD, LEAST_SAMPLES = 90.0, 6  # s from one sample to the next, unless there would be too few
LOOKS = 6  # in that time, whether all is well
# What may be left when all have left; Python itself keeps some.
KEPT = {"objects": 1000, "blocks": 10_000, "large_bytes": MEBI}
NEWS = 0.25  # broadcasts a second
MOVES = 2.0  # jumps and restarts a second
MEMORY = {"blocks": 0.02, "large_bytes": 0.02, "resident_bytes": 0.1}  # shares that are no growth


# With arenas for its threads, and large blocks among small ones, malloc of glibc keeps ever more
# free memory for a long time; and what each thread keeps for itself it counts as in use. That is
# no leak, and would hide one.
_strict_malloc = patch.dict(
    os.environ,
    {
        "MALLOC_ARENA_MAX": "1",
        "MALLOC_MMAP_THRESHOLD_": "32768",
        "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0",
    },
)


class Sample(NamedTuple):
    """What each process takes, and when that was, in seconds since the faults began."""

    moment: float
    taken: dict[str, Vitals]


class Soaked(NamedTuple):
    """What came of it.

    Attributes:
        figures: How often what happened.
        trends: Of what each process takes of each :data:`MEMORY`, after the first third of the
            time.
        last: What each took last, with everybody there.
        rest: What each took before anybody came, and when all had left.
    """

    figures: dict[str, int]
    trends: dict[tuple[str, str], Trend]
    last: dict[str, Vitals]
    rest: dict[str, dict[str, Vitals]]

    def grows(self, least: float = 0.0) -> list[str]:
        """What grows of which process.

        Args:
            least: The share that is no growth, if it is more than :data:`MEMORY` says.
        """
        return [
            f"{measure} of {name}"
            for (name, measure), line in self.trends.items()
            if line.growth > 2 * line.error
            and line.growth > max(least, MEMORY[measure]) * getattr(self.last[name], measure)
        ]

    def keeps(self) -> list[str]:
        """What which process has kept of those who have left."""
        return [
            f"{measure} of {name}"
            for name, taken in self.rest.items()
            for measure, most in KEPT.items()
            if getattr(taken["after"], measure) > getattr(taken["before"], measure) + most
        ]


def soak(
    seconds: float, clients: int, rate: float, seed: object, say: Callable[[str], object]
) -> Soaked:
    """Runs it; raises if an invariant is violated.

    Args:
        seconds: How long the faults last.
        clients: How many.
        rate: Turns a second of the talkers of each side: some messages, and a call.
        seed: Of everything that is drawn.
        say: Gets a line now and then.
    """
    with _strict_malloc, Remote(Host, seed, clients, rate, NEWS) as host:
        host.ready()
        url = host.do("url")
        proxy = ChaosProxy(url, seed, LONGEST)
        with proxy, Remote(Crowd, seed, proxy.url, url, clients, rate, MOVES) as crowd:
            crowd.ready()
            say(f"{clients} clients are connected")
            samples = _watch(seconds, host, crowd, proxy, say)
            crowd.do("hush")
            news = host.do("hush")
            figures = _figures(host, crowd, proxy)
            rest = {"clients": crowd.do("rest", news), "server": host.do("rest")}
            say(f"all have left: {rest}")
    return Soaked(figures, _trends(samples[len(samples) // 3 :]), samples[-1].taken, rest)


def _trends(samples: list[Sample]) -> dict[tuple[str, str], Trend]:
    moments = [sample.moment for sample in samples]
    return {
        (name, measure): trend(
            moments, [getattr(sample.taken[name], measure) for sample in samples]
        )
        for name in samples[0].taken
        for measure in MEMORY
    }


def _watch(
    seconds: float, host: Remote, crowd: Remote, proxy: ChaosProxy, say: Callable[[str], object]
) -> list[Sample]:
    """Lets the faults go on for so long, with pauses, and samples of what is taken in these."""
    samples: list[Sample] = []
    count = max(LEAST_SAMPLES, round(seconds / PERIOD))
    begun = time.monotonic()
    for _ in range(count):
        proxy.rage()
        for _ in range(LOOKS):
            time.sleep(seconds / count / LOOKS)
            _figures(host, crowd, proxy)
        proxy.calm()
        crowd.do("pause")
        news = host.do("pause")
        taken = {"clients": crowd.do("vitals", news), "server": host.do("vitals")}
        samples.append(Sample(time.monotonic() - begun, taken))
        told = ", ".join(f"{name} {_brief(its)}" for name, its in taken.items())
        say(f"{samples[-1].moment:6.0f} s  {told}, {_figures(host, crowd, proxy)}")
        host.do("go_on")
        crowd.do("go_on")
    return samples


def _figures(host: Remote, crowd: Remote, proxy: ChaosProxy) -> dict[str, int]:
    figures: dict[str, int] = host.do("figures")
    for name, count in crowd.do("figures").items():
        figures[name] = figures.get(name, 0) + count
    return {**figures, "cuts": proxy.cuts}


def _brief(taken: Vitals) -> str:
    return (
        f"{taken.resident_bytes / MEBI:.1f} MiB, {taken.blocks} blocks and "
        f"{taken.large_bytes / MEBI:.1f} MiB in use, {taken.threads} threads, "
        f"{taken.descriptors} descriptors, {taken.objects} objects"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.reliability.soak")
    parser.add_argument("--seconds", type=float, default=1800.0)
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--rate", type=float, default=20.0, help="turns a second of each side")
    parser.add_argument("--seed", default=str(random.SystemRandom().randrange(10**9)))
    asked = parser.parse_args()

    def say(text: str) -> None:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    say(f"seed {asked.seed}")
    soaked = soak(asked.seconds, asked.clients, asked.rate, asked.seed, say)
    say(f"{soaked.figures}")
    for (name, measure), line in soaked.trends.items():
        last = getattr(soaked.last[name], measure)
        say(f"{name}: {last:,} {measure}; {line.growth:+,.0f}, standard error {line.error:,.0f}")
    grows, keeps = soaked.grows(), soaked.keeps()
    say(f"memory grows: {', '.join(grows)}" if grows else "memory is flat")
    say(f"there is left: {', '.join(keeps)}" if keeps else "nothing is left")
    return bool(grows or keeps)


if __name__ == "__main__":
    sys.exit(main())
