"""What all transports share: the reason of a close, and how a link is lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wse_sync.transport.base import LinkLost, cut_reason

MAX_REASON_BYTES = 123


def test_a_reason_that_fits_is_kept() -> None:
    for reason in ("", "wse.by-server", "x" * MAX_REASON_BYTES, "ü" * 61):
        assert cut_reason(reason) == reason


@given(st.text())
def test_a_reason_is_cut_between_characters(reason: str) -> None:
    """Hypothesis makes no lone surrogates here: those have no UTF-8."""
    kept = cut_reason(reason * 10)
    assert (reason * 10).startswith(kept)
    rest = (reason * 10)[len(kept) :]
    assert len(kept.encode()) <= MAX_REASON_BYTES
    assert not rest or len(kept.encode()) + len(rest[0].encode()) > MAX_REASON_BYTES


@given(st.text(st.characters(categories=["Cs", "L"])))
def test_a_reason_that_is_no_utf8_can_be_sent_all_the_same(reason: str) -> None:
    assert len(cut_reason(reason).encode()) <= MAX_REASON_BYTES


def test_a_lost_link_says_how() -> None:
    lost = LinkLost(1000, "bye")
    assert (lost.code, lost.reason, lost.drain) == (1000, "bye", False)
    assert LinkLost(1006).reason == ""
    assert LinkLost(1009, drain=True).drain
    assert "1000" in str(lost) and "bye" in str(lost)
