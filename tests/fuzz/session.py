"""What comes in after the welcome, and the account of a session: nothing hostile spoils it.

An input is lines: a frame of the other side, or a letter and a count in JSON. ``w`` is a frame that
we write, ``q`` one that waits, ``r`` a link on which the other side says that it has so many.
"""

from __future__ import annotations

import json

from wse_sync import WSE_ERROR, JsonProtocol, WseError
from wse_sync.core.delivery import Delivery, Limits, Outgoing
from wse_sync.core.failures import error_from, payload_of
from wse_sync.core.peer import Ack, Answer, Call, Message, Peer
from wse_sync.protocol import Data

PROTOCOL = JsonProtocol()
PEER = Peer(PROTOCOL)
INTERNAL = set(PROTOCOL.internal_types.values())
CODES = {str(WSE_ERROR.MESSAGE_PROCESSING_ERROR), str(WSE_ERROR.PROTOCOL_VIOLATION)}
MOST = 20  # frames that are kept


def run(data: bytes) -> None:
    account = Account()
    for line in data.split(b"\n"):
        before = account.state
        try:
            account.step(line)
        except WseError as error:
            assert error.code in CODES
            str(error).encode()
            assert account.state == before, "a violation has changed something"
            return
        account.check()


class Account:
    """A session, next to the numbers of all that was written and of what the other side has."""

    def __init__(self) -> None:
        self.session = Delivery(Limits(max_frames=MOST), "id")
        self.wrote = 0
        self.waits = 0

    @property
    def state(self) -> tuple[int, ...]:
        session = self.session
        return (
            session.forgotten,
            session.acknowledged,
            session.kept_bytes,
            session.received,
            len(session.waiting),
        )

    def step(self, line: bytes) -> None:
        if line[:1] == b"w" and self.waits == 0:
            self.wrote += 1
            if self.session.wrote(frame(self.wrote)):
                self.session.trim()
        elif line[:1] == b"q":
            self.waits += 1
            self.session.wait(frame(self.wrote + self.waits))
        elif line[:1] == b"r":
            self.resume(line[1:])
        else:
            self.receive(line)

    def resume(self, text: bytes) -> None:
        try:
            count = json.loads(text)
        except (ValueError, RecursionError):
            return
        possible = self.session.can_resume(count)
        assert not possible or (type(count) is int and 0 <= count <= self.wrote)
        if not possible:
            return
        self.session.resume(count)
        sent: list[Data] = []

        def write(data: Data) -> bool:
            sent.append(data)
            return True

        assert self.session.write_waiting(write, lambda _: True)
        self.wrote, self.waits = self.wrote + self.waits, 0
        # All that the other side lacks, each once and in order.
        assert sent == [frame(number).data for number in range(count + 1, self.wrote + 1)]
        self.session.trim()

    def receive(self, line: bytes) -> None:
        event = PEER.receive(line)
        if isinstance(event, Ack):
            self.session.acknowledge(event.count)
            return
        self.session.receive(len(line), float)
        if isinstance(event, Answer):
            check_answer(event)
        elif isinstance(event, Call):
            assert type(event.name) is str and event.name not in INTERNAL and event.stamp
        else:
            assert isinstance(event, Message)
            assert type(event.type) is str and event.type not in INTERNAL

    def check(self) -> None:
        session = self.session
        assert 0 <= session.forgotten <= self.wrote
        assert 0 <= session.acknowledged <= self.wrote
        kept = self.wrote - session.forgotten
        assert kept <= MOST or kept == 1
        numbers = range(session.forgotten + 1, self.wrote + 1)
        assert session.kept_bytes == sum(len(frame(number).data) for number in numbers)


def frame(number: int) -> Outgoing:
    """The one with this number; longer ones are among them."""
    return Outgoing(f"{number}" * (number % 3 + 1), "x")


def check_answer(answer: Answer) -> None:
    """Whatever the payload of a failure is, it becomes an error, and that can be told again."""
    if answer.failed:
        error = error_from(answer.payload, "procedure")
        assert error.code and type(error.code) is str
        str(error)
        repr(error)
        payload_of(error, "procedure")
