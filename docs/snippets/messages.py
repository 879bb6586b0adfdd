"""Messages: to the server, to a user, to one device, to everyone."""

from __future__ import annotations

from queue import Queue
from typing import Any

from wse_sync import AuthRequest, WseClient, WseConnection, WseServer

events: Queue[str] = Queue()


def identify(auth: AuthRequest) -> None:
    auth.accept(auth.identity)


server = WseServer(identify, port=0, conn_per_user=2)


@server.when.connected
def connected(conn: WseConnection) -> None:
    conn.data["said"] = 0  # a dict for whatever belongs to this connection


@server.channel.on("say")
def say(conn: WseConnection, text: str) -> None:
    conn.data["said"] += 1
    events.put(f"{conn.cid} ({conn.meta['device']}, {conn.data['said']}): {text}")


@server.when.ignored
def ignored(conn: WseConnection, type: str, payload: Any) -> None:
    events.put(f"nobody handles {type!r}")


def log_in(user: str, device: str) -> WseClient:
    client = WseClient(server.url)

    @client.channel.on("news")
    def news(text: str) -> None:
        events.put(f"{user}'s {device} got {text!r}")

    client.connect(user, {"device": device})
    return client


with server:
    phone = log_in("ann", "phone")
    laptop = log_in("ann", "laptop")
    print("devices of ann:", len(server.clients["ann"].conns))

    phone.send("say", "hello")
    phone.send("say", "anybody here?")
    phone.send("shout", "HELLO")
    for _ in range(3):
        print(events.get(timeout=10))

    print("to a user:", server.send("ann", "news", "tea"), "devices")
    print(*sorted(events.get(timeout=10) for _ in range(2)), sep="\n")

    for conn in server.clients["ann"].conns.values():
        if conn.meta["device"] == "laptop":
            conn.send("news", "only for the laptop")
    print(events.get(timeout=10))

    print("to everyone:", server.broadcast("news", "cake"), "devices")
    print(*sorted(events.get(timeout=10) for _ in range(2)), sep="\n")

    print("to somebody who is not there:", server.send("bob", "news", "?"), "devices")

    phone.disconnect()
    laptop.disconnect()
