"""The tables of chat in a leaderless database: which partitions there are, and how large they get.

A channel's log lies in buckets of 1,000 entries; text over 8 KiB in partitions of its own, so a
bucket holds at most 8 MB. Members of a broadcast channel lie in 64 slots by the user's hash.
"""

from __future__ import annotations

from hashlib import blake2b

from chinwag_server.chat.sequenced.tables import Table

BUCKET = 1000
# Of replies and mentions, whose rows are small.
WIDE_BUCKET = 20_000
BODY_BYTES = 8 << 10
MEMBER_SLOTS = 64
# Rows of a feed, of about 100 bytes.
FEED_BUCKET = 10_000
FORGET_S = 30 * 86_400
# Rows of sends are in partitions by the week in which their ids were made.
WEEK_MS = 7 * 86_400_000

ENTRIES = Table(
    "entries",
    {"channel_id": str, "bucket": int},
    {"id": int},
    {"record": bytes},  # a chinwag.mesh.v1.LogRecord
)
BODIES = Table("bodies", {"channel_id": str, "ref": bytes}, {}, {"payload": bytes})
SENDS = Table(
    "sends",
    {"channel_id": str, "week": int},
    {"sender_id": str, "client_message_id": bytes},
    {"message_id": int},
    ttl_s=FORGET_S,
)
CHANNELS = Table(
    "channels",
    {"channel_id": str},
    {},
    {
        "kind": int,
        "settings": bytes,
        "deleted": bool,
        "member_count": int,
        # A head that was announced, at most a bucket behind the newest.
        "head": bytes,
    },
)
_MEMBER = {
    "role": int,
    "join_id": int,
    "join_time_us": int,
    "ranges": bytes,
    "read_id": int,
    "read_count": int,
    "delivered_id": int,
    "preferences": bytes,
    "archived": bool,
    "pinned": bool,
}
MEMBERS = Table("members", {"channel_id": str, "slot": int}, {"user_id": str}, _MEMBER)
USER_CHANNELS = Table("user_channels", {"user_id": str}, {"channel_id": str}, _MEMBER)
MESSAGES = Table(
    "messages",
    {"channel_id": str, "bucket": int},
    {"id": int},
    {"state": bytes, "content_entry_id": int},
)
EDITS = Table("edits", {"channel_id": str, "message_id": int}, {"id": int}, {"kind": int})
REPLIES = Table(
    "replies", {"channel_id": str, "root_id": int, "bucket": int}, {"id": int}, {"kind": int}
)
REACTIONS = Table(
    "reactions",
    {"channel_id": str, "message_id": int},
    {"emoji": str, "user_id": str},
    {"entry_id": int},
)
MENTIONS = Table(
    "mentions", {"channel_id": str, "user_id": str, "bucket": int}, {"id": int}, {"kind": int}
)
REQUESTS = Table(
    "requests",
    {"scope": str, "request_id": str},
    {},
    {"content_hash": bytes, "response": bytes, "time_us": int},
    ttl_s=FORGET_S,
)
# Channels of a shard that were given an id since its last clean hand-over.
TOUCHED = Table("touched", {"shard": int}, {"channel_id": str}, {"epoch": int})
# Which entries were committed in a shard and epoch, kept as long as they are; and which partitions
# that table has of a shard.
FEED = Table(
    "feed",
    {"shard": int, "epoch": int, "bucket": int},
    {"number": int},
    {"channel_id": str, "first_id": int, "last_id": int},
)
FEED_BUCKETS = Table("feed_buckets", {"shard": int}, {"epoch": int, "bucket": int}, {"kind": int})

ALL = (
    ENTRIES,
    BODIES,
    SENDS,
    CHANNELS,
    MEMBERS,
    USER_CHANNELS,
    MESSAGES,
    EDITS,
    REPLIES,
    REACTIONS,
    MENTIONS,
    REQUESTS,
    TOUCHED,
    FEED,
    FEED_BUCKETS,
)


def bucket_of(entry_id: int) -> int:
    """The bucket of an entry: ids 0 to 999 are in the first."""
    return entry_id // BUCKET


def week_of(client_message_id: bytes) -> int:
    """The week in which a UUIDv7 was made."""
    return int.from_bytes(client_message_id[:6], "big") // WEEK_MS


def slot_of(user_id: str, *, is_broadcast: bool) -> int:
    """Where a member's row lies; all of a group's lie together."""
    if not is_broadcast:
        return 0
    return blake2b(user_id.encode(), digest_size=1).digest()[0] % MEMBER_SLOTS
