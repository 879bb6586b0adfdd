"""Mounted in a Django project: that of the documentation, with its logins and its database."""

from __future__ import annotations

import http.cookiejar
import os
import re
import shutil
import subprocess
import sys
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from tests.conftest import MakeClient
from tests.support import Recorder, wait_until
from tests.web.conftest import PATHS, PATIENT, Run, Serve, WebServer, dial

pytest.importorskip("django", reason="Django is not installed")

SNIPPETS = Path(__file__).parents[2] / "docs" / "snippets" / "mysite"
LISTENING = r"Starting .*server at http://127\.0\.0\.1:(\d+)"
PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project as Django makes it, with our files, a database, and a user."""
    directory = tmp_path_factory.mktemp("project")
    run(directory, "-m", "django", "startproject", "mysite", ".")
    for path in SNIPPETS.glob("*.py"):
        shutil.copy(path, directory / "mysite")
    with (directory / "mysite" / "settings.py").open("a") as settings:
        # What guards passwords takes its time, and these are none.
        settings.write("PASSWORD_HASHERS = ['django.contrib.auth.hashers.MD5PasswordHasher']\n")
    run(directory, "manage.py", "migrate", "--verbosity", "0")
    user = ("--username", "ann", "--email", "ann@example.org")
    run(directory, "manage.py", "createsuperuser", "--noinput", *user)
    return directory


@pytest.fixture
def project(made: Path, tmp_path: Path) -> None:
    """Where the servers of a test look for it."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)


def run(directory: Path, *words: str) -> None:
    environ = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(PATHS),
        "DJANGO_SUPERUSER_PASSWORD": PASSWORD,
    }
    subprocess.run([sys.executable, *words], cwd=directory, env=environ, check=True)


def log_in(server: WebServer) -> str:
    """Logs in on the site as a browser does; the cookie of the session."""
    cookies = http.cookiejar.CookieJar()
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(cookies))
    with browser.open(f"{server.url}/admin/login/?next=/admin/") as form:
        [token] = re.findall('name="csrfmiddlewaretoken" value="(.*?)"', form.read().decode())
    fields = {"username": "ann", "password": PASSWORD, "csrfmiddlewaretoken": token}
    data = urllib.parse.urlencode(fields).encode()
    with browser.open(f"{server.url}/admin/login/?next=/admin/", data) as page:
        assert "Site administration" in page.read().decode()
    [session] = [cookie for cookie in cookies if cookie.name == "sessionid"]
    return f"sessionid={session.value}"


def check(server: WebServer, make_client: MakeClient) -> None:
    """Logins of the site count for the WebSocket, and its views reach who is connected."""
    client, told = make_client(server.ws("/ws"), ws_options={"cookie": log_in(server)}), Recorder()
    client.channel.on("logged in", told)
    assert client.connect() == "hello"
    before = client.call("last login")
    log_in(server)
    assert told.wait_for(1) == ["ann"]
    assert client.call("last login") > before
    with pytest.raises(PermissionError):
        make_client(server.ws("/ws")).connect()
    assert server.get("/ws/wse.js")[0] == 200
    assert server.get("/ws-and-more")[0] == 404
    client.disconnect()
    assert not server.lines("Traceback|Error"), server.log


def test_46_under_runserver(project: None, web_server: Run, make_client: MakeClient) -> None:
    server = web_server(
        *("manage.py", "runserver", "--noreload", "127.0.0.1:0"), listening=LISTENING
    )
    check(server, make_client)


def test_46_runserver_without_threads_refuses(project: None, web_server: Run) -> None:
    server = web_server(
        *("manage.py", "runserver", "--noreload", "--nothreading", "127.0.0.1:0"),
        listening=LISTENING,
    )
    assert dial(server.ws("/ws")) == 503
    server.wait_for_line("one request at a time")
    assert server.get("/admin/login/")[0] == 200


def test_46_under_gunicorn(project: None, gunicorn: Serve, make_client: MakeClient) -> None:
    server = gunicorn(*("mysite.wsgi", "--worker-class", "gthread", "--threads", "8", *PATIENT))
    check(server, make_client)
    server.terminate()
    assert server.wait() == 0


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only /proc tells what is open")
def test_handlers_leave_no_connection_to_the_database_open(
    project: None, gunicorn: Serve, make_client: MakeClient
) -> None:
    server = gunicorn("mysite.wsgi", "--worker-class", "gthread", "--threads", "8")
    booting = server.wait_for_line(r"Booting worker with pid: \d+")
    descriptors = Path(f"/proc/{re.findall(r'[0-9]+', booting)[-1]}/fd")
    client = make_client(server.ws("/ws"), ws_options={"cookie": log_in(server)})
    client.connect()
    for _ in range(20):
        client.call("last login")
    wait_until(lambda: not opened(descriptors, "db.sqlite3"))


def opened(descriptors: Path, name: str) -> list[str]:
    """Files of this name that a process has open."""
    links = [os.readlink(path) for path in descriptors.iterdir() if path.is_symlink()]
    return [link for link in links if link.endswith(name)]
