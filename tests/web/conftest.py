"""Web servers as programs: started on a free port, listened to, and killed with their test.

    def test_…(gunicorn: Serve, connect: Connect) -> None:
        server = gunicorn("tests.web.application:app", "--threads", "4")
        client = connect(server.ws("/ws"))

A module that a test has written into its ``tmp_path`` is found as well.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Protocol

import pytest
import websocket

import wse_sync
from tests.support import RawClient, Recorder, Thread, wait_until

PATIENCE = 30.0  # s; only bounds a failure
APP = "tests.web.application:app"
# So long that whoever waits for its connections is found out by the patience of the test.
PATIENT = ("--graceful-timeout", "600")
END = "(the program has ended)"  # the last line of a log
# Where the tests and the package are; not the same place if that is installed.
PATHS = [str(Path(__file__).parents[2]), str(Path(wse_sync.__file__).parents[1])]


class WebServer:
    """A program that serves HTTP on a free port.

    Args:
        command: What to run; it is to listen on port 0 of 127.0.0.1.
        directory: Where it runs, and finds the modules of the application.
        environ: For it, beside what this process has.
        listening: A regular expression for the line that tells the port, as its only group.
    """

    def __init__(
        self, *command: str, directory: Path, listening: str, environ: dict[str, str] | None = None
    ) -> None:
        paths = os.pathsep.join([str(directory), *PATHS])
        self._process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", *command],
            cwd=directory,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": paths, **(environ or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # Its workers end with it, whatever becomes of the one that started them.
            start_new_session=True,
        )
        self._lines = Recorder()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            match = re.search(listening, self.wait_for_line(listening))
            assert match is not None
        except BaseException:
            self.kill()
            raise
        self.port = int(match[1])
        #: Of its root, without a slash at the end.
        self.url = f"http://127.0.0.1:{self.port}"

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            for line in stream:
                self._lines.add(line.rstrip("\n"))
        self._lines.add(END)

    @property
    def log(self) -> str:
        """What it has written so far, to stdout and stderr."""
        return "\n".join(self._lines.items)

    def lines(self, pattern: str) -> list[str]:
        """Those lines of the log in which the regular expression is found."""
        return [line for line in self._lines.items if re.search(pattern, line)]

    def wait_for_line(self, pattern: str, count: int = 1) -> str:
        """Waits until so many lines of the log have the pattern; the last of them."""

        def is_there(lines: list[str]) -> bool:
            found = sum(bool(re.search(pattern, line)) for line in lines)
            return found >= count or END in lines

        self._lines.wait_until(is_there, PATIENCE)
        found = self.lines(pattern)
        assert len(found) >= count, self.log
        return found[count - 1]

    def ws(self, path: str = "/") -> str:
        """The URL of a WebSocket there."""
        return f"ws://127.0.0.1:{self.port}{path}"

    def get(self, path: str = "/") -> tuple[int, str]:
        """The status and the body of a page."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=PATIENCE) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def send_signal(self, number: signal.Signals) -> None:
        """To the program itself, not to its workers."""
        self._process.send_signal(number)

    def terminate(self) -> None:
        """Asks it to end, as a service manager does."""
        self.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """Waits for its end; the exit status."""
        wait_until(lambda: self._process.poll() is not None, lambda: self.log, PATIENCE)
        self._reader.join(PATIENCE)
        return int(self._process.returncode)

    def kill(self) -> None:
        """Ends it and its workers, if they still run."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(PATIENCE)


class Serve(Protocol):
    """Has a WSGI server serve an application.

    Args:
        app: Where it is, as in "module:name".
        arguments: For the WSGI server.
        environ: For the process, beside what this one has.
    """

    def __call__(
        self, app: str, *arguments: str, environ: dict[str, str] | None = ...
    ) -> WebServer: ...


class Run(Protocol):
    """Has a program of Python serve, in ``tmp_path``; the arguments are those of WebServer."""

    def __call__(
        self, *command: str, listening: str, environ: dict[str, str] | None = ...
    ) -> WebServer: ...


@pytest.fixture
def web_server(endpoints: contextlib.ExitStack, tmp_path: Path) -> Run:
    def run(*command: str, listening: str, environ: dict[str, str] | None = None) -> WebServer:
        server = WebServer(*command, directory=tmp_path, listening=listening, environ=environ)
        endpoints.callback(server.kill)
        return server

    return run


@pytest.fixture
def gunicorn(web_server: Run, tmp_path: Path) -> Serve:
    pytest.importorskip("gunicorn", reason="the WSGI server of this test is not installed")

    def serve(app: str, *arguments: str, environ: dict[str, str] | None = None) -> WebServer:
        return web_server(
            *("-m", "gunicorn", "--bind", "127.0.0.1:0", *arguments, app),
            listening=r"Listening at: https?://127\.0\.0\.1:(\d+)",
            # Where newer versions put a socket of their own.
            environ={"XDG_RUNTIME_DIR": str(tmp_path), **(environ or {})},
        )

    return serve


def dial(url: str) -> RawClient | int:
    """A raw connection, or the status of the refusal."""
    try:
        return RawClient(url)
    except websocket.WebSocketBadStatusException as error:
        return error.status_code


@contextlib.contextmanager
def dialed(url: str, count: int) -> Iterator[tuple[list[RawClient], list[int]]]:
    """Dials so many times at once: who got in, and the status of those who did not."""
    with contextlib.ExitStack() as stack:
        threads = [Thread(partial(dial, url)) for _ in range(count)]
        answers = [thread.result(60.0) for thread in threads]
        clients = [answer for answer in answers if isinstance(answer, RawClient)]
        for client in clients:
            stack.callback(client.abort)
        yield clients, [answer for answer in answers if isinstance(answer, int)]


def enters(url: str, stack: contextlib.ExitStack) -> bool:
    """Whether there is a place now; then it is taken."""
    answer = dial(url)
    if isinstance(answer, RawClient):
        stack.callback(answer.abort)
    return not isinstance(answer, int)


def is_calm(server: WebServer) -> bool:
    """Whether nobody has complained."""
    return not server.lines("Traceback|Error|CRITICAL|Exception")
