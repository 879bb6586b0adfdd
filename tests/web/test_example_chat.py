"""The server of the chat example: its forms, and its WebSocket with clients of ours for pages."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.conftest import MakeClient
from tests.support import QUICK, Recorder, Thread, pass_time, wait_event, wait_until
from tests.test_flask import serving
from wse_sync import WSE_STATUS, WseClient, WseError, WsePermissionError

pytest.importorskip("flask_login", reason="needs Flask-Login")
pytest.importorskip("flask_sqlalchemy", reason="needs Flask-SQLAlchemy")

from sqlalchemy import select, update

from examples.flask_chat import create_app
from examples.flask_chat.models import Login, Message, Room, User, db
from examples.flask_chat.sockets import ANSWER_TIMEOUT

PASSWORD = "correct horse"
LOBBY = {"place": "lobby"}

MakePage = Callable[..., WseClient]


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    database = f"sqlite:///{tmp_path / 'chat.db'}"
    settings = {"SECRET_KEY": "x", "SQLALCHEMY_DATABASE_URI": database, "MAX_RATE": [50, 60.0]}
    return create_app(settings)


@pytest.fixture
def make_page(app: Flask, make_client: MakeClient) -> Iterator[MakePage]:
    """Makes what a page of somebody who has logged in is to the server."""
    with serving(app, "/ws") as url:

        def make_page(browser: FlaskClient, **handlers: Callable[[Any], object]) -> WseClient:
            cookie = browser.get_cookie("session")
            options: dict[str, Any] = {"cookie": f"session={cookie.value}" if cookie else ""}
            # Flask-Login compares it with that of the login.
            options["header"] = {"User-Agent": browser.environ_base["HTTP_USER_AGENT"]}
            page = make_client(url, reconnect=True, backoff=QUICK, ws_options=options)
            for type, handler in handlers.items():
                page.channel.on(type, handler)
            page.connect()
            page.send("reading", "lobby")
            page.call("clock")  # when it is answered, the message before it has been handled
            return page

        yield make_page


def post(browser: FlaskClient, path: str, **form: str) -> TestResponse:
    browser.get("/login")
    with browser.session_transaction() as session:
        token = session["csrf"]
    return browser.post(path, data={"csrf": token, **form}, follow_redirects=True)


def sign_up(browser: FlaskClient, name: str, password: str = PASSWORD) -> str:
    return post(browser, "/login", name=name, password=password, action="sign-up").text


def log_in(browser: FlaskClient, name: str, password: str = PASSWORD) -> str:
    return post(browser, "/login", name=name, password=password).text


def user(app: Flask, name: str) -> FlaskClient:
    """The browser of a new user."""
    browser = app.test_client()
    assert f'data-me="{name}"' in sign_up(browser, name)
    return browser


def say(page: WseClient, text: str, place: str = "lobby", key: str = "") -> dict[str, Any]:
    said: dict[str, Any] = page.call("say", {"key": key or text, "place": place, "text": text})
    return said


def texts(history: dict[str, Any]) -> list[str]:
    return [message["text"] for message in history["messages"]]


def refusal(page: WseClient, text: str, place: str = "lobby") -> str:
    with pytest.raises(WseError) as caught:
        say(page, text, place)
    return caught.value.code


# Forms


def test_strangers_see_the_form_and_nothing_else(app: Flask) -> None:
    browser = app.test_client()
    assert browser.get("/").location.startswith("/login")
    assert 'data-me="ann"' in sign_up(browser, " Ann ")
    assert browser.get("/login").location == "/"
    assert "Somebody is called ann already" in sign_up(app.test_client(), "ANN")
    assert "A name is one word" in sign_up(app.test_client(), "<b>ann</b>")
    assert "at least 8 characters" in sign_up(app.test_client(), "bob", "short")
    assert "no user with this name" in log_in(app.test_client(), "ann", "wrong horse")
    assert "no user with this name" in log_in(app.test_client(), "bob")
    assert 'data-me="ann"' in log_in(app.test_client(), "ann")


def test_passwords_are_kept_as_hashes(app: Flask, tmp_path: Path) -> None:
    user(app, "ann")
    with closing(sqlite3.connect(tmp_path / "chat.db")) as database:
        [(kept,)] = database.execute("select password_hash from user")
    assert kept.startswith("scrypt:")
    assert PASSWORD not in kept


@pytest.mark.parametrize("path", ["/login", "/logout"])
def test_a_form_of_somebody_else_is_refused(app: Flask, path: str) -> None:
    browser = user(app, "ann")
    form = {"name": "eve", "password": PASSWORD, "csrf": "guessed"}
    assert browser.post(path, data=form).status_code == 400
    assert browser.post(path).status_code == 400
    assert 'data-me="ann"' in browser.get("/").text


def test_pages_run_no_script_but_those_of_this_server(app: Flask) -> None:
    browser = user(app, "ann")
    for path in ("/", "/static/chat.js"):
        response = browser.get(path)
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        response.close()
    page = browser.get("/").text
    assert "<style" not in page
    assert " style=" not in page
    assert page.count("<script") == page.count('<script type="module" src="/static/')
    cookie = browser.get_cookie("session")
    assert cookie is not None
    assert (cookie.http_only, cookie.same_site) == (True, "Lax")


def test_a_secret_that_nobody_has_set_is_kept(tmp_path: Path) -> None:
    from examples.flask_chat.app import kept_secret

    path = tmp_path / "instance" / "secret_key"
    secret = kept_secret(path)
    assert len(secret) == 64
    assert kept_secret(path) == secret
    assert path.stat().st_mode & 0o077 == 0
    path.write_text("")  # as a full disk leaves it
    assert len(kept_secret(path)) == 64
    assert list(path.parent.iterdir()) == [path]


def test_a_secret_key_of_digits_is_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASK_SECRET_KEY", "31415926")
    app = create_app({"SQLALCHEMY_DATABASE_URI": f"sqlite:///{tmp_path / 'chat.db'}"})
    user(app, "ann")
    assert app.config["SECRET_KEY"] == "31415926"


# Who is here


def test_who_has_not_logged_in_is_refused(app: Flask, make_page: MakePage) -> None:
    with pytest.raises(WsePermissionError):
        make_page(app.test_client())


def test_everybody_hears_who_is_here_with_how_many_devices(app: Flask, make_page: MakePage) -> None:
    heard = Recorder()
    make_page(user(app, "bob"), presence=heard)
    browser = user(app, "ann")
    phone, laptop = make_page(browser), make_page(browser)
    heard.wait_until(lambda items: {"name": "ann", "devices": 2, "away": 0} in items)
    laptop.disconnect()
    heard.wait_until(lambda items: items[-1] == {"name": "ann", "devices": 1, "away": 0})
    phone.disconnect()
    heard.wait_until(lambda items: items[-1] == {"name": "ann", "devices": 0, "away": 0})


def test_a_page_is_told_everything_when_it_comes(app: Flask, make_page: MakePage) -> None:
    bob = make_page(user(app, "bob"))
    browser = user(app, "ann")
    say(bob, "psst", "@ann")
    say(bob, "hey", "@ann")
    assert bob.call("add_room", " Tea ") == "tea"
    state = Recorder()
    make_page(browser, state=state)
    [told] = state.wait_for(1)
    assert told["rooms"] == ["lobby", "tea"]
    assert told["people"][1] == {"name": "bob", "devices": 1, "away": 0}
    assert told["unseen"] == {"@bob": 2}


def test_of_too_many_users_a_page_is_told_the_most_important(
    app: Flask, make_page: MakePage
) -> None:
    longest = "\U00020000"  # a letter that JSON takes twelve bytes for
    with app.app_context():
        crowd = [f"{number:05}".ljust(20, longest) for number in range(1500)]
        rooms = [f"{number:03}".ljust(20, longest) for number in range(99)]
        db.session.add_all([User(name=name, password_hash="") for name in crowd])
        db.session.add_all([Room(name=name) for name in rooms])
        db.session.add_all(
            [Message(sender=name, recipient="ann", key="1", text="hi") for name in crowd]
        )
        db.session.commit()
    bob, state, heard = make_page(user(app, "zoe")), Recorder(), Recorder()
    browser = user(app, "ann")
    say(bob, "psst", "@ann")
    make_page(browser, state=state, presence=heard)
    [told] = state.wait_for(1)
    names = [person["name"] for person in told["people"]]
    assert names[:3] == ["ann", "zoe", crowd[-1]]
    assert len(told["rooms"]) == 100
    assert set(told["unseen"]) == {f"@{name}" for name in names[1:]}
    heard.wait_until(lambda items: {"name": "ann", "devices": 1, "away": 0} in items)


def test_logging_out_ends_the_pages_of_that_browser(app: Flask, make_page: MakePage) -> None:
    laptop, phone = user(app, "ann"), app.test_client()
    log_in(phone, "ann")
    pages = [make_page(laptop), make_page(laptop), make_page(phone)]
    post(laptop, "/logout")
    assert pages[0].wait(10.0)
    assert pages[1].wait(10.0)
    assert pages[2].call("history", LOBBY)["messages"] == []
    with pytest.raises(WsePermissionError):
        make_page(laptop)


def test_the_cookie_of_a_login_that_is_over_is_worth_nothing(
    app: Flask, make_page: MakePage
) -> None:
    laptop = user(app, "ann")
    kept = laptop.get_cookie("session")
    assert kept is not None
    post(laptop, "/logout")
    laptop.set_cookie("session", kept.value)
    assert laptop.get("/").status_code == 302  # to the form
    with pytest.raises(WsePermissionError):
        make_page(laptop)


def test_a_login_ends_after_thirty_days(app: Flask) -> None:
    laptop, phone = user(app, "ann"), app.test_client()
    with app.app_context():
        db.session.execute(update(Login).values(at=Login.at - 31 * 24 * 60 * 60))
        db.session.commit()
    log_in(phone, "ann")
    assert laptop.get("/").status_code == 302  # to the form
    assert 'data-me="ann"' in phone.get("/").text
    with app.app_context():
        assert len(db.session.scalars(select(Login)).all()) == 1


# What is said


def test_the_same_key_counts_once(app: Flask, make_page: MakePage) -> None:
    browser = user(app, "ann")
    said = Recorder()
    ann, other = make_page(browser), make_page(browser, said=said)
    first = say(ann, "hello", key="1")
    assert say(ann, "hello", key="1") == first
    assert say(other, "hello", key="1") == first
    assert say(ann, "bye", key="2") != first
    assert [message["text"] for message in said.wait_for(2)] == ["hello", "bye"]
    assert texts(ann.call("history", LOBBY)) == ["hello", "bye"]


def test_pages_get_messages_in_the_order_of_their_ids(app: Flask, make_page: MakePage) -> None:
    browsers = [user(app, name) for name in ("ann", "bob", "eve")]
    heard = [Recorder() for _ in browsers]
    pages = [make_page(browser, said=said) for browser, said in zip(browsers, heard)]

    def talk(page: WseClient) -> None:
        for number in range(10):
            say(page, str(number))

    talkers = [threading.Thread(target=talk, args=(page,)) for page in pages]
    for talker in talkers:
        talker.start()
    for talker in talkers:
        talker.join()
    for recorder in heard:
        assert [message["id"] for message in recorder.wait_for(30)] == list(range(1, 31))


def test_the_history_comes_in_pages(app: Flask, make_page: MakePage) -> None:
    ann = make_page(user(app, "ann"))
    ids = [say(ann, str(number))["id"] for number in range(50)]
    assert ann.call("history", LOBBY)["more"] is False
    app.config["MAX_RATE"] = [100, 60.0]
    ids += [say(ann, str(number))["id"] for number in range(50, 60)]
    newest = ann.call("history", LOBBY)
    assert texts(newest) == [str(number) for number in range(10, 60)]
    assert newest["more"] is True
    older = ann.call("history", {**LOBBY, "before": ids[10]})
    assert texts(older) == [str(number) for number in range(10)]
    assert older["more"] is False
    missed = ann.call("history", {**LOBBY, "after": ids[57]})
    assert (texts(missed), missed["more"]) == (["58", "59"], False)
    assert ann.call("history", {**LOBBY, "after": ids[5]})["more"] is True


def test_the_longest_messages_come_in_shorter_pages(app: Flask, make_page: MakePage) -> None:
    ann = make_page(user(app, "ann"))
    said = [say(ann, "\N{GRINNING FACE}" * 2000, key=str(number)) for number in range(50)]
    page = ann.call("history", LOBBY)
    read = page["messages"]
    assert read == said[-len(read) :]
    while page["more"]:
        page = ann.call("history", {**LOBBY, "before": read[0]["id"]})
        read = page["messages"] + read
    assert read == said


def test_private_messages_are_for_two(app: Flask, make_page: MakePage) -> None:
    heard = Recorder()
    ann, bob = (make_page(user(app, name)) for name in ("ann", "bob"))
    eve = make_page(user(app, "eve"), said=heard)
    say(ann, "psst", "@bob")
    say(bob, "yes?", "@ann")
    say(eve, "a note", "@eve")
    assert heard.wait_for(1)[0]["text"] == "a note"
    assert texts(ann.call("history", {"place": "@bob"})) == ["psst", "yes?"]
    assert texts(bob.call("history", {"place": "@ann"})) == ["psst", "yes?"]
    assert texts(eve.call("history", {"place": "@ann"})) == []
    assert texts(eve.call("history", {"place": "@eve"})) == ["a note"]
    assert texts(ann.call("history", {"place": "@ann"})) == []


def test_what_was_seen_on_one_device_is_seen_on_all(app: Flask, make_page: MakePage) -> None:
    browser = user(app, "ann")
    seen, state = Recorder(), Recorder()
    phone, bob = make_page(browser), make_page(user(app, "bob"))
    make_page(browser, seen=seen)
    say(bob, "psst", "@ann")
    phone.send("reading", "@bob")
    assert seen.wait_for(1) == ["@bob"]
    make_page(browser, state=state)
    assert state.wait_for(1)[0]["unseen"] == {}


def test_text_is_cleaned_and_limited(app: Flask, make_page: MakePage) -> None:
    ann = make_page(user(app, "ann"))
    said = say(ann, " bell\x07 \x1b[31mred\ud800\nline ", key="k" * 1000)
    assert said["text"] == "bell [31mred\nline"
    assert said["key"] == "k" * 64
    assert refusal(ann, " \n ") == "chat.empty"
    assert refusal(ann, "x" * 2001) == "chat.too-long"
    assert refusal(ann, "hello", "attic") == "chat.no-such-place"
    assert refusal(ann, "hello", "@nobody") == "chat.no-such-place"


@pytest.mark.parametrize(
    ("procedure", "payload"),
    [
        ("history", {"place": {}}),
        ("history", {**LOBBY, "before": {}}),
        ("history", {**LOBBY, "after": 2**63}),
        ("say", {**LOBBY, "key": None, "text": "hello"}),
        ("say", {**LOBBY, "key": "1", "text": ["hello"]}),
        ("add_room", {}),
    ],
)
def test_what_no_page_asks_for_does_not_reach_the_database(
    app: Flask, make_page: MakePage, procedure: str, payload: Any
) -> None:
    ann = make_page(user(app, "ann"))
    with pytest.raises(WseError) as caught:
        ann.call(procedure, payload)
    assert caught.value.code == "chat.bad-request"


def test_halves_of_characters_do_not_reach_the_database(app: Flask, make_page: MakePage) -> None:
    ann = make_page(user(app, "ann"))
    said = say(ann, "hello\udc00", "lobby\ud800", key="\ud800k")
    assert (said["key"], said["text"]) == ("k", "hello")
    assert ann.call("history", {"place": "lobby\ud800"})["messages"] == [said]


def test_who_says_too_much_has_to_wait_in_all_tabs(app: Flask, make_page: MakePage) -> None:
    app.config["MAX_RATE"] = [3, 60.0]
    browser = user(app, "ann")
    ann, other, bob = make_page(browser), make_page(browser), make_page(user(app, "bob"))
    for page, number in ((ann, 1), (other, 2), (ann, 3)):
        say(page, str(number))
    assert refusal(other, "4") == "chat.too-fast"
    assert say(ann, "3")["text"] == "3"  # again, as it came to nobody's ears the first time
    assert say(bob, "1")["text"] == "1"


def test_a_page_that_floods_the_server_is_closed(app: Flask, make_page: MakePage) -> None:
    ann, closed = make_page(user(app, "ann")), Recorder()
    ann.when.closed(closed)
    with suppress(WseError):  # it may be closed already
        for _ in range(2000):
            ann.send("typing", "lobby")
    assert closed.wait_for(1) == [(1008, "wse.rate-limit")]


def test_signs_of_typing_reach_those_who_read_there(
    app: Flask, make_page: MakePage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("examples.flask_chat.sockets.TYPING_PAUSE", 3600.0)
    at_bob, said_to_bob, at_eve = Recorder(), Recorder(), Recorder()
    ann = make_page(user(app, "ann"))
    make_page(user(app, "bob"), typing=at_bob, said=said_to_bob)
    eve = make_page(user(app, "eve"), typing=at_eve)
    eve.send("reading", "@ann")
    eve.call("clock")
    for _ in range(5):
        ann.send("typing", "lobby")
    say(ann, "hello")
    ann.send("typing", "@eve")
    assert at_eve.wait_for(1) == [{"name": "ann", "place": "@ann"}]
    said_to_bob.wait_for(1)
    assert at_bob.items == [{"name": "ann", "place": "lobby"}]


def test_rooms_have_a_name_and_a_limit(
    app: Flask, make_page: MakePage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("examples.flask_chat.sockets.MAX_ROOMS", 2)
    heard = Recorder()
    ann = make_page(user(app, "ann"), room=heard)
    assert ann.call("add_room", "Tea") == ann.call("add_room", "tea ") == "tea"
    assert heard.wait_for(1) == ["tea"]
    for name, code in (("no word", "chat.bad-name"), ("attic", "chat.too-many-rooms")):
        with pytest.raises(WseError) as caught:
            ann.call("add_room", name)
        assert caught.value.code == code


# Calls to pages


def test_the_pages_of_a_user_are_asked_and_no_others(app: Flask, make_page: MakePage) -> None:
    browser = user(app, "ann")
    this, silent, broken = (make_page(browser) for _ in range(3))
    bob = make_page(user(app, "bob"))
    asked, begun, done = Recorder(result={"width": 1000}), threading.Event(), threading.Event()

    def describe(_: Any) -> None:
        begun.set()
        wait_event(done)

    def open_calls() -> int:
        """How many answers the server waits for."""
        conns = app.extensions["wse"].of(app).clients["ann"].conns.values()
        return sum(len(conn._callers) for conn in conns)

    this.register("describe", lambda _: {"width": 400})
    silent.register("describe", describe)
    bob.register("describe", asked)
    assert broken.status is WSE_STATUS.READY  # has no such procedure
    calling = Thread(lambda: this.call("devices"))
    wait_event(begun)
    wait_until(lambda: open_calls() == 1, "all others have answered")
    pass_time(ANSWER_TIMEOUT)
    assert calling.result() == [{"width": 400}, None, None]
    assert asked.items == []
    done.set()


def test_the_clock_says_the_time_and_its_zone(app: Flask, make_page: MakePage) -> None:
    ann = make_page(user(app, "ann"))
    first = ann.call("clock")
    assert set(first) == {"at", "offset", "zone"}
    wait_until(lambda: ann.call("clock")["at"] > first["at"])
