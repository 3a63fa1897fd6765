"""What a client's application gets, in order."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum

from chinwag.account.v1 import events_pb2
from chinwag.chat.v1 import channel_pb2, entry_pb2, message_pb2
from chinwag.errors import ChinwagError
from chinwag.presence.v1 import presence_pb2


@dataclass(frozen=True, slots=True)
class Cursor:
    """A position in a channel: commit it in one transaction with what an event led to, and give
    it to `connect(cursors=...)` when the program starts again."""

    channel_id: str
    generation: int
    id: int


class Connection(Enum):
    """The state of a client's connection."""

    CONNECTING = "connecting"
    CATCHING_UP = "catching up"
    LIVE = "live"
    WAITING = "waiting"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Event:
    """Anything that happens."""


@dataclass(frozen=True, slots=True)
class ConnectionChanged(Event):
    """The connection's state; `error` says why it is not live, `retry_in` when it will try."""

    connection: Connection
    error: ChinwagError | None = None
    retry_in: float | None = None


@dataclass(frozen=True, slots=True)
class ChannelEvent(Event):
    """Something in a channel."""

    channel_id: str


@dataclass(frozen=True, slots=True)
class EntryEvent(ChannelEvent):
    """The next entry of a channel's log.

    Attributes:
        entry: As it came.
        cursor: The position after it.
    """

    entry: entry_pb2.Entry
    cursor: Cursor

    @property
    def actor_id(self) -> str:
        """Who did it; empty: the server."""
        return self.entry.actor_id

    @property
    def create_time(self) -> datetime:
        """When, by the server's clock, in UTC."""
        return self.entry.create_time.ToDatetime(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class MessageReceived(EntryEvent):
    """A message, one's own too."""

    @property
    def message_id(self) -> int:
        return self.entry.id

    @property
    def sender_id(self) -> str:
        return self.entry.actor_id

    @property
    def content(self) -> message_pb2.MessageContent:
        """Empty if the message was deleted since (`entry.redacted`)."""
        return self.entry.message_sent.content

    @property
    def text(self) -> str:
        return self.entry.message_sent.content.text

    @property
    def client_message_id(self) -> str:
        return self.entry.message_sent.client_message_id

    @property
    def thread_root_id(self) -> int:
        """The message in whose thread it stands; 0: the main timeline."""
        return self.entry.message_sent.thread_root_id


@dataclass(frozen=True, slots=True)
class MessageEdited(EntryEvent):
    """A message has new content."""

    @property
    def message_id(self) -> int:
        return self.entry.message_edited.message_id

    @property
    def content(self) -> message_pb2.MessageContent:
        return self.entry.message_edited.content

    @property
    def text(self) -> str:
        return self.entry.message_edited.content.text


@dataclass(frozen=True, slots=True)
class MessageDeleted(EntryEvent):
    """A message lost its content."""

    @property
    def message_id(self) -> int:
        return self.entry.message_deleted.message_id


@dataclass(frozen=True, slots=True)
class ReactionChanged(EntryEvent):
    """Somebody reacted or took a reaction back."""

    @property
    def added(self) -> bool:
        return self.entry.HasField("reaction_added")

    @property
    def message_id(self) -> int:
        if self.added:
            return self.entry.reaction_added.message_id
        return self.entry.reaction_removed.message_id

    @property
    def emoji(self) -> str:
        return self.entry.reaction_added.emoji or self.entry.reaction_removed.emoji


@dataclass(frozen=True, slots=True)
class MembersChanged(EntryEvent):
    """Users came, went, or have another role: see `entry`."""


@dataclass(frozen=True, slots=True)
class ChannelChanged(EntryEvent):
    """The channel was created, changed or deleted: see `entry`."""


@dataclass(frozen=True, slots=True)
class Unknown(EntryEvent):
    """An entry of a kind that this version does not know."""


@dataclass(frozen=True, slots=True)
class ChannelOpened(ChannelEvent):
    """The client's view of a channel begins here; what lies before is `history`."""

    channel: channel_pb2.Channel
    state: channel_pb2.ChannelState
    cursor: Cursor


@dataclass(frozen=True, slots=True)
class ChannelReset(ChannelEvent):
    """What the client had of a channel is void; `cursor` is None if the channel is gone."""

    reason: str
    cursor: Cursor | None


@dataclass(frozen=True, slots=True)
class GapSeen(ChannelEvent):
    """Ids from `from_id` to `to_id` that the user may not see."""

    from_id: int
    to_id: int
    cursor: Cursor


@dataclass(frozen=True, slots=True)
class StateChanged(ChannelEvent):
    """The user's own registers of a channel."""

    state: channel_pb2.ChannelState


@dataclass(frozen=True, slots=True)
class ReceiptChanged(ChannelEvent):
    """How far another member has received and read."""

    user_id: str
    delivered_id: int
    read_id: int


@dataclass(frozen=True, slots=True)
class TypingChanged(ChannelEvent):
    """Another member types (for six seconds) or has stopped."""

    user_id: str
    thread_root_id: int
    active: bool


@dataclass(frozen=True, slots=True)
class PresenceChanged(Event):
    """A watched user's presence."""

    change: presence_pb2.PresenceChange


@dataclass(frozen=True, slots=True)
class AccountChanged(Event):
    """Something about the account: friends, sessions, profile."""

    event: events_pb2.AccountEvent


@dataclass(frozen=True, slots=True)
class SendResolved(ChannelEvent):
    """What became of a message that an earlier process of this client left unsent.

    Attributes:
        message_id: Where it is stored; 0 if it failed.
        error: Why it failed, or None.
    """

    client_message_id: str
    message_id: int
    error: ChinwagError | None = None


@dataclass(frozen=True, slots=True)
class StampReached(Event):
    """Everything before is handed out: for the client's store, not for applications."""

    stamp: str


@dataclass(frozen=True, slots=True)
class SendDone(Event):
    """A send is resolved: for the client's store, not for applications."""

    client_message_id: str


_KINDS: dict[str, type[EntryEvent]] = {
    "message_sent": MessageReceived,
    "message_edited": MessageEdited,
    "message_deleted": MessageDeleted,
    "reaction_added": ReactionChanged,
    "reaction_removed": ReactionChanged,
    "members_added": MembersChanged,
    "member_removed": MembersChanged,
    "member_role_changed": MembersChanged,
    "channel_created": ChannelChanged,
    "channel_updated": ChannelChanged,
    "channel_deleted": ChannelChanged,
}


def of_entry(entry: entry_pb2.Entry, generation: int) -> EntryEvent:
    """The event of an entry."""
    kind = _KINDS.get(entry.WhichOneof("kind") or "", Unknown)
    return kind(entry.channel_id, entry, Cursor(entry.channel_id, generation, entry.id))
