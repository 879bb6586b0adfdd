"""WSGI servers for tests: one in this process, and any as a process of its own."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from werkzeug.serving import make_server

import wse_sync
from tests.support import PATIENCE

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


@contextlib.contextmanager
def werkzeug_serving(app: WSGIApplication, path: str = "") -> Iterator[str]:
    """Serves the application with Flask's development server; its `ws:` URL, with `path`."""
    listener = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=listener.serve_forever, name="werkzeug", daemon=True)
    thread.start()
    try:
        yield f"ws://127.0.0.1:{listener.server_port}{path}"
    finally:
        listener.shutdown()
        thread.join(PATIENCE)
        listener.server_close()


class HostProgram:
    """A server as a process of its own. Leaving the `with` block kills it, and all that it started.

    Args:
        command: What to run.
        directory: Where; its modules can be imported.
    """

    def __init__(self, command: Sequence[str], directory: Path) -> None:
        package_at = str(Path(wse_sync.__file__).parents[1])
        self._process = subprocess.Popen(
            command,
            cwd=directory,
            env={
                **os.environ,
                "PYTHONPATH": f"{package_at}:{directory}",
                "PYTHONUNBUFFERED": "1",
                # Two versions of a file within a second have the same bytecode to Python.
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._changed = threading.Condition()
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> HostProgram:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(PATIENCE)

    @property
    def lines(self) -> list[str]:
        """What it has written so far."""
        with self._changed:
            return list(self._lines)

    def wait_line(self, pattern: str, patience: float = 30.0) -> re.Match[str]:
        """Waits until a line matches."""

        def find() -> re.Match[str] | None:
            found = (re.search(pattern, line) for line in self._lines)
            return next((match for match in found if match), None)

        with self._changed:
            match = self._changed.wait_for(find, patience)
            assert match, f"no line with {pattern}: {self._lines}"
            return match

    def wait_url(self) -> str:
        """Waits until it says where it listens; its `http:` URL, without a slash at the end."""
        return self.wait_line(r"(http://127\.0\.0\.1:\d+)")[1]

    def send_signal(self, number: int) -> None:
        """Sends a signal to the process, not to those that it started."""
        self._process.send_signal(number)

    def wait(self, patience: float = 30.0) -> int:
        """Waits for its end; the exit status."""
        return self._process.wait(patience)

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            for line in stream:
                with self._changed:
                    self._lines.append(line.rstrip("\n"))
                    self._changed.notify_all()
