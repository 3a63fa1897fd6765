"""Channels come and go: create, update, delete."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from chinwag.chat.v1 import channel_pb2, chat_service_pb2, entry_pb2
from chinwag_server.chat import access, ids
from chinwag_server.chat.channel import ChannelLog
from chinwag_server.chat.channels import Channels, storage_unavailable
from chinwag_server.chat.directory import Directory
from chinwag_server.chat.entries import settings_of, time_us, timestamp
from chinwag_server.chat.membership import Membership
from chinwag_server.chat.permissions import BROADCAST, DIRECT, GROUP, MEMBER, OWNER, READER, Action
from chinwag_server.chat.requests import Remember
from chinwag_server.chat.store import ChannelRecord, EntryKind, Write
from chinwag_server.chat.views import Views
from chinwag_server.clock import Clock
from chinwag_server.rpc.caller import Caller
from chinwag_server.rpc.errors import Refusal


def id_of_new(user_id: str, request: chat_service_pb2.CreateChannelRequest) -> str:
    """The id of the channel that a call makes, if a repeat of the call makes the same one; "": it
    is drawn."""
    if request.kind == DIRECT and len(request.member_user_ids) == 1:
        return ids.direct_channel_id(user_id, request.member_user_ids[0])
    return ids.requested_channel_id(user_id, request.request_id) if request.request_id else ""


class Lifecycle:
    """The rules for channels as wholes."""

    def __init__(
        self,
        channels: Channels,
        members: Membership,
        views: Views,
        directory: Directory,
        clock: Clock,
        random_bytes: ids.RandomBytes,
        is_mine: Callable[[str], bool] = lambda _channel_id: True,
    ) -> None:
        self._channels = channels
        self._members = members
        self._store = channels.store
        self._views = views
        self._directory = directory
        self._clock = clock
        self._random_bytes = random_bytes
        self._is_mine = is_mine

    # --- creating ---

    async def create(
        self, caller: Caller, request: chat_service_pb2.CreateChannelRequest, remember: Remember
    ) -> chat_service_pb2.CreateChannelResponse:
        """Makes a channel, or gives back the pair's direct channel.

        Raises:
            Refusal: RECIPIENT_UNAVAILABLE, SELF_REFERENCE, MEMBER_LIMIT, CHANNEL_LIMIT,
                INVALID_FIELD, STORAGE_UNAVAILABLE.
        """
        others = list(request.member_user_ids)
        if caller.user_id in others:
            raise Refusal(
                "SELF_REFERENCE",
                "member_user_ids names the other members, not yourself",
                fields=[("member_user_ids", "holds the caller")],
            )
        if request.kind == DIRECT:
            return await self._create_direct(caller, request, others, remember)
        if request.is_public and request.kind != BROADCAST:
            raise Refusal(
                "INVALID_FIELD",
                "only broadcast channels can be public",
                fields=[("is_public", "broadcast channels only")],
            )
        if request.kind == BROADCAST and not request.name:
            raise Refusal(
                "INVALID_FIELD",
                "a broadcast channel needs a name",
                fields=[("name", "must not be empty for a broadcast channel")],
            )
        if request.kind == GROUP:
            self._members.check_group_size(1 + len(others))
        await self._members.check_addable(caller, others)
        await self._members.check_channel_limit([caller.user_id, *others])
        channel_id = id_of_new(caller.user_id, request) or self._new_id()
        if request.request_id and await self._channels.get(channel_id) is not None:
            raise Refusal(
                "ID_REUSED",
                f"request_id {request.request_id!r} made a channel 30 days ago: draw a new one",
                metadata={"channel_id": channel_id},
            )
        settings = channel_pb2.Channel(
            id=channel_id,
            kind=request.kind,
            name=request.name,
            description=request.description,
            avatar_url=request.avatar_url,
            metadata=request.metadata,
            is_public=request.is_public,
            history_visibility=request.history_visibility or channel_pb2.HISTORY_VISIBILITY_ALL,
            creator_id=caller.user_id,
        )
        role = READER if request.kind == BROADCAST else MEMBER
        roles: dict[str, int] = {caller.user_id: OWNER, **dict.fromkeys(others, role)}
        log, writes = self._make(caller, settings, roles)
        answer = self._created(log, caller)
        writes += remember(answer)
        await self._channels.commit(log, writes)
        return self._created(log, caller)

    def _new_id(self) -> str:
        try:
            return ids.new_channel_id(self._random_bytes, self._is_mine)
        except LookupError:
            # This node owns no shard at the moment.
            raise storage_unavailable() from None

    async def _create_direct(
        self,
        caller: Caller,
        request: chat_service_pb2.CreateChannelRequest,
        others: Sequence[str],
        remember: Remember,
    ) -> chat_service_pb2.CreateChannelResponse:
        if len(others) != 1:
            raise Refusal(
                "INVALID_FIELD",
                "a direct channel has exactly one other member",
                fields=[("member_user_ids", f"expected one user, got {len(others)}")],
            )
        other = others[0]
        channel_id = ids.direct_channel_id(caller.user_id, other)
        if await self._channels.get(channel_id) is None:
            if not await self._directory.may_write(caller.user_id, other):
                raise Refusal("RECIPIENT_UNAVAILABLE", "you cannot write to this user")
            await self._members.check_channel_limit([caller.user_id])
        # The other one may have made it while this one waited, also for this second answer: what is
        # in memory now counts, and nothing waits between that and the making.
        await self._channels.get(channel_id)
        log = self._channels.loaded(channel_id)
        if log is not None:
            if not log.committed_id:
                await self._channels.commit(log, [])
            return chat_service_pb2.CreateChannelResponse(
                channel=await self._views.channel_view(log, log.members[caller.user_id]),
                created=False,
            )
        settings = channel_pb2.Channel(
            id=channel_id,
            kind=DIRECT,
            metadata=request.metadata,
            history_visibility=channel_pb2.HISTORY_VISIBILITY_ALL,
            creator_id=caller.user_id,
            direct_user_ids=sorted((caller.user_id, other)),
        )
        log, writes = self._make(caller, settings, {caller.user_id: MEMBER, other: MEMBER})
        writes += remember(self._created(log, caller))
        await self._channels.commit(log, writes)
        return self._created(log, caller)

    def _make(
        self, caller: Caller, settings: channel_pb2.Channel, roles: Mapping[str, int]
    ) -> tuple[ChannelLog, list[Write]]:
        """A new channel with its first entry, assigned but not submitted."""
        now_us = self._clock.time_us()
        settings.create_time.CopyFrom(timestamp(now_us))
        record = ChannelRecord(
            settings.id,
            settings.kind,
            settings.SerializeToString(),
            generation=self._store.generation,
        )
        log = self._channels.adopt(ChannelLog(record, ()))
        entry = log.next_entry(now_us, caller.user_id, caller.device_id)
        entry.channel_created.channel.CopyFrom(settings_of(settings))
        in_log = roles if settings.kind != BROADCAST else {caller.user_id: OWNER}
        entry.channel_created.members.extend(
            entry_pb2.MemberRef(user_id=user_id, role=role)  # type: ignore[arg-type]
            for user_id, role in in_log.items()
        )
        append = log.append(entry, EntryKind.CHANNEL_CREATED, now_us)
        members: list[Write] = [
            self._members.enter(log, user_id, role, now_us) for user_id, role in roles.items()
        ]
        return log, [log.put_channel(), append, *members]

    def _created(self, log: ChannelLog, caller: Caller) -> chat_service_pb2.CreateChannelResponse:
        member = log.members[caller.user_id]
        channel = log.snapshot(self._store.generation)
        channel.head_id = log.record.head_id
        channel.head_count = log.record.head_count
        return chat_service_pb2.CreateChannelResponse(
            channel=chat_service_pb2.ChannelView(
                channel=channel,
                member=self._views.member(member),
                state=channel_pb2.ChannelState(
                    channel_id=log.id,
                    read_id=member.read_id,
                    read_count=member.read_count,
                    delivered_id=member.delivered_id,
                    head_id=log.record.head_id,
                    role=member.role,  # type: ignore[arg-type]
                ),
            ),
            created=True,
        )

    # --- settings ---

    async def update(
        self, caller: Caller, request: chat_service_pb2.UpdateChannelRequest, remember: Remember
    ) -> chat_service_pb2.UpdateChannelResponse:
        """Changes settings that the mask names.

        Raises:
            Refusal: CHANNEL_NOT_FOUND, NOT_A_MEMBER, ROLE_REQUIRED, CHANNEL_KIND, INVALID_FIELD.
        """
        paths = list(dict.fromkeys(request.update_mask.paths))
        unknown = [path for path in paths if path not in _SETTINGS]
        if unknown or not paths:
            raise Refusal(
                "INVALID_FIELD",
                f"update_mask names fields of {', '.join(sorted(_SETTINGS))}",
                fields=[("update_mask", f"unknown: {unknown}" if unknown else "empty")],
            )
        async with self._channels.use(request.channel_id) as log:
            found = await self._channels.member(log, caller.user_id)
            access.check(log, found, Action.UPDATE)
            if "is_public" in paths and request.is_public and not log.is_broadcast:
                raise Refusal(
                    "INVALID_FIELD",
                    "only broadcast channels can be public",
                    fields=[("is_public", "broadcast channels only")],
                )
            for path in paths:
                if path == "metadata":
                    log.settings.metadata.clear()
                    log.settings.metadata.update(request.metadata)
                else:
                    setattr(log.settings, path, getattr(request, path))
            if not log.settings.history_visibility:
                log.settings.history_visibility = channel_pb2.HISTORY_VISIBILITY_ALL
            now_us = self._clock.time_us()
            entry = log.next_entry(now_us, caller.user_id, caller.device_id)
            entry.channel_updated.channel.CopyFrom(settings_of(log.settings))
            entry.channel_updated.changed_fields.extend(paths)
            writes: list[Write] = [
                log.append(entry, EntryKind.CHANNEL_UPDATED, now_us),
                log.put_channel(),
            ]
            channel = log.snapshot(self._store.generation)
            channel.head_id = entry.id
            channel.head_count = entry.timeline_count
            answer = chat_service_pb2.UpdateChannelResponse(channel=channel)
            writes += remember(answer)
            await self._channels.commit(log, writes)
            return answer

    async def delete(
        self, caller: Caller, request: chat_service_pb2.DeleteChannelRequest, remember: Remember
    ) -> ChannelLog:
        """Ends a channel's log.

        Raises:
            Refusal: CHANNEL_NOT_FOUND, NOT_A_MEMBER, ROLE_REQUIRED, CHANNEL_KIND,
                CHANNEL_DELETED.
        """
        async with self._channels.use(request.channel_id) as log:
            found = await self._channels.member(log, caller.user_id)
            access.check(log, found, Action.DELETE_CHANNEL)
            now_us = self._clock.time_us()
            entry = log.next_entry(now_us, caller.user_id, caller.device_id)
            entry.channel_deleted.SetInParent()
            log.settings.delete_time.CopyFrom(timestamp(time_us(entry.create_time)))
            log.record.deleted = True
            writes: list[Write] = [
                log.append(entry, EntryKind.CHANNEL_DELETED, now_us),
                log.put_channel(),
                *remember(chat_service_pb2.DeleteChannelResponse()),
            ]
            await self._channels.commit(log, writes)
            return log


_SETTINGS = frozenset(
    {"name", "description", "avatar_url", "metadata", "is_public", "history_visibility"}
)
