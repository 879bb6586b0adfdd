"""Fixtures for the tests of transports."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import PATIENCE
from tests.transport.ends import TRANSPORTS, WEBSOCKETS, Certificates, Ends, closing
from wse_sync.loop import loop


@pytest.fixture(autouse=True)
def loop_at_rest(nothing_left_behind: None) -> Iterator[None]:
    """The loop's thread would linger for a second after each test."""
    yield
    loop.rest(PATIENCE)


@pytest.fixture(scope="session")
def certificates() -> Certificates:
    return Certificates()


@pytest.fixture(params=TRANSPORTS)
def ends(
    request: pytest.FixtureRequest, certificates: Certificates, loop_at_rest: None
) -> Iterator[Ends]:
    """The two ends of every transport; the test is about `near`."""
    with closing(TRANSPORTS[request.param](certificates)) as made:
        yield made


@pytest.fixture(params=WEBSOCKETS)
def websockets(
    request: pytest.FixtureRequest, certificates: Certificates, loop_at_rest: None
) -> Iterator[Ends]:
    """The two ends of every transport that speaks WebSocket."""
    with closing(WEBSOCKETS[request.param](certificates)) as made:
        yield made
