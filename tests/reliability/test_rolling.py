"""Rolling restarts."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.reliability.rolling import roll


def test_39_a_rolling_restart_loses_no_answer_and_runs_no_call_twice(tmp_path: Path) -> None:
    rolled = roll(restarts=4, clients=8, directory=tmp_path)
    # What was begun has run once, and its caller has the answer; the rest never began.
    assert rolled.begun == Counter(rolled.answered)
