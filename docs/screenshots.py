"""Takes the pictures of the examples' pages: light and dark, on a desktop and on a phone.

Run it with ``python -m docs.screenshots`` where the tests in a browser run, with Pillow. The
pictures go to ``docs/_static/examples``; look at them before you commit them.
"""

from __future__ import annotations

import io
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from PIL import Image
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.keys import Keys

from examples.flask_chat import create_app
from examples.flask_chat.models import Message, Room, User, db
from tests.browser.conftest import switches
from tests.browser.pages import ChatTab, Example, Tab
from tests.test_examples import EXAMPLES, Program

PICTURES = Path(__file__).parent / "_static" / "examples"
PASSWORD = "correct horse"
COLOURS = 128  # enough for text on plain ground, and a third of the bytes
MINUTE = 60.0

ROOMS = ("kitchen", "garden")
PEOPLE = ("ann", "bob", "eve", "lin", "zoe")
# Who said what, to whom, how many minutes ago.
SAID = (
    ("bob", "lobby", 1510, "Has anyone tried the new kettle?"),
    ("eve", "lobby", 1507, "Yes! It whistles a little flat, but the water boils."),
    ("eve", "lobby", 1506, "The old one is in the cellar, if somebody wants it."),
    ("ann", "lobby", 34, "Hello! I am on the laptop and on my phone, so you see me twice."),
    ("bob", "lobby", 31, "We do: two devices."),
    ("bob", "lobby", 25, "The train goes into the tunnel now. Write on, I will read it after."),
    ("eve", "lobby", 22, "Then quickly: who comes for lunch tomorrow, at half past twelve?"),
    ("zoe", "lobby", 21, "Me! I would take the soup, and some bread if there is any left."),
    ("bob", "lobby", 16, "Back, and nothing is missing. Count me in."),
    ("ann", "lobby", 3, "Four of us, then. I book a table by the window."),
    ("bob", "@ann", 12, "The cake is for zoe"),
    ("bob", "@ann", 12, "Do not tell her"),
)


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        options = ChromeOptions()
        options.binary_location = shutil.which("chromium") or "chrome"
        for switch in switches(Path(directory) / "profile"):
            options.add_argument(switch)
        with Chrome(options, ChromeService(shutil.which("chromedriver"))) as browser:
            photograph_chat(browser, Path(directory))
            photograph_panel(browser, Path(directory))


def take(tab: Tab, name: str, height: int, prepare: Callable[[], object] = lambda: None) -> None:
    """The four pictures of a page.

    Args:
        height: On a desktop, in CSS pixels.
        prepare: Is called before each of them.
    """
    sizes = {"desktop": (1280, height), "phone": (390, 844)}  # CSS pixels
    for theme in ("light", "dark"):
        for size, (width, height) in sizes.items():
            tab.look(theme, width, height)
            prepare()
            picture = Image.open(io.BytesIO(tab.picture())).convert("RGB")
            path = PICTURES / f"{name}-{theme}-{size}.png"
            picture.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
            print(path.name, path.stat().st_size)


def photograph_chat(browser: Chrome, directory: Path) -> None:
    settings = {
        "SECRET_KEY": "that of the pictures",
        "SQLALCHEMY_DATABASE_URI": f"sqlite:///{directory / 'chat.db'}",
    }
    fill_chat(settings)
    with Example("flask_chat", settings) as chat:
        tabs = {name: enter(browser, chat, name) for name in ("ann", "bob", "eve", "zoe")}
        phones = [ChatTab(browser, chat.url_for(name)) for name in ("ann", "bob")]
        for phone in phones:
            phone.wait(phone.people, "people")
        tabs["eve"].go("kitchen")
        tabs["eve"].say("Who took my cup?")
        tabs["ann"].wait_text("#rooms .badge", "1")
        tabs["ann"].wait_person("bob", "2 devices")

        def write() -> None:
            tabs["zoe"].find("#text").send_keys("a")
            tabs["ann"].wait_text("#typing", "zoe is writing")

        take(tabs["ann"], "chat", 720, write)


def fill_chat(settings: dict[str, str]) -> None:
    with create_app(dict(settings)).app_context():
        for name in PEOPLE:
            user = User(name=name)
            user.set_password(PASSWORD)
            db.session.add(user)
        db.session.add_all(Room(name=name) for name in ROOMS)
        db.session.flush()
        for number, (sender, place, minutes, text) in enumerate(SAID):
            at = time.time() - minutes * MINUTE
            message = Message(key=str(number), sender=sender, text=text, at=at)
            if place.startswith("@"):
                message.recipient = place[1:]
            else:
                message.room = place
            db.session.add(message)
        db.session.commit()


def enter(browser: Chrome, chat: Example, name: str) -> ChatTab:
    tab = ChatTab(browser, chat.url_for(name))
    tab.find("#name").send_keys(name)
    tab.find("#password").send_keys(PASSWORD, Keys.ENTER)
    tab.wait(tab.people, "people")
    return tab


def photograph_panel(browser: Chrome, directory: Path) -> None:
    secrets = directory / "devices"
    secrets.mkdir()
    folders = {"DEVICE_SECRETS": str(secrets), "LOGINS": str(directory / "logins")}
    settings = {"SECRET_KEY": "x", "PASSWORD": PASSWORD, **folders}
    with ExitStack() as stack:
        panel = stack.enter_context(Example("device_panel", settings))
        devices = {}
        for name in ("attic", "cellar", "kitchen"):
            (secrets / name).write_text(name)
            url = panel.url.replace("http", "ws") + "/devices"
            words = ("--mock", "--interval", "1", "--url", url, "--secret-file", secrets / name)
            devices[name] = stack.enter_context(Program(EXAMPLES / "device.py", name, *words))
        tab = Tab(browser, panel.url_for("ann"))
        tab.find("#password").send_keys(PASSWORD, Keys.ENTER)
        tab.wait(lambda: len(tab.texts("article")) == len(devices), "the devices")
        play(tab, devices)
        take(tab, "panel", 440)


def play(tab: Tab, devices: dict[str, Program]) -> None:
    """Two minutes in the life of the devices, so that there is something to see."""
    steps: tuple[tuple[float, Callable[[], object]], ...] = (
        (25, lambda: tab.click("[aria-labelledby=device-kitchen] .switch")),
        (20, lambda: devices["cellar"].type("")),
        (20, lambda: tab.click("[aria-labelledby=device-attic] .switch")),
        (25, lambda: tab.click("[aria-labelledby=device-attic] .switch")),
        (15, lambda: devices["attic"].__exit__()),
        (15, lambda: devices["kitchen"].type("")),
        (3, lambda: None),
    )
    for seconds, step in steps:
        time.sleep(seconds)
        step()


if __name__ == "__main__":
    main()
