"""The device panel of the examples in Chromium, with devices of the first example."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("selenium", reason="needs selenium")
pytest.importorskip("gpiozero", reason="needs gpiozero")

from selenium.webdriver import Chrome
from selenium.webdriver.common.keys import Keys

from tests.browser.pages import NO_ARIA_PROPERTIES, Example, Tab, fresh
from tests.faults import FaultProxy
from tests.test_examples import EXAMPLES, Program

PASSWORD = "correct horse"


@pytest.fixture
def chromium(browser: Chrome) -> Iterator[Chrome]:
    with fresh(browser) as chromium:
        yield chromium


@pytest.fixture
def panel(tmp_path: Path) -> Iterator[Example]:
    settings = {
        "SECRET_KEY": "that of the tests",
        "PASSWORD": PASSWORD,
        "DEVICE_SECRETS": str(tmp_path / "devices"),
        "LOGINS": str(tmp_path / "logins"),
    }
    with Example("device_panel", settings) as example:
        yield example


@pytest.fixture
def kitchen(panel: Example, tmp_path: Path) -> Iterator[Program]:
    with device("kitchen", panel.url, tmp_path) as program:
        yield program


def device(name: str, url: str, directory: Path) -> Program:
    url = url.replace("http", "ws", 1) + "/devices"
    words = ("--url", url, "--secret-file", directory / "devices" / name)
    return Program(EXAMPLES / "device.py", name, "--mock", "--interval", "0.2", *words)


class Panel(Tab):
    """The panel of somebody who knows the password, and the card of one device on it."""

    def __init__(self, chromium: Chrome, url: str, device: str = "kitchen") -> None:
        super().__init__(chromium, url)
        if self.texts("#password"):
            self.find("#password").send_keys(PASSWORD, Keys.ENTER)
        self._card = f"[aria-labelledby=device-{device}]"
        self.wait(lambda: self.texts(self._card), f"a card of {device}")

    def wait_state(self, wanted: str) -> None:
        self.wait(lambda: self.texts(f"{self._card} .state") == [wanted], wanted)

    def wait_card(self, part: str, wanted: str) -> None:
        self.wait_text(f"{self._card} {part}", wanted)

    def switch(self) -> None:
        self.find(f"{self._card} .switch").send_keys(Keys.SPACE)

    def wait_dark(self) -> None:
        self.wait(lambda: not self.is_lit(), "the lamp is off")

    def is_lit(self) -> bool:
        switch = self.find(f"{self._card} .switch")
        return switch.get_attribute("aria-checked") == "true"

    def points(self) -> int:
        """How many readings are drawn."""
        path = self.find(f"{self._card} .line").get_attribute("d")
        return len(path.split("L")) if path else 0

    def plot(self) -> str:
        """The plot, as a screen reader says it."""
        return self.find(f"{self._card} svg").accessible_name


def test_the_panel_wants_its_password(chromium: Chrome, panel: Example) -> None:
    tab = Tab(chromium, panel.url_for("ann"))
    assert tab.focused() == "password"
    tab.press("wrong horse", Keys.ENTER)
    tab.wait_text("[role=alert]", "That is not the password.")
    tab.find("#password").send_keys(PASSWORD, Keys.ENTER)
    tab.wait_text("#none", "No device has been here yet.")
    other = Tab(chromium, panel.url_for("ann"))
    other.wait_text("#none", "No device has been here yet.")
    tab.click("header button")
    tab.wait(lambda: tab.focused() == "password", "the form")
    other.wait(lambda: other.texts("#password"), "the form")
    assert tab.errors() == []


def test_a_device_is_shown_live(chromium: Chrome, panel: Example, kitchen: Program) -> None:
    tab = Panel(chromium, panel.url_for("ann"))
    tab.wait_state("connected")
    tab.wait_text("#summary", "1 of 1 connected")
    tab.wait(lambda: tab.points() > 3, "a line")
    before = tab.points()
    tab.wait(lambda: tab.points() > before, "a longer line")
    assert tab.plot().startswith("Light of kitchen in the last two minutes: ")
    tab.wait(lambda: ", now " in tab.plot(), "the latest value")

    tab.wait_card(".pressed", "never")
    kitchen.type("")  # Enter, which is a finger
    tab.wait_card(".pressed", ":")
    tab.click("summary")
    tab.wait(lambda: len(tab.texts("tbody tr")) == 10, "a table with the latest readings")
    assert all(row.endswith(" %") for row in tab.texts("tbody tr"))
    assert tab.errors() == []


def test_a_page_switches_the_lamp_of_a_device(
    chromium: Chrome, panel: Example, kitchen: Program
) -> None:
    tab = Panel(chromium, panel.url_for("ann"))
    other = Panel(chromium, panel.url_for("bob"))
    assert not tab.is_lit()
    tab.switch()
    for page in (tab, other):
        page.wait(page.is_lit, "the lamp is on")
    # What the sensor sees of it comes from the device itself.
    tab.wait(lambda: int(tab.texts(".light")[0].rstrip(" %")) > 50, "light")
    other.switch()
    for page in (tab, other):
        page.wait_dark()
    assert tab.errors() == []


def test_a_device_that_is_lost_says_so_and_comes_back(
    chromium: Chrome, panel: Example, tmp_path: Path
) -> None:
    with FaultProxy(panel.url) as proxy, device("kitchen", proxy.url[:-1], tmp_path):
        tab = Panel(chromium, panel.url_for("ann"))
        tab.wait(lambda: tab.points() > 1, "readings")
        proxy.refuse()
        proxy.cut()
        tab.wait_state("connection lost")
        tab.wait_text("#summary", "0 of 1 connected")
        tab.switch()
        tab.wait_card("[role=alert]", "It is not connected at the moment")
        assert not tab.is_lit()
        proxy.admit()
        tab.wait_state("connected")
        assert tab.text("[role=alert]") == ""

        proxy.stall(to_server=False)  # it hears nothing, and goes on talking
        tab.switch()
        tab.wait(lambda: tab.find(".switch").get_attribute("aria-busy") == "true", "it waits")
        tab.wait_card("[role=alert]", "It does not answer.")
        assert not tab.is_lit()
        assert tab.errors() == []
    tab.wait(lambda: tab.texts(".state") != ["connected"], "it is gone")


def test_a_killed_panel_comes_back_to_pages_and_devices(
    chromium: Chrome, panel: Example, kitchen: Program
) -> None:
    tabs = [Panel(chromium, panel.url_for(user)) for user in ("ann", "bob")]
    panel.kill()
    for tab in tabs:
        tab.wait_text("#banner", "The connection to the panel is lost.")
    tabs[0].switch()
    tabs[0].wait_card("[role=alert]", "The panel is not connected at the moment.")
    panel.start()
    kitchen.prints("CONNECTING", "READY", "RE_CONNECTING", "READY")
    for tab in tabs:
        tab.wait_no("#banner")
        tab.wait_state("connected")
    tabs[0].switch()
    for tab in tabs:
        tab.wait(tab.is_lit, "the lamp is on")


def test_a_page_whose_network_is_cut_comes_back(
    chromium: Chrome, panel: Example, kitchen: Program
) -> None:
    with FaultProxy(panel.url) as proxy:
        tab = Panel(chromium, panel.url_for("ann", proxy.port))
        tab.wait(lambda: tab.points() > 1, "readings")
        proxy.refuse()
        proxy.cut(reset=True)
        tab.wait_text("#banner", "The connection to the panel is lost.")
        before = tab.points()
        proxy.admit()
        tab.wait_no("#banner")
        tab.wait(lambda: tab.points() > before, "what was read meanwhile, and since")
        tab.switch()
        tab.wait(tab.is_lit, "the lamp is on")
        tab.close()


def test_a_page_of_another_origin_is_refused(chromium: Chrome, panel: Example) -> None:
    ann = Tab(chromium, panel.url_for("ann"))
    ann.find("#password").send_keys(PASSWORD, Keys.ENTER)
    ann.wait_text("h1", "Devices")
    assert ann.opens(panel.url_for("ann") + "ws") is True
    # Another port is another origin, though the browser sends the same cookies there. The script is
    # no page of the application, so nothing but the server keeps it from connecting.
    with FaultProxy(panel.url) as proxy:
        page = Tab(chromium, panel.url_for("ann", proxy.port) + "ws/wse.js")
        assert page.opens(panel.url_for("ann") + "ws") is False
        assert page.opens(panel.url_for("ann") + "devices") is False
        page.close()
    panel.program.wait_for_line("refused a page from 'http://ann.localhost")


def test_everybody_can_read_and_use_the_pages(
    chromium: Chrome, panel: Example, kitchen: Program
) -> None:
    form = Tab(chromium, panel.url_for("nobody"))
    tab = Panel(chromium, panel.url_for("ann"))
    tab.click("summary")
    tab.wait(lambda: tab.points() > 1, "readings")
    for theme in ("light", "dark"):
        for width in (320, 1280):
            for page in (tab, form):
                page.look(theme, width)
                assert page.complaints() == [], (theme, width)
    assert tab.find(".switch").accessible_name == "Lamp"


def test_screen_readers_of_older_browsers_are_told_the_same(
    chromium: Chrome, panel: Example, kitchen: Program
) -> None:
    tab = Panel(chromium, panel.url_for("ann"))
    tab.reload_after(NO_ARIA_PROPERTIES)
    tab.wait(lambda: tab.points() > 1, "readings")
    assert tab.plot().startswith("Light of kitchen in the last two minutes: ")
    tab.switch()
    tab.wait(tab.is_lit, "the lamp is on")
    tab.switch()
    tab.wait_dark()
    assert tab.errors() == []
