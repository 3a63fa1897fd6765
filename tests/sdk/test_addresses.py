"""Addresses as applications write them, and those that a server sends its clients to."""

from __future__ import annotations

import pytest

from chinwag.addresses import MAX_ADDRESSES, parse_addresses
from chinwag.blocking import connect as connect_blocking
from chinwag.client import connect
from chinwag.errors import InsecureAddress
from chinwag.redirect import may_follow
from chinwag.session import Session
from chinwag.transport import Security


@pytest.mark.parametrize(
    ("given", "parsed"),
    [
        ("localhost:7400", ("localhost:7400",)),
        ("a:1, b:2,a:1", ("a:1", "b:2")),
        (["a:1", "b:2"], ("a:1", "b:2")),
        (("a:1,b:2", "[::1]:3"), ("a:1", "b:2", "[::1]:3")),
    ],
)
def test_one_or_several(given: str | list[str], parsed: tuple[str, ...]) -> None:
    assert parse_addresses(given) == parsed


@pytest.mark.parametrize("given", ["", ",", "a:1,", "a b:1", [], ["a:1", ""]])
def test_what_is_no_address(given: str | list[str]) -> None:
    with pytest.raises(ValueError, match="expected an address"):
        parse_addresses(given)


def test_too_many() -> None:
    with pytest.raises(ValueError, match="at most"):
        parse_addresses([f"node{number}:1" for number in range(MAX_ADDRESSES + 1)])


def test_one_insecure_address_is_one_too_many() -> None:
    session = Session("ada", "d", "token")
    for make in (connect, connect_blocking):
        with pytest.raises(InsecureAddress):
            make("localhost:1,chat.example.org:2", session, tls=False)
        with pytest.raises(ValueError, match="address"):
            make("localhost:1,", session)


def test_only_known_addresses_are_followed() -> None:
    rule = may_follow(["a:1", "b:1"], Security(), None)
    assert rule("b:1")
    assert not rule("c:1")
    assert not rule("a:1@c:1")


def test_the_application_may_allow_others() -> None:
    rule = may_follow(["a.example:1"], Security(), lambda address: address.endswith(".example:1"))
    assert rule("b.example:1")
    assert not rule("b.elsewhere:1")


def test_never_from_tls_to_plain_text() -> None:
    # A loopback address is plain text by default: whatever listens there would get the token.
    assert not may_follow(["a.example:1"], Security(), lambda _: True)("localhost:1")
    assert may_follow(["localhost:2"], Security(), lambda _: True)("localhost:1")
    assert not may_follow(["localhost:2"], Security(tls=False), lambda _: True)("a.example:1")


def test_a_rule_that_fails_allows_nothing() -> None:
    def broken(address: str) -> bool:
        raise KeyError(address)

    assert not may_follow(["a:1"], Security(), broken)("b:1")
