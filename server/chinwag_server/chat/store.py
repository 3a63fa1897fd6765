"""The chat store's port: the log, channels, members and registers.

The rules decide everything (permission, idempotency, the next id) in memory and
hand the store *writes*; the store makes them durable, in order, many at a time.
A store never interprets payloads. Every adapter passes tests/server/chat/
store_contract.py, whose tests are the guarantees below.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol

from chinwag_server.rpc.errors import Unavailable


class EntryKind(IntEnum):
    """The field number of the case of `Entry.kind`: what an entry is."""

    MESSAGE_SENT = 16
    MESSAGE_EDITED = 17
    MESSAGE_DELETED = 18
    REACTION_ADDED = 19
    REACTION_REMOVED = 20
    CHANNEL_CREATED = 21
    CHANNEL_UPDATED = 22
    CHANNEL_DELETED = 23
    MEMBERS_ADDED = 24
    MEMBER_REMOVED = 25
    MEMBER_ROLE_CHANGED = 26


# --- Records: what reads give -------------------------------------------------


@dataclass(slots=True)
class ChannelRecord:
    """A channel's row.

    Attributes:
        channel_id: At most 64 bytes.
        kind: A `ChannelKind` number.
        settings: A serialised `chinwag.chat.v1.Channel` without counts, head and generation.
        generation: Of the store that holds the log; not written by `PutChannel`.
        head_id: The newest entry; 0 before the first. Kept by `AppendEntry`.
        head_count: `timeline_count` of the head. Kept by `AppendEntry`.
        head_time_us: Server time of the head, microseconds since 1970. Kept by `AppendEntry`.
        last_message_id: Newest main-timeline message, 0 if none. Kept by `AppendEntry`.
        member_count: Current members.
        deleted: Whether the log has ended.
    """

    channel_id: str
    kind: int
    settings: bytes
    generation: int = 0
    head_id: int = 0
    head_count: int = 0
    head_time_us: int = 0
    last_message_id: int = 0
    member_count: int = 0
    deleted: bool = False


@dataclass(slots=True)
class MemberRecord:
    """A user's row in a channel; it stays when they leave, with role 0.

    Attributes:
        role: A `MemberRole` number; 0: no member now.
        join_id: The entry that made them a member; in broadcast channels the head then.
        join_time_us: When, microseconds since 1970.
        ranges: Ids that they may see, as (from, to) in rising order, one a stay; `to` is 0 while
            the stay goes on. Ranges may overlap.
        read_id: The read mark; read_count: the timeline count at it.
        delivered_id: The delivered mark, never below read_id.
        preferences: A serialised `ChannelPreferences`; archived and pinned repeat two of its
            fields so that a store can list by them.
    """

    channel_id: str
    user_id: str
    role: int = 0
    join_id: int = 0
    join_time_us: int = 0
    ranges: tuple[tuple[int, int], ...] = ()
    read_id: int = 0
    read_count: int = 0
    delivered_id: int = 0
    preferences: bytes = b""
    archived: bool = False
    pinned: bool = False


@dataclass(slots=True, frozen=True)
class StoredEntry:
    """An entry as it lies in the log: `payload` is the serialised `Entry`."""

    id: int
    payload: bytes


@dataclass(slots=True, frozen=True)
class StoredMessage:
    """What the projection of a message is made from.

    Attributes:
        entry: The serialised `Entry` that made the message.
        state: A serialised `Message` without content, or None while nothing changed it.
        content_entry: The serialised `Entry` of the newest edit, or None if never edited.
    """

    id: int
    entry: bytes
    state: bytes | None = None
    content_entry: bytes | None = None


@dataclass(slots=True, frozen=True)
class StoredRequest:
    """The remembered answer to a request_id: `response` is opaque to the store."""

    content_hash: bytes
    response: bytes


@dataclass(slots=True, frozen=True)
class StoredSend:
    """The remembered id of a client_message_id."""

    message_id: int
    content_hash: bytes


@dataclass(slots=True, frozen=True)
class FeedRange:
    """Entries `first_id..last_id` of one channel, committed together at `stamp`."""

    stamp: int
    channel_id: str
    first_id: int
    last_id: int


# --- Writes: what the rules hand over -----------------------------------------


@dataclass(slots=True)
class PutChannel:
    """Creates a channel's row or replaces its settings, kind, member_count and deleted."""

    record: ChannelRecord


@dataclass(slots=True)
class AppendEntry:
    """Appends the next entry: `id` is exactly the channel's head + 1, else the submission fails.

    Attributes:
        message_id: For MESSAGE_SENT the own id; for edits, deletions and reactions the message
            they are about; else 0.
        thread_root_id: For MESSAGE_SENT in a thread its root, else 0.
        sender_id, client_message_id, content_hash: For MESSAGE_SENT: the idempotency row
            (channel, sender, client_message_id) -> (id, content_hash), kept 30 days;
            client_message_id is 16 bytes, empty for other kinds.
    """

    channel_id: str
    id: int
    kind: EntryKind
    payload: bytes
    timeline_count: int
    time_us: int
    message_id: int = 0
    thread_root_id: int = 0
    sender_id: str = ""
    client_message_id: bytes = b""
    content_hash: bytes = b""


@dataclass(slots=True)
class PutMember:
    """Replaces a member's row. In one submission the last one for a member holds.

    `own_only`: only preferences changed, which other members' devices never see.
    """

    record: MemberRecord
    own_only: bool = False


@dataclass(slots=True)
class PutMessage:
    """Replaces the state of a message (see `StoredMessage`); content_entry_id 0: never edited."""

    channel_id: str
    message_id: int
    state: bytes
    content_entry_id: int = 0


@dataclass(slots=True)
class Redact:
    """Replaces an entry's payload by its redacted form. The old bytes must not stay readable."""

    channel_id: str
    id: int
    payload: bytes


@dataclass(slots=True)
class PutReaction:
    """Notes that a user reacted; `entry_id` orders a message's reactions."""

    channel_id: str
    message_id: int
    emoji: str
    user_id: str
    entry_id: int


@dataclass(slots=True)
class DeleteReactions:
    """Forgets one user's reaction, or with emoji "" and user "" all of a message."""

    channel_id: str
    message_id: int
    emoji: str = ""
    user_id: str = ""


@dataclass(slots=True)
class PutMentions:
    """Notes that an entry mentions users; "" stands for everyone."""

    channel_id: str
    entry_id: int
    user_ids: tuple[str, ...]


@dataclass(slots=True)
class PutRequest:
    """Remembers the answer to a request_id for 30 days. `scope` names channel and caller."""

    scope: str
    request_id: str
    content_hash: bytes
    response: bytes
    time_us: int


Write = (
    PutChannel
    | AppendEntry
    | PutMember
    | PutMessage
    | Redact
    | PutReaction
    | DeleteReactions
    | PutMentions
    | PutRequest
)


class StoreUnavailable(Unavailable):
    """The store cannot be read or written (disk full, database away). Of what a submission holds
    nothing is stored; a store over several machines may not know that, and says so."""


class WriteRefused(Exception):
    """The submission contradicts what is stored, nothing of it is stored: a bug of the caller.

    An entry that is not the next one, a channel or an entry that is not there, a
    client_message_id that the sender has used in the channel. The text says which.
    """


def backlog_bytes_of(writes: Sequence[Write]) -> int:
    """About what a submission weighs while it waits: its payloads and 256 bytes a write."""
    size = 256 * len(writes)
    for write in writes:
        if type(write) is AppendEntry or type(write) is Redact:
            size += len(write.payload)
        elif type(write) is PutMessage:
            size += len(write.state)
        elif type(write) is PutRequest:
            size += len(write.response)
    return size


# Called on the event loop, in the order of submission: with the stamp of the
# commit, or 0 and the error.
Done = Callable[[int, Exception | None], None]


@dataclass(slots=True)
class MessagePage:
    """A page of messages, ids rising, and whether there is more on either side."""

    messages: list[StoredMessage] = field(default_factory=list)
    has_more_before: bool = False
    has_more_after: bool = False


Ranges = Sequence[tuple[int, int]]
"""Closed id ranges that a reader may see, disjoint and rising; every bound is set (no 0)."""


class ChatStore(Protocol):
    """Durable storage of chat. All methods are called on the event loop.

    Writes: `submit` never waits. A submission is all or nothing; submissions take effect in
    order; `done` is called after the bytes are durable (fsync), in order, on a later turn of
    the loop. Writes belong to the store from then on: the caller does not change them. An empty
    submission is a barrier. After a failure every submission whose `done` was not called yet
    fails too, also those made inside such a `done`, so that the caller can go back to what is
    stored and no hole can form. The one at fault gets `WriteRefused`, all others
    `StoreUnavailable`.

    Stamps: each commit has a number greater than all before it, over restarts too. A stamp of
    another generation means nothing.

    Reads see everything whose `done` was called, and nothing of unfinished submissions that
    is torn.
    """

    @property
    def generation(self) -> int:
        """Drawn when the store was made or restored; positive."""

    @property
    def stamp(self) -> int:
        """Of the newest finished commit."""

    @property
    def backlog_bytes(self) -> int:
        """Bytes submitted and not done; the caller refuses new work above its limit."""

    async def open(self) -> None:
        """Opens and migrates; raises StoreError with what to do if it cannot."""

    async def close(self) -> None:
        """Finishes all submissions, then closes; later ones fail with StoreUnavailable."""

    def submit(self, writes: Sequence[Write], done: Done) -> None: ...

    async def channel(self, channel_id: str) -> ChannelRecord | None: ...

    async def members(self, channel_id: str) -> list[MemberRecord]:
        """All rows of a channel, also of those who left: for direct channels and groups."""

    async def member(self, channel_id: str, user_id: str) -> MemberRecord | None: ...

    async def member_page(
        self, channel_id: str, after_user_id: str, limit: int
    ) -> list[MemberRecord]:
        """Current members by user id."""

    async def user_channels(
        self, user_id: str, since_stamp: int = 0
    ) -> list[tuple[ChannelRecord, MemberRecord]]:
        """All channels in which the user has a row (also left ones), without an order.

        With `since_stamp`: only those in which an entry, another member's marks (not in
        broadcast channels) or the user's own row changed in a later commit.
        """

    async def user_channel_page(
        self,
        user_id: str,
        kinds: Sequence[int],
        include_archived: bool,
        after: tuple[bool, int, str] | None,
        limit: int,
    ) -> list[tuple[ChannelRecord, MemberRecord]]:
        """Channels whose member the user is, deleted ones too: pinned first, then by the newest
        entry's head_time_us, falling, then by id. `after` is the (pinned, head_time_us,
        channel_id) of the last one of the page before. Empty `kinds`: all.
        """

    async def count_user_channels(self, user_id: str) -> int:
        """In how many channels the user is a member now (role not 0, channel not deleted)."""

    async def entries(
        self, channel_id: str, after_id: int, to_id: int, limit: int, max_bytes: int
    ) -> list[StoredEntry]:
        """Entries with after_id < id <= to_id, rising: at most `limit` and about `max_bytes` of
        payload, at least one if there is any."""

    async def entry(self, channel_id: str, entry_id: int) -> bytes | None: ...

    async def entries_of_message(self, channel_id: str, message_id: int) -> list[StoredEntry]:
        """The message's own entry and those of its edits: what a deletion has to redact."""

    async def timeline_count(self, channel_id: str, entry_id: int) -> int:
        """`timeline_count` of an entry; 0 if there is none."""

    async def message(self, channel_id: str, message_id: int) -> StoredMessage | None: ...

    async def messages(
        self,
        channel_id: str,
        ranges: Ranges,
        *,
        thread_root_id: int,
        anchor: str,
        anchor_id: int,
        limit: int,
        max_bytes: int,
    ) -> MessagePage:
        """A page of messages within `ranges`, of the main timeline (thread_root_id 0) or a thread.

        anchor: "before" (the newest ids < anchor_id), "after" (the oldest ids > anchor_id) or
        "around" (anchor_id or the next message after it in the middle; what one side lacks the
        other fills). At most `limit` and about `max_bytes`, at least one if there is any; the
        flags tell of messages within `ranges` on both sides of the page.
        """

    async def last_messages(self, wanted: Sequence[tuple[str, int]]) -> dict[str, StoredMessage]:
        """For ListChannels: of each (channel, message id) the message, by channel id."""

    async def has_reaction(
        self, channel_id: str, message_id: int, emoji: str, user_id: str
    ) -> bool: ...

    async def reaction_users(
        self, channel_id: str, message_id: int, emoji: str, limit: int
    ) -> list[str]:
        """The first users of a reaction, oldest first."""

    async def mention_count(self, channel_id: str, user_id: str, after_id: int, to_id: int) -> int:
        """Entries with after_id < id <= to_id that mention the user or everyone; an entry
        counts once."""

    async def find_sends(self, keys: Sequence[tuple[str, str, bytes]]) -> list[StoredSend | None]:
        """For each (channel, sender, client_message_id): what is remembered."""

    async def find_request(self, scope: str, request_id: str) -> StoredRequest | None: ...

    async def messages_of_sender(
        self, sender_id: str, after: tuple[str, int], limit: int
    ) -> list[tuple[str, int]]:
        """(channel, message id) of messages that the user sent and that still have content,
        after `after` in (channel, id) order, of channels in which they have a row: what the
        deletion of an account redacts. May read much; runs in the background."""

    async def feed(self, after_stamp: int, limit: int) -> list[FeedRange]:
        """Which entries were committed after a stamp, in commit order: at most about `limit`
        ranges, whole commits only (so the last range's stamp is where to go on)."""

    async def expire_requests(self, before_us: int, limit: int) -> int:
        """Forgets at most `limit` idempotency rows older than that; gives how many.

        A send's row is older when both its time and the time in its client_message_id, a UUIDv7,
        lie before: so it is found without an index by time.

        Raises:
            StoreUnavailable: The store cannot write.
        """


class StoreError(Exception):
    """The store cannot be opened: the text says what was expected, found and what to do."""


class StoreRefused(StoreError):
    """It is there and not for us: a wrong login, another cluster's, or of a newer program."""
