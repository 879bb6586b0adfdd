"""What Autobahn's test suite asks of an end of a WebSocket (sections 1 to 7 and 10), as a table.

The suite expects each message back. Our ends are none that echo: here a message is a call of a
procedure that does, and whatever is no frame of WSE is closed with 1000. Pure framing is the same.
The numbers are those of the suite.
"""

from __future__ import annotations

import itertools
import json
import struct
from collections.abc import Iterator
from typing import NamedTuple

from tests.transport.ends import BINARY, CLOSE, CONT, PING, PONG, TEXT

__all__ = ["CASES", "Case", "Sent"]

NORMAL, PROTOCOL_ERROR, BAD_DATA = 1000, 1002, 1007


class Sent(NamedTuple):
    """A frame."""

    opcode: int
    body: bytes = b""
    fin: bool = True
    rsv: int = 0


class Case(NamedTuple):
    """What is sent, and what has to come of it.

    Attributes:
        frames: In order.
        echoes: The payloads that come back.
        pongs: The bodies of the pongs that come back.
        code: With which the end closes; None: it goes on, until it is closed.
        piece: So many bytes are sent at once; 0: all of them.
    """

    frames: list[Sent]
    echoes: list[str] = []  # noqa: RUF012  (a named tuple; nobody changes it)
    pongs: list[bytes] = []  # noqa: RUF012
    code: int | None = None
    piece: int = 0


Numbered = Iterator[tuple[str, Case]]


def call(payload: str) -> bytes:
    """A call of the procedure that returns its argument."""
    return json.dumps(["echo", payload, payload[:10]], ensure_ascii=False).encode()


def call_of(payload: bytes) -> bytes:
    """Likewise, with a payload of bytes that may be no text."""
    return b'["echo","' + payload + b'","1"]'


def fragments(body: bytes, *cuts: int, opcode: int = TEXT) -> list[Sent]:
    """A message, cut at these places."""
    edges = [0, *cuts, len(body)]
    parts = [body[start:end] for start, end in zip(edges, edges[1:])]
    return [
        Sent(CONT if number else opcode, part, fin=number == len(parts) - 1)
        for number, part in enumerate(parts)
    ]


def every(size: int, body: bytes) -> list[Sent]:
    """A message in fragments of so many bytes."""
    return fragments(body, *range(size, len(body), size))


def numbered(section: str, cases: list[Case]) -> Numbered:
    for number, case in enumerate(cases, 1):
        yield f"{section}.{number}", case


HELLO = "Hello, world!"
A_CALL = Sent(TEXT, call(HELLO))


def framing() -> Numbered:
    """1: messages of every size for which the header has another form."""
    for section, opcode in (("1.1", TEXT), ("1.2", BINARY)):
        # An empty message is no frame of WSE.
        cases = [Case([Sent(opcode)], code=NORMAL)]
        for size, piece in (
            (125, 0),
            (126, 0),
            (127, 0),
            (128, 0),
            (65535, 0),
            (65536, 0),
            (65536, 997),
        ):
            text = "*" * (size - len(call("*" * 10)) + 10)
            assert len(call(text)) == size
            cases.append(Case([Sent(opcode, call(text))], [text], piece=piece))
        yield from numbered(section, cases)


def pings() -> Numbered:
    """2: pings are answered with what they bring, pongs are not."""
    ten = [b"%d" % number for number in range(10)]
    bodies = [b"", b"Hello", b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff", b"\xfe" * 125]
    yield from numbered(
        "2",
        [
            *(Case([Sent(PING, body)], pongs=[body]) for body in bodies),
            Case([Sent(PING, b"\xfe" * 126)], code=PROTOCOL_ERROR),
            Case([Sent(PING, b"\xfe" * 125)], pongs=[b"\xfe" * 125], piece=1),
            Case([Sent(PONG)]),
            Case([Sent(PONG, b"nobody asked")]),
            Case([Sent(PONG, b"nobody asked"), Sent(PING, b"but I do")], pongs=[b"but I do"]),
            Case([Sent(PING, body) for body in ten], pongs=ten),
            Case([Sent(PING, body) for body in ten], pongs=ten, piece=1),
        ],
    )


def reserved() -> Numbered:
    """3 and 4: reserved bits and opcodes end the connection."""
    binary = b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"
    bad = [
        [Sent(TEXT, call(HELLO), rsv=1)],
        [A_CALL, Sent(TEXT, call(HELLO), rsv=2), Sent(PING)],
        [A_CALL, Sent(TEXT, call(HELLO), rsv=3), Sent(PING)],
        [A_CALL, Sent(TEXT, call(HELLO), rsv=4), Sent(PING)],
        [Sent(BINARY, binary, rsv=5)],
        [Sent(PING, HELLO.encode(), rsv=6)],
        [Sent(CLOSE, rsv=7)],
    ]
    cases = [Case(frames, code=PROTOCOL_ERROR) for frames in bad]
    cases[3] = cases[3]._replace(piece=1)
    yield from numbered("3", cases)
    for section, first in (("4.1", 3), ("4.2", 11)):
        cases = []
        for opcode in range(first, first + 5):
            before = [] if opcode in (3, 4, 11, 12) else [A_CALL]
            body = HELLO.encode() if opcode % 2 == 0 else b""
            cases.append(Case([*before, Sent(opcode, body), Sent(PING)], code=PROTOCOL_ERROR))
        yield from numbered(section, cases)


def fragmentation() -> Numbered:
    """5: what may be in fragments, and what may stand between them."""
    body = call("fragments" * 5)
    whole = ["fragments" * 5]
    two, five = fragments(body, 20), fragments(body, 10, 20, 30, 40)
    ping, other = Sent(PING, b"ping 1"), Sent(PING, b"ping 2")
    between = [two[0], ping, two[1]]
    among = [*five[:2], ping, *five[2:4], other, five[4]]
    nothing = [[Sent(CONT, b"of nothing", fin=fin), A_CALL] for fin in (True, False)]
    twice = [[Sent(CONT, b"of nothing", fin=fin), *two] * 2 for fin in (False, True)]
    yield from numbered(
        "5",
        [
            Case([Sent(PING, b"a", fin=False), Sent(CONT, b"b")], code=PROTOCOL_ERROR),
            Case([Sent(PONG, b"a", fin=False), Sent(CONT, b"b")], code=PROTOCOL_ERROR),
            *(Case(two, whole, piece=piece) for piece in (0, 26, 1)),
            *(Case(between, whole, [b"ping 1"], piece=piece) for piece in (0, 26, 1)),
            *(Case(nothing[0], code=PROTOCOL_ERROR, piece=piece) for piece in (0, 16, 1)),
            *(Case(nothing[1], code=PROTOCOL_ERROR, piece=piece) for piece in (0, 16, 1)),
            Case([*two, *nothing[1]], code=PROTOCOL_ERROR),
            *(Case(frames, code=PROTOCOL_ERROR) for frames in twice),
            Case([two[0], two[1]._replace(opcode=TEXT)], code=PROTOCOL_ERROR),
            *(Case(among, whole, [b"ping 1", b"ping 2"], piece=piece) for piece in (0, 1)),
        ],
    )


GREEK = "κ\u1f79σμε"  # noqa: RUF001
UMLAUTS = "Hello-µ@ßöäüàá-UTF-8!!"


def texts() -> Numbered:
    """6.1 to 6.4: where a text is cut does not matter, and what is no UTF-8 does not pass."""
    middle = call("middle")
    yield "6.1.1", Case([Sent(TEXT)], code=NORMAL)
    yield "6.1.2", Case(fragments(b"", 0, 0), code=NORMAL)
    yield "6.1.3", Case(fragments(middle, 0, len(middle)), ["middle"])
    umlauts, greek = call(UMLAUTS), call(GREEK)
    yield "6.2.1", Case([Sent(TEXT, umlauts)], [UMLAUTS])
    yield "6.2.2", Case(fragments(umlauts, umlauts.index("ü".encode())), [UMLAUTS])
    yield "6.2.3", Case(every(1, umlauts), [UMLAUTS])
    yield "6.2.4", Case(every(1, greek), [GREEK])
    surrogate = call_of(GREEK.encode() + b"\xed\xa0\x80" + b"edited")
    yield "6.3.1", Case([Sent(TEXT, surrogate)], code=BAD_DATA)
    yield "6.3.2", Case(every(1, surrogate), code=BAD_DATA)
    beyond = call_of(GREEK.encode() + b"\xf4\x90\x80\x80" + b"edited")
    bad = beyond.index(b"\xf4")
    yield "6.4.1", Case(fragments(beyond, bad, bad + 4), code=BAD_DATA)
    yield "6.4.2", Case(fragments(beyond, bad + 1, bad + 2), code=BAD_DATA)
    yield "6.4.3", Case([Sent(TEXT, beyond)], code=BAD_DATA, piece=bad)
    yield "6.4.4", Case([Sent(TEXT, beyond)], code=BAD_DATA, piece=1)


INCOMPLETE = [
    *("c0", "e080", "f08080", "f8808080", "fc80808080"),
    *("df", "efbf", "f7bfbf", "fbbfbfbf", "fdbfbfbfbf"),
]
NONCHARACTERS = [
    chr(plane << 16 | low).encode().hex() for plane in range(17) for low in (0xFFFE, 0xFFFF)
]


def lonely(first: int, last: int) -> str:
    return b"".join(bytes([byte, 0x20]) for byte in range(first, last)).hex()


#: Sequences from the UTF-8 decoder test of Markus Kuhn; hexadecimal.
SEQUENCES: dict[str, list[str]] = {
    "6.5": [f"hello{middle}world".encode().hex() for middle in ("$", "¢", "€", "\U00024b62")]
    + [GREEK.encode().hex()],
    "6.6": [GREEK.encode()[:size].hex() for size in range(1, len(GREEK.encode()) + 1)],
    "6.7": ["00", "c280", "e0a080", "f0908080"],
    "6.8": ["f888808080", "fc8480808080"],
    "6.9": ["7f", "dfbf", "efbfbf", "f48fbfbf"],
    "6.10": ["f7bfbfbf", "fbbfbfbfbf", "fdbfbfbfbfbf"],
    "6.11": ["ed9fbf", "ee8080", "efbfbd", "f48fbfbf", "f4908080"],
    "6.12": [
        *("80", "bf", "80bf", "80bf80", "80bf80bf", "80bf80bf80", "80bf80bf80bf"),
        bytes(range(0x80, 0xBF)).hex(),
    ],
    "6.13": [
        lonely(*ends)
        for ends in ((0xC0, 0xDF), (0xE0, 0xEF), (0xF0, 0xF7), (0xF8, 0xFB), (0xFC, 0xFD))
    ],
    "6.14": INCOMPLETE,
    "6.15": ["".join(INCOMPLETE)],
    "6.16": ["fe", "ff", "fefeffff"],
    "6.17": ["c0af", "e080af", "f08080af", "f8808080af", "fc80808080af"],
    "6.18": ["c1bf", "e09fbf", "f08fbfbf", "f887bfbfbf", "fc83bfbfbfbf"],
    "6.19": ["c080", "e08080", "f0808080", "f880808080", "fc8080808080"],
    "6.20": ["eda080", "edadbf", "edae80", "edafbf", "edb080", "edbe80", "edbfbf"],
    "6.21": [
        high + low
        for high, low in itertools.product(
            ("eda080", "edadbf", "edae80", "edafbf"), ("edb080", "edbfbf")
        )
    ],
    "6.22": NONCHARACTERS,
    "6.23": [f"efbf{last:x}" for last in range(0xB9, 0xC0)],
}


def sequences() -> Numbered:
    """6.5 to 6.23: text that is UTF-8 and text that is not, in one frame."""
    for section, encoded in SEQUENCES.items():
        yield from numbered(section, [case_of(bytes.fromhex(each)) for each in encoded])


def case_of(payload: bytes) -> Case:
    frames = [Sent(TEXT, call_of(payload))]
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return Case(frames, code=BAD_DATA)
    if text < " ":
        return Case(frames, code=NORMAL)  # UTF-8, and no JSON
    return Case(frames, [text])


def close(code: int, reason: bytes = b"") -> Sent:
    return Sent(CLOSE, struct.pack("!H", code) + reason)


def closes() -> Numbered:
    """7: closes are answered if they are lawful, and nothing behind them is."""
    goodbye = close(NORMAL)
    two = fragments(call(HELLO), 10)
    long = Sent(TEXT, call("BAsd7&jh23" * 26_000))
    yield from numbered(
        "7.1",
        [
            Case([A_CALL], [HELLO]),
            *(Case([goodbye, behind]) for behind in (Sent(CLOSE), Sent(PING), A_CALL)),
            Case([two[0], goodbye, two[1]]),
            Case([long, goodbye, Sent(PING)]),
        ],
    )
    yield from numbered(
        "7.3",
        [
            Case([Sent(CLOSE)]),
            Case([Sent(CLOSE, b"a")], code=PROTOCOL_ERROR),
            Case([goodbye]),
            Case([close(NORMAL, HELLO.encode())]),
            Case([close(NORMAL, b"*" * 123)]),
            Case([close(NORMAL, b"*" * 124)], code=PROTOCOL_ERROR),
        ],
    )
    yield "7.5.1", Case([close(NORMAL, GREEK.encode() + b"\xed\xa0\x80edited")], code=BAD_DATA)
    lawful = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999]
    yield from numbered("7.7", [Case([close(code)]) for code in lawful])
    others = [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999]
    yield from numbered("7.9", [Case([close(code)], code=PROTOCOL_ERROR) for code in others])
    yield from numbered(
        "7.13", [Case([close(code)], code=PROTOCOL_ERROR) for code in (5000, 65535)]
    )


def long_messages() -> Numbered:
    """10: a long message in many fragments."""
    text = "*" * 65_500
    yield "10.1.1", Case(every(1300, call(text)), [text])


CASES: dict[str, Case] = {
    number: case
    for section in (
        framing(),
        pings(),
        reserved(),
        fragmentation(),
        texts(),
        sequences(),
        closes(),
        long_messages(),
    )
    for number, case in section
}
