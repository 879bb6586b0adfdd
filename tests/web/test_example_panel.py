"""The server of the device panel: who is a device, and what pages are told and may ask for."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient

from examples.device_panel import create_app
from examples.device_panel.app import kept_secret
from examples.device_panel.logins import Logins
from tests.conftest import MakeClient
from tests.faults import FaultProxy
from tests.hosts import werkzeug_serving
from tests.support import QUICK, Recorder, wait_until
from wse_sync import WseClient, WseError, WsePermissionError, WseServer, challenges

PASSWORD = "correct horse"
READING = {"light": 0.5, "lamp": False, "pressed": False}

MakeDevice = Callable[..., WseClient]
MakePage = Callable[..., WseClient]


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    folders = {"DEVICE_SECRETS": f"{tmp_path}/devices", "LOGINS": f"{tmp_path}/logins"}
    return create_app({"SECRET_KEY": "x", "PASSWORD": PASSWORD, **folders})


@pytest.fixture
def devices(app: Flask) -> WseServer:
    server: WseServer = app.extensions["hub"].devices
    return server


@pytest.fixture
def url(app: Flask, devices: WseServer) -> Iterator[str]:
    with werkzeug_serving(app) as url:
        try:
            yield url
        finally:
            devices.close()
            app.extensions["wse"].close()


@pytest.fixture
def make_device(url: str, tmp_path: Path, make_client: MakeClient) -> MakeDevice:
    def make_device(
        name: str = "kitchen", secret: str = "", address: str = f"{url}/devices", **options: Any
    ) -> WseClient:
        device = make_client(address, **options)
        device.challenge(challenges.solver(secret or (tmp_path / "devices" / name).read_text()))
        device.connect(name)
        return device

    return make_device


@pytest.fixture
def make_page(app: Flask, url: str, make_client: MakeClient) -> MakePage:
    def make_page(
        browser: FlaskClient | None = None, **handlers: Callable[[Any], object]
    ) -> WseClient:
        if browser is None:
            browser = app.test_client()
            assert log_in(browser) == 302
        cookie = browser.get_cookie("session")
        assert cookie is not None
        page = make_client(f"{url}/ws", ws_options={"cookie": f"session={cookie.value}"})
        for type, handler in handlers.items():
            page.channel.on(type, handler)
        page.connect()
        return page

    return make_page


def post(browser: FlaskClient, path: str, **form: str) -> int:
    browser.get("/login")
    with browser.session_transaction() as session:
        token = session["csrf"]
    return browser.post(path, data={"csrf": token, **form}).status_code


def log_in(browser: FlaskClient, password: str = PASSWORD) -> int:
    return post(browser, "/login", password=password)


def test_pages_are_for_who_knows_the_password(
    app: Flask, url: str, make_client: MakeClient, make_page: MakePage
) -> None:
    browser = app.test_client()
    assert browser.get("/").location == "/login"
    assert log_in(browser, "wrong horse") == 200
    assert browser.get("/").location == "/login"
    assert log_in(browser) == 302
    assert "Devices" in browser.get("/").text
    assert browser.post("/logout").status_code == 400
    with pytest.raises(WsePermissionError):
        make_client(f"{url}/ws").connect()
    make_page()


def test_logging_out_ends_the_pages_of_that_browser_and_its_cookie(
    app: Flask, make_page: MakePage
) -> None:
    laptop, closed = app.test_client(), Recorder()
    log_in(laptop)
    kept = laptop.get_cookie("session")
    assert kept is not None
    pages, other = [make_page(laptop), make_page(laptop)], make_page()
    for page in pages:
        page.when.closed(closed)
    post(laptop, "/logout")
    assert closed.wait_for(2) == [(1000, "panel.logged-out")] * 2
    laptop.set_cookie("session", kept.value)
    assert laptop.get("/").location == "/login"
    with pytest.raises(WsePermissionError):
        make_page(laptop)
    with pytest.raises(WseError, match=r"panel\.away"):
        other.call("switch", {"device": "kitchen", "on": True})


def test_logins_outlive_a_restart_but_not_their_time(tmp_path: Path) -> None:
    lifetime = timedelta(days=31)
    login = Logins(tmp_path / "logins", lifetime).begin()
    restarted = Logins(tmp_path / "logins", lifetime)
    assert restarted.has(login)
    month_ago = time.time() - 32 * 24 * 60 * 60
    os.utime(tmp_path / "logins" / login, (month_ago, month_ago))
    other = restarted.begin()
    assert (restarted.has(login), restarted.has(other)) == (False, True)


def test_a_secret_is_kept_as_a_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "instance" / "password"

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full_disk:
        full_disk.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="No space left"):
            kept_secret(path)
    assert not path.exists()
    path.write_text("\n")
    secret = kept_secret(path, size=9)
    assert len(secret) == 12
    assert kept_secret(path) == secret
    assert path.stat().st_mode & 0o077 == 0


def test_a_password_of_digits_is_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASK_SECRET_KEY", "27182818")
    monkeypatch.setenv("FLASK_PASSWORD", "31415926.50")
    folders = {"DEVICE_SECRETS": f"{tmp_path}/devices", "LOGINS": f"{tmp_path}/logins"}
    app = create_app(folders)
    assert log_in(app.test_client(), "31415926.5") == 200
    assert log_in(app.test_client(), "31415926.50") == 302


def test_devices_prove_who_they_are(
    url: str, tmp_path: Path, make_client: MakeClient, make_device: MakeDevice
) -> None:
    make_device()
    (tmp_path / "outside").write_text("known")
    for name, secret in (("kitchen", "wrong"), ("attic", "known"), ("../outside", "known")):
        with pytest.raises(WsePermissionError):
            make_device(name, secret)
    (tmp_path / "devices" / "attic").write_text("its own\n")
    make_device("attic", "its own")


def test_a_page_is_told_what_was_before_and_what_comes(
    make_device: MakeDevice, make_page: MakePage
) -> None:
    early = Recorder()
    make_page(device=early)
    kitchen = make_device()
    kitchen.send("reading", READING)
    kitchen.send("pressed", READING)
    early.wait_until(lambda items: items and items[-1]["pressed_at"])
    snapshot, changes, readings = Recorder(), Recorder(), Recorder()
    make_page(devices=snapshot, device=changes, reading=readings)
    [everything] = snapshot.wait_for(1)
    [told] = everything["devices"]
    assert (told["name"], told["state"], told["lamp"]) == ("kitchen", "here", False)
    assert [light for _, light in told["readings"]] == [0.5]
    assert told["pressed_at"] <= everything["now"]
    kitchen.send("reading", {**READING, "light": 0.75, "lamp": True})
    [reading] = readings.wait_for(1)
    assert (reading["name"], reading["light"], reading["lamp"]) == ("kitchen", 0.75, True)
    kitchen.disconnect()
    changes.wait_until(lambda items: items and items[-1]["state"] == "gone")


def test_a_page_switches_a_lamp(make_device: MakeDevice, make_page: MakePage) -> None:
    lamp = Recorder(result=True)
    make_device().register("led", lamp)
    heard = Recorder()
    page, _ = make_page(), make_page(device=heard)
    assert page.call("switch", {"device": "kitchen", "on": True}) is True
    assert lamp.items == [True]
    heard.wait_until(lambda items: items and items[-1]["lamp"])


def test_a_device_that_is_away_is_not_called(
    url: str, make_device: MakeDevice, make_page: MakePage
) -> None:
    heard = Recorder()
    page = make_page(device=heard)

    def refusal() -> str:
        with pytest.raises(WseError) as caught:
            page.call("switch", {"device": "kitchen", "on": True})
        return caught.value.code

    assert refusal() == "panel.away"
    with FaultProxy(url) as proxy:
        lamp = Recorder(result=True)
        address = f"{proxy.url}devices"
        kitchen = make_device(address=address, reconnect=True, backoff=QUICK)
        kitchen.register("led", lamp)
        proxy.refuse()
        proxy.cut()
        heard.wait_until(lambda items: items and items[-1]["state"] == "away")
        assert refusal() == "panel.away"
        proxy.admit()
        heard.wait_until(lambda items: items and items[-1]["state"] == "here")
        assert lamp.items == []
        assert page.call("switch", {"device": "kitchen", "on": True}) is True
        kitchen.disconnect()


def test_a_device_that_is_started_again_is_there_at_once(
    url: str, make_device: MakeDevice, make_page: MakePage
) -> None:
    heard, snapshot = Recorder(), Recorder()
    page = make_page(device=heard)
    with FaultProxy(url) as proxy:
        killed = make_device(address=f"{proxy.url}devices", reconnect=True, backoff=QUICK)
        proxy.refuse()
        proxy.cut()
        heard.wait_until(lambda items: items and items[-1]["state"] == "away")
        kitchen = make_device(reconnect=True)  # without the session of the one before
        heard.wait_until(lambda items: items[-1]["state"] == "here")
        kitchen.register("led", bool)
        assert page.call("switch", {"device": "kitchen", "on": True}) is True
        make_page(devices=snapshot)
        assert snapshot.wait_for(1)[0]["devices"][0]["state"] == "here"
        kitchen.disconnect()
        heard.wait_until(lambda items: items[-1]["state"] == "gone")
        killed.disconnect()


def test_a_device_that_does_not_answer_is_not_waited_for(
    make_device: MakeDevice, make_page: MakePage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("examples.device_panel.hub.SWITCH_TIMEOUT", 0.1)
    done = Recorder()
    kitchen = make_device()
    kitchen.register("led", lambda on: wait_until(lambda: done.items))
    page = make_page()
    with pytest.raises(WseError) as caught:
        page.call("switch", {"device": "kitchen", "on": True})
    assert caught.value.code == "panel.silent"
    done.add(True)


def test_pages_are_not_taken_for_devices(app: Flask, make_page: MakePage) -> None:
    ignored = Recorder()
    app.extensions["wse"].when.ignored(ignored)
    make_page().send("reading", READING)
    [(_, type, payload)] = ignored.wait_for(1)
    assert (type, payload) == ("reading", READING)
