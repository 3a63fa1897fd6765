"""Read and delivered marks, preferences, typing: registers and signals, no entries."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from chinwag.chat.v1 import channel_pb2, chat_service_pb2, connect_pb2
from chinwag_server.chat import access
from chinwag_server.chat.channel import ChannelLog
from chinwag_server.chat.channels import Channels
from chinwag_server.chat.hub import Hub
from chinwag_server.chat.permissions import Action
from chinwag_server.chat.requests import Remember
from chinwag_server.chat.store import MemberRecord, Write
from chinwag_server.chat.views import Views
from chinwag_server.clock import Clock
from chinwag_server.rpc.caller import Caller
from chinwag_server.rpc.errors import Refusal

_PREFERENCES = frozenset(
    {"notification_level", "mute_until", "archived", "pinned", "marked_unread"}
)


@dataclass(slots=True, frozen=True)
class Moved:
    """A mark that rose: whose, where."""

    log: ChannelLog
    member: MemberRecord


class Marks:
    """The rules for what a user has read and how they want a channel."""

    def __init__(self, channels: Channels, views: Views, hub: Hub, clock: Clock) -> None:
        self._channels = channels
        self._store = channels.store
        self._views = views
        self._hub = hub
        self._clock = clock
        self._telling: set[asyncio.Future[None]] = set()

    @property
    def telling(self) -> bool:
        """Whether a register that is durable has yet to be passed on."""
        return bool(self._telling)

    async def move(
        self, caller: Caller, channel_id: str, read_id: int, delivered_id: int
    ) -> Moved | None:
        """Raises marks in memory and submits them; the write is not waited for. None if nothing
        rose.

        Raises:
            Refusal: CHANNEL_NOT_FOUND, NOT_A_MEMBER, BEYOND_HEAD, STORAGE_UNAVAILABLE.
        """
        moved = await self._raise(caller, channel_id, read_id, delivered_id)
        if isinstance(moved, Moved):
            self._channels.submit(
                moved.log, [moved.log.put_member(moved.member)], self._told(caller, moved)
            )
            return moved
        return None

    async def mark(
        self, caller: Caller, channel_id: str, read_id: int, delivered_id: int
    ) -> channel_pb2.ChannelState:
        """Raises marks, waits until they are durable, and gives the registers.

        Raises:
            Refusal: as `move`.
        """
        moved = await self._raise(caller, channel_id, read_id, delivered_id)
        if isinstance(moved, Moved):
            log, member = moved.log, moved.member
            told = self._told(caller, moved)
            await self._channels.commit(log, [log.put_member(member)])
            told(None)
        else:
            log, member = moved
        return await self._views.state(member, log.committed_id, log.committed_count)

    async def _raise(
        self, caller: Caller, channel_id: str, read_id: int, delivered_id: int
    ) -> Moved | tuple[ChannelLog, MemberRecord]:
        async with self._channels.use(channel_id) as log:
            found = await self._channels.member(log, caller.user_id)
            member = access.check(log, found, Action.MARK)
            head_id = log.committed_id
            if max(read_id, delivered_id) > head_id:
                raise Refusal(
                    "BEYOND_HEAD",
                    f"a mark at {max(read_id, delivered_id)} is above the head {head_id}",
                    fields=[
                        ("read_id" if read_id > head_id else "delivered_id", f"at most {head_id}")
                    ],
                    metadata={"head_id": str(head_id)},
                )
            delivered_id = max(read_id, delivered_id)
            read_count = member.read_count
            if read_id > member.read_id:
                read_count = (
                    log.committed_count
                    if read_id == head_id
                    else await self._store.timeline_count(log.id, read_id)
                )
                member = access.check(log, found, Action.MARK)
            rose = False
            if read_id > member.read_id:
                member.read_id = read_id
                member.read_count = read_count
                self._clear_marked_unread(member)
                rose = True
            if delivered_id > member.delivered_id:
                member.delivered_id = delivered_id
                rose = True
            return Moved(log, member) if rose else (log, member)

    @staticmethod
    def _clear_marked_unread(member: MemberRecord) -> None:
        if member.preferences:
            preferences = channel_pb2.ChannelPreferences.FromString(member.preferences)
            if preferences.marked_unread:
                preferences.marked_unread = False
                member.preferences = preferences.SerializeToString()

    def _told(self, caller: Caller, moved: Moved) -> Callable[[Exception | None], None]:
        def done(error: Exception | None) -> None:
            if error is None:
                self._hub.marks_changed(moved.log, moved.member)
                if self._hub.reaches(caller.user_id, caller.device_id):
                    task = asyncio.ensure_future(self._tell_own(caller, moved))
                    self._telling.add(task)
                    task.add_done_callback(self._telling.discard)

        return done

    async def _tell_own(self, caller: Caller, moved: Moved) -> None:
        log = moved.log
        state = await self._views.state(moved.member, log.committed_id, log.committed_count)
        self._hub.state_changed(caller.user_id, state, but=caller.device_id)

    async def receipts(
        self, caller: Caller, channel_id: str, after_user_id: str, limit: int
    ) -> list[channel_pb2.Receipt]:
        """A page of the members' marks, by user id.

        Raises:
            Refusal: CHANNEL_NOT_FOUND, NOT_A_MEMBER, CHANNEL_KIND.
        """
        async with self._channels.use(channel_id) as log:
            found = await self._channels.member(log, caller.user_id)
            access.check(log, found, Action.READ)
            if log.is_broadcast:
                raise Refusal("CHANNEL_KIND", "broadcast channels have no receipts")
            rows = sorted(
                (row for row in log.members.values() if row.role and row.user_id > after_user_id),
                key=lambda row: row.user_id,
            )
            return [receipt_of(row) for row in rows[:limit]]

    async def set_preferences(
        self,
        caller: Caller,
        request: chat_service_pb2.SetChannelPreferencesRequest,
        remember: Remember,
    ) -> chat_service_pb2.SetChannelPreferencesResponse:
        """Changes the caller's own settings that the mask names.

        Raises:
            Refusal: CHANNEL_NOT_FOUND, NOT_A_MEMBER, INVALID_FIELD.
        """
        paths = list(dict.fromkeys(request.update_mask.paths))
        unknown = [path for path in paths if path not in _PREFERENCES]
        if unknown or not paths:
            raise Refusal(
                "INVALID_FIELD",
                f"update_mask names fields of {', '.join(sorted(_PREFERENCES))}",
                fields=[("update_mask", f"unknown: {unknown}" if unknown else "empty")],
            )
        async with self._channels.use(request.channel_id) as log:
            found = await self._channels.member(log, caller.user_id)
            member = access.check(log, found, Action.MARK)
            preferences = channel_pb2.ChannelPreferences.FromString(member.preferences)
            for path in paths:
                if path == "mute_until":
                    preferences.ClearField("mute_until")
                    if request.preferences.HasField("mute_until"):
                        preferences.mute_until.CopyFrom(request.preferences.mute_until)
                else:
                    setattr(preferences, path, getattr(request.preferences, path))
            member.preferences = preferences.SerializeToString()
            member.archived = preferences.archived
            member.pinned = preferences.pinned
            state = await self._views.state(member, log.committed_id, log.committed_count)
            answer = chat_service_pb2.SetChannelPreferencesResponse(state=state)
            access.check(log, found, Action.MARK)
            writes: list[Write] = [log.put_member(member, own_only=True), *remember(answer)]
            await self._channels.commit(log, writes)
            self._hub.state_changed(caller.user_id, state, but=caller.device_id)
            return answer

    async def typing(
        self, caller: Caller, channel_id: str, thread_root_id: int, active: bool
    ) -> None:
        """Tells the other members that the caller types.

        Raises:
            Refusal: CHANNEL_NOT_FOUND, NOT_A_MEMBER, ROLE_REQUIRED.
        """
        async with self._channels.use(channel_id) as log:
            found = await self._channels.member(log, caller.user_id)
            access.check(log, found, Action.TYPE)
            self._hub.typing(
                log,
                connect_pb2.Typing(
                    channel_id=channel_id,
                    user_id=caller.user_id,
                    thread_root_id=thread_root_id,
                    active=active,
                ),
            )


def receipt_of(row: MemberRecord) -> channel_pb2.Receipt:
    """A member's marks as the others see them."""
    return channel_pb2.Receipt(
        channel_id=row.channel_id,
        user_id=row.user_id,
        delivered_id=row.delivered_id,
        read_id=row.read_id,
    )


def visible_receipts(log: ChannelLog, viewer: MemberRecord) -> list[channel_pb2.Receipt]:
    """All members' marks but the viewer's own; none for somebody who is no member now."""
    if not viewer.role or log.is_broadcast:
        return []
    return [
        receipt_of(row)
        for row in log.members.values()
        if row.role and row.user_id != viewer.user_id
    ]
