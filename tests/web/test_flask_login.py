"""With Flask-Login: who has logged in by a form is the user of the socket."""

from __future__ import annotations

import http.cookiejar
import urllib.parse
import urllib.request
from typing import Any

import flask
import pytest

from tests.conftest import MakeClient
from tests.support import PATIENCE, Recorder
from tests.test_flask import PATH, make_app, serving
from wse_sync import AuthRequest, WseConnection, WsePermissionError
from wse_sync.flask import WseFlask

flask_login = pytest.importorskip("flask_login", reason="needs Flask-Login")


class User(flask_login.UserMixin):  # type: ignore[name-defined, misc]
    def __init__(self, name: str) -> None:
        self.id = name


def login_app() -> flask.Flask:
    """An application with a form that logs in, and a WebSocket for those who have."""
    app = make_app()
    manager = flask_login.LoginManager(app)
    manager.user_loader(User)

    @app.post("/login")
    def login() -> str:
        flask_login.login_user(User(flask.request.form["name"]))
        return "welcome"

    @app.get("/logout")
    def logout() -> str:
        flask_login.logout_user()
        return "bye"

    def identify(auth: AuthRequest) -> None:
        if flask_login.current_user.is_authenticated:
            auth.accept(flask_login.current_user.get_id())
        else:
            auth.refuse()

    wse = WseFlask(app, identify=identify)
    wse.register("whoami", whoami)
    return app


def whoami(conn: WseConnection, payload: Any) -> list[Any]:
    return [conn.cid, flask_login.current_user.get_id()]


class Browser:
    """Keeps cookies, as a browser does."""

    def __init__(self, url: str) -> None:
        self._url = url.replace("ws", "http", 1)
        self._jar = http.cookiejar.CookieJar()
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self._jar))

    def open(self, path: str, **form: str) -> str:
        data = urllib.parse.urlencode(form).encode() if form else None
        with self._opener.open(f"{self._url}{path}", data, PATIENCE) as response:
            text: str = response.read().decode()
            return text

    @property
    def cookie(self) -> str:
        return "; ".join(f"{cookie.name}={cookie.value}" for cookie in self._jar)


def test_who_logged_in_by_form_is_the_user_of_the_socket(make_client: MakeClient) -> None:
    app = login_app()
    joined = Recorder()
    app.extensions["wse"].when.joined(
        lambda client, meta: joined.add((client.cid, flask_login.current_user.get_id()))
    )
    with serving(app, "") as url:
        browser = Browser(url)
        assert browser.open("/login", name="ann") == "welcome"
        client = make_client(url + PATH, ws_options={"cookie": browser.cookie})
        client.connect()
        assert joined.wait_for(1) == [("ann", "ann")]
        for _ in range(20):
            assert client.call("whoami") == ["ann", "ann"]


def test_who_has_not_logged_in_is_refused(make_client: MakeClient) -> None:
    app = login_app()
    with serving(app, "") as url:
        browser = Browser(url)
        with pytest.raises(WsePermissionError):
            make_client(url + PATH).connect()
        browser.open("/login", name="ann")
        browser.open("/logout")
        with pytest.raises(WsePermissionError):
            make_client(url + PATH, ws_options={"cookie": browser.cookie}).connect()
