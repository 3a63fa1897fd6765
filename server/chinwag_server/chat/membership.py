"""Members come and go: join, add, remove, leave, roles."""

from __future__ import annotations

from collections.abc import Sequence

from chinwag.chat.v1 import channel_pb2, chat_service_pb2, entry_pb2
from chinwag_server.chat import access, permissions
from chinwag_server.chat.channel import ChannelLog
from chinwag_server.chat.channels import Channels, not_found
from chinwag_server.chat.directory import Directory
from chinwag_server.chat.permissions import DIRECT, MEMBER, OWNER, READER, Action
from chinwag_server.chat.requests import Remember
from chinwag_server.chat.store import EntryKind, MemberRecord, PutMember, Write
from chinwag_server.chat.views import Views
from chinwag_server.clock import Clock
from chinwag_server.rpc.caller import Caller
from chinwag_server.rpc.errors import Refusal


class Membership:
    """The rules for a channel's members.

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
        *,
        max_group_members: int = 100,
        max_user_channels: int = 5000,
    ) -> None:
        self._channels = channels
        self._store = channels.store
        self._views = views
        self._directory = directory
        self._clock = clock
        self._max_group_members = max_group_members
        self._max_user_channels = max_user_channels

    # --- what a channel's making needs too ---

    def enter(self, log: ChannelLog, user_id: str, role: int, now_us: int) -> PutMember:
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

    def check_group_size(self, size: int) -> None:
        if size > self._max_group_members:
            raise Refusal(
                "MEMBER_LIMIT",
                f"a group has at most {self._max_group_members} members, this would make {size}: "
                "use a broadcast channel",
            )

    async def check_addable(self, caller: Caller, user_ids: Sequence[str]) -> None:
        for user_id in user_ids:
            if not await self._directory.may_add(caller.user_id, user_id):
                raise Refusal(
                    "RECIPIENT_UNAVAILABLE",
                    f"you cannot add the user {user_id!r}",
                    metadata={"user_id": user_id},
                )

    async def check_channel_limit(self, user_ids: Sequence[str]) -> None:
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
                await self.check_channel_limit([caller.user_id])
                member = await self._channels.member(log, caller.user_id)
            if log.dead:
                raise not_found(log.id)
            if member is None or not member.role:
                writes: list[Write] = [
                    self.enter(log, caller.user_id, READER, self._clock.time_us()),
                    log.put_channel(),
                    *remember(chat_service_pb2.JoinChannelResponse()),
                ]
                await self._channels.commit(log, writes)
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
            await self.check_addable(caller, new)
            await self.check_channel_limit(new)
            # Everything was waited for: check again what may have changed.
            member = access.check(log, found, Action.ADD)
            self._check_role(log, member, role, "role")
            new = [u for u in user_ids if not log.role(u)]
            if not log.is_broadcast:
                self.check_group_size(log.record.member_count + len(new))
            now_us = self._clock.time_us()
            writes: list[Write] = []
            if new and not log.is_broadcast:
                entry = log.next_entry(now_us, caller.user_id, caller.device_id)
                entry.members_added.members.extend(
                    entry_pb2.MemberRef(user_id=u, role=role) for u in new
                )
                writes.append(log.append(entry, EntryKind.MEMBERS_ADDED, now_us))
            writes += [self.enter(log, user_id, role, now_us) for user_id in new]
            answer = chat_service_pb2.AddMembersResponse(
                members=[self._views.member(log.members[user_id]) for user_id in user_ids]
            )
            if new:
                writes.append(log.put_channel())
            writes += remember(answer)
            if writes:
                await self._channels.commit(log, writes)
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
            await self._channels.commit(log, writes)
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
            await self._channels.commit(log, writes)
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
            await self._channels.commit(log, writes)

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
                await self._channels.commit(log, writes)
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
