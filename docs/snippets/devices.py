"""Who comes and goes, and what happens to one device too many."""

from __future__ import annotations

from queue import Queue
from typing import Any

from wse_sync import AuthRequest, WseClient, WseConnection, WseIdentity, WseServer

events: Queue[str] = Queue()


def identify(auth: AuthRequest) -> None:
    auth.accept(auth.identity)


server = WseServer(identify, port=0)  # conn_per_user=1


@server.when.joined
def joined(client: WseIdentity, meta: dict[str, Any]) -> None:
    events.put(f"{client.cid} joined")


@server.when.connected
def connected(conn: WseConnection) -> None:
    events.put(f"+ {conn.meta['device']}")


@server.when.disconnected
def disconnected(conn: WseConnection, code: int, reason: str) -> None:
    events.put(f"- {conn.meta['device']} ({code} {reason})")


@server.when.left
def left(client: WseIdentity, code: int, reason: str) -> None:
    events.put(f"{client.cid} left ({code} {reason})")


def show(count: int) -> None:
    for _ in range(count):
        print(events.get(timeout=10))


with server, WseClient(server.url, reconnect=True) as old, WseClient(server.url) as new:
    old.connect("ann", {"device": "old phone"})
    show(2)
    new.connect("ann", {"device": "new phone"})
    print(*sorted(events.get(timeout=10) for _ in range(2)), sep="\n")
    print("the old one is offline for good:", old.wait(timeout=10))
    server.drop_client("ann", "good night")
    show(2)
