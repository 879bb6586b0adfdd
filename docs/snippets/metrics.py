"""A server that is watched: at a prompt, by a program, and by Prometheus."""

from __future__ import annotations

import json
import urllib.request

from prometheus_client import REGISTRY, make_wsgi_app

from wse_sync import AuthRequest, WseClient, WseConnection, WseServer
from wse_sync.prometheus import WseCollector


def identify(auth: AuthRequest) -> None:
    auth.accept(auth.identity)


# Whoever asks by HTTP gets the metrics; the WebSocket has a path of its own.
server = WseServer(identify, port=0, path="/ws", http_app=make_wsgi_app())
REGISTRY.register(WseCollector(server))


@server.register("add")
def add(conn: WseConnection, numbers: list[float]) -> float:
    return sum(numbers)


with server, WseClient(server.url) as client:
    client.connect("ann")
    client.call("add", [2, 3])

    before = server.stats()
    for number in range(10):
        client.call("add", [number, 1])
        server.broadcast("counted", number)
    stats = server.stats()

    print(stats.connections, "connection,", stats.calls_served["add"].count, "calls")
    since = stats.since(before)
    print(since.calls_served["add"].count, "calls and", since.messages_sent, "messages since then")
    slowest = stats.calls_served["add"].percentile(99)
    assert slowest is not None and slowest < 10  # seconds

    print(json.dumps(stats.as_dict()["errors"]))

    page = server.url.replace("ws://", "http://").replace("/ws", "/metrics")
    with urllib.request.urlopen(page) as response:
        lines = response.read().decode().splitlines()
    print(*[line for line in lines if line.startswith("wse_messages")], sep="\n")
