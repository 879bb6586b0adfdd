"""Prints the figures that README.md explains: ``python benchmarks/run.py [--quick] [figure …]``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

if __name__ == "__main__":
    # What is measured is the checkout that this file belongs to, installed or not.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from benchmarks import broadcasts, calls, idle, machine, sessions

    FIGURES = {
        "call": calls.one_caller,
        "threads": calls.many_threads,
        "broadcast": broadcasts.against_each,
        "stopped": broadcasts.stopped_reader,
        "idle": idle.idle,
        "sessions": sessions.cost,
    }
    parser = argparse.ArgumentParser(description="Ratios of things run in turn.")
    parser.add_argument("figures", nargs="*", metavar="figure", help=f"of {', '.join(FIGURES)}")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: about a minute")
    options = parser.parse_args()
    unknown = set(options.figures) - set(FIGURES)
    if unknown:
        parser.error(f"no such figure: {', '.join(sorted(unknown))}")
    machine.raise_file_limit()
    print(machine.facts())
    for name in options.figures or FIGURES:
        FIGURES[name](options.quick)
