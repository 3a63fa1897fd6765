"""Channels come and go, and so do their members: create, join, add, remove, leave, roles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from chinwag.chat.v1 import channel_pb2, chat_service_pb2, entry_pb2
from chinwag_server.chat import access, ids, permissions
from chinwag_server.chat.channel import ChannelLog
from chinwag_server.chat.channels import Channels, not_found
from chinwag_server.chat.directory import Directory
from chinwag_server.chat.entries import settings_of, time_us, timestamp
from chinwag_server.chat.permissions import BROADCAST, DIRECT, GROUP, MEMBER, OWNER, READER, Action
from chinwag_server.chat.requests import Remember
from chinwag_server.chat.store import ChannelRecord, EntryKind, MemberRecord, PutMember, Write
from chinwag_server.chat.views import Views
from chinwag_server.clock import Clock
from chinwag_server.rpc.caller import Caller
from chinwag_server.rpc.errors import Refusal


class Membership:
    """The rules for channels and their members.

    Args:
        max_group_members: Members of a group, the owner included.
        max_user_channels: Channels that a user may be in.
    """

    def __init__(
        self,
        channels: Channels,
        views: Views,
        directory: Directory,
        clock: Clock,
        random_bytes: ids.RandomBytes,
        *,
        max_group_members: int = 100,
        max_user_channels: int = 5000,
    ) -> None:
        self._channels = channels
        self._store = channels.store
        self._views = views
        self._directory = directory
        self._clock = clock
        self._random_bytes = random_bytes
        self._max_group_members = max_group_members
        self._max_user_channels = max_user_channels

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
            self._check_group_size(1 + len(others))
        await self._check_addable(caller, others)
        await self._check_channel_limit([caller.user_id, *others])
        settings = channel_pb2.Channel(
            id=ids.new_channel_id(self._random_bytes),
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
        await self._channels.commit([log], writes)
        return self._created(log, caller)

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
            await self._check_channel_limit([caller.user_id])
        # The other one may have made it while this one waited: get() again, and nothing waits
        # between its answer and the making.
        log = await self._channels.get(channel_id)
        if log is not None:
            if not log.committed_id:
                await self._channels.commit([log], [])
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
        await self._channels.commit([log], writes)
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
            self._enter(log, user_id, role, now_us) for user_id, role in roles.items()
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

    def _enter(self, log: ChannelLog, user_id: str, role: int, now_us: int) -> PutMember:
        """Makes a user a member at the assigned head and gives the write."""
        member = log.members.get(user_id)
        if member is None:
            member = log.members[user_id] = MemberRecord(log.id, user_id)
        head_id = log.record.head_id
        since_joining = (
            log.settings.history_visibility == channel_pb2.HISTORY_VISIBILITY_SINCE_JOINING
        )
        first = head_id + 1 if log.is_broadcast else head_id
        member.ranges = (*member.ranges, (max(first, 1) if since_joining else 1, 0))
        member.role = role
        member.join_id = head_id
        member.join_time_us = now_us
        member.read_id = member.delivered_id = head_id
        member.read_count = log.record.head_count
        log.record.member_count += 1
        return log.put_member(member)

    def _exit(self, log: ChannelLog, member: MemberRecord) -> PutMember:
        """Ends a membership at the assigned head and gives the write."""
        head_id = log.record.head_id
        member.ranges = (*member.ranges[:-1], (member.ranges[-1][0], head_id))
        member.role = 0
        log.record.member_count -= 1
        return log.put_member(member)

    def _check_group_size(self, size: int) -> None:
        if size > self._max_group_members:
            raise Refusal(
                "MEMBER_LIMIT",
                f"a group has at most {self._max_group_members} members, this would make {size}: "
                "use a broadcast channel",
            )

    async def _check_addable(self, caller: Caller, user_ids: Sequence[str]) -> None:
        for user_id in user_ids:
            if not await self._directory.may_add(caller.user_id, user_id):
                raise Refusal(
                    "RECIPIENT_UNAVAILABLE",
                    f"you cannot add the user {user_id!r}",
                    metadata={"user_id": user_id},
                )

    async def _check_channel_limit(self, user_ids: Sequence[str]) -> None:
        for user_id in user_ids:
            if await self._store.count_user_channels(user_id) >= self._max_user_channels:
                raise Refusal(
                    "CHANNEL_LIMIT",
                    f"the user {user_id!r} is in {self._max_user_channels} channels, as many as "
                    "one may be",
                    metadata={"user_id": user_id},
                )

    # --- joining and adding ---

    async def join(
        self, caller: Caller, request: chat_service_pb2.JoinChannelRequest, remember: Remember
    ) -> ChannelLog:
        """Makes the caller a reader of a public broadcast channel.

        Raises:
            Refusal: CHANNEL_NOT_FOUND, CHANNEL_KIND, CHANNEL_LIMIT, CHANNEL_DELETED.
        """
        async with self._channels.use(request.channel_id) as log:
            member = await self._channels.member(log, caller.user_id)
            if not log.is_broadcast:
                if member is None or not member.role:
                    raise not_found(log.id)
                raise Refusal("CHANNEL_KIND", "only broadcast channels can be joined")
            if member is None or not member.role:
                if not log.settings.is_public:
                    raise not_found(log.id)
                if log.record.deleted:
                    raise Refusal("CHANNEL_DELETED", "the channel was deleted")
                await self._check_channel_limit([caller.user_id])
                member = await self._channels.member(log, caller.user_id)
            if log.dead:
                raise not_found(log.id)
            if member is None or not member.role:
                writes: list[Write] = [
                    self._enter(log, caller.user_id, READER, self._clock.time_us()),
                    log.put_channel(),
                    *remember(chat_service_pb2.JoinChannelResponse()),
                ]
                await self._channels.commit([log], writes)
            return log

    async def add(
        self, caller: Caller, request: chat_service_pb2.AddMembersRequest, remember: Remember
    ) -> chat_service_pb2.AddMembersResponse:
        """Makes users members: all of them or none.

        Raises:
            Refusal: CHANNEL_NOT_FOUND, NOT_A_MEMBER, ROLE_REQUIRED, CHANNEL_KIND,
                RECIPIENT_UNAVAILABLE, SELF_REFERENCE, MEMBER_LIMIT, CHANNEL_LIMIT, INVALID_FIELD.
        """
        user_ids = list(request.user_ids)
        async with self._channels.use(request.channel_id) as log:
            found = await self._channels.member(log, caller.user_id)
            member = access.check(log, found, Action.ADD)
            if caller.user_id in user_ids:
                raise Refusal("SELF_REFERENCE", "you are a member already")
            role = request.role or (READER if log.is_broadcast else MEMBER)
            self._check_role(log, member, role, "role")
            rows = {user_id: await self._channels.member(log, user_id) for user_id in user_ids}
            new = [u for u in user_ids if (row := rows[u]) is None or not row.role]
            await self._check_addable(caller, new)
            await self._check_channel_limit(new)
            # Everything was waited for: check again what may have changed.
            member = access.check(log, found, Action.ADD)
            self._check_role(log, member, role, "role")
            new = [u for u in user_ids if not log.role(u)]
            if not log.is_broadcast:
                self._check_group_size(log.record.member_count + len(new))
            now_us = self._clock.time_us()
            writes: list[Write] = []
            if new and not log.is_broadcast:
                entry = log.next_entry(now_us, caller.user_id, caller.device_id)
                entry.members_added.members.extend(
                    entry_pb2.MemberRef(user_id=u, role=role) for u in new
                )
                writes.append(log.append(entry, EntryKind.MEMBERS_ADDED, now_us))
            writes += [self._enter(log, user_id, role, now_us) for user_id in new]
            answer = chat_service_pb2.AddMembersResponse(
                members=[self._views.member(log.members[user_id]) for user_id in user_ids]
            )
            if new:
                writes.append(log.put_channel())
            writes += remember(answer)
            if writes:
                await self._channels.commit([log], writes)
            return answer

    def _check_role(self, log: ChannelLog, member: MemberRecord, role: int, field: str) -> None:
        """Refuses a role that the kind does not have or that stands above the giver's own."""
        if role not in permissions.roles_of(log.kind):
            raise Refusal(
                "INVALID_FIELD",
                "channels of this kind do not have that role",
                fields=[(field, "not a role of this kind of channel")],
            )
        if permissions.outranks(role, member.role):
            raise Refusal("ROLE_REQUIRED", "you cannot give a role above your own")

    # --- leaving ---

    async def remove(
        self, caller: Caller, request: chat_service_pb2.RemoveMemberRequest, remember: Remember
    ) -> ChannelLog:
        """Ends somebody else's membership.

        Raises:
            Refusal: CHANNEL_NOT_FOUND, NOT_A_MEMBER, MEMBER_NOT_FOUND, ROLE_REQUIRED,
                CHANNEL_KIND, SELF_REFERENCE.
        """
        async with self._channels.use(request.channel_id) as log:
            found = await self._channels.member(log, caller.user_id)
            access.check(log, found, Action.REMOVE)
            if request.user_id == caller.user_id:
                raise Refusal("SELF_REFERENCE", "use LeaveChannel to leave")
            target = await self._channels.member(log, request.user_id)
            member = access.check(log, found, Action.REMOVE)
            if target is None or not target.role:
                raise Refusal("MEMBER_NOT_FOUND", f"{request.user_id!r} is no member")
            if member.role != OWNER and not permissions.outranks(member.role, target.role):
                raise Refusal("ROLE_REQUIRED", "you cannot remove a member of your own rank")
            writes = self._end(log, target, caller)
            writes += remember(chat_service_pb2.RemoveMemberResponse())
            await self._channels.commit([log], writes)
            return log

    async def leave(
        self, caller: Caller, request: chat_service_pb2.LeaveChannelRequest, remember: Remember
    ) -> ChannelLog:
        """Ends the caller's own membership.

        Raises:
            Refusal: CHANNEL_NOT_FOUND, NOT_A_MEMBER, CHANNEL_KIND, LAST_OWNER.
        """
        async with self._channels.use(request.channel_id) as log:
            found = await self._channels.member(log, caller.user_id)
            member = access.check(log, found, Action.LEAVE)
            await self._check_not_last_owner(log, member)
            member = access.check(log, found, Action.LEAVE)
            writes = self._end(log, member, caller)
            writes += remember(chat_service_pb2.LeaveChannelResponse())
            await self._channels.commit([log], writes)
            return log

    def _end(self, log: ChannelLog, target: MemberRecord, caller: Caller) -> list[Write]:
        """Ends a membership: an entry, but in broadcast channels a register alone."""
        writes: list[Write] = []
        if not log.is_broadcast:
            now_us = self._clock.time_us()
            entry = log.next_entry(now_us, caller.user_id, caller.device_id)
            entry.member_removed.user_id = target.user_id
            writes.append(log.append(entry, EntryKind.MEMBER_REMOVED, now_us))
        writes.append(self._exit(log, target))
        writes.append(log.put_channel())
        return writes

    async def _check_not_last_owner(self, log: ChannelLog, member: MemberRecord) -> None:
        if member.role != OWNER or log.record.member_count == 1:
            return
        if log.is_broadcast:
            # Owners of a broadcast channel are few, but not all rows are in memory.
            after, owners = "", 0
            while owners < 2 and (page := await self._store.member_page(log.id, after, 1000)):
                owners += sum(row.role == OWNER for row in page)
                after = page[-1].user_id
        else:
            owners = sum(row.role == OWNER for row in log.members.values())
        if owners < 2:
            raise Refusal("LAST_OWNER", "the channel needs an owner: make another member one first")

    async def forget_user(self, user_id: str, channel_id: str) -> None:
        """Ends the membership of a deleted account; the oldest admin or member inherits a
        channel that would be left without an owner."""
        async with self._channels.use(channel_id) as log:
            target = await self._channels.member(log, user_id)
            if target is None or not target.role or log.dead or log.record.deleted:
                return
            if log.kind == DIRECT:
                return
            server = Caller()
            writes: list[Write] = []
            if target.role == OWNER:
                heirs = [m for m in log.members.values() if m.role and m is not target]
                if heirs and all(m.role != OWNER for m in heirs):
                    heir = min(heirs, key=lambda m: (m.role, m.join_time_us))
                    writes += self._give_role(log, heir, OWNER, server)
            writes += self._end(log, target, server)
            await self._channels.commit([log], writes)

    # --- roles ---

    async def set_role(
        self, caller: Caller, request: chat_service_pb2.SetMemberRoleRequest, remember: Remember
    ) -> chat_service_pb2.SetMemberRoleResponse:
        """Gives a member another role.

        Raises:
            Refusal: CHANNEL_NOT_FOUND, NOT_A_MEMBER, MEMBER_NOT_FOUND, ROLE_REQUIRED,
                LAST_OWNER, CHANNEL_KIND, INVALID_FIELD.
        """
        async with self._channels.use(request.channel_id) as log:
            found = await self._channels.member(log, caller.user_id)
            access.check(log, found, Action.SET_ROLE)
            target = await self._channels.member(log, request.user_id)
            self._check_rank(log, found, target, request)
            if target is not None and target.role == OWNER and request.role != OWNER:
                await self._check_not_last_owner(log, target)
                self._check_rank(log, found, target, request)
            assert target is not None
            writes: list[Write] = []
            if target.role != request.role:
                writes = self._give_role(log, target, request.role, caller)
            answer = chat_service_pb2.SetMemberRoleResponse(member=self._views.member(target))
            writes += remember(answer)
            if writes:
                await self._channels.commit([log], writes)
            return answer

    def _check_rank(
        self,
        log: ChannelLog,
        found: MemberRecord | None,
        target: MemberRecord | None,
        request: chat_service_pb2.SetMemberRoleRequest,
    ) -> MemberRecord:
        """The caller's row, if they may give the target the role. Never waits."""
        member = access.check(log, found, Action.SET_ROLE)
        if target is None or not target.role:
            raise Refusal("MEMBER_NOT_FOUND", f"{request.user_id!r} is no member")
        self._check_role(log, member, request.role, "role")
        if (
            member is not target
            and member.role != OWNER
            and not permissions.outranks(member.role, target.role)
        ):
            raise Refusal("ROLE_REQUIRED", "you cannot change a member of your own rank")
        return member

    def _give_role(
        self, log: ChannelLog, target: MemberRecord, role: int, caller: Caller
    ) -> list[Write]:
        writes: list[Write] = []
        if not log.is_broadcast:
            now_us = self._clock.time_us()
            entry = log.next_entry(now_us, caller.user_id, caller.device_id)
            entry.member_role_changed.member.user_id = target.user_id
            entry.member_role_changed.member.role = role  # type: ignore[assignment]
            writes.append(log.append(entry, EntryKind.MEMBER_ROLE_CHANGED, now_us))
        target.role = role
        writes.append(log.put_member(target))
        return writes

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
            await self._channels.commit([log], writes)
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
            await self._channels.commit([log], writes)
            return log


_SETTINGS = frozenset(
    {"name", "description", "avatar_url", "metadata", "is_public", "history_visibility"}
)
