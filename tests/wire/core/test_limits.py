"""What one peer may cost, and what a proxy may."""

from __future__ import annotations

import dataclasses

import pytest

from chinwag_server.wire import frames
from chinwag_server.wire.limits import Limits


def test_a_window_that_cannot_be_announced() -> None:
    # The connection's window can only be made larger (RFC 9113, 6.9.2).
    with pytest.raises(ValueError, match="connection_window"):
        Limits(connection_window=frames.DEFAULT_WINDOW)


def test_windows_are_those_of_the_protocol() -> None:
    for limits in (Limits(), Limits().for_proxy()):
        assert limits.stream_window <= frames.MAX_WINDOW
        assert limits.connection_window <= frames.MAX_WINDOW


def test_a_proxy_may_more_of_what_people_share() -> None:
    limits = Limits(message_bytes=77, stall_s=5)
    proxy = limits.for_proxy()
    shared = {
        "concurrent_streams",
        "connection_window",
        "pending_bytes",
        "inflated_burst",
        "inflated_per_second",
        "burst",
        "resets_burst",
    }
    for field in dataclasses.fields(Limits):
        mine, theirs = getattr(limits, field.name), getattr(proxy, field.name)
        assert theirs > mine if field.name in shared else theirs == mine


def test_a_proxy_never_gets_less() -> None:
    limits = Limits(concurrent_streams=10**6, connection_window=1 << 30, pending_bytes=1 << 30)
    proxy = limits.for_proxy()
    assert proxy.concurrent_streams == limits.concurrent_streams
    assert proxy.connection_window == limits.connection_window
    assert proxy.pending_bytes == limits.pending_bytes
