"""A whole client, and servers that say anything to it.

An input is lines, as ``feed.py`` has them. One that begins with ``?`` is for a client that comes
back: to each link, in turn, and no further. It calls as soon as it is welcomed, so that answers may
have something to answer.
"""

from __future__ import annotations

import contextlib
from concurrent.futures import Future
from functools import partial
from typing import Any
from unittest.mock import patch

from tests.fuzz.feed import CAPACITY, WIRE, feed, links_of, received
from tests.fuzz.watch import CODES, watched
from tests.support import HI, PATIENCE, Thread
from tests.transport.ends import CLOSE, TEXT
from wse_sync import WSE_STATUS, Backoff, JsonProtocol, WseClient, WseError
from wse_sync.life import Life
from wse_sync.transport import memory
from wse_sync.transport.dialing import DialFailed

PROTOCOL = JsonProtocol()
AT_ONCE = Backoff(initial=1e-6, factor=1.0, maximum=1e-6)


def run(data: bytes) -> None:
    returns = data[:1] == b"?"
    coming = links_of(data[returns:])
    dialed, feeders = [], []

    def dial(life: Life, url: str) -> memory.MemoryTransport:
        for lines in coming:
            near, far = memory.pair(CAPACITY)
            dialed.append(far)
            feeders.append(Thread(partial(feed, lines, far, near, life._connection.lane)))
            return near
        raise DialFailed("there is no other server", final=True)

    with watched(), patch.object(Life, "_dial", dial):
        live(returns)
        for feeder in feeders:
            feeder.result()
    for far in dialed:
        check(far)


def live(returns: bool) -> None:
    """The life of one client."""
    client = WseClient("ws://memory/", reconnect=returns, backoff=AT_ONCE, ping_interval=None)
    calls: list[Future[Any]] = []
    errors: list[BaseException] = []
    client.when.error(errors.append)
    client.when.ready(lambda welcome: submit(client, calls))
    client.channel.on("say", lambda payload: None)
    client.register("echo", lambda payload: payload)
    client.challenge(lambda quest: quest)
    try:
        with contextlib.suppress(WseError):
            client.connect("ann", timeout=PATIENCE)
        assert client.wait(PATIENCE), "the end of the link is not noticed"
    finally:
        client.disconnect()
    assert client.status == WSE_STATUS.OFFLINE
    assert all(isinstance(error, WseError) for error in errors), errors
    assert all(call.done() for call in calls)


def submit(client: WseClient, calls: list[Future[Any]]) -> None:
    with contextlib.suppress(ConnectionError):  # it may be over
        calls.append(client.submit("ask"))


def check(far: memory.MemoryTransport) -> None:
    """Looks at what the client has sent."""
    frames = WIRE.parse(received(far))
    closes = [number for number, frame in enumerate(frames) if frame.opcode == CLOSE]
    assert closes in ([], [len(frames) - 1]), "something behind a close"
    if closes:
        assert int.from_bytes(frames[-1].body[:2], "big") in CODES
    messages = [PROTOCOL.unpack(frame.body) for frame in frames if frame.opcode == TEXT]
    assert [message.type for message in messages].index(HI) == 0
