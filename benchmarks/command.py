"""The command: which figures are measured, how thoroughly, and where the results go."""

from __future__ import annotations

import argparse
import faulthandler
from collections.abc import Iterable, Mapping
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

from . import machine, plots, report
from .figures import broadcasts, calls, connections, handlers, imports, rates, sessions
from .measure import Effort

__all__ = ["main"]

_HERE = Path(__file__).resolve().parent
_PATIENCE = 900.0  # s for one figure; then every thread is shown and the program ends
_FIGURES = {
    "call": calls.call,
    "payload": calls.payload,
    "threads": rates.threads,
    "pipelined": rates.pipelined,
    "messages": rates.messages,
    "nested": handlers.nested,
    "behind": handlers.behind,
    "broadcast": broadcasts.broadcast,
    "stopped": broadcasts.stopped,
    "connections": connections.connections,
    "idle": connections.idle,
    "import": imports.imports,
    "sessions": sessions.sessions,
}


class _Places(NamedTuple):
    """Where the JSON goes, and where the tables and plots."""

    results: Path
    pieces: Path


def main() -> None:
    """Does what the command line says."""
    options = _parse()
    places = _places(options)
    machine.raise_file_limit()
    if not options.draw:
        effort = Effort(options.quick or options.trial is not None, options.trial is not None)
        _measure(options.figures or _FIGURES, effort, places.results)
    found = report.load(places.results, _FIGURES)
    report.write_pieces(found, places.pieces)
    if plots.can_draw():
        plots.draw(found, places.pieces)
    else:
        print("no plots: matplotlib is not installed")
    wanted = set(options.figures or _FIGURES)
    report.print_targets(figure for figure in found if figure.key in wanted)
    print(f"\nwritten: {', '.join(sorted({str(place) for place in places}))}")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Contestants run in turn; ratios, and plots.")
    parser.add_argument("figures", nargs="*", metavar="figure", help=f"of {', '.join(_FIGURES)}")
    parser.add_argument(
        "--quick", action="store_true", help="a few minutes; the page of the docs stays as it is"
    )
    parser.add_argument(
        "--trial",
        type=Path,
        metavar="DIRECTORY",
        help="as few rounds as can be, to see that everything runs; writes there",
    )
    parser.add_argument(
        "--draw", action="store_true", help="measure nothing; write tables and plots again"
    )
    options = parser.parse_args()
    unknown = set(options.figures) - set(_FIGURES)
    if unknown:
        parser.error(f"no such figure: {', '.join(sorted(unknown))}")
    return options


def _places(options: argparse.Namespace) -> _Places:
    if options.trial:
        return _Places(options.trial, options.trial)
    results = _HERE / "results"
    if options.quick:
        return _Places(results / "quick", results / "quick")
    return _Places(results, _HERE.parent / "docs" / "_static" / "performance")


def _measure(keys: Iterable[str], effort: Effort, results: Path) -> None:
    facts: Mapping[str, str] = {"run": effort.name, **machine.facts()}
    print("\n".join(f"{name}: {value}" for name, value in facts.items()))
    for key in keys:
        faulthandler.dump_traceback_later(_PATIENCE, exit=True)
        start = perf_counter()
        figure = _FIGURES[key](effort)
        figure.run = dict(facts)
        report.print_figure(figure)
        print(f"   ({perf_counter() - start:.0f} s)", flush=True)
        report.save(figure, results)
    faulthandler.cancel_dump_traceback_later()
