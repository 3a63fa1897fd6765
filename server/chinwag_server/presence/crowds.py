"""How many of a channel's members can be reached: asked for, never broadcast.

An answer is computed once for all who ask meanwhile, and kept for a while.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass

from chinwag.presence.v1 import presence_pb2 as pb
from chinwag.presence.v1 import presence_service_pb2
from chinwag_server.chat.entries import timestamp
from chinwag_server.clock import Clock
from chinwag_server.presence.ports import Accounts, Channels
from chinwag_server.presence.states import (
    AWAY,
    DO_NOT_DISTURB,
    OFFLINE,
    ONLINE,
    Connected,
    State,
    appearance,
    own_state,
)
from chinwag_server.presence.views import Now, Views

MAX_KEPT = 10_000
MAX_NAMED = 200


@dataclass(slots=True)
class _Crowd:
    """A channel at one moment.

    Attributes:
        named: Some who are not offline, online ones first.
        now: What was known of them.
    """

    counts: dict[State, int]
    members: int
    named: list[str]
    now: Now
    until: float = 0.0


class Crowds:
    """Answers `GetChannelPresence`.

    Args:
        age_s: How old an answer may be. One that took long to compute is kept for longer.
    """

    def __init__(
        self,
        views: Views,
        accounts: Accounts,
        channels: Channels,
        clock: Clock,
        *,
        age_s: float = 10.0,
    ) -> None:
        self._views = views
        self._accounts = accounts
        self._channels = channels
        self._clock = clock
        self._age_s = age_s
        self._kept: OrderedDict[str, _Crowd] = OrderedDict()
        self._computing: dict[str, asyncio.Task[_Crowd]] = {}

    async def get(
        self, user_id: str, channel_id: str, max_users: int
    ) -> presence_service_pb2.GetChannelPresenceResponse:
        """A channel as one of its members sees it.

        Args:
            user_id: Who asks; "": an API key that stands for nobody.

        Raises:
            Refusal: CHANNEL_NOT_FOUND, NOT_A_MEMBER, STORAGE_UNAVAILABLE.
            Unavailable: The nodes' states cannot be known now.
        """
        await self._channels.check_member(channel_id, user_id)
        crowd = await self._crowd(channel_id)
        presences: list[pb.Presence] = []
        for member_id in crowd.named:
            if len(presences) >= max_users:
                break
            presence = await self._presence(user_id, member_id, crowd.now)
            if presence is not None:
                presences.append(presence)
        return presence_service_pb2.GetChannelPresenceResponse(
            online_count=crowd.counts[ONLINE],
            away_count=crowd.counts[AWAY],
            do_not_disturb_count=crowd.counts[DO_NOT_DISTURB],
            member_count=crowd.members,
            presences=presences,
            compute_time=timestamp(crowd.now.now_us),
        )

    async def _presence(self, viewer_id: str, member_id: str, now: Now) -> pb.Presence | None:
        """A member as somebody sees them; None: not at all."""
        last_seen = True
        if viewer_id and viewer_id != member_id:
            sight = await self._accounts.sight(viewer_id, member_id)
            if sight is None or not sight.shows(sight.presence, contact=True):
                return None
            last_seen = sight.shows(sight.last_seen, contact=True)
        connected = now.connected.get(member_id, Connected())
        return appearance(
            member_id, connected, now.status(member_id), now.now_us, last_seen=last_seen
        )

    async def _crowd(self, channel_id: str) -> _Crowd:
        kept = self._kept.get(channel_id)
        if kept is not None and self._clock.monotonic() < kept.until:
            return kept
        computing = self._computing.get(channel_id)
        if computing is None:
            computing = asyncio.ensure_future(self._compute(channel_id))
            self._computing[channel_id] = computing
            computing.add_done_callback(lambda _done: self._computing.pop(channel_id, None))
        # Of those who wait any may be cancelled.
        return await asyncio.shield(computing)

    async def _compute(self, channel_id: str) -> _Crowd:
        begun = self._clock.monotonic()
        counts: dict[State, int] = dict.fromkeys((ONLINE, AWAY, DO_NOT_DISTURB), 0)
        named: dict[State, list[str]] = {state: [] for state in counts}
        connected: dict[str, Connected] = {}
        profiles = {}
        members = 0
        now_us = self._clock.time_us()
        async for page in self._channels.members(channel_id):
            members += len(page)
            now = await self._views.now(page)
            for user_id in page:
                state = self._shown(user_id, now)
                if state == OFFLINE:
                    continue
                counts[state] += 1
                if len(named[state]) < MAX_NAMED:
                    named[state].append(user_id)
                    connected[user_id] = now.connected[user_id]
                    profiles[user_id] = now.profiles[user_id]
        names = [user_id for state in counts for user_id in named[state]][:MAX_NAMED]
        took_s = self._clock.monotonic() - begun
        crowd = _Crowd(counts, members, names, Now(connected, profiles, now_us))
        crowd.until = begun + max(self._age_s, 20 * took_s)
        self._kept[channel_id] = crowd
        self._kept.move_to_end(channel_id)
        if len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        return crowd

    @staticmethod
    def _shown(user_id: str, now: Now) -> State:
        """A member's state as members who are no friends see it."""
        profile = now.profiles.get(user_id)
        if profile is None or not profile.contacts_see:
            return OFFLINE
        status = now.status(user_id)
        if status.mode == pb.PRESENCE_MODE_INVISIBLE:
            return OFFLINE
        return own_state(now.connected.get(user_id, Connected()), status)
