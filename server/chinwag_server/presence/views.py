"""How users appear to one who asks: the ground, the privacy, the state, put together."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from chinwag.presence.v1 import presence_pb2 as pb
from chinwag_server.account.directory import Sight
from chinwag_server.chat.entries import timestamp
from chinwag_server.clock import Clock
from chinwag_server.presence.devices import Devices
from chinwag_server.presence.ports import Accounts, Channels, Profile, States
from chinwag_server.presence.states import Connected, Status, appearance, own_state
from chinwag_server.rpc.errors import Refusal

_NOBODY = Profile(Status(), contacts_see=False)


@dataclass(slots=True, frozen=True)
class Ground:
    """Why somebody may see a user's presence.

    Attributes:
        kind: friend, channel, self, or scope (an API key that stands for nobody).
    """

    kind: str
    channel_id: str = ""


def ground_of(watch: pb.Watch, viewer_id: str) -> Ground:
    """The ground that a watch names.

    Raises:
        Refusal: INVALID_FIELD.
    """
    kind = watch.WhichOneof("ground")
    if kind == "channel_id":
        return Ground("channel", watch.channel_id)
    if kind is not None:
        return Ground(kind)
    if not viewer_id:
        return Ground("scope")
    text = "name the ground on which you may see this user: friend, channel_id or self"
    raise Refusal("INVALID_FIELD", text, fields=[("ground", "is not set")])


def no_common_ground() -> Refusal:
    """NO_COMMON_GROUND; whether there is such a user is not said."""
    return Refusal("NO_COMMON_GROUND", "the ground does not hold: you may not see this user")


@dataclass(slots=True, frozen=True)
class Now:
    """What is known of some users at one moment."""

    connected: Mapping[str, Connected]
    profiles: Mapping[str, Profile]
    now_us: int

    def status(self, user_id: str) -> Status:
        """What of a user's status holds."""
        return self.profiles.get(user_id, _NOBODY).status.at(self.now_us)


class Views:
    """Forms views. What is the same for many watchers is formed once a `Now`."""

    def __init__(
        self, states: States, accounts: Accounts, channels: Channels, devices: Devices, clock: Clock
    ) -> None:
        self._states = states
        self._accounts = accounts
        self._channels = channels
        self._devices = devices
        self._clock = clock

    async def now(self, user_ids: Collection[str]) -> Now:
        """Reads what is known of users.

        Raises:
            Unavailable, Refusal: It cannot be read.
        """
        connected = await self._states.of(user_ids)
        profiles = await self._accounts.profiles(user_ids)
        return Now(connected, profiles, self._clock.time_us())

    async def allowed(self, viewer_id: str, user_id: str, ground: Ground) -> tuple[bool, bool]:
        """Whether a user's presence, and when they were last there, is shown to another.

        Raises:
            Refusal: NO_COMMON_GROUND.
        """
        if ground.kind == "self":
            if viewer_id != user_id:
                raise no_common_ground()
            return True, True
        sight = await self._accounts.sight(viewer_id, user_id)
        if sight is None or (ground.kind == "friend" and not sight.friends):
            raise no_common_ground()
        if ground.kind == "channel" and not await self._channels.shared(
            ground.channel_id, viewer_id, user_id
        ):
            raise no_common_ground()
        if ground.kind == "scope":
            sight = Sight(True, sight.presence, sight.last_seen)
        return (
            sight.shows(sight.presence, contact=True),
            sight.shows(sight.last_seen, contact=True),
        )

    async def change(
        self, viewer_id: str, user_id: str, ground: Ground, now: Now
    ) -> pb.PresenceChange:
        """How a user appears to another; with `ended` set if the ground does not hold."""
        try:
            shown, last_seen = await self.allowed(viewer_id, user_id, ground)
        except Refusal as refusal:
            if refusal.reason != "NO_COMMON_GROUND":
                raise
            return refused(user_id, refusal)
        connected = now.connected.get(user_id, Connected())
        status = now.status(user_id)
        change = pb.PresenceChange(
            presence=appearance(
                user_id, connected, status, now.now_us, shown=shown, last_seen=last_seen
            )
        )
        if ground.kind == "self":
            change.own.CopyFrom(self.own(user_id, connected, status))
        return change

    async def snapshot(
        self, viewer_id: str, watches: Sequence[pb.Watch]
    ) -> list[pb.PresenceChange]:
        """How users appear to another now, each on its ground.

        Raises:
            Unavailable, Refusal: It cannot be known now.
        """
        now = await self.now({watch.user_id for watch in watches})
        found = []
        for watch in watches:
            try:
                ground = ground_of(watch, viewer_id)
            except Refusal as refusal:
                change = refused(watch.user_id, refusal)
            else:
                change = await self.change(viewer_id, watch.user_id, ground, now)
            change.snapshot = True
            found.append(change)
        return found

    def own(self, user_id: str, connected: Connected, status: Status) -> pb.OwnPresence:
        """A user's presence as their own devices see it: those of this node."""
        return pb.OwnPresence(
            status=status.message(),
            state=own_state(connected, status),
            devices=[
                pb.DevicePresence(
                    device_id=device_id, state=state, last_activity_time=timestamp(touched_us)
                )
                for device_id, state, touched_us in self._devices.devices(user_id)
            ],
        )


def refused(user_id: str, refusal: Refusal) -> pb.PresenceChange:
    """A watch that is refused, or has ended."""
    return pb.PresenceChange(presence=pb.Presence(user_id=user_id), ended=refusal.status())


def same(one: pb.PresenceChange, other: pb.PresenceChange) -> bool:
    """Whether two views show the same, whenever they were formed."""
    mine, theirs = pb.PresenceChange(), pb.PresenceChange()
    for copy, change in ((mine, one), (theirs, other)):
        copy.CopyFrom(change)
        copy.presence.ClearField("update_time")
        copy.snapshot = False
    return mine == theirs
