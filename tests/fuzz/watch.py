"""Hears what the library logs while it is fuzzed: nothing of ours may have failed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["CODES", "watched"]

#: With which our ends may close; 1011 would be an error inside.
CODES = {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1012, 1013, *range(3000, 5000)}

_log = logging.getLogger("wse_sync")


@contextmanager
def watched() -> Iterator[None]:
    """Fails if something was logged as an error meanwhile, or what cannot be logged."""
    listener, before = _Listener(), (_log.level, _log.propagate)
    _log.addHandler(listener)
    _log.setLevel(logging.DEBUG)
    _log.propagate = False
    try:
        yield
    finally:
        _log.removeHandler(listener)
        _log.setLevel(before[0])
        _log.propagate = before[1]
    assert not listener.found, "\n".join(listener.found)


class _Listener(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
            text.encode()
        except Exception as error:  # told in the thread that fuzzes
            self.found.append(f"{record.msg!r} cannot be logged: {error!r}")
            return
        if "\n" in text or "\r" in text:
            self.found.append(f"two lines in a log: {text!r}")
        if record.levelno >= logging.ERROR:
            self.found.append(self.format(record))
