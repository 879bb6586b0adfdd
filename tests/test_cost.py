"""What a call costs, in function calls: a figure that no busy machine changes.

It guards the fast path. When whole messages go through the libraries again, or every call grows a
tail, the count passes the bound; whoever raises the bound has to say what it is worth.
"""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Callable

import pytest

from tests.conftest import MakeClient, MakeServer
from wse_sync.transport import framing

CALLS = 200
BOUND = 320
"""Of the function calls for one call; the fast path makes 290, the libraries make 425.

20 of them say whose turn it is to read: they save two changes of the thread, which take longer than
all others together.
"""


@contextmanager
def counting() -> Iterator[Callable[[], int]]:
    """Counts function calls, in Python and in C, of this thread and of those that begin now."""
    numbers = itertools.count()

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        if event in ("call", "c_call"):
            next(numbers)

    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        yield lambda: next(numbers)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def cost_of_a_call(make_server: MakeServer, make_client: MakeClient) -> float:
    """Function calls of both ends together, for one ``call()`` with a session."""
    with counting() as count:
        server = make_server()
        server.register("add", lambda conn, numbers: sum(numbers))
        client = make_client(server, reconnect=True)
        client.connect("ann")
        client.call("add", [1, 2])
        before = count()
        for _ in range(CALLS):
            client.call("add", [1, 2])
        cost = (count() - before) / CALLS
        client.disconnect()
        server.close()
    return cost


def test_a_call_costs_no_more_than_it_did(
    make_server: MakeServer, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(framing, "FAST", True)  # also when the whole suite runs without it
    assert cost_of_a_call(make_server, make_client) < BOUND


def test_the_bound_notices_that_the_fast_path_is_not_taken(
    make_server: MakeServer, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(framing, "FAST", False)
    assert cost_of_a_call(make_server, make_client) > BOUND
