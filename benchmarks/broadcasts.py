"""Figures of broadcasts: against sending to each, and with a reader that has stopped."""

from __future__ import annotations

from statistics import median, quantiles
from time import perf_counter
from typing import NamedTuple

from .crowd import Crowd, frame_size
from .measure import heading, interleave, show
from .servers import ServerProcess

__all__ = ["against_each", "stopped_reader"]

_CONNECTIONS = 1000
_NEWS = "x" * 120
_FLOOD, _FLOOD_TIMES = "x" * 65000, 192  # 12 MB: more than the system buffers, less than the queue
_REPEAT = 3  # broadcasts in a block


class _Times(NamedTuple):
    """Of a broadcast, in seconds."""

    returned: float
    arrived: float


def against_each(quick: bool) -> None:
    """The time of packing and sending to each, by that of a broadcast.

    By the libraries used plainly, which is what a program does without ours; and by our own
    ``send``, whose packing and framing costs so little that a broadcast saves less of it.
    """
    heading(f"3. broadcast of 120 bytes to {_CONNECTIONS} connections")
    with _server() as server, Crowd(server.urls["wse"]) as crowd:
        crowd.grow(_CONNECTIONS)
        results = interleave(
            {
                "broadcast": lambda: _send(server, crowd, "broadcast"),
                "each": lambda: _send(server, crowd, "send_to_each"),
                "plainly": lambda: _send(server, crowd, "send_plainly"),
            },
            20 if quick else 80,
        )
    for how, what in (("plainly", "by the libraries"), ("each", "by conn.send()")):
        returned = [result[how].returned / result["broadcast"].returned for result in results]
        arrived = [result[how].arrived / result["broadcast"].arrived for result in results]
        least = 1.6 if how == "plainly" else None
        show(
            f"packing and sending to each {what} / a broadcast, to its return",
            returned,
            at_least=least,
        )
        show("  until all have received it", arrived, at_least=least)


def stopped_reader(quick: bool) -> None:
    """The time of a broadcast when one reader has stopped, by that of one when none has.

    The same ratio of two broadcasts when none has shows what chance does.
    """
    heading(f"   one of the {_CONNECTIONS} has stopped reading")
    with _server() as server, Crowd(server.urls["wse"]) as crowd:
        crowd.grow(_CONNECTIONS)

        flood = _FLOOD_TIMES * frame_size(_FLOOD)

        def run_stopped() -> _Times:
            crowd.stop_first()
            server.do("flood", "0", _FLOOD, _FLOOD_TIMES)
            times = _send(server, crowd, "broadcast")
            crowd.resume_first(flood + _REPEAT * frame_size(_NEWS))
            return times

        def run() -> _Times:
            crowd.stop_first()
            server.do("flood", "0", _FLOOD, _FLOOD_TIMES)
            crowd.resume_first(flood)
            return _send(server, crowd, "broadcast")

        results = interleave(
            {"stopped": run_stopped, "none": run, "none again": run}, 20 if quick else 80
        )
    for index, until in enumerate(("until it returns", "until the other 999 have received it")):
        chance = [result["none again"][index] / result["none"][index] for result in results]
        ratios = [result["stopped"][index] / result["none"][index] for result in results]
        show(f"time of a broadcast, none / none stopped, {until}", chance)
        # More than chance does in three of four cases would be a difference.
        show("  one / none stopped", ratios, at_most=quantiles(chance, n=4)[2])


def _server() -> ServerProcess:
    # No heartbeat: nobody in the crowd would answer it.
    return ServerProcess(ping_interval=None)


def _send(server: ServerProcess, crowd: Crowd, how: str) -> _Times:
    """The medians of some broadcasts, each begun when the one before has arrived."""
    times = []
    for _ in range(_REPEAT):
        start = perf_counter()
        server.order(how, _NEWS)
        crowd.receive(frame_size(_NEWS))
        arrived = perf_counter() - start
        times.append(_Times(server.outcome(), arrived))
    return _Times(median(t.returned for t in times), median(t.arrived for t in times))
