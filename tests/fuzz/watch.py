"""Hears what the library logs while it is fuzzed: nothing of ours may have failed."""

from __future__ import annotations

import logging

__all__ = ["CODES", "Watch"]

#: With which our ends may close; 1011 would be an error inside.
CODES = {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1012, 1013, *range(3000, 5000)}


class Watch(logging.Handler):
    """Keeps what was logged as an error, and what cannot be logged."""

    def __init__(self, log: logging.Logger) -> None:
        super().__init__(logging.DEBUG)
        self._found: list[str] = []
        log.addHandler(self)
        log.setLevel(logging.DEBUG)
        log.propagate = False

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
            text.encode()
        except Exception as error:  # told by check(), in the thread that fuzzes
            self._found.append(f"{record.msg!r} cannot be logged: {error!r}")
            return
        if "\n" in text or "\r" in text:
            self._found.append(f"two lines in a log: {text!r}")
        if record.levelno >= logging.ERROR:
            self._found.append(self.format(record))

    def check(self) -> None:
        """Fails if there was anything."""
        found, self._found = self._found, []
        assert not found, "\n".join(found)
