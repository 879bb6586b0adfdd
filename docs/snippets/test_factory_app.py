"""Tests of factory_app.py, for pytest."""
# mypy: disable-error-code=import-not-found

from factory_app import create_app, wse

from wse_sync.testing import TestServer


def test_the_title_has_a_default() -> None:
    with TestServer(wse.of(create_app())) as test:
        assert test.connect("ann").call("title") == "a shop"


def test_the_title_is_a_setting() -> None:
    app = create_app(TITLE="flowers", WSE_PATH="/live")
    with TestServer(wse.of(app)) as test:
        assert test.connect("ann").call("title") == "flowers"
