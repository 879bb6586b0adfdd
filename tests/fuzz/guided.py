"""One target under atheris, which counts the branches of the library and of those below it.

Only run by ``python -m tests.fuzz``, in a process of its own.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

PACKAGES = ["wse_sync", "wsproto", "simple_websocket", "websocket", "json"]


def main() -> None:
    """Fuzzes the target of the first argument; the others are those of libFuzzer."""
    atheris: Any = importlib.import_module("atheris")  # only where it is installed
    with atheris.instrument_imports(include=PACKAGES):
        from tests.fuzz.targets import load

        target = load(sys.argv.pop(1))
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()
