"""The benchmarks: the page shows what was measured, and what is wrong is no figure."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import cast

import pytest

from benchmarks import plots, report
from benchmarks.contestants import CONTESTANTS, ECHO, OURS, Entrant
from benchmarks.contestants.base import Client
from benchmarks.crowd import Crowd
from benchmarks.figures.callers import make_object, make_payload, make_payload_text, timed_add
from benchmarks.measure import Figure, Finding, Measure, Spread, WrongResult, interleave
from benchmarks.processes import Remote
from tests.conftest import MakeServer

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs" / "_static" / "performance"
RESULTS = ROOT / "benchmarks" / "results"
PAGE = (ROOT / "docs" / "explanation" / "performance.md").read_text("utf-8")


def measured() -> list[Figure]:
    # The order of the page is that in which its figures are measured.
    return sorted(
        report.load(RESULTS, [path.stem for path in RESULTS.glob("*.json")]),
        key=lambda figure: PAGE.index(f"/{figure.key}.markdown"),
    )


def test_the_command_measures_and_writes_what_it_found(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "run.py"), "--trial", str(tmp_path)]
    subprocess.run([*command, "call", "messages"], check=True, timeout=120, cwd=tmp_path)
    call, messages = report.load(tmp_path, ["call", "messages"])
    for figure in (call, messages):
        first = figure.measures[0]
        wrong = [name for name in first.cannot if CONTESTANTS[name].installed]
        assert wrong == [name for name in ("rpyc", "xmlrpc") if name in wrong]
        assert {OURS, "bare, one lock"} <= set(first.values)
        assert all(spread.low > 0 for it in first.values.values() for spread in it.values())
    # One round warms up, and three count; the target is the ratio that the figure shows.
    ratio = call.measures[0].ratios[OURS][40]
    assert ratio.rounds == call.measures[0].values[ECHO][40].rounds == 3
    assert [(it.value, it.target) for it in call.findings if it.order == 1] == [
        (ratio, "at most 0.9")
    ]
    written = {path.name for path in tmp_path.iterdir()}
    pictures = {"call.png", "messages.png"} if plots.can_draw() else set()
    assert written == pictures | {
        "call.json",
        "call.markdown",
        "messages.json",
        "messages.markdown",
        "run.markdown",
        "targets.markdown",
    }
    assert "| run | trial |" in (tmp_path / "run.markdown").read_text("utf-8")


def test_the_page_shows_what_the_results_say(tmp_path: Path) -> None:
    figures = measured()
    assert figures
    report.write_pieces(figures, tmp_path)
    written = {path.name: path.read_text("utf-8") for path in tmp_path.iterdir()}
    shown = {path.name: path.read_text("utf-8") for path in PICTURES.glob("*.markdown")}
    assert shown == written


def test_the_page_includes_every_table_and_plot() -> None:
    pieces = [path.name for path in PICTURES.iterdir()]
    assert [name for name in pieces if f"../_static/performance/{name}" not in PAGE] == []


def test_a_figure_is_the_same_after_json() -> None:
    measure = Measure("time", "ms", "threads", "a", cannot={"c": "too slow"})
    measure.add(8, [{"a": 1.0, "b": 2.0}, {"a": 2.0, "b": 2.0}])
    finding = Finding("b / a", measure.ratios["b"][8], "", at_most=1.0, order=1)
    figure = Figure("key", "title", [measure], [finding], {"when": "now"})
    assert Figure.load(json.loads(json.dumps(asdict(figure)))) == figure


def test_a_ratio_is_the_median_of_those_of_the_rounds() -> None:
    measure = Measure("time", "ms", reference="a")
    measure.add(1, [{"a": 1.0, "b": 3.0}, {"a": 10.0, "b": 20.0}, {"a": 1.0, "b": 1.0}])
    assert measure.values["b"][1].median == 3.0
    assert measure.ratios["b"][1] == Spread(2.0, 1.5, 2.5, 3)


@pytest.mark.parametrize(
    ("finding", "reached"),
    [
        (Finding("", Spread.of([0.9]), at_most=0.9), True),
        (Finding("", Spread.of([0.91]), at_most=0.9), False),
        (Finding("", Spread.of([10.0]), at_least=10), True),
        (Finding("", Spread.of([9.9]), at_least=10), False),
    ],
)
def test_a_target_is_reached_or_missed(finding: Finding, reached: bool) -> None:
    assert finding.reached is reached


def test_every_block_runs_once_a_round_and_the_first_round_does_not_count() -> None:
    runs: list[str] = []
    rounds = interleave({name: partial(runs.append, name) for name in "ab"}, 0.0, 4)
    assert [set(row) for row in rounds] == [{"a", "b"}] * 4
    assert [set(runs[index : index + 2]) for index in range(0, 10, 2)] == [{"a", "b"}] * 5


class Wrong(Client):
    def add(self, payload: dict[str, int]) -> int:
        return 0


def test_a_wrong_result_is_no_figure() -> None:
    with pytest.raises(WrongResult):
        timed_add(Entrant(cast(Remote, None), Wrong()), make_payload())


def test_payloads_have_the_bytes_that_the_page_says() -> None:
    assert len(make_payload_text()) == 40
    for size in (120, 10**4):
        assert len(json.dumps(make_object(size), separators=(",", ":"))) == size


def test_each_target_is_one_row_with_a_figure_of_its_own() -> None:
    orders = [it.order for figure in measured() for it in figure.findings if it.target]
    # The memory of a connection and its threads are one line of the contract.
    assert sorted(orders) == sorted([*range(1, 14), 11])


def test_a_byte_that_is_not_what_was_sent_is_no_figure(make_server: MakeServer) -> None:
    server = make_server(lambda auth: auth.accept(auth.identity))
    contestant = CONTESTANTS[OURS]
    assert contestant.dialect is not None
    crowd = Crowd(server.url, contestant.dialect)
    try:
        crowd.grow(3)
        assert set(server.clients) == {"0", "1", "2"}
        server.broadcast("news", "hello")
        crowd.receive(contestant.frame("hello"))
        server.broadcast("news", "hallo")
        with pytest.raises(WrongResult):
            crowd.receive(contestant.frame("hello"))
    finally:
        crowd.close()
