"""Figures of servers for Prometheus, each time it asks: a collector for prometheus-client.

Nothing is kept here but weak references to the servers. Whoever scrapes comes in its own thread.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate

try:
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        Metric,
    )
    from prometheus_client.registry import Collector
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        "wse_sync.prometheus needs prometheus-client: pip install 'wse-sync[prometheus]'",
        name=missing.name,
    ) from missing

from .server import WseServer
from .stats import BOUNDS, CallStats, ServerStats

__all__ = ["WseCollector"]

# Three for each power of ten are enough for a graph, and fewer series to store.
_EDGES = {float(f"{step}e{power}") for power in range(-4, 3) for step in ("1", "2.5", "5")}
_BUCKETS = [number for number, bound in enumerate(BOUNDS) if bound in _EDGES]

_CONNECTIONS = {"open": "connections", "suspended": "suspended", "stranger": "strangers"}

_GAUGES = {
    "users": "Users who are there.",
    "calls_running": "Handlers of calls that run now.",
    "calls_waiting": "Calls that wait for one of the workers.",
    "calls_open": "Calls of ours that have no answer yet.",
    "queued_bytes": "Bytes that have not gone out yet.",
    "unacknowledged_bytes": "Bytes that sessions keep until the client says that it has them.",
    "unhandled_bytes": "Bytes that were received and are not handled yet.",
}

_COUNTERS = {
    "messages_received": "Messages from clients.",
    "messages_sent": "Messages to clients, a broadcast for each connection.",
}

_CALLS: dict[str, tuple[str, str, Callable[[ServerStats], Mapping[object, CallStats]]]] = {
    "call": (
        "Calls of clients, from when they were read until the handler returned.",
        "Calls of clients that failed.",
        lambda stats: stats.calls_served,
    ),
    "outgoing_call": (
        "Calls to clients, until the answer came.",
        "Calls to clients that failed.",
        lambda stats: stats.calls_made,
    ),
}


class WseCollector(Collector):
    """What ``stats()`` says, as metrics for a registry of prometheus-client.

    It does not keep a server alive: of one that is gone there are no figures any more. Any thread
    may collect.

    Args:
        servers: A server, or several by names, which become the label ``server``. Of a
            :class:`wse_sync.flask.WseFlask` with several applications, give ``wse.of(app)`` of
            each.
    """

    def __init__(self, servers: WseServer | Mapping[str, WseServer]) -> None:
        several = isinstance(servers, Mapping)
        self._labels = ["server"] if several else []
        named = servers.items() if isinstance(servers, Mapping) else [("", servers)]
        self._servers = [([name] if several else [], weakref.ref(server)) for name, server in named]

    def collect(self) -> Iterator[Metric]:
        """All metrics at this moment."""
        alive = [(labels, reference()) for labels, reference in self._servers]
        found = [(labels, server.stats()) for labels, server in alive if server is not None]
        del alive  # or who reads slowly would keep the servers
        yield from self._numbers(found)
        for name, (duration, failures, choose) in _CALLS.items():
            yield from self._calls(
                name, duration, failures, [(labels, choose(stats)) for labels, stats in found]
            )
        errors = CounterMetricFamily(
            "wse_errors", "Errors by their code.", labels=[*self._labels, "code"]
        )
        for labels, stats in found:
            for code, count in stats.errors.items():
                errors.add_metric([*labels, code], count)
        yield errors

    def _numbers(self, found: list[tuple[list[str], ServerStats]]) -> Iterator[Metric]:
        connections = GaugeMetricFamily(
            "wse_connections", "Connections.", labels=[*self._labels, "state"]
        )
        for labels, stats in found:
            for state, figure in _CONNECTIONS.items():
                connections.add_metric([*labels, state], getattr(stats, figure))
        yield connections
        for family, figures in ((GaugeMetricFamily, _GAUGES), (CounterMetricFamily, _COUNTERS)):
            for figure, text in figures.items():
                metric = family(f"wse_{figure}", text, labels=self._labels)
                for labels, stats in found:
                    metric.add_metric(labels, getattr(stats, figure))
                yield metric

    def _calls(
        self,
        name: str,
        duration: str,
        failures: str,
        found: list[tuple[list[str], Mapping[object, CallStats]]],
    ) -> Iterator[Metric]:
        labels = [*self._labels, "procedure"]
        took = HistogramMetricFamily(f"wse_{name}_duration_seconds", duration, labels=labels)
        failed = CounterMetricFamily(f"wse_{name}_failures", failures, labels=labels)
        for values, table in found:
            for procedure, calls in table.items():
                own = [*values, str(procedure)]
                took.add_metric(own, _cumulative(calls), calls.seconds)
                failed.add_metric(own, calls.failed)
        yield took
        yield failed


def _cumulative(calls: CallStats) -> list[tuple[str, float]]:
    """The buckets as Prometheus wants them: with all that took less, and all together at last."""
    sums = list(accumulate(calls.buckets))
    return [*((str(BOUNDS[number]), sums[number]) for number in _BUCKETS), ("+Inf", sums[-1])]
