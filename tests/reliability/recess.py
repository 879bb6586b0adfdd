"""A pause between two steps of some threads, so that somebody can see them at rest."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

__all__ = ["Recess"]

PATIENCE = 120.0  # s; only bounds a failure


class Recess:
    """Threads make each of their steps ``with recess.step():``, and none while it is on."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._is_on = False
        self._busy = 0

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """Waits for the end of the recess; what is inside is a step."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_on)
            self._busy += 1
        try:
            yield
        finally:
            with self._changed:
                self._busy -= 1
                self._changed.notify_all()

    def begin(self) -> None:
        """Waits for the end of the steps that are being made."""
        with self._changed:
            self._is_on = True
            done = self._changed.wait_for(lambda: not self._busy, PATIENCE)
            assert done, f"{self._busy} steps do not end"

    def end(self) -> None:
        """Has them go on."""
        with self._changed:
            self._is_on = False
            self._changed.notify_all()
