"""What every transport promises: the accepted, the dialed, plain and over TLS, and the fake."""

from __future__ import annotations

import struct
import threading
import time
from functools import partial

import pytest

from tests.support import PATIENCE, Thread, wait_until
from tests.transport.ends import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    TEXT,
    UNKNOWN,
    End,
    Ends,
    Frame,
)
from wse_sync import clock
from wse_sync.protocol import Data
from wse_sync.transport.base import LinkLost

# Around the places where the length of a frame changes its form (RFC 6455, 5.2), and more than
# one read brings.
SIZES = [0, 1, 125, 126, 127, 65535, 65536, 65537, 300_000]
# "a", two, three and four bytes of UTF-8.
CHARACTERS = "aü€𝄞"
MAX_REASON_BYTES = 123


def close_body(code: int, reason: str = "") -> bytes:
    return struct.pack("!H", code) + reason.encode()


def end_of(lost: LinkLost) -> tuple[int, str, bool]:
    return lost.code, lost.reason, lost.drain


def failed(near: End, code: int) -> None:
    """The end has given up, has said so to the other side, and has not been heard out."""
    lost = near.lost()
    assert (lost.code, lost.drain) == (code, True)
    (answer,) = near.answers()
    assert answer.opcode == CLOSE
    assert answer.body[:2] == struct.pack("!H", code)


# Messages


@pytest.mark.parametrize("size", SIZES)
def test_messages_of_any_size_arrive_whole_and_as_what_they_were(ends: Ends, size: int) -> None:
    text = (CHARACTERS * size)[:size]
    binary = bytes(number % 251 for number in range(size))
    ends.far.send(text, binary)
    assert ends.near.read(2) == [text, binary]


def test_messages_arrive_in_order(ends: Ends) -> None:
    sent: list[Data] = []
    for number in range(300):
        sent += [f"text {number} {CHARACTERS}", b"binary %d" % number]
    ends.far.send(*sent)
    assert ends.near.read(len(sent)) == sent


def test_both_directions_work_at_once(ends: Ends) -> None:
    sent = [f"{number}" * 1000 for number in range(200)]
    ends.far.send(*sent)
    ends.near.send(*sent)
    there = Thread(lambda: ends.far.read(len(sent)))
    assert ends.near.read(len(sent)) == sent
    assert there.result() == sent


def test_a_message_that_comes_byte_by_byte_arrives_whole(ends: Ends) -> None:
    for byte in ends.far.transport.encode(CHARACTERS):
        ends.far.send_bytes(bytes([byte]))
    assert ends.near.read() == [CHARACTERS]


def test_everybody_may_send_the_same_bytes(ends: Ends) -> None:
    kind = type(ends.far.transport)
    ends.far.send_bytes(kind.encode("one for all") * 3)
    assert ends.near.read(3) == ["one for all"] * 3


def test_whatever_comes_is_life(ends: Ends) -> None:
    stream = ends.near.transport.stream
    for data in (ends.far.transport.encode("x"), ends.far.transport.encode_ping()):
        before = clock.monotonic()
        stream.last_received = 0.0
        ends.far.send_bytes(data)
        ends.far.send("end")
        while ends.near.read() != ["end"]:
            pass
        assert before <= stream.last_received <= clock.monotonic()


def test_a_clock_on_the_wall_that_jumps_changes_nothing(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    for now in (0.0, 2**33, 1.0):
        monkeypatch.setattr(time, "time", partial(float, now))
        ends.far.send_ping()
        ends.far.send("still here")
        assert ends.near.read() == ["still here"]
    assert all(frame.opcode == PONG for frame in ends.near.answers())


def test_nobody_starts_a_thread(ends: Ends) -> None:
    ends.far.send("x")
    ends.near.read()
    names = {thread.name for thread in threading.enumerate()}
    assert names <= {"MainThread", "wse-loop"}


# The limit


@pytest.mark.parametrize("limit", [1, 10, 125, 126, 65535, 65536])
def test_43_a_message_may_be_as_long_as_the_limit(ends: Ends, limit: int) -> None:
    ends.near.transport.max_message_bytes = limit
    ends.far.send("x" * limit, b"x" * limit)
    assert ends.near.read(2) == ["x" * limit, b"x" * limit]


@pytest.mark.parametrize("data", ["x", b"x"])
@pytest.mark.parametrize("limit", [1, 10, 125, 126, 65535, 65536])
def test_43_one_byte_more_ends_the_link(ends: Ends, limit: int, data: str | bytes) -> None:
    ends.near.transport.max_message_bytes = limit
    ends.far.send(data * (limit + 1))
    failed(ends.near, 1009)


def test_43_the_limit_is_of_bytes_not_of_characters(ends: Ends) -> None:
    ends.near.transport.max_message_bytes = 100
    ends.far.send("ü" * 50)
    assert ends.near.read() == ["ü" * 50]
    ends.far.send("ü" * 50 + "x")
    failed(ends.near, 1009)


def test_43_messages_before_the_one_that_is_too_long_still_arrive(ends: Ends) -> None:
    ends.near.transport.max_message_bytes = 10
    ends.far.send("one", "two", "x" * 11, "four")
    assert ends.near.read(2) == ["one", "two"]
    failed(ends.near, 1009)


def test_43_the_limit_is_of_one_message_not_of_all(ends: Ends) -> None:
    ends.near.transport.max_message_bytes = 10
    ends.far.send(*["x" * 10] * 50)
    assert ends.near.read(50) == ["x" * 10] * 50


def test_43_a_limit_that_is_raised_holds_for_what_comes_then(ends: Ends) -> None:
    ends.near.transport.max_message_bytes = 10
    ends.far.send("hi")
    assert ends.near.read() == ["hi"]
    ends.near.transport.max_message_bytes = 1000
    ends.far.send("x" * 1000)
    assert ends.near.read() == ["x" * 1000]
    ends.far.send("x" * 1001)
    failed(ends.near, 1009)


def test_43_a_length_is_refused_before_its_message_has_come(ends: Ends) -> None:
    """Without its body, where the header is read by us; otherwise after the limit is full."""
    ends.near.transport.max_message_bytes = 1000
    ends.far.send_frame(BINARY, b"x" * 1001, length=2**31)
    failed(ends.near, 1009)


def test_43_fragments_count_together(websockets: Ends) -> None:
    near, far = websockets
    near.transport.max_message_bytes = 10
    far.send_frame(TEXT, b"12345", fin=False)
    far.send_frame(CONT, b"67890")
    far.send_frame(BINARY, b"12345", fin=False)
    far.send_frame(CONT, b"6789", fin=False)
    far.send_frame(CONT, b"0")
    assert near.read(2) == ["1234567890", b"1234567890"]
    far.send_frame(TEXT, b"12345", fin=False)
    far.send_frame(CONT, b"6789", fin=False)
    far.send_frame(CONT, b"01", fin=False)
    failed(near, 1009)


def test_43_fragments_without_end_end_the_link(websockets: Ends) -> None:
    near, far = websockets
    near.transport.max_message_bytes = 1000
    far.send_frame(TEXT, b"x", fin=False)
    for _ in range(1000):
        far.send_frame(CONT, b"x", fin=False)
    failed(near, 1009)


def test_43_control_frames_do_not_count(ends: Ends) -> None:
    ends.near.transport.max_message_bytes = 10
    ends.far.send_frame(PING, b"x" * 100)
    ends.far.send_frame(PONG, b"x" * 100)
    ends.far.send("x" * 10)
    assert ends.near.read() == ["x" * 10]
    ends.far.send_close(4000, "a reason that is longer than the limit")
    assert end_of(ends.near.lost()) == (4000, "a reason that is longer than the limit", False)


def test_43_control_frames_between_fragments_do_not_count(websockets: Ends) -> None:
    near, far = websockets
    near.transport.max_message_bytes = 10
    far.send_frame(TEXT, b"x" * 9, fin=False)
    far.send_frame(PING, b"x" * 100)
    far.send_frame(CONT, b"x")
    assert near.read() == ["x" * 10]


# Pings


def test_a_ping_is_answered_through_write_with_what_it_brought(ends: Ends) -> None:
    ends.far.send_frame(PING, b"are you there?")
    ends.far.send_ping()
    ends.far.send("end")
    assert ends.near.read() == ["end"]
    assert ends.near.answers() == [Frame(PONG, b"are you there?"), Frame(PONG, b"")]


def test_a_pong_is_no_message_and_is_not_answered(ends: Ends) -> None:
    ends.far.send_frame(PONG, b"nobody asked")
    ends.near.send_ping()
    ends.near.send("x")
    ends.far.read()
    ends.far.send("end")
    assert ends.near.read() == ["end"]
    assert ends.near.answers() == []


def test_a_ping_between_fragments_is_answered_and_harms_nothing(websockets: Ends) -> None:
    near, far = websockets
    far.send_frame(TEXT, b"hel", fin=False)
    far.send_frame(PING, b"1")
    far.send_frame(CONT, b"lo", fin=False)
    far.send_frame(PING, b"2")
    far.send_frame(CONT, b"")
    assert near.read() == ["hello"]
    assert near.answers() == [Frame(PONG, b"1"), Frame(PONG, b"2")]


# Text


@pytest.mark.parametrize("body", [b"\xff", b"ok \xc3", b"\xed\xa0\x80", b"\xc0\x80"])
def test_6_text_that_is_not_utf8_ends_the_link(ends: Ends, body: bytes) -> None:
    ends.far.send_frame(TEXT, body)
    failed(ends.near, 1007)


def test_text_may_be_cut_within_a_character(websockets: Ends) -> None:
    body = CHARACTERS.encode()
    for cut in range(len(body) + 1):
        websockets.far.send_frame(TEXT, body[:cut], fin=False)
        websockets.far.send_frame(CONT, body[cut:])
    assert websockets.near.read(len(body) + 1) == [CHARACTERS] * (len(body) + 1)


def test_6_text_that_ends_within_a_character_ends_the_link(websockets: Ends) -> None:
    body = CHARACTERS.encode()
    websockets.far.send_frame(TEXT, body[:-2], fin=False)
    websockets.far.send_frame(CONT, body[-2:-1])
    failed(websockets.near, 1007)


def test_binary_need_not_be_utf8(websockets: Ends) -> None:
    websockets.far.send_frame(BINARY, b"\xff", fin=False)
    websockets.far.send_frame(CONT, b"\xfe")
    assert websockets.near.read() == [b"\xff\xfe"]


def test_empty_fragments_are_fragments(websockets: Ends) -> None:
    for opcode in (TEXT, BINARY):
        websockets.far.send_frame(opcode, b"", fin=False)
        websockets.far.send_frame(CONT, b"x", fin=False)
        websockets.far.send_frame(CONT, b"")
    websockets.far.send_frame(TEXT, b"", fin=False)
    websockets.far.send_frame(CONT, b"")
    assert websockets.near.read(3) == ["x", b"x", ""]


def test_an_empty_text_is_a_message_and_a_close_is_none(ends: Ends) -> None:
    ends.far.send("", b"", "")
    ends.far.send_close(1000)
    assert ends.near.read(3) == ["", b"", ""]
    assert end_of(ends.near.lost()) == (1000, "", False)


# What is no WebSocket


def test_6_an_unknown_opcode_ends_the_link(ends: Ends) -> None:
    ends.far.send_frame(UNKNOWN, b"what?")
    failed(ends.near, 1002)


@pytest.mark.parametrize("rsv", [1, 2, 4])
def test_6_a_reserved_bit_ends_the_link(websockets: Ends, rsv: int) -> None:
    """Among them that of permessage-deflate, which nobody has agreed on."""
    websockets.far.send_frame(TEXT, b"\xca\x48\xcd\xc9\xc9\x07\x00", rsv=rsv)
    failed(websockets.near, 1002)


def test_6_a_continuation_of_nothing_ends_the_link(websockets: Ends) -> None:
    websockets.far.send_frame(CONT, b"x")
    failed(websockets.near, 1002)


def test_6_a_message_within_a_message_ends_the_link(websockets: Ends) -> None:
    websockets.far.send_frame(TEXT, b"x", fin=False)
    websockets.far.send_frame(TEXT, b"y")
    failed(websockets.near, 1002)


def test_6_a_ping_in_fragments_ends_the_link(websockets: Ends) -> None:
    websockets.far.send_frame(PING, b"x", fin=False)
    failed(websockets.near, 1002)


@pytest.mark.parametrize("opcode", [PING, PONG, CLOSE])
def test_6_a_control_frame_that_is_too_long_ends_the_link(websockets: Ends, opcode: int) -> None:
    websockets.far.send_frame(opcode, b"\x03\xe8" + b"x" * 124)
    failed(websockets.near, 1002)


@pytest.mark.parametrize("body", [b"\x03", close_body(999), close_body(5000), close_body(1006)])
def test_6_a_close_that_says_nothing_lawful_ends_the_link(websockets: Ends, body: bytes) -> None:
    websockets.far.send_frame(CLOSE, body)
    failed(websockets.near, 1002)


@pytest.mark.parametrize("flood", [700, 2500])
@pytest.mark.parametrize("opcode", [PING, PONG, CONT])
def test_6_a_flood_of_frames_that_bring_nothing_ends_the_link(
    websockets: Ends, opcode: int, flood: int
) -> None:
    near, far = websockets
    far.send_frame(TEXT, b"x", fin=False)
    for _ in range(flood):
        far.send_frame(opcode, fin=opcode != CONT)
    far.send_frame(CONT)
    if flood == 700:
        assert near.read() == ["x"]
        return
    lost = near.lost()
    assert (lost.code, lost.reason, lost.drain) == (1008, "wse.rate-limit", True)
    *pongs, close = near.answers()
    assert close == Frame(CLOSE, close_body(1008, "wse.rate-limit"))
    assert len(pongs) <= (1500 if opcode == PING else 0)


# Ends


@pytest.mark.parametrize("reason", ["", "wse.by-server", CHARACTERS])
@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1009, 1011, 1012, 1013, 4000])
def test_a_close_brings_its_code_and_reason_and_is_answered(
    ends: Ends, code: int, reason: str
) -> None:
    """The other side has closed, so there is nothing to be heard out, whatever the code."""
    ends.far.send_close(code, reason)
    assert end_of(ends.near.lost()) == (code, reason, False)
    (answer,) = ends.near.answers()
    assert answer.opcode == CLOSE


def test_the_answer_to_a_close_arrives(ends: Ends) -> None:
    ends.far.send_close(1000, "bye")
    ends.near.lost()
    lost = ends.far.lost()
    assert lost.code == 1000
    assert not lost.drain


def test_a_close_without_a_code_is_1005(ends: Ends) -> None:
    ends.far.send_frame(CLOSE)
    assert end_of(ends.near.lost()) == (1005, "", False)


@pytest.mark.parametrize("character", CHARACTERS)
@pytest.mark.parametrize("length", [30, 123, 124, 1000])
def test_a_long_reason_is_cut_between_characters(ends: Ends, character: str, length: int) -> None:
    reason = character * length
    room = MAX_REASON_BYTES // len(character.encode())
    ends.far.send_close(4000, reason)
    assert end_of(ends.near.lost()) == (4000, reason[:room], False)


def test_messages_before_a_close_still_arrive(ends: Ends) -> None:
    ends.far.send("one", "two")
    ends.far.send_close(1000, "bye")
    ends.far.send("three")
    assert ends.near.read(2) == ["one", "two"]
    assert end_of(ends.near.lost()) == (1000, "bye", False)


def test_the_end_of_the_link_without_a_close_is_1006(ends: Ends) -> None:
    ends.far.send("last words")
    ends.far.flush()
    ends.far.abort()
    assert ends.near.read() == ["last words"]
    assert end_of(ends.near.lost()) == (1006, "", False)
    assert ends.near.answers() == []


@pytest.mark.parametrize("cut", [1, 2, 3, 5, 20])
def test_the_end_within_a_frame_is_1006(ends: Ends, cut: int) -> None:
    ends.far.send_bytes(ends.far.transport.encode("x" * 300)[:cut])
    ends.far.flush()
    ends.far.abort()
    assert end_of(ends.near.lost()) == (1006, "", False)


def test_a_reset_is_1006(websockets: Ends) -> None:
    websockets.far.reset()
    assert end_of(websockets.near.lost()) == (1006, "", False)


def test_abort_wakes_the_reader_from_another_thread(ends: Ends) -> None:
    got: list[object] = []

    def read_on() -> None:
        while True:
            got.append(ends.near.transport.read())

    reading = Thread(read_on)
    ends.far.send("x")
    wait_until(lambda: got)
    ends.near.abort()
    with pytest.raises(LinkLost) as caught:
        reading.result()
    assert end_of(caught.value) == (1006, "", False)


def test_abort_may_come_often_and_late(ends: Ends) -> None:
    for _ in range(3):
        ends.near.abort()
    assert ends.near.lost().code == 1006
    ends.near.close()
    ends.near.abort()


def test_the_peer_has_an_address(ends: Ends) -> None:
    for end in ends:
        assert end.transport.peer


# Sending


def test_frames_of_many_threads_never_mix(ends: Ends) -> None:
    """Messages of several, pongs, and sizes that no socket takes at once."""
    ends.far.send("warm up")
    ends.near.read()
    sizes = [1, 100, 5_000, 200_000]

    def send_all(writer: int) -> None:
        for number in range(30):
            size = sizes[(writer + number) % len(sizes)]
            ends.near.send(f"{writer} {number} " + chr(97 + writer) * size)

    def ping() -> None:
        for _ in range(50):
            ends.far.send_ping()

    pinging = Thread(ping)
    answering = Thread(lambda: ends.near.transport.read())
    writers = [Thread(partial(send_all, writer)) for writer in range(4)]
    received = Thread(lambda: ends.far.read(120)).result(6 * PATIENCE)
    for thread in (*writers, pinging):
        thread.result()
    following = [0] * 4
    for message in received:
        assert isinstance(message, str)
        writer, number, body = message.split(" ")
        assert int(number) == following[int(writer)]
        following[int(writer)] += 1
        assert body == chr(97 + int(writer)) * len(body)
    ends.far.send("end")
    assert answering.result() == "end"
