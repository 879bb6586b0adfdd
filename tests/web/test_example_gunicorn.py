"""The web applications of the examples in gunicorn, with the command of their READMEs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.conftest import MakeClient
from tests.support import Recorder
from tests.web.conftest import Serve
from tests.web.test_flask_login import Browser

pytest.importorskip("flask_login", reason="needs Flask-Login")
pytest.importorskip("flask_sqlalchemy", reason="needs Flask-SQLAlchemy")

EXAMPLES = Path(__file__).parents[2] / "examples"
PASSWORD = "correct horse"


def command(name: str) -> list[str]:
    """What the README says, without the name of the program."""
    readme = (EXAMPLES / name / "README.md").read_text("utf-8")
    [line] = re.findall(r"^gunicorn (.*)$", readme, re.MULTILINE)
    return shlex.split(line.replace("--chdir examples", f"--chdir {EXAMPLES}"))


@pytest.mark.parametrize("name", ["flask_chat", "device_panel"])
def test_it_serves_pages_and_sockets_and_ends_in_order(
    name: str, gunicorn: Serve, make_client: MakeClient, tmp_path: Path
) -> None:
    *arguments, app = command(name)
    settings = {
        "FLASK_SECRET_KEY": "that of the tests",
        "FLASK_SQLALCHEMY_DATABASE_URI": f"sqlite:///{tmp_path / 'chat.db'}",
        "FLASK_PASSWORD": PASSWORD,
        "FLASK_DEVICE_SECRETS": str(tmp_path / "devices"),
        "FLASK_LOGINS": str(tmp_path / "logins"),
    }
    server = gunicorn(app, *arguments, environ=settings)
    browser = Browser(server.url)
    [token] = re.findall(r'name="csrf" value="(\w+)"', browser.open("/login"))
    form = {"csrf": token, "name": "ann", "password": PASSWORD, "action": "sign-up"}
    assert "wse.js" in browser.open("/login", **form)
    page = make_client(server.ws("/ws"), ws_options={"cookie": browser.cookie})
    closed = Recorder()
    page.when.closed(closed)
    page.connect()
    server.terminate()
    assert closed.wait_for(1) == [(1012, "wse.by-server")]
    assert server.wait() == 0
    assert not server.lines("Traceback|ERROR"), server.log
