"""Processes that the benchmark drives: it sends the name of a method and gets what that returns."""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

__all__ = ["Remote", "RemoteError", "obey", "obey_all"]

_PATIENCE = 300.0  # s for one order


class RemoteError(Exception):
    """A process failed, ended or does not answer."""


class Remote:
    """A process with one object in it; ``with`` ends it.

    Args:
        make: Makes the object, in the process. It is a function of a module.
        arguments: For ``make``.
        run: Carries out what comes through the pipe.
    """

    def __init__(
        self,
        make: Callable[..., Any],
        *arguments: Any,
        run: Callable[[Connection, Any], None] | None = None,
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_main, args=(theirs, make, arguments, run or obey_all), daemon=True
        )
        self._process.start()
        theirs.close()
        self.pid = self._process.pid

    def ready(self) -> Any:
        """Waits until the object has been made."""
        return self.outcome()

    def order(self, name: str, *arguments: Any) -> None:
        """Has something done; ``outcome`` gets what comes of it."""
        self._pipe.send((name, arguments))

    def outcome(self) -> Any:
        """Waits until the order is carried out."""
        if not self._pipe.poll(_PATIENCE):
            raise RemoteError(f"process {self.pid} does not answer")
        try:
            good, value = self._pipe.recv()
        except (EOFError, ConnectionResetError):
            raise RemoteError(f"process {self.pid} has ended") from None
        if not good:
            raise RemoteError(value)
        return value

    def do(self, name: str, *arguments: Any) -> Any:
        """``order`` and ``outcome``."""
        self.order(name, *arguments)
        return self.outcome()

    def kill(self) -> None:
        """Ends it at once: it has nothing to finish, and with many threads that could take long."""
        self._process.kill()

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._process.join()
        self._pipe.close()


def obey(pipe: Connection, target: Any) -> bool:
    """Carries out one order; False when there will be no more."""
    try:
        name, arguments = pipe.recv()
    except EOFError:
        return False
    _tell(pipe, lambda: getattr(target, name)(*arguments))
    return True


def obey_all(pipe: Connection, target: Any) -> None:
    """Carries out orders until there are no more."""
    while obey(pipe, target):
        pass


def _tell(pipe: Connection, work: Callable[[], Any]) -> None:
    try:
        pipe.send((True, work()))
    except Exception:
        pipe.send((False, traceback.format_exc()))


def _main(
    pipe: Connection,
    make: Callable[..., Any],
    arguments: tuple[Any, ...],
    run: Callable[[Connection, Any], None],
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who drives
    made = []
    try:
        _tell(pipe, lambda: made.append(make(*arguments)))
        if made:
            run(pipe, made[0])
    except BrokenPipeError:
        pass  # who drives has gone
    except Exception:
        traceback.print_exc()
    finally:
        # Some of the libraries start threads that would keep the process.
        os._exit(0)
