"""The server of the tutorial."""

from __future__ import annotations

import hmac
from typing import Any

from wse_sync import AuthRequest, WseConnection, WseIdentity, WseServer

PEOPLE = {"ann": "sesame", "bob": "mellon"}


def identify(auth: AuthRequest) -> None:
    name, password = auth.identity["name"], auth.identity["password"]
    if name in PEOPLE and hmac.compare_digest(PEOPLE[name].encode(), password.encode()):
        auth.accept(name, f"hello, {name}")
    else:
        auth.refuse()


server = WseServer(identify, port=8765, conn_per_user=2)


@server.channel.on("say")
def say(conn: WseConnection, text: str) -> None:
    server.broadcast("said", f"{conn.cid}: {text}")


@server.register("add")
def add(conn: WseConnection, numbers: list[float]) -> float:
    return sum(numbers)


@server.register("batteries")
def batteries(conn: WseConnection, _: Any) -> dict[str, int]:
    """Asks all devices of the user."""
    devices = server.clients[conn.cid].conns.values()
    return {device.meta["device"]: device.call("battery") for device in devices}


@server.when.joined
def joined(client: WseIdentity, meta: dict[str, Any]) -> None:
    print(f"{client.cid} joined", flush=True)


@server.when.left
def left(client: WseIdentity, code: int, reason: str) -> None:
    print(f"{client.cid} left ({code} {reason})", flush=True)


print("listening on", server.start().url, flush=True)
server.serve_forever()
