"""The option ``rate_limit``, and who counts."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from tests.support import Thread
from wse_sync import WseServer, clock
from wse_sync.rates import Meter, RateLimit, check_rate


def test_none_is_no_limit() -> None:
    assert check_rate(None) is None


@pytest.mark.parametrize("given", [(10, 1), [10, 1.0], (10, 1.0)])
def test_a_pair_is_a_limit(given: Any) -> None:
    assert check_rate(given) == RateLimit(10, 1.0)


@pytest.mark.parametrize(
    "given",
    [
        *(10, "10/s", (10,), (10, 1, 1), {10: 1}),
        *((0, 1), (-1, 1), (1.5, 1), (True, 1), ("10", 1)),
        *((10, 0), (10, -1), (10, None), (10, "1"), (10, float("nan")), (10, float("inf"))),
    ],
)
def test_anything_else_is_refused_and_the_option_named(given: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="rate_limit"):
        WseServer(lambda auth: auth.refuse(), rate_limit=given)


def test_threads_count_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "monotonic", lambda: 100.0)
    meter = Meter(RateLimit(1000, 1.0))

    def count(attempts: int) -> int:
        return sum(meter.admits() for _ in range(attempts))

    threads = [Thread(partial(count, 500)) for _ in range(4)]
    assert sum(thread.result() for thread in threads) == 1000
