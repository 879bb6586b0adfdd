"""Tests of login_app.py, for pytest."""
# mypy: disable-error-code=import-not-found

from collections.abc import Iterator

import pytest
from login_app import app, wse

from wse_sync import WseError, WsePermissionError
from wse_sync.testing import TestServer


@pytest.fixture
def test() -> Iterator[TestServer]:
    with TestServer(wse) as opened:
        yield opened


def test_the_session_says_who_it_is(test: TestServer) -> None:
    browser = app.test_client()
    browser.post("/login/ann")
    cookie = browser.get_cookie("session")
    assert cookie is not None
    client = test.connect(cookies={"session": cookie.value})
    assert client.cid == "ann"


def test_without_one_nobody_comes_in(test: TestServer) -> None:
    with pytest.raises(WsePermissionError):
        test.connect()


@pytest.mark.parametrize(("path", "why"), [("/ws", "not-authorized"), ("/elsewhere", "status 404")])
def test_the_socket_is_where_the_application_says(path: str, why: str) -> None:
    url = f"memory://app{path}"
    with TestServer(wse, app=app, url=url) as test, pytest.raises(WseError, match=why):
        test.connect()
