"""How many may wait to be let in: of all, of one address, and what the log says of it."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import pytest

from tests.support import Thread
from wse_sync import WseServer
from wse_sync.loglimit import LogLimit
from wse_sync.strangers import Strangers
from wse_sync.transport.memory import MemoryTransport, pair

LOG = LogLimit(logging.getLogger("wse_sync.server"))


def stranger() -> MemoryTransport:
    return pair()[0]


def test_there_is_a_place_for_so_many_and_no_more() -> None:
    strangers = Strangers(LOG, 2, None)
    first, second, third = stranger(), stranger(), stranger()
    assert strangers.enter(first, "a")
    assert strangers.enter(second, "a")
    assert not strangers.enter(third, "b")
    strangers.leave(first)
    assert strangers.enter(third, "b")
    assert len(strangers) == 2


def test_one_address_has_places_of_its_own() -> None:
    strangers = Strangers(LOG, None, 1)
    first, second = stranger(), stranger()
    assert strangers.enter(first, "1.2.3.4")
    assert not strangers.enter(second, "1.2.3.4")
    assert not strangers.enter(second, "::ffff:1.2.3.4")
    assert strangers.enter(second, "1.2.3.5")
    strangers.leave(first)
    assert strangers.enter(first, "1.2.3.4")


def test_all_addresses_of_one_network_are_one() -> None:
    strangers = Strangers(LOG, None, 1)
    assert strangers.enter(stranger(), "2001:db8:0:1::1")
    assert not strangers.enter(stranger(), "2001:db8:0:1::2")
    assert strangers.enter(stranger(), "2001:db8:0:2::1")


def test_what_has_no_address_counts_among_all_only() -> None:
    strangers = Strangers(LOG, 3, 1)
    assert [strangers.enter(stranger(), "") for _ in range(4)] == [True, True, True, False]


def test_to_leave_twice_gives_back_one_place() -> None:
    strangers = Strangers(LOG, 2, 2)
    first, second = stranger(), stranger()
    strangers.enter(first, "a")
    strangers.enter(second, "a")
    strangers.leave(first)
    strangers.leave(first)
    strangers.leave(stranger())
    assert len(strangers) == 1
    assert strangers.enter(first, "a")
    assert not strangers.enter(stranger(), "a")


def test_nothing_is_kept_of_those_who_are_gone() -> None:
    strangers = Strangers(LOG, 2, 2)
    for number in range(100):
        transport = stranger()
        assert strangers.enter(transport, f"1.2.3.{number}")
        strangers.leave(transport)
    assert vars(strangers)["_counts"] == {}
    assert vars(strangers)["_places"] == {}


def test_without_limits_everybody_may_wait() -> None:
    strangers = Strangers(LOG, None, None)
    assert all(strangers.enter(stranger(), "a") for _ in range(1000))


def test_threads_do_not_lose_a_place() -> None:
    strangers = Strangers(LOG, None, 8)

    def come_and_go(transport: MemoryTransport) -> int:
        refused = 0
        for _ in range(500):
            refused += not strangers.enter(transport, "a")
            strangers.leave(transport)
        return refused

    threads = [Thread(partial(come_and_go, stranger())) for _ in range(8)]
    assert sum(thread.result() for thread in threads) == 0
    assert len(strangers) == 0


@pytest.mark.parametrize(
    ("limits", "option"),
    [((1, None), "max_unauthenticated=1 "), ((None, 1), "max_unauthenticated_per_address=1 ")],
)
def test_the_log_names_the_option(
    caplog: pytest.LogCaptureFixture, limits: tuple[int | None, int | None], option: str
) -> None:
    strangers = Strangers(LOG, *limits)
    strangers.enter(stranger(), "1.2.3.4")
    assert not caplog.records
    strangers.enter(stranger(), "1.2.3.4")
    assert [option in record.getMessage() for record in caplog.records] == [True]
    assert caplog.records[0].levelname == "WARNING"


@pytest.mark.parametrize("option", ["max_unauthenticated", "max_unauthenticated_per_address"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "20"])
def test_bad_limits_are_refused(option: str, value: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=f"{option} must be"):
        WseServer(lambda auth: auth.refuse(), **{option: value})
