"""Challenge-response with a shared secret."""

from __future__ import annotations

import hmac
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wse_sync import WseError, WseTypeError, WseValueError, challenges

# HMAC-SHA256 of RFC 4231: secret, data, digest. Those whose data is text.
VECTORS = [
    (
        b"\x0b" * 20,
        "Hi There",
        "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
    ),
    (
        "Jefe",
        "what do ya want for nothing?",
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
    ),
    (
        b"\xaa" * 131,
        "Test Using Larger Than Block-Size Key - Hash Key First",
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
    ),
]


@pytest.mark.parametrize(("secret", "quest", "answer"), VECTORS)
def test_an_answer_is_the_hmac_sha256_of_the_quest(
    secret: str | bytes, quest: str, answer: str
) -> None:
    assert challenges.solve(secret, quest) == answer
    assert challenges.solver(secret)(quest) == answer
    assert challenges.check(secret, quest, answer)


def test_a_quest_is_new_each_time_and_256_bits_long() -> None:
    quests = {challenges.quest() for _ in range(1000)}
    assert len(quests) == 1000
    assert all(len(bytes.fromhex(quest)) == 32 for quest in quests)


@given(st.text(min_size=1) | st.binary(min_size=1))
def test_8_the_two_ends_agree_on_any_secret(secret: str | bytes) -> None:
    quest = challenges.quest()
    assert challenges.check(secret, quest, challenges.solver(secret)(quest))


def test_a_secret_of_text_is_its_utf8() -> None:
    assert challenges.solve("schlüssel", "q") == challenges.solve("schlüssel".encode(), "q")


@given(st.text() | st.none() | st.integers() | st.binary() | st.lists(st.text()) | st.booleans())
def test_8_anything_else_is_wrong(response: Any) -> None:
    assert not challenges.check("secret", challenges.quest(), response)


@pytest.mark.parametrize("change", [str.upper, lambda text: text[:-1], lambda text: text + "0"])
def test_8_a_nearly_right_answer_is_wrong(change: Any) -> None:
    quest = "quest"
    answer = challenges.solve("secret", quest)
    assert not challenges.check("secret", quest, change(answer))
    assert not challenges.check("secret", quest + "2", answer)
    assert not challenges.check("secret2", quest, answer)
    assert not challenges.check("secret", quest, answer.encode())


@pytest.mark.parametrize("quest", [None, 5, b"quest", ["quest"], "\ud800"])
def test_a_quest_that_is_malformed_has_no_answer(quest: Any) -> None:
    assert not challenges.check("secret", quest, "0" * 64)


@pytest.mark.parametrize("response", ["\ud800", "ü" * 64, "", "\0"])
def test_an_answer_that_is_malformed_is_wrong(response: str) -> None:
    assert not challenges.check("secret", "quest", response)


@pytest.mark.parametrize("quest", [None, 5, b"quest", {"a": 1}])
def test_a_quest_of_another_type_cannot_be_solved(quest: Any) -> None:
    with pytest.raises(WseTypeError, match="quest"):
        challenges.solve("secret", quest)
    with pytest.raises(WseTypeError, match="quest"):
        challenges.solver("secret")(quest)


@pytest.mark.parametrize("secret", [None, 5, ["secret"], bytearray(b"secret")])
def test_a_secret_of_another_type_is_refused(secret: Any) -> None:
    for run in (
        lambda: challenges.solve(secret, "quest"),
        lambda: challenges.solver(secret),
        lambda: challenges.check(secret, "quest", "answer"),
    ):
        with pytest.raises(WseTypeError, match="secret"):
            run()


@pytest.mark.parametrize("secret", ["", b""])
def test_an_empty_secret_is_refused(secret: str | bytes) -> None:
    """A setting that was never made must not let everybody in."""
    answer = hmac.new(b"", b"quest", "sha256").hexdigest()
    with pytest.raises(WseValueError, match="empty"):
        challenges.check(secret, "quest", answer)
    with pytest.raises(WseValueError):
        challenges.solve(secret, "quest")


def test_a_solver_refuses_its_secret_when_it_is_made() -> None:
    with pytest.raises(WseError):
        challenges.solver("")


def test_no_error_shows_the_secret() -> None:
    with pytest.raises(WseError) as caught:
        wrong: Any = 5
        challenges.solver("top-secret")(wrong)
    assert "top-secret" not in repr(caught.value)


def test_answers_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[Any, Any]] = []

    def compare(right: Any, given: Any) -> bool:
        compared.append((right, given))
        return False

    monkeypatch.setattr(hmac, "compare_digest", compare)
    assert not challenges.check("secret", "quest", "given")
    assert compared == [(challenges.solve("secret", "quest").encode(), b"given")]
