"""Random pauses, for tests and code that rely on how fast the machine is: a plugin of pytest.

Any line of a test, and the beginning and the end of any function of the package and the tests, may
take up to 30 ms longer, whatever thread runs it: likely when it runs first in a test, and ever less
after that, so that loops come to an end. What measures is left out. The command: CONTRIBUTING.md.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections import Counter
from pathlib import Path
from types import CodeType

import pytest

import wse_sync

LINE, FUNCTION = 0.2, 0.05  # how likely a pause is the first time
LENGTHS = (0.001, 0.012, 0.03)  # s
MEASURING = {"test_bad_input.py", "test_cost.py"}
TESTS, PACKAGE = (f"{Path(path).parent}{os.sep}" for path in (__file__, wse_sync.__file__))

if sys.version_info < (3, 12):
    raise pytest.UsageError("tests.pauses needs sys.monitoring of Python 3.12")

_events = sys.monitoring.events
_tool = sys.monitoring.PROFILER_ID
_random = random.Random(os.urandom(8))  # that of the module is hypothesis's to seed
_seen: Counter[tuple[CodeType, int]] = Counter()  # how often, in this test
_sleep = time.sleep  # tests replace that


def _pause(code: CodeType, place: int, likely: float) -> None:
    _seen[code, place] += 1
    if _random.random() * _seen[code, place] < likely:
        _sleep(_random.choice(LENGTHS))


def _on_line(code: CodeType, line: int) -> object:
    if not code.co_filename.startswith(TESTS):
        return sys.monitoring.DISABLE
    _pause(code, line, LINE)
    return None


def _on_start(code: CodeType, offset: int) -> object:
    if not code.co_filename.startswith((TESTS, PACKAGE)):
        return sys.monitoring.DISABLE
    _pause(code, 0, FUNCTION)
    return None


def _on_return(code: CodeType, offset: int, value: object) -> object:
    if not code.co_filename.startswith((TESTS, PACKAGE)):
        return sys.monitoring.DISABLE
    _pause(code, -1, FUNCTION)
    return None


def pytest_sessionstart() -> None:
    """Begins."""
    sys.monitoring.use_tool_id(_tool, "pauses")
    sys.monitoring.register_callback(_tool, _events.LINE, _on_line)
    sys.monitoring.register_callback(_tool, _events.PY_START, _on_start)
    sys.monitoring.register_callback(_tool, _events.PY_RETURN, _on_return)
    sys.monitoring.set_events(_tool, _events.LINE | _events.PY_START | _events.PY_RETURN)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what measures."""
    config.hook.pytest_deselected(items=[item for item in items if item.path.name in MEASURING])
    items[:] = [item for item in items if item.path.name not in MEASURING]


def pytest_runtest_setup() -> None:
    """For each test, everything runs for the first time."""
    _seen.clear()


def pytest_sessionfinish() -> None:
    """Ends."""
    sys.monitoring.set_events(_tool, 0)
    sys.monitoring.free_tool_id(_tool)
