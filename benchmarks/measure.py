"""Runs blocks in turn, and says how they compare."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, NamedTuple, TypeVar

__all__ = [
    "Effort",
    "Figure",
    "Finding",
    "Measure",
    "Spread",
    "WrongResult",
    "interleave",
    "ratios",
]

ResultT = TypeVar("ResultT")
ChoiceT = TypeVar("ChoiceT")


class WrongResult(Exception):
    """Something was lost, mixed up or not as it must be: there is no figure."""


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Attributes:
        quick: Fewer sizes, and less time.
        trial: As few rounds as can be, to see that everything runs.
    """

    quick: bool
    trial: bool = False

    @property
    def name(self) -> str:
        if self.trial:
            return "trial"
        return self.choose("quick", "full")

    def choose(self, quick: ChoiceT, full: ChoiceT) -> ChoiceT:
        return quick if self.quick else full

    def seconds(self, quick: float, full: float) -> float:
        """For all rounds together."""
        return 0.0 if self.trial else self.choose(quick, full)


def interleave(
    blocks: Mapping[str, Callable[[], ResultT]], seconds: float, at_least: int = 3
) -> list[dict[str, ResultT]]:
    """Runs each block once a round, in a new random order each time, until the time is over.

    Whatever else the machine does meets all of them alike. The first round warms up and is dropped.

    Args:
        blocks: By name.
        seconds: For all rounds together.
        at_least: So many rounds are run also if they take longer.
    """
    rounds: list[dict[str, ResultT]] = []
    end = None
    while end is None or len(rounds) < at_least or perf_counter() < end:
        names = random.sample(list(blocks), len(blocks))
        results = {name: blocks[name]() for name in names}
        if end is None:
            end = perf_counter() + seconds
        else:
            rounds.append({name: results[name] for name in blocks})
    return rounds


def ratios(rounds: Sequence[Mapping[str, float]], one: str, other: str) -> list[float]:
    """One block by another of the same round."""
    return [results[one] / results[other] for results in rounds]


class Spread(NamedTuple):
    """The median of some values, and between which values the middle half of them lies."""

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        if len(values) < 2:
            return cls(values[0], values[0], values[0], 1)
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high, len(values))


@dataclass
class Measure:
    """One quantity of several contestants, for one or several sizes of the work.

    Attributes:
        title: What it is.
        unit: Of the values.
        size: What the sizes count; empty if there is but one.
        reference: The contestant that the ratios are taken to.
        values: By contestant and size.
        ratios: Likewise.
        cannot: Why a contestant is not there.
    """

    title: str
    unit: str
    size: str = ""
    reference: str = ""
    values: dict[str, dict[int, Spread]] = field(default_factory=dict)
    ratios: dict[str, dict[int, Spread]] = field(default_factory=dict)
    cannot: dict[str, str] = field(default_factory=dict)

    def add(self, size: int, rounds: Sequence[Mapping[str, float]]) -> None:
        """Enters what each had in each round."""
        for name in rounds[0]:
            values = [results[name] for results in rounds]
            self.values.setdefault(name, {})[size] = Spread.of(values)
            if self.reference in rounds[0]:
                spread = Spread.of(ratios(rounds, name, self.reference))
                self.ratios.setdefault(name, {})[size] = spread

    @classmethod
    def load(cls, data: dict[str, Any]) -> Measure:
        """Reads what JSON made of it."""
        data = dict(data)
        for key in ("values", "ratios"):
            data[key] = {
                name: {int(size): Spread(*spread) for size, spread in by_size.items()}
                for name, by_size in data[key].items()
            }
        return cls(**data)


@dataclass
class Finding:
    """One number in a sentence, maybe with a target.

    Attributes:
        text: What it is.
        value: Its median, and the middle half.
        unit: Of the value; ratios have none.
        at_most: What the median is to reach.
        at_least: Likewise.
        order: Where it stands in the table of targets, if it has one.
    """

    text: str
    value: Spread
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None
    order: int = 0

    @property
    def target(self) -> str:
        """What was to be reached; empty if nothing."""
        unit = f" {self.unit}" if self.unit else ""
        if self.at_most is not None:
            return f"at most {self.at_most:g}{unit}"
        return "" if self.at_least is None else f"at least {self.at_least:g}{unit}"

    @property
    def reached(self) -> bool:
        if self.at_most is not None:
            return self.value.median <= self.at_most
        return self.at_least is None or self.value.median >= self.at_least

    @classmethod
    def load(cls, data: dict[str, Any]) -> Finding:
        """Reads what JSON made of it."""
        return cls(**{**data, "value": Spread(*data["value"])})


@dataclass
class Figure:
    """What one part of the benchmarks found."""

    key: str
    title: str
    measures: list[Measure] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    run: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, data: dict[str, Any]) -> Figure:
        """Reads what JSON made of it."""
        measures = [Measure.load(measure) for measure in data["measures"]]
        findings = [Finding.load(finding) for finding in data["findings"]]
        return cls(data["key"], data["title"], measures, findings, data["run"])
