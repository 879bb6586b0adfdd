"""What others make us log: the first lines and one now and then; the rest for those who debug."""

from __future__ import annotations

import logging

import pytest
import websocket

from tests.conftest import MakeRawClient, MakeServer
from tests.support import Recorder
from wse_sync import clock, loglimit
from wse_sync.loglimit import BURST, LogLimit

TIMES = 200


@pytest.fixture(autouse=True)
def slow_machines_log_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loglimit, "PAUSE", 3600.0)


def levels(caplog: pytest.LogCaptureFixture, text: str) -> list[int]:
    """At which lines that begin so were logged."""
    return [record.levelno for record in caplog.records if record.msg.startswith(text)]


def test_the_first_lines_are_logged_as_they_are_and_the_rest_for_those_who_debug(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    limit = LogLimit(logging.getLogger("wse_sync"))
    for number in range(TIMES):
        limit.write(logging.ERROR, "it failed: %d", number)
    assert caplog.messages == [f"it failed: {number}" for number in range(TIMES)]
    found = levels(caplog, "it failed")
    assert found[: int(BURST)] == [logging.ERROR] * int(BURST)
    assert found.count(logging.ERROR) == BURST


def test_later_there_is_one_more_and_it_says_how_many_were_left_out(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.WARNING)
    now = 1000.0
    monkeypatch.setattr(clock, "monotonic", lambda: now)
    limit = LogLimit(logging.getLogger("wse_sync"))
    for _ in range(TIMES):
        limit.write(logging.WARNING, "it failed")
    now += loglimit.PAUSE
    caplog.clear()
    for _ in range(2):
        limit.write(logging.WARNING, "it failed")
    left_out = TIMES - int(BURST)
    assert caplog.messages == [
        f"{left_out} lines like the next are logged at DEBUG only",
        "it failed",
    ]
    now += 1000 * loglimit.PAUSE
    caplog.clear()
    for _ in range(TIMES):
        limit.write(logging.WARNING, "it failed")
    assert len(caplog.messages) == BURST + 1


def test_lines_of_another_kind_have_room_of_their_own(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    limit = LogLimit(logging.getLogger("wse_sync"))
    for _ in range(TIMES):
        limit.write(logging.ERROR, "it failed")
    limit.write(logging.ERROR, "something else did")
    assert "something else did" in caplog.messages


def test_what_informs_is_not_limited(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    limit = LogLimit(logging.getLogger("wse_sync"))
    for _ in range(TIMES):
        limit.write(logging.INFO, "it is so")
    assert len(caplog.messages) == TIMES


def test_a_line_says_where_it_was_written(caplog: pytest.LogCaptureFixture) -> None:
    LogLimit(logging.getLogger("wse_sync")).write(logging.WARNING, "here")
    assert caplog.records[0].filename == "test_loglimit.py"


def test_a_client_whose_calls_and_messages_all_fail_fills_no_log(
    make_server: MakeServer, make_raw_client: MakeRawClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server = make_server()
    errors = Recorder()
    server.when.error(lambda error, conn: errors.add(error))
    server.register("divide", lambda conn, by: 1 / by)
    server.channel.on("divide", lambda conn, by: 1 / by)
    raw = make_raw_client(server)
    raw.login("ann")
    for number in range(TIMES):
        raw.send_frame("divide", 0, str(number + 1))
        raw.recv_frame()
        raw.send_frame("divide", 0)
    errors.wait_for(2 * TIMES)
    for text in ("procedure", "a handler raised"):
        found = levels(caplog, text)
        assert len(found) == TIMES
        assert found.count(logging.ERROR) == BURST
    assert all(record.exc_info for record in caplog.records if record.msg.startswith("procedure"))


def test_pages_that_are_refused_fill_no_log(
    make_server: MakeServer, make_raw_client: MakeRawClient, caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server()
    for _ in range(int(BURST) + 20):
        with pytest.raises(websocket.WebSocketBadStatusException):
            make_raw_client(server, origin="http://elsewhere.example")
    assert len(levels(caplog, "refused a page")) == BURST
