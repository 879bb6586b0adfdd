"""Fixtures for every test: endpoints that end with the test, and a watch over what they leave."""

from __future__ import annotations

import contextlib
import math
import os
import random
import threading
import time
from collections.abc import Iterator
from typing import Any, Callable, Protocol, Union

import pytest
from hypothesis import settings

from tests.support import (
    RawClient,
    RawPeer,
    RawServer,
    accept_all,
    open_sockets,
    url_of,
    wait_until,
)
from wse_sync import AuthRequest, WseClient, WseServer, procedures, turn
from wse_sync.loop import loop
from wse_sync.signals import Signal
from wse_sync.testing import TestServer

settings.register_profile("wse", deadline=None, derandomize=True, database=None)
settings.load_profile("wse")

Target = Union[WseServer, TestServer, RawServer, str]

if os.environ.get("WSE_TESTS") == "seldom":
    # What happens seldom happens always. Every call counts as quick, and one answer is enough.
    procedures.QUICK, procedures.QUICK_RUNS = math.inf, 0
    turn.ANSWERS = 1

    # And a signal comes late, by chance: behind whatever does not have to wait for it.
    def settle_late(
        signal: Signal, *values: Any, _settle: Any = Signal.settle, **connection: Any
    ) -> None:
        time.sleep(_late.choice((0.0, 0.001, 0.05 * _late.random())))
        _settle(signal, *values, **connection)

    Signal.settle = settle_late  # type: ignore[assignment, method-assign]
    _late = random.Random(os.urandom(8))  # that of the module is hypothesis's to seed


class MakeServer(Protocol):
    """Starts a server on a free port; `start=False` leaves that to the test."""

    def __call__(
        self,
        identify: Callable[[AuthRequest], object] = ...,
        *,
        start: bool = ...,
        **options: Any,
    ) -> WseServer: ...


class MakeTestServer(Protocol):
    """Opens a server for clients of this process only; the options are those of the server."""

    def __call__(
        self, identify: Callable[[AuthRequest], object] = ..., **options: Any
    ) -> TestServer: ...


class MakeClient(Protocol):
    """Makes a client that is not connected yet."""

    def __call__(self, target: Target, **options: Any) -> WseClient: ...


class Connect(Protocol):
    """Makes a client and connects it as `identity`."""

    def __call__(
        self,
        target: Target,
        identity: Any = ...,
        meta: dict[str, Any] | None = ...,
        **options: Any,
    ) -> WseClient: ...


class MakeRawClient(Protocol):
    """Opens a raw WebSocket connection."""

    def __call__(self, target: Target, **options: Any) -> RawClient: ...


class MakeRawServer(Protocol):
    """Starts a raw server that plays the script."""

    def __call__(self, script: Callable[[RawPeer], None], *, accept: bool = ...) -> RawServer: ...


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fail the test that leaves a thread or an open socket.

    Workers are joined by close() and disconnect(); the background thread of the process ends by
    itself when nothing is live any more. Both may take a moment, hence the wait.
    """
    threads_before = set(threading.enumerate())
    sockets_before = open_sockets()
    yield

    def threads_left() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread not in threads_before]

    def timers_left() -> list[object]:
        return [timer.callback for _, _, timer in loop._heap if timer.callback is not None]

    wait_until(
        lambda: not threads_left(),
        lambda: f"threads left: {threads_left()}, timers left: {timers_left()}",
    )
    wait_until(
        lambda: not open_sockets() - sockets_before,
        lambda: f"sockets left: {sorted(open_sockets() - sockets_before)}",
    )


@pytest.fixture
def no_late_acks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Acknowledgements come only because of what was received, never because of the time."""
    monkeypatch.setattr("wse_sync.core.delivery.ACK_SECONDS", 3600.0)


@pytest.fixture
def endpoints(nothing_left_behind: None) -> Iterator[contextlib.ExitStack]:
    """Everything that the fixtures below make, ended in the reverse order at the end."""
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture
def make_server(endpoints: contextlib.ExitStack) -> MakeServer:
    def make(
        identify: Callable[[AuthRequest], object] = accept_all,
        *,
        start: bool = True,
        **options: Any,
    ) -> WseServer:
        options.setdefault("port", 0)
        server = WseServer(identify, **options)
        endpoints.callback(server.close)
        if start:
            server.start()
        return server

    return make


@pytest.fixture
def make_test_server(endpoints: contextlib.ExitStack) -> MakeTestServer:
    def make(identify: Callable[[AuthRequest], object] = accept_all, **options: Any) -> TestServer:
        return endpoints.enter_context(TestServer(WseServer(identify, **options)))

    return make


@pytest.fixture
def make_client(endpoints: contextlib.ExitStack) -> MakeClient:
    def make(target: Target, **options: Any) -> WseClient:
        client = WseClient(url_of(target), **options)
        endpoints.callback(client.disconnect)
        return client

    return make


@pytest.fixture
def connect(make_client: MakeClient) -> Connect:
    def connect(
        target: Target,
        identity: Any = "ann",
        meta: dict[str, Any] | None = None,
        **options: Any,
    ) -> WseClient:
        client = make_client(target, **options)
        client.connect(identity, meta)
        return client

    return connect


@pytest.fixture
def make_raw_client(endpoints: contextlib.ExitStack) -> MakeRawClient:
    def make(target: Target, **options: Any) -> RawClient:
        client = RawClient(url_of(target), **options)
        endpoints.callback(client.abort)
        return client

    return make


@pytest.fixture
def make_raw_server(endpoints: contextlib.ExitStack) -> MakeRawServer:
    def make(script: Callable[[RawPeer], None], *, accept: bool = True) -> RawServer:
        server = RawServer(script, accept=accept)
        endpoints.callback(server.close)
        return server

    return make
