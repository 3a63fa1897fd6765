"""From reports to states, and from states to what others see."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration

from chinwag.presence.v1 import presence_pb2 as pb
from chinwag_server.presence.states import (
    AWAY,
    DO_NOT_DISTURB,
    OFFLINE,
    ONLINE,
    Connected,
    Device,
    Status,
    appearance,
    own_state,
    reported,
    together,
)

NOW_US = 1_700_000_030_000_000
MINUTE_US = 60_000_000
FIVE_US = 5 * MINUTE_US

ACTIVE = pb.ACTIVITY_STATE_ACTIVE
IDLE = pb.ACTIVITY_STATE_IDLE
BACKGROUND = pb.ACTIVITY_STATE_BACKGROUND


def activity(state: pb.ActivityState.ValueType, idle_s: int | None = None) -> pb.Activity:
    return pb.Activity(state=state, idle_for=None if idle_s is None else Duration(seconds=idle_s))


def test_who_comes_without_a_word_is_there() -> None:
    assert reported(None, None, NOW_US).state(NOW_US, FIVE_US) == ONLINE
    assert reported(None, pb.Activity(), NOW_US).state(NOW_US, FIVE_US) == ONLINE


def test_five_minutes_without_activity_are_away() -> None:
    device = reported(None, activity(ACTIVE), NOW_US)
    assert device.state(NOW_US + FIVE_US - 1, FIVE_US) == ONLINE
    assert device.state(NOW_US + FIVE_US, FIVE_US) == AWAY


def test_idle_counts_from_the_last_activity() -> None:
    device = reported(None, activity(ACTIVE), NOW_US)
    later = reported(device, activity(IDLE), NOW_US + MINUTE_US)
    assert later.touched_us == NOW_US
    told = reported(device, activity(IDLE, 240), NOW_US + FIVE_US)
    assert told.touched_us == NOW_US + MINUTE_US
    assert told.state(NOW_US + FIVE_US, FIVE_US) == ONLINE


def test_the_background_is_away_at_once_and_back_with_activity() -> None:
    device = reported(Device(NOW_US), activity(BACKGROUND), NOW_US)
    assert device.state(NOW_US, FIVE_US) == AWAY
    assert reported(device, None, NOW_US) is device
    assert reported(device, activity(ACTIVE), NOW_US).state(NOW_US, FIVE_US) == ONLINE


def test_the_most_reachable_device_counts() -> None:
    parts = [Connected(AWAY), Connected(ONLINE), Connected(OFFLINE, 7)]
    assert together(parts).state == ONLINE
    assert together([]) == Connected(OFFLINE)
    assert together([Connected(OFFLINE, 3), Connected(OFFLINE, 9)]) == Connected(OFFLINE, 9)


def test_modes() -> None:
    there, gone = Connected(ONLINE), Connected(OFFLINE, NOW_US)
    for mode, state in (
        (pb.PRESENCE_MODE_AUTO, ONLINE),
        (pb.PRESENCE_MODE_AWAY, AWAY),
        (pb.PRESENCE_MODE_DO_NOT_DISTURB, DO_NOT_DISTURB),
        (pb.PRESENCE_MODE_INVISIBLE, ONLINE),
    ):
        assert own_state(there, Status(mode)) == state
        assert own_state(gone, Status(mode)) == OFFLINE


def test_a_mode_and_a_text_end_by_themselves() -> None:
    status = Status(pb.PRESENCE_MODE_AWAY, 1, NOW_US, "at lunch", NOW_US + 5)
    assert status.ends_us() == NOW_US
    assert status.at(NOW_US - 1) is status
    assert status.at(NOW_US) == Status(pb.PRESENCE_MODE_AUTO, NOW_US, 0, "at lunch", NOW_US + 5)
    assert status.at(NOW_US + 5) == Status(pb.PRESENCE_MODE_AUTO, NOW_US)


def test_the_invisible_look_like_who_is_gone() -> None:
    hid_us = NOW_US - FIVE_US
    status = Status(pb.PRESENCE_MODE_INVISIBLE, hid_us, text="hello")
    hidden = appearance("ann", Connected(ONLINE), status, NOW_US)
    gone = appearance("ann", Connected(OFFLINE, hid_us), Status(text="hello"), NOW_US)
    assert hidden == gone
    # Nor does it show that they left while they hid.
    left = appearance("ann", Connected(OFFLINE, NOW_US), status, NOW_US)
    assert left == hidden


def test_last_seen_is_rounded_down_to_the_minute() -> None:
    presence = appearance("ann", Connected(OFFLINE, NOW_US), Status(), NOW_US)
    assert presence.last_seen_time.ToMicroseconds() == NOW_US - 50_000_000
    assert not appearance(
        "ann", Connected(OFFLINE, NOW_US), Status(), NOW_US, last_seen=False
    ).HasField("last_seen_time")
    assert not appearance("ann", Connected(ONLINE, 0), Status(), NOW_US).HasField("last_seen_time")


def test_who_may_not_see_sees_nobody() -> None:
    status = Status(pb.PRESENCE_MODE_DO_NOT_DISTURB, 1, NOW_US + 1, "busy")
    shown = appearance("ann", Connected(ONLINE), status, NOW_US)
    assert shown.state == DO_NOT_DISTURB
    assert shown.do_not_disturb_until.ToMicroseconds() == NOW_US + 1
    hidden = appearance("ann", Connected(ONLINE), status, NOW_US, shown=False)
    assert hidden == pb.Presence(user_id="ann", state=OFFLINE, update_time=shown.update_time)
