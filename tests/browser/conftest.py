"""Fixtures for tests in a browser: headless Chromium, once for all of them, and pages in it.

They are skipped where selenium, Chromium or chromedriver is not installed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from tests.browser.support import Page, pages
from tests.conftest import MakeServer
from tests.support import PATIENCE
from wse_sync import WseServer

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def installed(what: str, *names: str) -> str:
    """The path of a program that is installed, or a skip."""
    for name in names:
        path = shutil.which(name)
        if path is not None:
            return path
    pytest.skip(f"{what} is not installed")


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """Headless Chromium with a fresh profile."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    driver, binary = installed("chromedriver", "chromedriver"), installed("Chromium", *BROWSERS)
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for switch in switches(tmp_path_factory.mktemp("profile")):
        options.add_argument(switch)
    with webdriver.Chrome(options, webdriver.ChromeService(driver)) as chrome:
        chrome.set_script_timeout(PATIENCE)
        yield chrome


def switches(profile: Path) -> list[str]:
    """How Chromium is started: without a window, and without a word to anybody but us."""
    names = [
        "headless",
        "disable-background-networking",
        "disable-component-update",
        "disable-gpu",
        "disable-quic",
        "disable-sync",
        "no-first-run",
    ]
    if os.geteuid() == 0:
        names.append("no-sandbox")  # which root cannot have
    return [f"--user-data-dir={profile}", *(f"--{name}" for name in names)]


class OpenPage(Protocol):
    """Loads a page of a server; its name is that of its policy."""

    def __call__(self, server: WseServer, name: str = ...) -> Page: ...


@pytest.fixture
def open_page(browser: Chrome, endpoints: contextlib.ExitStack) -> OpenPage:
    def open_page(server: WseServer, name: str = "strict") -> Page:
        page = Page(browser, f"http://127.0.0.1:{server.port}/{name}/")
        endpoints.callback(page.close)
        return page

    return open_page


@pytest.fixture
def make_site(make_server: MakeServer) -> MakeServer:
    """Starts a server that has pages, and its WebSocket at ``/ws``."""

    def make(*arguments: Any, **options: Any) -> WseServer:
        return make_server(*arguments, path="/ws", http_app=pages, **options)

    return make
