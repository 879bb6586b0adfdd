"""The examples and the README, run as a user runs them: processes of their own, real sockets.

Each program gets a free port, is driven through its keyboard, and is killed with its test. Warnings
are errors in it too, and it must not write to stderr.
"""

from __future__ import annotations

import ast
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import wse_sync
from tests.faults import FaultProxy

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
README = (ROOT / "README.md").read_text("utf-8")
PATIENCE = 30.0  # s; only bounds a failure


class Program:
    """A running program. Leaving the `with` block kills it if it still runs."""

    def __init__(self, *words: str | Path) -> None:
        # The package under test, also where it is not installed.
        package_at = str(Path(wse_sync.__file__).parents[1])
        self._process = subprocess.Popen(
            [sys.executable, "-u", "-W", "error", *map(str, words)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": package_at},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._errors: list[str] = []
        self._readers = [
            threading.Thread(target=self._read_lines, daemon=True),
            threading.Thread(target=self._read_errors, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for reader in self._readers:
            reader.join(PATIENCE)
        self.end_of_input()

    def _read_lines(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            for line in stream:
                self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as stream:
            self._errors.extend(stream)

    @property
    def errors(self) -> str:
        """What it has written to stderr."""
        return "".join(self._errors)

    def line(self) -> str:
        """The next line that it prints."""
        try:
            line = self._lines.get(timeout=PATIENCE)
        except queue.Empty:
            raise AssertionError(f"it prints nothing more; stderr: {self.errors}") from None
        assert line is not None, f"it has ended; stderr: {self.errors}"
        return line

    def prints(self, *lines: str) -> None:
        """Expects these lines, and no others between them."""
        assert [self.line() for _ in lines] == list(lines)

    def prints_at_last(self, wanted: str) -> None:
        """Expects this line, after any number of others."""
        while self.line() != wanted:
            pass

    def url(self) -> str:
        """Expects a server to say where it listens."""
        *words, url = self.line().split()
        assert words == ["listening", "on"]
        return url

    def type(self, line: str) -> None:
        """Types a line at its keyboard."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def end_of_input(self) -> None:
        """Ctrl-D; again: no effect."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended, and did not read everything
            self._process.stdin.close()

    def interrupt(self) -> None:
        """Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    def ends(self, status: int = 0, complaint: str = "") -> list[str]:
        """Expects it to end with this exit status; returns the last lines.

        Its stderr must be empty, or have `complaint` in it.
        """
        lines = []
        while (line := self._next()) is not None:
            lines.append(line)
        status_was = self._process.wait(PATIENCE)
        self._readers[1].join(PATIENCE)
        assert status_was == status, self.errors
        assert complaint in self.errors if complaint else not self.errors, self.errors
        return lines

    def _next(self) -> str | None:
        try:
            return self._lines.get(timeout=PATIENCE)
        except queue.Empty:
            raise AssertionError(f"still running; stderr: {self.errors}") from None


def output_of(*words: str | Path) -> list[str]:
    """What a program prints that ends by itself and in order."""
    with Program(*words) as program:
        return program.ends()


def test_quickstart_tells_its_story_and_exits_with_0() -> None:
    assert output_of(EXAMPLES / "quickstart.py") == [
        "Two users log in, one of them with two devices",
        "  ann's phone: welcome, ann",
        "  server: ann joined",
        "  ann's laptop: welcome, ann",
        "  bob: welcome, bob",
        "  server: bob joined",
        "  server: devices by user: {'ann': 2, 'bob': 1}",
        "A stranger is refused",
        "  stranger: wse.not-authorized: the server refused",
        "A message reaches every device of a user",
        "  ann's phone: ('chat', 'bob says: hello')",
        "  ann's laptop: ('chat', 'bob says: hello')",
        "A broadcast reaches everyone",
        "  server: sent to 3 devices",
        "  ann's phone: ('news', 'tea is ready')",
        "  ann's laptop: ('news', 'tea is ready')",
        "  bob: ('news', 'tea is ready')",
        "Both sides call procedures of the other",
        "  bob: 2 + 3 = 5",
        "  server: the battery of ann's phone: 80 %",
        "  server: the battery of ann's laptop: 35 %",
        "  bob: shop.sold-out: procedure 'buy': no more tea today",
        "A link is cut in the middle of a call, and the answer arrives",
        "  server: brewing green tea",
        "  server: ann's phone is away",
        "  ann's phone: RE_CONNECTING",
        "  server: ann's phone is back",
        "  bob: ('chat', 'ann says: I am in a tunnel')",
        "  ann's phone: a pot of green tea",
        "Everybody leaves",
        "  server: bob left (1000 wse.by-client)",
        "  server: ann left (1000 wse.by-client)",
        "  server: users left: 0",
    ]


def test_quickstart_fails_when_something_goes_wrong(tmp_path: Path) -> None:
    source = (EXAMPLES / "quickstart.py").read_text("utf-8")
    broken = tmp_path / "quickstart.py"
    broken.write_text(source.replace('"key-of-ann": "ann", ', ""), "utf-8")
    with Program(broken) as program:
        program.prints("Two users log in, one of them with two devices")
        program.ends(status=1, complaint="WsePermissionError")


def test_token_auth() -> None:
    assert output_of(EXAMPLES / "token_auth.py") == [
        "a good token: welcome, bob",
        "another name on it: refused",
        "one that has run out: refused",
        "ann gets a fresh token",
        "welcome, ann",
        "ann gets a fresh token",
        "welcome, ann",
    ]


def test_challenge_auth() -> None:
    assert output_of(EXAMPLES / "challenge_auth.py") == [
        "the right secret: welcome, kitchen",
        "a wrong secret: refused",
        "the secret of another: refused",
        "an unknown name: refused",
    ]


def test_binary_protocol() -> None:
    assert output_of(EXAMPLES / "binary_protocol.py") == [
        "welcome: {'hello': 'camera'}",
        "message: (17, b'\\x00\\x04\\x08\\x0c')",
        "call to the server: 3469664904",
        "call to the client: b'\\x03\\x02\\x01'",
    ]


def test_the_session_at_the_prompt_is_true() -> None:
    assert output_of("-m", "doctest", "-o", "ELLIPSIS", EXAMPLES / "repl.txt") == []


def test_a_false_session_at_the_prompt_fails(tmp_path: Path) -> None:
    text = (EXAMPLES / "repl.txt").read_text("utf-8")
    false = tmp_path / "repl.txt"
    false.write_text(text.replace("\n21.5\n", "\n22.5\n"), "utf-8")
    with Program("-m", "doctest", "-o", "ELLIPSIS", false) as program:
        assert "    22.5" in program.ends(status=1)


@pytest.fixture
def hello(tmp_path: Path) -> Iterator[tuple[Program, Path]]:
    """The server of the README on a free port, and the client that goes with it."""
    server = tmp_path / "hello_server.py"
    client = tmp_path / "hello_client.py"
    source = (EXAMPLES / "hello_server.py").read_text("utf-8")
    server.write_text(source.replace("port=8765", "port=0"), "utf-8")
    with Program(server) as program:
        source = (EXAMPLES / "hello_client.py").read_text("utf-8")
        client.write_text(source.replace("ws://127.0.0.1:8765/", program.url()), "utf-8")
        yield program, client


def test_server_and_client_of_the_readme(hello: tuple[Program, Path]) -> None:
    server, client = hello
    lines = ["hello, ann", "2 + 3 = 5", "('said', 'ann: good morning')"]
    assert output_of(client) == lines
    assert "\n".join(lines) in README
    server.interrupt()
    assert server.ends() == []


def test_the_code_in_the_readme_is_that_of_the_examples() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    files = ["hello_server.py", "hello_client.py", "../docs/snippets/flask_app.py"]
    assert blocks == [(EXAMPLES / name).read_text("utf-8") for name in files]


def test_the_readme_has_the_two_commands_for_a_fresh_machine() -> None:
    assert "\npython -m pip install . && python examples/quickstart.py\n" in README
    assert "\npython -m pip install tox && tox\n" in README


def test_the_links_of_the_readme_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)]+)\)", README)
    local = [target for target in targets if not target.startswith("https://")]
    assert local
    assert [target for target in local if not (ROOT / target).exists()] == []


@pytest.fixture
def chat_server() -> Iterator[Program]:
    with Program(EXAMPLES / "chat_server.py", "--port", "0") as program:
        yield program


def chat_client(url: str, name: str) -> Program:
    return Program(EXAMPLES / "chat_client.py", name, "--url", url)


def test_chat_of_two_users_and_three_devices(chat_server: Program) -> None:
    url = chat_server.url()
    with chat_client(url, "ann") as ann:
        ann.prints("* connecting", "* connected", "* here: ann")
        with chat_client(url, "bob") as bob:
            bob.prints("* connecting", "* connected", "* here: ann, bob")
            ann.prints("* bob joined")

            bob.type("good \x1b[31mmorning")
            bob.prints("bob: good [31mmorning")
            ann.prints("bob: good [31mmorning")

            with chat_client(url, "ann") as laptop:
                laptop.prints("* connecting", "* connected", "* here: ann, bob")
                ann.prints("* here: ann, bob")
                bob.type("/to ann psst")
                bob.prints("* told ann, devices: 2")
                ann.prints("bob (to you): psst")
                laptop.prints("bob (to you): psst")
                bob.type("/to eve psst")
                bob.prints("* chat.not-here: procedure 'to': eve is not here")
                bob.type("/who")
                bob.prints("* ann, devices: 2", "* bob, devices: 1")
                laptop.end_of_input()
                assert laptop.ends() == ["* offline"]

            ann.interrupt()
            assert ann.ends() == ["* bye", "* offline"]
            bob.prints("* ann left")

            chat_server.interrupt()
            assert chat_server.ends() == ["closed"]
            bob.prints("* closed: wse.by-server", "* connection lost, trying again")
            bob.interrupt()
            assert bob.ends() == ["* bye", "* offline"]


def test_chat_begins_before_its_server_and_survives_a_cut(chat_server: Program) -> None:
    proxy = FaultProxy(chat_server.url(), listening=False)
    with proxy, chat_client(proxy.url, "ann") as ann:
        ann.prints("* connecting")
        proxy.listen()
        ann.prints("* connected", "* here: ann")
        proxy.refuse()
        proxy.cut(reset=True)
        ann.prints("* connection lost, trying again")
        ann.type("from a tunnel")
        proxy.admit()
        ann.prints_at_last("* connected")
        ann.prints_at_last("ann: from a tunnel")
        ann.end_of_input()
        assert ann.ends()[-1] == "* offline"


def test_chat_refuses_a_name_that_is_no_word(chat_server: Program) -> None:
    with chat_client(chat_server.url(), "ann and bob") as client:
        # The thread that connects and the one that tells of the link have no order.
        assert sorted(client.ends(status=1)) == [
            "* closed: wse.not-authorized",
            "* connecting",
            "* offline",
            "* the server does not take this name",
        ]


@pytest.fixture
def hub() -> Iterator[Program]:
    with Program(EXAMPLES / "device_hub.py", "--port", "0") as program:
        yield program


def device(url: str, interval: float) -> Program:
    words = ("--mock", "--interval", str(interval), "--url", url)
    return Program(EXAMPLES / "device.py", "kitchen", *words)


def without_sky(line: str) -> str:
    """A line of the hub without what the light sensor read."""
    return re.sub(r'"light": 0\.\d+', '"light": …', line)


def test_device_answers_calls_and_survives_a_cut(hub: Program) -> None:
    with FaultProxy(hub.url()) as proxy, device(proxy.url, interval=3600.0) as kitchen:
        kitchen.prints("CONNECTING", "READY")
        hub.prints("kitchen is here")
        hub.type("kitchen read")
        answer = 'kitchen answers {"light": …, "lamp": false, "pressed": false}'
        assert without_sky(hub.line()) == answer
        hub.type("kitchen led true")
        hub.prints("kitchen answers true")
        hub.type("kitchen press")
        hub.prints_at_last("kitchen answers null")

        proxy.cut(reset=True)
        kitchen.prints("RE_CONNECTING", "READY")
        hub.prints_at_last("kitchen is back")
        hub.type("kitchen read")
        answer = 'kitchen answers {"light": …, "lamp": true, "pressed": false}'
        while without_sky(hub.line()) != answer:
            pass

        hub.type("kitchen fly")
        fault = "wse.server.rp.not-registered: procedure 'fly': there is no such procedure"
        hub.prints(f"kitchen: {fault}")
        hub.type("kitchen led yes")
        hub.prints("kitchen: Expecting value: line 1 column 1 (char 0)")
        hub.type("cellar read")
        hub.prints("cellar is not here")
        hub.type("")
        hub.prints("here: kitchen")

        kitchen.interrupt()
        assert kitchen.ends() == ["OFFLINE"]
        hub.prints("kitchen is gone")
        hub.end_of_input()
        assert hub.ends() == []


def test_hub_says_who_is_away_and_waits_for_its_answer(hub: Program) -> None:
    with FaultProxy(hub.url()) as proxy, device(proxy.url, interval=3600.0) as kitchen:
        hub.prints("kitchen is here")
        proxy.refuse()
        proxy.cut()
        hub.prints("kitchen is away")
        hub.type("kitchen led true")
        proxy.admit()
        assert sorted([hub.line(), hub.line()]) == ["kitchen answers true", "kitchen is back"]
        kitchen.prints_at_last("READY")


def test_hub_says_that_a_device_is_here_again(hub: Program) -> None:
    url = hub.url()
    with FaultProxy(url) as proxy, device(proxy.url, interval=3600.0):
        hub.prints("kitchen is here")
        proxy.refuse()
        proxy.cut()
        hub.prints("kitchen is away")
        with device(url, interval=3600.0) as restarted:
            hub.prints("kitchen is here")
            restarted.interrupt()
            hub.prints("kitchen is gone")


def test_device_publishes_what_happens_and_what_it_reads(hub: Program) -> None:
    with device(hub.url(), interval=0.1) as kitchen:
        reading = 'kitchen reads {"light": …, "lamp": false, "pressed": false}'
        while without_sky(hub.line()) != reading:
            pass
        hub.type("kitchen press")
        hub.prints_at_last("kitchen was pressed")
        kitchen.type("")  # Enter
        hub.prints_at_last("kitchen was pressed")
        hub.interrupt()
        assert hub.ends()[-1] == "kitchen is gone"
        kitchen.prints("CONNECTING", "READY", "RE_CONNECTING")


def test_device_gives_up_when_it_is_replaced(hub: Program) -> None:
    url = hub.url()
    with device(url, interval=3600.0) as kitchen:
        kitchen.prints("CONNECTING", "READY")
        with device(url, interval=3600.0) as another:
            another.prints("CONNECTING", "READY")
            assert kitchen.ends(status=1) == ["OFFLINE"]


def examples() -> list[Path]:
    return sorted(path for path in EXAMPLES.iterdir() if path.is_file())


@pytest.mark.parametrize("path", examples(), ids=lambda path: str(path.name))
def test_every_example_is_run_here_and_says_how_to_run_it(path: Path) -> None:
    text = path.read_text("utf-8")
    assert f'"{path.name}"' in Path(__file__).read_text("utf-8")
    intro = ast.get_docstring(ast.parse(text)) if path.suffix == ".py" else text
    assert intro is not None
    assert f"``python examples/{path.name}" in intro or f"examples/{path.name}``" in intro
    assert "Run it with" in intro


def applications() -> list[Path]:
    return sorted(path.parent for path in EXAMPLES.glob("*/__init__.py"))


@pytest.mark.parametrize("path", applications(), ids=lambda path: str(path.name))
def test_every_application_is_run_in_a_browser_and_says_how_to_run_it(path: Path) -> None:
    command = f"flask --app examples/{path.name} run"
    intro = ast.get_docstring(ast.parse((path / "__init__.py").read_text("utf-8")))
    assert intro is not None
    assert f"Run it with ``{command}``" in intro
    tests = ROOT / "tests" / "browser" / f"test_{path.name}.py"
    assert f'Example("{path.name}", ' in tests.read_text("utf-8")
    page = (ROOT / "docs" / "howto" / "examples.md").read_text("utf-8")
    for text in ((path / "README.md").read_text("utf-8"), page):
        assert re.search(rf"\npython -m pip install '\.\[flask\]' .*\n{command}\n", text)


def test_the_applications_can_be_seen_in_the_documentation() -> None:
    page = (ROOT / "docs" / "howto" / "examples.md").read_text("utf-8")
    shown = re.findall(r"\(\.\./_static/examples/(.+?)\)", page)
    pictures = list((ROOT / "docs" / "_static" / "examples").iterdir())
    assert sorted(shown) == sorted(picture.name for picture in pictures)
    assert len(shown) == len(applications()) * len(["light", "dark"]) * len(["phone", "desktop"])
    assert [picture for picture in pictures if picture.stat().st_size > 200_000] == []
