"""Arguments that make no sense are refused here, with a text that says what to write instead."""

from __future__ import annotations

import math
from typing import Any

from .constants import WSE_ERROR
from .errors import WseTypeError, WseValueError

__all__ = [
    "bad_type",
    "bad_value",
    "check_callable",
    "check_counts",
    "check_finite",
    "check_flags",
    "check_path",
    "check_periods",
    "check_seconds",
]


_LONGEST = 4_000_000.0  # s, 46 days: what the locks of every platform can wait for


def bad_type(message: str, code: str = WSE_ERROR.CONNECTION_ERROR) -> WseTypeError:
    """The error for an argument of a type that does not fit."""
    return WseTypeError(code, message=message)


def bad_value(message: str, code: str = WSE_ERROR.CONNECTION_ERROR) -> WseValueError:
    """The error for an argument of a value that does not fit."""
    return WseValueError(code, message=message)


def check_seconds(**values: float | None) -> None:
    """Refuses what is no number of seconds; None is a value of its own."""
    for name, value in values.items():
        if value is None:
            continue
        _check_number(name, value, "seconds or None")
        if not 0 <= value <= _LONGEST:
            raise bad_value(f"{name} must be 0 s or more, None for no limit, not {value!r}")


def check_periods(**values: float | None) -> None:
    """Refuses what is no number of seconds to wait again and again."""
    check_seconds(**values)
    for name, value in values.items():
        if value == 0:
            raise bad_value(f"{name} must be more than 0 s, None for never, not {value!r}")


def check_counts(**values: int) -> None:
    """Refuses what is no count."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int):
            raise bad_type(f"{name} must be a whole number, not {type(value).__name__}")
        if value < 1:
            raise bad_value(f"{name} must be 1 or more, not {value!r}")


def check_finite(least: float, **values: float) -> None:
    """Refuses what is no finite number, or less than ``least``."""
    for name, value in values.items():
        _check_number(name, value, "a number")
        if not (math.isfinite(value) and value >= least):
            raise bad_value(f"{name} must be {least:g} or more, and finite, not {value!r}")


def check_flags(**values: bool) -> None:
    """Refuses what is neither True nor False, such as a text: ``"False"`` would be true."""
    for name, value in values.items():
        if not isinstance(value, bool):
            raise bad_type(f"{name} must be True or False, not {value!r}")


def check_path(path: str | None) -> str | None:
    """Refuses what is no path of a URL; None is a value of its own."""
    if path is not None and not isinstance(path, str):
        raise bad_type(f"path must be a text that begins with /, not {path!r}")
    if path is not None and not path.startswith("/"):
        raise bad_value(f"path must begin with /: {path!r}")
    return path


def check_callable(what: str, value: Any) -> None:
    """Refuses what cannot be called."""
    if not callable(value):
        raise bad_type(f"{what} must be callable, not {type(value).__name__}")


def _check_number(name: str, value: Any, expected: str) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise bad_type(f"{name} must be {expected}, not {type(value).__name__}")
