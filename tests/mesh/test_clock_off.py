"""Nodes whose clocks are off lose nothing, and say so. Whole nodes with it: test_bad_luck.py."""

from __future__ import annotations

import logging

import pytest

from chinwag_server.chat.routed import across, fanout
from chinwag_server.clock import SystemClock
from chinwag_server.mesh.shards import shard_of
from tests.server.chat.routed.nodes import Node, Nodes, until
from tests.server.chat.rules import Device, FakeClock

HOUR_S = 3600


class Off(SystemClock):
    """Off by some seconds."""

    def __init__(self, seconds: int) -> None:
        self.off_us = seconds * 1_000_000

    def time_us(self) -> int:
        return super().time_us() + self.off_us


async def online(node: Node, user_id: str) -> Device:
    """A device that is caught up."""
    device = node.connect(user_id)
    await device.hello()
    await until(lambda: device.stream.live)
    device.clear()
    return device


@pytest.mark.parametrize(
    ("before_s", "after_s"),
    [(0, 0), (-HOUR_S, 0), (HOUR_S, 0), (0, HOUR_S), (0, -HOUR_S), (-HOUR_S, HOUR_S)],
)
async def test_what_an_owner_told_to_nobody(
    monkeypatch: pytest.MonkeyPatch, before_s: int, after_s: int
) -> None:
    """Whatever the clocks of it and of the next owner."""
    clock = FakeClock()
    clock.now_us = Off(before_s).time_us()
    monkeypatch.setattr(fanout, "HEADS_S", 0.1)
    mesh = Nodes(clock=clock)
    await mesh.start(2)
    channel = await mesh.nodes[0].group("ann", "bob")
    owner, other = mesh.owner_of(channel), mesh.others(channel)[0]
    bob = await online(other, "bob")
    with monkeypatch.context() as patched:
        patched.setattr(owner.meshed.across.delivery, "entry", lambda *_: None)
        await owner.send("ann", channel, "told to nobody")
    for node in mesh.nodes:
        monkeypatch.setattr(node.meshed.across, "_clock", Off(after_s))
    epoch = owner.meshed.ownership.epoch_of(shard_of(channel))
    assert epoch is not None
    owner.meshed.ownership.give_up(epoch, "as if its node had ended")
    await until(lambda: bob.texts == ["told to nobody"])
    await mesh.stop()


@pytest.mark.parametrize(("off_s", "text"), [(HOUR_S, "ahead of"), (-HOUR_S, "behind")])
async def test_a_clock_that_is_off_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, off_s: int, text: str
) -> None:
    monkeypatch.setattr(across, "COMPARE_S", 0.05)
    clock = Off(0)
    mesh = Nodes()
    (node,) = await mesh.start(1)
    monkeypatch.setattr(node.meshed.across, "_clock", clock)
    with caplog.at_level(logging.INFO, across.__name__):
        clock.off_us = off_s * 1_000_000
        await until(lambda: bool(caplog.messages))
        assert f"this machine's clock is 3600 s {text} that of Redis" in caplog.messages[0]
        clock.off_us = 0
        await until(lambda: len(caplog.messages) > 1)
    assert caplog.messages[1:] == ["this machine's clock is that of Redis again"]
    await mesh.stop()
