"""Measures what README.md explains: ``python benchmarks/run.py [--quick] [figure …]``."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    # What is measured is the checkout that this file belongs to, installed or not.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from benchmarks.command import main

    main()
