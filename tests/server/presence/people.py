"""A presence room's rules over ports in memory, for tests: no socket, no real time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from typing import Any

from chinwag.account.v1 import user_pb2
from chinwag.presence.v1 import presence_pb2 as pb
from chinwag_server.account.directory import Sight
from chinwag_server.mesh.unavailable import Unavailable
from chinwag_server.presence.alone import AloneStates
from chinwag_server.presence.devices import Devices
from chinwag_server.presence.ports import Profile
from chinwag_server.presence.states import Status
from chinwag_server.presence.views import Views
from chinwag_server.presence.watching import Watcher, Watching
from chinwag_server.rpc.errors import Refusal
from tests.server.chat.rules import FakeClock, reason_of

CONTACTS = user_pb2.AUDIENCE_CONTACTS
NOBODY = user_pb2.AUDIENCE_NOBODY


class People:
    """`ports.Accounts` and `ports.Channels`: who is whose friend, and in which channel."""

    def __init__(self) -> None:
        self.users = {"ann", "bob", "cid", "dan"}
        self.friends: set[frozenset[str]] = set()
        self.channels: dict[str, list[str]] = {}
        self.audience: dict[str, user_pb2.Audience.ValueType] = {}
        self.last_seen: dict[str, user_pb2.Audience.ValueType] = {}
        self.status: dict[str, Status] = {}
        self.blocks: set[frozenset[str]] = set()
        self.is_down = False

    def befriend(self, *users: str) -> None:
        self.friends.add(frozenset(users))

    async def sight(self, viewer_id: str, owner_id: str) -> Sight | None:
        if owner_id not in self.users:
            return None
        if frozenset((viewer_id, owner_id)) in self.blocks:
            return Sight(False, NOBODY, NOBODY)
        audience = self.audience.get(owner_id, CONTACTS)
        return Sight(
            frozenset((viewer_id, owner_id)) in self.friends,
            audience,
            self.last_seen.get(owner_id, CONTACTS),
        )

    async def profiles(self, user_ids: Collection[str]) -> dict[str, Profile]:
        await asyncio.sleep(0)
        if self.is_down:
            raise Refusal("STORAGE_UNAVAILABLE", "down", retry_after=1.0)
        return {
            user_id: Profile(
                self.status.get(user_id, Status()),
                self.audience.get(user_id, CONTACTS) in (CONTACTS, user_pb2.AUDIENCE_EVERYONE),
            )
            for user_id in user_ids
            if user_id in self.users
        }

    async def shared(self, channel_id: str, user_id: str, other_id: str) -> bool:
        return {user_id, other_id} <= set(self.channels.get(channel_id, ()))

    async def check_member(self, channel_id: str, user_id: str) -> None:
        if user_id not in self.channels.get(channel_id, ()):
            raise Refusal("CHANNEL_NOT_FOUND", "none")

    async def members(self, channel_id: str) -> AsyncIterator[Sequence[str]]:
        yield self.channels[channel_id]


class Stage:
    """The rules, and what watchers were told."""

    def __init__(self, *, debounce_s: float = 10.0) -> None:
        self.clock = FakeClock()
        self.people = People()
        self.devices = Devices(self.clock)
        self.states = AloneStates(self.devices)
        self.views = Views(self.states, self.people, self.people, self.devices, self.clock)
        self.watching = Watching(self.views, self.states, self.clock, debounce_s=debounce_s)

    def watcher(self, viewer_id: str) -> Viewer:
        return Viewer(self, viewer_id)

    async def after(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.devices.sweep()
        await self.watching.flush()


class Viewer:
    """One who watches; `frames` are what was told, each in one piece."""

    def __init__(self, stage: Stage, viewer_id: str) -> None:
        self.frames: list[list[pb.PresenceChange]] = []
        self._stage = stage
        self.watcher = Watcher(viewer_id, self._told)

    def _told(self, changes: Sequence[pb.PresenceChange]) -> None:
        self.frames.append(list(changes))

    async def watch(self, *watches: pb.Watch) -> None:
        await self._stage.watching.watch(self.watcher, watches)

    def take(self) -> list[tuple[str, Any]]:
        """What was told since, as (user, state or reason of the end)."""
        found = [
            (
                change.presence.user_id,
                reason_of(change.ended) if change.HasField("ended") else change.presence.state,
            )
            for frame in self.frames
            for change in frame
        ]
        self.frames.clear()
        return found


def friend(user_id: str) -> pb.Watch:
    return pb.Watch(user_id=user_id, friend=True)


def in_channel(user_id: str, channel_id: str) -> pb.Watch:
    return pb.Watch(user_id=user_id, channel_id=channel_id)


__all__ = ["CONTACTS", "NOBODY", "People", "Stage", "Unavailable", "friend", "in_channel"]
