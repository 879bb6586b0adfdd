"""``kill -9`` of a server, whose clients then come to the next one."""

from __future__ import annotations

from tests.reliability.restart import most_likely, restart, spread
from wse_sync import Backoff

CLIENTS = 200
BACKOFF = Backoff(initial=0.5, factor=2.0, maximum=2.0)
DOUBT = 1e-10
"""How likely chance alone fails the test, for each of the ten numbers that it looks at."""


def test_31_39_clients_of_a_killed_server_all_come_back_without_a_stampede() -> None:
    seen = restart(CLIENTS, BACKOFF, outage=0.0, failures=2)
    # All were told the truth about what the dead server had of theirs, and all work again.
    fate = ("wse.client.rp.disconnect", [{"reading": 1}])
    assert seen.fates == {repr(fate): CLIENTS}
    assert seen.echoed == seen.users == CLIENTS
    for waits, attempts in zip(seen.drawn, seen.attempts):
        # Each attempt but the one before all this has a wait, which grows with the failures.
        assert [wait.attempt for wait in waits] == list(range(len(attempts) - 1))
        for wait, dialed in zip(waits, attempts[1:]):
            assert 0 <= wait.delay <= BACKOFF.ceiling(wait.attempt) <= BACKOFF.maximum
            assert dialed >= wait.moment + wait.delay
        # The first attempt of each that finds a server gets in. So all are back within the one
        # wait that they were in when it came, which the maximum of the backoff bounds.
        assert attempts[-2] < seen.up
    drawn = spread(seen.drawn, BACKOFF)
    assert max(drawn) <= most_likely(sum(drawn), 0.1, DOUBT), drawn
