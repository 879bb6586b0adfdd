"""The metrics: those of stats(), in the form that Prometheus reads, of servers that are there."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import Connect, MakeServer
from tests.support import accept_all, connection_of
from wse_sync import WSE_ERROR, WseError, WseServer
from wse_sync.prometheus import WseCollector
from wse_sync.stats import BOUNDS


def scrape(servers: Any) -> dict[tuple[str, ...], float]:
    """What Prometheus reads, by name and values of labels in the order of their names."""
    registry = CollectorRegistry(auto_describe=True)
    registry.register(WseCollector(servers))
    return read(registry)


def read(registry: CollectorRegistry) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
    }


def test_it_says_what_stats_say(make_server: MakeServer, connect: Connect) -> None:
    server = make_server()
    server.register("divide", lambda conn, by: 1 / by)
    client = connect(server)
    client.register("measure", lambda payload: 21.5)
    client.call("divide", 1)
    with pytest.raises(WseError):
        client.call("divide", 0)
    connection_of(server).call("measure")
    server.broadcast("news")
    found, stats = scrape(server), server.stats()
    assert found["wse_connections", "open"] == found["wse_users",] == 1
    assert found["wse_connections", "suspended"] == found["wse_connections", "stranger"] == 0
    assert found["wse_messages_sent_total",] == 1
    assert found["wse_messages_received_total",] == 0
    assert found["wse_call_duration_seconds_count", "divide"] == 2
    assert found["wse_call_duration_seconds_bucket", "+Inf", "divide"] == 2
    took = stats.calls_served["divide"].seconds
    assert found["wse_call_duration_seconds_sum", "divide"] == pytest.approx(took)
    assert found["wse_call_failures_total", "divide"] == 1
    assert found["wse_outgoing_call_duration_seconds_count", "measure"] == 1
    assert found["wse_outgoing_call_failures_total", "measure"] == 0
    assert found["wse_errors_total", WSE_ERROR.RP_EXECUTION_FAILED] == 1


def test_its_buckets_are_sums_of_ours() -> None:
    server = WseServer(accept_all)
    for seconds in (0.0, *BOUNDS, 1000.0):
        server.tally.serve("add", seconds)
    found = scrape(server)
    edges = {
        float(key[1]): count
        for key, count in found.items()
        if key[0] == "wse_call_duration_seconds_bucket"
    }
    assert edges.pop(float("inf")) == len(BOUNDS) + 2
    assert {0.001, 0.0025, 0.5, 100.0} <= set(edges)
    for edge, count in edges.items():
        assert count == 1 + sum(bound <= edge for bound in BOUNDS)


def test_several_servers_have_their_names(make_server: MakeServer, connect: Connect) -> None:
    servers = {"chat": make_server(), "devices": make_server()}
    for name in ("ann", "bob"):
        connect(servers["chat"], name)
    found = scrape(servers)
    assert found["wse_users", "chat"] == 2
    assert found["wse_users", "devices"] == 0
    assert found["wse_connections", "chat", "open"] == 2


def test_a_server_that_is_gone_is_not_kept_and_has_no_figures() -> None:
    server = WseServer(accept_all)
    registry = CollectorRegistry()
    registry.register(WseCollector(server))
    assert ("wse_users",) in read(registry)
    kept = weakref.ref(server)
    del server
    gc.collect()
    assert kept() is None
    assert read(registry) == {}


def test_a_closed_server_still_has_its_counts(make_server: MakeServer, connect: Connect) -> None:
    server = make_server()
    connect(server)
    server.broadcast("news")
    server.close()
    found = scrape(server)
    assert found["wse_messages_sent_total",] == 1
    assert found["wse_connections", "open"] == 0


def test_without_the_package_it_says_what_to_install() -> None:
    program = "import sys; sys.modules['prometheus_client.core'] = None; import wse_sync.prometheus"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "pip install 'wse-sync[prometheus]'" in done.stderr.splitlines()[-1]
