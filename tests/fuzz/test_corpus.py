"""The corpus, and mutations of it, pass; and what it is there to notice is noticed (promise 6)."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.fuzz import __main__ as command
from tests.fuzz import mutate
from tests.fuzz.targets import CORPUS, SHARES, corpus, line_of, load
from tests.support import PATIENCE
from wse_sync import protocol
from wse_sync.core import delivery, handshake
from wse_sync.loop import loop
from wse_sync.transport import framing

every_target = pytest.mark.parametrize("name", SHARES)
MUTATIONS = {"framing": 1000, "server": 200, "client": 200}


@pytest.fixture(autouse=True)
def loop_at_rest(nothing_left_behind: None) -> Iterator[None]:
    """The loop's thread would linger for a second after each test."""
    yield
    loop.rest(PATIENCE)


@every_target
def test_6_the_corpus_and_mutations_of_it_hold(name: str) -> None:
    target, known = load(name), corpus(name)
    for data in known:
        target(data)
    others = mutate.inputs(known, seed=0)
    for data in itertools.islice(others, MUTATIONS.get(name, 2000)):
        target(data)


@every_target
def test_the_corpus_is_small_and_has_everything_once(name: str) -> None:
    path = CORPUS / f"{name}.txt"
    assert path.stat().st_size < 200_000
    known = corpus(name)
    assert len(set(known)) == len(known)
    assert "\n".join(map(line_of, known)) + "\n" == path.read_text("ascii")


def reads_infinities(patch: pytest.MonkeyPatch) -> None:
    scan = vars(json.JSONDecoder(parse_constant=float))["scan_once"]
    patch.setattr(protocol, "_scan", scan)


def takes_long_lengths(patch: pytest.MonkeyPatch) -> None:
    measure = framing.Input._measure

    def lax(self: framing.Input, length: int) -> tuple[int, int, bool]:
        return (*measure(self, length)[:2], True)

    patch.setattr(framing.Input, "_measure", lax)


def takes_any_count(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(handshake, "_is_count", lambda value: isinstance(value, (int, float)))


def forgets_too_much(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(delivery.Delivery, "_check", lambda self, count, least: None)


#: For each target a fault that its corpus has to notice.
FAULTS: dict[str, Callable[[pytest.MonkeyPatch], Any]] = {
    "protocol": reads_infinities,
    "framing": takes_long_lengths,
    "handshake": takes_any_count,
    "session": forgets_too_much,
    "server": forgets_too_much,
    "client": forgets_too_much,
}


@every_target
def test_the_corpus_notices_a_fault(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    target = load(name)
    FAULTS[name](monkeypatch)
    with pytest.raises(Exception):  # noqa: B017  (whatever it breaks)
        for data in corpus(name):
            target(data)


def test_mutations_are_the_same_for_the_same_seed() -> None:
    known = corpus("session")
    first, again, other = (
        list(itertools.islice(mutate.inputs(known, seed), 50)) for seed in (1, 1, 2)
    )
    assert first == again != other
    assert len(set(first)) > 40


def test_the_command_works_without_a_guide(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["fuzz", "--inputs", "50", "--targets", "protocol,session"])
    monkeypatch.setattr(command, "guided", command.unguided)
    assert command.main() == 0
    told = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in told] == [
        ["protocol", "39", "inputs"],
        ["session", "10", "inputs"],
    ]
