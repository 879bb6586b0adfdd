"""The chat of the examples in Chromium: what its README says, with faults in between."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

pytest.importorskip("selenium", reason="needs selenium")
pytest.importorskip("flask_login", reason="needs Flask-Login")
pytest.importorskip("flask_sqlalchemy", reason="needs Flask-SQLAlchemy")

from selenium.webdriver import Chrome
from selenium.webdriver.common.keys import Keys

from tests.browser.pages import NO_ARIA_PROPERTIES, ChatTab, Example, Tab, fresh
from tests.faults import FaultProxy

PASSWORD = "correct horse"
MAX_MESSAGES = 10  # of a user, within an hour

# Has the page show 400 messages, 800 more while somebody reads older ones, and 50 of before.
LONG_TALK = """
const done = arguments[0];
(async () => {
  const { MessageLog } = await import("/static/log.js");
  const [talk, box] = [new MessageLog(), document.getElementById("log")];
  const items = () => [...document.querySelectorAll("#messages li")];
  const message = (id) => ({ id, key: `${id}`, from: "bob", text: `number ${id}`, at: id });
  // After a frame: what scrolls in one that has the box resized is at the end again, unseen.
  const frame = () => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
  const scrollTo = async (top) => {
    box.scrollTop = top;
    await frame();
    await frame();
  };
  const found = {};

  talk.clear();
  talk.addPage([...Array(400).keys()].map((index) => message(index + 1)), false);
  await frame(); // in which the new log hears how large the box is, and goes to the end
  await frame();
  await scrollTo(box.scrollTop - 2000);
  const item = items()[350];
  const { top } = item.getBoundingClientRect();
  for (let id = 401; id <= 1200; id++) talk.add(message(id), false);
  await frame();
  await frame();
  talk.addPage([...Array(50).keys()].map((index) => message(index + 101)), true);
  await frame();
  await frame();
  found["moved"] = Math.round((item.getBoundingClientRect().top - top) / 10); // not a few pixels
  found["messages while reading"] = items().length;
  await scrollTo(box.scrollHeight);
  talk.add(message(1201), false);
  found["messages at the end"] = items().length;
  return found;
})().then(done, (error) => done(String(error)));
"""


@pytest.fixture
def chromium(browser: Chrome) -> Iterator[Chrome]:
    with fresh(browser) as chromium:
        yield chromium


@pytest.fixture
def chat(tmp_path: Path) -> Iterator[Example]:
    settings = {
        "SECRET_KEY": "that of the tests",
        "SQLALCHEMY_DATABASE_URI": f"sqlite:///{tmp_path / 'chat.db'}",
        "WSE_CONN_PER_USER": "3",
        "MAX_RATE": f"[{MAX_MESSAGES}, 3600]",
    }
    with Example("flask_chat", settings) as example:
        yield example


@contextmanager
def opened(directory: Path) -> Iterator[sqlite3.Connection]:
    """The database of the chat; commits."""
    with closing(sqlite3.connect(directory / "chat.db")) as database, database:
        yield database


def fill_in(tab: Tab, user: str, password: str = PASSWORD) -> None:
    tab.find("#name").clear()
    tab.find("#name").send_keys(user)
    tab.find("#password").send_keys(password)


def signed_up(chromium: Chrome, chat: Example, user: str) -> ChatTab:
    """A new user, and the first tab of theirs."""
    tab = ChatTab(chromium, chat.url_for(user))
    fill_in(tab, user)
    tab.click("[value=sign-up]")
    tab.wait_person(f"{user} (you)", "1 device")
    return tab


def another_tab(chromium: Chrome, chat: Example, user: str) -> ChatTab:
    """One more of a user who has logged in."""
    tab = ChatTab(chromium, chat.url_for(user))
    tab.wait(lambda: tab.people(), "people")
    return tab


def test_the_form_signs_up_and_logs_in_from_the_keyboard(chromium: Chrome, chat: Example) -> None:
    ann = signed_up(chromium, chat, "ann")
    ann.find(".me form button").send_keys(Keys.ENTER)
    ann.wait(lambda: ann.focused() == "name", "the form")
    ann.press("Ann", Keys.TAB, "wrong horse", Keys.ENTER)
    ann.wait_text("[role=alert]", "There is no user with this name and this password.")
    ann.find("#password").send_keys(PASSWORD, Keys.ENTER)
    ann.wait_person("ann (you)", "1 device")

    bob = ChatTab(chromium, chat.url_for("bob"))
    fill_in(bob, "ann")
    bob.click("[value=sign-up]")
    bob.wait_text("[role=alert]", "Somebody is called ann already.")
    fill_in(bob, "bob", "short")
    bob.click("[value=sign-up]")
    bob.wait_text("[role=alert]", "A password has at least 8 characters.")
    assert ann.errors() == []


def test_two_users_and_three_tabs(chromium: Chrome, chat: Example) -> None:
    ann = signed_up(chromium, chat, "ann")
    bob = signed_up(chromium, chat, "bob")
    laptop = another_tab(chromium, chat, "ann")
    for tab in (ann, bob, laptop):
        tab.wait_devices("1 device", "2 devices")

    bob.find("#text").send_keys("<b>good</b>")
    ann.wait_text("#typing", "bob is writing")
    bob.press(Keys.SHIFT, Keys.ENTER)
    bob.press("morning", Keys.ENTER)
    for tab in (ann, bob, laptop):
        tab.wait_messages("bob: <b>good</b>\nmorning")
    assert ann.text("#typing") == ""
    bob.find("#text").send_keys("changed my mind")
    ann.wait_text("#typing", "bob is writing")
    ann.wait_no("#typing")
    ann.say("who is there?")
    for tab in (ann, bob, laptop):
        tab.wait_messages("bob: <b>good</b>\nmorning", "ann: who is there?")
        assert tab.text("#messages img, #messages .words b") == ""

    laptop.close()
    bob.wait_person("ann", "1 device")
    assert ann.errors() == []


def test_private_messages_reach_two_users_and_nobody_else(chromium: Chrome, chat: Example) -> None:
    ann = signed_up(chromium, chat, "ann")
    laptop = another_tab(chromium, chat, "ann")
    eve = signed_up(chromium, chat, "eve")
    bob = signed_up(chromium, chat, "bob")
    bob.go("@ann")
    bob.say("psst")
    for tab in (ann, laptop):
        tab.wait_person("bob", "1 device")
        tab.wait_text("#people .badge", "1")
        assert tab.messages() == []
    ann.go("@bob")
    ann.wait_messages("bob: psst")
    laptop.wait_no("#people .badge")
    ann.say("yes?")
    laptop.go("@bob")
    laptop.wait_messages("bob: psst", "ann: yes?")
    bob.wait_messages("bob: psst", "ann: yes?")
    eve.go("@bob")
    eve.say("what is it?")
    eve.wait_messages("eve: what is it?")
    assert eve.text("#people .badge") == ""
    assert ann.errors() == []


def test_who_was_offline_finds_everything_at_the_login(chromium: Chrome, chat: Example) -> None:
    ann = signed_up(chromium, chat, "ann")
    bob = signed_up(chromium, chat, "bob")
    ann.click(".me form button")
    bob.wait_person("ann", "not here")
    bob.go("@ann")
    bob.say("are you there?")
    bob.say("it can wait")
    bob.wait_confirmed()
    bob.go("lobby")
    bob.say("hello, room")
    bob.wait_confirmed()

    fill_in(ann, "ann")
    ann.press(Keys.ENTER)
    ann.wait_messages("bob: hello, room")
    ann.wait_text("#people .badge", "2")
    assert ann.run("return document.title") == "(2) #lobby · Chat"
    ann.go("@bob")
    ann.wait_messages("bob: are you there?", "bob: it can wait")
    ann.wait_no("#people .badge")
    assert ann.errors() == []


def test_rooms_are_added_and_say_that_something_is_new(chromium: Chrome, chat: Example) -> None:
    ann = signed_up(chromium, chat, "ann")
    bob = signed_up(chromium, chat, "bob")
    ann.find("#room-name").send_keys("no such word", Keys.ENTER)
    ann.wait_text("#room-problem", "A name is one word")
    ann.find("#room-name").clear()
    ann.find("#room-name").send_keys("Tea", Keys.ENTER)
    ann.wait_text("#title", "#tea")
    ann.say("green or black?")
    bob.wait_text("#rooms .badge", "1")
    assert bob.messages() == []
    bob.find("#text").send_keys("not sent yet")
    bob.go("tea")
    bob.wait_messages("ann: green or black?")
    assert bob.run("return text.value") == ""
    bob.run("history.back()")
    bob.wait(lambda: bob.run("return text.value") == "not sent yet", "the draft of the other room")
    assert ann.errors() == []


def test_earlier_messages_come_when_they_are_asked_for(
    chromium: Chrome, chat: Example, tmp_path: Path
) -> None:
    ann = signed_up(chromium, chat, "ann")
    numbers = range(120)
    with opened(tmp_path) as database:
        database.executemany(
            "insert into message (key, sender, room, text, at, seen) values (?, 'ann', ?, ?, ?, 0)",
            [(str(number), "lobby", str(number), number) for number in numbers],
        )
    ann.run("location.reload()")
    for count in (50, 100, 120):
        ann.wait_messages(*(f"ann: {number}" for number in numbers[-count:]))
        assert ann.run("return log.scrollTop > 0"), "what was in sight stays in sight"
        if count < 120:
            ann.find("#earlier").send_keys(Keys.ENTER)
    ann.wait(lambda: not ann.find("#earlier").is_displayed(), "there are no more")
    assert ann.errors() == []


def test_a_page_does_not_grow_without_end_while_older_messages_are_read(
    chromium: Chrome, chat: Example
) -> None:
    ann = signed_up(chromium, chat, "ann")
    ann.wait_text("#empty", "Nobody has said anything here yet.")  # the page's own log is at rest
    found = chromium.execute_async_script(LONG_TALK)
    assert found == {"moved": 0, "messages while reading": 1050, "messages at the end": 500}
    assert ann.errors() == []


def test_the_server_asks_the_pages_of_a_user(chromium: Chrome, chat: Example) -> None:
    ann = signed_up(chromium, chat, "ann")
    laptop = another_tab(chromium, chat, "ann")
    laptop.look("dark", 390, 844)
    ann.look("light", 1000, 700)
    ann.find("#ask").send_keys(Keys.ENTER)
    ann.wait_text("#devices-list", "Another page")
    this, other = ann.texts("#devices-list li")
    assert this.startswith("This page shows #lobby")
    assert "1000 \u00d7 700 pixels, light theme" in this
    assert other.startswith("Another page shows #lobby")
    assert "390 \u00d7 844 pixels, dark theme" in other
    ann.press(Keys.ESCAPE)
    ann.wait(lambda: ann.focused() == "ask", "the focus is back")
    assert not laptop.text("#devices-list")
    assert ann.errors() == []


def test_the_clock_of_the_server_ticks(chromium: Chrome, chat: Example) -> None:
    ann = signed_up(chromium, chat, "ann")
    ann.wait(lambda: ":" in ann.text("#clock") and "-" not in ann.text("#clock"), "a time")
    first = ann.text("#clock")
    ann.wait(lambda: ann.text("#clock") != first, "the next second")


def test_a_clock_that_is_not_answered_complains_to_nobody(chromium: Chrome, chat: Example) -> None:
    ann = signed_up(chromium, chat, "ann")
    ann.reload_after(
        """window.asked = 0; // how often the time was asked for; the page does it every 5 minutes
        const original = setInterval;
        window.setInterval = (handler) => original(() => { asked += 1; handler(); }, 500);"""
    )
    ann.wait_person("ann (you)", "1 device")
    for _ in range(3):
        another_tab(chromium, chat, "ann")
    ann.wait_text("#banner", "too many places")
    before = ann.run("return asked")
    ann.wait(lambda: ann.run("return asked") > before + 1, "a question that nobody answers")
    assert ann.errors() == []


def test_a_killed_server_comes_back_and_nothing_is_missing_or_doubled(
    chromium: Chrome, chat: Example
) -> None:
    ann = signed_up(chromium, chat, "ann")
    bob = signed_up(chromium, chat, "bob")
    ann.say("before")
    bob.wait_messages("ann: before")
    chat.kill()
    for tab in (ann, bob):
        tab.wait_text("#banner", "The connection is lost")
    ann.say("meanwhile")
    ann.wait_text("#messages .waits", "Waits to be sent")
    chat.start()
    for tab in (ann, bob):
        tab.wait_messages("ann: before", "ann: meanwhile")
        tab.wait_no("#banner")
        tab.wait_confirmed()
    bob.say("after")
    for tab in (ann, bob):
        tab.wait_messages("ann: before", "ann: meanwhile", "bob: after")
        tab.wait_devices("1 device", "1 device")
    ann.run("location.reload()")
    ann.wait_messages("ann: before", "ann: meanwhile", "bob: after")


def test_a_cut_network_comes_back_and_nothing_is_missing_or_doubled(
    chromium: Chrome, chat: Example
) -> None:
    with FaultProxy(chat.url) as proxy:
        bob = signed_up(chromium, chat, "bob")
        signed_up(chromium, chat, "ann").close()
        ann = ChatTab(chromium, chat.url_for("ann", proxy.port))
        ann.wait_person("ann (you)", "1 device")
        ann.say("before")
        bob.wait_messages("ann: before")
        proxy.refuse()
        proxy.cut(reset=True)
        ann.wait_text("#banner", "The connection is lost")
        bob.wait_person("ann", "away")
        for text in ("one", "two"):
            bob.say(text)
        ann.say("from a tunnel")
        ann.say("a long one")
        proxy.admit()
        bob.wait_messages(
            "ann: before", "bob: one", "bob: two", "ann: from a tunnel", "ann: a long one"
        )
        ann.wait_confirmed()
        assert ann.messages() == bob.messages()
        bob.wait_person("ann", "1 device")
        ann.wait_no("#banner")
        ann.close()


def test_logging_out_ends_the_tabs_of_this_browser_and_no_others(
    chromium: Chrome, chat: Example
) -> None:
    ann = signed_up(chromium, chat, "ann")
    laptop = another_tab(chromium, chat, "ann")
    phone = ChatTab(chromium, chat.url_for("phone"))
    fill_in(phone, "ann")
    phone.press(Keys.ENTER)
    phone.wait_person("ann (you)", "3 devices")
    laptop.click(".me form button")
    for tab in (ann, laptop):
        tab.wait_text("h1", "Chat")
    phone.wait_person("ann (you)", "1 device")


def test_one_tab_too_many_ends_the_oldest(chromium: Chrome, chat: Example) -> None:
    ann = signed_up(chromium, chat, "ann")
    others = [another_tab(chromium, chat, "ann") for _ in range(3)]
    ann.wait_text("#banner", "too many places")
    others[0].wait_person("ann (you)", "3 devices")


def test_a_message_that_is_refused_says_so_and_can_be_sent_again(
    chromium: Chrome, chat: Example, tmp_path: Path
) -> None:
    ann = signed_up(chromium, chat, "ann")
    said = [f"ann: {number}" for number in range(MAX_MESSAGES + 1)]
    for number in range(MAX_MESSAGES + 1):
        ann.say(str(number))
    ann.wait_text("#messages .failed", "Not sent. That was a lot at once.")
    assert ann.messages() == said
    with opened(tmp_path) as database:
        database.execute("update message set at = at - 7200")
    ann.click("#messages .failed button")
    ann.wait_no("#messages .failed")
    ann.wait_confirmed()
    assert ann.focused() == "text"
    ann.run("location.reload()")
    ann.wait_messages(*said)


def test_a_fault_of_the_server_is_said_in_plain_words(
    chromium: Chrome, chat: Example, tmp_path: Path
) -> None:
    ann = signed_up(chromium, chat, "ann")
    with opened(tmp_path) as database:
        database.execute("alter table message rename to mislaid")
    ann.run("location.hash = 'in=@ann'")
    ann.wait_text("#banner", "Something went wrong at the server.")
    ann.say("hello")
    ann.wait_text("#messages .failed", "Not sent. Something went wrong at the server.")
    with opened(tmp_path) as database:
        database.execute("alter table mislaid rename to message")
    ann.click("#messages .failed button")
    ann.wait_confirmed()
    assert [error for error in ann.errors() if "Uncaught" in error] == []


def test_a_page_of_another_origin_is_refused(chromium: Chrome, chat: Example) -> None:
    ann = signed_up(chromium, chat, "ann")
    assert ann.opens(chat.url_for("ann") + "ws") is True
    # Another port is another origin, though the browser sends the same cookies there. The script is
    # no page of the application, so nothing but the server keeps it from connecting.
    with FaultProxy(chat.url) as proxy:
        page = Tab(chromium, chat.url_for("ann", proxy.port) + "ws/wse.js")
        assert page.opens(chat.url_for("ann") + "ws") is False
        page.close()
    chat.program.wait_for_line("refused a page from 'http://ann.localhost")
    assert ann.people() == {"ann (you)": "1 device"}


def test_everybody_can_read_and_use_the_pages(chromium: Chrome, chat: Example) -> None:
    ann = signed_up(chromium, chat, "ann")
    ann.say("a message")
    ann.wait_confirmed()
    form = Tab(chromium, chat.url_for("nobody") + "login")
    for theme in ("light", "dark"):
        for width in (320, 1280):
            for tab in (ann, form):
                tab.look(theme, width)
                assert tab.complaints() == [], (theme, width)
        ann.look(theme, 320)
        ann.click("#menu")
        assert ann.complaints() == [], theme
        ann.press(Keys.ESCAPE)


def test_screen_readers_of_older_browsers_are_told_the_same(
    chromium: Chrome, chat: Example
) -> None:
    ann = signed_up(chromium, chat, "ann")
    ann.reload_after(NO_ARIA_PROPERTIES)
    ann.wait_person("ann (you)", "1 device")
    ann.say("hello")
    ann.wait_confirmed()
    assert ann.texts("[aria-current=page]") == ["#\nlobby"]
    assert ann.texts(".picture[aria-hidden=true]") == ["A"]
    ann.look("light", 360, 640)
    ann.click("#menu")
    assert ann.find("#menu").get_attribute("aria-expanded") == "true"
    assert ann.errors() == []


def test_a_phone_has_a_menu_that_the_keyboard_opens_and_closes(
    chromium: Chrome, chat: Example
) -> None:
    ann = signed_up(chromium, chat, "ann")
    ann.look("light", 360, 640)
    skip = ann.find(".skip")
    ann.run("arguments[0].focus()", skip)
    skip.send_keys(Keys.ENTER)
    ann.wait(lambda: ann.focused() == "text", "the text field")
    menu = ann.find("#menu")
    assert menu.accessible_name == "Rooms and people"
    assert not ann.find("#rooms").is_displayed()
    menu.send_keys(Keys.ENTER)
    assert menu.get_attribute("aria-expanded") == "true"
    ann.wait(lambda: ann.run("return document.activeElement.innerText") == "#\nlobby", "a room")
    ann.press(Keys.ESCAPE)
    assert menu.get_attribute("aria-expanded") == "false"
    assert ann.focused() == "menu"
    ann.wait(lambda: not ann.find("#rooms").is_displayed(), "the menu is closed")
