"""The documentation: its programs run, its tables are true, and nothing public is left out."""

from __future__ import annotations

import configparser
import doctest
import importlib.util
import inspect
import json
import os
import re
import runpy
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trustme
from prometheus_client import REGISTRY

import wse_sync
from tests.conftest import MakeClient, MakeServer
from tests.faults import FaultProxy
from tests.hosts import werkzeug_serving
from tests.programs import SAY_INSIDE, Program
from tests.support import PATIENCE, Pair, wait_until
from wse_sync import (
    WSE_ERROR,
    WSE_REASON,
    WSE_STATUS,
    AuthRequest,
    Backoff,
    WseClient,
    WseConnection,
    WseError,
    WseIdentity,
    WseServer,
    challenges,
)
from wse_sync.channel import Channel, Inbox
from wse_sync.constants import RETRY_CODES
from wse_sync.flask import WseFlask
from wse_sync.prometheus import WseCollector
from wse_sync.signals import ClientSignals, ServerSignals, Signal
from wse_sync.stats import CallStats, ServerStats, Stats
from wse_sync.testing import TestServer

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SNIPPETS = DOCS / "snippets"
PAGES = {str(path.relative_to(DOCS)): path.read_text("utf-8") for path in DOCS.rglob("*.md")}
TUTORIAL_URL = "ws://127.0.0.1:8765/"

# Snippets that end by themselves, and what they log.
LOGGED = {"calls": "ZeroDivisionError", "origins": "refused a page from"}

# Tests of users, and what they test.
TESTED = {
    "test_chat.py": "chat.py",
    "test_factory_app.py": "factory_app.py",
    "test_login_app.py": "login_app.py",
    "test_thermometer.py": "thermometer.py",
}

# What other modules of the package need, so that it is public there and nowhere else.
NOT_FOR_USERS = {
    "WseServer": "renew admit dismiss reopen links end_connections is_closing send_to arguments"
    " settle_error settle_ignored check_size report last_resort open_link readers_serve run_handler"
    " happened report_from_signal read_stats running",
    "WseClient": "set_status arguments settle_error settle_ignored check_size report last_resort"
    " renew open_link readers_serve run_handler read_stats running",
    "AuthRequest": "",
    "WseIdentity": "",
    "WseConnection": "meter run end expire enter part shut ask ask_no_more take_over send_packed"
    " forget disown receive receive_late await_room violated faulted report attach resume detach"
    " report_lost respond settle_acks tell load endpoint lane link peer session",
    "Backoff": "initial factor maximum",
    "Protocol": "",
    "JsonProtocol": "",
    "channel.Channel": "deliver interrupt resume renew",
    "channel.Inbox": "wants put renew",
    "signals.Signal": "settle renew",
    "testing.TestServer": "",
}


def run(program: Path, directory: Path) -> subprocess.CompletedProcess[str]:
    """Runs a program as a user does, with warnings as errors."""
    return subprocess.run(
        [sys.executable, "-W", "error", str(program)],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(Path(wse_sync.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("name", sorted(path.stem for path in SNIPPETS.glob("*.out")))
def test_a_snippet_prints_what_its_page_says(name: str, tmp_path: Path) -> None:
    if name == "tls":
        write_certificates(tmp_path)
    done = run(SNIPPETS / f"{name}.py", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (SNIPPETS / f"{name}.out").read_text("utf-8")
    assert LOGGED[name] in done.stderr if name in LOGGED else not done.stderr


def write_certificates(directory: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(directory / "ca.pem")
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(directory / "server.pem")


def test_the_flask_application_has_a_page_and_a_websocket(make_client: MakeClient) -> None:
    application = runpy.run_path(str(SNIPPETS / "flask_app.py"))
    with werkzeug_serving(application["app"]) as url:
        client = make_client(f"{url}/ws")
        assert client.connect("ann") == "hello"
        assert client.call("add", [2, 3]) == 5
        with urllib.request.urlopen(url.replace("ws", "http", 1)) as response:
            assert response.read() == b"1 users are here"
        application["wse"].close()


def test_the_flask_application_behind_a_proxy_knows_who_is_there() -> None:
    application = runpy.run_path(str(SNIPPETS / "proxied_app.py"))
    forwarded = {"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https"}
    with TestServer(application["wse"], app=application["app"]) as test:
        client = test.client(headers=forwarded)
        assert client.connect("ann") == ["192.0.2.1", "https"]
        (conn,) = application["wse"].clients["ann"].conns.values()
        assert conn.remote_addr == "192.0.2.1"


def test_the_flask_application_knows_who_has_logged_in(make_client: MakeClient) -> None:
    pytest.importorskip("flask_login", reason="needs Flask-Login")
    application = runpy.run_path(str(SNIPPETS / "flask_login_app.py"))
    app = application["create_app"]()
    with werkzeug_serving(app, "/ws") as url:
        browser = app.test_client()
        assert browser.post("/login", data={"name": "ann"}).text == "welcome"
        cookie = browser.get_cookie("session")
        client = make_client(url, ws_options={"cookie": f"session={cookie.value}"})
        client.connect()
        assert client.call("whoami") == "ann, one of 1"
        with pytest.raises(PermissionError):
            make_client(url).connect()
        assert browser.post("/logout").text == "bye"
        assert client.wait(PATIENCE)
        application["wse"].close()


def test_the_flask_application_has_metrics(make_client: MakeClient) -> None:
    application = runpy.run_path(str(SNIPPETS / "metrics_app.py"))
    with werkzeug_serving(application["app"]) as url:
        make_client(f"{url}/ws").connect("ann")
        with urllib.request.urlopen(url.replace("ws", "http", 1) + "/metrics") as response:
            assert "version=" in response.headers["Content-Type"]
            assert "wse_users 1.0" in response.read().decode().splitlines()
        application["wse"].close()
    REGISTRY.unregister(application["collector"])


@pytest.mark.parametrize("tests", TESTED)
def test_the_tests_of_the_testing_page_pass(tests: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(SNIPPETS / tests)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout


def test_the_logs_are_lines_of_json(tmp_path: Path) -> None:
    done = run(SNIPPETS / "logging_setup.py", tmp_path)
    assert done.returncode == 0 and not done.stdout
    entries = [json.loads(line) for line in done.stderr.splitlines()]
    told = {(it["level"], it["logger"], it["message"]) for it in entries}
    assert {
        ("INFO", "greenhouse", "tomatoes is there, from 127.0.0.1"),
        ("INFO", "greenhouse", "the client is READY"),
        ("WARNING", "greenhouse", "the link is lost: 1000 wse.by-client"),
        ("ERROR", "wse_sync.server", "procedure 'divide' failed: wse.server.rp.failed"),
    } <= told
    # With the goodbye of the client, or of the server if that says it first.
    assert [it for it in entries if it["message"].startswith("tomatoes is gone: 10")]
    [traceback] = [it["traceback"] for it in entries if "traceback" in it]
    assert traceback.endswith("ZeroDivisionError: division by zero")


def test_the_logs_tell_of_reconnections(
    make_server: MakeServer, make_client: MakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    snippet = runpy.run_path(str(SNIPPETS / "logging_setup.py"))
    caplog.set_level("INFO", "greenhouse")
    server = make_server()
    snippet["log_users"](server)
    with Pair(server, make_client) as pair:
        snippet["log_links"](pair.client)
        pair.cut(reset=True)
        pair.back()
        lines = {
            "ann has lost its link",
            "ann is back, from 127.0.0.1",
            "the client is RE_CONNECTING",
            "the client is READY",
        }
        wait_until(lambda: lines <= set(caplog.messages), lambda: caplog.messages)


def test_the_journal_gets_priorities(tmp_path: Path) -> None:
    done = run(SNIPPETS / "logging_journal.py", tmp_path)
    lines = done.stderr.splitlines()
    assert "<3>wse_sync.server: procedure 'divide' failed: wse.server.rp.failed" in lines
    assert "<3>ZeroDivisionError: division by zero" in lines
    assert "<4>greenhouse: divide: wse.server.rp.failed" in lines


def tutorial_server() -> Program:
    source = (SNIPPETS / "tutorial_server.py").read_text("utf-8").replace("port=8765", "port=0")
    serve = "server.serve_forever()\n"
    assert source.endswith(f"\n{serve}")
    inside = f'{SAY_INSIDE}\nsay_inside("serve_forever", "wait")\n{serve}'
    return Program(source.removesuffix(serve) + inside)


def test_the_tutorial_is_true() -> None:
    with tutorial_server() as server:
        *words, url = server.line().split()
        assert words == ["listening", "on"]
        assert server.line() == "inside"
        text = (SNIPPETS / "tutorial.txt").read_text("utf-8").replace(TUTORIAL_URL, url)
        session = doctest.DocTestParser().get_doctest(text, {}, "tutorial", "tutorial.txt", 0)
        said: list[str] = []
        doctest.DocTestRunner().run(session, out=said.append)
        assert "".join(said) == ""
        assert [server.line() for _ in range(2)] == ["ann joined", "ann left (1000 wse.by-client)"]
        server.interrupt()
        assert server.end()[:2] == (0, [])


def test_the_device_of_the_tutorial_comes_back() -> None:
    source = (SNIPPETS / "tutorial_reconnect.py").read_text("utf-8")
    with tutorial_server() as server:
        url = server.line().split()[-1]
        with FaultProxy(url) as proxy, Program(source.replace(TUTORIAL_URL, proxy.url)) as device:
            assert [device.line() for _ in range(2)] == ["CONNECTING", "READY"]
            proxy.cut(reset=True)
            assert [device.line() for _ in range(2)] == ["RE_CONNECTING", "READY"]
            device.interrupt()
            assert device.end() == (0, ["bye", "OFFLINE"], [])


def test_the_client_that_keeps_coming_back(make_server: MakeServer) -> None:
    server = make_server(lambda auth: auth.accept(auth.identity, "hello"))
    source = (SNIPPETS / "reconnect.py").read_text("utf-8")
    with FaultProxy(server.url) as proxy, Program(source.replace(TUTORIAL_URL, proxy.url)) as it:
        lines = ["status: CONNECTING", "status: READY", "welcome: hello"]
        assert [it.line() for _ in lines] == lines
        proxy.cut(reset=True)
        lines = ["closed: 1006 ", "status: RE_CONNECTING", "status: READY", "welcome: hello"]
        assert [it.line() for _ in lines] == lines
        server.drop_client("ann", "enough")
        assert it.end() == (0, ["closed: 1000 enough", "status: OFFLINE"], [])


def network_server(directory: Path, name: str) -> WseServer:
    """Runs network_server.py in this process, on a free port."""
    source = (SNIPPETS / "network_server.py").read_text("utf-8")
    path = directory / f"{name}.py"
    database = repr(str(directory / "readings.db"))
    path.write_text(source.replace("8765", "0").replace('"readings.db"', database), "utf-8")
    found = runpy.run_path(str(path))["server"]
    assert isinstance(found, WseServer)
    return found


def network_device(directory: Path, url: str) -> Program:
    """Runs network_device.py, which dials without long waits and measures all the time."""
    source = (SNIPPETS / "network_device.py").read_text("utf-8")
    source = source.replace(TUTORIAL_URL, url).replace("initial=1.0", "initial=0.1")
    source = source.replace("INTERVAL = 60.0", "INTERVAL = 0.05")
    return Program(source.replace('"waiting.db"', repr(str(directory / "waiting.db"))))


def stored(directory: Path) -> list[tuple[Any, ...]]:
    """The readings in the database of the server."""
    with closing(sqlite3.connect(directory / "readings.db")) as db:
        return db.execute("SELECT device, value FROM readings").fetchall()


def lines_until(last: str, program: Program) -> list[str]:
    """What a program prints up to a line, and the line."""
    lines = [program.line()]
    while lines[-1] != last:
        lines.append(program.line())
    return lines


def test_the_device_on_a_bad_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed: list[str] = []

    def wait_for(line: str) -> None:
        """Waits until the server has printed this line."""

        def is_there() -> bool:
            printed.extend(capsys.readouterr().out.splitlines())
            return line in printed

        wait_until(is_there, lambda: printed)

    first, second = (network_server(tmp_path, name) for name in ("first", "second"))
    with (
        first,
        second,
        FaultProxy(first.url) as proxy,
        network_device(tmp_path, proxy.url) as device,
    ):
        assert [device.line() for _ in range(2)] == ["CONNECTING", "READY"]
        wait_until(lambda: stored(tmp_path))

        proxy.refuse()
        proxy.cut()
        wait_for("kitchen is away")
        proxy.admit()
        wait_for("kitchen is back")
        assert [device.line() for _ in range(2)] == ["RE_CONNECTING", "READY"]

        # What the device says now gets lost, and so does the server that knows its session.
        proxy.stall(to_server=True, to_client=False)
        first.send("kitchen", "lamp", True)
        assert device.line() == "lamp True"
        proxy.target = second.url
        proxy.cut(reset=True)
        lines = lines_until("READY", device)
        assert lines[0] == "RE_CONNECTING"
        assert "maybe lost: {'lamp': 1}" in lines
        before = len(stored(tmp_path))
        wait_until(lambda: len(stored(tmp_path)) > before)

        device.interrupt()
        status, rest, errors = device.end()
        assert (status, errors) == (0, [])
        assert rest[-2:] == ["bye", "OFFLINE"]
        wait_for("kitchen is gone (1000 wse.by-client)")
    assert set(stored(tmp_path)) == {("kitchen", 21.5)}


def test_the_server_for_bad_networks_stores_nothing_twice(
    tmp_path: Path, make_client: MakeClient
) -> None:
    with network_server(tmp_path, "server") as server:
        client = make_client(server)
        client.connect("kitchen")
        for value in (21.5, 21.5, 22.0):
            client.call("store", {"id": str(value), "value": value})
    assert stored(tmp_path) == [("kitchen", 21.5), ("kitchen", 22.0)]


def test_the_story_of_a_cut_link_is_that_of_the_quickstart(tmp_path: Path) -> None:
    [story] = re.findall(r"```text\n(.*?)```", PAGES["explanation/sessions.md"], re.DOTALL)
    assert story in run(ROOT / "examples" / "quickstart.py", tmp_path).stdout


def test_model_and_chaos_in_full_are_the_commands_that_the_page_names() -> None:
    [commands] = re.findall(r"```sh\n(.*?)\n```", PAGES["explanation/sessions.md"], re.DOTALL)
    assert len(commands.splitlines()) == 2
    for command in commands.splitlines():
        setting, *_, path = command.split()
        name, _, value = setting.partition("=")
        assert value.isdigit()
        assert f'"{name}"' in (ROOT / path).read_text("utf-8")


def test_tests_and_commands_of_the_page_on_reliability_exist() -> None:
    page = PAGES["explanation/reliability.md"]
    named = re.findall(r"tests/[\w/.]+", page)
    assert [path for path in named if not (ROOT / path.rstrip(".")).exists()] == []
    commands = re.findall(r"python -m (tests[\w.]*)", page)
    assert len(commands) >= 3
    assert [name for name in commands if importlib.util.find_spec(name) is None] == []


def test_pictures_need_nothing_from_elsewhere() -> None:
    for path in (DOCS / "_static").glob("*.svg"):
        text = path.read_text("utf-8")
        assert not re.findall(r"<script|href=|@import|url\((?!#)", text), path.name
        assert re.findall('https?://[^"]*', text) == ["http://www.w3.org/2000/svg"]


def test_every_module_is_in_the_design() -> None:
    package = ROOT / "wse_sync"
    modules = [path.relative_to(package).with_suffix("") for path in package.rglob("*.py")]
    names = [".".join(module.parts) for module in modules if not module.name.startswith("__")]
    assert len(names) > 20
    page = PAGES["explanation/design.md"]
    assert [name for name in names if f"`{name}`" not in page] == []


def test_the_unit_of_the_device_can_be_read() -> None:
    unit = configparser.ConfigParser()
    unit.read(SNIPPETS / "device.service", "utf-8")
    assert unit["Service"]["KillSignal"] == "SIGINT"
    assert "device.py" in unit["Service"]["ExecStart"]


def test_every_snippet_is_shown_and_run() -> None:
    modules = [
        Path(__file__),
        *(ROOT / "tests" / "web").glob("test_*.py"),
        ROOT / "tests" / "browser" / "test_docs.py",
    ]
    tests = "".join(module.read_text("utf-8") for module in modules)
    pages = "".join(PAGES.values())
    for path in SNIPPETS.rglob("*.*"):
        if "__pycache__" in path.parts:
            continue
        name = path.relative_to(SNIPPETS).as_posix()
        assert f"snippets/{name}" in pages, name
        # A directory is run as a whole.
        tested = f'"{name.partition("/")[0]}"' in tests
        assert tested or path.with_suffix(".out").exists(), name


@pytest.mark.parametrize("page", PAGES)
def test_python_in_a_page_is_a_file_that_a_test_runs(page: str) -> None:
    languages = re.findall(r"^```(\S+)", PAGES[page], re.MULTILINE)
    wanted = {"{literalinclude}", "{toctree}", "{eval-rst}", "text", "sh", "nginx"}
    assert set(languages) <= wanted
    for target in re.findall(r"^```\{literalinclude\} (\S+)", PAGES[page], re.MULTILINE):
        assert ((DOCS / page).parent / target).is_file(), target


@pytest.mark.parametrize("page", PAGES)
def test_a_page_begins_with_what_the_reader_gets(page: str) -> None:
    paragraphs = PAGES[page].split("\n\n")
    assert paragraphs[0].startswith("# ")
    assert paragraphs[1].startswith("You get ") or page == "index.md"


def test_every_public_name_is_in_the_reference() -> None:
    documented = set(
        re.findall(r"auto(?:class|exception):: wse_sync\.(\w+)(?:\(\))?$", reference(), re.M)
    )
    assert documented == set(wse_sync.__all__)
    functions = members_of("automodule:: wse_sync.challenges")
    assert functions == set(challenges.__all__)


@pytest.mark.parametrize("name", NOT_FOR_USERS)
def test_every_public_member_is_in_the_reference(name: str) -> None:
    public = public_members(named(name))
    internal = set(NOT_FOR_USERS[name].split())
    assert internal <= public
    assert members_of(f"autoclass:: wse_sync.{name}") & public == public - internal


def test_what_the_extension_adds_is_in_the_reference() -> None:
    own = {name for name in vars(WseFlask) if not name.startswith("_")}
    like_those_of_servers = {"send_to", "use_challenge", "reopen", "links", "running"}
    assert members_of("autoclass:: wse_sync.flask.WseFlask") == own - like_those_of_servers


def test_every_metric_is_in_the_reference() -> None:
    families = list(WseCollector(WseServer(lambda auth: auth.refuse())).collect())
    suffixes = {"counter": "_total"}
    names = {family.name + suffixes.get(family.type, "") for family in families}
    assert set(re.findall(r"`(wse_\w+)`", PAGES["reference/stats.md"])) - {"wse_sync"} == names


@pytest.mark.parametrize("owner", [CallStats, Stats, ServerStats])
def test_every_figure_of_stats_is_in_the_reference(owner: type) -> None:
    public = {name for name in {*vars(owner), *owner.__annotations__} if not name.startswith("_")}
    methods = members_of(f"autoclass:: wse_sync.stats.{owner.__name__}")
    assert attributes_of(owner) | methods == public


def named(name: str) -> type:
    """A class by the name that the reference gives to it."""
    module, _, last = name.rpartition(".")
    owners: dict[str, dict[str, type]] = {
        "channel": {"Channel": Channel, "Inbox": Inbox},
        "signals": {"Signal": Signal},
        "testing": {"TestServer": TestServer},
    }
    found: type = owners[module][last] if module else getattr(wse_sync, last)
    return found


def public_members(owner: type) -> set[str]:
    """What a class has, apart from what it has from others than us."""
    ours = [base for base in owner.__mro__ if base.__module__.startswith("wse_sync")]
    annotated = set(vars(owner).get("__annotations__", {}))
    names = annotated.union(*map(vars, ours))
    plain = {"names", "set_class"}  # how blinker's class is set up
    return {name for name in names - plain if not name.startswith("_")}


def reference() -> str:
    return "".join(text for page, text in PAGES.items() if page.startswith("reference"))


def members_of(directive: str) -> set[str]:
    """The members that a directive of the reference lists."""
    pattern = rf"{re.escape(directive)}(?:\(\))?\n((?:   .*\n)*)"
    found = re.search(pattern, reference())
    assert found is not None, directive
    listed = re.search(r":members: ((?:[\w, ]|\n      )*)", found[1])
    return set() if listed is None else set(re.findall(r"\w+", listed[1]))


@pytest.mark.parametrize(
    ("owner", "names"),
    [
        (AuthRequest, "identity meta conn_id remote_addr environ challenge"),
        (WseIdentity, "cid meta conns"),
        (WseConnection, "conn_id cid identity meta remote_addr environ data"),
        (ServerSignals, "joined left connected disconnected suspended resumed error ignored"),
        (TestServer, "server url environ"),
        (ClientSignals, "connected ready closed error updated ignored"),
    ],
)
def test_attributes_are_in_the_docstring(owner: type, names: str) -> None:
    assert attributes_of(owner) == set(names.split())


def attributes_of(owner: type) -> set[str]:
    _, _, section = (inspect.getdoc(owner) or "").partition("Attributes:\n")
    return set(re.findall(r"^    (\w+):", section, re.MULTILINE))


def rows(page: str, heading: str) -> list[list[str]]:
    """The table under a heading, without its head."""
    _, _, text = PAGES[page].partition(f"## {heading}\n")
    table = text.partition("\n## ")[0]
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def bare(cell: str) -> str:
    return "" if cell == "(empty)" else cell.strip("`")


@pytest.mark.parametrize("words", [WSE_ERROR, WSE_REASON, WSE_STATUS])
def test_constants_have_their_values_in_the_reference(
    words: type[WSE_ERROR | WSE_REASON | WSE_STATUS],
) -> None:
    table = rows("reference/errors.md", words.__name__)
    shown = {bare(row[0]): bare(row[1]) for row in table}
    assert shown == {word.name: word.value for word in words}


def test_classes_of_codes_are_those_of_the_reference() -> None:
    for name, _, classes, *_ in rows("reference/errors.md", "WSE_ERROR"):
        for shown in classes.split(", "):
            assert issubclass(getattr(wse_sync, bare(shown)), WseError), name


def test_codes_that_bring_a_client_back_are_in_the_reference() -> None:
    table = rows("reference/errors.md", "Close codes")
    assert {int(row[0]) for row in table if row[-1] == "comes back"} == RETRY_CODES
    _, _, last = PAGES["reference/errors.md"].rpartition("dials again: ")
    assert set(map(int, re.findall(r"\d+", last))) == RETRY_CODES


@pytest.mark.parametrize("owner", [WseServer, WseClient, Backoff])
def test_options_have_their_defaults_in_the_reference(owner: type) -> None:
    parameters = inspect.signature(owner).parameters.values()
    wanted = {parameter.name: shown_default(owner, parameter) for parameter in parameters}
    table = rows("reference/settings.md", owner.__name__)
    assert {bare(row[0]): bare(row[1]) for row in table} == wanted


def shown_default(owner: type, parameter: inspect.Parameter) -> str:
    value = parameter.default
    if value is inspect.Parameter.empty:
        return "required"
    if isinstance(value, float):
        return f"{value:g}" if parameter.name == "factor" else f"{value:g} s"
    if parameter.name.endswith("_bytes"):
        return f"{value // 2**20} MiB"
    return str(value)


def endpoints() -> dict[str, Any]:
    """What the names in the tables for JavaScript people begin with."""
    return {
        "server": WseServer(lambda auth: auth.refuse()),
        "client": WseClient("ws://127.0.0.1/"),
        "conn": WseConnection,
        "identity": WseIdentity,
        "auth": AuthRequest,
    }


def missing(names: Iterable[str]) -> list[str]:
    """Those of the names that do not exist."""
    known = endpoints()
    return [name for name in names if not exists(known, name)]


def exists(known: dict[str, Any], name: str) -> bool:
    call = re.fullmatch(r"(\w+)\((\w*)(?:=…|…)?\)", name)
    if call is not None:
        parameters = inspect.signature(getattr(wse_sync, call[1])).parameters
        return not call[2] or call[2] in parameters
    first, *rest = name.split(".")
    if first not in known:
        return not rest and first in wse_sync.__all__
    found = known[first]
    for attribute in rest:
        if isinstance(found, type) and attribute in attributes_of(found):
            return len(rest) == 1
        if not hasattr(found, attribute):
            return False
        found = getattr(found, attribute)
    return True


def test_the_names_for_javascript_people_exist() -> None:
    page = "howto/javascript.md"
    cells = [row[1] for row in rows(page, "Names")] + [row[0] for row in rows(page, "New here")]
    names = [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]
    assert len(names) > 60
    assert missing(names) == []


def test_names_that_do_not_exist_are_found() -> None:
    wrong = ["server.dropClient", "WseServer(tO=…)", "conn.echo", "client.when.never", "Wse"]
    assert missing(wrong) == wrong
