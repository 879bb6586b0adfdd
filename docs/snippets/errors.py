"""What goes wrong in handlers, seen from the end that has them."""

from __future__ import annotations

import logging
from queue import Queue
from typing import Any

from wse_sync import AuthRequest, WseClient, WseConnection, WseError, WseServer

# The library logs to "wse_sync.server", "wse_sync.client" and "wse_sync", and sets up nothing.
logging.basicConfig(level=logging.CRITICAL, format="%(levelname)s %(name)s: %(message)s")

failures: Queue[tuple[BaseException, Any]] = Queue()


def identify(auth: AuthRequest) -> None:
    auth.accept(auth.identity)


server = WseServer(identify, port=0)
server.when.error(lambda error, conn: failures.put((error, conn)))


@server.channel.on("age")
def age(conn: WseConnection, text: str) -> None:
    int(text)


@server.register("age")
def age_in(conn: WseConnection, text: str) -> int:
    return int(text)


with server, WseClient(server.url) as client:
    client.connect("ann")

    client.send("age", "ten")
    error, conn = failures.get(timeout=10)
    print(conn.cid, "- message -", type(error).__name__)

    try:
        client.call("age", "ten")
    except WseError as at_the_caller:
        print("at the caller -", at_the_caller.code)
    error, conn = failures.get(timeout=10)
    assert isinstance(error, WseError)
    print(conn.cid, "- procedure", error.details["rp"], "-", type(error.__cause__).__name__)

    # The connection has taken no harm.
    print(client.call("age", "10"))
