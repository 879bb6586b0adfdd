"""New inputs from known ones, without a guide: what fuzzes where atheris is not installed."""

from __future__ import annotations

import random
from collections.abc import Iterator

__all__ = ["inputs"]

MOST_BYTES = 4096

#: What JSON, WSE and headers of frames are made of.
TOKENS = [
    *(b"[", b"]", b"{", b"}", b'"', b",", b":", b"\n", b"null", b"true", b"false", b"-", b"."),
    *(b"0", b"1", b"1e999", b"9" * 20, b"NaN", b"Infinity", b"\\ud800", b"\\u0000", b"\xff"),
    *(b"\xed\xa0\x80", b"\xe2\x82\xac", b'"~wse:hi"', b'"~wse:challenge"', b'"~wse:welcome"'),
    *(b'"~wse:ack"', b'"~wse:response"', b'"~wse:response-err"', b'"wse"', b'"v"', b'"cid"'),
    *(b'"session"', b'"id"', b'"received"', b'"resumed"', b'"window"', b'"meta"', b'"identity"'),
    *(b"\x81\x00", b"\x01\x00", b"\x80\x00", b"\x89\x00", b"\x88\x02\x03\xe8", b"\x81\x7e\x00"),
    *(b"!\n", b"!c\n", b"!p\n", b"!b", b"$ID", b"w", b"q", b"r0", b'["~wse:ack",1]\n'),
]


def inputs(known: list[bytes], seed: int) -> Iterator[bytes]:
    """Mutations of the known inputs, without end; the same for the same seed."""
    chance = random.Random(seed)
    while True:
        data = bytearray(chance.choice(known))
        for _ in range(chance.choice((1, 1, 2, 4, 8))):
            _mutate(data, known, chance)
        yield bytes(data[:MOST_BYTES])


def _mutate(data: bytearray, known: list[bytes], chance: random.Random) -> None:
    """One change, somewhere."""
    start = chance.randint(0, len(data))
    end = min(len(data), start + chance.choice((0, 1, 1, 4, 16, 64)))
    kind = chance.randrange(6)
    if kind == 0:
        del data[start:end]
    elif kind == 1:
        data[start:end] = chance.choice(TOKENS)
    elif kind == 2:
        data[start:start] = chance.choice(TOKENS)
    elif kind == 3:
        data[start:end] = bytes(chance.randrange(256) for _ in range(end - start))
    elif kind == 4:
        other = chance.choice(known)
        cut = chance.randint(0, len(other))
        data[start:end] = other[cut : cut + chance.choice((4, 16, 64, 256))]
    else:
        data[start:start] = data[start:end] * chance.choice((1, 2, 20))
