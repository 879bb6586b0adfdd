"""Fixtures for the tests of what runs: threads, order, links."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import PATIENCE
from tests.transport.ends import Certificates
from wse_sync.loop import Loop
from wse_sync.loop import loop as process_loop
from wse_sync.workers import Workers


@pytest.fixture(autouse=True)
def loop_at_rest(nothing_left_behind: None) -> Iterator[None]:
    """The loop's thread would linger for a second after each test."""
    yield
    process_loop.rest(PATIENCE)


@pytest.fixture
def loop(loop_at_rest: None) -> Iterator[Loop]:
    """A loop of its own."""
    made = Loop()
    yield made
    made.rest(PATIENCE)


@pytest.fixture
def workers(loop_at_rest: None) -> Iterator[Workers]:
    """Workers with places for four calls, joined at the end."""
    made = Workers(4)
    yield made
    assert made.join(PATIENCE)


@pytest.fixture(scope="session")
def certificates() -> Certificates:
    return Certificates()
