"""The soak in its short form. It takes longest, and its name has it begin first."""

from __future__ import annotations

import logging
import random

from tests.reliability.soak import soak

SECONDS = 100.0
"""With coming, pauses and leaving it is two minutes; then pytest would show where a test hangs."""
CLIENTS = 40
LEAST = 0.05
"""In the first minutes memory may still grow a little."""

_log = logging.getLogger(__name__)


def test_37_45_two_minutes_of_everything_at_once_break_and_leave_nothing() -> None:
    seed = random.SystemRandom().randrange(10**9)
    try:
        soaked = soak(SECONDS, CLIENTS, 20.0, seed, _log.info)
    except Exception as error:
        raise AssertionError(f"with the seed {seed}") from error
    assert not soaked.grows(LEAST), soaked
    assert not soaked.keeps(), soaked
    # Each of these was there, or it was no test of it.
    assert all(soaked.figures.values()), soaked.figures
