"""Bad networks. The wire carries packets between two hosts, the proxy works on every machine."""

from __future__ import annotations

import contextlib
import random
import threading
from typing import Any

import pytest

from tests.reliability.networks import (
    HEARTBEAT,
    NETWORKS,
    Network,
    Pair,
    talk,
)
from tests.reliability.weather import WEATHERS
from tests.support import Recorder, pass_time, payloads, wait_event, wait_until
from wse_sync import WseConnection

SEED = random.SystemRandom().randrange(10**9)
TURNS = 12


@pytest.fixture(params=list(NETWORKS))
def network(request: pytest.FixtureRequest, endpoints: contextlib.ExitStack) -> Network:
    try:
        made = NETWORKS[request.param](SEED)
    except OSError as error:
        pytest.skip(f"no packets here, the proxy has to do: {error}")
    endpoints.callback(made.close)
    return made


@pytest.mark.parametrize("name", list(WEATHERS))
def test_37_in_bad_weather_nothing_is_lost_doubled_or_swapped(network: Network, name: str) -> None:
    with Pair(network, WEATHERS[name]) as pair:
        talk(pair, TURNS, SEED)


@pytest.mark.parametrize("silent", ["to_server", "to_client"])
def test_35_silence_of_one_direction_is_noticed_by_both_ends(network: Network, silent: str) -> None:
    with Pair(network) as pair:
        numbers = payloads(pair.server)
        pair.client.send("number", 1)
        numbers.wait_for(1)
        network.silence(to_server=silent == "to_server", to_client=silent == "to_client")
        pair.client.send("number", 2)
        pair.conn.send("any")
        # The time of the heartbeat is all that passes.
        pass_time(HEARTBEAT)
        pass_time(HEARTBEAT)
        wait_until(lambda: pair.is_lost, lambda: (pair.client, pair.story.items))
        network.calm()
        pair.client.send("number", 3)
        pair.wait_until_back()
        assert numbers.wait_for(3) == [1, 2, 3]
        assert pair.wrong.items == []


def test_38_a_client_whose_address_changes_comes_back_and_its_session_goes_on(
    network: Network,
) -> None:
    done, runs = threading.Event(), Recorder()

    def brew(conn: WseConnection, payload: Any) -> str:
        runs.add(payload)
        wait_event(done)
        return "tea"

    with Pair(network) as pair:
        pair.server.register("brew", brew)
        answer = pair.client.submit("brew", "green")
        numbers = payloads(pair.client)
        pair.conn.send("number", 1)
        numbers.wait_for(1)
        runs.wait_for(1)
        address = network.move()
        assert address != pair.conn.remote_addr
        done.set()
        pair.conn.send("number", 2)
        pass_time(HEARTBEAT)
        pass_time(HEARTBEAT)
        pair.wait_until_back()
        assert pair.conn.remote_addr == address
        assert answer.result(HEARTBEAT) == "tea"
        assert runs.items == ["green"]
        assert numbers.wait_for(2) == [1, 2]
        assert pair.wrong.items == []
