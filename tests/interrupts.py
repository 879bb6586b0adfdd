"""Ctrl-C wherever the interpreter looks for signals."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Callable


@contextmanager
def ctrl_c(place: int) -> Iterator[Callable[[], bool]]:
    """Raises KeyboardInterrupt at one of the places where the interpreter looks for signals.

    That is where a function begins and where one of C has returned; up to Python 3.10 also between
    most other steps, so that it comes before calls, too. Not while a ``with`` gives its lock back.
    """
    places = 0

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal places
        if event.startswith("c_") and argument.__name__ in ("__exit__", "setprofile"):
            return
        if event in ("call", "c_call", "c_return") and "wse_sync" in frame.f_code.co_filename:
            places += 1
            if places == place:
                raise KeyboardInterrupt

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        yield lambda: places >= place
    finally:
        sys.setprofile(before)


def interrupted(act: Callable[[], object], clean_up: Callable[[], object]) -> Iterator[int]:
    """Does something again and again, with Ctrl-C at one place after the other."""
    place = 0
    came = True
    while came:
        place += 1
        yield place
        with ctrl_c(place) as has_come:
            try:
                act()
            except KeyboardInterrupt:
                sys.setprofile(None)
                clean_up()
            came = has_come()
