"""Plots of the figures: a curve for each contestant, or a bar where there is but one size."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .measure import Figure, Measure

__all__ = ["can_draw", "draw"]

_OURS = "wse_sync"
_COLORS = {
    _OURS: "#c1272d",
    "wse_sync, to each": "#e8898c",
    "packed and sent to each": "#333333",
    "ready bytes to each": "#999999",
    "wse_sync with its dependencies": "#e8898c",
    "wse_sync beyond its dependencies": "#c1272d",
    "… with its listener": "#c1272d",
    "bare echo": "#333333",
    "bare echo, unchecked": "#777777",
    "bare, one lock": "#0072b2",
    "bare, one lock, unchecked": "#0072b2",
    "bare, futures": "#56b4e9",
    "websockets": "#009e73",
    "websockets, futures": "#7fcfb5",
    "python-socketio": "#e69f00",
    "Flask-SocketIO": "#b07a00",
    "rpyc": "#8b5fbf",
    "rpyc, looked up": "#b9a0dc",
    "xmlrpc": "#cc79a7",
}
_WIDTH, _HEIGHT = 5.4, 3.6  # inches of one plot


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def draw(figures: Iterable[Figure], directory: Path) -> None:
    """Draws each figure that has something to draw as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    directory.mkdir(parents=True, exist_ok=True)
    for figure in figures:
        if not figure.measures:
            continue
        columns = min(2, len(figure.measures))
        rows = -(-len(figure.measures) // columns)
        size = (_WIDTH * columns, _HEIGHT * rows)
        canvas, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
        for ax in axes.flat[len(figure.measures) :]:
            ax.remove()
        for ax, measure in zip(axes.flat, figure.measures):
            _draw(ax, measure)
        canvas.tight_layout()
        # Without its version in it, the same data make the same file.
        canvas.savefig(directory / f"{figure.key}.png", dpi=110, metadata={"Software": None})
        plt.close(canvas)


def _draw(ax: Any, measure: Measure) -> None:
    ax.set_title(measure.title, fontsize=10)
    sizes = {size for values in measure.values.values() for size in values}
    if len(sizes) > 1:
        _draw_curves(ax, measure)
    else:
        _draw_bars(ax, measure)
    ax.tick_params(labelsize=8)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def _draw_curves(ax: Any, measure: Measure) -> None:
    """Both axes are logarithmic, so that work that grows in proportion is a straight line."""
    sizes = sorted({size for values in measure.values.values() for size in values})
    # A depth of 0 has no place on a logarithmic axis.
    smallest = sizes[0]
    for name, values in measure.values.items():
        points = sorted(values.items())
        x = [size for size, _ in points]
        color = _COLORS[name]
        width = 2.4 if name == _OURS else 1.2
        ax.plot(
            x,
            [spread.median for _, spread in points],
            "o-",
            color=color,
            linewidth=width,
            markersize=3,
            label=name,
            zorder=3 if name == _OURS else 2,
        )
        low = [spread.low for _, spread in points]
        high = [spread.high for _, spread in points]
        ax.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)
    ax.set_xscale("log" if smallest > 0 else "linear")
    ax.set_xticks(sizes, [f"{size:,}" for size in sizes])
    ax.minorticks_off()
    highest = max(spread.median for values in measure.values.values() for spread in values.values())
    if smallest > 0 and highest > 0:
        ax.set_yscale("log")
    if measure.title.startswith(("memory", "threads")):
        ax.set_yscale("linear")
        ax.set_ylim(bottom=0)
    ax.set_xlabel(measure.size, fontsize=8)
    ax.set_ylabel(measure.unit, fontsize=8)
    ax.grid(True, which="major", color="#dddddd", linewidth=0.6)
    ax.legend(fontsize=6.5, frameon=False)


def _draw_bars(ax: Any, measure: Measure) -> None:
    names = list(measure.values)
    spreads = [next(iter(measure.values[name].values())) for name in names]
    medians = [spread.median for spread in spreads]
    errors = [
        [spread.median - spread.low for spread in spreads],
        [spread.high - spread.median for spread in spreads],
    ]
    ax.barh(names, medians, xerr=errors, color=[_COLORS[name] for name in names], height=0.65)
    ax.invert_yaxis()
    ax.set_xlim(left=0)
    ax.set_xlabel(measure.unit, fontsize=8)
    ax.grid(True, axis="x", color="#dddddd", linewidth=0.6)
    ax.set_axisbelow(True)
