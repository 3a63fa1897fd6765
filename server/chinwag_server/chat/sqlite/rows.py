"""The statements that a commit is made of, one a table."""

from __future__ import annotations

from chinwag_server.chat.sqlite.statements import ManyRows

CHANNELS = ManyRows(
    "INSERT INTO channels (no, channel_id, kind, member_count, deleted, settings)",
    6,
    "ON CONFLICT (no) DO UPDATE SET kind = excluded.kind, member_count = excluded.member_count,"
    " deleted = excluded.deleted, settings = excluded.settings",
)
NEW_HEADS = ManyRows(
    "INSERT INTO heads (no, head_id, head_count, head_time_us, last_message_id, entry_stamp,"
    " receipt_stamp)",
    7,
)
# The head moves only from where the first entry of the batch expects it. (Not WITH ... UPDATE:
# the driver gives the count of changed rows for statements that begin with UPDATE only.)
HEADS = ManyRows(
    "UPDATE heads SET head_id = new.head_id, head_count = new.head_count,"
    " head_time_us = new.head_time_us,"
    " last_message_id = max(heads.last_message_id, new.last_message_id),"
    " receipt_stamp = max(heads.receipt_stamp, new.receipt_stamp), entry_stamp = new.entry_stamp"
    " FROM (WITH rows (no, base_id, head_id, head_count, head_time_us, last_message_id,"
    " receipt_stamp, entry_stamp) AS (",
    8,
    ") SELECT * FROM rows) AS new WHERE heads.no = new.no AND heads.head_id = new.base_id",
)
RECEIPTS = ManyRows(
    "UPDATE heads SET receipt_stamp = new.stamp FROM (WITH rows (no, stamp) AS (",
    2,
    ") SELECT * FROM rows) AS new WHERE heads.no = new.no",
)
ENTRIES = ManyRows(
    "INSERT INTO entries (key, kind, timeline_count, time_us, thread_key, message_key, redacted,"
    " sender_id, payload)",
    9,
)
SENDS = ManyRows(
    "INSERT INTO sends (client_message_id, no, sender_id, message_id, time_us, content_hash)", 6
)
MEMBERS = ManyRows(
    "INSERT INTO members (no, user_id, role, join_id, join_time_us, read_id, read_count,"
    " delivered_id, archived, pinned, stamp, ranges, preferences)",
    13,
    "ON CONFLICT (no, user_id) DO UPDATE SET role = excluded.role, join_id = excluded.join_id,"
    " join_time_us = excluded.join_time_us, read_id = excluded.read_id,"
    " read_count = excluded.read_count, delivered_id = excluded.delivered_id,"
    " archived = excluded.archived, pinned = excluded.pinned, stamp = excluded.stamp,"
    " ranges = excluded.ranges, preferences = excluded.preferences",
)
MESSAGES = ManyRows(
    "INSERT INTO messages (key, content_key, state)",
    3,
    "ON CONFLICT (key) DO UPDATE SET content_key = excluded.content_key, state = excluded.state",
)
MENTIONS = ManyRows("INSERT INTO mentions (user_id, key)", 2, "ON CONFLICT DO NOTHING")
REACTIONS = ManyRows(
    "INSERT INTO reactions (key, emoji, user_id, entry_id)",
    4,
    "ON CONFLICT (key, emoji, user_id) DO UPDATE SET entry_id = excluded.entry_id",
)
REQUESTS = ManyRows(
    "INSERT INTO requests (scope, request_id, time_us, content_hash, response)",
    5,
    "ON CONFLICT (scope, request_id) DO UPDATE SET time_us = excluded.time_us,"
    " content_hash = excluded.content_hash, response = excluded.response",
)
