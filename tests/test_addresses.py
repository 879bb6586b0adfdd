"""Whose address counts, whatever a client writes into its headers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wse_sync import WseServer
from wse_sync.addresses import address_of, network_of

SOCKET = "10.0.0.9"


def seen(forwarded: str | None, hops: int, socket: str | None = SOCKET) -> str:
    environ: dict[str, Any] = {}
    if socket is not None:
        environ["REMOTE_ADDR"] = socket
    if forwarded is not None:
        environ["HTTP_X_FORWARDED_FOR"] = forwarded
    return address_of(environ, hops)


@pytest.mark.parametrize("forwarded", [None, "", "1.2.3.4", "junk"])
def test_without_trusted_hops_it_is_that_of_the_socket(forwarded: str | None) -> None:
    assert seen(forwarded, 0) == SOCKET


@pytest.mark.parametrize(
    ("forwarded", "hops", "expected"),
    [
        ("1.2.3.4", 1, "1.2.3.4"),
        ("6.6.6.6, 1.2.3.4", 1, "1.2.3.4"),
        ("6.6.6.6, 1.2.3.4, 10.0.0.1", 2, "1.2.3.4"),
        ("6.6.6.6,1.2.3.4,10.0.0.1", 2, "1.2.3.4"),
        ("127.0.0.1, 1.2.3.4", 1, "1.2.3.4"),
        ("\t1.2.3.4 ", 1, "1.2.3.4"),
        # Past the outer proxy, straight to the inner one.
        ("1.2.3.4", 2, "1.2.3.4"),
        # Not through any proxy.
        (None, 1, SOCKET),
        ("", 1, SOCKET),
    ],
)
def test_hops_are_counted_from_the_right(forwarded: str | None, hops: int, expected: str) -> None:
    assert seen(forwarded, hops) == expected


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("1.2.3.4:5678", "1.2.3.4"),
        ("2001:db8::1", "2001:db8::1"),
        ("2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:5678", "2001:db8::1"),
        ("::ffff:1.2.3.4", "::ffff:1.2.3.4"),
    ],
)
def test_an_address_has_one_form_without_its_port(written: str, expected: str) -> None:
    assert seen(f"6.6.6.6, {written}", 1) == expected


GARBAGE = [
    "unknown",
    "_hidden",
    "1.2.3",
    "1.2.3.4.5",
    "1.2.3.4:",
    "1.2.3.4:port",
    "1.2.3.4:٣",
    "1.2.3.4 5.6.7.8",
    "[2001:db8::1",
    "[2001:db8::1]x",
    "[2001:db8::1]5678",
    "fe80::1%eth0",
    "1.2.3.4\0",
    "<script>",
    '"1.2.3.4"',
    "",
    "ü",
]


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_leaves_the_last_hop_that_is_an_address(garbage: str) -> None:
    assert seen(garbage, 1) == SOCKET
    assert seen(f"{garbage}, 10.0.0.1", 2) == "10.0.0.1"
    # What stands before it is not believed, either.
    assert seen(f"1.2.3.4, {garbage}", 2) == SOCKET


def test_behind_a_unix_socket_there_is_none_but_that_of_the_proxy() -> None:
    assert seen(None, 0, None) == ""
    assert seen("1.2.3.4", 1, "") == "1.2.3.4"


@given(st.text(), st.integers(1, 3))
def test_whatever_a_client_sends_comes_before_what_the_proxies_add(sent: str, hops: int) -> None:
    added = [f"192.0.2.{number}" for number in range(hops)]
    assert seen(", ".join([sent, *added]), hops) == "192.0.2.0"


@given(st.text(), st.integers(0, 3))
def test_there_is_always_an_address(sent: str, hops: int) -> None:
    network_of(seen(sent, hops))


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("1.2.3.4", "1.2.3.4"),
        ("::ffff:1.2.3.4", "1.2.3.4"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("2001:db8:0:1:ffff::1", "2001:db8:0:1::/64"),
        ("2001:db8:0:2::1", "2001:db8:0:2::/64"),
        ("::1", "::/64"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("", ""),
    ],
)
def test_a_network_is_what_one_host_may_have(address: str, expected: str) -> None:
    assert network_of(address) == expected


@pytest.mark.parametrize("hops", [-1, 1.0, True, "1", None])
def test_bad_hops_are_refused(hops: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="trusted_hops"):
        WseServer(lambda auth: auth.refuse(), trusted_hops=hops)
