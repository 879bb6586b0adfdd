"""Two ends of a session, made of the core alone, and the plain lists that they are held to.

A ``World`` has a client, a server and links of bytes between them, but no socket, thread or clock:
its time is a number. Whatever may happen is a method of the world.

The lists are in ``Ledger``. It has what an end sends in one session; what a link has had of that,
what arrived at the other end, and what that has acknowledged, are counts of its first entries. So
a frame that is lost, comes twice or comes out of turn fails an assertion where it comes.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import count
from typing import NamedTuple

from wse_sync import JsonProtocol
from wse_sync.core.calls import Calls, OpenCall
from wse_sync.core.delivery import ACK_BYTES, ACK_FRAMES, ACK_SECONDS, Delivery, Limits, Outgoing
from wse_sync.core.handshake import (
    ClientHandshake,
    Grant,
    Hello,
    Offer,
    Quest,
    ServerHandshake,
    SessionGrant,
    Welcome,
)
from wse_sync.core.peer import Ack, Answer, Call, Peer
from wse_sync.protocol import Data

ALL = 2**62  # of the bytes
_PROTOCOL = JsonProtocol()
_CID, _QUEST = "ann", "quest"
_LENGTH_BYTES = 4


class Item(NamedTuple):
    """What an end wants the other one to see, once."""

    number: int
    kind: str
    type: str
    size: int


class Ledger:
    """What one end sends in one session, and how far that has come."""

    def __init__(self, items: list[Item] | None = None) -> None:
        self.items = items or []
        self.written = 0  # a link has had so many of them, this one or an earlier one
        self.arrived = 0
        self.acknowledged = 0
        self._is_over = False

    def write(self, number: int) -> None:
        """A link takes a frame, for the first time or again."""
        assert not self._is_over, "written after the end of its session"
        if self.written < len(self.items) and self.items[self.written].number == number:
            self.written += 1
        else:
            again = self.items[self.acknowledged : self.written]
            assert number in [item.number for item in again], "written out of turn"

    def arrive(self, number: int) -> None:
        """The other end receives a frame."""
        assert self.arrived < self.written, "more arrives than was written"
        assert self.items[self.arrived].number == number, "lost, repeated or out of order"
        self.arrived += 1

    def acknowledge(self, number: int) -> None:
        """The other end says how many it has."""
        assert self.acknowledged <= number <= self.arrived, "acknowledged what did not arrive"
        self.acknowledged = number

    def forget(self, number: int) -> None:
        """Nobody waits for this call any more: if no link has had it, none gets it."""
        unwritten = self.items[self.written :]
        self.items[self.written :] = [item for item in unwritten if item.number != number]

    def written_calls(self) -> set[int]:
        """The calls that may have arrived."""
        return {item.number for item in self.items[: self.written] if item.kind == "call"}

    def successor(self) -> Ledger:
        """That of the next session: with what no link has had, but for answers."""
        self._is_over = True
        return Ledger([item for item in self.items[self.written :] if item.kind != "answer"])


def messages_in(items: list[Item]) -> dict[str, int]:
    """How many messages of which types."""
    return dict(Counter(item.type for item in items if item.kind == "message"))


class Pipe:
    """One direction of a link: frames, each with its length before it, in pieces of any size."""

    def __init__(self) -> None:
        #: Of who writes here.
        self.ledger: Ledger | None = None
        #: How many frames it takes before it says no; None: all.
        self.room: int | None = None
        self._is_cut = False
        self._under_way = bytearray()
        self._arrived = bytearray()

    def write(self, data: Data) -> bool:
        """Takes a frame; False if there is no room."""
        if self.room is not None:
            if not self.room:
                return False
            self.room -= 1
        self.put(data)
        return True

    def put(self, data: Data) -> None:
        """Takes a frame, room or not. Who writes into a pipe that was cut does not notice."""
        if not self._is_cut:
            encoded = data.encode() if isinstance(data, str) else data
            self._under_way += len(encoded).to_bytes(_LENGTH_BYTES, "big") + encoded

    def cut(self, keep: int) -> bool:
        """Loses what is under way from some byte on; whether that is inside a frame."""
        del self._under_way[keep % (len(self._under_way) + 1) :]
        self._is_cut = True
        rest = self._arrived + self._under_way
        while (end := _end_of_frame(rest)) <= len(rest):
            del rest[:end]
        return len(rest) > 0

    def carry(self, size: int) -> list[str]:
        """Moves so many bytes to the other end; returns the frames that are complete there."""
        self._arrived += self._under_way[:size]
        del self._under_way[:size]
        frames = []
        while (end := _end_of_frame(self._arrived)) <= len(self._arrived):
            frames.append(self._arrived[_LENGTH_BYTES:end].decode())
            del self._arrived[:end]
        return frames


def _end_of_frame(stream: bytearray) -> int:
    return _LENGTH_BYTES + int.from_bytes(stream[:_LENGTH_BYTES], "big")


class Link:
    """Two pipes."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.up, self.down = Pipe(), Pipe()


class End:
    """What both ends do with the core: as the runtime does it, without its threads and locks."""

    def __init__(self, world: World, limits: Limits) -> None:
        self.world = world
        self.limits = limits
        self.peer = Peer(_PROTOCOL)
        self.calls: Calls[int] = Calls()
        #: The calls of its user that have not ended, and their stamps.
        self.open: dict[int, str] = {}
        self.out: Pipe | None = None
        self.begin(Delivery(), Ledger())

    def begin(self, delivery: Delivery, ledger: Ledger) -> None:
        """A session, or what is there instead of one."""
        self.delivery, self.ledger = delivery, ledger
        #: Calls of the other end that are not answered yet.
        self.requests: list[Call] = []
        self._arrived = 0
        self._owed: list[int] = []  # sizes of those that the other end has not heard of
        self._owed_since = 0.0
        self._progress = (0, 0, 0)

    # What users do; False if a bound keeps them from it

    def send(self, type: str, size: int) -> bool:
        """Sends a message."""
        number = next(self.world.numbers)
        data = self.peer.pack_message(type, [number, "x" * size])
        if not self._may_send(data):
            return False
        self._post(Item(number, "message", type, len(data)), Outgoing(data, type))
        return True

    def call(self, size: int, timeout: float | None) -> bool:
        """Calls a procedure."""
        number, stamp = next(self.world.numbers), self.calls.new_stamp()
        data = self.peer.pack_call("add", [number, "x" * size], stamp)
        if not self._may_send(data):
            return False
        deadline = None if timeout is None else self.world.now + timeout
        self.calls.open(stamp, "add", 0.0, deadline, number)
        self.open[number] = stamp
        self._post(Item(number, "call", "add", len(data)), Outgoing(data, "add", stamp))
        return True

    def answer(self, index: int) -> bool:
        """Answers a call of the other end; every third fails."""
        call = self.requests[index % len(self.requests)]
        number, of = next(self.world.numbers), call.payload[0]
        pack = self.peer.pack_result if of % 3 else self.peer.pack_failure
        data = pack(call.stamp, [number, of])
        if not self._may_send(data):
            return False
        self.requests.remove(call)
        self._post(Item(number, "answer", "", len(data)), Outgoing(data, is_answer=True))
        return True

    def forget(self, index: int) -> None:
        """Waits no more for the answer to one of its calls."""
        call = self.calls.close(list(self.open.values())[index % len(self.open)])
        assert call is not None, "an open call is gone"
        self._give_up([call])

    def _give_up(self, calls: list[OpenCall[int]]) -> None:
        for call in calls:
            del self.open[call.reply]
            self.ledger.forget(call.reply)

    # Out

    def has_room(self, size: int) -> bool:
        """Whether a frame of so many bytes may be sent now."""
        raise NotImplementedError

    def crowded(self) -> None:
        """More is kept than may be."""

    def _may_send(self, data: Data) -> bool:
        may = self.has_room(len(data))
        self.world.seen["held back by a bound"] += not may
        return may

    def _post(self, item: Item, frame: Outgoing) -> None:
        self.world.seen[f"{item.kind} between links"] += self.out is None
        self.ledger.items.append(item)
        if self.out is None or self.delivery.waiting or not self._write_at_once(frame):
            self.delivery.wait(frame)

    def _write_at_once(self, frame: Outgoing) -> bool:
        if not self.delivery.is_session:
            return self._write(frame.data)
        crowded = self.delivery.wrote(frame)
        if not self._write(frame.data):
            self.delivery.take_back()
            return False
        if self.delivery.ack_rides:
            self.world.seen["acknowledged along with a frame"] += 1
            self._acknowledge()
        assert len(self._owed) < ACK_FRAMES
        if crowded:
            self.crowded()
        return True

    def _write(self, data: Data) -> bool:
        assert self.out is not None
        taken = self.out.write(data)
        if taken:
            self.ledger.write(_number_in(data))
        return taken

    def attach(self, out: Pipe) -> None:
        """Goes on over a link."""
        self.out = out
        out.ledger = self.ledger
        self.flush()

    def flush(self) -> None:
        """Writes what waits, as far as the link takes it."""
        self.delivery.write_waiting(self._write, self._is_wanted)

    def _is_wanted(self, frame: Outgoing) -> bool:
        return frame.stamp is None or frame.stamp in self.calls

    # In

    def receive(self, source: Pipe, data: Data) -> None:
        """Takes a frame that comes after the welcome."""
        event = self.peer.receive(data)
        if isinstance(event, Ack):
            self.ledger.acknowledge(event.count)
            self.delivery.acknowledge(event.count)
            return
        assert source.ledger is not None
        source.ledger.arrive(event.payload[0])
        if isinstance(event, Answer):
            self._settle(event)
        elif isinstance(event, Call):
            self.requests.append(event)
        if self.delivery.is_session:
            self._count(len(data), at_once=not isinstance(event, (Answer, Call)))

    def _settle(self, answer: Answer) -> None:
        of = answer.payload[1]
        call = self.calls.close(answer.stamp)
        if call is None:
            assert of not in self.open, "the answer to an open call is dropped"
            return
        assert call.reply == of, "the answer to another call"
        assert answer.failed == (of % 3 == 0)
        del self.open[of]

    def _count(self, size: int, *, at_once: bool) -> None:
        self._arrived += 1
        if not self._owed:
            self._owed_since = self.world.now
        self._owed.append(size)
        many, much = len(self._owed) >= ACK_FRAMES, sum(self._owed) >= ACK_BYTES
        if self.delivery.receive(size, lambda: self.world.now, at_once=at_once):
            assert many or much, "acknowledged too often"
            self.world.seen[f"acknowledged by {'bytes' if much else 'frames'}"] += 1
            self._acknowledge()
        else:
            assert not much
            assert not (many and at_once)

    def announce(self) -> int:
        """How many frames arrived, which the other end is about to be told."""
        self._owed = []
        number = self.delivery.tell()
        assert number == self._arrived, "tells of more or less than arrived"
        return number

    def _acknowledge(self) -> None:
        assert self.out is not None
        self.out.put(self.peer.pack_ack(self.announce()))

    # Time passes, sessions end

    def tick(self) -> None:
        """Does what is due."""
        late = self.calls.expire(self.world.now)
        self.world.seen["call timed out"] += len(late)
        self._give_up(late)
        deadline = self.calls.next_deadline()
        assert deadline is None or deadline > self.world.now
        due = self.delivery.ack_due
        if self.out is not None and due is not None and due <= self.world.now:
            self.world.seen["acknowledged by time"] += 1
            self._acknowledge()

    def fail_calls(self, expected: set[int], keep: set[str]) -> None:
        """The calls that cannot be answered any more end."""
        failed = {call.reply for call in self.calls.drain(keep)}
        assert failed == expected, "other calls fail than those that cannot be answered"
        self.world.seen["call failed"] += len(failed)
        for number in failed:
            del self.open[number]

    # What holds at any time

    def check(self) -> None:
        """Whether what the end has is what the lists say."""
        delivery, ledger = self.delivery, self.ledger
        assert len(self.calls) == len(self.open)
        assert all(stamp in self.calls for stamp in self.open.values())
        unwritten = sum(item.size for item in ledger.items[ledger.written :])
        assert delivery.waiting_bytes >= unwritten, "more waits: calls that nobody waits for"
        assert delivery.waiting or not delivery.waiting_bytes
        if not delivery.is_session:
            assert delivery.kept_bytes == delivery.received == 0
            return
        progress = (delivery.received, delivery.acknowledged, delivery.forgotten)
        assert all(now >= before for now, before in zip(progress, self._progress))
        self._progress = progress
        assert delivery.received == self._arrived
        assert delivery.acknowledged == ledger.acknowledged <= delivery.forgotten
        kept = ledger.items[delivery.forgotten : ledger.written]
        assert delivery.kept_bytes == sum(item.size for item in kept)
        assert len(kept) <= max(1, self.limits.max_frames)
        total = delivery.kept_bytes + delivery.waiting_bytes
        assert delivery.waits_for_fewer(2) or (
            total <= self.limits.max_bytes and delivery.waits_for_fewer(self.limits.max_frames + 1)
        )
        assert len(self._owed) < 2 * ACK_FRAMES
        assert delivery.ack_due == (self._owed_since + ACK_SECONDS if self._owed else None)


def _number_in(data: Data) -> int:
    """Of the item that a frame is: the first thing in its payload."""
    found = re.search(r"\[(\d+)", str(data))
    assert found is not None
    return int(found[1])


class Client(End):
    """Dials, and goes on where it was."""

    def __init__(self, world: World, limits: Limits) -> None:
        super().__init__(world, limits)
        self.link: Link | None = None
        self._handshake: ClientHandshake | None = None

    def dial(self) -> Link:
        """Leaves the link that it has, and says hi on another."""
        self.lose()
        self.link = self.world.open_link()
        offer = Offer(True)
        if self.delivery.is_session:
            offer = Offer(True, self.delivery.id, self.announce())
        self._handshake = ClientHandshake(_PROTOCOL, offer)
        self.link.up.put(self._handshake.hi(_CID, {}))
        return self.link

    def lose(self) -> None:
        """Notices that its link is over, or believes it."""
        self.link = self.out = None
        if not self.delivery.is_session:
            self.start_over(None)

    def leave(self) -> None:
        """Ends its session on purpose."""
        self.lose()
        self.start_over(None)

    def receive_from(self, link: Link, data: str) -> None:
        """Takes what a link brings, if it is still the one."""
        if link is not self.link:
            return
        if self.out is not None:
            self.receive(link.down, data)
            return
        assert self._handshake is not None
        event = self._handshake.receive(data)
        if isinstance(event, Quest):
            link.up.put(self._handshake.solution(event.payload))
        else:
            assert isinstance(event, Welcome)
            assert event.grant is not None
            self._enter(link, event.grant)

    def _enter(self, link: Link, grant: Grant) -> None:
        assert grant.cid == _CID
        session = grant.session
        if session is not None and session.resumed:
            self.world.seen["resumed"] += 1
            assert session.id == self.delivery.id
            assert session.received == self.ledger.arrived, "the server has more or less than that"
            self.ledger.acknowledge(session.received)
            self.delivery.resume(session.received)
        else:
            self.start_over(session)
        self.attach(link.up)

    def start_over(self, session: SessionGrant | None) -> None:
        """Another session, or none: what no link has had goes on, the rest is lost."""
        ledger, before = self.ledger, self.delivery
        if before.is_session:
            lost = messages_in(ledger.items[ledger.acknowledged : ledger.written])
            assert before.lost_messages() == lost
            self.world.seen["messages lost"] += len(lost)
        self.fail_calls(ledger.written_calls() & set(self.open), before.unwritten_stamps())
        following = before.successor()
        if session is not None:
            following = before.successor(self.limits, session.id)
        self.begin(following, ledger.successor())

    def has_room(self, size: int) -> bool:
        if self.delivery.is_session:
            return self.delivery.has_room(size)
        # What waits has to fit into the session that comes.
        total = self.delivery.waiting_bytes + size
        fits = self.delivery.waits_for_fewer(self.limits.max_frames)
        return not self.delivery.waiting or (fits and total <= self.limits.max_bytes)


class Session(End):
    """A client at the server, from its first welcome until it is given up."""

    def __init__(self, server: Server, number: int) -> None:
        super().__init__(server.world, server.limits)
        self.server = server
        self.link: Link | None = None
        self._lost_at = 0.0
        if server.keeps_sessions:
            self.begin(Delivery(server.limits, f"secret {number}"), Ledger())

    def welcome(self, stranger: Stranger, *, resumed: bool) -> None:
        """Goes on over the link of a stranger."""
        session = None
        if self.delivery.is_session:
            received = self.announce()
            session = SessionGrant(self.delivery.id, resumed, received, self.server.window)
        self.link = stranger.link
        self.link.down.put(stranger.handshake.welcome("hello", Grant(_CID, session)))
        self.attach(self.link.down)

    def resume(self, stranger: Stranger, received: int) -> None:
        """Takes the client back."""
        self.world.seen["taken over"] += self.out is not None
        self.ledger.acknowledge(received)
        self.delivery.resume(received)
        self.welcome(stranger, resumed=True)

    def lose(self) -> None:
        """Notices that its link is over, or believes it."""
        self.out = None
        self._lost_at = self.world.now
        if not self.delivery.is_session:
            self.end()

    def tick(self) -> None:
        super().tick()
        if self.out is None and self._lost_at + self.server.window <= self.world.now:
            self.world.seen["expired"] += 1
            self.end()

    def end(self) -> None:
        """Is given up."""
        ledger, delivery = self.ledger, self.delivery
        first = delivery.forgotten if delivery.is_session else ledger.written
        assert delivery.lost_messages(unwritten=True) == messages_in(ledger.items[first:])
        self.fail_calls(set(self.open), set())
        self.out = None
        ledger.successor()
        self.server.sessions.remove(self)

    def has_room(self, size: int) -> bool:
        if self.out is not None and self.out.room != 0 and not self.delivery.waiting:
            return True  # it goes out at once
        fits = self.delivery.has_room(size)
        if not fits:
            self.end()
        return fits

    def crowded(self) -> None:
        # The server does not wait: then there is less to resume with, but no less than may be.
        self.world.seen["trimmed"] += 1
        self.delivery.trim()
        more = self.ledger.items[self.delivery.forgotten - 1 : self.ledger.written]
        assert len(more) > 1
        total = sum(item.size for item in more)
        assert len(more) > self.limits.max_frames or total > self.limits.max_bytes


class Stranger:
    """A link that is not welcomed yet."""

    def __init__(self, link: Link, *, is_asked: bool) -> None:
        self.link = link
        self.handshake = ServerHandshake(_PROTOCOL)
        self.hello: Hello | None = None
        self.is_known = False
        self._is_asked = is_asked

    def receive(self, data: str) -> None:
        """Takes a frame of the handshake."""
        event = self.handshake.receive(data)
        if isinstance(event, Hello):
            self.hello = event
            if self._is_asked:
                self.link.down.put(self.handshake.ask(_QUEST))
                return
        else:
            assert event.response == _QUEST
        self.is_known = True


class Server:
    """Knows sessions by their secrets.

    Args:
        world: Where it lives.
        limits: Of what each session may keep.
        window: How long a session outlives its link.
        challenges: Whether it asks strangers a quest.
    """

    def __init__(self, world: World, limits: Limits, window: int, challenges: bool) -> None:
        self.world = world
        self.limits = limits
        self.window = window
        self.keeps_sessions = True
        self.sessions: list[Session] = []
        self._challenges = challenges
        self._strangers: list[Stranger] = []
        self._numbers = count(1)

    def arrive(self, link: Link) -> None:
        """A stranger comes."""
        self._strangers.append(Stranger(link, is_asked=self._challenges))

    def receive_from(self, link: Link, data: str) -> None:
        """Takes what a link brings, if it is still of interest."""
        for stranger in self._strangers:
            if stranger.link is link:
                stranger.receive(data)
        for session in self.sessions:
            if session.link is link and session.out is not None:
                session.receive(link.up, data)

    @property
    def known(self) -> list[Stranger]:
        """Those who may be let in."""
        return [stranger for stranger in self._strangers if stranger.is_known]

    def admit(self, stranger: Stranger) -> None:
        """Lets a stranger in: back into his session, or into another one."""
        self._strangers.remove(stranger)
        assert stranger.hello is not None
        assert stranger.hello.offer is not None
        _, session_id, received = stranger.hello.offer
        for session in self.sessions:
            if session.delivery.is_session and session.delivery.id == session_id:
                assert session.link is not None
                if session.link.number > stranger.link.number:
                    # The client has been here on a later link already: this one is dead.
                    self.world.seen["overtaken"] += 1
                    return
                assert received == session.ledger.arrived, "the client has more or less than that"
                possible = session.delivery.can_resume(received)
                assert possible == (received >= session.delivery.forgotten)
                if possible:
                    session.resume(stranger, received)
                    return
                self.world.seen["has trimmed too much"] += 1
                session.end()
                break
        session = Session(self, next(self._numbers))
        self.sessions.append(session)
        session.welcome(stranger, resumed=False)

    def tick(self) -> None:
        """Does what is due."""
        for session in self.sessions.copy():
            session.tick()

    def restart(self, *, keeps_sessions: bool) -> None:
        """Forgets everybody; from now on there may be no sessions."""
        self.keeps_sessions = keeps_sessions
        self._strangers.clear()
        for session in self.sessions.copy():
            session.end()


class World:
    """All there is.

    Args:
        client_limits: Of what the client may keep.
        server_limits: Of what the server may keep for it.
        window: How long a session outlives its link at the server.
        challenges: Whether the server asks strangers a quest.
        seen: Counts what has happened, so that a test can tell that it did.
    """

    def __init__(
        self,
        client_limits: Limits,
        server_limits: Limits,
        window: int,
        *,
        challenges: bool = False,
        seen: Counter[str] | None = None,
    ) -> None:
        self.now = 0.0
        self.numbers = count(1)
        self.seen: Counter[str] = Counter() if seen is None else seen
        self.links: list[Link] = []
        self.client = Client(self, client_limits)
        self.server = Server(self, server_limits, window, challenges)

    def open_link(self) -> Link:
        """A link from the client to the server."""
        link = Link(len(self.links))
        self.links.append(link)
        self.server.arrive(link)
        return link

    @property
    def ends(self) -> list[End]:
        """The client, and what the server has of it."""
        return [self.client, *self.server.sessions]

    def carry_up(self, link: Link, size: int = ALL) -> None:
        """Brings so many bytes from the client to the server."""
        for data in link.up.carry(size):
            self.server.receive_from(link, data)

    def carry_down(self, link: Link, size: int = ALL) -> None:
        """Brings so many bytes from the server to the client."""
        for data in link.down.carry(size):
            self.client.receive_from(link, data)

    def cut(self, link: Link, up: int, down: int) -> None:
        """Cuts a link; so many of the bytes that are under way still arrive."""
        inside = link.up.cut(up), link.down.cut(down)
        self.seen["cut inside a frame"] += any(inside)

    def pass_time(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds
        self.client.tick()
        self.server.tick()

    def exchange(self) -> None:
        """The link of the client brings what is under way, and strangers are let in."""
        for _ in range(4):  # hi, quest, solution, welcome
            if self.client.link is not None:
                self.carry_up(self.client.link)
            for stranger in self.server.known:
                self.server.admit(stranger)
            if self.client.link is not None:
                self.carry_down(self.client.link)

    def answer_all(self) -> None:
        """Answers the open calls, as far as the bounds allow."""
        for end in self.ends:
            while end.requests and end.answer(0):
                pass

    def check(self) -> None:
        """Whether everything is as the lists say."""
        for end in self.ends:
            end.check()

    def settle(self) -> None:
        """Gives the two ends a link and time: whatever was sent arrives, or was reported."""
        self.client.dial()
        self.exchange()
        assert self.client.out is not None, "the client is not let in"
        for session in self.server.sessions.copy():
            if session.link is not self.client.link:
                session.lose()
        # In each round something is settled, or a second of a window passes.
        items = sum(2 * len(end.requests) + len(end.ledger.items) for end in self.ends)
        rounds = items + self.server.window + 10
        while not self._is_settled():
            rounds -= 1
            assert rounds > 0, "something hangs"
            self.answer_all()
            self.exchange()
            self.pass_time(1)
            self.check()
        assert len(self.server.sessions) == 1

    def _is_settled(self) -> bool:
        waits = any(end.open or end.requests or end.delivery.waiting for end in self.ends)
        if waits or len(self.server.sessions) > 1:
            return False
        return all(
            end.ledger.arrived == len(end.ledger.items)
            and (end.ledger.acknowledged == end.ledger.arrived or not end.delivery.is_session)
            for end in self.ends
        )
