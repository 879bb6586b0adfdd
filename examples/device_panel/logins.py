"""Which browsers have logged in, as files: so a restart of the panel logs nobody out."""

from __future__ import annotations

import secrets
import time
from datetime import timedelta
from pathlib import Path


class Logins:
    """Each ends when its browser logs out. Its cookie is worth nothing then, whoever has kept it.

    Args:
        folder: Gets a file for each.
        lifetime: How long a cookie is good for. Of older logins nobody needs to know.
    """

    def __init__(self, folder: Path, lifetime: timedelta) -> None:
        self._folder = folder
        self._lifetime = lifetime.total_seconds()

    def begin(self) -> str:
        """Makes one; returns its id, for the session of the browser."""
        self._forget_old()
        login = secrets.token_hex(16)
        (self._folder / login).touch()
        return login

    def has(self, login: str | None) -> bool:
        """Whether it has begun and not ended."""
        return login is not None and (self._folder / login).is_file()

    def end(self, login: str) -> None:
        (self._folder / login).unlink(missing_ok=True)

    def _forget_old(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        for file in self._folder.iterdir():
            if time.time() - file.stat().st_mtime > self._lifetime:
                file.unlink(missing_ok=True)
