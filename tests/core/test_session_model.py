"""Sessions against a model: whatever happens to the links, the lists are right.

The normal run takes a part of the steps. ``WSE_MODEL_STEPS`` says how many there shall be; then
they are other ones each time, and a failure says how to repeat it.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.core.model import ALL, End, Link, World
from wse_sync.core.delivery import Limits

NORMAL_STEPS = 3000
STEPS_OF_ONE_RUN = 60
WINDOW = 10

LIMITS = st.just(Limits()) | st.builds(
    Limits,
    st.sampled_from([math.inf, math.inf, 200, 5000, 300_000]),
    st.sampled_from([math.inf, 1, 3, 20, 100]),
)
SIZES = st.sampled_from([0, 0, 0, 50, 500, 5000, 100_000])
COUNTS = st.sampled_from([1, 1, 2, 5, 70, 140])
INDEXES = st.integers(0, 1000)
PIECES = st.integers(1, 100) | st.integers(1, 100_000) | st.just(ALL)
ROOMS = st.none() | st.integers(0, 5) | st.integers(0, 100)
SECONDS = st.sampled_from([0.25, 0.25, 0.5, 1, 2, 5])
TROUBLE = [
    "a link is cut",
    "a link is cut",
    "the client loses its link",
    "the server loses a link",
    "the client dials",
    "a hi comes late",
    "the client ends its session",
    "the server begins anew",
    "all is well for a while",
]


class Sessions(RuleBasedStateMachine):
    """Lets anything happen."""

    #: What has happened in all runs.
    seen: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.world = World(Limits(), Limits(), 1)

    @initialize(client=LIMITS, server=LIMITS, window=st.integers(1, 10), challenges=st.booleans())
    def begin(self, client: Limits, server: Limits, window: int, challenges: bool) -> None:
        self.world = World(client, server, window, challenges=challenges, seen=self.seen)
        self.world.client.dial()
        self.world.exchange()

    def end(self, index: int) -> End:
        """The client, or the newest session at the server."""
        return self.world.ends[-1 if index % 2 else 0]

    def link(self, index: int) -> Link:
        """One of the last links."""
        return self.world.links[-1 - index % min(4, len(self.world.links))]

    # Users

    @rule(who=INDEXES, count=COUNTS, type=st.sampled_from("ab"), size=SIZES)
    def send(self, who: int, count: int, type: str, size: int) -> None:
        for _ in range(count):
            self.end(who).send(type, size)

    @rule(who=INDEXES, count=COUNTS, size=SIZES, timeout=st.none() | SECONDS)
    def call(self, who: int, count: int, size: int, timeout: float | None) -> None:
        for _ in range(count):
            self.end(who).call(size, timeout)

    @rule(who=INDEXES, count=COUNTS, which=INDEXES)
    def answer(self, who: int, count: int, which: int) -> None:
        end = self.end(who)
        for _ in range(min(count, len(end.requests))):
            if not end.answer(which):
                break

    @rule(who=INDEXES, which=INDEXES)
    def forget(self, who: int, which: int) -> None:
        end = self.end(who)
        if end.open:
            end.forget(which)

    @rule(who=INDEXES, room=ROOMS)
    def make_room(self, who: int, room: int | None) -> None:
        """The link takes so many frames more, and then none for a while."""
        end = self.end(who)
        if end.out is not None:
            end.out.room = room
            end.flush()

    # Links

    @rule(which=INDEXES, up=PIECES, down=PIECES)
    def carry(self, which: int, up: int, down: int) -> None:
        self.world.carry_up(self.link(which), up)
        self.world.carry_down(self.link(which), down)

    @rule()
    def exchange(self) -> None:
        self.world.exchange()

    @rule()
    def serve(self) -> None:
        self.world.exchange()
        self.world.answer_all()
        self.world.exchange()

    @precondition(lambda self: self.world.client.out is not None)
    @rule(up=INDEXES, down=INDEXES, notice=st.sampled_from(["both", "both", "client", "server"]))
    def be_cut_off(self, up: int, down: int, notice: str) -> None:
        """The link is cut, and one end notices, or both."""
        link = self.world.links[-1]
        self.world.cut(link, up, down)
        self.world.exchange()
        if notice != "server":
            self.world.client.lose()
        if notice != "client":
            self.lose_at_server(link)

    def lose_at_server(self, link: Link) -> None:
        for session in self.world.server.sessions.copy():
            if session.link is link and session.out is not None:
                session.lose()

    @rule(up=ROOMS, down=ROOMS)
    def come_back(self, up: int | None, down: int | None) -> None:
        """The client dials, wherever it is; the link takes so many frames, and then none."""
        link = self.world.client.dial()
        link.up.room, link.down.room = up, down
        self.world.exchange()

    @precondition(lambda self: self.world.server.known)
    @rule(which=INDEXES)
    def admit(self, which: int) -> None:
        known = self.world.server.known
        self.world.server.admit(known[which % len(known)])

    @rule(seconds=SECONDS)
    def pass_time(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    # One rule for all that ends something, or there would be little to end.

    @rule(what=st.sampled_from(TROUBLE), which=INDEXES, up=INDEXES, down=INDEXES)
    def trouble(self, what: str, which: int, up: int, down: int) -> None:
        world = self.world
        if what == "a link is cut":
            world.cut(self.link(which), up, down)
        elif what == "the client loses its link":
            world.client.lose()
        elif what == "the server loses a link":
            self.lose_at_server(self.link(which))
        elif what == "the client dials":
            world.client.dial()
        elif what == "a hi comes late":
            # Its client is there already, on the next link.
            late = world.client.dial()
            world.client.dial()
            world.exchange()
            world.carry_up(late)
            world.exchange()
        elif what == "the client ends its session":
            world.client.leave()
        elif what == "the server begins anew":
            world.server.restart(keeps_sessions=which % 4 != 0)
        else:
            world.settle()

    @invariant()
    def agrees_with_the_lists(self) -> None:
        self.seen["steps"] += 1
        self.world.check()


def test_37_whatever_happens_to_the_links_everything_arrives_once_and_in_order() -> None:
    asked = os.environ.get("WSE_MODEL_STEPS")
    steps = int(asked or NORMAL_STEPS)
    seen = Sessions.seen
    seen.clear()
    run_state_machine_as_test(
        Sessions,
        settings=settings(
            max_examples=steps // 40,  # some runs end early
            stateful_step_count=STEPS_OF_ONE_RUN,
            derandomize=asked is None,
            print_blob=True,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
    assert seen["steps"] >= steps
    # Or it does not show what it seems to.
    for event in ("resumed", "taken over", "cut inside a frame", "expired", "call failed"):
        assert seen[event] > 0, f"{event}: not among {seen}"


# Some of what may happen, one by one


def connected(
    client: Limits | None = None, server: Limits | None = None, *, challenges: bool = False
) -> World:
    """A world in which the client has just been let in."""
    world = World(client or Limits(), server or Limits(), WINDOW, challenges=challenges)
    world.client.dial()
    world.exchange()
    return world


def cut_off(world: World) -> None:
    """Cuts the link, with what is under way, and both ends notice."""
    world.cut(world.links[-1], 0, 0)
    world.client.lose()
    world.server.sessions[-1].lose()


@pytest.mark.parametrize("challenges", [False, True])
def test_38_a_call_in_flight_is_answered_over_the_next_link(challenges: bool) -> None:
    world = connected(challenges=challenges)
    (session,) = world.server.sessions
    for caller, callee in ((world.client, session), (session, world.client)):
        assert caller.call(0, None)
        world.exchange()
        cut_off(world)
        assert callee.answer(0)
        assert caller.open
        world.client.dial()
        world.exchange()
        assert not caller.open
    assert world.seen["resumed"] == world.seen["answer between links"] == 2
    world.settle()


@pytest.mark.parametrize("kept", range(0, 60, 3))
def test_37_a_frame_that_was_cut_in_the_middle_is_sent_again(kept: int) -> None:
    world = connected()
    ends = world.ends
    for end in ends:
        assert end.send("a", 5)
        assert end.call(5, None)
    world.cut(world.links[-1], kept, kept)
    world.exchange()
    cut_off(world)
    for end in ends:
        assert end.send("b", 0)
    world.client.dial()
    world.exchange()
    assert [end.ledger.arrived for end in ends] == [3, 3]
    world.settle()
    assert world.ends == ends


def test_37_frames_that_are_written_again_are_lost_again() -> None:
    world = connected()
    for _ in range(20):
        assert world.client.send("a", 0)
    for room in (3, 7, 1, 20):
        cut_off(world)
        link = world.client.dial()
        link.up.room = room
        world.exchange()
    assert world.client.ledger.arrived == 20
    world.settle()
    assert world.seen["resumed"] == 5


def test_39_when_the_session_has_expired_each_frame_goes_out_fails_or_is_reported() -> None:
    world = connected()
    client = world.client
    assert client.send("arrived", 0)
    world.exchange()
    world.cut(world.links[-1], 0, 0)
    assert client.send("written", 0)
    assert client.call(0, None)
    cut_off(world)
    assert client.send("unwritten", 0)
    assert client.call(0, None)
    world.pass_time(WINDOW)
    assert not world.server.sessions
    lost = client.delivery.lost_messages()
    client.dial()
    world.exchange()
    assert lost == {"arrived": 1, "written": 1}
    assert world.seen["call failed"] == 1
    assert [item.type for item in client.ledger.items] == ["unwritten", "add"]
    assert len(client.open) == len(world.server.sessions[0].requests) == 1
    world.settle()


def test_39_what_was_half_written_again_is_reported_once() -> None:
    world = connected()
    world.cut(world.links[-1], 0, 0)
    for _ in range(3):
        assert world.client.send("a", 0)
    world.client.lose()
    assert world.client.send("b", 0)
    world.client.dial().up.room = 1
    world.exchange()
    assert world.seen["resumed"] == 1
    world.server.restart(keeps_sessions=True)
    assert world.client.delivery.lost_messages() == {"a": 3}
    world.client.dial()
    world.exchange()
    assert [item.type for item in world.client.ledger.items] == ["b"]
    world.settle()


def test_39_a_server_that_begins_anew_is_told_what_it_has_not_been_told() -> None:
    for keeps_sessions in (True, False):
        world = connected()
        world.server.restart(keeps_sessions=keeps_sessions)
        assert world.client.send("into the void", 0)
        world.client.lose()
        assert world.client.send("unwritten", 0)
        world.settle()
        assert world.client.delivery.is_session == keeps_sessions
        assert [item.type for item in world.client.ledger.items] == ["unwritten"]


def test_41_a_client_takes_its_session_back_from_a_link_that_is_not_known_to_be_dead() -> None:
    world = connected()
    (session,) = world.server.sessions
    world.cut(world.links[-1], 0, 0)
    for end in world.ends:
        assert end.send("a", 0)
    world.client.dial()
    world.exchange()
    assert world.server.sessions == [session]
    assert world.seen["taken over"] == 1
    assert [end.ledger.arrived for end in world.ends] == [1, 1]
    world.settle()


def test_41_what_the_old_link_brings_until_then_counts() -> None:
    world = connected()
    old = world.links[-1]
    for _ in range(3):
        assert world.client.send("a", 0)
    world.client.dial()
    world.carry_up(old)
    assert world.client.ledger.arrived == 3
    world.exchange()
    assert world.client.ledger.acknowledged == 3
    world.settle()


def test_a_hi_that_comes_late_takes_nothing_from_the_link_that_came_before_it() -> None:
    world = connected()
    late, link = world.client.dial(), world.client.dial()
    world.exchange()
    world.carry_up(late)
    world.exchange()
    assert world.seen["overtaken"] == 1
    assert world.server.sessions[0].link is link
    world.settle()


def test_a_server_that_could_not_keep_everything_begins_anew() -> None:
    world = connected(server=Limits(max_frames=2))
    (session,) = world.server.sessions
    for _ in range(3):
        assert session.send("a", 0)
    cut_off(world)
    world.client.dial()
    world.exchange()
    assert world.seen["trimmed"] == world.seen["has trimmed too much"] == 1
    assert session not in world.server.sessions
    world.settle()


def test_a_client_waits_until_there_is_room() -> None:
    world = connected(client=Limits(max_frames=2))
    assert [world.client.send("a", 0) for _ in range(3)] == [True, True, False]
    world.exchange()
    assert not world.client.send("a", 0)
    world.pass_time(1)
    world.exchange()
    assert world.client.send("a", 0)
    world.settle()
