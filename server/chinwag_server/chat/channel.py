"""One channel in memory: what is decided already, ahead of what is stored.

The rules decide in memory and the store follows (`ChatStore.submit`). So a channel has two
positions: `record.head_id`, the newest entry that was *assigned*, and `committed_id`, the newest
that is durable and may be shown. If the store fails, the channel is dropped and read anew: the
assigned state is void and nothing of it was shown.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from chinwag.chat.v1 import channel_pb2, connect_pb2, entry_pb2, message_pb2
from chinwag_server.chat import encoding, ranges
from chinwag_server.chat.entries import COUNT_RULE, timestamp
from chinwag_server.chat.store import (
    AppendEntry,
    ChannelRecord,
    EntryKind,
    MemberRecord,
    PutChannel,
    PutMember,
    Write,
)

MAX_STATES = 64


@dataclass(slots=True)
class PendingSend:
    """A send on its way to the store; repeats of it wait for the same outcome."""

    message_id: int
    time_us: int
    content_hash: bytes
    waiting: list[Callable[[Exception | None], None]] = field(default_factory=list)


@dataclass(slots=True)
class MessageState:
    """A message's projection as assigned; `in_flight` writes of it are not durable yet."""

    message: message_pb2.Message
    content_entry_id: int
    in_flight: int = 0


class ChannelLog:
    """A channel's assigned state.

    Attributes:
        members: All rows of a direct channel or group, those who left too; of a broadcast
            channel only the rows that were looked at.
        live_members: Users who get committed entries now: membership as of `committed_id`.
        pending: Sends on their way, by (sender, client_message_id).
        lookups: Sends whose repeats are being looked up in the store now.
        finished: Sends that became durable while `lookups` was not 0.
        states: Projections that were changed lately.
        dead: The store failed: nothing may be assigned here any more.
        uses: Operations that hold this object across an await; it is not evicted meanwhile.
    """

    __slots__ = (
        "_direct_users",
        "committed_count",
        "committed_id",
        "dead",
        "finished",
        "live_members",
        "lookups",
        "members",
        "pending",
        "record",
        "settings",
        "states",
        "uses",
    )

    def __init__(self, record: ChannelRecord, members: Sequence[MemberRecord]) -> None:
        self.record = record
        self.settings = channel_pb2.Channel.FromString(record.settings)
        self._direct_users = tuple(self.settings.direct_user_ids)
        self.members: dict[str, MemberRecord] = {m.user_id: m for m in members}
        self.live_members: set[str] = {m.user_id for m in members if m.role}
        self.committed_id = record.head_id
        self.committed_count = record.head_count
        self.pending: dict[tuple[str, bytes], PendingSend] = {}
        self.lookups = 0
        self.finished: dict[tuple[str, bytes], PendingSend] = {}
        self.states: OrderedDict[int, MessageState] = OrderedDict()
        self.dead = False
        self.uses = 0

    @property
    def id(self) -> str:
        return self.record.channel_id

    @property
    def kind(self) -> int:
        return self.record.kind

    @property
    def is_broadcast(self) -> bool:
        return self.record.kind == channel_pb2.CHANNEL_KIND_BROADCAST

    @property
    def settled(self) -> bool:
        """Whether everything assigned is durable."""
        return self.committed_id == self.record.head_id and not self.pending

    def role(self, user_id: str) -> int:
        """The user's role as assigned; 0 if they are no member."""
        member = self.members.get(user_id)
        return member.role if member is not None else 0

    def visible(self, member: MemberRecord) -> list[ranges.Range]:
        """The committed ids that a member may see."""
        return ranges.visible(member.ranges, self.committed_id)

    def other_user(self, user_id: str) -> str:
        """The other user of a direct channel."""
        first, second = self._direct_users
        return second if first == user_id else first

    # --- assigning ---

    def next_entry(
        self, now_us: int, actor_id: str, device_id: str, *, counts: bool = False
    ) -> entry_pb2.Entry:
        """The next entry without its kind. Call `append` with it before anything else is
        assigned."""
        record = self.record
        return entry_pb2.Entry(
            channel_id=record.channel_id,
            id=record.head_id + 1,
            create_time=timestamp(max(now_us, record.head_time_us)),
            actor_id=actor_id,
            device_id=device_id,
            timeline_count=record.head_count + counts,
            count_rule=COUNT_RULE,
        )

    def append(
        self,
        entry: entry_pb2.Entry,
        kind: EntryKind,
        now_us: int,
        *,
        message_id: int = 0,
        thread_root_id: int = 0,
        sender_id: str = "",
        client_message_id: bytes = b"",
        content_hash: bytes = b"",
    ) -> AppendEntry:
        """Takes the entry as the head and gives the write that stores it."""
        record = self.record
        record.head_id = entry.id
        record.head_count = entry.timeline_count
        record.head_time_us = max(now_us, record.head_time_us)
        if kind == EntryKind.MESSAGE_SENT and not thread_root_id:
            record.last_message_id = entry.id
        return AppendEntry(
            channel_id=record.channel_id,
            id=entry.id,
            kind=kind,
            payload=entry.SerializeToString(),
            timeline_count=entry.timeline_count,
            time_us=record.head_time_us,
            message_id=message_id,
            thread_root_id=thread_root_id,
            sender_id=sender_id,
            client_message_id=client_message_id,
            content_hash=content_hash,
        )

    def append_message(
        self,
        request: connect_pb2.SendMessageRequest,
        content: bytes,
        now_us: int,
        sender_id: str,
        device_id: str,
        *,
        client_message_id: bytes,
        content_hash: bytes,
    ) -> AppendEntry:
        """`next_entry` and `append` of a sent message, of which there are most.

        Args:
            content: The request's content, serialised.
        """
        record = self.record
        record.head_id += 1
        entry_id = record.head_id
        thread_root_id = request.thread_root_id
        if not thread_root_id:
            record.head_count += 1
            record.last_message_id = entry_id
        record.head_time_us = max(now_us, record.head_time_us)
        return AppendEntry(
            channel_id=record.channel_id,
            id=entry_id,
            kind=EntryKind.MESSAGE_SENT,
            payload=encoding.message_sent(
                channel_id=record.channel_id,
                entry_id=entry_id,
                time_us=record.head_time_us,
                actor_id=sender_id,
                device_id=device_id,
                timeline_count=record.head_count,
                count_rule=COUNT_RULE,
                client_message_id=request.client_message_id,
                content=content,
                reply_to_id=request.reply_to_id,
                thread_root_id=thread_root_id,
            ),
            timeline_count=record.head_count,
            time_us=record.head_time_us,
            message_id=entry_id,
            thread_root_id=thread_root_id,
            sender_id=sender_id,
            client_message_id=client_message_id,
            content_hash=content_hash,
        )

    def put_channel(self) -> PutChannel:
        """The write that stores the channel's row as assigned."""
        self.record.settings = self.settings.SerializeToString()
        return PutChannel(replace(self.record))

    @staticmethod
    def put_member(member: MemberRecord, *, own_only: bool = False) -> PutMember:
        """The write that stores a member's row as assigned."""
        return PutMember(
            MemberRecord(
                member.channel_id,
                member.user_id,
                member.role,
                member.join_id,
                member.join_time_us,
                member.ranges,
                member.read_id,
                member.read_count,
                member.delivered_id,
                member.preferences,
                member.archived,
                member.pinned,
            ),
            own_only,
        )

    def move_own_marks(self, member: MemberRecord, entry_id: int, count: int) -> Write | None:
        """Raises the marks of somebody who sends: they have read up to their own message."""
        if member.read_id >= entry_id:
            return None
        member.read_id = entry_id
        member.read_count = count
        member.delivered_id = entry_id
        return self.put_member(member)

    # --- projections ---

    def keep_state(self, state: MessageState) -> MessageState:
        """Remembers a projection; the oldest that are durable are forgotten."""
        states = self.states
        states[state.message.id] = state
        states.move_to_end(state.message.id)
        if len(states) > MAX_STATES:
            for message_id, old in list(states.items()):
                if not old.in_flight and old is not state:
                    del states[message_id]
                    if len(states) <= MAX_STATES:
                        break
        return state

    # --- views ---

    def snapshot(self, generation: int) -> channel_pb2.Channel:
        """The channel as it may be shown: settings as assigned, head as committed."""
        channel = channel_pb2.Channel()
        channel.CopyFrom(self.settings)
        channel.member_count = self.record.member_count
        channel.generation = generation
        channel.head_id = self.committed_id
        channel.head_count = self.committed_count
        return channel


def snapshot_of(record: ChannelRecord, generation: int) -> channel_pb2.Channel:
    """A channel's row as it may be shown, for lists that do not load the channel."""
    channel = channel_pb2.Channel.FromString(record.settings)
    channel.member_count = record.member_count
    channel.generation = generation
    channel.head_id = record.head_id
    channel.head_count = record.head_count
    return channel
