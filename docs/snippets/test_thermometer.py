"""Tests of thermometer.py, for pytest."""
# mypy: disable-error-code=import-not-found

import threading

import thermometer

from wse_sync import WseConnection, WseServer
from wse_sync.testing import TestServer


def test_it_reports_every_minute_whatever_the_network_does() -> None:
    hub = WseServer(lambda auth: auth.accept(auth.identity))
    reports: list[float] = []

    @hub.channel.on("temperature")
    def temperature(conn: WseConnection, value: float) -> None:
        reports.append(value)

    with TestServer(hub, url=thermometer.client.url) as test:
        program = threading.Thread(target=thermometer.main)
        program.start()
        test.advance_until(lambda: len(reports) == 1)
        with test.unreachable():
            test.cut()
            test.advance(50.0)
        test.advance_until(lambda: len(reports) >= 3)
    program.join()
    assert set(reports) == {21.5}
