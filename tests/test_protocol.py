"""JsonProtocol: the frames of the wire, and how it refuses (promises 6 and 26)."""

from __future__ import annotations

import decimal
import enum
import json
import sys
import threading
from collections import OrderedDict
from functools import partial
from typing import Any, Callable, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import Thread
from wse_sync import (
    WSE_ERROR,
    JsonProtocol,
    Protocol,
    WseError,
    WseTypeError,
    WseValueError,
    protocol,
)
from wse_sync.protocol import Data, Frame

PROTOCOL = JsonProtocol()

# Lone surrogates included: a JSON text may hold them as escapes, and JavaScript makes them.
TEXTS = st.text(st.characters(categories=None))
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
    max_leaves=20,
)


def refusal(payload: Any) -> WseError:
    with pytest.raises((WseTypeError, WseValueError)) as caught:
        PROTOCOL.pack("x", payload)
    assert caught.value.code == WSE_ERROR.RP_SEND_FAILED
    return caught.value


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


# The format


def test_the_name_and_the_types_are_those_of_the_wire() -> None:
    assert PROTOCOL.name == "wse-default-json"
    assert dict(PROTOCOL.internal_types) == {
        "hi": "~wse:hi",
        "challenge": "~wse:challenge",
        "welcome": "~wse:welcome",
        "call": "~wse:call",
        "response": "~wse:response",
        "response_error": "~wse:response-err",
        "ack": "~wse:ack",
    }


def test_a_frame_is_an_array_of_three() -> None:
    assert PROTOCOL.pack("chat") == '["chat",null,null]'
    assert PROTOCOL.pack("chat", {"a": [1, None]}) == '["chat",{"a":[1,null]},null]'
    assert PROTOCOL.pack("add", [1, 2], "0000000001") == '["add",[1,2],"0000000001"]'
    assert PROTOCOL.pack("chat", "ü€𝄞") == '["chat","ü€𝄞",null]'


@pytest.mark.parametrize(
    ("data", "frame"),
    [
        ('["chat"]', ("chat", None, None)),
        ('["chat",null]', ("chat", None, None)),
        ('["chat",1,null]', ("chat", 1, None)),
        ('["add",1,"s"]', ("add", 1, "s")),
        ('["add",1,"s","more",5]', ("add", 1, "s")),
        (' [ "chat" , 1 ] \n', ("chat", 1, None)),
        (b'["chat",{"a":1}]', ("chat", {"a": 1}, None)),
        ('["chat","ü"]'.encode(), ("chat", "ü", None)),
        (bytearray(b'["chat"]'), ("chat", None, None)),
    ],
)
def test_missing_items_are_none_and_bytes_are_read_too(data: Data, frame: Any) -> None:
    assert PROTOCOL.unpack(data) == frame


@given(TEXTS.filter(bool), JSON, st.none() | TEXTS)
def test_whatever_is_packed_is_unpacked_as_it_was(type: str, payload: Any, stamp: Any) -> None:
    text = PROTOCOL.pack(type, payload, stamp)
    text.encode()  # it can travel
    assert PROTOCOL.unpack(text) == Frame(type, payload, stamp)
    assert PROTOCOL.unpack(text.encode()) == Frame(type, payload, stamp)
    assert json.loads(text) == [type, payload, stamp]


@given(st.one_of(JSON, st.binary(), st.tuples(st.integers())), JSON, JSON)
def test_whatever_is_packed_can_be_unpacked(type: Any, payload: Any, stamp: Any) -> None:
    """Or it would end the connection at the other side instead of here."""
    try:
        text = PROTOCOL.pack(type, payload, stamp)
    except (WseTypeError, WseValueError):
        return
    PROTOCOL.unpack(text)


def test_lone_surrogates_survive() -> None:
    for text in ("\ud800", "a\udfffb", "\ud83d", "ü\ud800"):
        packed = PROTOCOL.pack("x", {text: text})
        packed.encode()
        assert PROTOCOL.unpack(packed).payload == {text: text}


def test_numbers_survive() -> None:
    for number in (0, -1, 2**53 + 1, 10**1000, 0.1, 1e-300, 1.7976931348623157e308, -0.0):
        assert PROTOCOL.unpack(PROTOCOL.pack("x", number)).payload == number


def test_what_json_can_hold_may_be_of_other_classes() -> None:
    class Point(NamedTuple):
        x: int
        y: int

    class Colour(str, enum.Enum):
        RED = "red"

    payload = {"point": Point(1, 2), "colour": Colour.RED, "map": OrderedDict(a=1), 5: True}
    assert PROTOCOL.unpack(PROTOCOL.pack(Colour.RED, payload)) == (
        "red",
        {"point": [1, 2], "colour": "red", "map": {"a": 1}, "5": True},
        None,
    )


# What cannot be packed


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_26_numbers_that_are_not_json_are_refused_with_their_place(number: float) -> None:
    error = refusal({"a": [1, {"b": number}]})
    assert isinstance(error, WseValueError)
    assert "payload['a'][1]['b']" in str(error)
    assert repr(number) in str(error)
    assert "payload is" in str(refusal(number))


def test_26_a_key_that_is_not_json_is_refused() -> None:
    assert isinstance(refusal({"a": {float("nan"): 1}}), WseValueError)


@pytest.mark.parametrize(
    "value", [b"bytes", {1, 2}, object(), decimal.Decimal(1), 1j, print, WseError, range(3)]
)
def test_26_things_that_have_no_form_in_json_are_refused_with_type_and_place(value: Any) -> None:
    error = refusal({"list": [0, {"deep": (1, value)}]})
    assert isinstance(error, WseTypeError)
    assert "payload['list'][1]['deep'][1]" in str(error)
    assert type(value).__name__ in str(error)


@pytest.mark.parametrize("key", [(1, 2), b"key", frozenset()])
def test_26_a_key_of_another_type_is_refused_with_its_place(key: Any) -> None:
    error = refusal({"a": [{key: 1}]})
    assert isinstance(error, WseTypeError)
    assert "payload['a'][0]" in str(error)
    assert type(key).__name__ in str(error)


def test_26_the_first_culprit_is_named() -> None:
    assert "payload[1]" in str(refusal([0, {1}, {2}]))


def test_26_a_circle_is_refused() -> None:
    circle: list[Any] = [1]
    circle.append({"again": circle})
    assert isinstance(refusal(circle), WseValueError)
    both: dict[str, Any] = {}
    both["a"] = both["b"] = both
    assert isinstance(refusal(both), WseValueError)


@pytest.mark.parametrize("depth", [50_000, 200_000])
def test_26_nesting_that_is_too_deep_is_refused(depth: int) -> None:
    deep = nested(depth)
    error = refusal({"a": deep})
    assert isinstance(error, WseValueError)
    while deep:
        deep = deep.pop()  # or the end of the test would need as deep a stack


def test_nesting_that_is_not_too_deep_is_packed() -> None:
    payload = nested(200)
    assert PROTOCOL.unpack(PROTOCOL.pack("x", payload)).payload == payload


def test_26_a_number_with_too_many_digits_is_refused_or_packed() -> None:
    """Since 3.11 (and in later patches of the others) Python does not print such a number."""
    number = 10**10_000
    try:
        packed = PROTOCOL.pack("x", [number])
    except WseValueError as error:
        assert error.code == WSE_ERROR.RP_SEND_FAILED
        assert "digits" in str(error)
    else:
        assert len(packed) > 10_000


@pytest.mark.parametrize("type", [None, "", 5, True, 1.5, ["x"], ("x",), {"x": 1}, b"x", object()])
def test_26_a_type_that_is_no_text_is_refused(type: Any) -> None:
    with pytest.raises((WseTypeError, WseValueError)) as caught:
        PROTOCOL.pack(type, 1)
    assert caught.value.code == WSE_ERROR.RP_SEND_FAILED


@pytest.mark.parametrize("stamp", [5, True, ["s"], {"s": 1}, b"s", object()])
def test_26_a_stamp_that_is_no_text_is_refused(stamp: Any) -> None:
    with pytest.raises((WseTypeError, WseValueError)):
        PROTOCOL.pack("x", 1, stamp)


def test_the_welcome_has_more_to_say_in_the_place_of_the_stamp() -> None:
    extension = {"v": 1, "cid": "ann", "session": None}
    text = PROTOCOL.pack("~wse:welcome", "hello", extension)
    assert json.loads(text) == ["~wse:welcome", "hello", extension]
    assert PROTOCOL.unpack(text) == Frame("~wse:welcome", "hello", extension)


@pytest.mark.parametrize("extension", [object(), {"v": {1}}, float("nan")])
def test_26_a_welcome_that_json_cannot_hold_is_refused(extension: Any) -> None:
    with pytest.raises((WseTypeError, WseValueError)):
        PROTOCOL.pack("~wse:welcome", "hello", extension)


def test_an_error_does_not_keep_what_it_refused_from_being_sent_later() -> None:
    payload: dict[str, Any] = {"a": {1}}
    refusal(payload)
    payload["a"] = 1
    assert PROTOCOL.pack("x", payload) == '["x",{"a":1},null]'


# What cannot be unpacked


@pytest.mark.parametrize(
    "data",
    [
        "",
        " ",
        "nope",
        "{}",
        '"text"',
        "5",
        "null",
        "true",
        "[",
        '["x",',
        '["x"]]',
        '["x"] []',
        "['x']",
        '["x",]',
        '["x",01]',
        '["x",\n"a\nb"]',
        '\ufeff["x"]',
        b"",
        b"\xff\xfe",
        b'["\xc3"]',
        b'["\xed\xa0\x80"]',
        '["x"]'.encode("utf-16"),
        "\0",
    ],
)
def test_6_what_is_no_array_in_json_is_refused(data: Data) -> None:
    with pytest.raises(ValueError):
        PROTOCOL.unpack(data)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity"])
def test_6_numbers_that_are_not_json_are_refused_on_the_way_in_too(text: str) -> None:
    for data in (f'["x",{text}]', f'["x",{{"a":[{text}]}}]', f'["x",1,{text}]', f"[{text}]"):
        with pytest.raises(ValueError):
            PROTOCOL.unpack(data)
        with pytest.raises(ValueError):
            PROTOCOL.unpack(data.encode())


@pytest.mark.parametrize(
    "text", ["1e999", "-1e999", "1E+400", "1.5e0309", "9" * 309 + ".0", "1e" + "9" * 5000]
)
def test_6_numbers_that_would_be_read_as_infinities_are_refused(text: str) -> None:
    for data in (f'["x",{text}]', f'["x",{{"a":[{text}]}}]', f'["~wse:welcome",1,{text}]'):
        with pytest.raises(ValueError, match="beyond every float"):
            PROTOCOL.unpack(data)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1.7976931348623157e308", sys.float_info.max), ("1e-999", 0.0), ("1e0000000001", 10.0)],
)
def test_numbers_that_a_float_holds_are_read_however_they_are_written(
    text: str, value: float
) -> None:
    assert PROTOCOL.unpack(f'["x",{text}]').payload == value


def test_6_an_integer_is_not_read_for_hours_where_python_would(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Patches of 3.9 and 3.10 from before its limit take a minute for a million digits."""
    decoder = json.JSONDecoder(parse_int=protocol._read_int)
    monkeypatch.setattr(protocol, "_scan", vars(decoder)["scan_once"])
    assert PROTOCOL.unpack(f'["x",-{"9" * 4299}]').payload == -(10**4299 - 1)
    with pytest.raises(ValueError, match="1000000 digits"):
        PROTOCOL.unpack(f'["x",{"9" * 1_000_000}]')


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"a":['])
@pytest.mark.parametrize("depth", [10_000, 1_000_000])
def test_6_nesting_that_is_too_deep_is_refused_on_the_way_in_too(opening: str, depth: int) -> None:
    with pytest.raises(ValueError):
        PROTOCOL.unpack('["x",' + opening * depth)


def test_6_nesting_is_refused_in_a_thread_as_well() -> None:
    """Its stack is smaller than that of the main thread."""

    def unpack() -> None:
        with pytest.raises(ValueError):
            PROTOCOL.unpack("[" * 1_000_000)

    Thread(unpack).result()
    assert threading.current_thread() is threading.main_thread()


def test_6_numbers_with_many_digits_are_refused_or_read() -> None:
    text = "1" * 100_000
    try:
        payload = PROTOCOL.unpack(f'["x",{text}]').payload
    except ValueError:
        assert sys.version_info >= (3, 9)
    else:
        assert payload > 10**1000


@pytest.mark.parametrize("data", ["[]", "[null]", '[""]', "[0]", "[1]", "[true]", "[[]]", "[{}]"])
def test_6_a_type_that_is_no_text_is_a_violation(data: str) -> None:
    with pytest.raises(WseValueError) as caught:
        PROTOCOL.unpack(data)
    assert caught.value.code == WSE_ERROR.PROTOCOL_VIOLATION


@pytest.mark.parametrize("stamp", ["1", "true", "[1]", '{"a":1}', "0.5"])
def test_6_a_stamp_that_is_no_text_is_a_violation(stamp: str) -> None:
    with pytest.raises(WseValueError) as caught:
        PROTOCOL.unpack(f'["x",1,{stamp}]')
    assert caught.value.code == WSE_ERROR.PROTOCOL_VIOLATION


@pytest.mark.parametrize("stamp", ["null", '""', "0", "false", "[]", "{}"])
def test_a_falsy_stamp_is_that_of_a_message(stamp: str) -> None:
    assert not PROTOCOL.unpack(f'["x",1,{stamp}]').stamp


@given(st.text() | st.binary())
def test_6_any_input_is_a_frame_or_a_value_error(data: Data) -> None:
    try:
        frame = PROTOCOL.unpack(data)
    except ValueError:
        return
    assert isinstance(frame.type, str) and frame.type


# Protocols of others


def test_47_a_protocol_has_to_say_how_it_packs() -> None:
    class Nothing(Protocol):
        name = "nothing"

    make: Callable[[], Protocol] = Nothing
    with pytest.raises(TypeError):
        make()


def test_one_protocol_serves_many_threads() -> None:
    def work(number: int) -> bool:
        payload = {"number": number, "text": "ü" * number}
        return all(
            PROTOCOL.unpack(PROTOCOL.pack("x", payload, str(number))) == ("x", payload, str(number))
            for _ in range(300)
        )

    threads = [Thread(partial(work, number)) for number in range(4)]
    assert all(thread.result() for thread in threads)


@given(st.text(), st.none() | st.just("0000000001"))
def test_a_long_text_is_packed_as_any_other(text: str, stamp: str | None) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocol, "_LONG", -1)
        packed = JsonProtocol().pack("type", text, stamp)
    assert packed == JsonProtocol().pack("type", text, stamp)
    assert JsonProtocol().unpack(packed) == ("type", text, stamp)


@pytest.mark.parametrize("special", ['"', "\\", "\n", "\0", "\x1f", "\x7f", "é", "\ud800"])
def test_in_a_long_text_everything_is_escaped_that_must_be(special: str) -> None:
    text = "x" * 5000 + special + "x" * 5000
    packed = JsonProtocol().pack("type", text)
    assert json.loads(packed) == ["type", text, None]
    packed.encode()


def test_a_long_text_of_a_class_of_its_own_is_packed_as_the_text_that_it_is() -> None:
    class Shouting(str):
        def __format__(self, _: str) -> str:
            return self.upper()

    assert json.loads(JsonProtocol().pack("type", Shouting("x" * 5000)))[1] == "x" * 5000
