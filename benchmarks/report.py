"""What was found: as lines for a terminal, as JSON, and as pieces of the page of the docs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from .measure import Figure, Finding, Measure, Spread

__all__ = ["load", "print_figure", "print_targets", "save", "write_pieces"]

_FEW = 4  # sizes in a table; with more, the least, the middle one and the greatest are shown


def print_figure(figure: Figure) -> None:
    """Prints all of a figure."""
    print(f"\n{figure.title}")
    for measure in figure.measures:
        _print_measure(measure)
    for finding in figure.findings:
        print(
            f"   {_plain(finding.text):<92} {_spread(finding.value, finding.unit)}{_end(finding)}"
        )


def print_targets(figures: Iterable[Figure]) -> None:
    """Prints what was to be reached, and whether it was."""
    print("\nTargets")
    for finding in _targets(figures):
        verdict = "reached" if finding.reached else "MISSED"
        value = _number(finding.value.median) + (f" {finding.unit}" if finding.unit else "")
        print(f"   {verdict:<8} {_plain(finding.text):<100} {value:<12} {finding.target}")


def save(figure: Figure, directory: Path) -> None:
    """Writes a figure as JSON."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{figure.key}.json"
    path.write_text(json.dumps(asdict(figure), indent=1, ensure_ascii=False) + "\n", "utf-8")


def load(directory: Path, keys: Iterable[str]) -> list[Figure]:
    """Reads those figures that are there."""
    paths = [directory / f"{key}.json" for key in keys]
    return [Figure.load(json.loads(p.read_text("utf-8"))) for p in paths if p.exists()]


def write_pieces(figures: Sequence[Figure], directory: Path) -> None:
    """Writes what the page of the docs includes: the runs, the targets, and a piece a figure."""
    directory.mkdir(parents=True, exist_ok=True)
    pieces = {"run": _run_piece(figures), "targets": _targets_piece(figures)}
    pieces.update({figure.key: _figure_piece(figure) for figure in figures})
    for key, lines in pieces.items():
        directory.joinpath(f"{key}.markdown").write_text("\n".join(lines) + "\n", "utf-8")


def _targets(figures: Iterable[Figure]) -> list[Finding]:
    findings = [it for figure in figures for it in figure.findings if it.order]
    return sorted(findings, key=lambda finding: finding.order)


# For a terminal


def _print_measure(measure: Measure) -> None:
    reference = f", x {measure.reference}" if measure.reference else ""
    unit = f" [{measure.unit}]" if measure.unit else ""
    by = f", by {measure.size}" if measure.size else ""
    print(f"   {measure.title}{unit}{reference} (middle half){by}")
    sizes = _sizes(measure)
    if measure.size:
        print(f"      {'':<34}" + "".join(f"{size:<32,}" for size in sizes))
    for name, values in measure.values.items():
        cells = [_cell(measure, name, size) if size in values else "-" for size in sizes]
        print(f"      {name:<34}" + "".join(f"{cell:<32}" for cell in cells))
    for name, why in measure.cannot.items():
        print(f"      {name:<34}{'' if name in measure.values else 'cannot: '}{why}")


def _cell(measure: Measure, name: str, size: int) -> str:
    value = _number(measure.values[name][size].median)
    if name == measure.reference or name not in measure.ratios:
        return value
    ratio = measure.ratios[name].get(size)
    return value if ratio is None else f"{value} x {_spread(ratio)}"


def _spread(spread: Spread, unit: str = "") -> str:
    text = _number(spread.median) + (f" {unit}" if unit else "")
    if spread.rounds > 1:
        text += f" ({_number(spread.low)} to {_number(spread.high)})"
    return text


def _end(finding: Finding) -> str:
    if not finding.target:
        return ""
    return f"   {finding.target}: {'reached' if finding.reached else 'MISSED'}"


def _plain(text: str) -> str:
    return text.replace("`", "")


def _number(value: float) -> str:
    """Three digits that count."""
    if value >= 100:
        return f"{value:,.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.1 or not value else f"{value:.2g}"


def _sizes(measure: Measure) -> list[int]:
    return sorted({size for values in measure.values.values() for size in values})


# For the docs


def _run_piece(figures: Sequence[Figure]) -> list[str]:
    """What was run where; figures of several runs are told apart."""
    runs: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for figure in figures:
        facts = tuple(figure.run.items())
        runs.setdefault(facts, []).append(figure.key)
    lines = []
    for facts, keys in runs.items():
        if len(runs) > 1:
            lines += [f"Of {', '.join(f'`{key}`' for key in keys)}:", ""]
        lines += ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in facts), ""]
    return lines


def _targets_piece(figures: Sequence[Figure]) -> list[str]:
    lines = ["| measure | target | median | middle half | |", "|---|---|---|---|---|"]
    for finding in _targets(figures):
        unit = f" {finding.unit}" if finding.unit else ""
        half = f"{_number(finding.value.low)} to {_number(finding.value.high)}"
        lines.append(
            f"| {finding.text} | {finding.target} | {_number(finding.value.median)}{unit}"
            f" | {half if finding.value.rounds > 1 else ''}"
            f" | {'reached' if finding.reached else '**missed**'} |"
        )
    return lines


def _figure_piece(figure: Figure) -> list[str]:
    lines: list[str] = []
    for measure in figure.measures:
        lines += [*_table(measure), ""]
    cannot = {name: why for measure in figure.measures for name, why in measure.cannot.items()}
    if cannot:
        reasons = "; ".join(f"{name} ({why})" for name, why in cannot.items())
        lines += [f"Not everywhere here: {reasons}.", ""]
    if figure.findings:
        lines += ["| | median | middle half |", "|---|---|---|"]
    for finding in figure.findings:
        unit = f" {finding.unit}" if finding.unit else ""
        value = finding.value
        half = f"{_number(value.low)} to {_number(value.high)}" if value.rounds > 1 else ""
        lines.append(f"| {finding.text} | {_number(value.median)}{unit} | {half} |")
    return lines


def _table(measure: Measure) -> list[str]:
    """Medians, and after an x the medians of the ratios."""
    sizes = _sizes(measure)
    if len(sizes) > _FEW:
        sizes = [sizes[0], sizes[len(sizes) // 2], sizes[-1]]
    title = measure.title + (f", {measure.unit}" if measure.unit else "")
    if measure.reference:
        title += f" (x {measure.reference})"
    heads = [f"{size:,} {measure.size}" for size in sizes] if measure.size else [""]
    lines = [f"| {' | '.join([title, *heads])} |", "|---" + "|---:" * len(heads) + "|"]
    for name, values in measure.values.items():
        cells = [_table_cell(measure, name, size) if size in values else "-" for size in sizes]
        lines.append(f"| {' | '.join([name, *cells])} |")
    return lines


def _table_cell(measure: Measure, name: str, size: int) -> str:
    value = _number(measure.values[name][size].median)
    ratio = measure.ratios.get(name, {}).get(size)
    if ratio is None or name == measure.reference:
        return value
    return f"{value} (x {_number(ratio.median)})"
