"""waitress keeps its sockets to itself: an upgrade is refused, and the log says what to use."""

from __future__ import annotations

import pytest

from tests.web.conftest import APP, Run, dial

pytest.importorskip("waitress", reason="waitress is not installed")


def test_46_waitress_refuses_an_upgrade_and_says_why(web_server: Run) -> None:
    server = web_server(
        *("-m", "waitress", "--listen", "127.0.0.1:0", APP),
        listening=r"Serving on http://127\.0\.0\.1:(\d+)",
    )
    assert dial(server.ws("/ws")) == 501
    line = server.wait_for_line("waitress exposes no socket")
    assert "gunicorn" in line
    assert "start()" in line
    assert server.get() == (200, "0 users are here")
