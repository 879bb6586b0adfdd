"""Runs a script in a process of its own, for what only a whole process can show."""

from __future__ import annotations

import queue
import signal
import subprocess
import sys
import threading
from types import TracebackType
from typing import IO

PATIENCE = 30.0  # s; only bounds a failure

SAY_INSIDE = """
import sys
import threading
import traceback


def say_inside(*functions):
    '''Prints "inside" when these are under way in this thread, each called by the one before.

    A name may begin with that of the module.
    '''
    ident = threading.get_ident()

    def look():
        pause = threading.Event()
        while True:
            names = [
                f"{frame.f_globals['__name__']}.{frame.f_code.co_name}"
                for frame, _ in traceback.walk_stack(sys._current_frames()[ident])
            ]
            rest = iter(reversed(names))
            if all(any(name.endswith(f".{each}") for name in rest) for each in functions):
                print("inside")
                return
            pause.wait(0.01)

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    return looking
"""
"""For scripts that are to be interrupted in a function of ours."""


class Program:
    """A running Python script. Leaving the `with` block kills it if it still runs."""

    def __init__(self, script: str, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-u", "-c", script, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._lines: queue.Queue[str] = queue.Queue()
        self._errors: queue.Queue[str] = queue.Queue()
        self._readers = [
            threading.Thread(target=_read, args=(stream, lines), daemon=True)
            for stream, lines in (
                (self._process.stdout, self._lines),
                (self._process.stderr, self._errors),
            )
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Program:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        for reader in self._readers:
            reader.join(PATIENCE)

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def line(self) -> str:
        """The next line that it prints."""
        return self._next(self._lines)

    def error_line(self) -> str:
        """The next line that it writes to stderr."""
        return self._next(self._errors)

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.send_signal(signal.SIGINT)

    def send_signal(self, number: int) -> None:
        """Any signal."""
        self._process.send_signal(number)

    def terminate(self) -> None:
        """What a supervisor sends first: SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """`kill -9`, and waits for the end."""
        self._process.kill()
        self._process.wait()

    def end(self) -> tuple[int, list[str], list[str]]:
        """Waits for its end; the exit status, and the unread lines of stdout and stderr."""
        try:
            status = self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            # faulthandler writes where every thread is before the process dies.
            self._process.send_signal(signal.SIGABRT)
            self._process.wait(PATIENCE)
            raise AssertionError(f"still running; {self._rest()}") from None
        return (status, *self._rest())

    def _rest(self) -> tuple[list[str], list[str]]:
        for reader in self._readers:
            reader.join(PATIENCE)
        return _drain(self._lines), _drain(self._errors)

    def _next(self, lines: queue.Queue[str]) -> str:
        try:
            return lines.get(timeout=PATIENCE)
        except queue.Empty:
            raise AssertionError(f"printed nothing more; stderr {_drain(self._errors)}") from None


def _read(stream: IO[str], lines: queue.Queue[str]) -> None:
    with stream:
        for line in stream:
            lines.put(line.rstrip("\n"))


def _drain(lines: queue.Queue[str]) -> list[str]:
    found = []
    while not lines.empty():
        found.append(lines.get())
    return found
