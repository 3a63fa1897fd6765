"""From devices to a user's state, and from that to how the user appears to another.

No I/O, no clock.

Times are microseconds since 1970; 0 is "not".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypeAlias

from chinwag.presence.v1 import presence_pb2 as pb
from chinwag_server.chat.entries import timestamp

ONLINE = pb.PRESENCE_STATE_ONLINE
AWAY = pb.PRESENCE_STATE_AWAY
DO_NOT_DISTURB = pb.PRESENCE_STATE_DO_NOT_DISTURB
OFFLINE = pb.PRESENCE_STATE_OFFLINE
AUTO = pb.PRESENCE_MODE_AUTO

MINUTE_US = 60_000_000

# Quoted: protobuf's stubs alone know these types.
State: TypeAlias = "pb.PresenceState.ValueType"
Mode: TypeAlias = "pb.PresenceMode.ValueType"


@dataclass(slots=True, frozen=True)
class Device:
    """A connected device.

    Attributes:
        touched_us: When the user last touched it.
        background: Nobody sees the application: it counts as away at once.
    """

    touched_us: int
    background: bool = False

    def state(self, now_us: int, away_after_us: int) -> State:
        """ONLINE or AWAY."""
        if self.background or now_us - self.touched_us >= away_after_us:
            return AWAY
        return ONLINE


def reported(device: Device | None, activity: pb.Activity | None, now_us: int) -> Device:
    """A device after a report.

    Args:
        device: Before it; None: it has just come.
        activity: None: it said nothing of its user, who is there if the device has just come.
    """
    state = activity.state if activity is not None else pb.ACTIVITY_STATE_UNSPECIFIED
    if state == pb.ACTIVITY_STATE_UNSPECIFIED:
        return device if device is not None else Device(now_us)
    assert activity is not None
    if activity.HasField("idle_for"):
        touched_us = now_us - activity.idle_for.ToMicroseconds()
    elif state == pb.ACTIVITY_STATE_ACTIVE or device is None:
        touched_us = now_us
    else:
        touched_us = device.touched_us
    return Device(touched_us, state == pb.ACTIVITY_STATE_BACKGROUND)


@dataclass(slots=True, frozen=True)
class Status:
    """What a user says of themselves.

    Attributes:
        mode_time_us: When the mode began.
        mode_until_us, text_until_us: When it ends by itself.
    """

    mode: Mode = AUTO
    mode_time_us: int = 0
    mode_until_us: int = 0
    text: str = ""
    text_until_us: int = 0

    def at(self, now_us: int) -> Status:
        """What of it still holds."""
        status = self
        if self.mode_until_us and self.mode_until_us <= now_us:
            status = replace(status, mode=AUTO, mode_time_us=self.mode_until_us, mode_until_us=0)
        if self.text_until_us and self.text_until_us <= now_us:
            status = replace(status, text="", text_until_us=0)
        return status

    def ends_us(self) -> int:
        """When something of it ends by itself; 0: nothing does."""
        return min((us for us in (self.mode_until_us, self.text_until_us) if us), default=0)

    def message(self) -> pb.UserStatus:
        """It in the contract's form."""
        return pb.UserStatus(
            mode=self.mode,
            mode_until=timestamp(self.mode_until_us) if self.mode_until_us else None,
            text=self.text,
            text_until=timestamp(self.text_until_us) if self.text_until_us else None,
        )


@dataclass(slots=True, frozen=True)
class Connected:
    """What a user's devices make together.

    Attributes:
        state: ONLINE, AWAY or OFFLINE.
        seen_us: When the user was last connected; while they are, not of interest.
    """

    state: State = OFFLINE
    seen_us: int = 0


def together(parts: Iterable[Connected]) -> Connected:
    """Of several nodes: the most reachable state, and the latest time."""
    state, seen_us = OFFLINE, 0
    for part in parts:
        # ONLINE is the smallest of the three numbers, OFFLINE the largest.
        state = min(state, part.state)
        seen_us = max(seen_us, part.seen_us)
    return Connected(state, seen_us)


def own_state(connected: Connected, status: Status) -> State:
    """The state of a user as their own devices see it: what others see, unless they hide."""
    if connected.state == OFFLINE:
        return OFFLINE
    if status.mode == pb.PRESENCE_MODE_AWAY:
        return AWAY
    if status.mode == pb.PRESENCE_MODE_DO_NOT_DISTURB:
        return DO_NOT_DISTURB
    return connected.state


def appearance(
    user_id: str,
    connected: Connected,
    status: Status,
    now_us: int,
    *,
    shown: bool = True,
    last_seen: bool = True,
) -> pb.Presence:
    """How a user appears to another.

    Args:
        status: What of it holds now.
        shown: Whether the other may see their presence.
        last_seen: Whether the other may see when they were last there.
    """
    presence = pb.Presence(user_id=user_id, state=OFFLINE, update_time=timestamp(now_us))
    if not shown:
        return presence
    presence.status_text = status.text
    hidden = status.mode == pb.PRESENCE_MODE_INVISIBLE
    if not hidden:
        presence.state = own_state(connected, status)
    if presence.state == DO_NOT_DISTURB and status.mode_until_us:
        presence.do_not_disturb_until.CopyFrom(timestamp(status.mode_until_us))
    if presence.state == OFFLINE and last_seen:
        seen_us = connected.seen_us
        if hidden and (connected.state != OFFLINE or seen_us > status.mode_time_us):
            seen_us = status.mode_time_us
        if seen_us:
            presence.last_seen_time.CopyFrom(timestamp(seen_us - seen_us % MINUTE_US))
    return presence
