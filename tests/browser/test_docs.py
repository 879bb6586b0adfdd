"""The documentation of the browser's client: its programs run, its tables are true."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.conftest import OpenPage
from tests.browser.support import pages
from tests.browser.test_file import SCRIPT, TSC
from tests.conftest import MakeClient, MakeServer
from tests.programs import Program
from tests.support import Recorder, payloads, wait_event, wait_until
from tests.test_docs import PAGES, SNIPPETS, bare, rows
from wse_sync import AuthRequest, WseConnection, WseError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment
    from selenium.webdriver import Chrome

GUIDE, REFERENCE = "howto/browser.md", "reference/browser.md"
LOAD = "return {...await import(`/snippets/${a[0]}?${a[1]}`)}.welcome"


def site(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """The pages, with the snippets and a place where tokens come from."""
    path = environ["PATH_INFO"]
    if path == "/token":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"fresh"]
    if not path.startswith("/snippets/"):
        return pages(environ, start_response)
    start_response("200 OK", [("Content-Type", "text/javascript")])
    text = (SNIPPETS / path.rpartition("/")[2]).read_text("utf-8")
    return [text.replace("8765", environ["QUERY_STRING"]).encode()]


def browser_server(directory: Path) -> Program:
    """Runs browser_server.py on a free port, with the files of its page beside it."""
    for name in ("browser_page.html", "browser_page.js"):
        shutil.copy(SNIPPETS / name, directory)
    path = directory / "browser_server.py"
    source = (SNIPPETS / "browser_server.py").read_text("utf-8")
    path.write_text(source.replace("8765", "0"), "utf-8")
    return Program(f"import runpy; runpy.run_path({str(path)!r}, run_name='__main__')")


def test_the_page_talks(browser: Chrome, make_client: MakeClient, tmp_path: Path) -> None:
    def shown(selector: str) -> str:
        return browser.find_element("css selector", selector).text

    with browser_server(tmp_path) as server:
        url = server.line().split()[-1]
        bob = make_client(url)
        heard = payloads(bob, "said")
        bob.connect("bob")
        browser.get(f"http{url[2:-2]}?name=ann")
        wait_until(lambda: "READY. Here: ann, bob" in shown("p"), lambda: shown("body"))
        assert shown("li") == "hello ann"
        browser.find_element("name", "text").send_keys("good morning")
        browser.find_element("css selector", "button").click()
        assert heard.wait_for(1) == ["ann: good morning"]
        bob.send("say", "hi ann")
        wait_until(lambda: shown("ul").splitlines()[-1] == "bob: hi ann", lambda: shown("ul"))
        assert shown("ul").splitlines() == ["hello ann", "ann: good morning", "bob: hi ann"]
        browser.get("about:blank")
        bob.disconnect()
        server.interrupt()
        assert server.end() == (0, [], [])


def test_a_token_is_fetched(make_server: MakeServer, open_page: OpenPage) -> None:
    asked = Recorder()

    def identify(auth: AuthRequest) -> None:
        asked.add(auth.identity)
        auth.accept("ann", "hello")

    page = open_page(make_server(identify, path="/ws", http_app=site))
    assert page.run(LOAD, "browser_token.js", "") == "hello"
    assert asked.items == ["fresh"]


def test_errors_are_told_apart(make_server: MakeServer, open_page: OpenPage) -> None:
    server = make_server(path="/ws", http_app=site)
    release, entered = threading.Event(), threading.Event()

    @server.register("wait")
    def wait(conn: WseConnection, payload: Any) -> None:
        entered.set()
        wait_event(release)

    @server.register("fail")
    def fail(conn: WseConnection, payload: Any) -> None:
        raise WseError("my-code", message="no")

    page = open_page(server)
    script = "window.ask = (await import(`/snippets/${a[0]}`)).ask; make('/ws')"
    page.run(script, "browser_errors.js")
    assert page.run("return ask(client, 'wait')") == "not connected"
    page.run("await client.connect('ann')")
    assert page.run("return ask(client, 'fail')") == "fail failed with my-code: no"
    assert page.run("return ask(client, 'wait')") == "no answer in time"
    entered.clear()
    asking = page.start("return ask(client, 'wait')")
    wait_event(entered)
    server.drop_client("ann", "enough")
    assert asking.result() == "lost: 1000,enough"
    release.set()


def test_a_page_from_elsewhere_connects(make_server: MakeServer, open_page: OpenPage) -> None:
    here = make_server(path="/ws", http_app=site)
    there = make_server(path="/ws", origins=[f"http://127.0.0.1:{here.port}"])
    page = open_page(here, "foreign")
    assert page.run(LOAD, "browser_elsewhere.js", there.port) == {"hello": "ann"}


@pytest.mark.skipif(not TSC, reason="tsc is neither on the PATH nor named by TSC")
def test_the_compiler_finds_the_script(tmp_path: Path) -> None:
    shutil.copy(SCRIPT, tmp_path)
    shutil.copy(SNIPPETS / "browser_tsconfig.json", tmp_path / "tsconfig.json")
    text = 'import { WseClient } from "/ws/wse.js"\nexport const cid = new WseClient("/ws").cid\n'
    wrong = text.replace("cid", "sid")
    for name, source in (("good", text), ("bad", wrong)):
        (tmp_path / "application.ts").write_text(source, "utf-8")
        done = subprocess.run(
            [str(TSC), "-p", "."], cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
        assert (done.returncode == 0) == (name == "good"), done.stdout


def members() -> set[str]:
    """What the script gives to a client, and to its channel and signals."""
    _, _, text = SCRIPT.read_text("utf-8").partition("class WseClient")
    names = set(re.findall(r"^\t\t(?:const when = \()?this\.(\w+) = ", text, re.MULTILINE))
    channel = set(re.findall(r"^\t\t\t(\w+): \(type, handler\)", text, re.MULTILINE))
    signals = set(re.findall(r"^\t\t\t(\w+): signal\(", text, re.MULTILINE))
    parts = {f"channel.{name}" for name in channel} | {f"when.{name}" for name in signals}
    return (names - {"channel", "when"}) | parts


def test_every_member_is_in_the_reference() -> None:
    table = rows(REFERENCE, "Members") + rows(REFERENCE, "Signals")
    shown = {name for row in table for name in re.findall(r"`client\.([\w.]+)", row[0])}
    assert len(shown) > 15
    assert shown == members()


def test_options_have_their_defaults_in_the_reference() -> None:
    text = SCRIPT.read_text("utf-8").replace("_000", "000")
    shown = {bare(row[0]): bare(row[1]) for row in rows(REFERENCE, "Options")}
    backoff = dict(re.findall(r"(initial|factor|maximum) = (\d+)", text))
    wanted = {f"backoff.{name}": value for name, value in backoff.items()}
    wanted["reconnect"] = "false"
    wanted.update(re.findall(r"(\w+Timeout) = /\*\*.*\*/ \((\d+)\)", text))
    assert len(wanted) == 7
    assert {name: value.removesuffix(" ms") for name, value in shown.items()} == wanted


def test_exports_are_in_the_reference() -> None:
    exported = set(re.findall(r"^export (?:const|class) (\w+)", SCRIPT.read_text("utf-8"), re.M))
    cells = [row[0] for row in rows(REFERENCE, "The module")]
    assert {name for cell in cells for name in re.findall(r"\w+", cell)} == exported


def test_the_policy_in_the_guide_is_that_of_the_pages() -> None:
    assert "script-src 'self'; connect-src 'self'\n" in PAGES[GUIDE]
    assert os.path.basename(SCRIPT) in PAGES[GUIDE]
