"""Frames of WebSocket at both ends: with the fast path and without it, the same must come of them.

An input is a byte that chooses the end and how the stream ends, one for the limit of messages, one
for the size of the pieces (0: all at once), and what is on the wire.
"""

from __future__ import annotations

from tests.transport.ends import CLOSE, PONG
from tests.transport.scripts import (
    ACCEPTED,
    DIALED,
    FAST,
    LIBRARY,
    Answer,
    Event,
    Lost,
    Message,
    Script,
    play,
)

LIMITS = (1000, 10, 125, 126, 65535)
#: Of a link that this end has given up: after each there was a close frame with that code.
FAULTS = {1002, 1007, 1008, 1009}
MOST_BYTES = 2**20  # to read at once


def run(data: bytes) -> None:
    if len(data) < 3:
        return
    flags, limit, size = data[0], LIMITS[data[1] % len(LIMITS)], data[2]
    stream = data[3:]
    pieces = [stream[start : start + (size or len(stream))] for start in starts(stream, size)]
    side = DIALED if flags & 1 else ACCEPTED
    seen = []
    for path in (LIBRARY, FAST):
        script = Script(pieces, reset=bool(flags & 2))
        seen.append(play(side, script, path, [limit]))
        assert max(script.asked, default=0) <= MOST_BYTES
    assert seen[0] == seen[1], seen
    check(seen[1], limit)


def starts(stream: bytes, size: int) -> range:
    return range(0, len(stream), size or len(stream) or 1)


def check(seen: list[Event], limit: int) -> None:
    *events, lost = seen
    assert isinstance(lost, Lost)
    closes = [event for event in events if isinstance(event, Answer) and event.opcode == CLOSE]
    assert all(isinstance(event, (Message, Answer)) for event in events)
    assert all(event.opcode in (PONG, CLOSE) for event in events if isinstance(event, Answer))
    for event in events:
        if isinstance(event, Message):
            data = event.data.encode() if isinstance(event.data, str) else event.data
            assert len(data) <= limit
    assert closes == events[-1:] or not closes, "something behind a close"
    if lost.drain:
        assert lost.code in FAULTS
        assert closes[0].body[:2] == lost.code.to_bytes(2, "big")
    elif closes:
        assert lost.code not in (1006, 1015)
    else:
        assert lost.code == 1006
