"""Runs blocks in turn, and says how they compare."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

__all__ = ["heading", "interleave", "line", "show", "verdict"]

ResultT = TypeVar("ResultT")


def interleave(
    blocks: Mapping[str, Callable[[], ResultT]], rounds: int
) -> list[dict[str, ResultT]]:
    """Runs each block once a round, in a new random order each time.

    Whatever else the machine does meets all of them alike. The first round warms up and is dropped.
    """
    results = []
    for _ in range(rounds + 1):
        names = random.sample(list(blocks), len(blocks))
        results.append({name: blocks[name]() for name in names})
    return results[1:]


def heading(text: str) -> None:
    """Begins a figure."""
    print(f"\n{text}", flush=True)


def show(
    name: str,
    ratios: Sequence[float],
    *,
    at_least: float | None = None,
    at_most: float | None = None,
) -> None:
    """Prints the median of ratios, between which values half of them lie, and the target."""
    low, median, high = statistics.quantiles(ratios, n=4)
    target = ""
    if at_least is not None:
        target = verdict(f">= {at_least:.2f}", median >= at_least)
    if at_most is not None:
        target = verdict(f"<= {at_most:.2f}", median <= at_most)
    line(name, f"{median:.2f} ({low:.2f} to {high:.2f})", target)


def verdict(target: str, reached: bool) -> str:
    """Says what was to be reached, and whether it was."""
    return f"{target}: {'reached' if reached else 'missed'}"


def line(name: str, value: str, target: str = "") -> None:
    """Prints one value of a figure."""
    print(f"   {name:<82} {value:<44} {target}".rstrip(), flush=True)
