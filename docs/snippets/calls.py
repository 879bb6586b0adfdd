"""Calls in both directions."""

from __future__ import annotations

import threading
from concurrent.futures import as_completed
from typing import Any

from wse_sync import (
    AuthRequest,
    WseClient,
    WseConnection,
    WseError,
    WseLookupError,
    WseServer,
    WseTimeoutError,
)

finish = threading.Event()


def identify(auth: AuthRequest) -> None:
    auth.accept(auth.identity)


server = WseServer(identify, port=0)


@server.register("square")
def square(conn: WseConnection, number: int) -> int:
    return number * number


@server.register("buy")
def buy(conn: WseConnection, what: str) -> None:
    raise WseError("shop.sold-out", {"what": what}, "come back tomorrow")


@server.register("divide")
def divide(conn: WseConnection, numbers: list[float]) -> float:
    return numbers[0] / numbers[1]


@server.register("slow")
def slow(conn: WseConnection, _: Any) -> None:
    finish.wait(10)


with server, WseClient(server.url) as client:
    client.connect("ann")

    # at once
    print(client.call("square", 7))

    # several at the same time
    futures = [client.submit("square", number) for number in range(4)]
    print(sorted(future.result() for future in as_completed(futures)))

    # a failure that the other side thought of
    try:
        client.call("buy", "tea")
    except WseError as error:
        print(error.code, error.details["what"])
        print(error)

    # one that it did not think of
    try:
        client.call("divide", [1, 0])
    except WseError as error:
        print(error.code, error.details["origin"]["name"])

    # no such procedure
    try:
        client.call("cube", 7)
    except WseLookupError as error:
        print(error)

    # too slow
    try:
        client.call("slow", timeout=0.1)
    except WseTimeoutError as error:
        print(error)

    # not wanted any more
    future = client.submit("slow", timeout=None)
    print("cancelled:", future.cancel())
    finish.set()

    # the other direction
    @client.register("battery")
    def battery(_: Any) -> int:
        return 80

    for conn in server.clients["ann"].conns.values():
        print("battery:", conn.call("battery"))
