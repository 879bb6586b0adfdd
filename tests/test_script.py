"""The browser's client as a file: where it is, and how a browser keeps it."""

from __future__ import annotations

import http.client
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import flask
import pytest
from werkzeug.middleware.dispatcher import DispatcherMiddleware

import wse_sync
from tests.behaviour.test_mounted import Mount, in_plain_wsgi, own_listener
from tests.conftest import Connect, MakeServer
from tests.hosts import werkzeug_serving
from tests.support import PATIENCE

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

SOURCE = Path(wse_sync.__file__).parent / "static" / "wse.js"

both_mounts = pytest.mark.parametrize("mount", [own_listener, in_plain_wsgi], ids=["own", "wsgi"])


class Response(NamedTuple):
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def ask(url: str, path: str, method: str = "GET", **headers: str) -> Response:
    """Asks the host of the URL for a path; underscores in the names of headers are dashes."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE)
    try:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, headers=names)
        response = connection.getresponse()
        return Response(response.status, dict(response.getheaders()), response.read())
    finally:
        connection.close()


def own_app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"pages"]


@both_mounts
def test_the_script_is_below_the_path_of_upgrades(make_server: MakeServer, mount: Mount) -> None:
    server = make_server(start=False, path="/chat", http_app=own_app)
    with mount(server) as url:
        got = ask(url, "/chat/wse.js")
        assert (got.status, got.body) == (200, SOURCE.read_bytes())
        assert got.headers["Content-Type"] == "text/javascript; charset=utf-8"
        assert got.headers["Content-Length"] == str(len(got.body))
        assert got.headers["Cache-Control"] == "no-cache"
        assert got.headers["X-Content-Type-Options"] == "nosniff"
        assert got.headers["Access-Control-Allow-Origin"] == "*"
        assert ask(url, "/chat/wse.js?v=1").body == got.body
        for path in ("/wse.js", "/chat", "/chat/", "/chat/more/wse.js", "/chat/wse.jsx"):
            assert ask(url, path).body == b"pages", path


@both_mounts
@pytest.mark.parametrize("path", [None, "/"])
def test_without_a_path_it_is_at_the_root(
    make_server: MakeServer, mount: Mount, path: str | None
) -> None:
    server = make_server(start=False, path=path)
    with mount(server) as url:
        assert ask(url, "/wse.js").body == SOURCE.read_bytes()
        assert ask(url, "/chat/wse.js").status == 426


@pytest.mark.parametrize("path", [None, "/ws", "/app/ws"])
def test_behind_a_mount_point_the_path_is_that_inside_or_the_whole(
    make_server: MakeServer, path: str | None
) -> None:
    server = make_server(start=False, port=None, path=path)
    mounted = DispatcherMiddleware(own_app, {"/app": server.wsgi_app})
    with werkzeug_serving(mounted) as url:
        place = "/app/wse.js" if path is None else "/app/ws/wse.js"
        assert ask(url, place).body == SOURCE.read_bytes()
        assert ask(url, "/wse.js").body == b"pages"


def test_a_view_of_flask_may_hand_it_out(make_server: MakeServer) -> None:
    server = make_server(start=False, port=None, path="/ws")
    app = flask.Flask("pages")
    app.add_url_rule("/ws/wse.js", view_func=lambda: server.wsgi_app)
    with werkzeug_serving(app) as url:
        assert ask(url, "/ws/wse.js").body == SOURCE.read_bytes()


@both_mounts
def test_head_has_the_same_headers_and_no_body(make_server: MakeServer, mount: Mount) -> None:
    with mount(make_server(start=False)) as url:
        got, head = ask(url, "/wse.js"), ask(url, "/wse.js", "HEAD")
        assert (head.status, head.body) == (200, b"")
        names = ("Content-Type", "Content-Length", "ETag", "Cache-Control")
        assert [head.headers[name] for name in names] == [got.headers[name] for name in names]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_other_methods_are_for_the_http_app(make_server: MakeServer, method: str) -> None:
    assert ask(make_server(http_app=own_app).url, "/wse.js", method).body == b"pages"
    assert ask(make_server().url, "/wse.js", method).status == 426


def test_an_upgrade_there_is_an_upgrade(make_server: MakeServer, connect: Connect) -> None:
    server = make_server()
    assert connect(f"{server.url}wse.js").cid == "ann"


@both_mounts
def test_a_browser_that_has_it_gets_304(make_server: MakeServer, mount: Mount) -> None:
    with mount(make_server(start=False)) as url:
        etag = ask(url, "/wse.js").headers["ETag"]
        assert etag[0] == etag[-1] == '"'
        for method in ("GET", "HEAD"):
            kept = ask(url, "/wse.js", method, If_None_Match=etag)
            assert (kept.status, kept.body) == (304, b"")
            assert kept.headers["ETag"] == etag
            assert "Content-Length" not in kept.headers
            assert kept.headers["Cache-Control"] == "no-cache"


def test_the_condition_may_be_a_list_weak_or_a_star(make_server: MakeServer) -> None:
    url = make_server().url
    etag = ask(url, "/wse.js").headers["ETag"]
    for condition in (f"W/{etag}", f'"other", {etag}', f'W/"other",W/{etag} ,"more"', "*", " * "):
        assert ask(url, "/wse.js", If_None_Match=condition).status == 304, condition
    for condition in ('"other"', etag.strip('"'), f"w/{etag}", f'{etag[:-1]}x"', "", '"*"'):
        assert ask(url, "/wse.js", If_None_Match=condition).status == 200, condition
