"""Who is here, as streams come, report and go."""

from __future__ import annotations

import random

import pytest

from chinwag.presence.v1 import presence_pb2 as pb
from chinwag_server.presence.devices import AWAY, OFFLINE, ONLINE, Devices, Here
from tests.server.chat.rules import FakeClock

ACTIVE = pb.Activity(state=pb.ACTIVITY_STATE_ACTIVE)
BACKGROUND = pb.Activity(state=pb.ACTIVITY_STATE_BACKGROUND)


class Room:
    """Devices, and what was told of them."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.told: list[str] = []
        self.devices = Devices(self.clock)
        self.devices.on_change = self.told.append

    def after(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.devices.sweep()

    def take(self) -> list[str]:
        told, self.told[:] = list(self.told), []
        return told


@pytest.fixture
def room() -> Room:
    return Room()


def test_comes_goes_away_and_leaves(room: Room) -> None:
    here = room.devices.came("ann", "phone")
    assert room.take() == ["ann"]
    room.after(299)
    assert room.devices.of("ann").state == ONLINE
    room.after(1)
    assert room.devices.of("ann").state == AWAY
    assert room.take() == ["ann"]
    room.devices.report(here, ACTIVE)
    assert room.devices.of("ann").state == ONLINE
    assert room.take() == ["ann"]
    left_us = room.clock.now_us
    room.devices.gone(here)
    room.after(9.9)
    assert room.devices.of("ann").state == ONLINE
    assert room.take() == []
    room.after(0.1)
    assert room.devices.of("ann").state == OFFLINE
    assert room.devices.of("ann").seen_us == left_us
    assert room.take() == ["ann"]
    assert len(room.devices) == 0


def test_a_tunnel_is_not_seen(room: Room) -> None:
    here = room.devices.came("ann", "phone")
    room.take()
    for _ in range(20):
        room.devices.gone(here)
        room.after(5)
        here = room.devices.came("ann", "phone", pb.Activity())
        room.after(5)
    assert room.take() == []
    # Nor does coming back count as touching it.
    room.after(100)
    assert room.devices.of("ann").state == AWAY


def test_activity_puts_away_off(room: Room) -> None:
    here = room.devices.came("ann", "phone")
    for _ in range(10):
        room.after(200)
        room.devices.report(here, ACTIVE)
    assert room.devices.of("ann").state == ONLINE
    assert room.take() == ["ann"]
    # One note a device, however often it reports.
    assert len(room.devices._due) == 1


def test_two_devices_are_away_together_only(room: Room) -> None:
    phone = room.devices.came("ann", "phone")
    laptop = room.devices.came("ann", "laptop")
    room.take()
    room.devices.report(phone, BACKGROUND)
    assert room.take() == ["ann"]
    assert room.devices.of("ann").state == ONLINE
    assert {(name, state) for name, state, _ in room.devices.devices("ann")} == {
        ("phone", AWAY),
        ("laptop", ONLINE),
    }
    room.devices.report(laptop, BACKGROUND)
    assert room.devices.of("ann").state == AWAY
    room.devices.gone(laptop, at_once=True)
    assert room.take() == ["ann", "ann"]
    room.devices.gone(phone, at_once=True)
    assert room.devices.of("ann").state == OFFLINE


def test_two_streams_of_one_device_are_one_device(room: Room) -> None:
    connect = room.devices.came("ann", "phone")
    track = room.devices.came("ann", "phone", BACKGROUND)
    assert [(name, state) for name, state, _ in room.devices.devices("ann")] == [("phone", ONLINE)]
    room.devices.gone(connect, at_once=True)
    assert room.devices.of("ann").state == AWAY
    room.devices.gone(track, at_once=True)
    room.devices.gone(track, at_once=True)
    assert not room.devices.devices("ann")


@pytest.mark.parametrize("seed", range(20))
def test_any_course_of_things(room: Room, seed: int) -> None:
    """Every change is told, and nothing is left behind."""
    rng = random.Random(seed)
    shown = dict.fromkeys("abc", OFFLINE)
    streams: list[Here] = []
    for _ in range(400):
        act = rng.random()
        if act < 0.3:
            streams.append(room.devices.came(rng.choice("abc"), rng.choice("12")))
        elif act < 0.5 and streams:
            room.devices.report(rng.choice(streams), rng.choice([ACTIVE, BACKGROUND]))
        elif act < 0.8 and streams:
            here = streams.pop(rng.randrange(len(streams)))
            room.devices.gone(here, at_once=rng.random() < 0.3)
        else:
            room.after(rng.choice([1, 5, 30, 400]))
        for user in dict.fromkeys(room.take()):
            shown[user] = room.devices.of(user).state
        assert {user: room.devices.of(user).state for user in "abc"} == shown
    for here in streams:
        room.devices.gone(here)
    room.after(1000)
    assert not room.devices._here
    assert not room.devices._states
    assert not room.devices._due
