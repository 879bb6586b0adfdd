"""The pages of the examples, and the programs that serve them, as tests see them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

from selenium.common.exceptions import TimeoutException
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from tests.web.conftest import WebServer

ROOT = Path(__file__).parents[2]
PATIENCE = 30.0  # s; only bounds a failure

# Finds the text of a page that is hard to read: less than 4.5:1 between its colour and what it
# stands on (WCAG 2.2, 1.4.3; large text counts as text here).
PALE_TEXT = """
const channel = (c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
const parse = (color) => color.match(/[\\d.]+/g).map(Number);
const over = ([r, g, b, a = 1], [x, y, z]) =>
  [r * a + x * (1 - a), g * a + y * (1 - a), b * a + z * (1 - a)];
const light = (c) => { const [r, g, b] = c.map(channel); return .2126 * r + .7152 * g + .0722 * b };
const backOf = (element) => {
  if (!element) return [255, 255, 255];
  const color = parse(getComputedStyle(element).backgroundColor);
  return color[3] === undefined ? color : over(color, backOf(element.parentElement));
};
const pale = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const [text, element] = [walker.currentNode.data.trim(), walker.currentNode.parentElement];
  if (!text || !element.checkVisibility({ visibilityProperty: true })) continue;
  const back = backOf(element);
  const front = over(parse(getComputedStyle(element).color), back);
  const [one, other] = [light(front), light(back)].sort((a, b) => b - a);
  const contrast = (one + 0.05) / (other + 0.05);
  if (contrast < 4.5) pale.push(`${text}: ${contrast.toFixed(2)}`);
}
return pale;
"""

# Makes a browser of the age of Firefox 118: ARIA is a matter of attributes, and has no properties.
NO_ARIA_PROPERTIES = """
for (const name of Object.keys(Element.prototype)) {
  if (name.startsWith("aria")) delete Element.prototype[name];
}
"""


class Example:
    """One of the examples, served by `flask run` in a process of its own.

    Leaving the `with` block kills it. After `kill`, `start` serves it on the same port.
    """

    def __init__(self, name: str, settings: dict[str, str]) -> None:
        self._app = str(ROOT / "examples" / name)
        self._environ = {f"FLASK_{key}": value for key, value in settings.items()}
        self._port = 0
        self.start()

    def start(self) -> None:
        command = f"-W error -m flask --app {self._app} run --port {self._port}"
        self.program = WebServer(
            *command.split(),
            directory=ROOT,
            listening=r"Running on http://127\.0\.0\.1:(\d+)",
            environ=self._environ,
        )
        self._port, self.url = self.program.port, self.program.url

    def kill(self) -> None:
        """With SIGKILL: it says goodbye to nobody."""
        self.program.kill()

    def url_for(self, user: str, port: int | None = None) -> str:
        """The address for a browser that is to keep the cookies of its users apart."""
        return f"http://{user}.localhost:{port or self._port}/"

    def __enter__(self) -> Example:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


@contextlib.contextmanager
def fresh(browser: Chrome) -> Iterator[Chrome]:
    """The browser with nothing but its first window, which stays empty, and without cookies."""
    browser.execute_cdp_cmd("Network.clearBrowserCookies", {})
    browser.get_log("browser")  # type: ignore[no-untyped-call]  # of the pages before
    yield browser
    first, *others = browser.window_handles
    for handle in others:
        browser.switch_to.window(handle)
        browser.close()
    browser.switch_to.window(first)


class Tab:
    """A tab of the browser that shows a page. What it reads is what a user could see."""

    def __init__(self, browser: Chrome, url: str) -> None:
        self.browser = browser
        browser.switch_to.new_window("tab")
        self._handle = browser.current_window_handle
        browser.get(url)

    def run(self, script: str, *arguments: Any) -> Any:
        """Runs a script in the page."""
        self.browser.switch_to.window(self._handle)
        return self.browser.execute_script(script, *arguments)

    def reload_after(self, script: str) -> None:
        """Loads the page again; the script runs before those of the page."""
        self.command("Page.addScriptToEvaluateOnNewDocument", source=script)
        self.browser.refresh()

    def command(self, name: str, **parameters: Any) -> None:
        """A command of Chromium's own."""
        self.browser.switch_to.window(self._handle)
        self.browser.execute_cdp_cmd(name, parameters)

    def find(self, selector: str) -> WebElement:
        self.browser.switch_to.window(self._handle)
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def texts(self, selector: str) -> list[str]:
        """What can be seen of every such element."""
        found: list[str] = self.run(
            """return [...document.querySelectorAll(arguments[0])]
                .map((element) => element.checkVisibility() ? element.innerText.trim() : "")""",
            selector,
        )
        return found

    def text(self, selector: str) -> str:
        return "\n".join(self.texts(selector))

    def click(self, selector: str) -> None:
        self.find(selector).click()

    def press(self, *keys: str) -> None:
        """Presses keys, wherever the focus is."""
        self.browser.switch_to.window(self._handle)
        self.browser.switch_to.active_element.send_keys(*keys)

    def focused(self) -> str:
        """The id of what has the focus."""
        return str(self.run("return document.activeElement.id"))

    def wait(self, condition: Callable[[], object], what: str = "") -> None:
        # Each look is a round trip: looking all the time would only slow the browser down.
        waiting = WebDriverWait(self.browser, PATIENCE, poll_frequency=0.05)
        try:
            waiting.until(lambda _: condition())
        except TimeoutException:
            raise AssertionError(f"{what}; the page: {self.text('body')}") from None

    def wait_text(self, selector: str, part: str) -> None:
        self.wait(lambda: part in self.text(selector), f"{part!r} in {selector}")

    def wait_no(self, selector: str) -> None:
        """Waits until nothing can be read there."""
        self.wait(lambda: self.text(selector) == "", f"nothing in {selector}")

    def opens(self, url: str) -> bool:
        """Whether a page like this may open a WebSocket there."""
        self.browser.switch_to.window(self._handle)
        script = """const [url, answer] = arguments;
            const socket = new WebSocket(url.replace("http", "ws"), "wse-default-json");
            socket.onopen = () => answer(true);
            socket.onerror = () => answer(false);"""
        return bool(self.browser.execute_async_script(script, url))

    def look(self, theme: str, width: int = 1280, height: int = 800) -> None:
        """Sets the theme and the size, in CSS pixels."""
        scheme = {"name": "prefers-color-scheme", "value": theme}
        motion = {"name": "prefers-reduced-motion", "value": "reduce"}
        self.command("Emulation.setEmulatedMedia", features=[scheme, motion])
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.command("Emulation.setDeviceMetricsOverride", **size)

    def picture(self) -> bytes:
        """What it looks like, as a PNG."""
        self.browser.switch_to.window(self._handle)
        return self.browser.get_screenshot_as_png()

    def complaints(self) -> list[str]:
        """What keeps people from using the page as it is: names, contrast, width."""
        controls = "button, input:not([type=hidden]), textarea, a, summary, [role=img]"
        self.browser.switch_to.window(self._handle)
        elements = self.browser.find_elements(By.CSS_SELECTOR, f":is({controls}):not([inert] *)")
        nameless = [e.tag_name for e in elements if e.is_displayed() and not e.accessible_name]
        wide = "document.documentElement.scrollWidth > innerWidth"
        too_wide = ["it is wider than the screen"] if self.run(f"return {wide}") else []
        return nameless + too_wide + list(self.run(PALE_TEXT))

    def errors(self) -> list[str]:
        """What the page has complained about since the last time, of all tabs."""
        log = self.browser.get_log("browser")  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in log if entry["level"] == "SEVERE"]

    def close(self) -> None:
        self.browser.switch_to.window(self._handle)
        self.browser.close()
        self.browser.switch_to.window(self.browser.window_handles[0])


class ChatTab(Tab):
    """The chat of a user who has logged in."""

    def messages(self) -> list[str]:
        """What has been said, as "name: words"."""
        found: list[str] = self.run(
            """return [...document.querySelectorAll("#messages li")].map((item) =>
                ["b", ".words"].map((part) => item.querySelector(part).textContent).join(": "))"""
        )
        return found

    def wait_messages(self, *wanted: str) -> None:
        """Waits until these are all the messages, in this order."""
        self.wait(lambda: self.messages() == list(wanted), f"messages {wanted}")

    def wait_confirmed(self) -> None:
        """Waits until the server has every message that is shown."""
        self.wait(lambda: not self.texts("#messages .waits"), "unsent messages")

    def people(self) -> dict[str, str]:
        """Who is here, and what stands beside the name."""
        entries = (text.split("\n") for text in self.texts("#people li"))
        return {name: more for name, more, *_ in entries}

    def wait_person(self, name: str, wanted: str) -> None:
        self.wait(lambda: self.people().get(name) == wanted, f"{name} is {wanted}")

    def wait_devices(self, *wanted: str) -> None:
        """Waits until these stand beside the names, in order of the alphabet."""
        self.wait(lambda: sorted(self.people().values()) == [*wanted], f"devices {wanted}")

    def say(self, text: str) -> None:
        self.find("#text").send_keys(text, Keys.ENTER)

    def go(self, place: str) -> None:
        """Goes to a room, or with an @ to a user."""
        sign, name = ("@", place[1:]) if place.startswith("@") else ("", place)
        box = "#people" if sign else "#rooms"
        script = """const [box, name] = arguments;
            [...document.querySelectorAll(`${box} a`)]
              .find((link) => link.querySelector("bdi").textContent === name).click()"""
        self.run(script, box, name)
        self.wait_text("#title", name)
